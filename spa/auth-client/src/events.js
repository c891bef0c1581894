/**
 * Events of a client's tokens, and reasons for their loss.
 * @module
 */

import { readClaims } from "./claims.js";
import { isSamePair } from "./token-store.js";

/** @typedef {import("./errors.js").SignOutReason} SignOutReason */
/** @typedef {import("./token-store.js").TokenPair} TokenPair */

/** How long a sign-out in another tab may wait for its reason, in milliseconds. */
const REASON_DELAY_MS = 100;

/** What the events of an `AuthClient` say. */
export class AuthEvent extends Event {
  /**
   * @param {"change" | "signed-in" | "refreshed" | "signed-out" | "storage-failed"} type
   * @param {{reason?: SignOutReason | null, isOtherTab?: boolean, error?: unknown}} [detail]
   */
  constructor(type, { reason = null, isOtherTab = false, error = null } = {}) {
    super(type);
    /** Of `signed-out`: why. */
    this.reason = reason;
    /** Whether it happened in another tab. */
    this.isOtherTab = isOtherTab;
    /** Of `storage-failed`: what the storage threw. */
    this.error = error;
  }
}

/** Converts notifications of a store to events, each change once, from whichever source. */
export class Announcer {
  #target;
  #store;
  /** The tokens that the last events were about. @type {TokenPair} */
  #announced;
  /** @type {unknown} */
  #announcedFailure = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #signOutTimer;

  /**
   * @param {EventTarget} target whose events they are
   * @param {import("./token-store.js").TokenStore} store
   */
  constructor(target, store) {
    this.#target = target;
    this.#store = store;
    this.#announced = store.read();
  }

  /**
   * Emits what has changed since the last event.
   * @param {SignOutReason | null} reason why there are no tokens
   * @param {boolean} isOtherTab
   */
  announce(reason, isOtherTab) {
    const [before, now] = [this.#announced, this.#store.read()];
    if (this.#store.failure !== null && this.#announcedFailure === null) {
      this.#target.dispatchEvent(new AuthEvent("storage-failed", { error: this.#store.failure }));
    }
    this.#announcedFailure = this.#store.failure;
    if (reason !== null && this.#signOutTimer !== undefined) return this.#announceSignOut(reason, isOtherTab);
    if (isSamePair(before, now)) return;
    if (this.#signOutTimer !== undefined) this.#announceSignOut("logout", isOtherTab);
    this.#announced = now;
    const [was, is] = [isPresent(before), isPresent(now)];
    this.#target.dispatchEvent(new AuthEvent("change", { isOtherTab }));
    if (was && !is) {
      if (reason !== null) this.#announceSignOut(reason, isOtherTab);
      // The storage says that the tokens are gone; the message that says why may come after.
      else this.#signOutTimer = setTimeout(() => this.#announceSignOut("logout", isOtherTab), REASON_DELAY_MS);
    } else if (is) {
      if (!was || isOtherSession(before, now)) this.#target.dispatchEvent(new AuthEvent("signed-in", { isOtherTab }));
      else if (before.access !== now.access) this.#target.dispatchEvent(new AuthEvent("refreshed", { isOtherTab }));
    }
  }

  /**
   * @param {SignOutReason} reason
   * @param {boolean} isOtherTab
   */
  #announceSignOut(reason, isOtherTab) {
    clearTimeout(this.#signOutTimer);
    this.#signOutTimer = undefined;
    this.#target.dispatchEvent(new AuthEvent("signed-out", { reason, isOtherTab }));
  }

  /** Emits the content of an asynchronous storage. */
  announceRestored() {
    const now = this.#store.read();
    if (isSamePair(this.#announced, now)) return;
    this.#announced = now;
    this.#target.dispatchEvent(new AuthEvent("change"));
  }

  dispose() {
    clearTimeout(this.#signOutTimer);
  }
}

/** @param {TokenPair} tokens */
const isPresent = ({ access, refresh }) => access !== null || refresh !== null;

/** @param {TokenPair} before @param {TokenPair} now whether these are known to be of two sessions */
function isOtherSession(before, now) {
  const [was, is] = [before, now].map(({ access, refresh }) => (readClaims(access) ?? readClaims(refresh))?.sid);
  return was !== undefined && is !== undefined && was !== is;
}
