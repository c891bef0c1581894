/**
 * The page's tokens: their renewal, other tabs, WebSockets.
 * @module
 */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";

import { Gateway, until } from "./gateway.js";
import { count, hold, logIn, openTab, page, screenshot, storedTokens } from "./page.js";

describe("with lifetimes of seconds", () => {
  /** @type {Gateway} */
  let gateway;
  before(async () => void (gateway = await Gateway.start({ accessTtl: "3s", refreshTtl: "30s" })));
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
