/**
 * "Your password": a form that changes it, where the gateway has `users.password_change`.
 * @module
 */

import { ApiError, NetworkError } from "./auth-client/src/index.js";
import { element } from "./element.js";

export class PasswordView {
  #client;
  #explain;
  #onEnded;
  #onChanged;
  #section = element("password-change", HTMLElement);
  #form = element("password-form", HTMLFormElement);
  #error = element("password-error", HTMLElement);
  #notice = element("password-notice", HTMLElement);
  #current = element("current-password", HTMLInputElement);
  #new = element("new-password", HTMLInputElement);
  #repeat = element("repeat-password", HTMLInputElement);
  #endOthers = element("end-others", HTMLInputElement);
  #button = element("password-button", HTMLButtonElement);

  /**
   * @param {object} options
   * @param {import("./auth-client/src/index.js").AuthClient} options.client
   * @param {(error: unknown) => string} options.explain
   * @param {() => void} options.onEnded the visitor is logged out here
   * @param {() => void} options.onChanged the password is another one
   */
  constructor({ client, explain, onEnded, onChanged }) {
    this.#client = client;
    this.#explain = explain;
    this.#onEnded = onEnded;
    this.#onChanged = onChanged;
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#submit();
    });
  }

  hide() {
    this.#section.hidden = true;
    this.#form.reset();
    this.#say("", "");
  }

  show() {
    this.#section.hidden = false;
  }

  async #submit() {
    if (this.#button.disabled) return;
    const fields = [this.#current, this.#new, this.#repeat];
    const missing = fields.filter((field) => field.value === "");
    const differ = missing.length === 0 && this.#new.value !== this.#repeat.value;
    this.#mark(differ ? [this.#new, this.#repeat] : missing);
    const wrong = missing[0] ?? (differ ? this.#repeat : undefined);
    if (wrong !== undefined) {
      this.#say(differ ? "The new password and its repetition differ." : "All three passwords are required.", "");
      return wrong.focus();
    }
    this.#say("", "");
    this.#button.disabled = true;
    try {
      await this.#client.changePassword(this.#current.value, this.#new.value, {
        endOtherSessions: this.#endOthers.checked,
      });
      this.#form.reset();
      this.#say("", "Your new password counts from now on.");
      this.#onChanged();
    } catch (error) {
      if (!this.#client.hasTokens) return this.#onEnded();
      const isCurrent = error instanceof ApiError && error.code === "invalid_credentials";
      this.#say(this.#explain(error), "");
      this.#mark(error instanceof NetworkError ? [] : isCurrent ? [this.#current] : [this.#new]);
      (isCurrent ? this.#current : this.#new).focus();
    } finally {
      this.#button.disabled = false;
    }
  }

  /** @param {HTMLInputElement[]} invalid these, and no others */
  #mark(invalid) {
    for (const field of [this.#current, this.#new, this.#repeat]) {
      field.setAttribute("aria-invalid", String(invalid.includes(field)));
    }
  }

  /** @param {string} error @param {string} notice empty hides them */
  #say(error, notice) {
    for (const [place, text] of /** @type {const} */ ([[this.#error, error], [this.#notice, notice]])) {
      place.textContent = text;
      place.hidden = text === "";
    }
  }
}
