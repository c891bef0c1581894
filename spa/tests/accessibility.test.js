/**
 * Every view of the page by axe-core: light, dark, with forced colours, and at 320 pixels.
 * @module
 */

import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { after, before, describe, test } from "node:test";

import { SCREENSHOTS, launch } from "./browser.js";
import { Gateway, PASSWORD } from "./gateway.js";
import { LOOKS, assertAccessible } from "./looks.js";

/** @typedef {import("playwright-core").Page} Page */

const SESSIONS = {
  sessions: [
    {
      sid: "a",
      started_at: 1_790_000_000,
      last_refreshed_at: 1_790_000_600,
      address: "203.0.113.7",
      client: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
      current: true,
    },
    { sid: "b", started_at: 1_789_000_000, last_refreshed_at: null, address: "2001:db8::1", client: "curl/8.5.0", current: false },
  ],
};

/** How to come to each view. @type {Record<string, (page: Page) => Promise<void>>} */
const VIEWS = {
  login: async () => {},
  "login-failed": async (page) => {
    await page.fill("#username", "alice");
    await page.fill("#password", "wrong");
    await page.click("#show-password");
    await page.click("#login-button");
    await page.waitForSelector("#login-error:has-text('Invalid')");
  },
  "login-outage": async (page) => {
    await page.route("**/login", (route) => route.abort("connectionrefused"));
    await page.fill("#username", "alice");
    await page.fill("#password", PASSWORD);
    await page.click("#login-button");
    await page.waitForSelector("#login-retry:not([hidden])");
    await page.unroute("**/login");
  },
  success: async (page) => {
    await page.fill("#username", "alice");
    await page.fill("#password", PASSWORD);
    await page.click("#login-button");
    await page.waitForSelector("#success:not([hidden]) #sessions:not([hidden])");
  },
  "call-failed": async (page) => {
    await page.route("**/protected", (route) => route.abort("connectionrefused"));
    await page.click("#call");
    await page.waitForSelector("#success-retry:not([hidden])");
  },
  waiting: async (page) => {
    await page.reload();
    await page.waitForSelector("#retry:not([hidden])");
    await page.unroute("**/protected");
  },
};

describe("the page, view by view", () => {
  /** @type {import("playwright-core").Browser} */
  let browser;
  /** @type {Gateway} */
  let gateway;
  before(async () => {
    await mkdir(SCREENSHOTS, { recursive: true });
    [browser, gateway] = await Promise.all([launch(), Gateway.start()]);
  });
  after(async () => {
    await browser?.close();
    await gateway?.stop();
  });

  for (const [look, { media, width }] of Object.entries(LOOKS)) {
    test(look, async () => {
      const page = await browser.newPage({ viewport: { width, height: 800 } });
      page.setDefaultTimeout(15_000);
      await page.emulateMedia({ reducedMotion: "reduce", ...media });
      // All kinds of sessions at once, whatever the gateway knows.
      await page.route("**/sessions", (route) => route.fulfill({ json: SESSIONS }));
      await page.goto(gateway.url);
      await page.waitForSelector("#login:not([hidden])");
      for (const [view, open] of Object.entries(VIEWS)) {
        await open(page);
        await assertAccessible(page, look, view, 15);
        if (media?.forcedColors === "active") assert.deepEqual(await withoutEdges(page), [], view);
      }
      await page.close();
    });
  }
});

/** What can be seen by its background only, which forced colours take away. @param {Page} page */
const withoutEdges = (page) =>
  page.$$eval(".card, .error, .message, .notice, progress, button, input", (all) =>
    all
      .filter((box) => box instanceof HTMLElement && box.offsetParent !== null && box.offsetHeight > 0)
      .filter((box) => !box.matches(":empty") || box.matches("progress, input"))
      .filter((box) => {
        const { borderTopWidth, borderTopStyle, borderTopColor, backgroundColor } = getComputedStyle(box);
        return borderTopWidth === "0px" || borderTopStyle === "none" || borderTopColor === backgroundColor;
      })
      .map((box) => box.outerHTML.slice(0, 80)),
  );
