/**
 * The gateway's sign-in pages in a real browser, before an app that knows nothing of tokens.
 * @module
 */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import { createServer } from "node:http";
import { after, before, beforeEach, afterEach, describe, test } from "node:test";

import { SCREENSHOTS, launch } from "./browser.js";
import { Gateway, PASSWORD, until } from "./gateway.js";
import { LOOKS, assertAccessible } from "./looks.js";

/** @typedef {import("playwright-core").Page} Page */

/** A page with all that apps have: a form, a link, images that come late, a WebSocket. @param {string} user */
const appPage = (user) => `<!doctype html><title>App</title><h1>Hello ${user}</h1>
<form method="post" action="/save"><input name="note" value="a note"><button id="save">Save</button></form>
<a id="next" href="/page/2?x=1#part">Next</a>
<script>
  const socket = new WebSocket(location.origin.replace("http", "ws") + "/ws");
  socket.onmessage = (event) => (document.title = event.data);
  socket.onclose = () => (document.title = "closed");
  window.loadImages = (count) => Promise.all(Array.from({ length: count }, (_, i) => new Promise((done) => {
    const image = new Image();
    image.onload = () => done("loaded");
    image.onerror = () => done("failed");
    image.src = "/image/" + i + ".svg?" + Math.random();
  })));
</script>`;

/** A text frame of a server (RFC 6455 section 5.2). @param {string} text */
const frame = (text) => Buffer.concat([Buffer.from([0x81, text.length]), Buffer.from(text)]);

/** The app. It trusts the identity headers and nothing else, and writes down what it was asked to do. */
async function startApp() {
  /** @type {{method: string, path: string, user: string, cookie: string, body: string}[]} */
  const requests = [];
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const piece of request) body += piece;
    const user = String(request.headers["x-auth-user"] ?? "nobody");
    const path = request.url ?? "";
    requests.push({ method: request.method ?? "", path, user, cookie: request.headers.cookie ?? "", body });
    if (path.startsWith("/image/")) {
      response.setHeader("content-type", "image/svg+xml");
      response.end('<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>');
    } else if (path.startsWith("/to?")) {
      response.writeHead(302, { location: decodeURIComponent(path.slice("/to?".length)) });
      response.end();
    } else if (path === "/save") {
      response.setHeader("content-type", "text/html");
      response.end(`<title>Saved</title><p id="saved">${user} saved ${body}</p>`);
    } else {
      response.setHeader("content-type", "text/html");
      response.setHeader("set-cookie", "app=1; Path=/");
      if (path === "/kept") response.setHeader("cache-control", "max-age=600");
      response.end(appPage(user));
    }
  });
  server.on("upgrade", (request, socket) => {
    const key = `${request.headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`;
    const accept = createHash("sha1").update(key).digest("base64");
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
    );
    socket.write(frame(`socket of ${request.headers["x-auth-user"]}`));
    requests.push({ method: "WS", path: request.url ?? "", user: String(request.headers["x-auth-user"]), cookie: request.headers.cookie ?? "", body: "" });
    socket.on("error", () => {});
    socket.on("end", () => socket.end());
  });
  const port = await listen(server);
  return { requests, port, stop: () => (server.closeAllConnections(), server.close()) };
}

/** @param {import("node:http").Server} server */
async function listen(server) {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

/** @param {Page} page @param {string} [user] @param {string} [password] */
async function signIn(page, user = "alice", password = PASSWORD) {
  await page.fill("input[name=username]", user);
  await page.fill("input[name=password]", password);
  await page.click("button[type=submit]");
}

describe("an app behind the sign-in page", () => {
  /** @type {import("playwright-core").Browser} */
  let browser;
  /** @type {import("playwright-core").BrowserContext} */
  let context;
  /** @type {Page} */
  let page;
  /** @type {Gateway} */
  let gateway;
  /** @type {Awaited<ReturnType<typeof startApp>>} */
  let app;

  before(async () => {
    await mkdir(SCREENSHOTS, { recursive: true });
    app = await startApp();
    [browser, gateway] = await Promise.all([
      launch(),
      Gateway.startWith(
        `
[tokens]
access_ttl = "2s"
[lockout]
max_failures = 3
[endpoints]
prefix = "/auth"
[browser]
enabled = true
remember_me = "ask"
[personal_tokens]
enabled = true
[upstreams.app]
urls = ["http://127.0.0.1:${app.port}"]
[[routes]]
path = "/"
upstream = "app"
upgrade = ["websocket"]
[[routes]]
path = "/admin"
upstream = "app"
roles = ["admin"]
`,
        { alice: ["user"], root: ["admin"], mallory: ["user"] },
      ),
    ]);
  });
  after(async () => {
    await browser?.close();
    await gateway?.stop();
    app?.stop();
  });
  beforeEach(async () => {
    context = await browser.newContext();
    page = await context.newPage();
    page.setDefaultTimeout(15_000);
    app.requests.length = 0;
  });
  afterEach(() => context.close());

  const cookie = async (/** @type {string} */ name) =>
    (await context.cookies()).find((cookie) => cookie.name === `auth_gateway_${name}`);

  /** The session of the cookies, which stays the same through refreshes. */
  const session = async () => {
    const payload = (await cookie("refresh"))?.value.split(".")[1] ?? "";
    return String(JSON.parse(Buffer.from(payload, "base64url").toString()).sid);
  };

  test("a deep link leads to the sign-in page and back, and the app works", async () => {
    await page.goto(`${gateway.url}/lab/a%20b?x=1&y=%2F`);
    assert.equal(new URL(page.url()).pathname, "/auth/login");
    assert.equal(await page.title(), "Sign in · Auth Gateway");
    assert.equal(await page.evaluate(() => document.activeElement?.id), "username");
    await signIn(page);
    await page.waitForSelector("h1:has-text('Hello alice')");
    assert.equal(page.url(), `${gateway.url}/lab/a%20b?x=1&y=%2F`);
    await page.waitForFunction("document.title === 'socket of alice'");
    await page.click("#save");
    assert.equal(await page.textContent("#saved"), "alice saved note=a+note");
    assert.ok(app.requests.every((request) => ["", "app=1"].includes(request.cookie)), "no cookie of the gateway's");
    const access = await cookie("access");
    assert.ok(access?.httpOnly && access.sameSite === "Lax" && access.expires === -1, "gone with the browser");
    assert.equal(await page.evaluate(() => document.cookie), "app=1");
  });

  test("a sign-in leads on where the app redirects to another host at once", async () => {
    const other = createServer((request, response) => {
      response.setHeader("content-type", "text/html");
      response.end(`<title>Other</title><h1>${request.url}</h1>`);
    });
    const port = await listen(other);
    try {
      // Another port is another origin, and localhost another host.
      for (const there of [`http://127.0.0.1:${port}/a?x=1`, `http://localhost:${port}/b`]) {
        await context.clearCookies();
        // By way of another page of the app.
        const deep = `/to?${encodeURIComponent(`/to?${encodeURIComponent(there)}`)}`;
        await page.goto(`${gateway.url}${deep}#/part`);
        await signIn(page, "alice", "wrong");
        await signIn(page);
        await page.waitForURL(`${there}#/part`);
        assert.equal(await page.textContent("h1"), new URL(there).pathname + new URL(there).search);
      }
    } finally {
      other.closeAllConnections();
      other.close();
    }
  });

  test("the keyboard alone signs in, and the box keeps the session over the browser's end", async () => {
    await page.goto(`${gateway.url}/`);
    await page.keyboard.type("alice");
    await page.keyboard.press("Tab");
    await page.keyboard.type(PASSWORD);
    await page.keyboard.press("Tab");
    await page.keyboard.press("Space");
    await page.keyboard.press("Enter");
    await page.waitForSelector("h1:has-text('Hello alice')");
    const refresh = await cookie("refresh");
    assert.ok((refresh?.expires ?? 0) > Date.now() / 1000 + 500, "kept");
  });

  test("the access token expires in the middle, under twenty images at once", async () => {
    await page.goto(`${gateway.url}/`);
    await signIn(page);
    await page.waitForSelector("h1:has-text('Hello alice')");
    for (let round = 0; round < 2; round += 1) {
      const before = await cookie("refresh");
      await page.waitForTimeout(2_200);
      const images = await page.evaluate("loadImages(20)");
      assert.deepEqual(new Set(images), new Set(["loaded"]));
      assert.notEqual((await cookie("refresh"))?.value, before?.value);
    }
    await page.waitForTimeout(2_200);
    await page.click("#save");
    assert.equal(await page.textContent("#saved"), "alice saved note=a+note");
  });

  test("a sign-out in another tab ends the WebSocket, and what was open says so", async () => {
    await page.goto(`${gateway.url}/`);
    await signIn(page);
    await page.waitForFunction("document.title === 'socket of alice'");
    const form = await context.newPage();
    await form.goto(`${gateway.url}/form`);
    const other = await context.newPage();
    await other.goto(`${gateway.url}/auth/logout`);
    assert.ok((await other.textContent("main"))?.includes("You are signed in as alice."));
    await other.click("button:has-text('Sign out') >> nth=0");
    await other.waitForSelector("h1:has-text('You are signed out')");
    await page.waitForFunction("document.title === 'closed'");
    assert.deepEqual(await page.evaluate("loadImages(1)"), ["failed"]);
    await form.click("#save");
    assert.equal(await form.textContent("h1"), "Your session has ended");
    assert.ok(!app.requests.some((request) => request.path === "/save"));
    await page.click("#next");
    await page.waitForURL((url) => url.pathname === "/auth/login");
    await signIn(page);
    await page.waitForURL((url) => url.pathname === "/page/2" && url.search === "?x=1" && url.hash === "#part");
  });

  test("no page of the session comes back after the sign-out", async () => {
    await page.goto(`${gateway.url}/kept`);
    await signIn(page);
    await page.waitForSelector("h1:has-text('Hello alice')");
    await page.goto(`${gateway.url}/auth/logout`);
    await page.click("button:has-text('Sign out') >> nth=0");
    await page.waitForSelector("h1:has-text('You are signed out')");
    for (let pages = 0; pages < 3; pages += 1) {
      await page.goBack().catch(() => null);
      assert.ok(!(await page.content()).includes("Hello alice"), page.url());
    }
  });

  test("a missing role is named, and another account gets in", async () => {
    await page.goto(`${gateway.url}/admin/users`);
    await signIn(page);
    await page.waitForSelector("h1:has-text('No access')");
    assert.ok((await page.textContent("main"))?.includes("This page needs the role admin."));
    await page.click("a:has-text('Use another account')");
    await signIn(page, "root");
    await page.waitForSelector("h1:has-text('Hello root')");
    assert.equal(new URL(page.url()).pathname, "/admin/users");
  });

  test("a page of another origin can do nothing with the cookies", async () => {
    await page.goto(`${gateway.url}/`);
    await signIn(page);
    await page.waitForSelector("h1:has-text('Hello alice')");
    // On the same site, for a port makes no other site, so that SameSite does not help.
    const evil = createServer((_, response) => {
      response.setHeader("content-type", "text/html");
      response.end(`<title>evil</title><iframe name="frame" src="${gateway.url}/auth/login"></iframe>
<form id="save" method="post" action="${gateway.url}/save" target="frame"><input name="note" value="evil"></form>
<form id="login" method="post" action="${gateway.url}/auth/login" target="frame2"><input name="username" value="mallory"><input name="password" value="${PASSWORD}"></form>
<iframe name="frame2"></iframe>`);
    });
    const port = await listen(evil);
    try {
      const before = await session();
      app.requests.length = 0;
      const attacker = await context.newPage();
      await attacker.goto(`http://127.0.0.1:${port}/`);
      const outcome = await attacker.evaluate(async (url) => {
        const done = (/** @type {Promise<unknown>} */ work) => work.then(() => "done", () => "failed");
        const posted = await done(fetch(`${url}/save`, { method: "POST", mode: "no-cors", credentials: "include", body: "note=evil" }));
        const read = await done(fetch(`${url}/`, { credentials: "include" }));
        const socket = await new Promise((resolve) => {
          const opened = new WebSocket(`${url.replace("http", "ws")}/ws`);
          opened.onopen = () => resolve("open");
          opened.onerror = () => resolve("refused");
        });
        for (const id of ["save", "login"]) {
          const form = document.getElementById(id);
          if (form instanceof HTMLFormElement) form.submit();
        }
        return { posted, read, socket };
      }, gateway.url);
      await attacker.waitForTimeout(500);
      assert.deepEqual(outcome, { posted: "done", read: "failed", socket: "refused" });
      assert.deepEqual(app.requests.filter((request) => request.method !== "GET"), [], "nothing was changed");
      assert.equal(await session(), before, "no other user was signed in");
    } finally {
      evil.closeAllConnections();
      evil.close();
    }
  });

  test("too many wrong passwords lock, and the page says for how long", async () => {
    await page.goto(`${gateway.url}/`);
    for (let i = 0; i < 3; i += 1) {
      await signIn(page, "mallory", "wrong");
      await page.waitForSelector("[role=alert]:has-text('Invalid username or password.')");
      assert.equal(await page.inputValue("input[name=username]"), "mallory");
      assert.equal(await page.evaluate(() => document.activeElement?.id), "password");
    }
    await signIn(page, "mallory");
    await page.waitForSelector("[role=alert]:has-text('Please try again in 15 minutes (at ')");
  });

  /** How to come to each page. @type {Record<string, (page: Page) => Promise<unknown>>} */
  const VIEWS = {
    "sign-in": (page) => page.goto(`${gateway.url}/deep`),
    "sign-in-failed": (page) => signIn(page, "somebody", "wrong"),
    "sign-in-german": async (page) => {
      await page.setExtraHTTPHeaders({ "accept-language": "de" });
      await page.goto(`${gateway.url}/deep`);
      await page.setExtraHTTPHeaders({});
    },
    "role-missing": async (page) => {
      await page.goto(`${gateway.url}/admin`);
      await signIn(page);
      await page.waitForSelector("h1:has-text('No access')");
    },
    "signed-in": (page) => page.goto(`${gateway.url}/auth/login?return=/deep`),
    tokens: async (page) => {
      await page.goto(`${gateway.url}/auth/tokens`);
      await page.fill("#name", "backup");
      await page.fill("#routes", "/admin");
      await page.click("button:has-text('Make a token')");
      await page.waitForSelector("#token");
    },
    "form-lost": async (page) => {
      await page.goto(`${gateway.url}/form`);
      await page.context().clearCookies();
      await page.click("#save");
      await page.waitForSelector("h1:has-text('Your session has ended')");
    },
    "signed-out": (page) => page.goto(`${gateway.url}/auth/logout`),
  };

  for (const [look, { media, width }] of Object.entries(LOOKS)) {
    test(`every page, ${look}, by axe-core`, async () => {
      await page.close();
      page = await context.newPage();
      await page.setViewportSize({ width, height: 800 });
      await page.emulateMedia({ reducedMotion: "reduce", ...media });
      for (const [view, open] of Object.entries(VIEWS)) {
        await open(page);
        await assertAccessible(page, look, view, 10);
      }
    });
  }
});
