/**
 * The apps of the recipes, installed into target/recipes: Python packages in an environment of their own, npm packages in a
 * folder of their own; and Debian's packages, by root.
 * @module
 */

import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../target/recipes/", import.meta.url));
export const PYTHON = join(ROOT, "venv/bin/python");
export const NODE_MODULES = join(ROOT, "node/node_modules");

/** @param {string} program @param {string[]} args @param {string} [cwd] */
function run(program, args, cwd) {
  console.log(`# ${[program, ...args].join(" ")}`);
  execFileSync(program, args, { cwd, stdio: ["ignore", "ignore", "inherit"] });
}

/** @param {string[]} packages */
function python(packages) {
  if (packages.length === 0) return;
  if (!existsSync(PYTHON)) run("python3", ["-m", "venv", join(ROOT, "venv")]);
  run(PYTHON, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", ...packages]);
}

/** @param {string[]} packages */
function npm(packages) {
  const folder = join(ROOT, "node");
  const missing = packages.filter((name) => !existsSync(join(NODE_MODULES, name)));
  if (missing.length === 0) return;
  mkdirSync(folder, { recursive: true });
  if (!existsSync(join(folder, "package.json"))) writeFileSync(join(folder, "package.json"), '{ "private": true }\n');
  run("npm", ["install", "--no-audit", "--no-fund", "--loglevel=error", ...missing], folder);
}

/** @param {string[]} packages */
function debian(packages) {
  const isMissing = (/** @type {string} */ name) => !spawnSync("dpkg-query", ["-Wf", "${Status}", name]).stdout?.includes("install ok installed");
  const missing = packages.filter(isMissing);
  if (missing.length === 0) return;
  const command = ["apt-get", "-qq", "-y", "install", "--no-install-recommends", ...missing];
  const asRoot = process.getuid?.() === 0 ? [] : ["sudo", "-n"];
  const [program = "", ...args] = [...asRoot, "env", "DEBIAN_FRONTEND=noninteractive", ...command];
  run(program, args);
}

/**
 * What a recipe needs.
 * @typedef {{ python?: string[], npm?: string[], debian?: string[] }} Needs
 * @param {Needs[]} needs
 */
export function install(needs) {
  mkdirSync(ROOT, { recursive: true });
  python([...new Set(needs.flatMap((need) => need.python ?? []))]);
  npm([...new Set(needs.flatMap((need) => need.npm ?? []))]);
  debian([...new Set(needs.flatMap((need) => need.debian ?? []))]);
}
