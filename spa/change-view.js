/**
 * The step of a login that asks for another password: the operator requires one.
 * @module
 */

import { ApiError } from "./auth-client/src/index.js";
import { element } from "./element.js";
import { PasswordForm } from "./password-form.js";

export class ChangeView {
  #username = element("change-username", HTMLInputElement);
  #codeField = element("change-code-field", HTMLElement);
  #code = element("change-code", HTMLInputElement);
  #form;
  /** Ends the attempt that is under way when the visitor goes back. @type {AbortController | null} */
  #attempt = null;

  /**
   * @param {object} options
   * @param {import("./auth-client/src/index.js").AuthClient} options.client
   * @param {(error: unknown) => string} options.explain
   * @param {(username: string, password: string, signal: AbortSignal) => Promise<void>} options.onChanged logs in with the new password
   * @param {(notice: string) => void} options.onEnded back to the login
   */
  constructor({ client, explain, onChanged, onEnded }) {
    this.#form = new PasswordForm({
      prefix: "change",
      hasCode: true,
      explain,
      send: async ({ current, next, code }) => {
        const attempt = new AbortController();
        this.#attempt = attempt;
        try {
          const username = this.#username.value;
          const { signal } = attempt;
          await client.changeRequiredPassword(username, current, next, code === "" ? { signal } : { code, signal });
          await onChanged(username, next, signal);
        } finally {
          if (this.#attempt === attempt) this.#attempt = null;
        }
      },
      onFailed: (error) => {
        if (error instanceof ApiError && error.code === "mfa_required") this.#askCode(true);
        // The visitor has gone back.
        return error instanceof DOMException && error.name === "AbortError";
      },
    });
    element("change-cancel", HTMLButtonElement).addEventListener("click", () => onEnded(""));
  }

  /** Whether an attempt is under way. */
  get isBusy() {
    return this.#attempt !== null;
  }

  /** @param {string} username @param {boolean} asksCode whether the user has a second factor */
  begin(username, asksCode) {
    this.#form.reset();
    // The attribute, which a reset of the form keeps.
    this.#username.setAttribute("value", username);
    this.#askCode(asksCode);
  }

  focus() {
    this.#form.focus();
  }

  /** Forgets the step. */
  end() {
    this.#attempt?.abort();
    this.begin("", false);
  }

  /** @param {boolean} asks */
  #askCode(asks) {
    this.#codeField.hidden = !asks;
    this.#code.required = asks;
  }
}
