/**
 * How pages are looked at: light, dark, with forced colours and at 320 pixels, each by axe-core.
 * @module
 */

import assert from "node:assert/strict";
import axe from "axe-core";

import { SCREENSHOTS } from "./browser.js";

/** @typedef {import("playwright-core").Page} Page */

/** @type {Record<string, {media: Parameters<Page["emulateMedia"]>[0], width: number}>} */
export const LOOKS = {
  light: { media: { colorScheme: "light" }, width: 900 },
  dark: { media: { colorScheme: "dark" }, width: 900 },
  "forced-colours": { media: { colorScheme: "dark", forcedColors: "active" }, width: 900 },
  "320-light": { media: { colorScheme: "light" }, width: 320 },
  "320-dark": { media: { colorScheme: "dark" }, width: 320 },
};

/**
 * Takes a screenshot of a view, and asserts that axe-core finds no violation in it and that nothing is cut off.
 * @param {Page} page
 * @param {string} look
 * @param {string} view
 * @param {number} fewest axe-core passes more rules than this, or it did not look
 */
export async function assertAccessible(page, look, view, fewest) {
  await page.screenshot({ path: `${SCREENSHOTS}${look}-${view}.png`, fullPage: true });
  await page.evaluate(axe.source);
  const { violations, passes } = await page.evaluate(() => Reflect.get(window, "axe").run());
  const found = violations.map((/** @type {import("axe-core").Result} */ violation) => ({
    rule: violation.id,
    nodes: violation.nodes.map((node) => `${node.html} ${node.failureSummary}`),
  }));
  assert.deepEqual(found, [], view);
  assert.ok(passes.length > fewest, "axe looked");
  const overflow = await page.evaluate(
    () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
  );
  assert.equal(overflow, 0, `${view}: nothing is cut off at ${LOOKS[look]?.width} pixels`);
}

/**
 * The same in every look, one after the other.
 * @param {Page} page
 * @param {string} view
 * @param {number} fewest
 */
export async function assertAccessibleInEveryLook(page, view, fewest) {
  for (const [look, { media, width }] of Object.entries(LOOKS)) {
    // What the look before has set stays otherwise.
    await page.emulateMedia({ forcedColors: "none", ...media });
    await page.setViewportSize({ width, height: 900 });
    await assertAccessible(page, look, view, fewest);
  }
}
