/**
 * The real programs, started on free ports for one test file.
 * @module
 */

import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const SPA = fileURLToPath(new URL("..", import.meta.url));
const PROGRAMS = resolve(process.env.AUTH_GATEWAY_BIN_DIR || join(SPA, "../target/debug"));

export const PASSWORD = "a password for tests";

// A signal ends the tests by way of their `exit` handlers, which end the programs.
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(1));

/** @returns {Promise<number>} */
export async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

/**
 * Asks until the answer is yes.
 * @param {() => Promise<boolean>} condition
 * @param {string} what
 * @param {number} [seconds] how long
 */
export async function until(condition, what, seconds = 15) {
  const end = Date.now() + seconds * 1000;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`waited in vain until ${what}`);
    await new Promise((done) => setTimeout(done, 20));
  }
}

/**
 * Runs a command of the program to its end.
 * @param {string[]} words
 * @param {string} input on standard input
 * @param {string} [cwd]
 * @returns {Promise<string>} standard output
 */
function execute(words, input, cwd) {
  return new Promise((done, failed) => {
    const child = execFile(join(PROGRAMS, "auth-gateway"), words, { cwd }, (error, stdout) =>
      error ? failed(error) : done(stdout.trim()),
    );
    child.stdin?.end(input);
  });
}

/**
 * Logs in; again for as long as the gateway is overloaded (503), at most 20 seconds: on a busy machine its hashing threads,
 * of the lowest priority, fall behind.
 * @param {string} endpoint the address of the login
 * @param {string} username
 * @param {string} [password]
 */
export async function login(endpoint, username, password = PASSWORD) {
  const body = JSON.stringify({ username, password });
  const end = Date.now() + 20_000;
  for (;;) {
    const response = await fetch(endpoint, { method: "POST", headers: { "Content-Type": "application/json" }, body });
    if (response.status !== 503 || Date.now() > end) return response;
    await new Promise((done) => setTimeout(done, 100));
  }
}

/** @returns {Promise<string>} the line of the default configuration with the page's Content-Security-Policy */
async function shippedPolicy() {
  const config = await readFile(join(SPA, "../config/gateway.toml"), "utf8");
  const line = /^content_security_policy = ".*"$/m.exec(config);
  if (!line) throw new Error("config/gateway.toml has no content_security_policy");
  return line[0];
}

/** A gateway with the demo upstream behind it and the page in front. */
export class Gateway {
  /** @type {import("node:child_process").ChildProcess[]} */
  #children = [];
  #folder = "";
  #config = "";
  url = "";
  #admin = "";

  /**
   * @param {object} [settings]
   * @param {string} [settings.accessTtl]
   * @param {string} [settings.refreshTtl]
   * @param {string} [settings.rotation]
   * @param {string} [settings.reuseGrace]
   * @param {string} [settings.tokens] further keys of `[tokens]`
   * @param {string} [settings.more] at the end of the configuration
   */
  static async start({
    accessTtl = "60s",
    refreshTtl = "10m",
    rotation = "on-use",
    reuseGrace = "10s",
    tokens = "",
    more = "",
  } = {}) {
    const upstream = await freePort();
    const routes = `
[upstreams.demo]
urls = ["http://127.0.0.1:${upstream}"]
[[routes]]
path = "/protected"
upstream = "demo"
[[routes]]
path = "/"
static = ${JSON.stringify(SPA)}
access = "public"
${await shippedPolicy()}
${more}
`;
    const gateway = await Gateway.#prepare(
      `
[tokens]
audience = "page-tests"
access_ttl = "${accessTtl}"
refresh_ttl = "${refreshTtl}"
rotation = "${rotation}"
reuse_grace = "${reuseGrace}"
${tokens}
${routes}`,
      { alice: ["user"], mallory: ["user"], mona: ["user"] },
    );
    return gateway.#begin(() => gateway.#spawn("demo-upstream", ["--listen", `127.0.0.1:${upstream}`]));
  }

  /**
   * One with a configuration of the test's own.
   * @param {string} config without `[server]` and `[admin]`; it begins within `[users]`
   * @param {Record<string, string[]>} users with their roles
   */
  static async startWith(config, users) {
    const gateway = await Gateway.#prepare(config, users);
    return gateway.#begin(() => {});
  }

  /** @param {string} config @param {Record<string, string[]>} users */
  static async #prepare(config, users) {
    const gateway = new Gateway();
    const [port, admin] = [await freePort(), await freePort()];
    gateway.url = `http://127.0.0.1:${port}`;
    gateway.#admin = `http://127.0.0.1:${admin}`;
    gateway.#folder = await mkdtemp(join(tmpdir(), "auth-gateway-page-"));
    const hash = await execute(["hash-password"], `${PASSWORD}\n`);
    const entries = Object.entries(users).map(
      ([name, roles], i) =>
        `[[users]]\nid = "${i + 1}"\nusername = "${name}"\npassword = "${hash}"\nroles = ${JSON.stringify(roles)}\n`,
    );
    await writeFile(join(gateway.#folder, "users.toml"), entries.join("\n"));
    gateway.#config = join(gateway.#folder, "gateway.toml");
    const listeners = `[server]\nlisten = "127.0.0.1:${port}"\n[admin]\nlisten = "127.0.0.1:${admin}"\n`;
    await writeFile(gateway.#config, `${listeners}[users]\nfile = "users.toml"\n${config}`);
    return gateway;
  }

  /** @param {() => void} before what is started first */
  async #begin(before) {
    try {
      before();
      await this.run();
    } catch (error) {
      await this.stop();
      throw error;
    }
    return this;
  }

  /** Starts the gateway itself; also after `halt`. */
  async run() {
    this.#spawn("auth-gateway", ["--config", this.#config]);
    await until(
      () => fetch(`${this.#admin}/readyz`).then((r) => r.ok, () => false),
      "the gateway is ready",
    );
  }

  /** Ends the gateway and leaves its state and the upstream. */
  async halt() {
    const child = this.#children.pop();
    child?.kill("SIGTERM");
    if (child && child.exitCode === null) await once(child, "exit");
  }

  /**
   * Runs another command on its configuration.
   * @param {string[]} words
   * @param {string} [input] on standard input
   * @returns {Promise<string>} standard output
   */
  command(words, input = "") {
    return execute([...words, "--config", this.#config], input, this.#folder);
  }

  async stop() {
    while (this.#children.length > 0) await this.halt();
    await rm(this.#folder, { recursive: true, force: true });
  }

  /**
   * @param {string} program
   * @param {string[]} args
   */
  #spawn(program, args) {
    const child = spawn(join(PROGRAMS, program), args, { cwd: this.#folder, stdio: ["ignore", "ignore", "pipe"] });
    let log = "";
    child.stderr.on("data", (data) => (log += data));
    child.on("exit", (code) => {
      if (code) console.error(`${program} ended with ${code}:\n${log}`);
    });
    const kill = () => child.kill("SIGKILL");
    process.once("exit", kill);
    child.once("exit", () => process.off("exit", kill));
    this.#children.push(child);
  }
}
