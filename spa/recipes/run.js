/**
 * Runs the recipes of docs/how-to/recipes.md: `npm --prefix spa run recipes -- [NAME…]`. What the apps need is installed first.
 * @module
 */

import { test } from "node:test";

import { install } from "./install.js";
import { cook } from "./recipe.js";
import { RECIPES } from "./recipes.js";

const names = process.argv.slice(2);
const unknown = names.filter((name) => !RECIPES.some((recipe) => recipe.name === name));
if (unknown.length > 0) {
  console.error(`error: no recipe is called ${unknown.join(", ")}\n  help: there are ${RECIPES.map((recipe) => recipe.name).join(", ")}`);
  process.exit(2);
}
const chosen = RECIPES.filter((recipe) => names.length === 0 || names.includes(recipe.name));
install(chosen.map((recipe) => recipe.needs));
// For gRPC without TLS.
process.env.AUTH_GATEWAY__SERVER__H2C = "true";
for (const recipe of chosen) {
  test(recipe.name, { timeout: 300_000 }, () => cook(recipe));
}
