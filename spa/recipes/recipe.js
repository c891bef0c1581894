/**
 * One recipe: an app as it is, with nothing but the gateway before it, and a person who uses it in Chromium.
 * @module
 */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { launch } from "../tests/browser.js";
import { Gateway, PASSWORD, freePort, login as requestLogin, until } from "../tests/gateway.js";

/** @typedef {import("playwright-core").Page} Page */
/** @typedef {import("playwright-core").BrowserContext} BrowserContext */

/**
 * What a recipe is given.
 * @typedef {object} Setting
 * @property {string} folder with a copy of `apps/NAME`
 * @property {number} port where the app is to listen
 * @property {(program: string, args: string[], env?: Record<string, string>) => void} run starts a program in that folder, until the end
 */

/**
 * @typedef {object} Recipe
 * @property {string} name
 * @property {import("./install.js").Needs} needs
 * @property {(setting: Setting) => void | Promise<void>} start
 * @property {string} [ready] a path that the app answers once it is there; without one it accepts connections then
 * @property {string} [upstream] further keys of the app's upstream
 * @property {string} [route] further keys of the app's route
 * @property {string} [deepLink] what a person opens first
 * @property {(page: Page, setting: Setting & {url: string}) => Promise<void>} [use] with the session, in the page of the deep link
 * @property {(page: Page) => Promise<void>} [ended] what the page shows once the session is over, without a reload
 * @property {(setting: Setting & {url: string}) => Promise<void>} [program] what programs do, with tokens
 */

/** How long access tokens live, in seconds: long enough for a step, and short enough to expire while the app is used. */
const ACCESS_TTL = 3;

/** @param {number} seconds */
export const sleep = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

/** @param {string} url @param {string} user @returns {Promise<{access_token: string, refresh_token: string}>} */
export async function login(url, user) {
  const response = await requestLogin(`${url}/auth/login`, user);
  assert.equal(response.status, 200);
  return /** @type {any} */ (await response.json());
}

/**
 * Sends the sign-in form; again while the gateway is busy (503), for its hashing threads have the lowest priority.
 * @param {Page} page
 * @param {string} user
 */
async function signIn(page, user) {
  const send = async () => {
    await page.fill("input[name=username]", user);
    await page.fill("input[name=password]", PASSWORD);
    const isAnswer = (/** @type {import("playwright-core").Response} */ response) => response.request().method() === "POST";
    const [response] = await Promise.all([
      page.waitForResponse(isAnswer),
      page.waitForEvent("framenavigated"),
      page.press("input[name=password]", "Enter"),
    ]);
    assert.ok([303, 503].includes(response.status()), `${response.status()}`);
    return response.status() === 303;
  };
  await until(send, `${user} is signed in`, 60);
}

/** @param {Recipe} recipe */
export async function cook(recipe) {
  const folder = await mkdtemp(join(tmpdir(), `auth-gateway-recipe-${recipe.name}-`));
  await cp(fileURLToPath(new URL(`apps/${recipe.name}`, import.meta.url)), folder, { recursive: true });
  /** @type {import("node:child_process").ChildProcess[]} */
  const children = [];
  let log = "";
  const run = (/** @type {string} */ program, /** @type {string[]} */ args, env = {}) => {
    // A group of its own, for some start further processes.
    const child = spawn(program, args, { cwd: folder, env: { ...process.env, ...env }, detached: true });
    child.stdout?.on("data", (data) => (log += data));
    child.stderr?.on("data", (data) => (log += data));
    child.on("error", (error) => (log += `${program}: ${error.message}\n`));
    children.push(child);
    process.once("exit", () => endGroup(child));
  };
  const port = await freePort();
  const setting = { folder, port, run };
  /** @type {Gateway | undefined} */
  let gateway;
  try {
    await recipe.start(setting);
    const app = `http://127.0.0.1:${port}`;
    const { ready } = recipe;
    const isReady = () =>
      ready === undefined ? connects(port) : fetch(app + ready, { redirect: "manual" }).then((r) => r.status < 500, () => false);
    await until(isReady, `${recipe.name} is ready`, 90);
    const config = `
[tokens]
access_ttl = "${ACCESS_TTL}s"
refresh_ttl = "10m"
[endpoints]
prefix = "/auth"
[browser]
enabled = true
[store]
kind = "memory"
[upstreams.app]
urls = ["${app}"]
${recipe.upstream ?? ""}
[[routes]]
path = "/"
upstream = "app"
roles = ["staff"]
upgrade = ["websocket"]
${recipe.route ?? ""}
`;
    gateway = await Gateway.startWith(config, { alice: ["staff", "admin"], mallory: ["guest"] });
    const all = { ...setting, url: gateway.url };
    await recipe.program?.(all);
    if (recipe.deepLink) await visit(recipe, all);
  } catch (error) {
    console.error(`--- the log of ${recipe.name}\n${log.slice(-4000)}`);
    throw error;
  } finally {
    await gateway?.stop();
    children.reverse().forEach(endGroup);
    await Promise.all(children.map((child) => child.exitCode === null && child.signalCode === null && once(child, "exit")));
    await rm(folder, { recursive: true, force: true });
  }
}

/** @param {import("node:child_process").ChildProcess} child */
function endGroup(child) {
  try {
    if (child.pid) process.kill(-child.pid, "SIGKILL");
  } catch {
    // It has ended.
  }
}

/** @param {number} port */
async function connects(port) {
  const socket = connect(port, "127.0.0.1");
  return new Promise((done) => {
    socket.once("connect", () => (socket.destroy(), done(true)));
    socket.once("error", () => done(false));
  });
}

/** @param {Recipe} recipe @param {Setting & {url: string}} setting */
async function visit(recipe, setting) {
  const { deepLink = "/", use, ended } = recipe;
  const browser = await launch();
  try {
    const context = await browser.newContext({ acceptDownloads: true });
    const page = await context.newPage();
    page.setDefaultTimeout(60_000);
    const address = setting.url + deepLink;

    // A deep link leads to the sign-in page, and back to where it led.
    await page.goto(address);
    assert.equal(new URL(page.url()).pathname, "/auth/login");
    await signIn(page, "alice");
    await page.waitForURL((url) => !url.pathname.startsWith("/auth/"));
    assert.equal(page.url().split("#")[0], address.split("#")[0]);
    await use?.(page, setting);

    // The access token expires while the page is open, and the app goes on.
    await sleep(ACCESS_TTL + 1);
    await use?.(page, setting);

    // A sign-out in another tab ends what this one has open, and a reload leads to the sign-in page.
    const other = await context.newPage();
    await other.goto(`${setting.url}/auth/logout`);
    await other.click("form[action='/auth/logout'] button");
    await other.waitForURL("**/auth/logout");
    await ended?.(page);
    await page.goto(address, { waitUntil: "commit" });
    assert.equal(new URL(page.url()).pathname, "/auth/login", "a session that is over leads to the sign-in page");

    // A user without the role is refused by a page that names it.
    const [refused] = await Promise.all([
      page.waitForResponse((response) => response.url().split("#")[0] === address.split("#")[0]),
      signIn(page, "mallory"),
    ]);
    assert.equal(refused.status(), 403);
    assert.match((await page.textContent("main")) ?? "", /staff/);
    await context.close();
  } finally {
    await browser.close();
  }
}
