/**
 * "Your sessions": where the visitor is logged in, and the buttons that end that. Gateways without the endpoint have no such view.
 * @module
 */

import { element } from "./element.js";
import { Latest } from "./latest.js";
import { item, itemButton, line, time } from "./list-item.js";

/** @typedef {import("./auth-client/src/index.js").SessionInfo} SessionInfo */

export class SessionsView {
  #client;
  #explain;
  #onEnded;
  #section = element("sessions", HTMLElement);
  #title = element("sessions-title", HTMLElement);
  #list = element("session-list", HTMLElement);
  #error = element("sessions-error", HTMLElement);
  #everywhere = element("logout-all", HTMLElement);
  #latest = new Latest();

  /**
   * @param {object} options
   * @param {import("./auth-client/src/index.js").AuthClient} options.client
   * @param {(error: unknown) => string} options.explain
   * @param {(notice: string) => void} options.onEnded the visitor is logged out here
   */
  constructor({ client, explain, onEnded }) {
    this.#client = client;
    this.#explain = explain;
    this.#onEnded = onEnded;
    this.#everywhere.addEventListener("click", () =>
      this.#act(this.#everywhere, () => client.logoutAll(), "You are logged out everywhere."),
    );
  }

  hide() {
    this.#latest.begin();
    this.#section.hidden = true;
    this.#list.replaceChildren();
  }

  /**
   * Shows the sessions.
   * @returns {Promise<string[]>} what else the gateway has for the visitor's account; nothing if it is too late to show that
   */
  async load() {
    const isLatest = this.#latest.begin();
    // A failure is beside what the visitor came for, whose own call says what is wrong.
    const account = await this.#client.account().catch(() => null);
    if (!isLatest()) return [];
    this.#section.hidden = account === null;
    this.#say("");
    this.#list.replaceChildren(...(account?.sessions ?? []).map((session) => this.#item(session)));
    return account?.features ?? [];
  }

  /** @param {SessionInfo} session */
  #item(session) {
    const client = browserName(session.client ?? "");
    const lines = [
      line(client, session.current ? "This session" : ""),
      line(`Since ${time(session.started_at)}${session.address ? `, from ${session.address}` : ""}`, "", "muted"),
    ];
    if (session.last_refreshed_at) lines.push(line(`Last renewed ${time(session.last_refreshed_at)}`, "", "muted"));
    if (session.current) return item(lines);
    const label = `End the session of ${client} since ${time(session.started_at)}`;
    return item(lines, itemButton("End", label, (end) => this.#act(end, () => this.#client.endSession(session.sid), "")));
  }

  /**
   * @param {HTMLElement} button
   * @param {() => Promise<void>} action
   * @param {string} notice what to say if it ended the session here
   */
  async #act(button, action, notice) {
    if (button.getAttribute("aria-disabled") === "true") return;
    button.setAttribute("aria-disabled", "true");
    this.#say("");
    try {
      await action();
      if (!this.#client.hasTokens) return this.#onEnded(notice);
      await this.load();
      // The button is gone with its session.
      this.#title.focus();
    } catch (error) {
      if (this.#client.hasTokens) this.#say(this.#explain(error));
    } finally {
      button.removeAttribute("aria-disabled");
    }
  }

  /** @param {string} text */
  #say(text) {
    this.#error.textContent = text;
    this.#error.hidden = text === "";
  }
}

/** What people call the program that a `User-Agent` names, and the system it runs on. @param {string} agent */
export function browserName(agent) {
  const browsers = [["Edg", "Edge"], ["OPR", "Opera"], ["Firefox", "Firefox"], ["Chrome", "Chrome"], ["Safari", "Safari"]];
  const systems = [["Android", "Android"], ["iPhone", "iPhone"], ["iPad", "iPad"], ["Windows", "Windows"], ["Mac OS X", "macOS"], ["Linux", "Linux"]];
  const browser = browsers.find(([mark]) => agent.includes(`${mark}/`))?.[1];
  const system = systems.find(([mark]) => agent.includes(String(mark)))?.[1];
  if (browser !== undefined) return system === undefined ? browser : `${browser} on ${system}`;
  return agent.split(/[\s/]/)[0] || "Unknown program";
}
