/**
 * "Tokens for programs": the visitor's personal access tokens, a form for another one, and the buttons that revoke them. Gateways without
 * the endpoint have no such view.
 * @module
 */

import { ApiError } from "./auth-client/src/index.js";
import { element } from "./element.js";
import { Latest } from "./latest.js";
import { item, itemButton, line, time } from "./list-item.js";

/** @typedef {import("./auth-client/src/index.js").PersonalToken} PersonalToken */

const DAY = 86_400;

export class TokensView {
  #client;
  #explain;
  #onEnded;
  #section = element("tokens", HTMLElement);
  #title = element("tokens-title", HTMLElement);
  #list = element("token-list", HTMLElement);
  #error = element("tokens-error", HTMLElement);
  #made = element("token-made", HTMLElement);
  #text = element("token-text", HTMLInputElement);
  #copy = element("token-copy", HTMLButtonElement);
  #copied = element("token-copied", HTMLElement);
  #form = element("token-form", HTMLFormElement);
  #name = element("token-name", HTMLInputElement);
  #lifetime = element("token-lifetime", HTMLSelectElement);
  #roles = element("token-roles", HTMLElement);
  #routes = element("token-routes", HTMLInputElement);
  #button = element("token-button", HTMLButtonElement);
  #latest = new Latest();

  /**
   * @param {object} options
   * @param {import("./auth-client/src/index.js").AuthClient} options.client
   * @param {(error: unknown) => string} options.explain
   * @param {() => void} options.onEnded the visitor is logged out here
   */
  constructor({ client, explain, onEnded }) {
    this.#client = client;
    this.#explain = explain;
    this.#onEnded = onEnded;
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#create();
    });
    this.#copy.addEventListener("click", () => this.#copyText());
  }

  hide() {
    this.#latest.begin();
    this.#section.hidden = true;
    this.#list.replaceChildren();
    this.#form.reset();
    this.#show(null);
    this.#say("");
  }

  async load() {
    const isLatest = this.#latest.begin();
    // A failure is beside what the visitor came for, whose own call says what is wrong.
    const tokens = await this.#client.personalTokens().catch(() => null);
    if (!isLatest()) return;
    if (this.#section.hidden) this.#offerRoles();
    this.#section.hidden = tokens === null;
    this.#say("");
    this.#list.replaceChildren(...(tokens ?? []).map((token) => this.#item(token)));
  }

  /** A box for each of the visitor's roles. */
  #offerRoles() {
    const roles = this.#client.claims?.roles ?? [];
    this.#roles.hidden = roles.length === 0;
    const boxes = roles.map((role) => {
      const [label, box] = [document.createElement("label"), document.createElement("input")];
      Object.assign(box, { type: "checkbox", name: "role", value: role, defaultChecked: true });
      label.append(box, ` ${role}`);
      return label;
    });
    this.#roles.replaceChildren(...this.#roles.querySelectorAll("legend"), ...boxes);
  }

  /** @param {PersonalToken} token */
  #item(token) {
    const used = token.last_used_at
      ? `Last used ${time(token.last_used_at)}${token.last_used_from ? ` from ${token.last_used_from}` : ""}`
      : "Never used";
    const lines = [
      line(token.name, ""),
      line(token.expires_at ? `Expires ${time(token.expires_at)}` : "Never expires", "", "muted"),
      line(used, "", "muted"),
    ];
    if (token.roles) lines.push(line(`Roles: ${token.roles.join(", ") || "none"}`, "", "muted"));
    if (token.routes.length > 0) lines.push(line(`Addresses: ${token.routes.join(", ")}`, "", "muted"));
    return item(lines, itemButton("Revoke", `Revoke the token ${token.name}`, (revoke) => this.#revoke(revoke, token)));
  }

  /** @param {HTMLElement} button @param {PersonalToken} token */
  async #revoke(button, token) {
    if (button.getAttribute("aria-disabled") === "true") return;
    button.setAttribute("aria-disabled", "true");
    try {
      await this.#client.revokePersonalToken(token.id);
      this.#show(null);
      await this.load();
      // The button is gone with its token.
      this.#title.focus();
    } catch (error) {
      this.#failed(error);
    } finally {
      button.removeAttribute("aria-disabled");
    }
  }

  async #create() {
    if (this.#button.disabled) return;
    const name = this.#name.value.trim();
    this.#name.setAttribute("aria-invalid", String(name === ""));
    if (name === "") {
      this.#say("The token needs a name.");
      return this.#name.focus();
    }
    const days = this.#lifetime.value;
    const boxes = [...this.#roles.querySelectorAll("input")];
    const chosen = boxes.filter((box) => box.checked).map((box) => box.value);
    const routes = this.#routes.value.split(/[\s,]+/).filter((path) => path !== "");
    this.#say("");
    this.#show(null);
    this.#button.disabled = true;
    try {
      const { token } = await this.#client.createPersonalToken(name, {
        ...(days === "" ? {} : { expiresIn: days === "never" ? null : Number(days) * DAY }),
        // All of them include those to come.
        ...(chosen.length === boxes.length ? {} : { roles: chosen }),
        ...(routes.length === 0 ? {} : { routes }),
      });
      this.#form.reset();
      await this.load();
      this.#show(token);
    } catch (error) {
      this.#failed(error);
    } finally {
      this.#button.disabled = false;
    }
  }

  /** Shows the text of a new token, which the gateway never shows again. @param {string | null} token */
  #show(token) {
    this.#made.hidden = token === null;
    this.#text.value = token ?? "";
    this.#copied.textContent = "";
    if (token === null) return;
    this.#text.focus();
    this.#text.select();
  }

  async #copyText() {
    this.#text.select();
    // Only pages over TLS or from this machine have it.
    const isCopied = await navigator.clipboard?.writeText(this.#text.value).then(() => true, () => false);
    this.#copied.textContent = isCopied ? "Copied." : "Select the text and copy it.";
  }

  /** @param {unknown} error */
  #failed(error) {
    if (!this.#client.hasTokens) return this.#onEnded();
    const isRefused = error instanceof ApiError && [400, 403].includes(error.status) && error.detail !== "";
    const reason = isRefused ? error.detail : this.#explain(error);
    this.#say(`${reason.charAt(0).toUpperCase()}${reason.slice(1)}${/[.!?]$/.test(reason) ? "" : "."}`);
  }

  /** @param {string} text */
  #say(text) {
    this.#error.textContent = text;
    this.#error.hidden = text === "";
  }
}
