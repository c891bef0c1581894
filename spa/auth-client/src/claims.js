/**
 * What tokens look like and say, read without judging: the gateway is the judge.
 * @module
 */

/**
 * The claims of a token, unverified: they are for show and for timers.
 * @typedef {object} Claims
 * @property {string} sub the user's id
 * @property {string} username
 * @property {string[]} roles
 * @property {string} type `access` or `refresh`
 * @property {string} sid the session's id
 * @property {number} iat seconds since 1970
 * @property {number} nbf seconds since 1970
 * @property {number} exp seconds since 1970
 */

/** What can stand behind `Bearer` (RFC 6750 section 2.1). */
const TOKEN = /^[A-Za-z0-9._~+/-]+=*$/;
/** Longer ones exceed the usual limits of header fields, so no server could reject them as invalid. */
const MAX_TOKEN_LENGTH = 8192;

/** @param {unknown} value @returns {value is string} whether it could be a token at all */
export function isToken(value) {
  return typeof value === "string" && value.length <= MAX_TOKEN_LENGTH && TOKEN.test(value);
}

/**
 * Reads a token's claims without judging them.
 * @param {string | null} token
 * @returns {Claims | null} nothing if there is none that can be read
 */
export function readClaims(token) {
  if (token === null) return null;
  try {
    const payload = (token.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(payload), (character) => character.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes));
    return claims !== null && typeof claims === "object" ? claims : null;
  } catch {
    return null;
  }
}

/**
 * Whether both tokens are known to belong to the same session.
 * @param {string | null} one
 * @param {string | null} other
 */
export function isSameSession(one, other) {
  const sid = readClaims(one)?.sid;
  return sid !== undefined && sid === readClaims(other)?.sid;
}
