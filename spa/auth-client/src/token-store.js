/**
 * The two tokens, kept in a storage that other tabs may share, and that may lag behind, be full, or be asynchronous.
 *
 * - Tabs of other processes see a write to localStorage late, and first the one key and then the other. A tab that writes
 *   therefore hands both tokens over in one message; a tab that receives it uses the message until the storage has caught up.
 * - A storage that cannot be written is replaced by memory, here and, by the same messages, in the other tabs.
 *
 * @module
 */

import { isToken } from "./claims.js";
import { isPromise, isShared, probe } from "./storage.js";

/** @typedef {import("./errors.js").SignOutReason} SignOutReason */
/** @typedef {import("./storage.js").StorageAdapter} StorageAdapter */
/** @typedef {{access: string | null, refresh: string | null}} TokenPair */

/**
 * Messages between tabs.
 * @typedef {object} HandOver
 * @property {"tokens"} type
 * @property {TokenPair} tokens those that are good now
 * @property {string | null} replaces the refresh token that was good before
 * @property {boolean} inMemory whether the storage could not be written
 * @property {SignOutReason | null} reason why there are none
 */

/** @type {TokenPair} */
const NONE = Object.freeze({ access: null, refresh: null });
/** Poll interval of a storage without change events, in milliseconds. */
const POLL_INTERVAL_MS = 25;

export class TokenStore {
  #adapter;
  #keys;
  #channel;
  #onChange;
  /** What is good while the storage cannot be written. @type {TokenPair | null} */
  #memory = null;
  /** What another tab has said, and what the storage held then. @type {{tokens: TokenPair, stale: TokenPair} | null} */
  #handedOver = null;
  /** What an asynchronous storage is known to hold; nothing for a synchronous one. @type {TokenPair | null} */
  #cached = null;
  /** The writes to an asynchronous storage, in their order. @type {Promise<void>} */
  #writes = Promise.resolve();
  /** @type {(() => void)[]} */
  #waiting = [];
  /** Settled when the tokens of an asynchronous storage are known. @type {Promise<void>} */
  ready = Promise.resolve();
  /** Why the tokens are kept in memory only, if they are. @type {unknown} */
  failure = null;
  isShared;

  /**
   * @param {object} options
   * @param {StorageAdapter} options.adapter
   * @param {string} options.prefix of the keys
   * @param {import("./tab-channel.js").TabChannel} options.channel
   * @param {(reason: SignOutReason | null, isOtherTab: boolean) => void} options.onChange
   */
  constructor({ adapter, prefix, channel, onChange }) {
    this.#adapter = adapter;
    this.#keys = { access: `${prefix}access_token`, refresh: `${prefix}refresh_token` };
    this.#channel = channel;
    this.#onChange = onChange;
    this.isShared = isShared(adapter);
    this.failure = probe(adapter, `${prefix}auth_probe`);
    let first;
    try {
      first = adapter.getItem(this.#keys.access);
    } catch (error) {
      this.#goOnInMemory(NONE, error);
    }
    if (isPromise(first)) {
      this.#cached = NONE;
      this.ready = this.reload();
    }
    channel.listen((message) => this.#hear(message));
  }

  /** Whether a key of the storage belongs to the tokens; `null` means that everything was cleared. @param {string | null} key */
  owns(key) {
    return key === null || key === this.#keys.access || key === this.#keys.refresh;
  }

  /** Another tab has changed the storage. */
  storageChanged() {
    if (this.#memory !== null && this.#readStorage().refresh !== null) this.#memory = null;
    this.#changed(null, true);
  }

  /** @returns {TokenPair} */
  read() {
    if (this.#memory !== null) return this.#memory;
    const stored = this.#readStorage();
    if (this.#handedOver === null) return stored;
    const { tokens, stale } = this.#handedOver;
    const isBehind = stored.access === stale.access && [stale.refresh, tokens.refresh].includes(stored.refresh);
    if (isBehind) return tokens;
    this.#handedOver = null;
    return stored;
  }

  /**
   * Keeps new tokens.
   * @param {TokenPair} tokens
   */
  async write(tokens) {
    await this.#replace(tokens, null);
  }

  /** Forgets the tokens. @param {SignOutReason} reason */
  async clear(reason) {
    await this.#replace(NONE, reason);
  }

  /** Reads an asynchronous storage anew; a synchronous one is always read. */
  async reload() {
    if (this.#cached === null) return;
    await this.#writes;
    try {
      const [access, refresh] = await Promise.all([
        this.#adapter.getItem(this.#keys.access),
        this.#adapter.getItem(this.#keys.refresh),
      ]);
      this.#cached = { access: tokenOrNone(access), refresh: tokenOrNone(refresh) };
    } catch (error) {
      this.#goOnInMemory(this.#cached, error);
    }
  }

  /**
   * Waits until the tokens are others than these.
   * @param {TokenPair} tokens
   * @param {number} timeout milliseconds
   * @returns {Promise<boolean>} whether they are
   */
  async waitForOthers(tokens, timeout) {
    const end = Date.now() + timeout;
    const isSame = () => isSamePair(this.read(), tokens);
    while (isSame() && Date.now() < end) {
      await new Promise((done) => {
        this.#waiting.push(() => done(undefined));
        setTimeout(done, POLL_INTERVAL_MS);
      });
      await this.reload();
    }
    return !isSame();
  }

  /**
   * @param {TokenPair} tokens
   * @param {SignOutReason | null} reason
   */
  async #replace(tokens, reason) {
    const replaces = this.read().refresh;
    this.#handedOver = null;
    if (this.#cached === null) this.#writeNow(tokens);
    else {
      this.#cached = tokens;
      this.#writes = this.#writes.then(() => this.#writeLater(tokens));
    }
    this.#channel.send({ type: "tokens", tokens, replaces, inMemory: this.#memory !== null, reason });
    this.#changed(reason, false);
    await this.#writes;
  }

  /** @param {TokenPair} tokens to a synchronous storage */
  #writeNow(tokens) {
    try {
      for (const [key, token] of this.#inOrder(tokens)) {
        if (token === null) this.#adapter.removeItem(key);
        else this.#adapter.setItem(key, token);
      }
      this.#memory = null;
      this.failure = null;
    } catch (error) {
      this.#goOnInMemory(tokens, error);
    }
  }

  /** @param {TokenPair} tokens to an asynchronous storage */
  async #writeLater(tokens) {
    try {
      for (const [key, token] of this.#inOrder(tokens)) {
        if (token === null) await this.#adapter.removeItem(key);
        else await this.#adapter.setItem(key, token);
      }
      this.#memory = null;
      this.failure = null;
    } catch (error) {
      this.#goOnInMemory(tokens, error);
      this.#changed(null, false);
    }
  }

  /** @param {TokenPair} tokens @returns {[string, string | null][]} */
  #inOrder(tokens) {
    // The refresh token first: a tab that sees the new access token finds the new refresh token too, and one that sees
    // that the access token is gone finds none that it could still exchange.
    return [[this.#keys.refresh, tokens.refresh], [this.#keys.access, tokens.access]];
  }

  /**
   * @param {TokenPair} tokens
   * @param {unknown} error
   */
  #goOnInMemory(tokens, error) {
    this.#memory = tokens;
    this.failure = error ?? new Error("the storage failed");
    // What is left there is older than what is good now, and would be exchanged by the next page. A full storage lets
    // things be removed; where that fails too, nothing can be read there either.
    for (const key of [this.#keys.refresh, this.#keys.access]) {
      try {
        const removed = this.#adapter.removeItem(key);
        if (isPromise(removed)) removed.catch(() => {});
      } catch {
        // As said.
      }
    }
  }

  /** @returns {TokenPair} */
  #readStorage() {
    if (this.#cached !== null) return this.#cached;
    try {
      const access = this.#adapter.getItem(this.#keys.access);
      const refresh = this.#adapter.getItem(this.#keys.refresh);
      return { access: tokenOrNone(access), refresh: tokenOrNone(refresh) };
    } catch (error) {
      this.#goOnInMemory(NONE, error);
      return NONE;
    }
  }

  /** @param {unknown} message */
  #hear(message) {
    const handOver = /** @type {HandOver} */ (message);
    if (handOver?.type !== "tokens" || typeof handOver.tokens !== "object") return;
    const current = this.read();
    // A message about tokens that are no longer ours is late: the storage knows more.
    if (![handOver.replaces, handOver.tokens.refresh].includes(current.refresh)) return;
    if (isSamePair(current, handOver.tokens)) {
      // The storage was faster, but could not say why.
      if (handOver.reason !== null) this.#onChange(handOver.reason, true);
      return;
    }
    if (handOver.inMemory) this.#memory = handOver.tokens;
    else {
      this.#memory = null;
      this.#handedOver = { tokens: handOver.tokens, stale: this.#readStorage() };
      if (this.#cached !== null) this.#cached = handOver.tokens;
    }
    this.#changed(handOver.reason, true);
  }

  /**
   * @param {SignOutReason | null} reason
   * @param {boolean} isOtherTab
   */
  #changed(reason, isOtherTab) {
    for (const wake of this.#waiting.splice(0)) wake();
    this.#onChange(reason, isOtherTab);
  }
}

/** @param {unknown} value @returns {string | null} */
const tokenOrNone = (value) => (isToken(value) ? value : null);

/** @param {TokenPair} one @param {TokenPair} other */
export const isSamePair = (one, other) => one.access === other.access && one.refresh === other.refresh;
