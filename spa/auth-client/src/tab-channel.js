/**
 * Messages between the tabs of one origin: a BroadcastChannel, or silence where there is none.
 * @module
 */

export class TabChannel {
  /** @type {BroadcastChannel | null} */
  #channel = null;
  /** @type {((message: unknown) => void)[]} */
  #listeners = [];

  /** @param {string | null} name null: no messages are sent */
  constructor(name) {
    if (name === null || typeof globalThis.BroadcastChannel !== "function") return;
    try {
      this.#channel = new BroadcastChannel(name);
    } catch {
      // A document without an origin of its own may not open any.
      return;
    }
    this.#channel.onmessage = (event) => {
      for (const listener of this.#listeners) listener(event.data);
    };
    // Node would wait for messages for ever.
    const unref = Reflect.get(this.#channel, "unref");
    if (typeof unref === "function") unref.call(this.#channel);
  }

  /** @param {(message: unknown) => void} listener */
  listen(listener) {
    this.#listeners.push(listener);
  }

  /** @param {object} message */
  send(message) {
    try {
      this.#channel?.postMessage(message);
    } catch {
      // Closed: no more messages are sent.
    }
  }

  close() {
    this.#channel?.close();
    this.#channel = null;
    this.#listeners = [];
  }
}
