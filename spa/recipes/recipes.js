/**
 * What each app needs, and what a person does with it.
 * @module
 */

import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { userInfo } from "node:os";
import { dirname, join } from "node:path";

import { until } from "../tests/gateway.js";
import { NODE_MODULES, PYTHON } from "./install.js";
import { login, sleep } from "./recipe.js";

const inVenv = (/** @type {string} */ program) => join(dirname(PYTHON), program);

/** @param {import("playwright-core").Page} page @param {string} selector @param {RegExp} text */
const shows = (page, selector, text) =>
  page.waitForFunction(
    ([selector, source]) => new RegExp(source).test(document.querySelector(selector)?.textContent ?? ""),
    /** @type {[string, string]} */ ([selector, text.source]),
  );

/** @param {import("playwright-core").Page} page @param {() => Promise<unknown>} action */
async function downloaded(page, action) {
  const [download] = await Promise.all([page.waitForEvent("download"), action()]);
  return readFileSync(await download.path(), "utf8");
}

let rounds = 0;

/** @type {import("./recipe.js").Recipe[]} */
export const RECIPES = [
  {
    name: "jupyterlab",
    needs: { python: ["jupyterlab"] },
    ready: "/api",
    deepLink: "/lab/tree/notes.ipynb",
    start({ folder, port, run }) {
      const cell = { cell_type: "code", execution_count: null, id: "a", metadata: {}, outputs: [], source: "print(6 * 7)" };
      const kernel = { display_name: "Python 3", language: "python", name: "python3" };
      const notebook = { cells: [cell], metadata: { kernelspec: kernel }, nbformat: 4, nbformat_minor: 5 };
      mkdirSync(join(folder, "files"));
      writeFileSync(join(folder, "files/notes.ipynb"), JSON.stringify(notebook));
      writeFileSync(join(folder, "files/data.txt"), "some data");
      const env = { HOME: folder, JUPYTER_CONFIG_DIR: folder, PATH: `${dirname(PYTHON)}:${process.env.PATH}` };
      run(inVenv("jupyter"), ["lab", `--ServerApp.port=${port}`, `--ServerApp.root_dir=${folder}/files`, "--allow-root"], env);
    },
    async use(page, { url }) {
      // Before the notebook is what was uploaded last: JupyterLab opens that.
      await page.locator(".lm-DockPanel-tabBar .lm-TabBar-tab", { hasText: "notes.ipynb" }).click();
      const runs = async () => Number(/\d+/.exec((await page.locator(".jp-InputPrompt").first().textContent()) ?? "") ?? 0);
      const before = await runs();
      // The kernel speaks by a WebSocket. Until it is there, JupyterLab runs nothing.
      const run = async () => {
        await page.locator(".jp-CodeCell .cm-content").first().click();
        await page.keyboard.press("Shift+Enter");
        await sleep(2);
        return (await runs()) > before;
      };
      await until(run, "the cell has run", 60);
      await page.locator(".jp-OutputArea-output", { hasText: "42" }).first().waitFor();
      await page.keyboard.press("Control+s");
      const name = `up${++rounds}.txt`;
      const [chooser] = await Promise.all([
        page.waitForEvent("filechooser"),
        page.locator("[data-command='filebrowser:upload'], [title^='Upload Files']").first().click(),
      ]);
      await chooser.setFiles({ name, mimeType: "text/plain", buffer: Buffer.from("uploaded") });
      await page.locator(".jp-DirListing-item", { hasText: name }).waitFor();
      const text = await page.evaluate((path) => fetch(path).then((r) => r.text()), `/files/${name}?download=1`);
      assert.equal(text, "uploaded");
      const me = await page.evaluate(() => fetch("/api/me").then((r) => r.json()));
      assert.equal(me.identity.username, "alice", url);
    },
  },
  {
    name: "django",
    needs: { python: ["django"] },
    ready: "/",
    deepLink: "/admin/auth/group/?q=x",
    start({ folder, port, run }) {
      const env = { DJANGO_SECRET_KEY: "for the recipe only", DJANGO_DATABASE: join(folder, "db.sqlite3") };
      execFileSync(PYTHON, ["app.py", "migrate"], { cwd: folder, env: { ...process.env, ...env }, stdio: "ignore" });
      run(PYTHON, ["app.py", "runserver", "--noreload", String(port)], env);
    },
    async use(page, { url }) {
      await page.goto(`${url}/admin/auth/group/add/`);
      await shows(page, "#user-tools", /alice/i);
      await page.fill("input[name=name]", `group ${++rounds}`);
      await page.click("input[name=_save]");
      await shows(page, ".messagelist", /was added successfully/);
    },
  },
  {
    name: "flask",
    needs: { python: ["flask", "gunicorn"] },
    ready: "/",
    deepLink: "/notes?from=mail",
    start({ port, run }) {
      run(inVenv("gunicorn"), ["--bind", `127.0.0.1:${port}`, "--threads", "8", "app:app"]);
    },
    async use(page) {
      const text = `note ${++rounds}`;
      await page.fill("input[name=text]", text);
      await page.setInputFiles("input[name=file]", { name: "a.txt", mimeType: "text/plain", buffer: Buffer.from("attached") });
      await page.click("button");
      await shows(page, "ul", new RegExp(`alice: ${text} attached`));
      assert.equal(await downloaded(page, () => page.click("text=Download")), `alice: ${text} attached`);
    },
  },
  {
    name: "fastapi",
    needs: { python: ["fastapi", "uvicorn[standard]", "python-multipart"] },
    ready: "/docs",
    deepLink: "/board?tab=2",
    start({ port, run }) {
      run(inVenv("uvicorn"), ["app:app", "--host", "127.0.0.1", "--port", String(port), "--forwarded-allow-ips", "127.0.0.1"]);
    },
    async use(page) {
      await shows(page, "#events", /event \d+ for alice/);
      await shows(page, "#socket", /alice said hello/);
      const sent = await page.evaluate(async () => {
        const form = new FormData();
        form.append("file", new Blob(["x".repeat(100_000)]), "a.bin");
        return (await fetch("/upload", { method: "POST", body: form })).json();
      });
      assert.deepEqual(sent, { user: "alice", bytes: 100_000 });
    },
    async ended(page) {
      await shows(page, "#socket", /socket closed/);
      await shows(page, "#events", /events ended/);
    },
  },
  {
    name: "express",
    needs: { npm: ["express", "socket.io"] },
    ready: "/chat/room",
    deepLink: "/chat/room?name=lobby",
    start({ folder, port, run }) {
      symlinkSync(NODE_MODULES, join(folder, "node_modules"));
      run(process.execPath, ["server.js", String(port)]);
    },
    async use(page, { url }) {
      await shows(page, "#state", /connected by websocket/);
      const text = `message ${++rounds}`;
      await page.fill("#text", text);
      await page.press("#text", "Enter");
      await shows(page, "#messages", new RegExp(`alice: ${text}`));
      const form = new URLSearchParams({ name: "Alice" });
      const saved = await page.evaluate((body) => fetch("/name", { method: "POST", body: new URLSearchParams(body) }).then((r) => r.text()), form.toString());
      assert.equal(saved, `alice is Alice at ${url}`);
    },
    ended: async (page) => void (await shows(page, "#state", /disconnected/)),
  },
  {
    name: "vite",
    needs: { npm: ["vite"] },
    ready: "/",
    deepLink: "/?deep=1",
    start({ folder, port, run }) {
      symlinkSync(NODE_MODULES, join(folder, "node_modules"));
      run(process.execPath, [join(NODE_MODULES, "vite/bin/vite.js"), "--port", String(port)]);
    },
    async use(page, { folder }) {
      const text = `text ${++rounds}`;
      await page.waitForFunction(() => (document.querySelector("#text")?.textContent ?? "") !== "");
      const before = await page.evaluate(() => /** @type {any} */ (window).loadedAt);
      // Vite's client has to have its WebSocket before a change reaches it.
      await sleep(1);
      writeFileSync(join(folder, "text.js"), `export const text = "${text}";\n`);
      await shows(page, "#text", new RegExp(text));
      assert.equal(await page.evaluate(() => /** @type {any} */ (window).loadedAt), before, "replaced without a reload");
    },
  },
  {
    name: "node-red",
    needs: { npm: ["node-red"] },
    ready: "/settings",
    deepLink: "/?first=1",
    start({ folder, port, run }) {
      const flow = [
        { id: "tab", type: "tab", label: "Flow" },
        { id: "in", type: "http in", z: "tab", url: "/who", method: "post", upload: false, wires: [["fn"]], x: 100, y: 80 },
        { id: "fn", type: "function", z: "tab", func: 'msg.payload = msg.req.headers["x-auth-user"] + " sent " + msg.payload.text;\nreturn msg;', outputs: 1, wires: [["out"]], x: 300, y: 80 },
        { id: "out", type: "http response", z: "tab", wires: [], x: 500, y: 80 },
      ];
      writeFileSync(join(folder, "flows.json"), JSON.stringify(flow));
      const env = { PORT: String(port), NODE_RED_USER_DIR: folder };
      run(process.execPath, [join(NODE_MODULES, "node-red/red.js"), "--settings", join(folder, "settings.js")], env);
    },
    async use(page) {
      await page.locator("#red-ui-workspace").waitFor();
      // The editor's own WebSocket.
      const opened = await page.evaluate(
        () =>
          new Promise((done) => {
            const socket = new WebSocket(location.origin.replace("http", "ws") + "/comms");
            socket.onopen = () => done("open");
            socket.onerror = () => done("failed");
          }),
      );
      assert.equal(opened, "open");
      const answer = await page.evaluate(() =>
        fetch("/who", { method: "POST", headers: { "content-type": "application/json" }, body: '{"text":"this"}' }).then((r) => r.text()),
      );
      assert.equal(answer, "alice sent this");
      const deployed = await page.evaluate(async () => {
        const flows = await fetch("/flows", { headers: { "Node-RED-API-Version": "v2" } }).then((r) => r.json());
        const headers = { "content-type": "application/json", "Node-RED-API-Version": "v2", "Node-RED-Deployment-Type": "full" };
        return (await fetch("/flows", { method: "POST", headers, body: JSON.stringify(flows) })).status;
      });
      assert.equal(deployed, 200);
    },
  },
  {
    name: "wsgidav",
    needs: { python: ["wsgidav", "cheroot"] },
    ready: "/",
    route: 'methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK"]\n',
    deepLink: "/docs/",
    start({ folder, port, run }) {
      mkdirSync(join(folder, "files/docs"), { recursive: true });
      const config = readFileSync(join(folder, "wsgidav.yaml"), "utf8").replace("${folder}", join(folder, "files"));
      writeFileSync(join(folder, "wsgidav.yaml"), config);
      run(inVenv("wsgidav"), ["--config", join(folder, "wsgidav.yaml"), "--port", String(port)]);
    },
    async program({ url, folder }) {
      const { access_token: token } = await login(url, "alice");
      const curl = (/** @type {string[]} */ ...args) =>
        execFileSync("curl", ["-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", `Authorization: Bearer ${token}`, ...args]).toString();
      writeFileSync(join(folder, "big"), "x".repeat(300_000));
      assert.equal(curl("-X", "MKCOL", `${url}/docs/new`), "201");
      assert.equal(curl("-T", join(folder, "big"), `${url}/docs/new/big`), "201");
      assert.equal(curl("-X", "PROPFIND", "-H", "Depth: 1", `${url}/docs/new/`), "207");
      assert.equal(curl("-X", "MOVE", "-H", `Destination: ${url}/docs/moved`, `${url}/docs/new/big`), "201");
      assert.equal(curl(`${url}/docs/moved`), "200");
      assert.equal(curl("-X", "DELETE", `${url}/docs/moved`), "204");
      const anonymous = execFileSync("curl", ["-sS", "-o", "/dev/null", "-w", "%{http_code}", "-X", "PROPFIND", `${url}/docs/`]).toString();
      assert.equal(anonymous, "401");
    },
    async use(page) {
      await shows(page, "body", /docs/);
      const status = await page.evaluate(
        (name) => fetch(`/docs/${name}`, { method: "PUT", body: "from the page" }).then((r) => r.status),
        `page${++rounds}.txt`,
      );
      assert.equal(status, 201);
    },
  },
  {
    name: "wordpress",
    // With php-cgi, for `php` would install a web server.
    needs: { debian: ["php-cgi", "php-cli", "php-mysql", "php-gd", "mariadb-server", "wordpress", "wordpress-theme-twentytwentythree"] },
    deepLink: "/wp-admin/edit.php?post_type=page",
    async start({ folder, port, run }) {
      const at = (/** @type {string} */ name) => join(folder, name);
      cpSync("/usr/share/wordpress", at("wordpress"), { recursive: true, dereference: true });
      rmSync(at("wordpress/wp-config.php"));
      renameSync(at("wp-config.php"), at("wordpress/wp-config.php"));
      mkdirSync(at("wordpress/wp-content/mu-plugins"));
      renameSync(at("auth-gateway.php"), at("wordpress/wp-content/mu-plugins/auth-gateway.php"));
      const user = userInfo().username;
      const [data, socket] = [`--datadir=${at("data")}`, `--socket=${at("db.sock")}`];
      const quiet = { stdio: /** @type {const} */ ("ignore") };
      execFileSync("mariadb-install-db", ["--no-defaults", `--user=${user}`, data, "--auth-root-authentication-method=normal"], quiet);
      run("/usr/sbin/mariadbd", ["--no-defaults", `--user=${user}`, data, socket, "--skip-networking", `--pid-file=${at("db.pid")}`]);
      const query = (/** @type {string} */ sql) => spawnSync("mariadb", ["--no-defaults", socket, "-u", "root", "-e", sql]).status === 0;
      await until(async () => query("create database if not exists wordpress"), "the database is there", 60);
      const env = { WORDPRESS_DB_USER: "root", WORDPRESS_DB_HOST: `localhost:${at("db.sock")}` };
      execFileSync("php", [at("install.php")], { env: { ...process.env, ...env }, ...quiet });
      run("php", ["-S", `127.0.0.1:${port}`, "-t", at("wordpress")], { ...env, PHP_CLI_SERVER_WORKERS: "6" });
    },
    async use(page, { url }) {
      await shows(page, "#wp-admin-bar-my-account", /alice/);
      // A form.
      const title = `Recipe ${++rounds}`;
      await page.goto(`${url}/wp-admin/options-general.php`);
      await page.fill("#blogname", title);
      await page.click("#submit");
      await shows(page, "#setting-error-settings_updated", /saved/);
      await shows(page, "#wp-admin-bar-site-name", new RegExp(title));
      // An upload and its download.
      const name = `up${rounds}`;
      await page.goto(`${url}/wp-admin/media-new.php?browser-uploader`);
      await page.setInputFiles("#async-upload", { name: `${name}.txt`, mimeType: "text/plain", buffer: Buffer.from(title) });
      await page.click("#html-upload");
      await page.waitForURL("**/wp-admin/upload.php*");
      const file = await page.evaluate(async (search) => {
        const media = await fetch(`/index.php?rest_route=/wp/v2/media&search=${search}`).then((r) => r.json());
        return fetch(media[0].source_url).then((r) => r.text());
      }, name);
      assert.equal(file, title);
      // A script of the editor's kind.
      const headers = { "content-type": "application/json" };
      const post = await page.evaluate(
        ([headers, body]) => fetch("/index.php?rest_route=/wp/v2/posts", { method: "POST", headers, body }).then((r) => r.json()),
        /** @type {const} */ ([headers, JSON.stringify({ title, status: "publish" })]),
      );
      await page.goto(post.link);
      await shows(page, "body", new RegExp(title));
      await page.goto(`${url}/wp-admin/edit.php`);
      await shows(page, "#the-list", new RegExp(`${title}[^]*alice`));
    },
  },
  {
    name: "grpc",
    needs: { python: ["grpcio"] },
    upstream: 'protocol = "http2"',
    start({ port, run }) {
      run(PYTHON, ["server.py", String(port)]);
    },
    async program({ url, folder }) {
      const address = url.replace("http://", "");
      const call = (/** @type {string} */ token, /** @type {string} */ what) =>
        execFileSync(PYTHON, ["client.py", address, token, what], { cwd: folder }).toString().trim();
      const alice = await login(url, "alice");
      assert.equal(call(alice.access_token, "hello"), "hello alice, from here");
      assert.equal(call("", "hello"), "UNAUTHENTICATED");
      assert.equal(call((await login(url, "mallory")).access_token, "hello"), "PERMISSION_DENIED");
      // A stream ends with its session.
      const child = spawn(PYTHON, ["client.py", address, (await login(url, "alice")).access_token, "ticks"], { cwd: folder });
      let output = "";
      child.stdout.on("data", (data) => (output += data));
      await until(async () => output.includes("alice 3"), "the stream runs");
      const done = await fetch(`${url}/auth/logout-all`, { method: "POST", headers: { authorization: `Bearer ${(await login(url, "alice")).access_token}` } });
      assert.equal(done.status, 204);
      await until(async () => output.includes("UNAUTHENTICATED"), `the stream has ended: ${output.slice(-80)}`);
    },
  },
];
