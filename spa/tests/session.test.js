/**
 * The token client's races, one at a time, against a server that answers when it is told to.
 * @module
 */

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { afterEach, beforeEach, test } from "node:test";

import { Session, SignedOut, Unreachable, readClaims } from "../session.js";

/** A storage that two sessions can share, as tabs do. @returns {Storage} */
function storage() {
  const map = new Map();
  return /** @type {Storage} */ (
    /** @type {unknown} */ ({
      getItem: (/** @type {string} */ key) => map.get(key) ?? null,
      setItem: (/** @type {string} */ key, /** @type {string} */ value) => void map.set(key, value),
      removeItem: (/** @type {string} */ key) => void map.delete(key),
    })
  );
}

/** @typedef {{path: string, token: string, answer: (status: number, body?: object, headers?: object) => void}} Asked */

/** @type {Asked[]} */
let asked = [];
/** Whoever waits for the next request. @type {((request: Asked) => void)[]} */
let waiting = [];
/** @type {import("node:http").Server} */
let server;
let baseUrl = "";

beforeEach(async () => {
  [asked, waiting] = [[], []];
  server = createServer((request, response) => {
    const entry = {
      path: request.url || "",
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
  server.closeAllConnections();
  server.close();
});

/** @returns {Promise<Asked>} the next request */
async function next() {
  return asked.shift() ?? new Promise((done) => waiting.push(done));
}

/** Lets everything that is under way come to rest. */
const settle = () => new Promise((done) => setTimeout(done, 50));

const REFUSED = { "WWW-Authenticate": 'Bearer error="invalid_token", error_description="expired"' };
/** @param {string} access @param {string} [refresh] */
const tokens = (access, refresh) => ({
  access_token: access,
  ...(refresh === undefined ? {} : { refresh_token: refresh }),
  token_type: "Bearer",
  expires_in: 60,
  refresh_expires_in: 600,
  server_time: Math.floor(Date.now() / 1000) + 1000,
});

/** @param {Storage} [shared] */
function signedIn(shared = storage()) {
  shared.setItem("access_token", "A1");
  shared.setItem("refresh_token", "R1");
  return { store: shared, session: new Session({ baseUrl, storage: shared }) };
}

test("a refused token is renewed once and the request sent once more", async () => {
  const { store, session } = signedIn();
  const response = session.fetch("/x");
  let request = await next();
  assert.deepEqual([request.path, request.token], ["/x", "A1"]);
  request.answer(401, {}, REFUSED);
  request = await next();
  assert.deepEqual([request.path, request.token], ["/refresh", "R1"]);
  request.answer(200, tokens("A2", "R2"));
  request = await next();
  assert.deepEqual([request.path, request.token], ["/x", "A2"]);
  request.answer(401, {}, REFUSED);
  assert.equal((await response).status, 401, "the second answer is the answer");
  assert.equal(store.getItem("refresh_token"), "R2");
  assert.ok(Math.abs(session.now() - Date.now() - 1_000_000) < 5_000, "the clock is the server's");
});

test("many requests that fail together cause one refresh", async () => {
  const { session } = signedIn();
  const responses = Promise.all([1, 2, 3].map(() => session.fetch("/x")));
  for (let i = 0; i < 3; i++) (await next()).answer(401, {}, REFUSED);
  const refresh = await next();
  assert.equal(refresh.path, "/refresh");
  await settle();
  assert.equal(asked.length, 0);
  refresh.answer(200, tokens("A2", "R2"));
  for (let i = 0; i < 3; i++) (await next()).answer(200);
  assert.deepEqual((await responses).map((r) => r.status), [200, 200, 200]);
});

test("a token that another tab has replaced is tried before anything is refreshed", async () => {
  const { store, session } = signedIn();
  const response = session.fetch("/x");
  const first = await next();
  store.setItem("access_token", "A2");
  store.setItem("refresh_token", "R2");
  first.answer(401, {}, REFUSED);
  const second = await next();
  assert.deepEqual([second.path, second.token], ["/x", "A2"]);
  second.answer(200);
  assert.equal((await response).status, 200);
});

test("a gateway that does not rotate leaves the refresh token as it is", async () => {
  const { store, session } = signedIn();
  const done = session.refresh("A1");
  (await next()).answer(200, tokens("A2"));
  await done;
  assert.deepEqual([store.getItem("access_token"), store.getItem("refresh_token")], ["A2", "R1"]);
});

test("a refused refresh clears the tokens", async () => {
  const { store, session } = signedIn();
  const done = assert.rejects(session.refresh("A1"), SignedOut);
  (await next()).answer(401, { code: "token_reused" }, REFUSED);
  await done;
  assert.equal(session.hasTokens, false);
  assert.equal(store.getItem("refresh_token"), null);
});

test("an outage keeps the tokens and is told as one", async () => {
  const { session } = signedIn();
  for (const status of [429, 500, 503]) {
    const done = assert.rejects(session.refresh("A1"), Unreachable);
    (await next()).answer(status, { code: "store_unavailable", message: "Later." }, { "Retry-After": "2" });
    await done;
  }
  server.closeAllConnections();
  server.close();
  await assert.rejects(session.refresh("A1"), Unreachable);
  assert.equal(session.refreshToken, "R1");
});

test("the answer to a refresh does not undo a logout", async () => {
  const { session } = signedIn();
  const refresh = assert.rejects(session.refresh("A1"), SignedOut);
  const late = await next();
  const logout = session.logout();
  const out = await next();
  assert.deepEqual([out.path, out.token], ["/logout", "R1"]);
  out.answer(204);
  await logout;
  late.answer(200, tokens("A2", "R2"));
  await refresh;
  assert.equal(session.hasTokens, false);
});

test("a late refusal does not undo a new login", async () => {
  const { store, session } = signedIn();
  const refresh = assert.rejects(session.refresh("A1"), SignedOut);
  const late = await next();
  store.setItem("refresh_token", "R9");
  store.setItem("access_token", "A9");
  late.answer(401, {}, REFUSED);
  await refresh;
  assert.deepEqual([session.accessToken, session.refreshToken], ["A9", "R9"]);
});

test("403 and other refusals are answers and cost no token", async () => {
  const { session } = signedIn();
  for (const [status, headers] of /** @type {const} */ ([[403, {}], [404, {}], [401, { "WWW-Authenticate": "Basic" }]])) {
    const response = session.fetch("/x");
    (await next()).answer(status, {}, headers);
    assert.equal((await response).status, status);
  }
  assert.equal(session.refreshToken, "R1");
});

test("a logout that cannot be told to the server forgets the tokens all the same", async () => {
  const { session } = signedIn();
  const logout = assert.rejects(session.logout(), Unreachable);
  (await next()).answer(503);
  await logout;
  assert.equal(session.hasTokens, false);
});

test("without tokens nothing is sent", async () => {
  const session = new Session({ baseUrl, storage: storage() });
  await assert.rejects(session.fetch("/x"), SignedOut);
  assert.equal(asked.length, 0);
});

test("changes are announced", async () => {
  const { session } = signedIn();
  let changes = 0;
  session.addEventListener("change", () => (changes += 1));
  const done = session.refresh("A1");
  (await next()).answer(200, tokens("A2", "R2"));
  await done;
  session.clear();
  assert.equal(changes, 2);
});

test("claims are read as UTF-8, and rubbish as nothing", () => {
  const payload = Buffer.from('{"username":"アリス"}').toString("base64url");
  assert.equal(readClaims(`h.${payload}.s`)?.username, "アリス");
  assert.equal(readClaims("rubbish"), null);
});
