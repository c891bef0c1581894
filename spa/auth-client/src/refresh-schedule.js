/**
 * When the access token is renewed ahead of its expiry, without anybody asking.
 * @module
 */

import { unref } from "./tab-lock.js";

/** Between two tries while the gateway cannot be reached, in milliseconds. */
const RETRY_INTERVAL_MS = 5_000;
/** The longest that timers can wait. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

export class RefreshSchedule {
  #dueIn;
  #refresh;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #isDisposed = false;
  #wake = () => this.arm();

  /**
   * @param {object} options
   * @param {() => number | null} options.dueIn milliseconds until a refresh is due; nothing if none is wanted
   * @param {() => Promise<boolean>} options.refresh says whether another try makes sense later
   */
  constructor({ dueIn, refresh }) {
    this.#dueIn = dueIn;
    this.#refresh = refresh;
    globalThis.document?.addEventListener("visibilitychange", this.#wake);
    if (typeof globalThis.addEventListener === "function") globalThis.addEventListener("online", this.#wake);
  }

  /** Sets the timer anew; to be called whenever what `dueIn` says may have changed. */
  arm() {
    clearTimeout(this.#timer);
    if (this.#isDisposed || isHidden()) return;
    const due = this.#dueIn();
    if (due !== null) this.#wait(Math.max(0, due));
  }

  dispose() {
    this.#isDisposed = true;
    clearTimeout(this.#timer);
    globalThis.document?.removeEventListener("visibilitychange", this.#wake);
    if (typeof globalThis.removeEventListener === "function") globalThis.removeEventListener("online", this.#wake);
  }

  /** @param {number} delay milliseconds */
  #wait(delay) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#fire(), Math.min(delay, MAX_TIMEOUT_MS));
    unref(this.#timer);
  }

  async #fire() {
    const due = this.#isDisposed || isHidden() ? null : this.#dueIn();
    if (due === null) return;
    // A computer that slept, or a clock that was set.
    if (due > 0) return this.arm();
    if (await this.#refresh()) this.#wait(RETRY_INTERVAL_MS);
  }
}

/** The page is hidden and renews nothing; it does when it becomes visible again. */
const isHidden = () => globalThis.document?.visibilityState === "hidden";
