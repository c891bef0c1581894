/**
 * Server-sent events over `fetch`.
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";

import { EventParser } from "../src/event-stream.js";
import { REFUSED, next, signedIn, tokens } from "./fake-gateway.js";

const STREAM = { "Content-Type": "text/event-stream" };

/** @param {string[]} pieces */
function parse(pieces) {
  const parser = new EventParser();
  return { events: pieces.flatMap((piece) => [...parser.push(piece)]), parser };
}

test("events are cut as the HTML standard says", () => {
  const cases = /** @type {const} */ ([
    [["data: a\n\n"], ["a"]],
    [["data:a\ndata: b\n\n"], ["a\nb"]],
    [["data\n\n"], [""]],
    [["\uFEFFdata: a\n\n"], ["a"]],
    [[": comment\n\ndata: a\n\n"], ["a"]],
    [["data: a\r", "\ndata: b\r\n\r\n"], ["a\nb"]],
    [["data: a\r\r"], ["a"]],
    [["da", "ta: ", "a\n", "\n"], ["a"]],
    [["event: only\n\n"], []],
    [["data: not complete"], []],
  ]);
  for (const [pieces, data] of cases) {
    assert.deepEqual(parse([...pieces]).events.map((event) => event.data), data, JSON.stringify(pieces));
  }
  const { events, parser } = parse(["event: news\nid: 7\nretry: 50\nother: x\ndata: a\n\nid: b\0d\ndata: b\n\n"]);
  assert.deepEqual(events, [
    { event: "news", data: "a", lastEventId: "7" },
    { event: "message", data: "b", lastEventId: "7" },
  ]);
  assert.equal(parser.retryDelay, 50);
});

test("a stream brings its token, goes on after an end with the last id, and ends with 204", async () => {
  const { client } = signedIn();
  const all = (async () => {
    const data = [];
    for await (const event of client.events("/events")) data.push(event.data);
    return data;
  })();
  const first = await next();
  assert.deepEqual([first.path, first.token, first.headers.accept], ["/events", "A1", "text/event-stream"]);
  first.response.writeHead(200, STREAM);
  first.response.end("retry: 10\nid: 7\ndata: one\n\ndata: cut off");
  const rejected = await next();
  assert.equal(rejected.headers["last-event-id"], "7");
  rejected.answer(401, {}, REFUSED);
  (await next()).answer(200, tokens("A2", "R2"));
  (await next()).answer(503, {}, { "Retry-After": "0" });
  const third = await next();
  assert.equal(third.token, "A2");
  third.response.writeHead(200, STREAM);
  third.response.end("data: two\n\n");
  (await next()).answer(204);
  assert.deepEqual(await all, ["one", "two"]);
});

test("leaving the loop closes the stream, an abort and a refusal are thrown", async () => {
  const { client } = signedIn();
  const left = (async () => {
    for await (const event of client.events("/events")) return event.data;
    return null;
  })();
  const stream = await next();
  stream.response.writeHead(200, STREAM);
  stream.response.write("data: one\n\n");
  const closed = new Promise((done) => stream.response.once("close", done));
  assert.equal(await left, "one");
  await closed;
  const abort = new AbortController();
  const aborted = client.events("/events", { signal: abort.signal }).next();
  await next();
  abort.abort();
  await assert.rejects(aborted, { name: "AbortError" });
  const refused = client.events("/events").next();
  (await next()).answer(403, { code: "insufficient_scope", message: "No." });
  await assert.rejects(refused, { name: "ApiError", status: 403 });
});
