/**
 * The package as it is installed: what it holds, its types, and three small apps that are built with it and clicked.
 * @module
 */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { launch } from "../../tests/browser.js";
import { Gateway, PASSWORD } from "../../tests/gateway.js";

const PACKAGE = fileURLToPath(new URL("..", import.meta.url));
const TOOLS = fileURLToPath(new URL("../../node_modules/", import.meta.url));
const EXAMPLES = ["plain", "react", "vue"];
const run = promisify(execFile);

/** Somebody's project that installed the package. */
let project = "";
/** The files that were packed. @type {string[]} */
let packed = [];

before(async () => {
  project = await mkdtemp(join(tmpdir(), "auth-gateway-client-"));
  const { stdout } = await run("npm", ["pack", "--json", "--pack-destination", project], { cwd: PACKAGE });
  const [{ filename, files }] = JSON.parse(stdout.slice(stdout.indexOf("[")));
  packed = files.map((/** @type {{path: string}} */ file) => file.path).sort();
  await cp(join(PACKAGE, "examples"), project, { recursive: true });
  await writeFile(join(project, "package.json"), '{ "private": true, "type": "module" }');
  await run("npm", ["install", "--offline", "--no-audit", "--no-fund", `./${filename}`], { cwd: project });
  for (const name of ["react", "react-dom", "vue", "axios", "csstype", "@types/react", "@types/react-dom"]) {
    const link = join(project, "node_modules", name);
    await mkdir(dirname(link), { recursive: true });
    await symlink(join(TOOLS, name), link);
  }
});
after(() => rm(project, { recursive: true, force: true }));

test("the package holds the page's files, their types and the papers, and nothing else", async () => {
  const sources = (await readdir(join(PACKAGE, "src"))).sort();
  const expected = [
    ...["CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT", "README.md", "package.json"],
    ...sources.map((name) => `src/${name}`),
    ...sources.map((name) => `types/${name.replace(/\.js$/, ".d.ts")}`),
  ];
  assert.deepEqual(packed, expected.sort());
  for (const name of sources) {
    const [here, installed] = await Promise.all(
      [join(PACKAGE, "src", name), join(project, "node_modules/auth-gateway-client/src", name)].map((f) => readFile(f)),
    );
    assert.ok(here.equals(installed), `${name} is the file that the page uses`);
  }
  const manifest = JSON.parse(await readFile(join(PACKAGE, "package.json"), "utf8"));
  assert.equal(manifest.dependencies, undefined);
  assert.match(await readFile(join(PACKAGE, "CHANGELOG.md"), "utf8"), new RegExp(`^## \\[?${manifest.version}\\b`, "m"));
});

test("the licences are those of the repository", async () => {
  for (const name of ["LICENSE-MIT", "LICENSE-APACHE"]) {
    const root = new URL(`../../../${name}`, import.meta.url);
    assert.equal(await readFile(join(PACKAGE, name), "utf8"), await readFile(root, "utf8"));
  }
});

test("the types suit a project in TypeScript", async () => {
  const options = {
    compilerOptions: {
      strict: true,
      noEmit: true,
      target: "ES2022",
      module: "ESNext",
      moduleResolution: "Bundler",
      jsx: "react-jsx",
      lib: ["ES2023", "DOM", "DOM.Iterable"],
      types: [],
    },
    files: ["react/main.tsx", "misuse.ts"],
  };
  await writeFile(join(project, "tsconfig.json"), JSON.stringify(options));
  await writeFile(
    join(project, "misuse.ts"),
    `import { AuthClient } from "auth-gateway-client";
const client = new AuthClient({ autoRefresh: "active" });
export const response: Promise<Response> = client.fetch(new URL("https://app.example/"), { method: "POST" });
// @ts-expect-error: there is no such option
new AuthClient({ autoRefrehs: false });
// @ts-expect-error: a login takes a password
client.login("alice");
`,
  );
  await run(join(TOOLS, ".bin/tsc"), ["--project", project]).catch((error) => assert.fail(error.stdout));
});

describe("the examples, built and clicked", () => {
  /** @type {Gateway} */
  let gateway;
  /** @type {import("playwright-core").Browser} */
  let browser;

  before(async () => {
    const { build } = await import("vite");
    const { default: vue } = await import("@vitejs/plugin-vue");
    for (const name of EXAMPLES) {
      await build({
        configFile: false,
        root: join(project, name),
        base: `/${name}/`,
        logLevel: "warn",
        plugins: name === "vue" ? [vue()] : [],
        esbuild: { jsx: "automatic" },
        build: { outDir: join(project, "dist", name), emptyOutDir: true, target: "es2022" },
      });
    }
    const routes = EXAMPLES.map(
      (name) => `[[routes]]\npath = "/${name}"\nstatic = ${JSON.stringify(join(project, "dist", name))}\naccess = "public"\n`,
    );
    gateway = await Gateway.start({ more: routes.join("") });
    browser = await launch();
  });
  after(async () => {
    await browser?.close();
    await gateway?.stop();
  });

  for (const name of EXAMPLES) {
    test(name, async () => {
      const page = await browser.newPage();
      page.setDefaultTimeout(15_000);
      /** @type {string[]} */
      const complaints = [];
      page.on("pageerror", (error) => complaints.push(error.message));
      page.on("console", (message) => {
        const isProvoked = /Failed to load resource/.test(message.text());
        if (message.type() === "error" && !isProvoked) complaints.push(message.text());
      });
      await page.goto(`${gateway.url}/${name}/`);
      const logIn = async (/** @type {string} */ password) => {
        await page.fill("[name=username]", "alice");
        await page.fill("[name=password]", password);
        await page.click("form button");
      };
      await logIn("wrong");
      await page.waitForSelector("#notice:has-text('Wrong'), #notice:has-text('nvalid')");
      await logIn(PASSWORD);
      await page.waitForSelector("h1:has-text('Welcome, alice')");
      await page.click("#call");
      await page.waitForSelector("#notice:has-text('Hello alice, welcome to the protected page.')");
      await page.reload();
      await page.waitForSelector("h1:has-text('Welcome, alice')");
      // The session is ended elsewhere: the app learns of it with its next call.
      const token = await page.evaluate(() => localStorage.getItem("refresh_token"));
      await fetch(`${gateway.url}/logout`, { method: "POST", headers: { Authorization: `Bearer ${token}` } });
      await page.click("#call");
      await page.waitForSelector("#notice:has-text('Please log in again.')");
      await page.waitForSelector("[name=username]");
      await logIn(PASSWORD);
      await page.click("#logout");
      await page.waitForSelector("#notice:has-text('You are logged out.')");
      assert.deepEqual(complaints, []);
      await page.close();
    });
  }
});
