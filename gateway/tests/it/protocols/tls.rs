//! TLS to clients: SNI, protocol versions, forwarding headers, and the HTTPS redirect.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{config, secure};
use crate::fixture::http2::connect_tls;
use crate::fixture::{Certificates, Gateway, Upstream, exchange, free_address, wait_until};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn http1_over_tls_goes_the_same_way_and_the_upstream_hears_https() {
    let (certificates, upstream) = (Certificates::make(), Upstream::start());
    let gateway = secure(&upstream, &certificates, "");
    let mut client = connect_tls(&certificates, gateway.address, "127.0.0.1", &["http/1.1"]).await.unwrap();
    let long = "x".repeat(300_000);
    let request = format!(
        "POST /app/mirror HTTP/1.1\r\nHost: gw.test\r\nContent-Length: {}\r\n\r\n{long}\
         GET /app/b HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n\r\n",
        long.len()
    );
    let (mut from, mut to) = tokio::io::split(&mut client);
    let mut answers = Vec::new();
    let (sent, read) = tokio::join!(to.write_all(request.as_bytes()), from.read_to_end(&mut answers));
    sent.unwrap();
    // An end without close_notify would be an error here.
    read.unwrap();
    let answers = String::from_utf8(answers).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers:.300}");
    assert!(answers.contains(&long));
    let last = upstream.last();
    assert_eq!(last.values("x-forwarded-proto"), ["https"]);
    assert!(last.values("forwarded")[0].ends_with("proto=https"), "{last:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_client_is_shown_the_certificate_of_the_name_it_asks_for() {
    let (certificates, upstream) = (Certificates::make(), Upstream::start());
    certificates.sign("app", "DNS:app.test,DNS:*.app.test", 2);
    let pair = |name: &str| {
        format!(
            "{{ certificate_file = {:?}, private_key_file = {:?} }}",
            certificates.file(&format!("{name}.pem")),
            certificates.file(&format!("{name}.key"))
        )
    };
    let tls = format!("[server.tls]\ncertificates = [{}, {}]\n", pair("server"), pair("app"));
    let gateway = Gateway::start(&config(&upstream, &tls));
    for name in ["127.0.0.1", "app.test", "a.app.test", "A.App.Test"] {
        assert!(connect_tls(&certificates, gateway.address, name, &[]).await.is_ok(), "{name}");
    }
    for name in ["other.test", "a.b.app.test"] {
        let refused = connect_tls(&certificates, gateway.address, name, &[]).await.unwrap_err();
        assert!(refused.to_string().contains("not valid for name"), "{name}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_right_behind_the_handshake_is_answered_at_once() {
    let (certificates, upstream) = (Certificates::make(), Upstream::start());
    let gateway = secure(&upstream, &certificates, "");
    for _ in 0..10 {
        let alpn = ["http/1.1"];
        let mut client = connect_tls(&certificates, gateway.address, "127.0.0.1", &alpn).await.unwrap();
        let request = b"GET /app/a HTTP/1.1\r\nHost: gw.test\r\n\r\n";
        client.write_all(request).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(5), client.read_u8()).await;
        assert_eq!(answer.expect("five seconds without an answer").unwrap(), b'H');
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_response_over_tls_has_one_hsts_header() {
    let certificates = Certificates::make();
    // An upstream with a policy of its own.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let urls = format!("\n[upstreams.other]\nurls = [\"http://{}\"]", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let _ = socket.read(&mut [0; 4096]);
            let _ = socket.write_all(
                b"HTTP/1.1 200 OK\r\nstrict-transport-security: max-age=0\r\nContent-Length: 0\r\n\r\n",
            );
        }
    });
    let route = "\n[[routes]]\npath = \"/other\"\nupstream = \"other\"\naccess = \"public\"";
    let gateway = secure(&Upstream::start(), &certificates, &format!("{urls}{route}"));
    for (path, status) in [("/app/a", 200), ("/protected", 401), ("/nowhere", 404), ("/other", 200)] {
        let mut client =
            connect_tls(&certificates, gateway.address, "127.0.0.1", &["http/1.1"]).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
        assert_eq!(answer.to_lowercase().matches("strict-transport-security").count(), 1, "{answer}");
        assert!(answer.contains("\r\nStrict-Transport-Security: max-age=2592000\r\n"), "{answer}");
    }
}

#[test]
fn certificates_that_cannot_serve_stop_the_start_and_name_their_file() {
    let (certificates, upstream) = (Certificates::make(), Upstream::start());
    let dir = tempfile::tempdir().unwrap();
    let users = dir.path().join("users.toml");
    fs::write(&users, "").unwrap();
    fs::write(dir.path().join("text"), "no certificate").unwrap();
    let file = |name: &str| certificates.file(name).to_str().unwrap().to_owned();
    let text = dir.path().join("text").to_str().unwrap().to_owned();
    for (certificate, key, complaint) in [
        (file("server.pem"), file("client.key"), "is not the key of"),
        (text.clone(), file("server.key"), "there is no certificate in it"),
        (file("server.pem"), text.clone(), "there is no usable private key in it"),
        ("no/such/file".to_owned(), file("server.key"), "no/such/file does not exist"),
    ] {
        let tls = format!(
            "[server.tls]\ncertificates = [{{ certificate_file = {certificate:?}, private_key_file = {key:?} }}]\n\
             [users]\nfile = {users:?}\n"
        );
        fs::write(dir.path().join("gateway.toml"), config(&upstream, &tls)).unwrap();
        for command in ["check", "serve"] {
            let (code, _, errors) = Gateway::command(dir.path(), &[command, "--config", "gateway.toml"], "");
            assert!(code == 78 && errors.contains(complaint), "{command} {complaint}: {code} {errors}");
        }
    }
}

#[test]
fn a_client_that_does_not_finish_its_handshake_is_let_go() {
    let (certificates, upstream) = (Certificates::make(), Upstream::start());
    let gateway = secure(&upstream, &certificates, "[limits]\nhandshake_timeout = \"200ms\"");
    for hello in [&b""[..], b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let mut socket = TcpStream::connect(gateway.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.write_all(hello).unwrap();
        let mut rest = Vec::new();
        // An alert, a reset or nothing: but an end.
        if let Err(error) = socket.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
    }
    wait_until("they are gone", || gateway.metrics().contains("auth_gateway_connections_open 0\n"));
}

#[test]
fn plain_http_is_led_to_https() {
    let (certificates, upstream) = (Certificates::make(), Upstream::start());
    let plain = free_address();
    let more = format!("redirect_listen = \"{plain}\"\n[endpoints]\nhealth_path = \"/healthz\"");
    let gateway = secure(&upstream, &certificates, &more);
    for request in
        ["OPTIONS /healthz HTTP/1.0\r\n\r\n", "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"]
    {
        let (mut socket, mut reply) = (TcpStream::connect(plain).unwrap(), Vec::new());
        socket.write_all(request.as_bytes()).unwrap();
        socket.read_to_end(&mut reply).unwrap();
        assert_eq!(reply[8..13], *b" 200 ", "{request}");
    }
    let sent =
        exchange(plain, b"POST /app/a?b=c HTTP/1.1\r\nHost: gw.test:80\r\nContent-Length: 3\r\n\r\nabc");
    let reply = &sent.replies[0];
    assert_eq!(reply.status, 308);
    let port = gateway.address.port();
    assert_eq!(reply.field("location"), Some(&*format!("https://gw.test:{port}/app/a?b=c")));
    let ambiguous = exchange(plain, b"GET //evil.test/ HTTP/1.1\r\nHost: gw.test\r\n\r\n");
    assert_eq!(ambiguous.replies[0].status, 400);
    assert!(upstream.requests().is_empty());
}
