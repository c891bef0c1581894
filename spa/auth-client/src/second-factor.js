/**
 * The user's second factor: what is set up, setting it up, and removing it.
 * @module
 */

import { ApiError } from "./errors.js";

/**
 * What a user has set up.
 * @typedef {object} FactorStatus
 * @property {boolean} totp whether an app shows codes for the user
 * @property {number} recoveryCodes how many were not used yet
 */

/**
 * What an app is set up by.
 * @typedef {object} Enrolment
 * @property {string} secret in base32, to be typed
 * @property {string} otpauthUri a link that opens an app on the same device
 * @property {string} qrSvg the same as a QR code, as SVG
 * @property {number} expiresIn until when it has to be confirmed, in seconds from now
 */

export class SecondFactor {
  #fetch;
  #onConfirmed;

  /**
   * @param {object} options
   * @param {(path: string, init: RequestInit) => Promise<Response>} options.fetch
   * @param {() => Promise<unknown>} options.onConfirmed
   */
  constructor({ fetch, onConfirmed }) {
    this.#fetch = fetch;
    this.#onConfirmed = onConfirmed;
  }

  /**
   * What is set up.
   * @returns {Promise<FactorStatus | null>} null where the gateway has no second factors
   * @throws {AuthenticationRequired} {@link NetworkError} {@link ApiError}
   */
  async status() {
    const response = await this.#fetch("/mfa", { headers: { Accept: "application/json" } });
    if ([404, 405].includes(response.status)) return null;
    if (!response.ok) throw await ApiError.from(response);
    const body = await response.json().catch(() => null);
    return typeof body?.totp === "boolean" ? { totp: body.totp, recoveryCodes: Number(body.recovery_codes) || 0 } : null;
  }

  /**
   * Begins to set up an app.
   * @param {string} currentPassword
   * @returns {Promise<Enrolment>}
   * @throws {AuthenticationRequired} {@link NetworkError} {@link ApiError} with the gateway's reason: `invalid_credentials`
   *   for a wrong password, `mfa_enrolled` where one is set up
   */
  async begin(currentPassword) {
    const body = await this.#post("/mfa/totp", { current_password: currentPassword });
    return { secret: body.secret, otpauthUri: body.otpauth_uri, qrSvg: body.qr_svg, expiresIn: body.expires_in };
  }

  /**
   * Completes what was begun by a first code of the app. The access token is renewed, so that it says that a second factor
   * was used.
   * @param {string} code
   * @returns {Promise<string[]>} the recovery codes, which cannot be fetched again
   * @throws {AuthenticationRequired} {@link NetworkError} {@link ApiError} with the gateway's reason: `invalid_code`,
   *   `mfa_not_enrolled` where nothing was begun or it took too long
   */
  async confirm(code) {
    const { recovery_codes } = await this.#post("/mfa/totp/confirm", { code });
    // The codes are shown once: an outage now must not cost them. The next refresh will do.
    await this.#onConfirmed().catch(() => {});
    return recovery_codes;
  }

  /**
   * Makes new recovery codes in place of those of before.
   * @param {string} code of the app, or a recovery code
   * @returns {Promise<string[]>}
   * @throws {AuthenticationRequired} {@link NetworkError} {@link ApiError}
   */
  async renewRecoveryCodes(code) {
    return (await this.#post("/mfa/recovery-codes", { code })).recovery_codes;
  }

  /**
   * Removes the second factor.
   * @param {string} code of the app, or a recovery code
   * @param {{endOtherSessions?: boolean}} [options] whether the user's other sessions end; they do if nothing is said
   * @throws {AuthenticationRequired} {@link NetworkError} {@link ApiError}
   */
  async remove(code, { endOtherSessions = true } = {}) {
    await this.#post("/mfa/totp/remove", { code, end_other_sessions: endOtherSessions });
  }

  /**
   * @param {string} path
   * @param {object} body
   * @returns {Promise<any>} the members of the answer
   */
  async #post(path, body) {
    const headers = { "Content-Type": "application/json" };
    const response = await this.#fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
    if (!response.ok) throw await ApiError.from(response);
    return response.status === 204 ? {} : response.json();
  }
}
