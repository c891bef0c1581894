/**
 * A browser with the page in it, for one test file: a new context for each test, which the browser must have nothing to
 * complain of.
 *
 * @module
 */

import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { after, afterEach, before, beforeEach } from "node:test";

import { SCREENSHOTS, launch } from "./browser.js";
import { PASSWORD } from "./gateway.js";

/** @typedef {import("playwright-core").Page} Page */


/** @type {import("playwright-core").Browser} */
export let browser;
/** @type {import("playwright-core").BrowserContext} */
export let context;
/** @type {Page} */
export let page;
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
export const screenshot = (name) => page.screenshot({ path: `${SCREENSHOTS}${name}.png`, fullPage: true });

/** @param {string} username @param {string} password */
export async function submit(username, password) {
  await page.fill("#username", username);
  await page.fill("#password", password);
  await page.click("#login-button");
}

/** Logs in; again while the gateway is busy, for its hashing threads have the lowest priority. */
export async function logIn(name = "alice") {
  await submit(name, PASSWORD);
  const end = Date.now() + 30_000;
  const outcome = "#success:not([hidden]), #login-failure:not([hidden]) #login-retry:not([hidden])";
  for (;;) {
    const shown = await page.waitForSelector(outcome, { timeout: 30_000 });
    if ((await shown.getAttribute("id")) === "success") return;
    if (Date.now() > end) throw new Error(`no login: ${await page.textContent("#login-error")}`);
    await shown.click();
  }
}

/** @param {string} text */
export const waitForError = (text) => page.waitForSelector(`#login-error:not([hidden]):has-text("${text}")`);

/** @returns {Promise<Record<string, string | null>>} */
export const storedTokens = () =>
  page.evaluate(() => ({
    access: localStorage.getItem("access_token"),
    refresh: localStorage.getItem("refresh_token"),
  }));

/** Another tab of the same browser. */
export async function openTab() {
  const tab = await context.newPage();
  await watch(tab);
  return tab;
}

/**
 * Holds back what all tabs ask of a path, or what they are answered.
 * @param {string} path
 * @param {"request" | "answer"} what
 */
export async function hold(path, what) {
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

export const focused = () => page.evaluate(() => document.activeElement?.id);

/** Counts requests of all tabs from now on. @param {string} path */
export function count(path) {
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
