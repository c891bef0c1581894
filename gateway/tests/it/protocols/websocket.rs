//! WebSockets: authenticated before the upgrade, on a connection of their own, ended with the session.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::fixture::{Gateway, PASSWORD, exchange, post, tokens, wait_until};

/// A server that agrees to every WebSocket, writes down the heads that it gets and echoes whatever follows.
#[derive(Clone)]
struct Echo {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    open: Arc<AtomicUsize>,
}

impl Echo {
    /// `answer` is what it says to a head.
    fn start(answer: &'static str) -> Echo {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let echo =
            Echo { address: listener.local_addr().unwrap(), heads: Arc::default(), open: Arc::default() };
        let server = echo.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let server = server.clone();
                std::thread::spawn(move || {
                    server.open.fetch_add(1, Ordering::SeqCst);
                    server.serve(socket, answer);
                    server.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        echo
    }

    fn serve(&self, mut socket: TcpStream, answer: &str) {
        let Some((head, rest)) = read_head(&mut socket) else { return };
        assert!(rest.is_empty(), "sent before the answer: {rest:?}");
        self.heads.lock().unwrap().push(head);
        if socket.write_all(answer.as_bytes()).is_err() || !answer.starts_with("HTTP/1.1 101") {
            return;
        }
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = socket.read(&mut buffer) {
            if socket.write_all(&buffer[..n]).is_err() {
                return;
            }
        }
    }

    fn gateway(&self, more: &str) -> Gateway {
        Gateway::start(&format!(
            "{more}\n[store]\nkind = \"memory\"\n[upstreams.app]\nurls = [\"http://{}\"]\n\
             [[routes]]\npath = \"/ws\"\nupstream = \"app\"\nupgrade = [\"websocket\"]\n\
             [[routes]]\npath = \"/browser\"\nupstream = \"app\"\nupgrade = [\"websocket\"]\ntoken_in_subprotocol = true\n\
             [[routes]]\npath = \"/plain\"\nupstream = \"app\"\n",
            self.address
        ))
    }
}

const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nX-Request-Id: upstream\r\n\r\n";

fn read_head(socket: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let rest = bytes.split_off(at + 4);
            return Some((String::from_utf8(bytes).unwrap(), rest));
        }
        match socket.read(&mut buffer) {
            Ok(n @ 1..) => bytes.extend_from_slice(&buffer[..n]),
            _ => return None,
        }
    }
}

fn handshake(path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: gw.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    )
}

/// An open WebSocket; `early` is sent right behind the handshake.
fn open(gateway: &Gateway, token: &str, early: &str) -> (TcpStream, String) {
    let mut socket = TcpStream::connect(gateway.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let request = handshake("/ws/chat", &format!("Authorization: Bearer {token}\r\nX-Auth-User: root\r\n"));
    socket.write_all(format!("{request}{early}").as_bytes()).unwrap();
    let (head, rest) = read_head(&mut socket).unwrap();
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let mut echoed = rest;
    while echoed.len() < early.len() {
        let mut buffer = [0; 4096];
        let n = socket.read(&mut buffer).unwrap();
        echoed.extend_from_slice(&buffer[..n]);
    }
    assert_eq!(echoed, early.as_bytes());
    (socket, head)
}

fn echo(socket: &mut TcpStream, text: &str) {
    socket.write_all(text.as_bytes()).unwrap();
    let mut back = vec![0; text.len()];
    socket.read_exact(&mut back).unwrap();
    assert_eq!(back, text.as_bytes());
}

/// How long it takes until the other side ends it.
fn ends(socket: &mut TcpStream) -> Duration {
    let started = Instant::now();
    // A reset is an end.
    assert_eq!(socket.read(&mut [0; 64]).unwrap_or(0), 0);
    started.elapsed()
}

#[test]
fn a_token_opens_a_websocket_and_bytes_go_both_ways() {
    let upstream = Echo::start(AGREED);
    let gateway = upstream.gateway("");
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    let (mut socket, head) = open(&gateway, &access, "sent before the answer was known");
    assert!(head.contains("Upgrade: websocket\r\n") && head.contains("Connection: Upgrade\r\n"), "{head}");
    assert!(head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
    assert!(!head.contains("upstream") && head.matches("X-Request-Id").count() == 1, "{head}");
    for text in ["hello", &"long ".repeat(100_000), "bye"] {
        let (mut writer, text) = (socket.try_clone().unwrap(), text.to_owned());
        let sent = text.clone();
        let writing = std::thread::spawn(move || writer.write_all(sent.as_bytes()).unwrap());
        let mut back = vec![0; text.len()];
        socket.read_exact(&mut back).unwrap();
        writing.join().unwrap();
        assert!(back == text.as_bytes());
    }
    drop(socket);
    wait_until("the upstream is let go", || upstream.open.load(Ordering::SeqCst) == 0);
    let heads = upstream.heads.lock().unwrap().clone();
    let head = heads.last().unwrap();
    assert!(head.contains("X-Auth-User: alice\r\n") && !head.contains("root"), "{head}");
    assert!(!head.contains("Authorization"), "{head}");
    assert_eq!((head.matches("Upgrade: websocket").count(), head.matches("\nConnection:").count()), (1, 1));
    wait_until("it is written down", || gateway.log().contains("\"status\":101"));
}

#[test]
fn without_a_token_there_is_no_upgrade_and_the_upstream_hears_nothing() {
    let upstream = Echo::start(AGREED);
    let gateway = upstream.gateway("");
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    let token = format!("Authorization: Bearer {access}\r\n");
    let good = handshake("/ws", &token);
    for (request, status) in [
        (handshake("/ws", ""), 401),
        (handshake("/ws", "Authorization: Bearer forged\r\n"), 401),
        (good.replace("GET", "POST"), 400),
        (good.replace("Version: 13", "Version: 8"), 400),
        (good.replace("dGhlIHNhbXBsZSBub25jZQ==", "short"), 400),
        (good.replace("Upgrade: websocket", "Upgrade: websocket, h2c"), 400),
        (good.replace("Sec-WebSocket-Version", "Content-Length: 3\r\nSec-WebSocket-Version") + "abc", 400),
    ] {
        let sent = exchange(gateway.address, request.as_bytes());
        assert_eq!(sent.replies.len(), 1, "{request}");
        assert_eq!(sent.replies[0].status, status, "{request}");
    }
    assert!(upstream.heads.lock().unwrap().is_empty());
}

#[test]
fn a_browser_brings_its_token_as_a_subprotocol_where_the_route_says_so() {
    let upstream = Echo::start(AGREED);
    let gateway = upstream.gateway("");
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    let ask = |path: &str, more: &str| {
        let mut socket = TcpStream::connect(gateway.address).unwrap();
        socket.write_all(handshake(path, more).as_bytes()).unwrap();
        read_head(&mut socket).unwrap().0
    };
    let offer = |protocols: &str| format!("Sec-WebSocket-Protocol: {protocols}\r\n");
    for (offered, seen) in [
        (offer(&format!("bearer, {access}")), None),
        (offer(&format!("chat, bearer,{access} , superchat")), Some("chat, superchat")),
        (offer("chat") + &offer("bearer") + &offer(&access), Some("chat")),
    ] {
        let head = ask("/browser", &offered);
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        assert!(head.contains("\r\nSec-WebSocket-Protocol: bearer\r\n"), "{head}");
        let sent = upstream.heads.lock().unwrap().pop().unwrap();
        assert!(sent.contains("X-Auth-User: alice\r\n") && !sent.contains(&access), "{sent}");
        let line = seen.map(|seen| format!("\r\nSec-WebSocket-Protocol: {seen}\r\n"));
        match line {
            Some(line) => assert!(sent.contains(&line), "{sent}"),
            None => assert!(!sent.to_lowercase().contains("sec-websocket-protocol"), "{sent}"),
        }
    }
    let bearer = format!("Authorization: Bearer {access}\r\n");
    for (path, fields, status) in [
        ("/browser", offer("bearer"), "400"),
        ("/browser", offer(&format!("bearer, {access}, bearer, {access}")), "400"),
        ("/browser", offer(&format!("bearer, {access}")) + &bearer, "400"),
        ("/browser", offer("bearer, forged"), "401"),
        ("/browser", offer(&access), "401"),
        ("/ws", offer(&format!("bearer, {access}")), "401"),
        ("/browser", bearer.clone(), "101"),
    ] {
        let head = ask(path, &fields);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{path} {fields}: {head}");
    }
}

#[test]
fn a_page_of_another_origin_opens_no_websocket() {
    let upstream = Echo::start(AGREED);
    let gateway = upstream.gateway("[cors]\nallowed_origins = [\"https://friend.example\"]");
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    for (origin, opens) in [
        ("http://gw.test", true),
        ("https://GW.test", true),
        ("https://friend.example", true),
        ("https://stranger.example", false),
        ("https://gw.test.stranger.example", false),
        ("https://gw.test:8443", false),
        ("null", false),
        ("http://gw.test\r\nOrigin: http://gw.test", false),
    ] {
        let fields = format!("Authorization: Bearer {access}\r\nOrigin: {origin}\r\n");
        let mut socket = TcpStream::connect(gateway.address).unwrap();
        socket.write_all(handshake("/ws", &fields).as_bytes()).unwrap();
        let head = read_head(&mut socket).unwrap().0;
        assert_eq!(head.starts_with("HTTP/1.1 101"), opens, "{origin}: {head}");
    }
    assert_eq!(upstream.heads.lock().unwrap().len(), 3);
}

#[test]
fn a_route_without_websockets_sees_an_ordinary_request() {
    let upstream = Echo::start("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let gateway = upstream.gateway("");
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    let token = format!("Authorization: Bearer {access}\r\n");
    for (path, protocol, passes) in
        [("/plain", "websocket", false), ("/ws", "h2c", false), ("/ws", "websocket", true)]
    {
        let request = handshake(path, &token).replace("Upgrade: websocket", &format!("Upgrade: {protocol}"));
        let sent = exchange(gateway.address, request.as_bytes());
        assert_eq!(
            (sent.replies[0].status, sent.replies[0].text()),
            (200, "ok".to_owned()),
            "{path} {protocol}"
        );
        let head = upstream.heads.lock().unwrap().pop().unwrap();
        assert_eq!(head.contains("\r\nUpgrade:"), passes, "{head}");
        assert_eq!(head.contains("\r\nConnection:"), passes, "{head}");
    }
}

#[test]
fn an_unsolicited_or_different_101_is_a_bad_gateway() {
    for answer in [
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\nConnection: upgrade\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
    ] {
        let upstream = Echo::start(answer);
        let gateway = upstream.gateway("");
        let (access, _) = tokens(gateway.address, "alice", PASSWORD);
        let token = format!("Authorization: Bearer {access}\r\n");
        let sent = exchange(gateway.address, handshake("/ws", &token).as_bytes());
        assert_eq!(sent.replies[0].status, 502, "{answer}");
    }
}

#[test]
fn a_websocket_ends_with_its_session() {
    let upstream = Echo::start(AGREED);
    let gateway = upstream.gateway("");
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    let (others, _) = tokens(gateway.address, "bob", PASSWORD);
    let (mut socket, _) = open(&gateway, &access, "");
    let (mut other, _) = open(&gateway, &others, "");
    echo(&mut socket, "hello");
    assert_eq!(post(gateway.address, "/logout", &access).status, 204);
    let took = ends(&mut socket);
    assert!(took < Duration::from_secs(8), "{took:?}");
    echo(&mut other, "still here");
}

#[test]
fn a_websocket_ends_when_its_token_has_expired_and_the_grace_is_over() {
    let upstream = Echo::start(AGREED);
    let gateway = upstream.gateway("[tokens]\naccess_ttl = \"3s\"\nstream_grace = \"1s\"");
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    let (mut socket, _) = open(&gateway, &access, "");
    let started = Instant::now();
    ends(&mut socket);
    let took = started.elapsed();
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(9), "{took:?}");
}

#[test]
fn a_long_answer_ends_with_its_session_and_not_as_if_it_were_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = read_head(&mut socket);
                let _ = socket.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
                );
                while socket.write_all(b"8\r\ndata: 1\n\r\n").is_ok() {
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
        }
    });
    let gateway = Gateway::start(&format!(
        "[store]\nkind = \"memory\"\n[upstreams.app]\nurls = [\"http://{address}\"]\n\
         [[routes]]\npath = \"/events\"\nupstream = \"app\"\n"
    ));
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    let mut socket = TcpStream::connect(gateway.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let request = format!("GET /events HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {access}\r\n\r\n");
    socket.write_all(request.as_bytes()).unwrap();
    let (head, _) = read_head(&mut socket).unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let mut piece = [0; 64];
    let first = Instant::now();
    let n = socket.read(&mut piece).unwrap();
    assert!(n > 0 && first.elapsed() < Duration::from_secs(8), "events come one by one");
    assert_eq!(post(gateway.address, "/logout", &access).status, 204);
    let mut rest = Vec::new();
    let started = Instant::now();
    let end = socket.read_to_end(&mut rest);
    assert!(started.elapsed() < Duration::from_secs(8));
    assert!(end.is_err() || !rest.ends_with(b"0\r\n\r\n"), "it looks whole");
}

#[test]
fn a_silent_websocket_is_ended() {
    let upstream = Echo::start(AGREED);
    let gateway = upstream.gateway("[limits]\ntunnel_timeout = \"1s\"");
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    let (mut socket, _) = open(&gateway, &access, "");
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(300));
        echo(&mut socket, "alive");
    }
    let took = ends(&mut socket);
    assert!(took > Duration::from_millis(700) && took < Duration::from_secs(9), "{took:?}");
    wait_until("both sides are let go", || upstream.open.load(Ordering::SeqCst) == 0);
}
