/**
 * Debian's Chromium, as all tests start it.
 * @module
 */

import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--no-first-run",
];

/** @param {string[]} [more] flags */
export const launch = (more = []) =>
  chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: [...FLAGS, ...more] });

/** Where screenshots go: out of the folder that is served. */
export const SCREENSHOTS = fileURLToPath(new URL("../../target/screenshots/", import.meta.url));
