/**
 * Tabs that hand over tokens while their storages lag behind.
 * @module
 */

import assert from "node:assert/strict";
import { after, test } from "node:test";

import { memoryStorage } from "../src/storage.js";
import { TabChannel } from "../src/tab-channel.js";
import { TokenStore } from "../src/token-store.js";

/** @type {TabChannel[]} */
const channels = [];
after(() => channels.forEach((channel) => channel.close()));

/**
 * A tab that sees its own copy of the storage, which catches up when the test says so.
 * @param {string} name of the test
 */
function openTab(name) {
  const channel = new TabChannel(`test ${name}`);
  channels.push(channel);
  const storage = { ...memoryStorage(), shared: true };
  storage.setItem("access_token", "A1");
  storage.setItem("refresh_token", "R1");
  /** @type {(string | null)[]} */
  const reasons = [];
  const store = new TokenStore({ adapter: storage, prefix: "", channel, onChange: (reason) => reasons.push(reason) });
  return { storage, store, reasons };
}

const NEW = { access: "A2", refresh: "R2" };

test("both tokens of another tab are known before the storage shows either", async () => {
  const [here, there] = [openTab("lag"), openTab("lag")];
  const old = here.store.read();
  await there.store.write(NEW);
  assert.equal(await here.store.waitForOthers(old, 2_000), true);
  assert.deepEqual(here.store.read(), NEW);
  here.storage.setItem("refresh_token", "R2");
  assert.deepEqual(here.store.read(), NEW, "the storage has caught up by half");
  here.storage.setItem("access_token", "A2");
  assert.deepEqual(here.store.read(), NEW);
  here.storage.setItem("refresh_token", "R3");
  here.storage.setItem("access_token", "A3");
  assert.deepEqual(here.store.read(), { access: "A3", refresh: "R3" }, "and gone on");
});

test("a message that is late changes nothing", async () => {
  const [here, there] = [openTab("late"), openTab("late")];
  here.storage.setItem("refresh_token", "R9");
  here.storage.setItem("access_token", "A9");
  await there.store.write(NEW);
  assert.equal(await here.store.waitForOthers({ access: "A9", refresh: "R9" }, 200), false);
});

test("a sign-out comes with its reason", async () => {
  const [here, there] = [openTab("sign-out"), openTab("sign-out")];
  const old = here.store.read();
  await there.store.clear("reused");
  await here.store.waitForOthers(old, 2_000);
  assert.deepEqual(here.store.read(), { access: null, refresh: null });
  assert.deepEqual(here.reasons, ["reused"]);
});

test("what one tab cannot store, the others keep in memory", async () => {
  const [here, there] = [openTab("full"), openTab("full")];
  there.storage.setItem = () => {
    throw new DOMException("full", "QuotaExceededError");
  };
  const old = here.store.read();
  await there.store.write(NEW);
  await here.store.waitForOthers(old, 2_000);
  for (const key of ["access_token", "refresh_token"]) here.storage.removeItem(key);
  assert.deepEqual(here.store.read(), NEW);
  here.storage.setItem("refresh_token", "R9");
  here.store.storageChanged();
  assert.equal(here.store.read().refresh, "R9", "somebody logged in anew, and could store it");
});
