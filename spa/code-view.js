/**
 * The second step of a login: the code of an authenticator app, or a recovery code.
 * @module
 */

import { ApiError, NetworkError } from "./auth-client/src/index.js";
import { element } from "./element.js";

/** @typedef {import("./auth-client/src/index.js").SecondFactorRequired} SecondFactorRequired */

const KINDS = {
  totp: {
    hint: "Enter the code that your authenticator app shows.",
    label: "Code",
    missing: "The code is required.",
    inputMode: "numeric",
    other: "Use a recovery code",
  },
  recovery_code: {
    hint: "Enter one of the recovery codes that you kept when you set up your app. It can be used once.",
    label: "Recovery code",
    missing: "The recovery code is required.",
    inputMode: "text",
    other: "Use your app",
  },
};

export class CodeView {
  #client;
  #explain;
  #onDone;
  #onEnded;
  #form = element("code-form", HTMLFormElement);
  #hint = element("code-hint", HTMLElement);
  #label = element("code-label", HTMLElement);
  #code = element("code", HTMLInputElement);
  #button = element("code-button", HTMLButtonElement);
  #kindButton = element("code-kind", HTMLButtonElement);
  #failure = element("code-failure", HTMLElement);
  #error = element("code-error", HTMLElement);
  #retry = element("code-retry", HTMLButtonElement);
  /** @type {keyof typeof KINDS} */
  #kind = "totp";
  #mfaToken = "";
  /** Ends the attempt that is under way when the visitor goes back. @type {AbortController | null} */
  #attempt = null;

  /**
   * @param {object} options
   * @param {import("./auth-client/src/index.js").AuthClient} options.client
   * @param {(error: unknown) => string} options.explain
   * @param {() => Promise<void>} options.onDone the visitor is logged in
   * @param {(notice: string) => void} options.onEnded only a new login helps
   */
  constructor({ client, explain, onDone, onEnded }) {
    this.#client = client;
    this.#explain = explain;
    this.#onDone = onDone;
    this.#onEnded = onEnded;
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#submit();
    });
    this.#kindButton.addEventListener("click", () => {
      this.#choose(this.#kind === "totp" ? "recovery_code" : "totp");
      this.#code.focus();
    });
    element("code-cancel", HTMLButtonElement).addEventListener("click", () => onEnded(""));
  }

  /** Whether an attempt is under way. */
  get isBusy() {
    return this.#attempt !== null;
  }

  /** @param {SecondFactorRequired} step */
  begin({ mfaToken, factors }) {
    this.#mfaToken = mfaToken;
    this.#kindButton.hidden = !factors.includes("recovery_code");
    this.#choose("totp");
  }

  focus() {
    this.#code.focus();
  }

  /** Forgets the step. */
  end() {
    this.#attempt?.abort();
    this.#mfaToken = "";
    this.#choose("totp");
  }

  /** @param {keyof typeof KINDS} kind */
  #choose(kind) {
    this.#kind = kind;
    const { hint, label, inputMode, other } = KINDS[kind];
    this.#hint.textContent = hint;
    this.#label.textContent = label;
    this.#kindButton.textContent = other;
    this.#code.inputMode = inputMode;
    this.#code.value = "";
    this.#say("");
  }

  async #submit() {
    if (this.isBusy) return;
    const code = this.#code.value.trim();
    if (code === "") {
      this.#say(KINDS[this.#kind].missing);
      return this.#code.focus();
    }
    this.#say("");
    const attempt = new AbortController();
    this.#attempt = attempt;
    this.#setBusy(true);
    try {
      await this.#client.loginWithCode(this.#mfaToken, code, attempt);
      await this.#onDone();
    } catch (error) {
      if (!attempt.signal.aborted) this.#fail(error);
    } finally {
      this.#attempt = null;
      this.#setBusy(false);
    }
  }

  /** @param {unknown} error */
  #fail(error) {
    const isOutage = error instanceof NetworkError;
    const isOver = error instanceof ApiError && ["mfa_token_expired", "password_change_required"].includes(error.code);
    if (isOver) return this.#onEnded(this.#explain(error));
    if (!isOutage) this.#code.value = "";
    this.#say(this.#explain(error), isOutage);
    (isOutage ? this.#retry : this.#code).focus();
  }

  /** @param {boolean} busy */
  #setBusy(busy) {
    this.#button.disabled = busy;
    this.#button.textContent = busy ? "Logging in …" : "Log in";
    this.#form.setAttribute("aria-busy", String(busy));
  }

  /**
   * @param {string} text empty hides it
   * @param {boolean} [isOutage] whether the code may be sent again as it is
   */
  #say(text, isOutage = false) {
    this.#error.textContent = text;
    this.#failure.hidden = text === "";
    this.#retry.hidden = !isOutage;
    this.#code.setAttribute("aria-invalid", String(text !== "" && !isOutage));
  }
}
