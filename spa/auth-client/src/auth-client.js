/**
 * The token client: keeps an access and a refresh token, sends the one, exchanges the other, and survives tabs, races,
 * outages and clocks.
 *
 * @module
 */

import { readClaims } from "./claims.js";
import { isBound } from "./dpop.js";
import { ApiError, AuthenticationRequired, NetworkError, SecondFactorRequired, tokenRejection } from "./errors.js";
import { eventStream } from "./event-stream.js";
import { Announcer } from "./events.js";
import { GatewayConnection } from "./gateway-connection.js";
import { RefreshSchedule } from "./refresh-schedule.js";
import { orAborted, prepare, resolveUrl } from "./request.js";
import { SecondFactor } from "./second-factor.js";
import { browserStorage, isShared, memoryStorage } from "./storage.js";
import { TabChannel } from "./tab-channel.js";
import { tabLock } from "./tab-lock.js";
import { TokenRefresh } from "./token-refresh.js";
import { readTokens } from "./token-response.js";
import { TokenStore } from "./token-store.js";

/** @typedef {import("./claims.js").Claims} Claims */
/** @typedef {import("./errors.js").SignOutReason} SignOutReason */
/** @typedef {import("./storage.js").StorageAdapter} StorageAdapter */
/** @typedef {import("./token-store.js").TokenPair} TokenPair */

/**
 * One of the user's sessions, as the gateway lists it.
 * @typedef {object} SessionInfo
 * @property {string} sid
 * @property {number} started_at seconds since 1970
 * @property {number | null} last_refreshed_at seconds since 1970
 * @property {string | null} address
 * @property {string | null} client the `User-Agent` of the login
 * @property {boolean} current whether it is the one that asks
 */

/**
 * A personal access token, as the gateway lists it. Times are seconds since 1970.
 * @typedef {object} PersonalToken
 * @property {string} id
 * @property {string} name
 * @property {number} created_at
 * @property {number | null} expires_at null for never
 * @property {number | null} last_used_at to the minute; null where it was not used
 * @property {string | null} last_used_from the address
 * @property {string[] | null} roles the only ones of the user that it has; null for all
 * @property {string[]} routes the `path` of the only routes that it is for; empty for all
 */

/**
 * @typedef {object} PersonalTokenOptions
 * @property {number | null} [expiresIn] seconds; null for never; the gateway's `default_ttl` if nothing is said
 * @property {string[]} [roles] all of the user if nothing is said
 * @property {string[]} [routes] all if nothing is said
 */

/**
 * @typedef {object} AuthClientOptions
 * @property {string} [baseUrl] the gateway: "" is where the page is from, or "https://gateway.example"
 * @property {string} [endpoints] the gateway's setting `endpoints.prefix`, such as "/auth"
 * @property {StorageAdapter} [storage] where the tokens are kept; localStorage if nothing is said
 * @property {string} [storageKey] stands with a "." before the names of the keys; "" is `access_token` and `refresh_token`
 * @property {typeof globalThis.fetch} [fetch] instead of the global one
 * @property {"always" | "active" | false} [autoRefresh] whether a page that is looked at renews its token ahead of its
 *   expiry: always, only if the token has been used, or not (then a request that needs it does); "always" if nothing is said
 * @property {number} [refreshMargin] how long before its expiry a token is renewed, in milliseconds, but no longer than a
 *   quarter of its life
 * @property {import("./dpop.js").DpopMode} [dpop] whether tokens are bound to a key of this browser's: "auto" where the gateway and the
 *   browser can, "required" fails where the browser cannot, "off" if nothing is said
 * @property {number} [requestTimeout] how long the gateway's own endpoints may take to answer, in milliseconds
 */

/** How long the gateway may take to answer for itself, in milliseconds. */
const REQUEST_TIMEOUT_MS = 15_000;
const REFRESH_MARGIN_MS = 10_000;

/**
 * A client of the gateway. Fires events (`AuthEvent`): `change` whenever the tokens change, here or in another tab;
 * `signed-in`, `refreshed`, and `signed-out` with its reason; `storage-failed` where tokens can be kept in memory only.
 */
export class AuthClient extends EventTarget {
  /** The gateway's address, without a "/" at its end. @type {string} */
  baseUrl;
  /** The user's second factor: what is set up, and setting it up. */
  secondFactor;
  #endpoints;
  #connection;
  #store;
  #channel;
  #lock;
  #schedule;
  #autoRefresh;
  #refreshMargin;
  #refresher;
  /** The access token that each answer of `fetch` was asked with. @type {WeakMap<Response, string>} */
  #sentToken = new WeakMap();
  #announcer;
  /** The last access token that a request was sent with. @type {string | null} */
  #used = null;
  #isDisposed = false;
  /** @type {(event: Event) => void} */
  #onStorage;

  /** @param {AuthClientOptions} [options] */
  constructor({
    baseUrl = "",
    endpoints = "",
    storage = browserStorage() ?? memoryStorage(),
    storageKey = "",
    fetch: customFetch,
    autoRefresh = "always",
    refreshMargin = REFRESH_MARGIN_MS,
    requestTimeout = REQUEST_TIMEOUT_MS,
    dpop = "off",
  } = {}) {
    super();
    // Absolute from the start, so that no path can lead a token to another host.
    this.baseUrl = new URL(baseUrl || "/", globalThis.location?.href).href.replace(/\/$/, "");
    this.#endpoints = endpoints;
    this.#autoRefresh = autoRefresh;
    this.#refreshMargin = refreshMargin;
    const prefix = storageKey === "" ? "" : `${storageKey}.`;
    const name = `auth-gateway:${prefix}`;
    this.#connection = new GatewayConnection({
      baseUrl: this.baseUrl,
      endpoints,
      fetch: customFetch,
      requestTimeout,
      dpop,
      keyName: `${this.baseUrl} ${prefix}`,
    });
    this.#lock = tabLock(`${name}refresh`, requestTimeout + 1_000);
    this.#channel = new TabChannel(isShared(storage) ? `${name}tokens` : null);
    this.#store = new TokenStore({
      adapter: storage,
      prefix,
      channel: this.#channel,
      onChange: (reason, isOtherTab) => {
        this.#schedule.arm();
        this.#announcer.announce(reason, isOtherTab);
      },
    });
    this.#announcer = new Announcer(this, this.#store);
    this.#refresher = new TokenRefresh({ store: this.#store, lock: this.#lock, connection: this.#connection });
    this.#onStorage = (event) => {
      if (this.#store.owns(/** @type {StorageEvent} */ (event).key)) this.#store.storageChanged();
    };
    if (this.#store.isShared) globalThis.addEventListener?.("storage", this.#onStorage);
    this.#schedule = new RefreshSchedule({
      dueIn: () => this.#refreshDueIn(),
      refresh: () => this.#refreshAhead(),
    });
    this.secondFactor = new SecondFactor({
      fetch: (path, init) => this.fetch(endpoints + path, init),
      onConfirmed: () => this.refresh(),
    });
    this.ready.then(() => {
      this.#announcer.announceRestored();
      this.#schedule.arm();
    });
  }

  /** Settled when the tokens are known; at once but for an asynchronous storage. @returns {Promise<void>} */
  get ready() {
    return this.#store.ready;
  }

  /** @returns {string | null} */
  get accessToken() {
    return this.#store.read().access;
  }

  /** @returns {string | null} */
  get refreshToken() {
    return this.#store.read().refresh;
  }

  /** Whether there is anything to try. */
  get hasTokens() {
    const { access, refresh } = this.#store.read();
    return access !== null || refresh !== null;
  }

  /** What the access token says, or nothing if there is none that can be read. @returns {Claims | null} */
  get claims() {
    return readClaims(this.accessToken);
  }

  /** What the refresh token says; its `exp` is the end of the session. @returns {Claims | null} */
  get refreshClaims() {
    return readClaims(this.refreshToken);
  }

  /** Why tokens are kept in the memory of this page only, or nothing if they are kept in the storage. @returns {unknown} */
  get storageFailure() {
    return this.#store.failure;
  }

  /** Now by the server's clock, in milliseconds since 1970. */
  now() {
    return this.#connection.clock.now();
  }

  /**
   * Logs in and keeps the tokens.
   * @param {string} username
   * @param {string} password
   * @param {{signal?: AbortSignal}} [options]
   * @throws {SecondFactorRequired} where the user has a second factor: then {@link loginWithCode} completes the login;
   *   {@link ApiError} with the gateway's reason, or {@link NetworkError}
   */
  async login(username, password, { signal } = {}) {
    await this.#logIn("/login", { username, password }, signal);
  }

  /**
   * Completes a login by a code of the user's app, or a recovery code, and keeps the tokens. After a wrong code another
   * attempt may follow.
   * @param {string} mfaToken of {@link SecondFactorRequired}
   * @param {string} code with or without blanks and hyphens
   * @param {{signal?: AbortSignal}} [options]
   * @throws {ApiError} with the gateway's reason: `invalid_code`, or `mfa_token_expired`, after which only a new login
   *   helps; or {@link NetworkError}
   */
  async loginWithCode(mfaToken, code, { signal } = {}) {
    await this.#logIn("/login/totp", { mfa_token: mfaToken, code }, signal);
  }

  /**
   * @param {string} endpoint
   * @param {object} body
   * @param {AbortSignal | undefined} signal
   */
  async #logIn(endpoint, body, signal) {
    this.#assertUsable();
    const response = await this.#connection.call(endpoint, signal ?? null, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    if (!response.ok) throw await SecondFactorRequired.from(response);
    const tokens = await readTokens(response);
    this.#connection.clock.set(tokens.server_time * 1000);
    // Both together: halves of two sessions must not mix.
    await this.#store.write({ access: tokens.access_token, refresh: tokens.refresh_token ?? null });
  }

  /**
   * Proves the user's identity anew, for what needs a second factor or a recent login (401
   * `insufficient_user_authentication`), and keeps the access token that says so. The session goes on.
   * @param {{code: string} | {currentPassword: string}} proof a code where a second factor is set up, else the password
   * @throws {AuthenticationRequired} {@link NetworkError} {@link ApiError} with the gateway's reason: `invalid_code`,
   *   `invalid_credentials`
   */
  async reauthenticate(proof) {
    const body = "code" in proof ? { code: proof.code } : { current_password: proof.currentPassword };
    const response = await this.fetch(`${this.#endpoints}/reauthenticate`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    if (!response.ok) throw await ApiError.from(response);
    const { access_token: access } = await readTokens(response);
    const held = this.#store.read();
    // A logout or another login meanwhile must not be undone.
    if (readClaims(held.access ?? held.refresh)?.sid !== readClaims(access)?.sid) throw new AuthenticationRequired();
    await this.#store.write({ access, refresh: held.refresh });
  }

  /**
   * Ends the session at the gateway and forgets the tokens. They are forgotten whatever happens; if the gateway could
   * not be told, this throws {@link NetworkError} afterwards.
   */
  async logout() {
    const { access, refresh } = this.#store.read();
    // Before the request: an answer to a refresh that is under way then finds that its token is gone.
    const cleared = this.clear();
    for (const token of [refresh, access]) {
      if (token === null) continue;
      const response = await this.#connection.callWithToken("/logout", token, { method: "POST", keepalive: true });
      if (response.ok) break;
      // A 401 says that this token ends no session; the other one still may.
      if (response.status !== 401) throw new NetworkError(await ApiError.from(response));
    }
    await cleared;
  }

  /**
   * Ends all sessions of the user, here and elsewhere. The tokens are kept if the gateway could not do it.
   * @throws {AuthenticationRequired} {@link NetworkError} {@link ApiError}
   */
  async logoutAll() {
    const response = await this.fetch(`${this.#endpoints}/logout-all`, { method: "POST" });
    if (!response.ok && !(await this.clearIfRejected(response))) throw await ApiError.from(response);
    await this.clear();
  }

  /**
   * The sessions of the user.
   * @returns {Promise<SessionInfo[] | null>} null where the gateway does not list them
   * @throws {AuthenticationRequired} {@link NetworkError} {@link ApiError}
   */
  async sessions() {
    return (await this.account())?.sessions ?? null;
  }

  /**
   * The sessions of the user, and what else users can do for their accounts at this gateway: `mfa` ({@link secondFactor}),
   * `password_change` ({@link changePassword}), `personal_tokens` ({@link personalTokens}).
   * @returns {Promise<{sessions: SessionInfo[], features: string[]} | null>} null where the gateway does not list them
   * @throws {AuthenticationRequired} {@link NetworkError} {@link ApiError}
   */
  async account() {
    const body = await this.#get("sessions");
    return body && { sessions: body.sessions, features: Array.isArray(body.features) ? body.features : [] };
  }

  /**
   * Ends one of the user's sessions.
   * @param {string} sid
   * @throws {AuthenticationRequired} {@link NetworkError} {@link ApiError}
   */
  async endSession(sid) {
    const response = await this.fetch(`${this.#endpoints}/sessions/${encodeURIComponent(sid)}`, { method: "DELETE" });
    // Gone already is as good.
    if (!response.ok && response.status !== 404) throw await ApiError.from(response);
    if (sid === this.claims?.sid) await this.clear();
  }

  /**
   * Changes the user's password. The session of this client goes on.
   * @param {string} currentPassword
   * @param {string} newPassword
   * @param {{endOtherSessions?: boolean}} [options] whether the user's other sessions end; they do if nothing is said
   * @throws {AuthenticationRequired} {@link NetworkError} {@link ApiError} with the gateway's reason: `invalid_credentials`
   *   for a wrong current password, `password_too_short` and the like for a new one that is refused
   */
  async changePassword(currentPassword, newPassword, { endOtherSessions = true } = {}) {
    const response = await this.fetch(`${this.#endpoints}/password`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({
        current_password: currentPassword,
        new_password: newPassword,
        end_other_sessions: endOtherSessions,
      }),
    });
    if (!response.ok) throw await ApiError.from(response);
  }

  /**
   * Changes a password without which there is no login (403 `password_change_required`). Afterwards {@link login} takes the new one.
   * @param {string} username
   * @param {string} currentPassword
   * @param {string} newPassword
   * @param {{code?: string, signal?: AbortSignal}} [options] a code where that error has `factors`
   * @throws {NetworkError} {@link ApiError} with the gateway's reason, as for {@link changePassword}; `invalid_code`
   */
  async changeRequiredPassword(username, currentPassword, newPassword, { code, signal } = {}) {
    this.#assertUsable();
    const body = { username, current_password: currentPassword, new_password: newPassword, code };
    const response = await this.#connection.call("/password", signal ?? null, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    if (!response.ok) throw await ApiError.from(response);
  }

  /**
   * The user's personal access tokens, which are for programs.
   * @returns {Promise<PersonalToken[] | null>} null where the gateway has none
   * @throws {AuthenticationRequired} {@link NetworkError} {@link ApiError}
   */
  async personalTokens() {
    return (await this.#get("tokens"))?.tokens ?? null;
  }

  /**
   * Makes a personal access token.
   * @param {string} name what it is called in listings
   * @param {PersonalTokenOptions} [options]
   * @returns {Promise<PersonalToken & {token: string}>} with its text, which is never shown again
   * @throws {AuthenticationRequired} {@link NetworkError} {@link ApiError} with the gateway's reason in `detail`
   */
  async createPersonalToken(name, { expiresIn, roles, routes } = {}) {
    const response = await this.fetch(`${this.#endpoints}/tokens`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ name, expires_in: expiresIn, roles, routes }),
    });
    if (!response.ok) throw await ApiError.from(response);
    return response.json();
  }

  /**
   * Revokes one of the user's personal access tokens, everywhere at once.
   * @param {string} id
   * @throws {AuthenticationRequired} {@link NetworkError} {@link ApiError}
   */
  async revokePersonalToken(id) {
    const response = await this.fetch(`${this.#endpoints}/tokens/${encodeURIComponent(id)}`, { method: "DELETE" });
    // Gone already is as good.
    if (!response.ok && response.status !== 404) throw await ApiError.from(response);
  }

  /**
   * The answer of an endpoint that lists something under its own name.
   * @param {"sessions" | "tokens"} what
   * @returns {Promise<Record<string, any> | null>} null where the gateway has no such endpoint
   */
  async #get(what) {
    const response = await this.fetch(`${this.#endpoints}/${what}`, { headers: { Accept: "application/json" } });
    if ([404, 405].includes(response.status)) return null;
    if (!response.ok) throw await ApiError.from(response);
    const body = await response.json().catch(() => null);
    return Array.isArray(body?.[what]) ? body : null;
  }

  /** Forgets the tokens. @param {SignOutReason} [reason] what `signed-out` says */
  async clear(reason = "logout") {
    await this.#store.clear(reason);
  }

  /**
   * Forgets the tokens if `response`, an answer of `fetch`, rejected the access token that is still held. `fetch` itself
   * never does: one upstream that rejects a fresh token need not be the end of the session. Says whether it did.
   * @param {Response} response its body not yet read
   */
  async clearIfRejected(response) {
    const rejection = await tokenRejection(response);
    if (rejection === null || this.accessToken === null) return false;
    if (this.accessToken !== this.#sentToken.get(response)) return false;
    await this.clear(rejection.reason);
    return true;
  }

  /**
   * Like the global `fetch`, with the access token attached. A token about to expire is renewed first; one that is
   * rejected is renewed once and the request sent once more, unless its body was a stream. Whatever the second answer
   * is, it is the answer: nothing here loops.
   * @param {string | URL | Request} input at the gateway: absolute, or below the base URL
   * @param {RequestInit} [init]
   * @returns {Promise<Response>} whatever its status
   * @throws {AuthenticationRequired} when there is no valid token left, {@link NetworkError} when there was no response or the
   *   token could not be renewed for now; the signal's reason when a signal aborted the request; `TypeError` for what
   *   `fetch` would not take either, and for other hosts
   */
  async fetch(input, init = {}) {
    const request = prepare(this.baseUrl, input, init);
    request.signal?.throwIfAborted();
    const token = await orAborted(this.#goodToken(), request.signal);
    const response = await this.#sendWithToken(request, token);
    if ((await tokenRejection(response)) === null) return response;
    const next = await orAborted(this.refresh(token), request.signal);
    const [before, now] = [readClaims(token), readClaims(next)];
    if (before !== null && now !== null && before.sub !== now.sub) throw new AuthenticationRequired();
    return request.isRepeatable ? this.#sendWithToken(request, next) : response;
  }

  /**
   * Gets a new access token, unless the storage already holds a usable one other than `rejected`.
   * @param {string | null} [rejected] the access token that is no longer good; the one that is held if nothing is said
   * @returns {Promise<string>} a good one
   * @throws {AuthenticationRequired} {@link NetworkError}
   */
  async refresh(rejected = this.accessToken) {
    this.#assertUsable();
    await this.ready;
    return this.#refresher.refresh(rejected);
  }

  /**
   * Opens a WebSocket with the token, and the proof that a bound one needs, among its subprotocols, for routes with `token_in_subprotocol = true`. The gateway
   * ends it with the session.
   * @param {string | URL} address at the gateway, with any of the schemes http, https, ws and wss, or below the base URL
   * @param {string | string[]} [protocols] the app's own
   * @returns {Promise<WebSocket>} on its way; `open` and `error` are still to come
   * @throws {AuthenticationRequired} {@link NetworkError}
   */
  async webSocket(address, protocols = []) {
    const asHttp = String(address).replace(/^ws(s?):/i, "http$1:");
    const url = resolveUrl(this.baseUrl, asHttp);
    const token = await this.#goodToken();
    const proof = isBound(token) ? await this.#connection.proofs.proof("GET", url, token) : null;
    const credentials = proof === null ? ["bearer", token] : ["dpop", token, proof];
    return new WebSocket(url.replace(/^http/, "ws"), [...credentials, ...[protocols].flat()]);
  }

  /**
   * Fetches a file with the token and has the browser save it. A link cannot send a token; the file is in memory for a moment.
   * @param {string | URL | Request} input as for `fetch`
   * @param {string} [name] what the file is called
   * @throws {ApiError} and what `fetch` throws
   */
  async download(input, name = "") {
    const response = await this.fetch(input);
    if (!response.ok) throw await ApiError.from(response);
    const address = URL.createObjectURL(await response.blob());
    const link = /** @type {HTMLAnchorElement} */ (document.createElementNS("http://www.w3.org/1999/xhtml", "a"));
    Object.assign(link, { href: address, download: name }).click();
    // The browser has begun to read it when the next task runs; a minute is on the safe side.
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  }

  /**
   * The events of a stream (`text/event-stream`), which `EventSource` cannot read for it sends no token. Connects again
   * after an end or an outage, with `Last-Event-ID`, until the signal aborts, the loop is left, or the server says 204.
   * @param {string | URL} address at the gateway
   * @param {import("./event-stream.js").EventStreamOptions} [options]
   * @returns {AsyncGenerator<import("./event-stream.js").ServerSentEvent, void, undefined>}
   */
  events(address, options = {}) {
    return eventStream((init) => this.fetch(address, init), options);
  }

  /** Ends timers, listeners and messages; the tokens stay where they are. */
  dispose() {
    this.#isDisposed = true;
    this.#schedule.dispose();
    this.#channel.close();
    this.#lock.close();
    this.#announcer.dispose();
    globalThis.removeEventListener?.("storage", this.#onStorage);
  }

  #assertUsable() {
    if (this.#isDisposed) throw new DOMException("The client was disposed of.", "InvalidStateError");
  }

  /** A token that is valid for a while, as far as is known. @returns {Promise<string>} */
  async #goodToken() {
    this.#assertUsable();
    await this.ready;
    const { access, refresh } = this.#store.read();
    if (access === null) return this.refresh(null);
    if (refresh === null || this.#refresher.timeLeft(access) > this.#marginOf(access)) return access;
    try {
      return await this.refresh(access);
    } catch (error) {
      // It could not be renewed, but it is still good.
      if (error instanceof NetworkError && this.#refresher.timeLeft(access) > 0) return access;
      throw error;
    }
  }

  /** @param {string} token @returns {number} milliseconds */
  #marginOf(token) {
    const claims = readClaims(token);
    const life = claims ? (claims.exp - claims.iat) * 1000 : NaN;
    return Number.isFinite(life) ? Math.min(this.#refreshMargin, life / 4) : this.#refreshMargin;
  }

  /** @returns {number | null} milliseconds until the timer shall renew the token; nothing if it shall not */
  #refreshDueIn() {
    const { access, refresh } = this.#store.read();
    if (this.#autoRefresh === false || access === null || refresh === null) return null;
    if (this.#autoRefresh === "active" && this.#used !== access) return null;
    const left = this.#refresher.timeLeft(access);
    // A session that has ended by its own word is left for the next request to find out about.
    return Number.isFinite(left) && this.#refresher.timeLeft(refresh) > 0 ? left - this.#marginOf(access) : null;
  }

  /** @returns {Promise<boolean>} whether to try again later */
  async #refreshAhead() {
    try {
      await this.refresh();
      return false;
    } catch (error) {
      return error instanceof NetworkError;
    }
  }

  /**
   * @param {import("./request.js").PreparedRequest} request
   * @param {string} token
   */
  async #sendWithToken(request, token) {
    this.#used = token;
    if (this.#autoRefresh === "active") this.#schedule.arm();
    const response = await this.#connection.sendWithToken(request, token);
    this.#sentToken.set(response, token);
    return response;
  }
}
