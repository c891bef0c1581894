//! What apps answer: near misses are repaired, what cannot be repaired is refused in words, and nothing costs the next request.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::{ScriptedApp, at_once, gateway, ok, over_http2};
use crate::fixture::{Connection, Gateway, Upstream, exchange, get, request, wait_until};

#[test]
fn localhost_is_both_loopback_addresses() {
    for address in ["[::1]:0", "127.0.0.1:0"] {
        let app = ScriptedApp::listen(TcpListener::bind(address).unwrap(), |_, _, _| ok("here"));
        for name in ["localhost", "app.localhost"] {
            let more = "retries = 0\nhealth_path = \"/\"\nhealth_interval = \"100ms\"\nunhealthy_after = 1";
            let gateway = gateway(&format!("http://{name}:{}", app.address.port()), more, "");
            for _ in 0..3 {
                assert_eq!(get(gateway.address, "/", &[]).unwrap().text(), "here", "{name} {address}");
            }
            let posted = request(gateway.address, "POST", "/", &[], b"once").unwrap();
            assert_eq!(posted.text(), "here", "{name} {address}");
            wait_until("it is asked how it is", || {
                gateway.metrics().lines().any(|line| line.contains("passed") && !line.ends_with(" 0"))
            });
        }
    }
}

/// Path, answer of the app, and the status and body that a client gets.
const ANSWERS: [(&str, &str, u16, &str); 16] = [
    ("/spaced-size", "Transfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0  \r\n\r\n", 200, "hello"),
    ("/tab-size", "Transfer-Encoding: chunked\r\n\r\n5\t\r\nhello\r\n0\r\n\r\n", 200, "hello"),
    ("/spaced-extension", "Transfer-Encoding: chunked\r\n\r\n5 ;a=b\r\nhello\r\n0\r\n\r\n", 200, "hello"),
    ("/spaced-length", "Content-Length : 5\r\n\r\nhello", 200, "hello"),
    ("/tab-length", "Content-Length\t: 5\r\n\r\nhello", 200, "hello"),
    ("/spaced-coding", "Transfer-Encoding : chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 200, "hello"),
    ("/twice", "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 200, "hello"),
    ("/listed", "Content-Length: 5, 5\r\n\r\nhello", 200, "hello"),
    ("/differ", "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 502, ""),
    ("/differ-in-list", "Content-Length: 5, 6\r\n\r\nhello", 502, ""),
    ("/both", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 502, ""),
    ("/no-length", "Content-Length: five\r\n\r\nhello", 502, ""),
    ("/name", "Bad Name: x\r\nContent-Length: 5\r\n\r\nhello", 502, ""),
    ("/nul", "X-Nul: a\0b\r\nContent-Length: 5\r\n\r\nhello", 502, ""),
    ("/folded", "X-Fold: a\r\n b\r\n\tc\r\nContent-Length:\r\n 5\r\n\r\nhello", 200, "hello"),
    ("/colonless", "what is this\r\nContent-Length: 5\r\n\r\nhello", 502, ""),
];

#[tokio::test]
async fn near_misses_are_repaired_and_all_else_is_refused_over_both_versions() {
    let app = ScriptedApp::start(|_, target, _| {
        let answer = ANSWERS.iter().find(|(path, ..)| *path == target).unwrap().1;
        at_once(format!("HTTP/1.1 200 OK\r\nX-Kept : yes\r\n{answer}"))
    });
    let gateway = app.gateway("");
    for (path, _, status, body) in ANSWERS {
        let reply = get(gateway.address, path, &[]).unwrap();
        assert_eq!(reply.status, status, "{path}: {reply:?}");
        let over_http2 = over_http2(gateway.address, "GET", path, b"").await.unwrap();
        assert_eq!(over_http2.status.as_u16(), status, "{path}");
        if status == 200 {
            assert_eq!(reply.text(), body, "{path}");
            assert_eq!(reply.field("x-kept"), Some("yes"), "{path}");
            assert_eq!(over_http2.body, body.as_bytes(), "{path}");
        }
        if path == "/folded" {
            assert_eq!(reply.field("x-fold"), Some("a   b  \tc"));
            assert_eq!(over_http2.field("x-fold"), "a   b  \tc");
        }
    }
    wait_until("all are logged", || gateway.log().contains("a line without a colon"));
    let log = gateway.log();
    for why in [
        "a Content-Length that is not one decimal number",
        "Transfer-Encoding and Content-Length together",
        "the name of the field `Bad Name`",
        "a control character in the field `X-Nul`",
        "a line without a colon",
    ] {
        assert!(log.contains(why), "{why} is not in {log}");
    }
}

#[tokio::test]
async fn an_app_that_breaks_off_does_not_cost_the_client_what_it_has_sent() {
    const ANSWERS: [(&str, &str, &str); 6] = [
        ("/no-body", "Content-Length: 5\r\n\r\n", ""),
        ("/no-chunk", "Transfer-Encoding: chunked\r\n\r\n", ""),
        ("/bad-chunk", "Transfer-Encoding: chunked\r\n\r\nzz\r\n", ""),
        ("/bad-second-chunk", "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n", "ok"),
        ("/bad-end", "Transfer-Encoding: chunked\r\n\r\n2\r\nokxx", "ok"),
        ("/half", "Content-Length: 5\r\n\r\nok", "ok"),
    ];
    let app = ScriptedApp::start(|_, target, before| {
        let Some((.., answer, _)) = ANSWERS.iter().find(|(path, ..)| *path == target) else { return vec![] };
        let head = format!("HTTP/1.1 200 OK\r\nX-Kept: yes\r\n{answer}");
        // Its end, with the next request, is what breaks off those that are not malformed.
        if before == 0 { at_once(head) } else { vec![] }
    });
    let gateway = app.gateway("body_timeout = \"300ms\"");
    for (path, _, body) in ANSWERS {
        for version in ["1.1", "1.0"] {
            let request = format!("GET {path} HTTP/{version}\r\nHost: a\r\n\r\n");
            let mut socket = TcpStream::connect(gateway.address).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            socket.write_all(request.as_bytes()).unwrap();
            let mut received = Vec::new();
            let ended = socket.read_to_end(&mut received);
            let text = String::from_utf8_lossy(&received);
            assert!(
                text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("X-Kept: yes\r\n"),
                "{path}: {text}"
            );
            assert!(
                text.contains(&format!("\r\n\r\n{body}")) || text.ends_with("\r\nok\r\n"),
                "{path}: {text}"
            );
            assert!(!text.ends_with("0\r\n\r\n"), "it is not complete: {path}: {text}");
            // HTTP/1.0 may have nothing but the end of the connection to tell a body's end by.
            assert_eq!(ended.is_ok(), version == "1.1", "{path} HTTP/{version}");
        }
        let over_http2 = over_http2(gateway.address, "GET", path, b"").await;
        assert!(over_http2.is_err(), "{path}: {over_http2:?}");
    }
}

#[test]
fn the_limits_of_an_answer_are_settings_and_the_log_names_what_broke_them() {
    let head = |fields: usize, size: usize| {
        let many: String = (0..fields).map(|n| format!("F{n}: x\r\n")).collect();
        let large = format!("Set-Cookie: {}\r\n", "s".repeat(size));
        at_once(format!("HTTP/1.1 200 OK\r\n{many}{large}Content-Length: 2\r\n\r\nok"))
    };
    let app = ScriptedApp::start(move |_, target, _| match target {
        "/many" => head(200, 1),
        "/large" => head(1, 100_000),
        _ => ok("fine"),
    });
    let strict = app.gateway("");
    for path in ["/many", "/large"] {
        assert_eq!(get(strict.address, path, &[]).unwrap().status, 502, "{path}");
    }
    wait_until("both are logged", || strict.log().matches("upstream failed").count() == 2);
    let log = strict.log();
    assert!(log.contains("more fields than response_header_fields = 100"), "{log}");
    assert!(log.contains("larger than response_header_block = 65536 bytes"), "{log}");
    assert!(log.contains("its largest field is `Set-Cookie`") && !log.contains("ssss"), "{log}");

    let wide = app.gateway("response_header_block = \"256KiB\"\nresponse_header_fields = 300");
    for path in ["/many", "/large"] {
        let reply = get(wide.address, path, &[]).unwrap();
        assert_eq!((reply.status, reply.text()), (200, "ok".to_owned()), "{path}");
    }
}

/// Bytes that an app sends with an answer that has no body, at once or a moment later.
#[test]
fn stray_bytes_behind_an_answer_without_a_body_cost_nobody_anything() {
    for pause in [0, 1, 40] {
        let app = ScriptedApp::start(move |method, target, _| {
            let pause = Duration::from_millis(pause);
            // An upload's connection is kept waiting for 20 ms only: HEAD is asked for too seldom to matter.
            let soon = pause.min(Duration::from_millis(1));
            match (method, target) {
                ("HEAD", _) => vec![
                    (Duration::ZERO, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".to_vec()),
                    (pause, b"stray".to_vec()),
                ],
                (_, "/204") => vec![
                    (Duration::ZERO, b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
                    (soon, b"{\"stray\": true}\r\n".to_vec()),
                ],
                (_, "/304") => vec![
                    (Duration::ZERO, b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n".to_vec()),
                    (soon, b"stray".to_vec()),
                ],
                (_, target) => ok(target),
            }
        });
        let gateway = app.gateway("");
        let mut connection = Connection::open(gateway.address).unwrap();
        for round in 0..5 {
            for (method, target, status) in
                [("DELETE", "/204", 204), ("GET", "/304", 304), ("HEAD", "/head", 200)]
            {
                for next in ["GET", "POST"] {
                    let first = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n");
                    connection.send(first.as_bytes()).unwrap();
                    if method == "HEAD" {
                        assert_eq!(connection.status_of_head().unwrap(), status);
                    } else {
                        assert_eq!(connection.reply().unwrap().status, status, "{target}");
                    }
                    let second = format!("{next} /next HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
                    connection.send(second.as_bytes()).unwrap();
                    let reply = connection.reply().unwrap();
                    let after = format!("{next} after {method} {target}, {pause} ms, round {round}");
                    assert_eq!((reply.status, reply.text()), (200, "/next".to_owned()), "{after}");
                }
            }
        }
    }
}

#[tokio::test]
async fn informational_responses_reach_clients_that_know_them() {
    let app = ScriptedApp::start(|_, _, _| {
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nX-Hop: 1\r\nConnection: X-Hop\r\n\r\n";
        let pause = Duration::from_millis(30);
        vec![
            (Duration::ZERO, hints.into()),
            (pause, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n".to_vec()),
            (pause, ok("done").remove(0).1),
        ]
    });
    let gateway = app.gateway("");
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let two = exchange(gateway.address, get.repeat(2).as_bytes());
    assert_eq!(two.interim, [103, 102, 103, 102]);
    assert_eq!(two.replies.iter().map(|reply| reply.text()).collect::<Vec<_>>(), ["done", "done"]);
    let raw = super::read_raw(gateway.address, get, "done");
    let hints = raw.split("\r\n\r\n").next().unwrap();
    assert_eq!(
        hints, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload",
        "nothing of the hop passes on"
    );

    let old = exchange(gateway.address, b"GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    assert_eq!((old.interim.len(), old.replies[0].text()), (0, "done".to_owned()), "HTTP/1.0 has none");
    let waiting =
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n[WAIT 100]ok";
    let waited = exchange(gateway.address, waiting.as_bytes());
    assert_eq!(waited.replies[0].text(), "done");
    assert_eq!(waited.interim, [100, 103, 102], "the app's own 100 responds to no client");
    // hyper's server has no way to send them over HTTP/2; the response is what it should be.
    assert_eq!(over_http2(gateway.address, "GET", "/", b"").await.unwrap().body, b"done");
}

#[test]
fn a_connection_is_not_used_longer_than_its_server_keeps_it() {
    let app = ScriptedApp::start(|_, _, before| {
        at_once(format!(
            "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1, max=9\r\nContent-Length: 1\r\n\r\n{before}"
        ))
    });
    let gateway = app.gateway("");
    let ask = || request(gateway.address, "POST", "/", &[], b"").unwrap().text();
    wait_until("it is kept", || ask() == "1");
    let begun = Instant::now();
    wait_until("a new connection is made", || {
        std::thread::sleep(Duration::from_millis(650));
        ask() == "0"
    });
    assert!(begun.elapsed() < Duration::from_secs(8), "half a second at rest is enough");
}

/// Answered by the gateway at once, or by an app later.
#[test]
fn pipelined_requests_are_all_answered_in_their_order() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!(
        "[upstreams.app]\nurls = [\"http://{}\"]\n[[routes]]\npath = \"/app\"\nupstream = \"app\"\naccess = \"public\"\n\
         [[routes]]\npath = \"/closed\"\nupstream = \"app\"\n\
         [[routes]]\npath = \"/here\"\naccess = \"public\"\nrespond = {{ status = 202, body = \"here\", content_type = \"text/plain\" }}\n",
        upstream.address
    ));
    for paths in
        [&["/here"][..], &["/closed"], &["/none"], &["/app"], &["/here", "/app", "/closed", "/here", "/none"]]
    {
        for count in [2, 3, 4, 10, 100] {
            let mut connection = Connection::open(gateway.address).unwrap();
            let sent = || paths.iter().cycle().take(count);
            let heads: String =
                sent().map(|path| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).collect();
            connection.send(heads.as_bytes()).unwrap();
            for (place, path) in sent().enumerate() {
                let expected = match *path {
                    "/here" => 202,
                    "/closed" => 401,
                    "/none" => 404,
                    _ => 200,
                };
                let reply =
                    connection.reply().unwrap_or_else(|cut| panic!("{place} of {count} {paths:?}: {cut:?}"));
                assert_eq!(reply.status, expected, "{place} of {count} {paths:?}");
            }
        }
    }
}
