//! Compression of responses on routes that ask for it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use http::Request;

use super::{Script, ScriptedApp, at_once};
use crate::fixture::http2::{ask, http2};
use crate::fixture::{Gateway, Reply, request};

const TEXT_BYTES: usize = 40_000;

fn text() -> String {
    (0..)
        .map(|n| format!("{{\"line\":{n}}}\n"))
        .flat_map(|line| line.into_bytes())
        .map(char::from)
        .take(TEXT_BYTES)
        .collect()
}

/// An app that answers with the fields that the query names, separated by `|`.
fn app(method: &str, target: &str, _: usize) -> Script {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let fields =
        query.replace("%20", " ").replace("%22", "\"").split('|').fold(String::new(), |fields, line| {
            if line.is_empty() { fields } else { fields + &line.replacen('=', ": ", 1) + "\r\n" }
        });
    let text = text();
    let body = if method == "HEAD" { "" } else { &text };
    if path.ends_with("/chunked") || path.ends_with("/slowly") {
        let pause = Duration::from_secs(if path.ends_with("/slowly") { 2 } else { 0 });
        let half = TEXT_BYTES / 2;
        let chunk = |part: &str| format!("{:x}\r\n{part}\r\n", part.len()).into_bytes();
        return vec![
            (Duration::ZERO, format!("HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n").into()),
            (Duration::ZERO, chunk(&body[..half])),
            (pause, chunk(&body[half..])),
            (Duration::ZERO, b"0\r\n\r\n".to_vec()),
        ];
    }
    at_once(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {TEXT_BYTES}\r\n\r\n{body}"))
}

fn gateway(app: &ScriptedApp) -> Gateway {
    let more = "[[routes]]\npath = \"/small\"\nupstream = \"app\"\naccess = \"public\"\ncompress = true\n\
                [[routes]]\npath = \"/kept\"\nupstream = \"app\"\naccess = \"public\"\ncompress = true\n\
                response_headers = { set = { \"Cache-Control\" = \"no-transform\" } }\n\
                [[routes]]\npath = \"/mine\"\nupstream = \"app\"\ncompress = true\n";
    super::gateway(&format!("http://{}", app.address), "", more)
}

fn decoded(coding: &str, bytes: &[u8]) -> String {
    let mut plain = String::new();
    match coding {
        "br" => drop(brotli::Decompressor::new(bytes, 4096).read_to_string(&mut plain).unwrap()),
        "gzip" => drop(flate2::read::GzDecoder::new(bytes).read_to_string(&mut plain).unwrap()),
        "zstd" => plain = String::from_utf8(zstd::decode_all(bytes).unwrap()).unwrap(),
        _ => panic!("{coding}"),
    }
    plain
}

fn ask_for(address: SocketAddr, method: &str, target: &str, fields: &[(&str, &str)]) -> Reply {
    request(address, method, target, fields, b"").unwrap()
}

#[tokio::test]
async fn routes_compress_by_what_the_client_accepts_over_both_protocols() {
    let app = ScriptedApp::start(app);
    let gateway = gateway(&app);
    for coding in ["gzip", "br", "zstd"] {
        for path in ["/small", "/small/chunked"] {
            let target = format!("{path}?Content-Type=application/json|ETag=%22a%22|Accept-Ranges=bytes");
            let reply = ask_for(gateway.address, "GET", &target, &[("Accept-Encoding", coding)]);
            assert_eq!((reply.status, reply.field("content-encoding")), (200, Some(coding)), "{path}");
            assert_eq!(
                (reply.field("etag"), reply.field("vary")),
                (Some("W/\"a\""), Some("Accept-Encoding"))
            );
            assert_eq!(reply.field("accept-ranges"), None);
            assert!(reply.body.len() < TEXT_BYTES / 3, "{coding}: {} bytes", reply.body.len());
            assert!(decoded(coding, &reply.body) == text(), "{coding} {path}");

            let client = http2(tokio::net::TcpStream::connect(gateway.address).await.unwrap()).await;
            let request = Request::get(format!("http://a{target}")).header("accept-encoding", coding);
            let reply = ask(&client, request.body(()).unwrap(), b"").await.unwrap();
            assert_eq!(
                (reply.status.as_u16(), reply.field("content-encoding")),
                (200, coding),
                "HTTP/2 {path}"
            );
            assert!(decoded(coding, &reply.body) == text(), "HTTP/2 {coding} {path}");
        }
        let target = "/small?Content-Type=text/html|ETag=%22a%22";
        let head = ask_for(gateway.address, "HEAD", target, &[("Accept-Encoding", coding)]);
        assert_eq!((head.field("content-encoding"), head.field("content-length")), (Some(coding), None));
        assert_eq!((head.field("etag"), head.body.len()), (Some("W/\"a\""), 0));
    }
}

#[test]
fn what_must_not_be_compressed_arrives_as_it_is() {
    let app = ScriptedApp::start(app);
    let gateway = gateway(&app);
    let accepts = ("Accept-Encoding", "gzip, br, zstd");
    let from_elsewhere = [accepts, ("Cookie", "a=b"), ("Sec-Fetch-Site", "cross-site")];
    for (target, fields) in [
        ("/small?Content-Type=text/html", &[("Accept-Encoding", "identity")][..]),
        ("/small?Content-Type=text/html", &[]),
        ("/small?Content-Type=text/html", &from_elsewhere),
        ("/small?Content-Type=image/png", &[accepts]),
        ("/small?Content-Type=text/event-stream", &[accepts]),
        ("/small?Content-Type=text/html|Set-Cookie=a=b", &[accepts]),
        ("/small?Content-Type=text/html|Cache-Control=no-transform", &[accepts]),
        ("/small?Content-Type=text/html|Content-Range=bytes%200-39999/90000", &[accepts]),
        ("/kept?Content-Type=text/html", &[accepts]),
        ("/plain?Content-Type=text/html", &[accepts]),
    ] {
        let reply = ask_for(gateway.address, "GET", target, fields);
        assert_eq!((reply.status, reply.field("content-encoding")), (200, None), "{target} {fields:?}");
        assert_eq!(reply.field("content-length"), Some("40000"), "{target} {fields:?}");
        assert!(reply.body == text().as_bytes(), "{target} {fields:?}");
    }
    let encoded =
        ask_for(gateway.address, "GET", "/small?Content-Type=text/html|Content-Encoding=x-own", &[accepts]);
    assert_eq!((encoded.field("content-encoding"), encoded.body.len()), (Some("x-own"), TEXT_BYTES));
    let refused = ask_for(gateway.address, "GET", "/mine?Content-Type=text/html", &[accepts]);
    assert_eq!((refused.status, refused.field("content-encoding")), (401, None));
}

#[test]
fn what_an_app_has_sent_does_not_wait_for_the_rest() {
    let app = ScriptedApp::start(app);
    let gateway = gateway(&app);
    let mut client = TcpStream::connect(gateway.address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let asked =
        "GET /small/slowly?Content-Type=text/plain HTTP/1.0\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n";
    client.write_all(asked.as_bytes()).unwrap();
    let (mut received, mut bytes) = (Vec::new(), [0; 64 * 1024]);
    let half = &text()[..TEXT_BYTES / 2];
    let mut half_after = None;
    let began = Instant::now();
    loop {
        let n = client.read(&mut bytes).unwrap();
        received.extend_from_slice(&bytes[..n]);
        let start =
            received.windows(4).position(|end| end == b"\r\n\r\n").map_or(received.len(), |at| at + 4);
        let mut plain = Vec::new();
        let _ = flate2::read::GzDecoder::new(&received[start..]).read_to_end(&mut plain);
        if half_after.is_none() && plain.starts_with(half.as_bytes()) {
            half_after = Some(began.elapsed());
        }
        if n == 0 {
            assert!(plain == text().as_bytes());
            break;
        }
    }
    let (half_after, whole_after) = (half_after.unwrap(), began.elapsed());
    assert!(half_after + Duration::from_millis(300) < whole_after, "{half_after:?} of {whole_after:?}");
}
