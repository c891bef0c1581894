/**
 * "Your second factor": sets an authenticator app up, shows recovery codes, and removes it, where the gateway has `mfa.enabled`.
 * @module
 */

import { ApiError, NetworkError } from "./auth-client/src/index.js";
import { element } from "./element.js";
import { Latest } from "./latest.js";

/** @typedef {"begin" | "confirm" | "manage"} Form */

export class SecondFactorView {
  #client;
  #explain;
  #onEnded;
  #onChanged;
  #section = element("second-factor", HTMLElement);
  #title = element("second-factor-title", HTMLElement);
  #state = element("factor-state", HTMLElement);
  #error = element("factor-error", HTMLElement);
  #forms = {
    begin: element("factor-begin", HTMLFormElement),
    confirm: element("factor-confirm", HTMLFormElement),
    manage: element("factor-manage", HTMLFormElement),
  };
  #fields = {
    begin: element("factor-password", HTMLInputElement),
    confirm: element("factor-first-code", HTMLInputElement),
    manage: element("factor-code", HTMLInputElement),
  };
  #qr = element("factor-qr", HTMLImageElement);
  #secret = element("factor-secret", HTMLElement);
  #link = element("factor-link", HTMLAnchorElement);
  #recovery = element("recovery", HTMLElement);
  #codes = element("recovery-codes", HTMLElement);
  #isBusy = false;
  #latest = new Latest();

  /**
   * @param {object} options
   * @param {import("./auth-client/src/index.js").AuthClient} options.client
   * @param {(error: unknown) => string} options.explain
   * @param {() => void} options.onEnded the visitor is logged out here
   * @param {() => void} options.onChanged other sessions may have ended
   */
  constructor({ client, explain, onEnded, onChanged }) {
    this.#client = client;
    this.#explain = explain;
    this.#onEnded = onEnded;
    this.#onChanged = onChanged;
    for (const form of /** @type {Form[]} */ (Object.keys(this.#forms))) {
      this.#forms[form].addEventListener("submit", (event) => {
        event.preventDefault();
        const button = event.submitter instanceof HTMLButtonElement ? event.submitter.value : "";
        void this.#submit(form, button);
      });
    }
    element("factor-cancel", HTMLButtonElement).addEventListener("click", () => {
      void this.load().then(() => this.#title.focus());
    });
  }

  hide() {
    this.#latest.begin();
    this.#section.hidden = true;
    this.#show(null, "");
  }

  /** Shows what is set up. */
  async load() {
    const isLatest = this.#latest.begin();
    // A failure is beside what the visitor came for, whose own call says what is wrong.
    const status = await this.#client.secondFactor.status().catch(() => null);
    if (!isLatest()) return;
    this.#section.hidden = status === null;
    if (status !== null) this.#showStatus(status);
  }

  /** @param {import("./auth-client/src/index.js").FactorStatus} status */
  #showStatus({ totp, recoveryCodes }) {
    const left = `${recoveryCodes} recovery code${recoveryCodes === 1 ? "" : "s"}`;
    if (totp) this.#show("manage", `An authenticator app is set up. You have ${left} left.`);
    else this.#show("begin", "None is set up. With one, a login needs a code of your phone as well.");
  }

  /**
   * @param {Form | null} shown
   * @param {string} state
   */
  #show(shown, state) {
    this.#state.textContent = state;
    this.#say("");
    this.#recovery.hidden = true;
    this.#codes.replaceChildren();
    for (const [name, form] of Object.entries(this.#forms)) {
      form.hidden = name !== shown;
      form.reset();
    }
    if (shown === "confirm") return;
    // The secret does not stay in the page.
    this.#qr.removeAttribute("src");
    this.#link.removeAttribute("href");
    this.#secret.textContent = "";
  }

  /**
   * @param {Form} form
   * @param {string} button
   */
  async #submit(form, button) {
    if (this.#isBusy) return;
    const field = this.#fields[form];
    const value = field.value.trim() === "" ? "" : field.value;
    if (value === "") {
      this.#say(form === "begin" ? "The current password is required." : "A code is required.", field);
      return field.focus();
    }
    this.#say("");
    this.#isBusy = true;
    this.#forms[form].setAttribute("aria-busy", "true");
    const isLatest = this.#latest.current();
    try {
      const show = await this.#act(form, button, value);
      if (isLatest()) show();
    } catch (error) {
      if (!isLatest()) return;
      if (!this.#client.hasTokens) return this.#onEnded();
      this.#fail(error, field);
    } finally {
      this.#isBusy = false;
      this.#forms[form].removeAttribute("aria-busy");
    }
  }

  /**
   * @param {Form} form
   * @param {string} button
   * @param {string} value
   * @returns {Promise<() => void>} what to show then
   */
  async #act(form, button, value) {
    const factor = this.#client.secondFactor;
    if (form === "begin") {
      const { secret, otpauthUri, qrSvg } = await factor.begin(value);
      return () => {
        this.#show("confirm", "");
        this.#qr.src = `data:image/svg+xml,${encodeURIComponent(qrSvg)}`;
        this.#secret.textContent = secret.replace(/(.{4})(?=.)/g, "$1 ");
        this.#link.href = otpauthUri;
        this.#fields.confirm.focus();
      };
    }
    if (form === "confirm" || button !== "remove") {
      const codes = form === "confirm" ? await factor.confirm(value) : await factor.renewRecoveryCodes(value);
      return () => {
        this.#showStatus({ totp: true, recoveryCodes: codes.length });
        this.#codes.replaceChildren(...codes.map(item));
        this.#recovery.hidden = false;
        this.#title.focus();
      };
    }
    await factor.remove(value);
    return () => {
      this.#showStatus({ totp: false, recoveryCodes: 0 });
      this.#title.focus();
      this.#onChanged();
    };
  }

  /**
   * @param {unknown} error
   * @param {HTMLInputElement} field
   */
  #fail(error, field) {
    const code = error instanceof ApiError ? error.code : "";
    if (["mfa_enrolled", "mfa_not_enrolled"].includes(code)) {
      // Another tab was faster, or an enrolment was left for too long.
      void this.load().then(() => this.#say(this.#explain(error)));
      return;
    }
    this.#say(this.#explain(error), field);
    if (error instanceof NetworkError) field.removeAttribute("aria-invalid");
    else field.value = "";
    field.focus();
  }

  /**
   * @param {string} text empty hides it
   * @param {HTMLInputElement} [invalid] and no other
   */
  #say(text, invalid) {
    this.#error.textContent = text;
    this.#error.hidden = text === "";
    for (const field of Object.values(this.#fields)) field.setAttribute("aria-invalid", String(field === invalid));
  }
}

/** @param {string} text */
function item(text) {
  const place = document.createElement("li");
  place.textContent = text;
  return place;
}
