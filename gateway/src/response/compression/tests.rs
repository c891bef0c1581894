use std::io::Read;

use futures_util::future::poll_fn;

use super::*;
use crate::admission::test_support::head;
use ContentCoding::{Brotli, Gzip, Zstd};

fn decoded(coding: ContentCoding, bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    match coding {
        Brotli => drop(brotli::Decompressor::new(bytes, 4096).read_to_end(&mut plain).unwrap()),
        Gzip => drop(flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).unwrap()),
        Zstd => plain = zstd::decode_all(bytes).unwrap(),
    }
    plain
}

fn response(fields: &str, body: &str) -> Response {
    let mut response = http::Response::new(Body::Bytes(Bytes::from(body.to_owned())));
    for line in fields.split('|').filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap();
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        response.headers_mut().append(name, value.parse().unwrap());
    }
    response
}

#[test]
fn the_coding_follows_accept_encoding_unless_another_sites_page_asks_with_cookies() {
    for (fields, coding) in [
        ("", None),
        ("Accept-Encoding: gzip, deflate, br, zstd", Some(Zstd)),
        ("accept-encoding: gzip;q=0.5, br", Some(Brotli)),
        ("Accept-Encoding: identity\r\nAccept-Encoding: gzip", Some(Gzip)),
        ("Accept-Encoding: deflate", None),
        ("Accept-Encoding: gzip\r\nCookie: a=b", Some(Gzip)),
        ("Accept-Encoding: gzip\r\nCookie: a=b\r\nSec-Fetch-Site: same-origin", Some(Gzip)),
        ("Accept-Encoding: gzip\r\nCookie: a=b\r\nSec-Fetch-Site: none", Some(Gzip)),
        ("Accept-Encoding: gzip\r\nCookie: a=b\r\nSec-Fetch-Site: cross-site", None),
        ("Accept-Encoding: gzip\r\nCookie: a=b\r\nSec-Fetch-Site: same-site", None),
        ("Accept-Encoding: gzip\r\nSec-Fetch-Site: cross-site", Some(Gzip)),
    ] {
        let end = if fields.is_empty() { "" } else { "\r\n" };
        let head = head(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}{end}"));
        assert_eq!(coding_for(head.headers()), coding, "{fields}");
    }
}

#[test]
fn responses_are_compressed_where_that_helps_and_harms_nothing() {
    for (status, fields, compressed) in [
        (200, "content-type: text/html", true),
        (200, "content-type: application/json|content-length: 1024", true),
        (404, "content-type: text/plain", true),
        (200, "content-type: text/html|content-length: 1023", false),
        (200, "", false),
        (200, "content-type: image/png", false),
        (200, "content-type: text/event-stream", false),
        (200, "content-type: application/grpc", false),
        (200, "content-type: text/html|content-encoding: gzip", false),
        (200, "content-type: text/html|content-encoding: identity", false),
        (200, "content-type: text/html|set-cookie: session=secret", false),
        (200, "content-type: text/html|cache-control: private, No-Transform", false),
        (200, "content-type: text/html|cache-control: private", true),
        (200, "content-type: text/html|content-digest: sha-256=:AA==:", false),
        (200, "content-type: text/html|repr-digest: sha-256=:AA==:", false),
        (200, "content-type: text/html|signature-input: s=()", false),
        (206, "content-type: text/html|content-range: bytes 0-9/100", false),
        (206, "content-type: text/html", false),
        (416, "content-type: text/html|content-range: bytes */100", false),
        (204, "content-type: text/html", false),
        (205, "content-type: text/html", false),
        (304, "content-type: text/html", false),
        (101, "content-type: text/html", false),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        let mut response = response(fields, &"a".repeat(1024));
        *response.status_mut() = status;
        assert_eq!(should_compress(&response), compressed, "{status} {fields}");
    }
}

#[test]
fn fields_fit_the_compressed_content() {
    let text = "some text ".repeat(400);
    let fields = "content-type: text/html|content-length: 4000|etag: \"a\"|accept-ranges: bytes|vary: Origin";
    for coding in [Brotli, Gzip, Zstd] {
        let compressed = compress(response(fields, &text), Some(coding));
        let field = |name| compressed.headers().get(name).map(|value| value.to_str().unwrap());
        let Body::Bytes(bytes) = compressed.body() else { panic!("it was complete") };
        assert!(bytes.len() < 200, "{coding:?}: {}", bytes.len());
        assert_eq!(decoded(coding, bytes), text.as_bytes());
        assert_eq!(field(CONTENT_ENCODING), Some(coding.name()));
        assert_eq!(field(CONTENT_LENGTH), Some(&*bytes.len().to_string()));
        assert_eq!((field(ETAG), field(ACCEPT_RANGES)), (Some("W/\"a\""), None));
        let vary: Vec<&HeaderValue> = compressed.headers().get_all(VARY).iter().collect();
        assert_eq!(vary, ["Origin", "Accept-Encoding"]);
    }
}

#[test]
fn a_client_that_accepts_no_coding_gets_the_content_and_caches_learn_why() {
    let text = "text".repeat(256);
    let plain = compress(response("content-type: text/html|etag: \"a\"", &text), None);
    assert!(matches!(plain.body(), Body::Bytes(bytes) if &bytes[..] == text.as_bytes()));
    assert_eq!(
        (&plain.headers()[VARY], &plain.headers()[ETAG]),
        (&"Accept-Encoding".parse().unwrap(), &"\"a\"".parse().unwrap())
    );
    for varies in ["*", "Cookie, accept-encoding"] {
        let plain = compress(response(&format!("content-type: text/html|vary: {varies}"), &text), None);
        assert_eq!(plain.headers().get_all(VARY).iter().count(), 1, "{varies}");
    }
    let other = compress(response("content-type: image/png|etag: \"a\"", &text), Some(Gzip));
    assert_eq!((other.headers().get(VARY), other.headers().get(CONTENT_ENCODING)), (None, None));
}

#[test]
fn a_response_to_head_has_the_fields_of_that_to_get() {
    let mut head = response("content-type: text/html|content-length: 4000|etag: W/\"a\"", "");
    *head.body_mut() = Body::Empty;
    let head = compress(head, Some(Gzip));
    assert!(matches!(head.body(), Body::Empty));
    assert_eq!(
        (&head.headers()[CONTENT_ENCODING], &head.headers()[ETAG]),
        (&"gzip".parse().unwrap(), &"W/\"a\"".parse().unwrap())
    );
    assert_eq!(head.headers().get(CONTENT_LENGTH), None);
}

#[tokio::test]
async fn a_streamed_body_is_what_was_sent() {
    let text: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 & 63).collect();
    for coding in [Brotli, Gzip, Zstd] {
        let mut body = CompressedBody::new(Body::Bytes(text.clone().into()), Encoder::new(coding).unwrap());
        let mut compressed = Vec::new();
        assert!(!body.is_end_stream());
        while let Some(frame) = poll_fn(|cx| body.poll_frame(cx)).await {
            compressed.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
        assert!(body.is_end_stream());
        assert_eq!(decoded(coding, &compressed), text, "{coding:?}");
    }
}
