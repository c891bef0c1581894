/**
 * Tokens that are bound to a key of the browser's, with the real gateway and a real browser.
 * @module
 */

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";

import { launch } from "../../tests/browser.js";
import { Gateway, PASSWORD, until } from "../../tests/gateway.js";
import { openTab } from "./tab.js";

/** @typedef {import("playwright-core").Page} Page */
/** @typedef {import("playwright-core").BrowserContext} BrowserContext */

/** @type {import("playwright-core").Browser} */
let browser;
/** @type {BrowserContext} */
let context;
before(async () => void (browser = await launch(["--host-resolver-rules=MAP app.test 127.0.0.1"])));
after(() => browser?.close());
beforeEach(async () => void (context = await browser.newContext()));
afterEach(() => context.close());

/**
 * What a method of the tab's client comes to: the status of a response, "ok", or the name of an error with its code.
 * @param {Page} tab
 * @param {string} method
 * @param {unknown[]} parameters
 */
const call = (tab, method, ...parameters) =>
  tab.evaluate(
    async ([name, given]) => {
      const client = Reflect.get(window, "client");
      try {
        const result = await client[name](...given);
        return result instanceof Response ? result.status : "ok";
      } catch (error) {
        const { name, code } = /** @type {{name: string, code?: unknown}} */ (error);
        return typeof code === "string" ? `${name} ${code}` : name;
      }
    },
    /** @type {const} */ ([method, parameters]),
  );

/** Logs in; a gateway on a busy machine asks to be tried again. @param {Page} tab */
async function logIn(tab) {
  for (let attempt = 0; attempt < 20; attempt++) {
    const outcome = await call(tab, "login", "alice", PASSWORD);
    if (outcome !== "ApiError overloaded") return outcome;
  }
  return "overloaded";
}

const TOKENS = { accessTtl: "3s", refreshTtl: "1h", rotation: "strict" };

describe("with a gateway that requires it", () => {
  /** @type {Gateway} */
  let gateway;
  before(async () => void (gateway = await Gateway.start({ ...TOKENS, tokens: 'dpop = "required"\ndpop_nonce = true' })));
  after(() => gateway?.stop());

  test("a login, requests, renewals and a logout work, in all tabs with one key", async () => {
    const [one, two] = [await openTab(context, gateway.url, { dpop: "auto" }), await openTab(context, gateway.url, { dpop: "auto" })];
    assert.equal(await logIn(one), "ok");
    await until(() => two.evaluate(() => Reflect.get(window, "client").hasTokens), "the other tab knows of it");
    for (const tab of [one, two]) {
      assert.equal(await call(tab, "fetch", "/protected"), 200);
      assert.equal(await call(tab, "refresh"), "ok");
      assert.equal(await call(tab, "fetch", "/protected?a=b"), 200);
      assert.equal(await call(tab, "sessions"), "ok");
    }
    const extractable = await one.evaluate(
      () =>
        new Promise((done) => {
          const opening = indexedDB.open("auth-gateway:dpop", 1);
          opening.onsuccess = () => {
            const reading = opening.result.transaction("keys").objectStore("keys").getAll();
            reading.onsuccess = () =>
              done(reading.result.map((/** @type {{privateKey: CryptoKey}} */ { privateKey }) => privateKey.extractable));
          };
        }),
    );
    assert.deepEqual(extractable, [false], "one key, which no script can read");
    assert.equal(await call(two, "logout"), "ok");
    assert.equal(await call(one, "fetch", "/protected"), "AuthenticationRequired");
  });

  test("a copy of localStorage in another browser gives neither a page nor new tokens", async () => {
    const victim = await openTab(context, gateway.url, { dpop: "auto", autoRefresh: false });
    assert.equal(await logIn(victim), "ok");
    const stolen = await victim.evaluate(() => ({ ...localStorage }));
    assert.ok(stolen.access_token && stolen.refresh_token);
    const profile = await browser.newContext();
    try {
      for (const options of [{ dpop: "auto" }, { dpop: "off" }]) {
        const thief = await openTab(profile, gateway.url, { ...options, autoRefresh: false });
        await thief.evaluate((copy) => Object.assign(localStorage, copy), stolen);
        const status = await call(thief, "fetch", "/protected");
        assert.ok(status === 401 || status === "AuthenticationRequired", `${status}`);
        await thief.evaluate((copy) => Object.assign(localStorage, copy), stolen);
        assert.equal(await call(thief, "refresh"), "AuthenticationRequired");
        for (const [name, token] of Object.entries(stolen)) {
          const path = name === "access_token" ? "/protected" : "/refresh";
          const method = name === "access_token" ? "GET" : "POST";
          const status = await thief.evaluate(
            ([path, method, token]) =>
              fetch(path, { method, headers: { Authorization: `Bearer ${token}` } }).then((response) => response.status),
            [path, method, token],
          );
          assert.ok(status === 400 || status === 401, `${path} ${status}`);
        }
      }
    } finally {
      await profile.close();
    }
    assert.equal(await call(victim, "refresh"), "ok", "and the session of its owner goes on");
    assert.equal(await call(victim, "fetch", "/protected"), 200);
  });

  test("a client without it is refused, and one that requires it says where it is impossible", async () => {
    const without = await openTab(context, gateway.url, {});
    assert.equal(await logIn(without), "ApiError invalid_dpop_proof");
    const plain = await openTab(context, gateway.url.replace("127.0.0.1", "app.test"), { dpop: "required" });
    assert.equal(await logIn(plain), "NotSupportedError");
  });

  test("a file is downloaded with a proof", async () => {
    const tab = await openTab(context, gateway.url, { dpop: "auto" });
    assert.equal(await logIn(tab), "ok");
    const [download] = await Promise.all([tab.waitForEvent("download"), call(tab, "download", "/protected", "page.json")]);
    assert.equal(download.suggestedFilename(), "page.json");
  });
});

describe("with a gateway where it is optional", () => {
  /** @type {Gateway} */
  let gateway;
  before(async () => void (gateway = await Gateway.start({ ...TOKENS, tokens: 'dpop = "optional"' })));
  after(() => gateway?.stop());

  test("a browser that keeps no keys has tokens that are not bound", async () => {
    const plain = await openTab(context, gateway.url.replace("127.0.0.1", "app.test"), { dpop: "auto" });
    assert.equal(await logIn(plain), "ok");
    assert.equal(await call(plain, "fetch", "/protected"), 200);
    assert.equal(await plain.evaluate(() => "cnf" in Reflect.get(window, "client").claims), false);
  });

  test("a session that was not bound becomes bound with its next renewal", async () => {
    const before = await openTab(context, gateway.url, { autoRefresh: false });
    assert.equal(await logIn(before), "ok");
    const old = await before.evaluate(() => localStorage.refresh_token);
    const after = await openTab(context, gateway.url, { dpop: "auto", autoRefresh: false });
    assert.equal(await call(after, "refresh"), "ok");
    assert.equal(await after.evaluate(() => "cnf" in Reflect.get(window, "client").claims), true);
    assert.equal(await call(after, "fetch", "/protected"), 200);
    const status = await after.evaluate(
      (token) => fetch("/refresh", { method: "POST", headers: { Authorization: `Bearer ${token}` } }).then((r) => r.status),
      old,
    );
    assert.equal(status, 401);
  });

  test("a clock that is an hour off is found out", async () => {
    const tab = await openTab(context, gateway.url, { dpop: "auto" });
    await tab.evaluate(() => {
      const now = Date.now;
      Date.now = () => now() - 3_600_000;
    });
    assert.equal(await logIn(tab), "ok");
    assert.equal(await call(tab, "fetch", "/protected"), 200);
  });
});
