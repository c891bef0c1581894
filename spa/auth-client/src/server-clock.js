/**
 * The server's clock, estimated from its responses.
 * @module
 */

export class ServerClock {
  /** Server's clock minus ours, in milliseconds; nothing until the server has said its time. @type {number | null} */
  #offset = null;

  /** Server's clock minus ours as far as is known, in milliseconds. */
  get offset() {
    return this.#offset ?? 0;
  }

  /** Now by the server's clock, in milliseconds since 1970. */
  now() {
    return Date.now() + this.offset;
  }

  /** @param {number} second the server's time in milliseconds since 1970, rounded down to a second */
  set(second) {
    const ours = Date.now();
    // Within that second our clock is as good as the server's.
    this.#offset = Math.min(Math.max(ours, second), second + 1000) - ours;
  }

  /**
   * A reload forgets the server's time; until a token is issued, the date of any answer is the next best.
   * @param {Response} response
   */
  observe(response) {
    if (this.#offset !== null) return;
    const date = Date.parse(response.headers.get("Date") ?? "");
    if (!Number.isNaN(date)) this.set(date);
  }
}
