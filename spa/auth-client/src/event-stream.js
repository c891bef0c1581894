/**
 * Server-sent events over `fetch` (the HTML standard's `text/event-stream`), which can send a token and `EventSource` cannot.
 * @module
 */

import { ApiError, NetworkError } from "./errors.js";
import { sleep } from "./request.js";

/**
 * @typedef {object} ServerSentEvent
 * @property {string} event its type; "message" if the server named none
 * @property {string} data
 * @property {string} lastEventId
 */

/**
 * @typedef {object} EventStreamOptions
 * @property {AbortSignal} [signal]
 * @property {HeadersInit} [headers]
 * @property {string} [lastEventId] where to go on from
 * @property {number} [retryDelay] milliseconds before another connection, until the server says otherwise
 */

const RETRY_DELAY_MS = 2_000;
const MAX_RETRY_DELAY_MS = 30_000;

/**
 * @param {(init: RequestInit) => Promise<Response>} connect
 * @param {EventStreamOptions} options
 * @returns {AsyncGenerator<ServerSentEvent, void, undefined>}
 */
export async function* eventStream(connect, { signal, headers, lastEventId = "", retryDelay = RETRY_DELAY_MS }) {
  const parser = new EventParser(lastEventId, retryDelay);
  const stop = new AbortController();
  const abort = () => stop.abort(signal?.reason);
  if (signal?.aborted) abort();
  signal?.addEventListener("abort", abort);
  let failures = 0;
  try {
    for (;;) {
      let wait = parser.retryDelay;
      try {
        const response = await connect({ headers: fields(headers, parser.lastEventId), signal: stop.signal });
        if (response.status === 204) return;
        if (!isEventStream(response)) {
          const error = await ApiError.from(response);
          if (!isOutage(response.status)) throw error;
          throw new NetworkError(error);
        }
        failures = 0;
        yield* read(response, parser);
      } catch (error) {
        if (!(error instanceof NetworkError)) throw error;
        failures += 1;
        const backoff = parser.retryDelay * 2 ** Math.min(failures - 1, 8);
        wait = Math.min(Math.max(backoff, (error.apiError?.retryAfter ?? 0) * 1000), MAX_RETRY_DELAY_MS);
      }
      // So that not all who were cut off together come back together.
      await sleep(wait * (0.75 + Math.random() / 2), stop.signal);
    }
  } finally {
    signal?.removeEventListener("abort", abort);
    stop.abort();
  }
}

/**
 * @param {Response} response
 * @param {EventParser} parser
 * @returns {AsyncGenerator<ServerSentEvent, void, undefined>}
 */
async function* read(response, parser) {
  if (response.body === null) return;
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  parser.restart();
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((error) => {
        throw error?.name === "AbortError" ? error : new NetworkError(null, error);
      });
      // An event without its empty line is not complete.
      if (done) return;
      yield* parser.push(decoder.decode(value, { stream: true }));
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** @param {HeadersInit | undefined} given @param {string} lastEventId */
function fields(given, lastEventId) {
  const headers = new Headers(given);
  headers.set("Accept", "text/event-stream");
  if (lastEventId !== "") headers.set("Last-Event-ID", lastEventId);
  return headers;
}

/** @param {Response} response */
const isEventStream = (response) =>
  response.status === 200 && /^text\/event-stream\b/i.test(response.headers.get("Content-Type") ?? "");

/** @param {number} status */
const isOutage = (status) => status === 429 || status >= 500;

/** Cuts text into events. */
export class EventParser {
  #line = "";
  /** @type {string[]} */
  #data = [];
  #event = "";
  #id;
  #isStart = true;
  #endedWithReturn = false;

  /** @param {string} lastEventId @param {number} retryDelay */
  constructor(lastEventId = "", retryDelay = RETRY_DELAY_MS) {
    this.#id = lastEventId;
    /** Of the last event that was complete. */
    this.lastEventId = lastEventId;
    /** Milliseconds. */
    this.retryDelay = retryDelay;
  }

  /** For a new connection: what was not complete is forgotten. */
  restart() {
    [this.#line, this.#data, this.#event, this.#id] = ["", [], "", this.lastEventId];
    [this.#isStart, this.#endedWithReturn] = [true, false];
  }

  /** @param {string} text @returns {Generator<ServerSentEvent, void, undefined>} */
  *push(text) {
    if (text === "") return;
    // CR LF may have been cut between the two.
    let rest = this.#endedWithReturn && text.startsWith("\n") ? text.slice(1) : text;
    if (this.#isStart) rest = rest.replace(/^\uFEFF/, "");
    this.#isStart = false;
    this.#endedWithReturn = text.endsWith("\r");
    const lines = (this.#line + rest).split(/\r\n|\n|\r/);
    this.#line = lines.pop() ?? "";
    for (const line of lines) {
      const event = this.#take(line);
      if (event !== null) yield event;
    }
  }

  /** @param {string} line @returns {ServerSentEvent | null} */
  #take(line) {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    const name = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#event = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    else if (name === "retry" && /^\d+$/.test(value)) this.retryDelay = Number.parseInt(value, 10);
    return null;
  }

  /** @returns {ServerSentEvent | null} */
  #dispatch() {
    this.lastEventId = this.#id;
    const [data, event] = [this.#data, this.#event || "message"];
    [this.#data, this.#event] = [[], ""];
    return data.length === 0 ? null : { event, data: data.join("\n"), lastEventId: this.lastEventId };
  }
}
