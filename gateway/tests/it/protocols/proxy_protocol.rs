//! The PROXY protocol: required of the configured peers, and not accepted from others.

use super::config;
use crate::fixture::{Gateway, Upstream, exchange, wait_until};

const REQUEST: &[u8] = b"GET /app/a HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n\r\n";

fn with_header(header: &[u8]) -> Vec<u8> {
    [header, REQUEST].concat()
}

#[test]
fn a_load_balancer_says_whom_a_connection_comes_from() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, "proxy_protocol_from = [\"127.0.0.0/8\"]"));
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\x0a\x00\x00\x01\x00\x01\x01\xbb";
    for (header, client) in [
        (&b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n"[..], "192.0.2.1"),
        (b"PROXY TCP6 2001:db8::1 ::1 56324 443\r\n", "2001:db8::1"),
        (v2, "192.0.2.7"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
    ] {
        let sent = exchange(gateway.address, &with_header(header));
        assert_eq!(sent.replies.len(), 1, "{client}: {sent:?}");
        assert_eq!(upstream.last().values("x-forwarded-for"), [client]);
    }
    for client in ["192.0.2.1", "2001:db8::1"] {
        wait_until("the log says whom", || gateway.log().contains(&format!("\"client\":\"{client}\"")));
    }
}

#[test]
fn a_connection_without_the_header_that_it_must_have_is_closed() {
    let upstream = Upstream::start();
    let more = "proxy_protocol_from = [\"127.0.0.1\"]\n[limits]\nhandshake_timeout = \"200ms\"";
    let gateway = Gateway::start(&config(&upstream, more));
    for bytes in [REQUEST, b"PROXY TCP4 192.0.2.1", b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\nGET / HTTP/1.1\r\n\r\n"]
    {
        let sent = exchange(gateway.address, bytes);
        assert!(sent.closed && sent.replies.is_empty() && sent.rest.is_empty(), "{sent:?}");
    }
    assert!(upstream.requests().is_empty());
}

#[test]
fn a_header_of_somebody_who_need_not_send_one_is_no_request() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, "proxy_protocol_from = [\"192.0.2.0/24\"]"));
    let sent = exchange(gateway.address, &with_header(b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n"));
    assert_eq!((sent.replies.len(), sent.replies[0].status, sent.closed), (1, 400, true));
    assert!(upstream.requests().is_empty());
}

#[test]
fn one_source_has_so_many_connections_and_others_have_theirs() {
    use std::io::{Read, Write};
    let upstream = Upstream::start();
    let more = "proxy_protocol_from = [\"127.0.0.1\"]\n[limits]\nconnections_per_source = 3";
    let gateway = Gateway::start(&config(&upstream, more));
    let open = |client: &str| {
        let mut socket = std::net::TcpStream::connect(gateway.address).unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        let header = format!("PROXY TCP4 {client} 10.0.0.1 56324 443\r\n");
        let request = header + "GET /app/a HTTP/1.1\r\nHost: gw.test\r\n\r\n";
        socket.write_all(request.as_bytes()).unwrap();
        // A reset is an end.
        let answered = socket.read(&mut [0; 4096]).unwrap_or(0) > 0;
        (socket, answered)
    };
    let held: Vec<_> = (0..3).map(|_| open("192.0.2.1")).collect();
    assert!(held.iter().all(|(_, answered)| *answered));
    assert!(!open("192.0.2.1").1, "a fourth");
    assert!(open("192.0.2.2").1, "another source");
    assert!(gateway.metrics().contains("auth_gateway_connections_refused_total 1\n"));
    drop(held);
    crate::fixture::wait_until("the places are free again", || open("192.0.2.1").1);
}
