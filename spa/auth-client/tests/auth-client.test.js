/**
 * The token client's races, one at a time, against a server that answers when it is told to.
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";

import { ApiError, AuthenticationRequired, NetworkError, SecondFactorRequired, readClaims } from "../src/index.js";
import { REFUSED, asked, baseUrl, jwt, newClient, next, server, settle, signedIn, storage, tokens } from "./fake-gateway.js";

test("a refused token is renewed once and the request sent once more", async () => {
  const { store, client } = signedIn();
  const response = client.fetch("/x");
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
  assert.ok(Math.abs(client.now() - Date.now() - 1_000_000) < 5_000, "the clock is the server's");
});

test("many requests that fail together cause one refresh", async () => {
  const { client } = signedIn();
  const responses = Promise.all([1, 2, 3].map(() => client.fetch("/x")));
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
  const { store, client } = signedIn();
  const response = client.fetch("/x");
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
  const { store, client } = signedIn();
  const done = client.refresh("A1");
  (await next()).answer(200, tokens("A2"));
  await done;
  assert.deepEqual([store.getItem("access_token"), store.getItem("refresh_token")], ["A2", "R1"]);
});

test("a refused refresh clears the tokens", async () => {
  const { store, client } = signedIn();
  const done = assert.rejects(client.refresh("A1"), AuthenticationRequired);
  (await next()).answer(401, { code: "token_reused" }, REFUSED);
  await done;
  assert.equal(client.hasTokens, false);
  assert.equal(store.getItem("refresh_token"), null);
});

test("an outage keeps the tokens and is told as one", async () => {
  const { client } = signedIn();
  for (const status of [429, 500, 503]) {
    const done = assert.rejects(client.refresh("A1"), NetworkError);
    (await next()).answer(status, { code: "store_unavailable", message: "Later." }, { "Retry-After": "2" });
    await done;
  }
  server.closeAllConnections();
  server.close();
  await assert.rejects(client.refresh("A1"), NetworkError);
  assert.equal(client.refreshToken, "R1");
});

test("the answer to a refresh does not undo a logout", async () => {
  const { client } = signedIn();
  const refresh = assert.rejects(client.refresh("A1"), AuthenticationRequired);
  const late = await next();
  const logout = client.logout();
  const out = await next();
  assert.deepEqual([out.path, out.token], ["/logout", "R1"]);
  out.answer(204);
  await logout;
  late.answer(200, tokens("A2", "R2"));
  await refresh;
  assert.equal(client.hasTokens, false);
});

test("a late refusal does not undo a new login", async () => {
  const { store, client } = signedIn();
  const refresh = client.refresh("A1");
  const late = await next();
  store.setItem("refresh_token", "R9");
  store.setItem("access_token", "A9");
  late.answer(401, {}, REFUSED);
  await refresh;
  assert.deepEqual([client.accessToken, client.refreshToken], ["A9", "R9"]);
});

test("late tokens do not replace those of a new login, nor does a late outage matter to it", async () => {
  for (const answer of /** @type {const} */ ([[200, tokens("A2", "R2")], [503, {}]])) {
    const { store, client } = signedIn();
    const refresh = client.refresh("A1");
    const late = await next();
    store.setItem("refresh_token", "R9");
    store.setItem("access_token", "A9");
    late.answer(answer[0], answer[1]);
    await refresh;
    assert.deepEqual([client.accessToken, client.refreshToken], ["A9", "R9"]);
  }
});

test("a new login does not wait for the refresh of the one before", async () => {
  const { store, client } = signedIn();
  const old = client.refresh("A1");
  const late = await next();
  store.setItem("refresh_token", "R8");
  store.setItem("access_token", "A8");
  const renewed = client.refresh("A8");
  const request = await next();
  assert.deepEqual([request.path, request.token], ["/refresh", "R8"]);
  request.answer(200, tokens("A9", "R9"));
  await renewed;
  late.answer(200, tokens("A2", "R2"));
  await old;
  assert.deepEqual([client.accessToken, client.refreshToken], ["A9", "R9"]);
});

test("two tabs that fail together cause one refresh where there are Web Locks", async (t) => {
  let queue = Promise.resolve();
  /** @type {Set<string>} */
  const marks = new Set();
  const locks = {
    query: async () => ({ held: [...marks].map((name) => ({ name })) }),
    request: (/** @type {string} */ name, /** @type {object} */ options, /** @type {() => Promise<void>} */ work) => {
      if (Reflect.get(options, "mode") === "shared") {
        marks.add(name);
        return work();
      }
      const done = queue.then(work);
      queue = done.catch(() => {});
      return done;
    },
  };
  Object.defineProperty(globalThis, "navigator", { value: { locks }, configurable: true });
  t.after(() => Reflect.deleteProperty(globalThis, "navigator"));
  const { store, client } = signedIn();
  const { client: other } = signedIn(store);
  const responses = Promise.all([client.fetch("/x"), other.fetch("/x")]);
  const refused = [await next(), await next()];
  for (const request of refused) request.answer(401, {}, REFUSED);
  const refresh = await next();
  assert.equal(refresh.path, "/refresh");
  refresh.answer(200, tokens("A2", "R2"));
  for (let i = 0; i < 2; i++) {
    const again = await next();
    assert.deepEqual([again.path, again.token], ["/x", "A2"]);
    again.answer(200);
  }
  assert.deepEqual((await responses).map((r) => r.status), [200, 200]);
});

test("what cannot be a token is none", async () => {
  const { store, client } = signedIn();
  for (const junk of ["", "two words", "tökén", "line\nbreak"]) {
    store.setItem("access_token", junk);
    store.setItem("refresh_token", junk);
    assert.equal(client.hasTokens, false, JSON.stringify(junk));
    await assert.rejects(client.fetch("/x"), AuthenticationRequired);
    assert.equal(store.getItem("access_token"), null);
  }
  assert.equal(asked.length, 0);
});

test("a request made for one user is not repeated for another", async () => {
  const store = storage();
  const [alice, bob] = [jwt({ sub: "1" }), jwt({ sub: "2" })];
  store.setItem("access_token", alice);
  store.setItem("refresh_token", "R1");
  const client = newClient({ baseUrl, storage: store });
  const response = assert.rejects(client.fetch("/x"), AuthenticationRequired);
  const first = await next();
  store.setItem("refresh_token", "R2");
  store.setItem("access_token", bob);
  first.answer(401, {}, REFUSED);
  await settle();
  assert.equal(asked.length, 0);
  await response;
  assert.equal(client.accessToken, bob);
});

test("a token that another tab has left behind expired is renewed, not tried", async () => {
  const { store, client } = signedIn();
  const response = client.fetch("/x");
  const first = await next();
  store.setItem("access_token", jwt({ sub: "1", exp: Math.floor(Date.now() / 1000) - 60 }));
  first.answer(401, {}, REFUSED);
  const refresh = await next();
  assert.deepEqual([refresh.path, refresh.token], ["/refresh", "R1"]);
  refresh.answer(200, tokens("A3", "R3"));
  const second = await next();
  assert.deepEqual([second.path, second.token], ["/x", "A3"]);
  second.answer(200);
  assert.equal((await response).status, 200);
});

test("an answer that is no token answer is taken for an outage", async () => {
  const { store, client } = signedIn();
  for (const body of [{}, { access_token: 7, server_time: 1 }, { access_token: "A2" }]) {
    const refresh = assert.rejects(client.refresh("A1"), NetworkError);
    (await next()).answer(200, body);
    await refresh;
    const login = assert.rejects(client.login("alice", "secret"), NetworkError);
    (await next()).answer(200, body);
    await login;
  }
  assert.deepEqual([store.getItem("access_token"), store.getItem("refresh_token")], ["A1", "R1"]);
});

test("a login leaves nothing of the client before it", async () => {
  const { client } = signedIn();
  const login = client.login("alice", "secret");
  (await next()).answer(200, tokens("A2"));
  await login;
  assert.deepEqual([client.accessToken, client.refreshToken], ["A2", null]);
});

test("a refusal whose challenge cannot be read is known by its code", async () => {
  const { client } = signedIn();
  const response = client.fetch("/x");
  (await next()).answer(401, { code: "token_expired" });
  const refresh = await next();
  assert.equal(refresh.path, "/refresh");
  refresh.answer(200, tokens("A2", "R2"));
  (await next()).answer(401, { code: "missing_token" });
  assert.equal((await (await response).json()).code, "missing_token", "the body is still there to be read");
});

test("giving up forgets the tokens that were refused, and no others", async () => {
  const { store, client } = signedIn();
  const ask = async (/** @type {object} */ headers) => {
    const response = client.fetch("/x");
    (await next()).answer(401, {}, REFUSED);
    (await next()).answer(200, tokens("A2", "R2"));
    (await next()).answer(401, {}, headers);
    return response;
  };
  let refusal = await ask(REFUSED);
  store.setItem("access_token", "A9");
  assert.equal(await client.clearIfRejected(refusal), false, "somebody has logged in since");
  const other = client.fetch("/x");
  (await next()).answer(401, {}, { "WWW-Authenticate": "Basic" });
  assert.equal(await client.clearIfRejected(await other), false, "the upstream's own affair");
  refusal = await ask(REFUSED);
  assert.equal(await client.clearIfRejected(refusal), true);
  assert.equal(client.hasTokens, false);
});

test("an aborted request is told as aborted", async () => {
  const { client } = signedIn();
  const abort = new AbortController();
  const response = assert.rejects(client.fetch("/x", { signal: abort.signal }), { name: "AbortError" });
  await next();
  abort.abort();
  await response;
});

test("no path leads a token to another host", async () => {
  const { client } = signedIn();
  for (const path of ["http://evil.example/x", "https://evil.example", new URL("http://evil.example/"), "data:,x"]) {
    await assert.rejects(client.fetch(path), TypeError);
  }
  const response = client.fetch("//evil.example/x");
  const request = await next();
  assert.equal(request.path, "//evil.example/x");
  request.answer(200);
  await response;
});

test("the prefix is for the gateway's endpoints only", async () => {
  const { store } = signedIn();
  const client = newClient({ baseUrl: `${baseUrl}/`, endpoints: "/auth", storage: store });
  const response = client.fetch("/x");
  let request = await next();
  assert.equal(request.path, "/x");
  request.answer(401, {}, REFUSED);
  request = await next();
  assert.equal(request.path, "/auth/refresh");
  request.answer(200, tokens("A2", "R2"));
  (await next()).answer(200);
  await response;
});

test("an answer with something else for a token is taken for an outage", async () => {
  const { client } = signedIn();
  const answers = [{ access_token: "" }, { access_token: "A2", refresh_token: null }, { access_token: "two words" }];
  for (const answer of answers) {
    const done = assert.rejects(client.refresh("A1"), NetworkError);
    (await next()).answer(200, { ...tokens("A2"), ...answer });
    await done;
  }
  assert.deepEqual([client.accessToken, client.refreshToken], ["A1", "R1"]);
});

test("until a token is issued, the clock follows the date of the answers", async () => {
  const { client } = signedIn();
  const response = client.fetch("/x");
  (await next()).answer(200, {}, { Date: new Date(Date.now() + 500_000).toUTCString() });
  await response;
  assert.ok(Math.abs(client.now() - Date.now() - 500_000) < 5_000);
});

test("a clock that is right to the second is left alone", async () => {
  const { client } = signedIn();
  const done = client.refresh("A1");
  const request = await next();
  const second = Math.floor(Date.now() / 1000);
  request.answer(200, { ...tokens("A2"), server_time: second });
  await done;
  const off = client.now() - Date.now();
  // More than the answer's way only if the second has turned meanwhile.
  assert.ok(Math.abs(off) < 100 || Math.floor(Date.now() / 1000) > second, `${off} ms`);
});

test("403, overload and whatever else is not about the token are answers and cost none", async () => {
  const { client } = signedIn();
  const answers = /** @type {const} */ ([[403], [404], [429], [503], [401, { "WWW-Authenticate": "Basic" }], [401]]);
  for (const [status, headers] of answers) {
    const response = client.fetch("/x");
    (await next()).answer(status, {}, headers);
    assert.equal((await response).status, status);
  }
  assert.equal(client.refreshToken, "R1");
});

test("a logout that cannot be told to the server forgets the tokens all the same", async () => {
  const { client } = signedIn();
  const logout = assert.rejects(client.logout(), NetworkError);
  (await next()).answer(503);
  await logout;
  assert.equal(client.hasTokens, false);
});

test("a client whose refresh token is no longer known is ended with the access token", async () => {
  const { client } = signedIn();
  const logout = client.logout();
  (await next()).answer(401, {}, REFUSED);
  const second = await next();
  assert.deepEqual([second.path, second.token], ["/logout", "A1"]);
  second.answer(204);
  await logout;
});

test("without tokens nothing is sent", async () => {
  const client = newClient({ baseUrl, storage: storage() });
  await assert.rejects(client.fetch("/x"), AuthenticationRequired);
  assert.equal(asked.length, 0);
});

test("changes are announced", async () => {
  const { client } = signedIn();
  let changes = 0;
  client.addEventListener("change", () => (changes += 1));
  const done = client.refresh("A1");
  (await next()).answer(200, tokens("A2", "R2"));
  await done;
  client.clear();
  assert.equal(changes, 2);
});

test("claims are read as UTF-8, and rubbish as nothing", () => {
  const payload = Buffer.from('{"username":"アリス"}').toString("base64url");
  assert.equal(readClaims(`h.${payload}.s`)?.username, "アリス");
  assert.equal(readClaims("rubbish"), null);
});

test("a required change needs no token, and says where it takes a code", async () => {
  const client = newClient({ baseUrl, storage: storage(), endpoints: "/auth" });
  const login = client.login("alice", "password").catch((error) => error);
  (await next()).answer(403, { code: "password_change_required", factors: ["totp", "recovery_code"] });
  const refused = await login;
  assert.deepEqual([refused.name, refused.code, refused.factors], ["ApiError", "password_change_required", ["totp", "recovery_code"]]);
  const weak = assert.rejects(client.changeRequiredPassword("alice", "password", "x"), { status: 422, code: "password_too_short" });
  let request = await next();
  assert.deepEqual([request.method, request.path, request.token], ["POST", "/auth/password", ""]);
  assert.deepEqual(JSON.parse(await request.body()), { username: "alice", current_password: "password", new_password: "x" });
  request.answer(422, { code: "password_too_short" });
  await weak;
  const done = client.changeRequiredPassword("alice", "password", "new one", { code: "123456" });
  request = await next();
  assert.equal(JSON.parse(await request.body()).code, "123456");
  request.answer(204);
  await done;
  assert.equal(client.hasTokens, false);
});

test("a login that needs a code says so, and is completed by one", async () => {
  const store = storage();
  const client = newClient({ baseUrl, storage: store, endpoints: "/auth" });
  const login = client.login("alice", "password").catch((error) => error);
  const asks = { code: "mfa_required", message: "Please enter the code.", mfa_token: "T", expires_in: 300, factors: ["totp", 1] };
  (await next()).answer(403, asks);
  const step = await login;
  assert.ok(step instanceof SecondFactorRequired && step instanceof ApiError);
  assert.deepEqual([step.status, step.message, step.mfaToken, step.expiresIn, step.factors], [403, asks.message, "T", 300, ["totp"]]);
  const wrong = assert.rejects(client.loginWithCode(step.mfaToken, "000000"), { name: "ApiError", code: "invalid_code" });
  (await next()).answer(401, { code: "invalid_code" }, { "WWW-Authenticate": "Bearer" });
  await wrong;
  assert.equal(client.hasTokens, false);
  const done = client.loginWithCode(step.mfaToken, "123456");
  const request = await next();
  assert.equal(request.path, "/auth/login/totp");
  assert.deepEqual(JSON.parse(await request.body()), { mfa_token: "T", code: "123456" });
  request.answer(200, tokens("A1", "R1"));
  await done;
  assert.deepEqual([store.getItem("access_token"), store.getItem("refresh_token")], ["A1", "R1"]);
});

test("a 403 without a token to go on by is an error as any other", async () => {
  const client = newClient({ baseUrl, storage: storage() });
  for (const body of [{ code: "mfa_required" }, { code: "account_locked", mfa_token: "T" }]) {
    const login = client.login("alice", "password").catch((error) => error);
    (await next()).answer(403, body);
    assert.deepEqual([(await login).name, (await login).code], ["ApiError", body.code]);
  }
});

test("proving the identity anew keeps the session, and undoes no logout", async () => {
  const access = (/** @type {string} */ sid, /** @type {number} */ n) => jwt({ sid, n, iat: 0, exp: 4_000_000_000, sub: "1" });
  for (const meanwhile of ["nothing", "logout", "another login"]) {
    const { store, client } = signedIn();
    store.setItem("access_token", access("s", 1));
    const done = client.reauthenticate({ code: "123456" });
    const request = await next();
    assert.deepEqual([request.path, await request.body()], ["/reauthenticate", '{"code":"123456"}']);
    if (meanwhile === "logout") await client.clear();
    if (meanwhile === "another login") store.setItem("access_token", access("t", 1));
    const before = store.getItem("access_token");
    request.answer(200, tokens(access("s", 2)));
    if (meanwhile === "nothing") {
      await done;
      assert.deepEqual([store.getItem("access_token"), store.getItem("refresh_token")], [access("s", 2), "R1"]);
    } else {
      await assert.rejects(done, AuthenticationRequired);
      assert.equal(store.getItem("access_token"), before);
    }
  }
});

test("a second factor is set up, and an outage after that costs no recovery codes", async () => {
  const { client } = signedIn();
  const factor = client.secondFactor;
  const status = factor.status();
  (await next()).answer(200, { totp: false, recovery_codes: 0 });
  assert.deepEqual(await status, { totp: false, recoveryCodes: 0 });
  const none = factor.status();
  (await next()).answer(404, { code: "not_found" });
  assert.equal(await none, null);
  const begun = factor.begin("password");
  const begin = await next();
  assert.deepEqual([begin.path, await begin.body()], ["/mfa/totp", '{"current_password":"password"}']);
  begin.answer(200, { secret: "S", otpauth_uri: "otpauth://", qr_svg: "<svg/>", expires_in: 900 });
  assert.deepEqual(await begun, { secret: "S", otpauthUri: "otpauth://", qrSvg: "<svg/>", expiresIn: 900 });
  const confirmed = factor.confirm("123456");
  (await next()).answer(200, { recovery_codes: ["A", "B"] });
  const renewal = await next();
  assert.equal(renewal.path, "/refresh");
  renewal.answer(503, {});
  assert.deepEqual(await confirmed, ["A", "B"]);
  const removed = factor.remove("123456", { endOtherSessions: false });
  const removal = await next();
  assert.deepEqual(JSON.parse(await removal.body()), { code: "123456", end_other_sessions: false });
  removal.answer(204);
  await removed;
});
