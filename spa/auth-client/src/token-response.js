/**
 * What the gateway answers to /login and /refresh.
 * @module
 */

import { isToken } from "./claims.js";
import { ApiError, NetworkError, tokenRejection } from "./errors.js";

/**
 * The tokens (RFC 6749 section 5.1).
 * @typedef {object} TokenResponse
 * @property {string} access_token
 * @property {string} [refresh_token] absent where the gateway does not rotate
 * @property {string} token_type
 * @property {number} expires_in seconds
 * @property {number} refresh_expires_in seconds
 * @property {number} server_time seconds since 1970
 */

/**
 * @param {Response} response of /login or /refresh
 * @returns {Promise<TokenResponse>}
 * @throws {NetworkError} when it broke off, or is no such answer: whatever stands in for the gateway, it ends no session
 */
export async function readTokens(response) {
  const answer = await response.json().catch(() => null);
  const isRenewal = answer?.refresh_token === undefined || isToken(answer.refresh_token);
  if (isToken(answer?.access_token) && isRenewal && typeof answer.server_time === "number") return answer;
  throw new NetworkError(new ApiError(response.status, {}, null));
}

/**
 * Why the gateway does not take a refresh token, or nothing if it may take it later.
 * @param {Response} response
 * @returns {Promise<import("./errors.js").SignOutReason | null>}
 */
export async function refreshRejection(response) {
  if (response.status === 401) {
    const rejection = await tokenRejection(response);
    return rejection === null ? "invalid" : rejection.isTooEarly ? null : rejection.reason;
  }
  // What cannot even be read as a token, or is too long for any.
  const isUnreadable = response.status === 400 || response.status === 431;
  return isUnreadable && (await ApiError.from(response.clone())).code !== "" ? "invalid" : null;
}
