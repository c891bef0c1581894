/**
 * The token client: keeps an access and a refresh token, sends the one, trades the other, and survives tabs, races and
 * outages. It knows no page; take it into any app behind auth-gateway:
 *
 *     import { Session } from "./session.js";
 *
 *     const session = new Session({ baseUrl: "https://gateway.example", endpoints: "/auth" });
 *     session.addEventListener("change", () => render(session.claims));
 *     await session.login("alice", password);
 *     try {
 *       const response = await session.fetch("/protected", { signal });
 *     } catch (error) {
 *       if (error instanceof SignedOut) showLogin();
 *       else if (error instanceof Unreachable) offerRetry();
 *     }
 *
 * Races, and what is done about them:
 *
 * - Many requests fail together: the first one refreshes, the others wait for it (`#flight`). Those of a newer login
 *   do not: what an older one's refresh brings is not for them.
 * - Many tabs fail together: Web Locks let one of them refresh; the others look into the storage again once they hold
 *   the lock, and find its tokens. Without Web Locks the gateway gives both tabs the same successor.
 * - Another tab was faster before we even asked: the token in the storage is not the one that was refused, so it is
 *   tried before anything is refreshed, unless one can see that it has expired, too.
 * - Another tab logged in as somebody else: a request that was made for one user is not repeated for the other.
 * - A late answer: what a refresh brings is stored only if the storage still holds the token it was asked with. A
 *   logout, or a login as someone else, in the meantime is therefore never undone.
 * - A refused refresh clears the tokens, under the same condition. An outage clears nothing: the session may be good.
 * - A gateway that never answers: our own requests end after `PATIENCE`, so no tab holds the lock for ever.
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
    const seconds = Number.parseInt(response.headers.get("Retry-After") || "", 10);
    return new Refused(response.status, await readProblem(response), Number.isNaN(seconds) ? null : seconds);
  }
}

/**
 * @param {Response} response
 * @returns {Promise<{code?: string, message?: string}>} nothing, if what answered was not the gateway
 */
async function readProblem(response) {
  const body = await response.json().catch(() => null);
  return body !== null && typeof body === "object" ? body : {};
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
/** What can stand behind `Bearer` (RFC 6750 section 2.1). The gateway would not look at anything else as a token. */
const TOKEN = /^[A-Za-z0-9._~+/-]+=*$/;
/** How long the gateway may take to answer for itself, in milliseconds. */
const PATIENCE = 15_000;
const TOKEN_CODES = new Set([
  "invalid_token",
  "token_expired",
  "token_not_yet_valid",
  "token_reused",
  "token_revoked",
  "wrong_token_type",
]);

/**
 * Whether a refusal is about the token, so that a new one would help (RFC 6750 section 3.1).
 * @param {Response} response
 */
async function isTokenRefusal(response) {
  if (response.status !== 401) return false;
  const challenge = response.headers.get("WWW-Authenticate");
  if (challenge !== null) return /error="?invalid_token\b/.test(challenge);
  // Hidden from a page of another origin, or lost on the way: the body says it, too.
  const { code } = await readProblem(response.clone());
  return TOKEN_CODES.has(code ?? "");
}

/** What is needed of a `Storage`. @typedef {Pick<Storage, "getItem" | "setItem" | "removeItem">} TokenStorage */

/**
 * A session with the gateway. Fires `change` whenever the tokens change, here or in another tab.
 */
export class Session extends EventTarget {
  /** The refresh that is under way, and the token that it trades. @type {{of: string | null, done: Promise<void>} | null} */
  #flight = null;
  #baseUrl;
  #endpoints;
  #storage;
  /** Server's clock minus ours, in milliseconds; nothing until the server has said its time. @type {number | null} */
  #clockOffset = null;
  /** The access token that each answer of `fetch` was asked with. @type {WeakMap<Response, string>} */
  #askedWith = new WeakMap();

  /**
   * @param {object} [options]
   * @param {string} [options.baseUrl] the gateway: "" is where the page is from, or "https://gateway.example"
   * @param {string} [options.endpoints] the gateway's setting `endpoints.prefix`, such as "/auth"
   * @param {TokenStorage} [options.storage] where the tokens are kept; localStorage if nothing is said
   */
  constructor({ baseUrl = "", endpoints = "", storage = defaultStorage() } = {}) {
    super();
    // Absolute from the start, so that no path can lead a token to another host.
    this.#baseUrl = new URL(baseUrl || "/", globalThis.location?.href).href.replace(/\/$/, "");
    this.#endpoints = endpoints;
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
    return this.#read("access_token");
  }

  /** @returns {string | null} */
  get refreshToken() {
    return this.#read("refresh_token");
  }

  /** Whether there is anything to try. */
  get hasTokens() {
    return this.accessToken !== null || this.refreshToken !== null;
  }

  /** What the access token says, or nothing if there is none that can be read. @returns {Claims | null} */
  get claims() {
    return this.accessToken === null ? null : readClaims(this.accessToken);
  }

  /** What the refresh token says; its `exp` is the end of the session. @returns {Claims | null} */
  get refreshClaims() {
    return this.refreshToken === null ? null : readClaims(this.refreshToken);
  }

  /** Now by the server's clock, in milliseconds since 1970. */
  now() {
    return Date.now() + (this.#clockOffset ?? 0);
  }

  /**
   * Logs in and keeps the tokens.
   * @param {string} username
   * @param {string} password
   * @throws {Refused} with the gateway's reason, or {@link Unreachable}
   */
  async login(username, password) {
    const response = await this.#post("/login", {
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ username, password }),
    });
    if (!response.ok) throw await Refused.from(response);
    const answer = await readTokens(response);
    // Halves of two sessions must not mix.
    if (answer.refresh_token === undefined) this.#storage.removeItem("refresh_token");
    this.#store(answer);
  }

  /**
   * Ends the session at the gateway and forgets the tokens. They are forgotten whatever happens; if the gateway could
   * not be told, this throws afterwards.
   */
  async logout() {
    const held = [this.refreshToken, this.accessToken];
    // Before the request: an answer to a refresh that is under way then finds that its token is gone.
    this.clear();
    for (const token of held) {
      if (token === null) continue;
      const response = await this.#post("/logout", { headers: bearer(token), keepalive: true });
      if (response.ok) return;
      // A 401 says that this token ends no session; the other one still may.
      if (response.status !== 401) throw new Unreachable(await Refused.from(response));
    }
  }

  /** Forgets the tokens. */
  clear() {
    // The refresh token first: no tab shall find one that it could still trade.
    this.#storage.removeItem("refresh_token");
    this.#storage.removeItem("access_token");
    this.#changed();
  }

  /**
   * Forgets the tokens if `response`, an answer of `fetch`, refused the access token that is still held. `fetch` itself
   * never does: one upstream that refuses a fresh token need not be the end of the session. Says whether it did.
   * @param {Response} response its body not yet read
   */
  async giveUp(response) {
    const refused = await isTokenRefusal(response);
    if (!refused || this.accessToken === null || this.accessToken !== this.#askedWith.get(response)) return false;
    this.clear();
    return true;
  }

  /**
   * Like the global `fetch`, with the access token attached. A refused token is renewed once and the request sent once
   * more, so its body cannot be a stream. Whatever the second answer is, it is the answer: nothing here loops.
   * @param {string} path below the base URL, with its "/"
   * @param {RequestInit} [init]
   * @returns {Promise<Response>} whatever its status
   * @throws {SignedOut} when there is no good token left, {@link Unreachable} when nobody answered or the token could
   *   not be renewed for now; the signal's reason when `init.signal` aborted the request
   */
  async fetch(path, init = {}) {
    const token = this.accessToken ?? (await this.#renewed(null));
    const response = await this.#sendWithToken(path, init, token);
    if (!(await isTokenRefusal(response))) return response;
    const next = await this.#renewed(token);
    const [before, now] = [readClaims(token), readClaims(next)];
    if (before !== null && now !== null && before.sub !== now.sub) throw new SignedOut();
    return this.#sendWithToken(path, init, next);
  }

  /**
   * Gets a new access token, unless the storage already holds a usable one other than `refused`.
   * @param {string | null} refused the access token that is no longer good
   * @throws {SignedOut} or {@link Unreachable}
   */
  async refresh(refused) {
    if (this.#isReplaced(refused)) return;
    const of = this.refreshToken;
    if (this.#flight === null || this.#flight.of !== of) {
      const flight = { of, done: this.#refreshAlone(refused) };
      this.#flight = flight;
      const land = () => {
        if (this.#flight === flight) this.#flight = null;
      };
      flight.done.then(land, land);
    }
    await this.#flight.done;
  }

  /** @param {string | null} refused */
  async #renewed(refused) {
    await this.refresh(refused);
    const token = this.accessToken;
    if (token === null) throw new SignedOut();
    return token;
  }

  /**
   * Whether the storage holds an access token that is worth a try instead of `refused`.
   * @param {string | null} refused
   */
  #isReplaced(refused) {
    if (this.accessToken === null || this.accessToken === refused) return false;
    const expires = this.claims?.exp;
    return typeof expires !== "number" || expires * 1000 > this.now();
  }

  /** @param {string | null} refused */
  async #refreshAlone(refused) {
    const locks = globalThis.navigator?.locks;
    const once = async () => {
      // Another tab may have had the lock before us.
      if (!this.#isReplaced(refused)) await this.#trade();
    };
    await (locks ? locks.request(LOCK, once) : once());
  }

  async #trade() {
    const presented = this.refreshToken;
    if (presented === null) {
      this.clear();
      throw new SignedOut();
    }
    const response = await this.#post("/refresh", { headers: bearer(presented) });
    const answer = response.ok ? await readTokens(response) : null;
    // Looked at after the wait for the answer and right before acting on it.
    if (this.refreshToken !== presented) {
      // Logged out, or in anew: the answer is about a session that is no longer ours.
      if (this.accessToken === null) throw new SignedOut();
    } else if (answer !== null) {
      this.#store(answer);
    } else if (response.status === 401) {
      this.clear();
      throw new SignedOut();
    } else {
      throw new Unreachable(await Refused.from(response));
    }
  }

  /**
   * @param {string} path
   * @param {RequestInit} init
   * @param {string} token
   */
  async #sendWithToken(path, init, token) {
    const headers = new Headers(init.headers);
    headers.set("Authorization", `Bearer ${token}`);
    const response = await this.#send(path, { ...init, headers });
    this.#askedWith.set(response, token);
    return response;
  }

  /**
   * To one of the gateway's own endpoints.
   * @param {string} endpoint
   * @param {RequestInit} init
   */
  #post(endpoint, init) {
    return this.#send(this.#endpoints + endpoint, { method: "POST", ...init }, AbortSignal.timeout(PATIENCE));
  }

  /**
   * @param {string} path
   * @param {RequestInit} init
   * @param {AbortSignal} [deadline] instead of a signal of the caller's
   */
  async #send(path, init, deadline) {
    if (!path.startsWith("/")) throw new TypeError(`A path starts with "/", which "${path}" does not.`);
    try {
      const options = { ...init, ...(deadline && { signal: deadline }) };
      const response = await fetch(this.#baseUrl + path, { cache: "no-store", credentials: "omit", ...options });
      // A reload forgets the server's time; until a token is issued, the date of any answer is the next best.
      const date = Date.parse(response.headers.get("Date") ?? "");
      if (this.#clockOffset === null && !Number.isNaN(date)) this.#setClock(date);
      return response;
    } catch (error) {
      if (init.signal?.aborted) throw error;
      throw new Unreachable(null);
    }
  }

  /** @param {TokenName} name */
  #read(name) {
    const token = this.#storage.getItem(name);
    return token !== null && TOKEN.test(token) ? token : null;
  }

  /** @param {number} second the server's time in milliseconds, rounded down to a second */
  #setClock(second) {
    const ours = Date.now();
    // Within that second our clock is as good as the server's.
    this.#clockOffset = Math.min(Math.max(ours, second), second + 1000) - ours;
  }

  /** @param {TokenAnswer} answer */
  #store(answer) {
    this.#setClock(answer.server_time * 1000);
    // The refresh token first: a tab that sees the new access token finds the new refresh token too.
    if (answer.refresh_token !== undefined) this.#storage.setItem("refresh_token", answer.refresh_token);
    this.#storage.setItem("access_token", answer.access_token);
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

/** localStorage, or, where the browser forbids it, the memory of this page. @returns {TokenStorage} */
function defaultStorage() {
  try {
    if (globalThis.localStorage) return globalThis.localStorage;
  } catch {
    // The browser's settings keep it from us.
  }
  /** @type {Map<string, string>} */
  const kept = new Map();
  return {
    getItem: (name) => kept.get(name) ?? null,
    setItem: (name, value) => void kept.set(name, value),
    removeItem: (name) => void kept.delete(name),
  };
}

/** @param {string} token */
const bearer = (token) => ({ Authorization: `Bearer ${token}` });

/**
 * @param {Response} response of /login or /refresh
 * @returns {Promise<TokenAnswer>}
 * @throws {Unreachable} when it broke off, or is no such answer: whatever stands in for the gateway, it ends no session
 */
async function readTokens(response) {
  const answer = await response.json().catch(() => null);
  const isToken = (/** @type {unknown} */ token) => typeof token === "string" && TOKEN.test(token);
  const isRenewal = answer?.refresh_token === undefined || isToken(answer.refresh_token);
  if (isToken(answer?.access_token) && isRenewal && typeof answer.server_time === "number") return answer;
  throw new Unreachable(new Refused(response.status, {}, null));
}

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
