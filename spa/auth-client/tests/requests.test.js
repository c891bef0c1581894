/**
 * `AuthClient.fetch` takes what `fetch` takes.
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";

import { NetworkError } from "../src/index.js";
import { REFUSED, asked, baseUrl, jwt, newClient, next, settle, signedIn, storage, tokens } from "./fake-gateway.js";

const TOO_EARLY = { code: "token_not_yet_valid" };
const inSeconds = (/** @type {number} */ seconds) => Math.floor(Date.now() / 1000) + seconds;

test("paths, addresses and requests of the gateway are taken", async () => {
  const { client } = signedIn();
  const inputs = ["/x?a=1", "x?a=1", `${baseUrl}/x?a=1`, new URL("/x?a=1", baseUrl), new Request(`${baseUrl}/x?a=1`)];
  for (const input of inputs) {
    const response = client.fetch(input);
    const request = await next();
    assert.deepEqual([request.path, request.token], ["/x?a=1", "A1"]);
    request.answer(200);
    await response;
  }
});

test("a request's method, fields and body are kept, and sent again with a new token", async () => {
  const { client } = signedIn();
  const input = new Request(`${baseUrl}/x`, { method: "PUT", body: "a body", headers: { "X-Mine": "1" } });
  const response = client.fetch(input, { headers: { "X-Mine": "2" } });
  const first = await next();
  assert.deepEqual([first.method, first.headers["x-mine"], await first.body()], ["PUT", "2", "a body"]);
  first.answer(401, {}, REFUSED);
  (await next()).answer(200, tokens("A2", "R2"));
  const second = await next();
  assert.deepEqual([second.method, second.token, await second.body()], ["PUT", "A2", "a body"]);
  second.answer(200);
  assert.equal((await response).status, 200);
});

test("a stream is sent once: after its rejection the token is new, and the rejection is the answer", async () => {
  const { client } = signedIn();
  const body = new ReadableStream({
    start(controller) {
      controller.enqueue(new TextEncoder().encode("streamed"));
      controller.close();
    },
  });
  const response = client.fetch("/x", { method: "POST", body });
  const first = await next();
  assert.equal(await first.body(), "streamed");
  first.answer(401, {}, REFUSED);
  (await next()).answer(200, tokens("A2", "R2"));
  assert.equal((await response).status, 401);
  assert.equal(client.accessToken, "A2");
  await settle();
  assert.equal(asked.length, 0);
});

test("a fetch of one's own is used for everything", async () => {
  /** @type {string[]} */
  const seen = [];
  const { client } = signedIn(storage(), {
    fetch: async (input, init) => {
      seen.push(new URL(/** @type {Request} */ (input).url).pathname);
      return fetch(input, init);
    },
  });
  const response = client.fetch("/x");
  (await next()).answer(401, {}, REFUSED);
  (await next()).answer(200, tokens("A2", "R2"));
  (await next()).answer(200);
  await response;
  assert.deepEqual(seen, ["/x", "/refresh", "/x"]);
});

test("a programmer's mistake is told as such, not as an outage", async () => {
  const { client } = signedIn();
  const mistakes = [
    () => client.fetch("/x", { method: "BAD METHOD" }),
    () => client.fetch("/x", { headers: { "no name": "1" } }),
    () => client.fetch("/x", { method: "GET", body: "a body" }),
    () => client.fetch("http://[broken/"),
  ];
  for (const mistake of mistakes) await assert.rejects(mistake(), TypeError);
  assert.equal(asked.length, 0);
});

test("a signal ends the wait for a refresh, and the refresh goes on for others", async () => {
  const { client } = signedIn();
  const abort = new AbortController();
  const aborted = client.fetch("/x", { signal: abort.signal });
  (await next()).answer(401, {}, REFUSED);
  const refresh = await next();
  assert.equal(refresh.path, "/refresh");
  const reason = new Error("enough");
  abort.abort(reason);
  await assert.rejects(aborted, reason);
  const other = client.refresh("A1");
  refresh.answer(200, tokens("A2", "R2"));
  assert.equal(await other, "A2");
  await assert.rejects(client.fetch("/x", { signal: AbortSignal.abort(reason) }), reason);
  await assert.rejects(client.fetch(new Request(`${baseUrl}/x`, { signal: AbortSignal.abort(reason) })), reason);
});

test("a token about to expire is renewed before the request, whose body is sent once", async () => {
  const store = storage();
  store.setItem("access_token", jwt({ sub: "1", iat: inSeconds(-58), exp: inSeconds(2) }));
  store.setItem("refresh_token", "R1");
  const client = newClient({ baseUrl, storage: store, autoRefresh: false });
  const response = client.fetch("/upload", { method: "POST", body: "x".repeat(300_000) });
  const refresh = await next();
  assert.equal(refresh.path, "/refresh");
  refresh.answer(200, tokens("A2", "R2"));
  const upload = await next();
  assert.deepEqual([upload.path, upload.token, (await upload.body()).length], ["/upload", "A2", 300_000]);
  upload.answer(200);
  assert.equal((await response).status, 200);
});

test("a token that cannot be renewed ahead of its expiry is used while it is good", async () => {
  const store = storage();
  const access = jwt({ sub: "1", iat: inSeconds(-58), exp: inSeconds(2) });
  store.setItem("access_token", access);
  store.setItem("refresh_token", "R1");
  const client = newClient({ baseUrl, storage: store, autoRefresh: false });
  const response = client.fetch("/x");
  (await next()).answer(503);
  const request = await next();
  assert.deepEqual([request.path, request.token], ["/x", access]);
  request.answer(200);
  assert.equal((await response).status, 200);
});

test("a token that another server's clock finds too new is sent again after a while", async () => {
  const { client } = signedIn();
  const response = client.fetch("/x", { method: "POST", body: "a body" });
  const first = await next();
  const at = Date.now();
  first.answer(401, TOO_EARLY, REFUSED);
  const second = await next();
  assert.ok(Date.now() - at >= 250, "it waited");
  assert.deepEqual([second.path, second.token, await second.body()], ["/x", "A1", "a body"]);
  second.answer(200);
  assert.equal((await response).status, 200);
});

test("a refresh token that is found too new ends no session", async () => {
  const { client } = signedIn();
  const renewed = client.refresh("A1");
  (await next()).answer(401, TOO_EARLY, REFUSED);
  (await next()).answer(200, tokens("A2", "R2"));
  assert.equal(await renewed, "A2");
  const failed = assert.rejects(client.refresh("A2"), NetworkError);
  for (let i = 0; i < 5; i++) (await next()).answer(401, TOO_EARLY, REFUSED);
  await failed;
  assert.equal(client.refreshToken, "R2");
});

test("sessions are listed and ended, and all of them at once", async () => {
  const { client } = signedIn();
  const listed = client.sessions();
  let request = await next();
  assert.deepEqual([request.method, request.path, request.token], ["GET", "/sessions", "A1"]);
  request.answer(200, { sessions: [{ sid: "s 1", current: false }] });
  assert.equal((await listed)?.[0]?.sid, "s 1");
  const account = client.account();
  (await next()).answer(200, { sessions: [], features: ["mfa"] });
  assert.deepEqual(await account, { sessions: [], features: ["mfa"] });
  const earlier = client.account();
  (await next()).answer(200, { sessions: [] });
  assert.deepEqual(await earlier, { sessions: [], features: [] }, "a gateway of before says nothing of them");
  for (const [status, body] of /** @type {const} */ ([[404, {}], [405, {}], [200, {}]])) {
    const none = client.sessions();
    (await next()).answer(status, body);
    assert.equal(await none, null, "the gateway does not tell");
  }
  const ended = client.endSession("s 1");
  request = await next();
  assert.deepEqual([request.method, request.path], ["DELETE", "/sessions/s%201"]);
  request.answer(204);
  await ended;
  const failed = assert.rejects(client.logoutAll(), { status: 503 });
  (await next()).answer(503);
  await failed;
  assert.equal(client.hasTokens, true, "it can be tried again");
  const all = client.logoutAll();
  request = await next();
  assert.deepEqual([request.method, request.path], ["POST", "/logout-all"]);
  request.answer(204);
  await all;
  assert.equal(client.hasTokens, false);
});
