/**
 * The client in a real browser: refreshes that hang, tabs that are closed or frozen in the middle of one, hidden pages.
 * @module
 */

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";

import { launch } from "../../tests/browser.js";
import { Gateway, PASSWORD, until } from "../../tests/gateway.js";
import { openTab } from "./tab.js";

/** @typedef {import("playwright-core").Page} Page */

/** @type {import("playwright-core").Browser} */
let browser;
/** @type {import("playwright-core").BrowserContext} */
let context;
/** @type {Gateway} */
let gateway;

before(async () => {
  browser = await launch(["--host-resolver-rules=MAP app.test 127.0.0.1"]);
  gateway = await Gateway.start({ accessTtl: "3s", refreshTtl: "1h" });
});
after(async () => {
  await browser?.close();
  await gateway?.stop();
});
beforeEach(async () => void (context = await browser.newContext()));
afterEach(() => context.close());

/** @param {Page} tab */
const logIn = (tab) => tab.evaluate((password) => Reflect.get(window, "client").login("alice", password), PASSWORD);

/** Refreshes, and says what came of it and after how many milliseconds. @param {Page} tab */
const refresh = (tab) =>
  tab.evaluate(async () => {
    const start = Date.now();
    const outcome = await Reflect.get(window, "client").refresh().then(
      () => "refreshed",
      (/** @type {Error} */ error) => error.name,
    );
    return { outcome, after: Date.now() - start };
  });

/** @param {Page} tab */
const hasTokens = (tab) => tab.evaluate(() => Reflect.get(window, "client").hasTokens);

const origins = /** @type {const} */ ([
  ["with Web Locks", () => gateway.url],
  ["without Web Locks, over plain http", () => gateway.url.replace("127.0.0.1", "app.test")],
]);
const options = { autoRefresh: false, requestTimeout: 2_000 };

for (const [how, url] of origins) {
  describe(how, () => {
    test("three tabs behind a refresh that hangs end together, and keep their session", async () => {
      /** @type {Page[]} */
      const tabs = [];
      for (let i = 0; i < 3; i++) tabs.push(await openTab(context, url(), options));
      await logIn(tabs[0]);
      await until(() => hasTokens(tabs[2]), "the tabs know of it");
      await context.route("**/refresh", () => {});
      const results = await Promise.all(tabs.map(refresh));
      for (const { outcome, after } of results) {
        assert.equal(outcome, "NetworkError");
        assert.ok(after < 3_500, `${after} ms`);
      }
      await context.unroute("**/refresh");
      for (const tab of tabs) assert.equal((await refresh(tab)).outcome, "refreshed");
    });

    test("a tab that is closed in the middle of a refresh holds nobody up for long", async () => {
      const [tab, closed] = [await openTab(context, url(), options), await openTab(context, url(), options)];
      await logIn(tab);
      await until(() => hasTokens(closed), "the tabs know of it");
      await context.route("**/refresh", () => {});
      const asked = context.waitForEvent("request", (request) => request.url().endsWith("/refresh"));
      refresh(closed).catch(() => {});
      await asked;
      await closed.close();
      await context.unroute("**/refresh");
      const start = Date.now();
      await until(async () => (await refresh(tab)).outcome === "refreshed", "the other tab goes on");
      assert.ok(Date.now() - start < 6_000, `${Date.now() - start} ms`);
    });
  });
}

test("a lock that a frozen page holds is waited for once, and taken then", async () => {
  const tab = await openTab(context, gateway.url, options);
  const frozen = await context.newPage();
  await frozen.goto(`${gateway.url}/favicon.svg`);
  await logIn(tab);
  await frozen.evaluate(() => {
    navigator.locks.request("auth-gateway:refresh", () => new Promise(() => {}));
  });
  assert.equal((await refresh(tab)).outcome, "NetworkError");
  await until(async () => {
    const { outcome, after } = await refresh(tab);
    return outcome === "refreshed" && after < 1_500;
  }, "the lock is taken");
});

test("a page that is looked at renews its token in time, a hidden one when it is looked at again", async () => {
  const tab = await openTab(context, gateway.url, {});
  let refreshes = 0;
  context.on("request", (request) => void (refreshes += Number(request.url().endsWith("/refresh"))));
  await logIn(tab);
  await until(async () => refreshes >= 2, "it is renewed, and again");
  assert.ok(await tab.evaluate(() => Reflect.get(window, "client").claims.exp * 1000 > Date.now()));
  /** @param {string} state */
  const setVisibility = (state) =>
    tab.evaluate((value) => {
      Object.defineProperty(document, "visibilityState", { value, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }, state);
  await setVisibility("hidden");
  const before = refreshes;
  await new Promise((done) => setTimeout(done, 4_000));
  assert.equal(refreshes, before, "nobody looks");
  await setVisibility("visible");
  await until(async () => refreshes > before, "somebody looks again");
});

test("what is due while there is no network is done as soon as there is one", async () => {
  const tab = await openTab(context, gateway.url, {});
  let refreshes = 0;
  context.on("response", (response) => void (refreshes += Number(response.url().endsWith("/refresh"))));
  await logIn(tab);
  await context.setOffline(true);
  await new Promise((done) => setTimeout(done, 3_500));
  assert.equal(refreshes, 0);
  const start = Date.now();
  await context.setOffline(false);
  await until(async () => refreshes > 0, "it is renewed");
  assert.ok(Date.now() - start < 2_000, "without the wait of a retry");
  assert.equal(await hasTokens(tab), true);
});
