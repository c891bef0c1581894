/**
 * A gateway that answers when it is told to, and clients of it.
 * @module
 */

import { once } from "node:events";
import { createServer } from "node:http";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach } from "node:test";

import { AuthClient } from "../src/index.js";

/** A storage that two clients can share, as tabs do. @returns {Storage} */
export function storage() {
  const map = new Map();
  return /** @type {Storage} */ (
    /** @type {unknown} */ ({
      getItem: (/** @type {string} */ key) => map.get(key) ?? null,
      setItem: (/** @type {string} */ key, /** @type {string} */ value) => void map.set(key, value),
      removeItem: (/** @type {string} */ key) => void map.delete(key),
    })
  );
}

/**
 * @typedef {object} Asked
 * @property {string} path
 * @property {string} method
 * @property {string} token
 * @property {import("node:http").IncomingHttpHeaders} headers
 * @property {() => Promise<string>} body
 * @property {import("node:http").ServerResponse} response for answers that are no JSON
 * @property {(status: number, body?: object, headers?: object) => void} answer
 */

/** @type {Asked[]} */
export let asked = [];
/** Whoever waits for the next request. @type {((request: Asked) => void)[]} */
let waiting = [];
/** @type {import("node:http").Server} */
export let server;
export let baseUrl = "";

beforeEach(async () => {
  [asked, waiting] = [[], []];
  server = createServer((request, response) => {
    const entry = {
      path: request.url || "",
      method: request.method || "",
      headers: request.headers,
      body: () => text(request),
      response,
      token: (request.headers.authorization || "").replace("Bearer ", ""),
      answer: (/** @type {number} */ status, body = {}, headers = {}) => {
        response.writeHead(status, { "Content-Type": "application/json", Connection: "close", ...headers });
        response.end(JSON.stringify(body));
      },
    };
    const waiter = waiting.shift();
    if (waiter) waiter(entry);
    else asked.push(entry);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  baseUrl = typeof address === "object" && address ? `http://127.0.0.1:${address.port}` : "";
});

afterEach(() => {
  for (const client of clients.splice(0)) client.dispose();
  server.closeAllConnections();
  server.close();
});

/** @returns {Promise<Asked>} the next request */
export async function next() {
  return asked.shift() ?? new Promise((done) => waiting.push(done));
}

/** Lets everything that is under way come to rest. */
export const settle = () => new Promise((done) => setTimeout(done, 50));

export const REFUSED = { "WWW-Authenticate": 'Bearer error="invalid_token", error_description="expired"' };
/** @param {object} claims */
export const jwt = (claims) => `h.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.s`;
/** @param {string} access @param {string} [refresh] */
export const tokens = (access, refresh) => ({
  access_token: access,
  ...(refresh === undefined ? {} : { refresh_token: refresh }),
  token_type: "Bearer",
  expires_in: 60,
  refresh_expires_in: 600,
  server_time: Math.floor(Date.now() / 1000) + 1000,
});

/** @type {AuthClient[]} */
let clients = [];
/** @param {import("../src/index.js").AuthClientOptions} options */
export function newClient(options) {
  const client = new AuthClient(options);
  clients.push(client);
  return client;
}

/**
 * @param {Storage} [shared]
 * @param {import("../src/index.js").AuthClientOptions} [options]
 */
export function signedIn(shared = storage(), options = {}) {
  shared.setItem("access_token", "A1");
  shared.setItem("refresh_token", "R1");
  return { store: shared, client: newClient({ baseUrl, storage: shared, ...options }) };
}
