/**
 * The token client: keeps an access and a refresh token, sends the one, trades the other, and survives tabs, races and
 * outages. It knows no page; take it into any app behind auth-gateway:
 *
 *     import { Session } from "./session.js";
 *
 *     const session = new Session({ baseUrl: "" });
 *     await session.login("alice", password);
 *     const response = await session.fetch("/protected");
 *     session.addEventListener("change", () => render(session.accessToken));
 *
 * Races, and what is done about them:
 *
 * - Many requests fail together: the first one refreshes, the others wait for it (`#refreshing`).
 * - Many tabs fail together: Web Locks let one of them refresh; the others look into the storage again once they hold
 *   the lock, and find its tokens. Without Web Locks the gateway gives both tabs the same successor.
 * - Another tab was faster before we even asked: the token in the storage is not the one that was refused, so it is
 *   tried before anything is refreshed.
 * - A late answer: what a refresh brings is stored only if the storage still holds the token it was asked with. A
 *   logout, or a login as someone else, in the meantime is therefore never undone.
 * - A refused refresh clears the tokens, under the same condition. An outage clears nothing: the session may be good.
 *
 * @module
 */

/** @typedef {"access_token" | "refresh_token"} TokenName */

/**
 * What the gateway answers to /login and /refresh.
 * @typedef {object} TokenAnswer
 * @property {string} access_token
 * @property {string} [refresh_token] absent where the gateway does not rotate
 * @property {string} token_type
 * @property {number} expires_in seconds
 * @property {number} refresh_expires_in seconds
 * @property {number} server_time seconds since 1970
 */

/**
 * The claims of a token, unverified: they are for show, the gateway is the judge.
 * @typedef {object} Claims
 * @property {string} sub
 * @property {string} username
 * @property {string[]} roles
 * @property {string} type
 * @property {number} iat seconds since 1970
 * @property {number} exp seconds since 1970
 */

/** The gateway said no. */
export class Refused extends Error {
  /**
   * @param {number} status
   * @param {{code?: string, message?: string}} problem the body, as far as it was one
   * @param {number | null} retryAfter seconds
   */
  constructor(status, problem, retryAfter) {
    super(problem.message || "An unexpected error occurred.");
    this.name = "Refused";
    this.status = status;
    this.code = problem.code || "";
    this.retryAfter = retryAfter;
  }

  /** @param {Response} response */
  static async from(response) {
    /** @type {{code?: string, message?: string}} */
    let problem = {};
    try {
      const body = await response.json();
      if (body && typeof body === "object") problem = body;
    } catch {
      // No problem+json: something in between answered.
    }
    const seconds = Number.parseInt(response.headers.get("Retry-After") || "", 10);
    return new Refused(response.status, problem, Number.isNaN(seconds) ? null : seconds);
  }
}

/** Nobody said anything, or only that it cannot be said now: the session may be as good as before. */
export class Unreachable extends Error {
  /** @param {Refused | null} refusal what was said, if anything */
  constructor(refusal) {
    super(refusal ? refusal.message : "Cannot reach server.");
    this.name = "Unreachable";
    this.refusal = refusal;
  }
}

/** There are no tokens, or those there were are no longer good. */
export class SignedOut extends Error {
  constructor() {
    super("Please log in first.");
    this.name = "SignedOut";
  }
}

const LOCK = "auth-gateway-refresh";

/** Whether a refusal is about the token, so that a new one would help (RFC 6750 section 3.1). */
const isTokenRefusal = (/** @type {Response} */ response) =>
  response.status === 401 && /error="invalid_token"/.test(response.headers.get("WWW-Authenticate") || "");

/** Whether an answer says nothing about the session: overload, limits, outages. */
const isOutage = (/** @type {Response} */ response) => response.status === 429 || response.status >= 500;

/**
 * A session with the gateway. Fires `change` whenever the tokens change, here or in another tab.
 */
export class Session extends EventTarget {
  /** @type {Promise<void> | null} */
  #refreshing = null;
  #baseUrl;
  #storage;
  /** Server's clock minus ours, in milliseconds. */
  #clockOffset = 0;

  /**
   * @param {object} [options]
   * @param {string} [options.baseUrl] where /login is: "" for this origin, "/auth", "https://gateway.example"
   * @param {Storage} [options.storage] where the tokens are kept; localStorage if nothing is said
   */
  constructor({ baseUrl = "", storage = globalThis.localStorage } = {}) {
    super();
    this.#baseUrl = baseUrl.replace(/\/$/, "");
    this.#storage = storage;
    if (typeof globalThis.addEventListener === "function") {
      globalThis.addEventListener("storage", (event) => {
        const { key } = /** @type {StorageEvent} */ (event);
        // `null` means that everything was cleared.
        if (key === null || key === "access_token" || key === "refresh_token") this.#changed();
      });
    }
  }

  /** @returns {string | null} */
  get accessToken() {
    return this.#storage.getItem("access_token");
  }

  /** @returns {string | null} */
  get refreshToken() {
    return this.#storage.getItem("refresh_token");
  }

  /** Whether there is anything to try. */
  get hasTokens() {
    return this.accessToken !== null || this.refreshToken !== null;
  }

  /** What the access token says, or nothing if there is none that can be read. @returns {Claims | null} */
  get claims() {
    return this.accessToken === null ? null : readClaims(this.accessToken);
  }

  /** Now by the server's clock, in milliseconds since 1970. */
  now() {
    return Date.now() + this.#clockOffset;
  }

  /**
   * Logs in and keeps the tokens.
   * @param {string} username
   * @param {string} password
   */
  async login(username, password) {
    const response = await this.#send("/login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ username, password }),
    });
    if (!response.ok) throw await Refused.from(response);
    this.#store(await response.json());
  }

  /**
   * Ends the session at the gateway and forgets the tokens. They are forgotten whatever happens; if the gateway could
   * not be told, this throws afterwards.
   */
  async logout() {
    const token = this.refreshToken ?? this.accessToken;
    // Before the request: an answer to a refresh that is under way then finds that its token is gone.
    this.clear();
    if (token === null) return;
    const response = await this.#send("/logout", { method: "POST", headers: bearer(token), keepalive: true });
    // A 401 means that there was no session to end.
    if (!response.ok && response.status !== 401) throw new Unreachable(await Refused.from(response));
  }

  /** Forgets the tokens. */
  clear() {
    this.#storage.removeItem("access_token");
    this.#storage.removeItem("refresh_token");
    this.#changed();
  }

  /**
   * Like the global `fetch`, with the access token attached. A refused token is renewed once and the request sent once
   * more. Whatever the second answer is, it is the answer: nothing here loops.
   * @param {string} path below the base URL
   * @param {RequestInit} [init]
   * @returns {Promise<Response>}
   */
  async fetch(path, init = {}) {
    let token = this.accessToken;
    if (token === null) {
      await this.refresh(null);
      token = this.accessToken;
    }
    const response = await this.#sendWithToken(path, init, token);
    if (!isTokenRefusal(response)) return response;
    // If another tab has replaced the token since, `refresh` sees it and does nothing.
    await this.refresh(token);
    return this.#sendWithToken(path, init, this.accessToken);
  }

  /**
   * Gets a new access token, unless the storage already holds another than `refused`.
   * @param {string | null} refused the access token that is no longer good
   */
  async refresh(refused) {
    if (this.accessToken !== null && this.accessToken !== refused) return;
    this.#refreshing ??= this.#refreshAlone(refused).finally(() => {
      this.#refreshing = null;
    });
    await this.#refreshing;
  }

  /** @param {string | null} refused */
  async #refreshAlone(refused) {
    const locks = globalThis.navigator?.locks;
    const once = async () => {
      // Another tab may have had the lock before us.
      if (this.accessToken !== null && this.accessToken !== refused) return;
      await this.#trade();
    };
    await (locks ? locks.request(LOCK, once) : once());
  }

  async #trade() {
    const presented = this.refreshToken;
    if (presented === null) {
      this.clear();
      throw new SignedOut();
    }
    const response = await this.#send("/refresh", { method: "POST", headers: bearer(presented) });
    const isCurrent = () => this.refreshToken === presented;
    if (response.ok) {
      const answer = await response.json();
      if (!isCurrent()) throw new SignedOut();
      this.#store(answer);
    } else if (response.status === 401) {
      if (isCurrent()) this.clear();
      throw new SignedOut();
    } else {
      throw new Unreachable(await Refused.from(response));
    }
  }

  /**
   * @param {string} path
   * @param {RequestInit} init
   * @param {string | null} token
   */
  async #sendWithToken(path, init, token) {
    if (token === null) throw new SignedOut();
    const headers = new Headers(init.headers);
    headers.set("Authorization", `Bearer ${token}`);
    const response = await this.#send(path, { ...init, headers });
    if (isOutage(response)) throw new Unreachable(await Refused.from(response));
    return response;
  }

  /**
   * @param {string} path
   * @param {RequestInit} init
   */
  async #send(path, init) {
    try {
      return await fetch(this.#baseUrl + path, { cache: "no-store", credentials: "omit", ...init });
    } catch {
      throw new Unreachable(null);
    }
  }

  /** @param {TokenAnswer} answer */
  #store(answer) {
    this.#clockOffset = answer.server_time * 1000 - Date.now();
    // The refresh token first: a tab that sees the new access token finds the new refresh token too.
    if (answer.refresh_token !== undefined) this.#storage.setItem("refresh_token", answer.refresh_token);
    this.#storage.setItem("access_token", answer.access_token);
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

/** @param {string} token */
const bearer = (token) => ({ Authorization: `Bearer ${token}` });

/**
 * Reads a token's claims without judging them.
 * @param {string} token
 * @returns {Claims | null}
 */
export function readClaims(token) {
  try {
    const payload = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(payload), (character) => character.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return null;
  }
}
