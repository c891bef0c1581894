/**
 * Six tabs whose token runs out at the same moment, again and again, in a real browser and in front of the real gateway
 * in its strictest mode: nobody is signed out, and no refresh token is sent twice.
 *
 * The short form runs in CI; `AUTH_GATEWAY_LONG=1` plays 100 rounds.
 *
 * @module
 */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { Gateway, PASSWORD } from "../../tests/gateway.js";
import { launch } from "../../tests/browser.js";

const ROUNDS = process.env.AUTH_GATEWAY_LONG ? 100 : 8;
const TABS = 6;

/** @type {import("playwright-core").Browser} */
let browser;
/** @type {Gateway} */
let gateway;

before(async () => {
  // A name that is no localhost: over plain http, browsers have no Web Locks there.
  browser = await launch(["--host-resolver-rules=MAP app.test 127.0.0.1"]);
  gateway = await Gateway.start({ accessTtl: "60s", refreshTtl: "2h", rotation: "strict", reuseGrace: "0s" });
});
after(async () => {
  await browser?.close();
  await gateway?.stop();
});

/** @param {string} url */
async function play(url) {
  const context = await browser.newContext();
  context.setDefaultTimeout(60_000);
  /** How often each refresh token was sent. @type {Map<string, number>} */
  const sent = new Map();
  context.on("request", (request) => {
    if (new URL(request.url()).pathname !== "/refresh") return;
    const token = request.headers()["authorization"] ?? "";
    sent.set(token, (sent.get(token) ?? 0) + 1);
  });
  const tabs = await Promise.all(Array.from({ length: TABS }, () => context.newPage()));
  for (const tab of tabs) {
    // Of the same origin, and without a client of its own.
    await tab.goto(`${url}/favicon.svg`);
    await tab.evaluate(async () => {
      const { AuthClient } = await import(/** @type {string} */ ("/auth-client/src/index.js"));
      const client = new AuthClient({ autoRefresh: false });
      Object.assign(window, { client, signedOut: 0 });
      client.addEventListener("signed-out", () => Object.assign(window, { signedOut: Reflect.get(window, "signedOut") + 1 }));
    });
  }
  const hasLocks = await tabs[0].evaluate(() => "locks" in navigator);
  await tabs[0].evaluate((password) => Reflect.get(window, "client").login("alice", password), PASSWORD);
  let [failed, calls] = [0, 0];
  for (let round = 0; round < ROUNDS; round++) {
    // All of them are told at one moment that what they hold is no longer good.
    const start = Date.now() + 150;
    const results = await Promise.all(
      tabs.map((tab) =>
        tab.evaluate(async (at) => {
          const client = Reflect.get(window, "client");
          const held = client.accessToken;
          await new Promise((done) => setTimeout(done, at - Date.now()));
          try {
            const token = await client.refresh(held);
            const response = await client.fetch("/protected");
            return token === held ? "the same token" : response.status;
          } catch (error) {
            return String(error);
          }
        }, start),
      ),
    );
    for (const result of results) {
      calls += 1;
      if (result !== 200) {
        failed += 1;
        console.log(`round ${round}: ${result}`);
      }
    }
  }
  let signedOut = 0;
  for (const tab of tabs) signedOut += await tab.evaluate(() => Reflect.get(window, "signedOut"));
  const resent = [...sent.values()].filter((count) => count > 1).length;
  await context.close();
  console.log(`${ROUNDS} rounds, ${TABS} tabs: ${calls} calls, ${failed} failed, ${signedOut} sign-outs, ` +
    `${sent.size} refresh tokens sent, ${resent} of them more than once`);
  return { hasLocks, failed, signedOut, resent, refreshes: sent.size };
}

describe(`six tabs, ${ROUNDS} rounds, strict rotation without grace`, () => {
  test("with Web Locks", async () => {
    const result = await play(gateway.url);
    assert.equal(result.hasLocks, true);
    assert.deepEqual([result.failed, result.signedOut], [0, 0]);
    assert.ok(result.resent <= ROUNDS / 50, `${result.resent} re-sent`);
    assert.ok(result.refreshes >= ROUNDS / 2, "the rounds were played");
  });

  test("without Web Locks, over plain http", async () => {
    const result = await play(gateway.url.replace("127.0.0.1", "app.test"));
    assert.equal(result.hasLocks, false);
    assert.deepEqual([result.failed, result.signedOut], [0, 0]);
    assert.ok(result.resent <= ROUNDS / 50, `${result.resent} re-sent`);
  });
});
