//! Broken HTTP/2 frame by frame: which error code a client sees (RFC 9113 sections 4 to 7).
//!
//! A generic code may always stand for a more specific one (section 5.4). h2, under hyper, uses PROTOCOL_ERROR in
//! the rows that say so; docs/explanation/interoperability.md compares them with other servers. The codes of sizes and windows
//! come from the check below h2 (`server/http2_frame_sizes.rs`).

use super::config;
use crate::fixture::http2_raw::{
    CONTINUATION, DATA, GOAWAY, HEADERS,
    Http2Error::{self, Connection, Response, Stream},
    RST_STREAM, SETTINGS, field_block, frame, http2_error,
};
use crate::fixture::{Gateway, Upstream};

const PRIORITY: u8 = 2;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const FRAME_SIZE_ERROR: u32 = 6;

fn fields(method: &[u8], more: &[(&[u8], &[u8])]) -> Vec<u8> {
    let all: [(&[u8], &[u8]); 4] =
        [(b":method", method), (b":scheme", b"http"), (b":path", b"/app/slow"), (b":authority", b"a")];
    field_block(&[&all[..], more].concat())
}

/// A GET whose stream ends with its head.
fn get(more: &[(&[u8], &[u8])]) -> Vec<u8> {
    frame(HEADERS, 5, 1, &fields(b"GET", more))
}

/// A POST whose body is still to come.
fn post(more: &[(&[u8], &[u8])]) -> Vec<u8> {
    frame(HEADERS, 4, 1, &fields(b"POST", more))
}

fn setting(name: u16, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

#[test]
fn broken_frames_get_the_error_codes_that_h2_has_for_them() {
    // One that takes its time, so that no response comes before the error.
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, "h2c = true"));
    let block = fields(b"GET", &[]);
    let rows: Vec<(&str, Vec<Vec<u8>>, Http2Error)> = vec![
        // Where a frame may be, and when.
        ("DATA on stream 0", vec![frame(DATA, 1, 0, b"x")], Connection(PROTOCOL_ERROR)),
        ("HEADERS on an even stream", vec![frame(HEADERS, 5, 2, &block)], Connection(PROTOCOL_ERROR)),
        ("DATA on an idle stream", vec![frame(DATA, 1, 1, b"x")], Connection(PROTOCOL_ERROR)),
        ("RST_STREAM on an idle stream", vec![frame(RST_STREAM, 0, 1, &[0; 4])], Connection(PROTOCOL_ERROR)),
        ("CONTINUATION alone", vec![frame(CONTINUATION, 4, 1, &block)], Connection(PROTOCOL_ERROR)),
        (
            "PING between HEADERS and CONTINUATION",
            vec![frame(HEADERS, 1, 1, &block), frame(PING, 0, 0, &[0; 8])],
            Connection(PROTOCOL_ERROR),
        ),
        (
            "PUSH_PROMISE of a client",
            vec![post(&[]), frame(PUSH_PROMISE, 4, 1, &[&[0, 0, 0, 2], &block[..]].concat())],
            Connection(PROTOCOL_ERROR),
        ),
        // STREAM_CLOSED would be more specific.
        (
            "DATA after the end of a stream",
            vec![get(&[]), frame(DATA, 1, 1, b"x")],
            Connection(PROTOCOL_ERROR),
        ),
        // Sizes.
        (
            "DATA of 16,385 bytes",
            vec![post(&[]), frame(DATA, 0, 1, &[0; 16_385])],
            Connection(FRAME_SIZE_ERROR),
        ),
        ("SETTINGS of 5 bytes", vec![frame(SETTINGS, 0, 0, &[0; 5])], Connection(FRAME_SIZE_ERROR)),
        ("SETTINGS ACK with a payload", vec![frame(SETTINGS, 1, 0, &[0; 6])], Connection(FRAME_SIZE_ERROR)),
        ("PING of 7 bytes", vec![frame(PING, 0, 0, &[0; 7])], Connection(FRAME_SIZE_ERROR)),
        (
            "RST_STREAM of 3 bytes",
            vec![post(&[]), frame(RST_STREAM, 0, 1, &[0; 3])],
            Connection(FRAME_SIZE_ERROR),
        ),
        ("PRIORITY of 4 bytes", vec![frame(PRIORITY, 0, 1, &[0; 4])], Connection(FRAME_SIZE_ERROR)),
        ("WINDOW_UPDATE of 3 bytes", vec![frame(WINDOW_UPDATE, 0, 0, &[1; 3])], Connection(FRAME_SIZE_ERROR)),
        ("GOAWAY of 7 bytes", vec![frame(GOAWAY, 0, 0, &[0; 7])], Connection(FRAME_SIZE_ERROR)),
        // Values.
        ("ENABLE_PUSH of 2", vec![setting(2, 2)], Connection(PROTOCOL_ERROR)),
        ("MAX_FRAME_SIZE of 16,383", vec![setting(5, 16_383)], Connection(PROTOCOL_ERROR)),
        ("INITIAL_WINDOW_SIZE of 2^31", vec![setting(4, 1 << 31)], Connection(FLOW_CONTROL_ERROR)),
        ("WINDOW_UPDATE of 0", vec![frame(WINDOW_UPDATE, 0, 0, &[0; 4])], Connection(PROTOCOL_ERROR)),
        (
            "a connection's window above 2^31 - 1",
            vec![frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])],
            Connection(FLOW_CONTROL_ERROR),
        ),
        (
            "a stream's window above 2^31 - 1",
            vec![post(&[]), frame(WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xff])],
            Stream(FLOW_CONTROL_ERROR),
        ),
        (
            "a stream that depends on itself",
            vec![frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 0])],
            Stream(PROTOCOL_ERROR),
        ),
        (
            "padding longer than its frame",
            vec![post(&[]), frame(DATA, 9, 1, &[9, 0, 0])],
            Connection(PROTOCOL_ERROR),
        ),
        // Compression. COMPRESSION_ERROR would be more specific.
        (
            "an index out of the tables",
            vec![frame(HEADERS, 5, 1, &[0xff, 0xff, 3])],
            Connection(PROTOCOL_ERROR),
        ),
        ("bad Huffman code", vec![frame(HEADERS, 5, 1, &[0, 0x81, 0xff, 0])], Connection(PROTOCOL_ERROR)),
        (
            "a table larger than allowed",
            vec![frame(HEADERS, 5, 1, &[&[0x3f, 0xe1, 0xff, 0x7f], &block[..]].concat())],
            Connection(PROTOCOL_ERROR),
        ),
        (
            "a block that is cut short",
            vec![frame(HEADERS, 5, 1, &block[..block.len() - 2])],
            Connection(PROTOCOL_ERROR),
        ),
        // Malformed messages (section 8.1.1).
        ("a name in capitals", vec![get(&[(b"X-A", b"1")])], Connection(PROTOCOL_ERROR)),
        ("an unknown pseudo-header", vec![get(&[(b":x", b"1")])], Connection(PROTOCOL_ERROR)),
        (":path twice", vec![get(&[(b":path", b"/y")])], Stream(PROTOCOL_ERROR)),
        (
            "a pseudo-header behind a field",
            vec![get(&[(b"a", b"1"), (b":path", b"/y")])],
            Stream(PROTOCOL_ERROR),
        ),
        ("Connection", vec![get(&[(b"connection", b"close")])], Stream(PROTOCOL_ERROR)),
        ("TE other than trailers", vec![get(&[(b"te", b"gzip")])], Stream(PROTOCOL_ERROR)),
        (
            "no :path",
            vec![frame(HEADERS, 5, 1, &field_block(&[(b":method", b"GET"), (b":scheme", b"http")]))],
            Response(400),
        ),
        (
            "more than Content-Length",
            vec![post(&[(b"content-length", b"1")]), frame(DATA, 1, 1, b"xxx")],
            Stream(PROTOCOL_ERROR),
        ),
        (
            "less than Content-Length",
            vec![post(&[(b"content-length", b"5")]), frame(DATA, 1, 1, b"x")],
            Stream(PROTOCOL_ERROR),
        ),
        (
            "trailers that do not end the stream",
            vec![post(&[]), frame(DATA, 0, 1, b"x"), frame(HEADERS, 4, 1, &field_block(&[(b"a", b"b")]))],
            Stream(PROTOCOL_ERROR),
        ),
    ];
    let empty_settings = frame(SETTINGS, 0, 0, &[]);
    for (name, frames, expected) in rows {
        let sent = [&empty_settings[..], &frames.concat()].concat();
        assert_eq!(http2_error(gateway.address, &sent), expected, "{name}");
    }
}
