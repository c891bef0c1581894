/**
 * "Confirm that it is you": proves the visitor's identity anew where a route asks for that (RFC 9470), by a code where a second
 * factor is set up and else by the password.
 * @module
 */

import { ApiError, NetworkError } from "./auth-client/src/index.js";
import { element } from "./element.js";

export class ProveView {
  #client;
  #explain;
  #onProved;
  #onEnded;
  #form = element("prove-form", HTMLFormElement);
  #error = element("prove-error", HTMLElement);
  #label = element("prove-label", HTMLElement);
  #field = element("prove", HTMLInputElement);
  #isCode = false;
  #isBusy = false;

  /**
   * @param {object} options
   * @param {import("./auth-client/src/index.js").AuthClient} options.client
   * @param {(error: unknown) => string} options.explain
   * @param {() => void} options.onProved
   * @param {() => void} options.onEnded the visitor is logged out here
   */
  constructor({ client, explain, onProved, onEnded }) {
    this.#client = client;
    this.#explain = explain;
    this.#onProved = onProved;
    this.#onEnded = onEnded;
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#submit();
    });
  }

  hide() {
    this.#form.hidden = true;
    this.#field.value = "";
    this.#say("", false);
  }

  /**
   * Asks for what the visitor has; for nothing where it takes a second factor that is not set up.
   * @param {ApiError} refusal
   * @param {boolean} hasFactors whether the gateway has second factors
   */
  async show(refusal, hasFactors) {
    const status = hasFactors ? await this.#client.secondFactor.status().catch(() => null) : null;
    this.#isCode = status?.totp === true;
    if (!this.#isCode && /acr_values=/.test(refusal.challenge)) return;
    this.hide();
    this.#label.textContent = this.#isCode ? "Code of your app, or a recovery code" : "Current password";
    this.#field.type = this.#isCode ? "text" : "password";
    this.#field.autocomplete = this.#isCode ? "one-time-code" : "current-password";
    this.#form.hidden = false;
    this.#field.focus();
  }

  async #submit() {
    if (this.#isBusy) return;
    const value = this.#field.value;
    if (value.trim() === "") {
      this.#say(this.#isCode ? "A code is required." : "The current password is required.", true);
      return this.#field.focus();
    }
    this.#say("", false);
    this.#isBusy = true;
    this.#form.setAttribute("aria-busy", "true");
    try {
      await this.#client.reauthenticate(this.#isCode ? { code: value } : { currentPassword: value });
      this.hide();
      this.#onProved();
    } catch (error) {
      if (!this.#client.hasTokens) return this.#onEnded();
      const isOutage = error instanceof NetworkError;
      if (!isOutage) this.#field.value = "";
      this.#say(this.#explain(error), !isOutage);
      this.#field.focus();
    } finally {
      this.#isBusy = false;
      this.#form.removeAttribute("aria-busy");
    }
  }

  /** @param {string} text empty hides it @param {boolean} isInvalid */
  #say(text, isInvalid) {
    this.#error.textContent = text;
    this.#error.hidden = text === "";
    this.#field.setAttribute("aria-invalid", String(isInvalid));
  }
}
