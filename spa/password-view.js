/**
 * "Your password": a form that changes it, where the gateway has `users.password_change`.
 * @module
 */

import { element } from "./element.js";
import { PasswordForm } from "./password-form.js";

export class PasswordView {
  #section = element("password-change", HTMLElement);
  #notice = element("password-notice", HTMLElement);
  #form;

  /**
   * @param {object} options
   * @param {import("./auth-client/src/index.js").AuthClient} options.client
   * @param {(error: unknown) => string} options.explain
   * @param {() => void} options.onEnded the visitor is logged out here
   * @param {() => void} options.onChanged the password is another one
   */
  constructor({ client, explain, onEnded, onChanged }) {
    const endOthers = element("end-others", HTMLInputElement);
    this.#form = new PasswordForm({
      prefix: "password",
      explain,
      send: async ({ current, next }) => {
        this.#notice.hidden = true;
        await client.changePassword(current, next, { endOtherSessions: endOthers.checked });
        this.#form.reset();
        this.#notice.hidden = false;
        onChanged();
      },
      onFailed: () => {
        if (client.hasTokens) return false;
        onEnded();
        return true;
      },
    });
  }

  hide() {
    this.#section.hidden = true;
    this.#notice.hidden = true;
    this.#form.reset();
  }

  show() {
    this.#section.hidden = false;
  }
}
