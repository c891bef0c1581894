/**
 * Where tokens are kept: adapters, and what stands in for a storage that does not work.
 * @module
 */

/**
 * A place for tokens: `localStorage`, `sessionStorage`, or anything with the same three methods, which may also return
 * promises (IndexedDB, a native shell's key chain).
 * @typedef {object} StorageAdapter
 * @property {(key: string) => string | null | Promise<string | null>} getItem
 * @property {(key: string, value: string) => void | Promise<void>} setItem
 * @property {(key: string) => void | Promise<void>} removeItem
 * @property {boolean} [shared] whether other tabs see the same tokens; `localStorage` is known to be shared
 */

/** @returns {StorageAdapter} kept in the memory of this page, gone with it */
export function memoryStorage() {
  /** @type {Map<string, string>} */
  const kept = new Map();
  return {
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => void kept.set(key, value),
    removeItem: (key) => void kept.delete(key),
  };
}

/** @returns {StorageAdapter | null} localStorage, or nothing where the browser forbids it */
export function browserStorage() {
  try {
    return globalThis.localStorage ?? null;
  } catch {
    return null;
  }
}

/** @param {StorageAdapter} adapter whether other tabs see what is written there */
export function isShared(adapter) {
  return adapter.shared ?? adapter === browserStorage();
}

/**
 * Whether a value can be written there: a full storage still reads well.
 * @param {StorageAdapter} adapter
 * @param {string} key one that no other code uses
 * @returns {unknown} the error, or nothing
 */
export function probe(adapter, key) {
  try {
    // As much as two tokens take.
    const written = adapter.setItem(key, "x".repeat(4096));
    if (isPromise(written)) written.then(() => adapter.removeItem(key)).catch(() => {});
    else adapter.removeItem(key);
    return null;
  } catch (error) {
    return error ?? new Error("the storage cannot be written");
  }
}

/** @param {unknown} value @returns {value is Promise<unknown>} */
export function isPromise(value) {
  return typeof value === "object" && value !== null && typeof Reflect.get(value, "then") === "function";
}
