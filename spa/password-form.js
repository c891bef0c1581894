/**
 * A form for a new password: what has to be filled in, what is said, and where the focus goes.
 * @module
 */

import { ApiError, NetworkError } from "./auth-client/src/index.js";
import { element } from "./element.js";

export class PasswordForm {
  #explain;
  #send;
  #onFailed;
  #form;
  #error;
  #current;
  #next;
  #repeat;
  /** @type {HTMLInputElement | null} */
  #code;
  #button;

  /**
   * @param {object} options
   * @param {string} options.prefix of the ids: `-form`, `-error`, `-current`, `-new`, `-repeat`, `-button`, and `-code` where there is one
   * @param {boolean} [options.hasCode]
   * @param {(error: unknown) => string} options.explain
   * @param {(passwords: {current: string, next: string, code: string}) => Promise<void>} options.send
   * @param {(error: unknown) => boolean} options.onFailed whether the view has handled it
   */
  constructor({ prefix, hasCode = false, explain, send, onFailed }) {
    this.#explain = explain;
    this.#send = send;
    this.#onFailed = onFailed;
    this.#form = element(`${prefix}-form`, HTMLFormElement);
    this.#error = element(`${prefix}-error`, HTMLElement);
    this.#current = element(`${prefix}-current`, HTMLInputElement);
    this.#next = element(`${prefix}-new`, HTMLInputElement);
    this.#repeat = element(`${prefix}-repeat`, HTMLInputElement);
    this.#code = hasCode ? element(`${prefix}-code`, HTMLInputElement) : null;
    this.#button = element(`${prefix}-button`, HTMLButtonElement);
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#submit();
    });
  }

  get isBusy() {
    return this.#button.disabled;
  }

  /** Forgets what was typed and said. */
  reset() {
    this.#form.reset();
    this.#say("");
    this.#mark([]);
  }

  focus() {
    this.#current.focus();
  }

  /** @returns {HTMLInputElement[]} what has to be filled in */
  get #fields() {
    const code = this.#code !== null && this.#code.required ? [this.#code] : [];
    return [this.#current, this.#next, this.#repeat, ...code];
  }

  async #submit() {
    if (this.isBusy) return;
    const missing = this.#fields.filter((field) => (field === this.#code ? field.value.trim() : field.value) === "");
    const differ = missing.length === 0 && this.#next.value !== this.#repeat.value;
    this.#mark(differ ? [this.#next, this.#repeat] : missing);
    const wrong = missing[0] ?? (differ ? this.#repeat : undefined);
    if (wrong !== undefined) {
      const code = this.#fields.length > 3;
      const all = code ? "All three passwords and the code are required." : "All three passwords are required.";
      this.#say(differ ? "The new password and its repetition differ." : all);
      return wrong.focus();
    }
    this.#say("");
    this.#setBusy(true);
    const [current, next, code] = [this.#current.value, this.#next.value, this.#code?.value.trim() ?? ""];
    try {
      await this.#send({ current, next, code });
      this.#setBusy(false);
    } catch (error) {
      // First, for what is disabled takes no focus.
      this.#setBusy(false);
      if (!this.#onFailed(error)) this.#fail(error);
    }
  }

  /** @param {boolean} busy */
  #setBusy(busy) {
    this.#button.disabled = busy;
    this.#form.setAttribute("aria-busy", String(busy));
  }

  /** @param {unknown} error */
  #fail(error) {
    const code = error instanceof ApiError ? error.code : "";
    const byCode = { invalid_credentials: this.#current, invalid_code: this.#code, mfa_required: this.#code };
    const isNew = error instanceof ApiError && error.status === 422;
    const wrong = byCode[/** @type {keyof typeof byCode} */ (code)] ?? (isNew ? this.#next : null);
    this.#say(this.#explain(error));
    this.#mark(wrong === null ? [] : [wrong]);
    if (wrong === this.#code && this.#code !== null) this.#code.value = "";
    if (error instanceof NetworkError) this.#button.focus();
    else (wrong ?? this.#next).focus();
  }

  /** @param {HTMLInputElement[]} invalid these, and no others */
  #mark(invalid) {
    for (const field of [this.#current, this.#next, this.#repeat, ...(this.#code === null ? [] : [this.#code])]) {
      field.setAttribute("aria-invalid", String(invalid.includes(field)));
    }
  }

  /** @param {string} text empty hides it */
  #say(text) {
    this.#error.textContent = text;
    this.#error.hidden = text === "";
  }
}
