/**
 * The exchange of the refresh token for new tokens, by one request of one tab at a time.
 *
 * Races, and what is done about them:
 *
 * - Many requests fail together: the first one refreshes, the others wait for it (`#pendingRefresh`). Those of a newer
 *   login do not: what an older one's refresh brings is not for them.
 * - Many tabs fail together: a lock lets one of them refresh. The others learn with the lock that the tokens they see
 *   were exchanged, and wait until they see those that came of it (`tab-lock.js`, `token-store.js`).
 * - Another tab was faster before we even asked: the token in the storage is not the one that was rejected, so it is
 *   tried before anything is refreshed, unless one can see that it has expired, too.
 * - Another tab logged in as somebody else: a request that was made for one user is not repeated for the other.
 * - A late answer: what a refresh brings is stored only if the storage still holds the token it was asked with. A
 *   logout, or a login as someone else, in the meantime is therefore never undone.
 * - A rejected refresh clears the tokens, under the same condition. An outage clears nothing: the session may be good.
 * - A gateway that never answers: a refresh ends after `requestTimeout`, with the wait for other tabs counted in.
 *
 * @module
 */

import { isSameSession, readClaims } from "./claims.js";
import { ApiError, AuthenticationRequired, NetworkError } from "./errors.js";
import { readTokens, refreshRejection } from "./token-response.js";

/** @typedef {import("./token-store.js").TokenPair} TokenPair */

/** How long the storage may take to show what another tab has stored, in milliseconds. */
const STORAGE_LAG_MS = 3_000;
/** How long a rejected refresh waits for another tab's tokens before the session is given up, in milliseconds. */
const REJECTION_GRACE_MS = 300;

export class TokenRefresh {
  #store;
  #lock;
  #connection;
  /** The refresh that is under way, and the tokens that it exchanges. @type {{of: TokenPair, done: Promise<string>} | null} */
  #pendingRefresh = null;

  /**
   * @param {object} options
   * @param {import("./token-store.js").TokenStore} options.store
   * @param {import("./tab-lock.js").TabLock} options.lock
   * @param {import("./gateway-connection.js").GatewayConnection} options.connection
   */
  constructor({ store, lock, connection }) {
    this.#store = store;
    this.#lock = lock;
    this.#connection = connection;
  }

  /** @param {string} token @returns {number} milliseconds until it expires, without end if it does not say */
  timeLeft(token) {
    const expires = readClaims(token)?.exp;
    return typeof expires === "number" ? expires * 1000 - this.#connection.clock.now() : Infinity;
  }

  /**
   * @param {string | null} rejected the access token that is no longer good
   * @returns {Promise<string>} a good one
   */
  async refresh(rejected) {
    const tokens = this.#store.read();
    const other = this.otherThan(tokens, rejected);
    if (other !== null) return other;
    if (this.#pendingRefresh === null || this.#pendingRefresh.of.refresh !== tokens.refresh) {
      const pending = { of: tokens, done: this.#refreshAlone(rejected) };
      this.#pendingRefresh = pending;
      const end = () => {
        if (this.#pendingRefresh === pending) this.#pendingRefresh = null;
      };
      pending.done.then(end, end);
    }
    return this.#pendingRefresh.done;
  }

  /**
   * A token that is worth a try instead of the one that was rejected.
   * @param {TokenPair} tokens
   * @param {string | null} rejected
   * @returns {string | null}
   */
  otherThan({ access }, rejected) {
    return access !== null && access !== rejected && this.timeLeft(access) > 0 ? access : null;
  }

  /** @param {string | null} rejected @returns {Promise<string>} */
  async #refreshAlone(rejected) {
    // One for the wait and the request together, so that tabs behind a gateway that hangs do not add up.
    const deadline = this.#connection.newDeadline();
    try {
      return await this.#lock.run((lock) => this.#exchangeRefreshToken(rejected, lock, deadline), deadline);
    } catch (error) {
      throw deadline.aborted && error === deadline.reason ? new NetworkError(null, error) : error;
    }
  }

  /**
   * @param {string | null} rejected
   * @param {import("./tab-lock.js").HeldLock} lock
   * @param {AbortSignal} deadline
   * @returns {Promise<string>}
   */
  async #exchangeRefreshToken(rejected, lock, deadline) {
    await this.#store.reload();
    let presented = this.#store.read();
    if (await lock.wasExchanged(pairId(presented))) {
      await this.#store.waitForOthers(presented, STORAGE_LAG_MS);
      presented = this.#store.read();
    }
    // Another tab may have had the lock before us.
    const other = this.otherThan(presented, rejected);
    if (other !== null) return other;
    if (presented.refresh === null) {
      // Also without a login: stored values that cannot be tokens are removed.
      await this.#store.clear("expired");
      throw new AuthenticationRequired(presented.access === null ? null : "expired");
    }
    const response = await this.#connection.callWithToken("/refresh", presented.refresh, { method: "POST" }, deadline);
    const answer = response.ok ? await readTokens(response) : null;
    const rejection = answer === null ? await refreshRejection(response) : null;
    // Tokens that another tab got just before, without a lock, may still be on their way to us.
    if (rejection !== null && this.#store.isShared) await this.#store.waitForOthers(presented, REJECTION_GRACE_MS);
    // Looked at after the wait for the answer and right before acting on it.
    const current = this.#store.read();
    if (current.refresh !== presented.refresh) return this.#afterOthers(current, rejected, answer);
    if (answer !== null) {
      this.#connection.clock.set(answer.server_time * 1000);
      const written = this.#store.write({
        access: answer.access_token,
        refresh: answer.refresh_token ?? presented.refresh,
      });
      await Promise.all([written, lock.markExchanged(pairId(presented))]);
      return answer.access_token;
    }
    if (rejection !== null) {
      await this.#store.clear(rejection);
      throw new AuthenticationRequired(rejection);
    }
    throw new NetworkError(await ApiError.from(response));
  }

  /**
   * Somebody has logged out, or in anew, or refreshed without a lock, while we waited for our answer.
   * @param {TokenPair} current
   * @param {string | null} rejected
   * @param {import("./token-response.js").TokenResponse | null} answer
   * @returns {string}
   */
  #afterOthers(current, rejected, answer) {
    const other = this.otherThan(current, rejected);
    if (other !== null) return other;
    // The storage shows a half of what the other tab has stored; ours is of the same session, and as good.
    const { access, refresh } = current;
    if (answer !== null && [access, refresh].some((token) => isSameSession(token, answer.access_token))) {
      return answer.access_token;
    }
    if (access !== null) return access;
    throw new AuthenticationRequired();
  }
}

/** Names a pair of tokens without giving them away: by what is last in their signatures. @param {TokenPair} tokens */
const pairId = ({ access, refresh }) => `${(refresh ?? "").slice(-16)}|${(access ?? "").slice(-16)}`;
