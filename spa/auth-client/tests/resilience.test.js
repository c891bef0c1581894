/**
 * Storages that fail or lag, clocks, timers, events.
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";

import { AuthenticationRequired, NetworkError, memoryStorage } from "../src/index.js";
import { REFUSED, asked, baseUrl, jwt, newClient, next, settle, signedIn, storage, tokens } from "./fake-gateway.js";

/** @param {import("../src/index.js").AuthClient} client */
function record(client) {
  /** @type {string[]} */
  const events = [];
  for (const type of ["signed-in", "refreshed", "signed-out", "storage-failed"]) {
    client.addEventListener(type, (event) => events.push(`${type} ${Reflect.get(event, "reason") ?? ""}`.trim()));
  }
  return events;
}

const now = () => Math.floor(Date.now() / 1000);

test("a full storage is replaced by memory, and that is told", async () => {
  const full = storage();
  full.setItem = () => {
    throw new DOMException("full", "QuotaExceededError");
  };
  const client = newClient({ baseUrl, storage: full });
  assert.ok(client.storageFailure, "known before anybody logs in");
  const events = record(client);
  const login = client.login("alice", "secret");
  (await next()).answer(200, tokens("A1", "R1"));
  await login;
  assert.deepEqual([client.accessToken, client.refreshToken], ["A1", "R1"]);
  assert.deepEqual(events, ["storage-failed", "signed-in"]);
  const logout = client.logout();
  (await next()).answer(204);
  await logout;
  assert.equal(client.hasTokens, false);
});

test("a storage that fills up during a session keeps nothing old", async () => {
  const { store, client } = signedIn();
  store.setItem = () => {
    throw new DOMException("full", "QuotaExceededError");
  };
  const renewed = client.refresh();
  (await next()).answer(200, tokens("A2", "R2"));
  await renewed;
  assert.deepEqual([client.accessToken, client.refreshToken], ["A2", "R2"]);
  assert.equal(store.getItem("refresh_token"), null, "the next page does not exchange it again");
});

test("a storage that cannot be read is none", async () => {
  const broken = storage();
  for (const method of /** @type {const} */ (["getItem", "setItem", "removeItem"])) {
    broken[method] = () => {
      throw new DOMException("denied", "SecurityError");
    };
  }
  const client = newClient({ baseUrl, storage: broken });
  assert.equal(client.hasTokens, false);
  const login = client.login("alice", "secret");
  (await next()).answer(200, tokens("A1", "R1"));
  await login;
  assert.equal(client.accessToken, "A1");
});

test("an asynchronous storage is waited for", async () => {
  const kept = new Map([["mine.access_token", "A1"], ["mine.refresh_token", "R1"]]);
  const slow = () => new Promise((done) => setTimeout(done, 20));
  const client = newClient({
    baseUrl,
    storageKey: "mine",
    storage: {
      getItem: async (key) => (await slow(), kept.get(key) ?? null),
      setItem: async (key, value) => (await slow(), void kept.set(key, value)),
      removeItem: async (key) => (await slow(), void kept.delete(key)),
    },
  });
  assert.equal(client.hasTokens, false, "not known yet");
  const events = record(client);
  let changes = 0;
  client.addEventListener("change", () => (changes += 1));
  const response = client.fetch("/x");
  const request = await next();
  assert.equal(request.token, "A1");
  request.answer(401, {}, REFUSED);
  (await next()).answer(200, tokens("A2", "R2"));
  (await next()).answer(200);
  await response;
  assert.deepEqual([changes, events], [2, ["refreshed"]], "what was found is no login");
  assert.deepEqual([kept.get("mine.access_token"), kept.get("mine.refresh_token")], ["A2", "R2"]);
  await client.clear();
  assert.equal(kept.has("mine.refresh_token"), false);
});

test("a token of 40 kB is none", async () => {
  const store = storage();
  for (const key of ["access_token", "refresh_token"]) store.setItem(key, "x".repeat(40_000));
  const client = newClient({ baseUrl, storage: store });
  assert.equal(client.hasTokens, false);
  await assert.rejects(client.fetch("/x"), AuthenticationRequired);
  assert.deepEqual([store.getItem("access_token"), store.getItem("refresh_token")], [null, null]);
  assert.equal(asked.length, 0);
});

test("a refresh token that the gateway cannot even read is given up", async () => {
  for (const [status, code] of /** @type {const} */ ([[431, "headers_too_large"], [400, "invalid_request"]])) {
    const { client } = signedIn();
    const refused = assert.rejects(client.refresh(), AuthenticationRequired);
    (await next()).answer(status, { code });
    await refused;
    assert.equal(client.hasTokens, false);
  }
});

test("signing out tells why", async () => {
  const reasons = /** @type {const} */ ([
    ["token_expired", "expired"],
    ["token_reused", "reused"],
    ["token_revoked", "revoked"],
    ["invalid_token", "invalid"],
  ]);
  for (const [code, reason] of reasons) {
    const { client } = signedIn();
    const events = record(client);
    const refused = assert.rejects(client.refresh(), { name: "AuthenticationRequired", reason });
    (await next()).answer(401, { code }, REFUSED);
    await refused;
    assert.deepEqual(events, [`signed-out ${reason}`]);
  }
  const { client } = signedIn();
  const events = record(client);
  const logout = client.logout();
  (await next()).answer(204);
  await logout;
  assert.deepEqual(events, ["signed-out logout"]);
});

test("another login is told as one, a renewal as a renewal", async () => {
  const client = newClient({ baseUrl, storage: memoryStorage() });
  const events = record(client);
  const [first, second] = [jwt({ sid: "s1", n: 1 }), jwt({ sid: "s1", n: 2 })];
  for (const [access, method] of /** @type {const} */ ([[first, "login"], [second, "refresh"], [jwt({ sid: "s2" }), "login"]])) {
    const done = method === "login" ? client.login("alice", "secret") : client.refresh();
    (await next()).answer(200, tokens(access, "R"));
    await done;
  }
  assert.deepEqual(events, ["signed-in", "refreshed", "signed-in"]);
});

test("what a refresh brings is used where another tab's tokens are stored by half", async () => {
  const { store, client } = signedIn();
  const [old, fresh] = [jwt({ sid: "s1", n: 1 }), jwt({ sid: "s1", n: 2 })];
  store.setItem("access_token", old);
  const renewed = client.refresh();
  const refresh = await next();
  store.setItem("refresh_token", jwt({ sid: "s1", type: "refresh" }));
  refresh.answer(200, tokens(fresh, "R2"));
  assert.equal(await renewed, fresh);
});

test("a token is renewed ahead of its expiry, and no more after dispose", async () => {
  const store = storage();
  store.setItem("access_token", jwt({ iat: now(), exp: now() + 2 }));
  store.setItem("refresh_token", jwt({ exp: now() + 600 }));
  const client = newClient({ baseUrl, storage: store });
  const refresh = await next();
  assert.equal(refresh.path, "/refresh");
  refresh.answer(200, { ...tokens(jwt({ iat: now(), exp: now() + 2 }), jwt({ exp: now() + 600 })), server_time: now() });
  await settle();
  client.dispose();
  await new Promise((done) => setTimeout(done, 2_000));
  assert.equal(asked.length, 0);
  await assert.rejects(client.fetch("/x"), { name: "InvalidStateError" });
});

test("tabs behind a gateway that hangs end together", async (t) => {
  let queue = Promise.resolve();
  const locks = {
    query: async () => ({ held: [] }),
    request: (/** @type {string} */ _name, /** @type {{signal: AbortSignal}} */ { signal }, /** @type {() => Promise<void>} */ work) => {
      const turn = queue.then(() => (signal.aborted ? Promise.reject(signal.reason) : work()));
      queue = turn.catch(() => {});
      return turn;
    },
  };
  Object.defineProperty(globalThis, "navigator", { value: { locks }, configurable: true });
  t.after(() => Reflect.deleteProperty(globalThis, "navigator"));
  const { store } = signedIn();
  const start = Date.now();
  const times = await Promise.all(
    [1, 2, 3].map(async () => {
      const client = newClient({ baseUrl, storage: store, requestTimeout: 800 });
      await assert.rejects(client.refresh(), NetworkError);
      return Date.now() - start;
    }),
  );
  assert.ok(Math.max(...times) < 1_400, times.join(", "));
});
