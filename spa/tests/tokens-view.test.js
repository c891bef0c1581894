/**
 * Personal access tokens on the page, in a real browser: made, shown once, used by a program, revoked.
 * @module
 */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { Gateway, PASSWORD } from "./gateway.js";
import { assertAccessibleInEveryLook } from "./looks.js";
import { context, logIn, openTab, page } from "./page.js";

/** @type {Gateway} */
let gateway;
before(async () => {
  gateway = await Gateway.start({ more: '[personal_tokens]\nenabled = true\nmax_ttl = "60d"\nmax_per_user = 3\n' });
});
after(() => gateway?.stop());

/** What a program gets. @param {string} token @returns {Promise<{status: number, code: string}>} */
async function use(token) {
  const response = await fetch(`${gateway.url}/protected`, { headers: { Authorization: `Bearer ${token}` } });
  const { code = "" } = await response.json();
  return { status: response.status, code };
}

async function opened() {
  await page.goto(gateway.url);
  await logIn();
  await page.waitForSelector("#tokens:not([hidden])");
}

/** @param {string} name */
async function make(name) {
  await page.fill("#token-name", name);
  await page.click("#token-button");
  await page.waitForSelector("#token-made:not([hidden])");
  return page.inputValue("#token-text");
}

/** @param {string} text */
const waitForError = (text) => page.waitForSelector(`#tokens-error:not([hidden]):has-text(${JSON.stringify(text)})`);

describe("tokens for programs", () => {
  test("one is made with its limits, shown once, used and revoked", async () => {
    await opened();
    await page.uncheck("#token-roles input[value=user]");
    await page.selectOption("#token-lifetime", "30");
    await page.fill("#token-routes", "/protected");
    const token = await make("nightly <b>backup");
    assert.match(token, /^agp_[\w-]{71}$/);
    assert.equal(await page.evaluate(() => document.activeElement?.id), "token-text");
    const item = (await page.textContent("#token-list li")) ?? "";
    for (const part of ["nightly <b>backup", "Expires", "Never used", "Roles: none", "Addresses: /protected"]) {
      assert.ok(item.includes(part), item);
    }
    await context.grantPermissions(["clipboard-read", "clipboard-write"]);
    await page.click("#token-copy");
    await page.waitForSelector("#token-copied:has-text('Copied.')");
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), token);
    assert.equal((await use(token)).status, 200);

    await page.reload();
    await page.waitForSelector("#token-list li:has-text('Last used')");
    assert.ok(await page.isHidden("#token-made"));
    assert.ok(!(await page.content()).includes(token.slice(30)), "shown once");

    await page.click("#token-list button");
    await page.waitForFunction(() => document.querySelector("#token-list li") === null);
    assert.equal(await page.evaluate(() => document.activeElement?.id), "tokens-title");
    assert.deepEqual(await use(token), { status: 401, code: "token_revoked" });
  });

  test("what is refused says why, and a new token is made all the same", async () => {
    await opened();
    await page.click("#token-button");
    await waitForError("The token needs a name.");
    await page.fill("#token-name", "x");
    await page.fill("#token-routes", "/nowhere");
    await page.click("#token-button");
    await waitForError("No route that takes tokens has the path");
    await page.fill("#token-routes", "");
    await page.selectOption("#token-lifetime", "never");
    await page.click("#token-button");
    await waitForError("seconds at most");
    await page.selectOption("#token-lifetime", "");
    for (const name of ["one", "two", "three"]) await make(name);
    await assertAccessibleInEveryLook(page, "tokens-view", 15);
    await page.fill("#token-name", "four");
    await page.click("#token-button");
    await waitForError("as many tokens as one may have");
    assert.ok(await page.isHidden("#token-made"), "the last one is not shown any more");
    await page.click("#logout");
    await page.waitForSelector("#login:not([hidden])");
    assert.equal(await page.inputValue("#token-text"), "");
  });

  test("a token that is shown goes with its user", async () => {
    await opened();
    await page.click("#token-list button");
    await page.waitForFunction(() => document.querySelectorAll("#token-list li").length === 2);
    await make("alice's");
    // Another person logs in, in another tab.
    const tab = await openTab();
    await tab.goto(gateway.url);
    await tab.waitForSelector("#success:not([hidden])");
    await tab.click("#logout");
    await tab.fill("#username", "mona");
    await tab.fill("#password", PASSWORD);
    await tab.click("#login-button");
    await page.waitForSelector("#welcome:has-text('mona')");
    await page.waitForSelector("#tokens:not([hidden])");
    assert.equal(await page.inputValue("#token-text"), "");
    assert.equal(await page.locator("#token-list li").count(), 0);
  });
});
