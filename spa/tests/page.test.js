/**
 * The page in a real browser, in front of the real gateway: logging in and out.
 * @module
 */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { Gateway, PASSWORD, login as requestLogin, until } from "./gateway.js";
import { context, count, focused, hold, logIn, openTab, page, screenshot, storedTokens, submit, waitForError } from "./page.js";

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

  test("nothing that the page asks for fails, and what is off here is not asked for", async () => {
    /** @type {string[]} */
    const failed = [];
    context.on("response", (response) => {
      if (response.status() >= 400) failed.push(`${response.request().method()} ${response.url()}: ${response.status()}`);
    });
    context.on("requestfailed", (request) => failed.push(`${request.url()}: ${request.failure()?.errorText}`));
    context.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) failed.push(message.text());
    });
    await page.goto(gateway.url);
    await logIn();
    await page.waitForSelector("#sessions:not([hidden]) .badge");
    for (const part of ["password-change", "second-factor", "tokens"]) assert.ok(await page.isHidden(`#${part}`), part);
    await page.click("#call");
    await page.reload();
    await page.waitForSelector("#sessions:not([hidden]) .badge");
    await requestLogin(`${gateway.url}/login`, "alice");
    const tab = await openTab();
    await tab.goto(gateway.url);
    await tab.click("#session-list button >> nth=0");
    await tab.waitForSelector("#sessions-title:focus");
    await page.click("#logout");
    await page.waitForSelector("#flash:has-text('You are logged out.')");
    await tab.waitForSelector("#login:not([hidden])");
    await page.goBack().catch(() => null);
    await page.goto(gateway.url);
    await logIn();
    await page.click("#logout-all");
    await page.waitForSelector("#flash:has-text('everywhere')");
    assert.deepEqual(failed, []);
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
