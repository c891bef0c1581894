/**
 * The page in a real browser, in front of the real gateway.
 * @module
 */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import { createServer } from "node:http";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";

import { SCREENSHOTS, launch } from "./browser.js";
import { Gateway, PASSWORD, until } from "./gateway.js";

/** @typedef {import("playwright-core").Page} Page */


/** @type {import("playwright-core").Browser} */
let browser;
/** @type {import("playwright-core").BrowserContext} */
let context;
/** @type {Page} */
let page;
/** What the browser complained of, but for the answers that tests provoke. @type {string[]} */
let complaints = [];

/** @param {Page} watched */
async function watch(watched) {
  await watched.addInitScript(() =>
    addEventListener("securitypolicyviolation", (e) => console.error(`CSP: ${e.violatedDirective} ${e.blockedURI}`)),
  );
  watched.on("pageerror", (error) => complaints.push(`error: ${error.message}`));
  watched.on("console", (message) => {
    const expected = /Failed to load resource/.test(message.text());
    if (["error", "warning"].includes(message.type()) && !expected) complaints.push(message.text());
  });
}

/** @param {string} name */
const screenshot = (name) => page.screenshot({ path: `${SCREENSHOTS}${name}.png`, fullPage: true });

/** @param {string} username @param {string} password */
async function submit(username, password) {
  await page.fill("#username", username);
  await page.fill("#password", password);
  await page.click("#login-button");
}

async function logIn(name = "alice") {
  await submit(name, PASSWORD);
  await page.waitForSelector("#success:not([hidden])");
}

/** @param {string} text */
const waitForError = (text) => page.waitForSelector(`#login-error:not([hidden]):has-text("${text}")`);

/** @returns {Promise<Record<string, string | null>>} */
const storedTokens = () =>
  page.evaluate(() => ({
    access: localStorage.getItem("access_token"),
    refresh: localStorage.getItem("refresh_token"),
  }));

/** Another tab of the same browser. */
async function openTab() {
  const tab = await context.newPage();
  await watch(tab);
  return tab;
}

/**
 * Holds back what all tabs ask of a path, or what they are answered.
 * @param {string} path
 * @param {"request" | "answer"} what
 */
async function hold(path, what) {
  /** @type {() => void} */
  let release = () => {};
  const released = new Promise((done) => (release = () => done(undefined)));
  await context.route(`**${path}`, async (route) => {
    const response = what === "answer" ? await route.fetch() : null;
    await released;
    await (response ? route.fulfill({ response }) : route.continue());
  });
  return release;
}

const focused = () => page.evaluate(() => document.activeElement?.id);

/** Counts requests of all tabs from now on. @param {string} path */
function count(path) {
  const counter = { requests: 0 };
  context.on("request", (request) => {
    if (new URL(request.url()).pathname === path) counter.requests += 1;
  });
  return counter;
}

before(async () => {
  await mkdir(SCREENSHOTS, { recursive: true });
  browser = await launch();
});

after(() => browser?.close());

beforeEach(async () => {
  complaints = [];
  context = await browser.newContext({ viewport: { width: 900, height: 800 } });
  context.setDefaultTimeout(10_000);
  page = await context.newPage();
  await watch(page);
});

afterEach(async () => {
  await context.close();
  assert.deepEqual(complaints, [], "the browser has nothing to complain of");
});

describe("with the default lifetimes", () => {
  /** @type {Gateway} */
  let gateway;
  before(async () => void (gateway = await Gateway.start()));
  after(() => gateway?.stop());

  test("login shows who it is and what the token says, and the remaining time counts down", async () => {
    await page.goto(gateway.url);
    await screenshot("login");
    await logIn();
    assert.equal(await page.textContent("#welcome"), "Welcome, alice");
    assert.equal(await page.textContent("#message"), "Hello alice, welcome to the protected page.");
    assert.equal(await page.textContent("#token-type"), "access");
    assert.equal(await page.textContent("#subject"), "1");
    const times = await page.$$eval("time", (all) => all.map((time) => Date.parse(time.dateTime)));
    assert.equal(times[1] - times[0], 60_000);
    const remaining = () => page.$eval("#remaining", (e) => Number.parseInt(e.textContent || "", 10));
    const first = await remaining();
    assert.ok(first > 50 && first <= 60, `${first} s`);
    await until(async () => (await remaining()) < first, "the countdown moves");
    await screenshot("success");
  });

  test("both fields are required", async () => {
    await page.goto(gateway.url);
    const logins = count("/login");
    await page.click("#login-button");
    await waitForError("Both username and password are required.");
    await submit("alice", "");
    await waitForError("Both username and password are required.");
    assert.equal(await focused(), "password");
    await submit("  ", "x");
    await waitForError("Both username and password are required.");
    assert.equal(await focused(), "username");
    const invalid = await page.$$eval("[aria-invalid=true]", (all) => all.map((field) => field.id));
    assert.deepEqual(invalid, ["username"]);
    assert.equal(logins.requests, 0);
    await screenshot("required");
  });

  test("a login under way is not sent twice", async () => {
    await page.goto(gateway.url);
    const logins = count("/login");
    const release = await hold("/login", "answer");
    await submit("alice", PASSWORD);
    await page.waitForSelector("#login-button:disabled:has-text('Logging in …')");
    await page.focus("#username");
    await page.keyboard.press("Enter");
    await screenshot("busy");
    release();
    await page.waitForSelector("#success:not([hidden])");
    assert.equal(logins.requests, 1);
  });

  test("a wrong password says so and empties the field", async () => {
    await page.goto(gateway.url);
    await submit("alice", "wrong");
    await waitForError("Invalid username or password.");
    assert.equal(await page.inputValue("#password"), "");
    assert.equal(await focused(), "password");
    await screenshot("wrong-password");
  });

  test("a locked account says so and when to come back", async () => {
    await page.goto(gateway.url);
    for (let i = 0; i < 5; i++) {
      await submit("mallory", "wrong");
      await waitForError("Invalid username or password.");
      await page.$eval("#login-error", (e) => (e.textContent = ""));
    }
    await submit("mallory", PASSWORD);
    await waitForError("Account temporarily locked. Please try again later.");
    assert.match((await page.textContent("#login-error")) || "", /You can try again in 15 minutes, (at|on) /);
    await screenshot("locked");
  });

  test("other refusals are shown in the gateway's words, and without any as unexpected", async () => {
    await page.goto(gateway.url);
    await submit("alice", "x".repeat(2000));
    await waitForError("The request is malformed.");
    await page.route("**/login", (route) => route.fulfill({ status: 500, body: "<html>" }));
    await submit("alice", PASSWORD);
    await waitForError("An unexpected error occurred.");
    await page.unroute("**/login");
    await page.route("**/login", (route) => route.fulfill({ status: 200, body: "<html>a portal</html>" }));
    await submit("alice", PASSWORD);
    await waitForError("An unexpected error occurred.");
    assert.deepEqual(await storedTokens(), { access: null, refresh: null });
  });

  test("no answer is told as such", async () => {
    await page.goto(gateway.url);
    await page.route("**/login", (route) => route.abort("connectionrefused"));
    await submit("alice", PASSWORD);
    await waitForError("Cannot reach server.");
    await screenshot("unreachable");
    await page.unroute("**/login");
    assert.equal(await focused(), "login-retry", "what was typed is still there");
    await page.keyboard.press("Enter");
    await page.waitForSelector("#success:not([hidden])");
  });

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

  test("who is signed in stays so over a reload", async () => {
    await page.goto(gateway.url);
    await logIn();
    await page.reload();
    await page.waitForSelector("#success:not([hidden])");
    assert.equal(await page.textContent("#welcome"), "Welcome, alice");
  });

  test("who holds only a good refresh token goes straight in", async () => {
    await page.goto(gateway.url);
    await logIn();
    await page.evaluate(() => localStorage.removeItem("access_token"));
    await page.reload();
    await page.waitForSelector("#success:not([hidden])");
    assert.ok((await storedTokens()).access);
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

  test("a lock of a day is told in hours, and with the day", async () => {
    await page.goto(gateway.url);
    await page.route("**/login", (route) =>
      route.fulfill({ status: 403, headers: { "Retry-After": "86400" }, json: { code: "account_locked" } }),
    );
    await submit("alice", PASSWORD);
    await waitForError("You can try again in 24 hours, on ");
  });

  test("logout ends the session at the server, too", async () => {
    await page.goto(gateway.url);
    await logIn();
    const { access, refresh } = await storedTokens();
    await page.click("#logout");
    await page.waitForSelector("#login:not([hidden])");
    await page.waitForSelector("#flash:has-text('You are logged out.')");
    assert.deepEqual(await storedTokens(), { access: null, refresh: null });
    const ask = (/** @type {string} */ path, /** @type {string | null} */ token, method = "GET") =>
      fetch(gateway.url + path, { method, headers: { Authorization: `Bearer ${token}` } });
    assert.equal((await ask("/protected", access)).status, 401);
    assert.equal((await ask("/refresh", refresh, "POST")).status, 401);
  });

  test("a login and a logout in one tab are one in all", async () => {
    const other = await openTab();
    await other.goto(gateway.url);
    await page.goto(gateway.url);
    await logIn();
    await other.waitForSelector("#success:not([hidden])");
    await page.click("#logout");
    await other.waitForSelector("#login:not([hidden])");
    await submit("mona", PASSWORD);
    await other.waitForSelector("#success:not([hidden])");
    assert.equal(await other.textContent("#welcome"), "Welcome, mona");
  });

  test("an answer that comes after the logout is not shown", async () => {
    await page.goto(gateway.url);
    await logIn();
    const release = await hold("/protected", "answer");
    await page.click("#call");
    await page.click("#logout");
    await page.waitForSelector("#flash:has-text('You are logged out.')");
    const answered = page.waitForResponse("**/protected");
    release();
    await (await answered).finished();
    assert.equal(await page.isVisible("#login"), true);
    assert.equal(await page.textContent("#flash"), "You are logged out.");
  });

  test("an upstream that refuses for reasons of its own ends no session", async () => {
    await page.goto(gateway.url);
    await logIn();
    const tokens = await storedTokens();
    await page.route("**/protected", (route) => route.fulfill({ status: 401, body: '{"message":"Not on Mondays."}' }));
    await page.click("#call");
    await page.waitForSelector("#success-error:has-text('Not on Mondays.')");
    assert.deepEqual(await storedTokens(), tokens);
  });

  test("the remaining time is the server's, however wrong the clock here is", async () => {
    await page.addInitScript(() => {
      const now = Date.now;
      Date.now = () => now() + 3_600_000;
    });
    await page.goto(gateway.url);
    await logIn();
    await page.reload();
    await page.waitForSelector("#success:not([hidden])");
    const remaining = Number.parseInt((await page.textContent("#remaining")) || "", 10);
    assert.ok(remaining > 45 && remaining <= 61, `${remaining} s`);
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
    const unlabelled = await page.$$eval("input", (all) => all.filter((i) => i.labels?.length !== 1).length);
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

describe("with lifetimes of seconds", () => {
  /** @type {Gateway} */
  let gateway;
  before(async () => void (gateway = await Gateway.start({ accessTtl: "2s", refreshTtl: "30s" })));
  after(() => gateway?.stop());

  const expiry = () => page.waitForSelector("#remaining.expired");

  test("an expired token is renewed with the next call, and the page follows", async () => {
    await page.goto(gateway.url);
    await logIn();
    const before = await storedTokens();
    const expires = await page.getAttribute("#expires-at", "datetime");
    await expiry();
    const refreshes = count("/refresh");
    await page.click("#call");
    await page.waitForSelector("#remaining:not(.expired)");
    assert.equal(refreshes.requests, 1);
    const now = await storedTokens();
    assert.notEqual(now.access, before.access);
    assert.notEqual(now.refresh, before.refresh);
    assert.notEqual(await page.getAttribute("#expires-at", "datetime"), expires);
  });

  test("two requests that fail together cause one refresh", async () => {
    await page.goto(gateway.url);
    await logIn();
    await expiry();
    const refreshes = count("/refresh");
    const statuses = await page.evaluate(async () => {
      const { AuthClient } = await import(/** @type {string} */ ("/auth-client/src/index.js"));
      const session = new AuthClient();
      const answers = await Promise.all([1, 2, 3].map(() => session.fetch("/protected")));
      return answers.map((/** @type {Response} */ answer) => answer.status);
    });
    assert.deepEqual(statuses, [200, 200, 200]);
    assert.equal(refreshes.requests, 1);
  });

  test("two tabs whose tokens expire together go on with one refresh", async () => {
    await page.goto(gateway.url);
    await logIn();
    const other = await openTab();
    await other.goto(gateway.url);
    await other.waitForSelector("#success:not([hidden])");
    await expiry();
    const refreshes = count("/refresh");
    // Until both tabs want one.
    const release = await hold("/refresh", "request");
    await Promise.all([page.click("#call"), other.click("#call")]);
    await Promise.all([page, other].map((tab) => tab.waitForSelector("#call[aria-disabled]")));
    release();
    for (const tab of [page, other]) await tab.waitForSelector("#remaining:not(.expired)");
    assert.equal(refreshes.requests, 1);
  });

  test("a tab shows the token that another one got", async () => {
    await page.goto(gateway.url);
    await logIn();
    const other = await openTab();
    await other.goto(gateway.url);
    await other.waitForSelector("#success:not([hidden])");
    await other.waitForSelector("#remaining.expired");
    await screenshot("expired");
    const calls = count("/protected");
    const expires = await other.getAttribute("#expires-at", "datetime");
    await page.click("#call");
    await until(async () => (await other.getAttribute("#expires-at", "datetime")) !== expires, "the other tab follows");
    assert.ok(calls.requests <= 2, "which costs it no request");
  });

  test("a refused refresh clears the tokens and shows the login page", async () => {
    await page.goto(gateway.url);
    await logIn();
    const { refresh } = await storedTokens();
    const headers = { Authorization: `Bearer ${refresh}` };
    assert.equal((await fetch(`${gateway.url}/logout`, { method: "POST", headers })).status, 204);
    await page.click("#call");
    await page.waitForSelector("#login:not([hidden])");
    await page.waitForSelector("#flash:has-text('Your session has ended.')");
    assert.deepEqual(await storedTokens(), { access: null, refresh: null });
  });

  test("a gateway that refuses everything is asked once more and no further", async () => {
    await page.goto(gateway.url);
    await logIn();
    const [calls, refreshes] = [count("/protected"), count("/refresh")];
    await page.route("**/protected", (route) =>
      route.fulfill({ status: 401, headers: { "WWW-Authenticate": 'Bearer error="invalid_token"' }, body: "{}" }),
    );
    await page.click("#call");
    await page.waitForSelector("#login:not([hidden])");
    assert.deepEqual([calls.requests, refreshes.requests], [2, 1]);
  });
});

describe("a WebSocket of the page", () => {
  /** @type {Gateway} */
  let gateway;
  /** An app that sends every short text back. */
  const app = createServer().on("upgrade", (request, socket) => {
    const key = `${request.headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`;
    const accept = createHash("sha1").update(key).digest("base64");
    const head = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"];
    socket.write([...head, `Sec-WebSocket-Accept: ${accept}`, "", ""].join("\r\n"));
    socket.on("error", () => {});
    socket.on("data", (/** @type {Buffer} */ frame) => {
      const length = frame[1] & 0x7f;
      const text = frame.subarray(6, 6 + length).map((byte, i) => byte ^ frame[2 + (i % 4)]);
      socket.write(Buffer.concat([Buffer.from([0x81, length]), text]));
    });
  });
  before(async () => {
    await once(app.listen(0, "127.0.0.1"), "listening");
    const address = app.address();
    if (address === null || typeof address === "string") throw new Error("no port");
    const more = `
[upstreams.echo]
urls = ["http://127.0.0.1:${address.port}"]
[[routes]]
path = "/echo"
upstream = "echo"
upgrade = ["websocket"]
token_in_subprotocol = true
`;
    gateway = await Gateway.start({ more });
  });
  after(async () => {
    await gateway.stop();
    app.close();
  });

  test("is opened with the token of the page and ends with the session", async () => {
    await page.goto(gateway.url);
    await logIn();
    const told = await page.evaluate(async () => {
      const { AuthClient } = await import(/** @type {string} */ ("/auth-client/src/index.js"));
      /** @type {WebSocket} */
      const socket = await new AuthClient().webSocket("/echo");
      const ended = new Promise((done) => (socket.onclose = done));
      await new Promise((done, failed) => {
        socket.onopen = done;
        socket.onerror = () => failed(new Error("not opened"));
      });
      const answered = new Promise((done) => (socket.onmessage = (message) => done(message.data)));
      socket.send("hello");
      Object.assign(window, { ended });
      return [socket.protocol, await answered];
    });
    assert.deepEqual(told, ["bearer", "hello"]);
    await page.click("#logout");
    await page.evaluate(() => Reflect.get(window, "ended"));
  });
});
