/**
 * The page where something is missing, wrong or in the way: failures, storages, sessions elsewhere, small screens.
 * @module
 */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { Gateway, PASSWORD, until } from "./gateway.js";
import { browser, context, focused, logIn, page, screenshot, storedTokens, waitForError } from "./page.js";

describe("what goes wrong, and what else there is", () => {
  /** @type {Gateway} */
  let gateway;
  before(async () => void (gateway = await Gateway.start()));
  after(() => gateway?.stop());

  test("a call that failed leaves nothing of the one before that worked", async () => {
    await page.goto(gateway.url);
    await logIn();
    await page.route("**/protected", (route) => route.abort("connectionrefused"));
    await page.click("#call");
    await page.waitForSelector("#success-error:has-text('Cannot reach server.')");
    assert.equal(await page.isVisible("#message"), false);
    await page.unroute("**/protected");
    await page.click("#success-retry");
    await page.waitForSelector("#message:has-text('Hello alice')");
    assert.equal(await page.isVisible("#success-error"), false);
    assert.equal(await focused(), "call");
  });

  test("the password can be shown, and is hidden again before it is sent", async () => {
    await page.goto(gateway.url);
    const type = () => page.getAttribute("#password", "type");
    await page.fill("#password", "wrong");
    await page.click("#show-password");
    assert.deepEqual([await type(), await page.getAttribute("#show-password", "aria-pressed")], ["text", "true"]);
    await page.click("#show-password");
    assert.equal(await type(), "password");
    await page.click("#show-password");
    await page.fill("#username", "alice");
    await page.click("#login-button");
    await waitForError("Invalid username or password.");
    assert.equal(await type(), "password");
  });

  test("a full localStorage is told, and costs neither the login nor the session", async () => {
    await page.goto(gateway.url);
    await page.evaluate(() => {
      for (let size = 2 ** 22; size >= 1; size /= 2) {
        try {
          for (;;) localStorage.setItem(`junk${localStorage.length}`, "x".repeat(size));
        } catch {
          // Smaller ones may still fit.
        }
      }
    });
    await logIn();
    await page.waitForSelector("#storage-notice:has-text('cannot keep your session')");
    assert.deepEqual(await storedTokens(), { access: null, refresh: null });
    const logout = page.waitForResponse("**/logout");
    await page.click("#logout");
    assert.equal((await logout).status(), 204, "the session is no orphan");
  });

  test("the sessions are shown, one is ended, and all of them", async () => {
    /** @type {string[]} */
    const ended = [];
    const all = [
      { sid: "a", started_at: 1_790_000_000, last_refreshed_at: null, address: "127.0.0.1", client: "curl/8.5.0", current: true },
      { sid: "b/1", started_at: 1_790_000_000, last_refreshed_at: 1, address: null, client: null, current: false },
    ];
    await page.route("**/sessions", (route) =>
      route.fulfill({ json: { sessions: all.filter(({ sid }) => !ended.includes(sid)) } }),
    );
    await page.route("**/sessions/*", (route) => {
      ended.push(decodeURIComponent(new URL(route.request().url()).pathname.slice("/sessions/".length)));
      return route.fulfill({ status: 204 });
    });
    await page.goto(gateway.url);
    await logIn();
    await page.waitForSelector("#sessions:not([hidden])");
    assert.equal(await page.locator("#session-list li").count(), 2);
    assert.match((await page.textContent("#session-list li")) ?? "", /curl This session.*from 127\.0\.0\.1/);
    await page.click("#session-list button");
    await page.waitForSelector("#session-list li + li", { state: "detached" });
    assert.deepEqual(ended, ["b/1"]);
    const { refresh } = await storedTokens();
    await page.click("#logout-all");
    await page.waitForSelector("#flash:has-text('You are logged out everywhere.')");
    const headers = { Authorization: `Bearer ${refresh}` };
    assert.equal((await fetch(`${gateway.url}/refresh`, { method: "POST", headers })).status, 401);
  });

  test("a gateway that does not tell the sessions has no such view", async () => {
    await page.goto(gateway.url);
    await logIn();
    for (const answer of [{ status: 404 }, { status: 405 }, { status: 200, body: "<html>" }]) {
      await page.route("**/sessions", (route) => route.fulfill(answer));
      const asked = page.waitForResponse("**/sessions");
      await page.reload();
      await asked;
      await page.waitForSelector("#success:not([hidden])");
      assert.equal(await page.isVisible("#sessions"), false);
      await page.unroute("**/sessions");
    }
  });

  test("the gateway's own list is shown where it has one", async (t) => {
    await page.goto(gateway.url);
    await logIn();
    const { access } = await storedTokens();
    const own = await fetch(`${gateway.url}/sessions`, { headers: { Authorization: `Bearer ${access}` } });
    if (own.status === 404) return t.skip("this gateway has none");
    await page.waitForSelector("#session-list .badge:has-text('This session')");
    assert.equal(await page.locator("#session-list li").count(), (await own.json()).sessions.length);
    await screenshot("sessions");
  });

  test("nothing of the folder is a page but the page, and tools and dotfiles are not served", async () => {
    for (const path of ["/node_modules/axe-core/axe.js", "/.npmrc", "/auth-client/.npmrc", "/tests/screenshots/login.png"]) {
      assert.equal((await fetch(gateway.url + path)).status, 404, path);
    }
    const used = await fetch(`${gateway.url}/auth-client/src/index.js`);
    assert.deepEqual([used.status, used.headers.get("content-type")], [200, "text/javascript; charset=utf-8"]);
    // The examples are for a bundler: their sources do not run where they happen to lie.
    for (const name of ["plain", "react", "vue"]) {
      const example = await context.newPage();
      /** @type {string[]} */
      const errors = [];
      example.on("pageerror", (error) => errors.push(error.message));
      await example.goto(`${gateway.url}/auth-client/examples/${name}/index.html`);
      assert.equal(await example.isVisible("button"), false, name);
      await example.close();
    }
  });

  for (const [what, token] of [["refused", "a.b.c"], ["no tokens at all", "two words"], ["of 40 kB", "x".repeat(40_000)]]) {
    test(`tokens that are ${what} are cleared`, async () => {
      await page.goto(gateway.url);
      await page.evaluate((junk) => {
        localStorage.setItem("access_token", junk);
        localStorage.setItem("refresh_token", junk);
      }, token);
      await page.reload();
      await page.waitForSelector("#login:not([hidden])");
      assert.deepEqual(await storedTokens(), { access: null, refresh: null });
    });
  }

  test("a browser that forbids localStorage can log in until the page is left", async () => {
    await page.addInitScript(() => {
      Object.defineProperty(globalThis, "localStorage", {
        get() {
          throw new DOMException("denied", "SecurityError");
        },
      });
    });
    await page.goto(gateway.url);
    await logIn();
    await page.reload();
    await page.waitForSelector("#login:not([hidden])");
  });

  test("the page works at 320 pixels, in the dark, and without a mouse", async () => {
    await page.emulateMedia({ colorScheme: "dark" });
    await page.setViewportSize({ width: 320, height: 640 });
    await page.goto(gateway.url);
    const overflow = () =>
      page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.equal(await overflow(), 0);
    await screenshot("login-320-dark");
    await page.keyboard.type("alice");
    await page.keyboard.press("Tab");
    await page.keyboard.type(PASSWORD);
    await page.keyboard.press("Enter");
    await page.waitForSelector("#success:not([hidden])");
    assert.equal(await overflow(), 0);
    assert.equal(await focused(), "welcome", "the new view is announced");
    await screenshot("success-320-dark");
    await page.keyboard.press("Tab");
    assert.equal(await focused(), "call");
    const answer = page.waitForResponse("**/protected");
    await page.keyboard.press("Enter");
    await answer;
    await page.waitForSelector("#call:not([aria-disabled])");
    assert.equal(await focused(), "call", "the keyboard keeps its place");
  });

  test("every field has a label and each view one heading", async () => {
    await page.goto(gateway.url);
    // The hidden one tells password managers whose password is changed.
    const unlabelled = await page.$$eval("input", (all) => {
      return all.filter((i) => !i.hidden && i.labels?.length !== 1 && !i.ariaLabel).length;
    });
    assert.equal(unlabelled, 0);
    assert.equal(await page.locator("h1:visible").count(), 1);
    assert.equal(await page.title(), "Log in – auth-gateway");
    await logIn();
    assert.equal(await page.locator("h1:visible").count(), 1);
    assert.equal(await page.title(), "Welcome, alice – auth-gateway");
  });

  test("tokens appear in no address and no title", async () => {
    /** @type {string[]} */
    const addresses = [];
    page.on("request", (request) => addresses.push(request.url()));
    await page.goto(gateway.url);
    await logIn();
    const { access, refresh } = await storedTokens();
    addresses.push(await page.title(), page.url());
    for (const token of [access, refresh]) assert.ok(addresses.every((a) => !a.includes(String(token))));
  });

  test("an outage keeps the tokens, and trying again goes on", async () => {
    await page.goto(gateway.url);
    await logIn();
    const tokens = await storedTokens();
    await gateway.halt();
    await page.click("#call");
    await page.waitForSelector("#success-error:has-text('Cannot reach server.')");
    assert.deepEqual(await storedTokens(), tokens);
    await screenshot("outage");
    await gateway.run();
    await page.click("#call");
    await page.waitForSelector("#success-error", { state: "hidden" });
    await page.route("**/protected", (route) => route.fulfill({ status: 503, body: "{}" }));
    await page.reload();
    await page.waitForSelector("#retry:not([hidden])");
    assert.deepEqual(await storedTokens(), tokens);
    await screenshot("not-available");
    await page.unroute("**/protected");
    await page.click("#retry");
    await page.waitForSelector("#success:not([hidden])");
    await gateway.halt();
    await page.click("#logout");
    await page.waitForSelector("#login:not([hidden])");
    await page.waitForSelector("#flash:has-text('the session could not be ended at the server')");
    assert.deepEqual(await storedTokens(), { access: null, refresh: null });
    await screenshot("logout-untold");
    await gateway.run();
  });
});
