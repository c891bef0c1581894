/**
 * Proofs of possession (DPoP, RFC 9449): a key that no script can read, and the proofs that requests need whose tokens are bound
 * to it.
 *
 * The key is kept in IndexedDB, one for all tabs that share their tokens: a copy of the tokens alone is useless.
 *
 * @module
 */

import { readClaims } from "./claims.js";

/** @typedef {"auto" | "off" | "required"} DpopMode */
/** @typedef {{privateKey: CryptoKey, publicJwk: {kty: string, crv: string, x: string, y: string}}} ProofKey */

const DATABASE = "auth-gateway:dpop";
const KEYS = "keys";
const ALGORITHM = { name: "ECDSA", namedCurve: "P-256" };
/** A clock that turns out to be off by less than this is not why a proof was refused, in milliseconds. */
const CLOCK_TOLERANCE_MS = 2_000;

export class ProofMaker {
  #mode;
  #name;
  #clock;
  /** @type {Promise<ProofKey | null> | null} */
  #key = null;
  /** What the gateway gave last. @type {string | null} */
  #nonce = null;

  /**
   * @param {object} options
   * @param {DpopMode} options.mode
   * @param {string} options.name of the key; the same in all tabs that share their tokens
   * @param {import("./server-clock.js").ServerClock} options.clock
   */
  constructor({ mode, name, clock }) {
    this.#mode = mode;
    this.#name = name;
    this.#clock = clock;
  }

  /**
   * Adds to a request what it needs besides its token.
   * @param {Request} request with `Authorization: Bearer`, if it has a token
   * @param {boolean} asksForTokens whether it is a login or a refresh
   */
  async addTo(request, asksForTokens) {
    if (this.#mode === "off") return;
    const authorization = request.headers.get("Authorization");
    const token = authorization?.startsWith("Bearer ") ? authorization.slice(7) : null;
    const bound = isBound(token) ? token : null;
    if (bound === null && !asksForTokens) return;
    const proof = await this.proof(request.method, request.url, bound);
    if (proof === null) return;
    if (bound !== null) request.headers.set("Authorization", `DPoP ${bound}`);
    request.headers.set("DPoP", proof);
  }

  /**
   * @param {string} method
   * @param {string} url absolute
   * @param {string | null} token that is bound to the key
   * @returns {Promise<string | null>} nothing where there is no key
   * @throws {DOMException} `NotSupportedError` where there can be none and the mode is "required"
   */
  async proof(method, url, token) {
    if (this.#mode === "off") return null;
    this.#key ??= loadKey(this.#name).catch(() => null);
    const key = await this.#key;
    if (key === null) {
      // Another attempt may succeed, such as after a private window's storage was allowed.
      this.#key = null;
      if (this.#mode === "auto") return null;
      throw new DOMException("This browser keeps no keys here (WebCrypto and IndexedDB, over https).", "NotSupportedError");
    }
    const { origin, pathname } = new URL(url);
    const claims = {
      jti: encode(crypto.getRandomValues(new Uint8Array(16))),
      htm: method,
      htu: origin + pathname,
      iat: Math.floor(this.#clock.now() / 1000),
      ...(token !== null && { ath: encode(await crypto.subtle.digest("SHA-256", bytes(token))) }),
      ...(this.#nonce !== null && { nonce: this.#nonce }),
    };
    const header = { typ: "dpop+jwt", alg: "ES256", jwk: key.publicJwk };
    const message = [header, claims].map((part) => encode(bytes(JSON.stringify(part)))).join(".");
    const signature = await crypto.subtle.sign({ ...ALGORITHM, hash: "SHA-256" }, key.privateKey, bytes(message));
    return `${message}.${encode(signature)}`;
  }

  /**
   * Takes what a response says about proofs.
   * @param {Response} response
   * @param {number} offset of the server's clock, as it was assumed when the request was made, in milliseconds
   * @returns {Promise<boolean>} whether the request is worth another attempt with a new proof
   */
  async learn(response, offset) {
    if (this.#mode === "off") return false;
    const nonce = response.headers.get("DPoP-Nonce");
    const isNew = nonce !== null && nonce !== this.#nonce;
    if (nonce !== null) this.#nonce = nonce;
    if (response.status !== 400 && response.status !== 401) return false;
    const problem = await response
      .clone()
      .json()
      .catch(() => null);
    if (problem?.code === "use_dpop_nonce") return isNew;
    const clockWasOff = Math.abs(this.#clock.offset - offset) > CLOCK_TOLERANCE_MS;
    return problem?.code === "invalid_dpop_proof" && clockWasOff;
  }
}

/** @param {string | null} token whether it is good with a proof only */
export function isBound(token) {
  const confirmation = /** @type {{cnf?: {jkt?: unknown}} | null} */ (readClaims(token))?.cnf;
  return typeof confirmation?.jkt === "string";
}

/**
 * The key of that name; made where there is none.
 * @param {string} name
 * @returns {Promise<ProofKey | null>} nothing where the browser has no such keys
 */
async function loadKey(name) {
  if (!globalThis.crypto?.subtle || !globalThis.indexedDB) return null;
  const database = await openDatabase();
  try {
    const kept = await done(database.transaction(KEYS).objectStore(KEYS).get(name));
    if (kept !== undefined) return kept;
    const { privateKey, publicKey } = await crypto.subtle.generateKey(ALGORITHM, false, ["sign", "verify"]);
    const { kty = "", crv = "", x = "", y = "" } = await crypto.subtle.exportKey("jwk", publicKey);
    const made = { privateKey, publicJwk: { kty, crv, x, y } };
    // Another tab may have been faster: transactions that write come one after the other.
    const keys = database.transaction(KEYS, "readwrite").objectStore(KEYS);
    const other = await done(keys.get(name));
    if (other !== undefined) return other;
    await done(keys.put(made, name));
    return made;
  } finally {
    database.close();
  }
}

/** @returns {Promise<IDBDatabase>} */
function openDatabase() {
  const opening = indexedDB.open(DATABASE, 1);
  opening.onupgradeneeded = () => void opening.result.createObjectStore(KEYS);
  return done(opening);
}

/**
 * @template T
 * @param {IDBRequest<T>} request
 * @returns {Promise<T>}
 */
function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** @param {string} text */
const bytes = (text) => new TextEncoder().encode(text);

/** base64url. @param {ArrayBuffer | Uint8Array} data */
function encode(data) {
  const binary = String.fromCharCode(...new Uint8Array(data));
  return btoa(binary).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}
