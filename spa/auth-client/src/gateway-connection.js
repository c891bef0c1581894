/**
 * Requests to the gateway: within a time for its own endpoints, and again where clocks disagree.
 * @module
 */

import { ProofMaker } from "./dpop.js";
import { NetworkError, tokenRejection } from "./errors.js";
import { anySignal, resolveUrl, sleep } from "./request.js";
import { ServerClock } from "./server-clock.js";

/** How often, and how long, a token that a server takes for too new is held back, in milliseconds. */
const NOT_YET_VALID_DELAYS_MS = [300, 700, 1_200, 2_000];

export class GatewayConnection {
  #baseUrl;
  #endpoints;
  #fetch;
  #requestTimeout;
  clock = new ServerClock();
  proofs;

  /**
   * @param {object} options
   * @param {string} options.baseUrl
   * @param {string} options.endpoints
   * @param {((request: Request) => Promise<Response>) | undefined} options.fetch
   * @param {number} options.requestTimeout milliseconds
   * @param {import("./dpop.js").DpopMode} options.dpop
   * @param {string} options.keyName of the key for proofs
   */
  constructor({ baseUrl, endpoints, fetch, requestTimeout, dpop, keyName }) {
    this.#baseUrl = baseUrl;
    this.#endpoints = endpoints;
    // Looked up for each request, for it may be replaced.
    this.#fetch = fetch ?? ((/** @type {Request} */ request) => globalThis.fetch(request));
    this.#requestTimeout = requestTimeout;
    this.proofs = new ProofMaker({ mode: dpop, name: keyName, clock: this.clock });
  }

  /** When one of the gateway's own endpoints must have answered that is asked now. */
  newDeadline() {
    return AbortSignal.timeout(this.#requestTimeout);
  }

  /**
   * Sends a request, again after a while if the server's clock is behind that of the server that issued the token.
   * @param {import("./request.js").PreparedRequest} request
   * @param {string} token
   */
  sendWithToken(request, token) {
    return this.#resendWhileTooEarly(
      () => this.#send(() => request.withToken(token), () => request.isRepeatable, request.signal, false),
      () => request.isRepeatable,
      request.signal,
    );
  }

  /**
   * @param {() => Promise<Response>} send
   * @param {() => boolean} isRepeatable
   * @param {AbortSignal | null} signal
   */
  async #resendWhileTooEarly(send, isRepeatable, signal) {
    let response = await send();
    for (const delay of NOT_YET_VALID_DELAYS_MS) {
      if (!(await tokenRejection(response))?.isTooEarly || !isRepeatable()) break;
      await sleep(delay, signal);
      response = await send();
    }
    return response;
  }

  /**
   * Asks one of the gateway's own endpoints.
   * @param {string} endpoint
   * @param {AbortSignal | null} signal
   * @param {RequestInit} init
   */
  async call(endpoint, signal, init) {
    const deadline = this.newDeadline();
    const either = signal === null ? deadline : anySignal(signal, deadline);
    return this.#callUntil(endpoint, init, either, signal);
  }

  /**
   * @param {string} endpoint
   * @param {string} token
   * @param {RequestInit} init
   * @param {AbortSignal} [deadline]
   */
  callWithToken(endpoint, token, init, deadline = this.newDeadline()) {
    const headers = { Authorization: `Bearer ${token}` };
    const send = () => this.#callUntil(endpoint, { ...init, headers }, deadline, null);
    return this.#resendWhileTooEarly(send, () => !deadline.aborted, null);
  }

  /**
   * @param {string} endpoint
   * @param {RequestInit} init
   * @param {AbortSignal} signal
   * @param {AbortSignal | null} callers whose reason is passed on
   */
  #callUntil(endpoint, init, signal, callers) {
    const url = resolveUrl(this.#baseUrl, this.#endpoints + endpoint);
    const request = () => new Request(url, { cache: "no-store", credentials: "omit", ...init, signal });
    const asksForTokens = ["/login", "/login/totp", "/refresh"].includes(endpoint);
    return this.#send(request, () => true, callers, asksForTokens);
  }

  /**
   * @param {() => Request} make made for each time it is sent
   * @param {() => boolean} isRepeatable
   * @param {AbortSignal | null} signal the caller's
   * @param {boolean} asksForTokens
   */
  async #send(make, isRepeatable, signal, asksForTokens) {
    const first = await this.#sendOnce(make(), signal, asksForTokens);
    if (!first.isWorthAnother || !isRepeatable()) return first.response;
    return (await this.#sendOnce(make(), signal, asksForTokens)).response;
  }

  /**
   * @param {Request} request
   * @param {AbortSignal | null} signal the caller's
   * @param {boolean} asksForTokens
   */
  async #sendOnce(request, signal, asksForTokens) {
    const offset = this.clock.offset;
    await this.proofs.addTo(request, asksForTokens);
    try {
      const response = await this.#fetch(request);
      this.clock.observe(response);
      return { response, isWorthAnother: await this.proofs.learn(response, offset) };
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      throw new NetworkError(null, error);
    }
  }
}
