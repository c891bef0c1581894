/**
 * What people do for their accounts, in a real browser: the password on the page and on the gateway's own pages, one that
 * has to be changed, and a new one by a link.
 * @module
 */

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { readFile } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { SCREENSHOTS } from "./browser.js";
import { Gateway, PASSWORD, login as requestLogin, until } from "./gateway.js";
import { LOOKS, assertAccessible, assertAccessibleInEveryLook } from "./looks.js";
import { browser, count, focused, hold, logIn, page, storedTokens, submit } from "./page.js";

const SPA = fileURLToPath(new URL("..", import.meta.url));
const NEW = "a violet armadillo";
/** @type {Record<string, string[]>} */
const NAMES = Object.fromEntries("alice bob carol dora erin faye gina hugo ines jack kate".split(" ").map((name) => [name, []]));

/** @type {Gateway} */
let gateway;
before(async () => {
  const config = `password_change = true
[browser]
enabled = true
[mfa]
enabled = true
[[routes]]
path = "/strong"
respond = { status = 200, body = "strong" }
mfa = "required"
[[routes]]
path = "/recent"
respond = { status = 200, body = "recent" }
fresh_within = "5s"
[[routes]]
path = "/app"
respond = { status = 200, body = "the app" }
[[routes]]
path = "/"
static = ${JSON.stringify(SPA)}
access = "public"
`;
  gateway = await Gateway.startWith(config, NAMES);
});
after(() => gateway?.stop());

/** @param {string} username @param {string} password @returns {Promise<{status: number, code: string, access: string}>} */
async function login(username, password) {
  const response = await requestLogin(`${gateway.url}/login`, username, password);
  const { code = "", access_token: access = "" } = await response.json();
  return { status: response.status, code, access };
}

/** The code of a secret in base32 (RFC 6238). @param {string} secret @param {number} ahead in steps of 30 s */
function totp(secret, ahead) {
  const bits = [...secret].map((c) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(c).toString(2).padStart(5, "0")).join("");
  const key = Buffer.from((bits.match(/.{8}/g) ?? []).map((byte) => Number.parseInt(byte, 2)));
  const step = Buffer.alloc(8);
  step.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000) + ahead));
  const tag = createHmac("sha1", key).update(step).digest();
  const number = tag.readUInt32BE((tag[19] ?? 0) & 15) & 0x7fffffff;
  return String(number % 1_000_000).padStart(6, "0");
}

/** Opens the page, with the Trusted Types that the shipped policy asks for. */
async function open() {
  await page.route(`${gateway.url}/`, async (route) => {
    const body = await readFile(`${SPA}/index.html`, "utf8");
    const headers = { "Content-Security-Policy": "require-trusted-types-for 'script'" };
    await route.fulfill({ contentType: "text/html", body, headers });
  });
  await page.route(`${gateway.url}/protected`, (route) => route.fulfill({ json: { message: "Hello" } }));
  await page.goto(gateway.url);
}

/**
 * Sends JSON to the gateway, without the page.
 * @param {string} access
 * @param {string} path
 * @param {object} body
 */
async function post(access, path, body) {
  const headers = { Authorization: `Bearer ${access}`, "Content-Type": "application/json" };
  return (await fetch(gateway.url + path, { method: "POST", headers, body: JSON.stringify(body) })).json();
}

/** Requires another password of a user, and waits until that counts. @param {string} name */
async function requireChange(name) {
  await gateway.command(["users", "require-change", name]);
  await until(async () => (await login(name, PASSWORD)).code === "password_change_required", "it is required");
}

/** Fills in the step of a required change and sends it. @param {string} current @param {string} next @param {string} again */
async function change(current, next, again) {
  await page.fill("#change-current", current);
  await page.fill("#change-new", next);
  await page.fill("#change-repeat", again);
  await page.click("#change-button");
}

/** Sends the code of the second step. @param {string} code */
async function sendCode(code) {
  await page.fill("#code", code);
  await page.click("#code-button");
}

/** @param {string} text */
const codeError = (text) => page.waitForSelector(`#code-failure:not([hidden]) #code-error:has-text("${text}")`);

describe("the page", () => {
  test("an app is set up, asked for at the login, and removed", async () => {
    await open();
    await logIn("erin");
    await page.waitForSelector("#factor-begin:not([hidden])");
    const other = await login("erin", PASSWORD);
    /** @param {string} id @param {string} value @param {string} [button] */
    const enter = async (id, value, button = "") => {
      await page.fill(`#${id}`, value);
      await page.click(`form:has(#${id}) button[type=submit]${button}`);
    };
    /** @param {string} text */
    const factorError = (text) => page.waitForSelector(`#factor-error:not([hidden]):has-text("${text}")`);
    await enter("factor-password", "");
    await factorError("The current password is required.");
    await enter("factor-password", "wrong");
    await factorError("The current password is wrong.");
    assert.equal(await focused(), "factor-password");
    await enter("factor-password", PASSWORD);
    await page.waitForSelector("#factor-confirm:not([hidden])");
    assert.equal(await page.$eval("#factor-qr", (image) => image instanceof HTMLImageElement && image.naturalWidth > 150), true);
    const secret = ((await page.textContent("#factor-secret")) ?? "").replaceAll(" ", "");
    assert.match((await page.getAttribute("#factor-link", "href")) ?? "", new RegExp(`^otpauth://totp/.*secret=${secret}`));
    await enter("factor-first-code", "000000");
    await factorError("wrong");
    await assertAccessibleInEveryLook(page, "enrolment-view", 10);
    await enter("factor-first-code", totp(secret, -1));
    await page.waitForSelector("#recovery:not([hidden])");
    const recovery = await page.$$eval("#recovery-codes li", (all) => all.map((place) => place.textContent ?? ""));
    assert.equal(recovery.length, 10);
    assert.equal(await focused(), "second-factor-title");
    assert.equal(await page.getAttribute("#factor-qr", "src"), null, "the secret does not stay");
    const claims = JSON.parse(
      Buffer.from(((await storedTokens())["access"] ?? "").split(".")[1] ?? "", "base64url").toString(),
    );
    assert.equal(claims.acr, "aal2");
    await assertAccessibleInEveryLook(page, "recovery-view", 10);

    // The next login has a second step.
    await page.click("#logout");
    await submit("erin", PASSWORD);
    await page.waitForSelector("#code-step:not([hidden])");
    assert.deepEqual([await focused(), await page.title()], ["code", "Second step – auth-gateway"]);
    assert.equal(await page.inputValue("#password"), "", "it does not stay in the page");
    await sendCode(" ");
    await codeError("The code is required.");
    await sendCode("000000");
    await codeError("wrong");
    assert.deepEqual([await focused(), await page.inputValue("#code")], ["code", ""]);
    await assertAccessibleInEveryLook(page, "code-view", 10);
    await page.click("#code-cancel");
    await page.waitForSelector("#login:not([hidden])");
    await submit("erin", PASSWORD);
    await page.waitForSelector("#code-step:not([hidden])");
    // An outage in between: the same code is sent again.
    await page.route("**/login/totp", (route) => route.abort("connectionrefused"));
    await sendCode(totp(secret, 0));
    await codeError("Cannot reach server.");
    assert.equal(await focused(), "code-retry");
    await page.unroute("**/login/totp");
    await page.click("#code-retry");
    await page.waitForSelector("#success:not([hidden])");

    // A recovery code in place of the app, as it was printed.
    await page.click("#logout");
    await submit("erin", PASSWORD);
    await page.waitForSelector("#code-step:not([hidden])");
    await page.click("#code-kind");
    assert.deepEqual([await focused(), await page.textContent("#code-label")], ["code", "Recovery code"]);
    await sendCode((recovery[0] ?? "").toLowerCase().replaceAll("-", " "));
    await page.waitForSelector("#factor-manage:not([hidden])");
    assert.match((await page.textContent("#factor-state")) ?? "", /9 recovery codes left/);

    // New recovery codes, and the end of the factor and of other sessions.
    await enter("factor-code", recovery[0] ?? "", "[value=renew]");
    await factorError("wrong");
    await enter("factor-code", recovery[1] ?? "", "[value=renew]");
    await page.waitForSelector("#recovery:not([hidden])");
    const renewed = await page.$$eval("#recovery-codes li", (all) => all.map((place) => place.textContent ?? ""));
    assert.equal(new Set([...recovery, ...renewed]).size, 20);
    await enter("factor-code", renewed[0] ?? "", "[value=remove]");
    await page.waitForSelector("#factor-begin:not([hidden])");
    assert.equal((await fetch(`${gateway.url}/app`, { headers: { Authorization: `Bearer ${other.access}` } })).status, 401);
    assert.equal((await login("erin", PASSWORD)).status, 200);
  });

  test("a route that asks for a second factor or a recent login gets it", async () => {
    await open();
    // The page's call goes to such routes of the real gateway.
    let path = "/strong";
    await page.route(`${gateway.url}/protected`, async (route) => {
      const response = await route.fetch({ url: gateway.url + path });
      await route.fulfill(response.ok() ? { json: { message: "Hello" } } : { response });
    });
    await logIn("gina");
    await page.waitForSelector("#factor-begin:not([hidden])");
    assert.match((await page.textContent("#success-error")) ?? "", /second factor/);
    assert.ok(await page.isHidden("#prove-form"), "there is no code to ask for");
    path = "/recent";
    await until(async () => (await fetchRecent()) === 401, "the login is no longer recent");
    await page.click("#call");
    await page.waitForSelector("#prove-form:not([hidden])");
    assert.deepEqual([await focused(), await page.textContent("#prove-label")], ["prove", "Current password"]);
    await page.click("#prove-form button");
    await page.waitForSelector("#prove-error:has-text('The current password is required.')");
    await page.fill("#prove", "wrong");
    await page.click("#prove-form button");
    await page.waitForSelector("#prove-error:has-text('The current password is wrong.')");
    await assertAccessibleInEveryLook(page, "prove-view", 10);
    await page.fill("#prove", PASSWORD);
    await page.click("#prove-form button");
    await page.waitForSelector("#message:has-text('Hello')");
    assert.ok(await page.isHidden("#prove-form"));

    // With a factor it is a code that is asked for.
    const access = (await storedTokens())["access"] ?? "";
    const { secret } = await post(access, "/mfa/totp", { current_password: PASSWORD });
    await post(access, "/mfa/totp/confirm", { code: totp(secret, -1) });
    path = "/strong";
    await page.click("#call");
    await page.waitForSelector("#prove-form:not([hidden])");
    await page.fill("#prove", totp(secret, 0));
    await page.click("#prove-form button");
    await page.waitForSelector("#message:has-text('Hello')");

    async function fetchRecent() {
      const token = (await storedTokens())["access"] ?? "";
      return (await fetch(`${gateway.url}/recent`, { headers: { Authorization: `Bearer ${token}` } })).status;
    }
  });

  test("too many wrong codes lock the name, and a step that took too long leads back to the login", async () => {
    await open();
    const { access } = await login("faye", PASSWORD);
    const { secret } = await post(access, "/mfa/totp", { current_password: PASSWORD });
    await post(access, "/mfa/totp/confirm", { code: totp(secret, -1) });
    await submit("faye", PASSWORD);
    await page.waitForSelector("#code-step:not([hidden])");
    await page.route("**/login/totp", (route) =>
      route.fulfill({
        status: 401,
        contentType: "application/problem+json",
        json: { code: "mfa_token_expired", message: "The login took too long. Please log in again." },
      }),
    );
    await sendCode("123456");
    await page.waitForSelector("#login:not([hidden])");
    assert.match((await page.textContent("#flash")) ?? "", /took too long/);
    await page.unroute("**/login/totp");
    await submit("faye", PASSWORD);
    await page.waitForSelector("#code-step:not([hidden])");
    for (let wrong = 0; wrong < 5; wrong += 1) {
      await sendCode(`00000${wrong}`);
      await codeError("wrong");
      await page.fill("#code", "");
    }
    await sendCode(totp(secret, 0));
    await codeError("Account temporarily locked. Please try again later. You can try again in");
    await gateway.command(["users", "unlock", "faye"]);
    await sendCode(totp(secret, 0));
    await page.waitForSelector("#success:not([hidden])");
  });

  test("the password is changed, and the page goes on", async () => {
    await open();
    await logIn();
    await page.waitForSelector("#password-change:not([hidden])");
    const other = await login("alice", PASSWORD);
    /** @param {string} current @param {string} next @param {string} again */
    const change = async (current, next, again) => {
      await page.fill("#password-current", current);
      await page.fill("#password-new", next);
      await page.fill("#password-repeat", again);
      await page.click("#password-button");
    };
    /** @param {string} current @param {string} next @param {string} again @param {string} error */
    const refused = async (current, next, again, error) => {
      await change(current, next, again);
      await page.waitForSelector(`#password-error:not([hidden]):has-text("${error}")`);
    };
    await refused("", "", "", "All three passwords are required.");
    await refused(PASSWORD, NEW, "another", "differ");
    await refused("wrong", NEW, NEW, "The current password is wrong.");
    await refused(PASSWORD, "short", "short", "at least 8 characters");
    await assertAccessibleInEveryLook(page, "password-view", 10);
    await change(PASSWORD, NEW, NEW);
    await page.waitForSelector("#password-notice:not([hidden])");
    assert.equal(await page.inputValue("#password-current"), "");
    const [ended, goesOn] = [other.access, await page.evaluate(() => localStorage.getItem("access_token") ?? "")];
    const status = async (/** @type {string} */ token) =>
      (await fetch(`${gateway.url}/app`, { headers: { Authorization: `Bearer ${token}` } })).status;
    assert.deepEqual([await status(ended), await status(goesOn)], [401, 200]);
    assert.equal((await login("alice", PASSWORD)).status, 401);
    assert.equal((await login("alice", NEW)).status, 200);
  });

  test("a password that has to be changed is asked for at the login, and the new one logs in", async () => {
    await requireChange("hugo");
    await open();
    await submit("hugo", PASSWORD);
    await page.waitForSelector("#change-step:not([hidden])");
    assert.deepEqual([await focused(), await page.title()], ["change-current", "Change your password – auth-gateway"]);
    assert.deepEqual([await page.inputValue("#password"), await page.inputValue("#change-username")], ["", "hugo"]);
    assert.ok(await page.isHidden("#change-code-field"), "there is no second factor");
    await assertAccessibleInEveryLook(page, "change-view", 10);
    for (const [current, next, again, error, focus] of /** @type {const} */ ([
      ["", "", "", "All three passwords are required.", "change-current"],
      [PASSWORD, NEW, "another", "differ", "change-repeat"],
      ["wrong", NEW, NEW, "The current password is wrong.", "change-current"],
      [PASSWORD, "short", "short", "at least 8 characters", "change-new"],
      [PASSWORD, "password1", "password1", "common", "change-new"],
      [PASSWORD, PASSWORD, PASSWORD, "is the old one", "change-new"],
    ])) {
      await change(current, next, again);
      await page.waitForSelector(`#change-error:not([hidden]):has-text("${error}")`);
      assert.equal(await focused(), focus, error);
      assert.notEqual(await page.$(`#${focus}[aria-invalid=true]`), null, error);
    }
    await assertAccessibleInEveryLook(page, "change-view-failed", 10);
    // Sent once, however often the key is pressed, and again after an outage.
    const changes = count("/password");
    await page.route("**/password", (route) => route.abort("connectionrefused"));
    await change(PASSWORD, NEW, NEW);
    await page.waitForSelector("#change-error:has-text('Cannot reach server.')");
    assert.equal(await focused(), "change-button");
    await page.unroute("**/password");
    const release = await hold("/password", "answer");
    await page.keyboard.press("Enter");
    await page.waitForSelector("#change-button:disabled");
    await page.focus("#change-new");
    await page.keyboard.press("Enter");
    release();
    await page.waitForSelector("#success:not([hidden])");
    assert.equal(changes.requests, 2);
    assert.equal(await page.textContent("#welcome"), "Welcome, hugo");
    assert.equal(await page.inputValue("#change-new"), "", "it does not stay in the page");
    assert.equal((await login("hugo", PASSWORD)).status, 401);
  });

  test("a required change is left by the way back, and takes a code where a second factor is set up", async () => {
    const { access } = await login("ines", PASSWORD);
    const { secret } = await post(access, "/mfa/totp", { current_password: PASSWORD });
    const { recovery_codes } = await post(access, "/mfa/totp/confirm", { code: totp(secret, -1) });
    await requireChange("ines");
    await open();
    await submit("ines", PASSWORD);
    await page.waitForSelector("#change-step:not([hidden])");
    await page.click("#change-cancel");
    await page.waitForSelector("#login:not([hidden])");
    await submit("ines", PASSWORD);
    await page.waitForSelector("#change-code-field:not([hidden])");
    await change(PASSWORD, NEW, NEW);
    await page.waitForSelector("#change-error:has-text('the code are required')");
    assert.equal(await focused(), "change-code");
    await page.fill("#change-code", "000000");
    await page.click("#change-button");
    await page.waitForSelector("#change-error:has-text('wrong')");
    assert.deepEqual([await focused(), await page.inputValue("#change-code")], ["change-code", ""]);
    // A new password that is refused uses up no code.
    await page.fill("#change-code", recovery_codes[0]);
    await change(PASSWORD, "short", "short");
    await page.waitForSelector("#change-error:has-text('at least 8 characters')");
    await change(PASSWORD, NEW, NEW);
    await page.waitForSelector("#code-step:not([hidden])");
    await sendCode(totp(secret, 0));
    await page.waitForSelector("#success:not([hidden])");
  });
});

/**
 * Fills in the form of one of the gateway's pages and sends it.
 * @param {import("playwright-core").Page} page
 * @param {Record<string, string>} fields by id
 */
async function send(page, fields) {
  for (const [id, value] of Object.entries(fields)) await page.fill(`#${id}`, value);
  await page.click("button[type=submit]");
}

describe("the gateway's pages", () => {
  /** A recovery code that was not used. */
  let jacksCode = "";

  /** A browser without scripts. */
  async function plain() {
    const context = await browser.newContext({ javaScriptEnabled: false });
    return { context, page: await context.newPage() };
  }

  test("a required change leads on to the app, and the account page to another one", async () => {
    await requireChange("bob");
    const { context, page } = await plain();
    try {
      await page.goto(`${gateway.url}/login?return=/app`);
      await send(page, { username: "bob", password: PASSWORD });
      assert.match((await page.textContent("main")) ?? "", /has to be changed/);
      assert.equal(await page.inputValue("#username"), "bob");
      await send(page, { current_password: PASSWORD, new_password: NEW, repeat_password: "another" });
      assert.match((await page.textContent("#error")) ?? "", /repetition differ/);
      await send(page, { current_password: PASSWORD, new_password: NEW, repeat_password: NEW });
      assert.equal(page.url(), `${gateway.url}/app`);
      assert.equal(await page.textContent("body"), "the app");

      await page.goto(`${gateway.url}/login`);
      await page.click("text=Change password");
      await send(page, { current_password: NEW, new_password: `${NEW} again`, repeat_password: `${NEW} again` });
      assert.equal(await page.textContent("h1"), "Password changed");
      await page.goto(`${gateway.url}/app`);
      assert.equal(await page.textContent("body"), "the app", "the session goes on");
    } finally {
      await context.close();
    }
  });

  test("an app is enrolled by its QR code, and the next sign-in takes a code", async () => {
    const { context, page } = await plain();
    let secret = "";
    try {
      await page.goto(`${gateway.url}/strong`);
      await send(page, { username: "dora", password: PASSWORD });
      assert.equal(await page.textContent("h1"), "Set up a second factor");
      await send(page, { current_password: PASSWORD });
      const image = await page.locator("svg").boundingBox();
      assert.ok(image !== null && image.width > 150 && Math.abs(image.width - image.height) < 1, JSON.stringify(image));
      await page.screenshot({ path: `${SCREENSHOTS}enrolment.png`, fullPage: true });
      secret = (await page.textContent("p > code")) ?? "";
      await send(page, { code: totp(secret, -1) });
      assert.equal(await page.textContent("h1"), "Keep your recovery codes");
      await page.click("text=Continue");
      assert.equal(await page.textContent("body"), "strong");
    } finally {
      await context.close();
    }
    const again = await browser.newContext({ bypassCSP: true });
    try {
      const page = await again.newPage();
      await page.goto(`${gateway.url}/login?return=/strong`);
      await send(page, { username: "dora", password: PASSWORD });
      await assertAccessibleInEveryLook(page, "code-page", 5);
      await send(page, { code: "000000" });
      assert.match((await page.textContent("#error")) ?? "", /wrong/);
      await send(page, { code: totp(secret, 0) });
      assert.equal(page.url(), `${gateway.url}/strong`);
      assert.equal(await page.textContent("body"), "strong");
    } finally {
      await again.close();
    }
  });

  test("the fragment of an address is kept through a code, a required change and a new proof", async () => {
    const { access } = await login("jack", PASSWORD);
    const { secret } = await post(access, "/mfa/totp", { current_password: PASSWORD });
    const { recovery_codes } = await post(access, "/mfa/totp/confirm", { code: totp(secret, -1) });
    jacksCode = recovery_codes[2];
    await requireChange("kate");
    const { context, page } = await plain();
    try {
      await page.goto(`${gateway.url}/app?x=1#/page/2`);
      await send(page, { username: "jack", password: "wrong" });
      await send(page, { username: "jack", password: PASSWORD });
      await send(page, { code: "000000" });
      await send(page, { code: recovery_codes[0] });
      assert.equal(page.url(), `${gateway.url}/app?x=1#/page/2`);
      // The proof is not recent any more.
      await until(async () => {
        // The same address again would be no navigation.
        await page.goto(`${gateway.url}/app`);
        await page.goto(`${gateway.url}/recent#part`);
        return (await page.textContent("h1", { timeout: 100 }).catch(() => "")) === "Please confirm that it is you";
      }, "a new proof is asked for");
      await send(page, { code: "000000" });
      await send(page, { code: recovery_codes[1] });
      assert.equal(page.url(), `${gateway.url}/recent#part`);
    } finally {
      await context.close();
    }
    const other = await plain();
    try {
      await other.page.goto(`${gateway.url}/app#/page/3`);
      await send(other.page, { username: "kate", password: PASSWORD });
      await send(other.page, { current_password: PASSWORD, new_password: NEW, repeat_password: "another" });
      await send(other.page, { current_password: PASSWORD, new_password: NEW, repeat_password: NEW });
      assert.equal(other.page.url(), `${gateway.url}/app#/page/3`);
      assert.equal(await other.page.textContent("body"), "the app");
    } finally {
      await other.context.close();
    }
  });

  test("a required change of a user with a second factor takes one code, and signs in", async () => {
    await requireChange("jack");
    const { context, page } = await plain();
    try {
      // Somebody else is signed in here.
      await page.goto(`${gateway.url}/login?return=/app`);
      await send(page, { username: "bob", password: `${NEW} again` });
      await page.goto(`${gateway.url}/login?switch=1&return=/strong`);
      await send(page, { username: "jack", password: PASSWORD });
      assert.match((await page.textContent("main")) ?? "", /has to be changed/);
      const passwords = { current_password: PASSWORD, new_password: NEW, repeat_password: NEW };
      await send(page, { ...passwords, code: "000000" });
      assert.match((await page.textContent("#error")) ?? "", /wrong/);
      await page.screenshot({ path: `${SCREENSHOTS}required-change-code.png`, fullPage: true });
      await send(page, { ...passwords, code: jacksCode });
      assert.equal(page.url(), `${gateway.url}/strong`);
      assert.equal(await page.textContent("body"), "strong", "the session says that a second factor was used");
    } finally {
      await context.close();
    }
  });

  test("a link sets a password once", async () => {
    const link = await gateway.command(["users", "reset", "carol"]);
    const { context, page } = await plain();
    try {
      await page.goto(link);
      assert.equal(await page.inputValue("#username"), "carol");
      await send(page, { new_password: NEW, repeat_password: NEW });
      assert.equal(await page.textContent("h1"), "Password changed");
      assert.equal((await login("carol", NEW)).status, 200);
      const again = await page.goto(link);
      assert.equal(again?.status(), 410);
      assert.match((await page.textContent("main")) ?? "", /was used before/);
    } finally {
      await context.close();
    }
  });

  for (const [look, { media, width }] of Object.entries(LOOKS)) {
    test(`they are accessible: ${look}`, async () => {
      await page.emulateMedia(media);
      await page.setViewportSize({ width, height: 900 });
      await page.goto(`${gateway.url}/password`);
      await send(page, { username: "nobody", current_password: "wrong", new_password: NEW, repeat_password: "another" });
      await page.waitForSelector("#error");
      // Rules run in pages without scripts of their own: axe needs one.
      const context = await browser.newContext({ bypassCSP: true, viewport: { width, height: 900 } });
      const tried = await context.newPage();
      await tried.emulateMedia(media);
      await tried.goto(`${gateway.url}/password`);
      await assertAccessible(tried, look, "password-page", 5);
      await context.close();
    });
  }
});
