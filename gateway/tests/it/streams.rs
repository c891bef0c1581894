//! Exchanges in flight when one side disconnects, stalls or loses its session.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::spawn;
use std::time::{Duration, Instant};

use crate::fixture::{Gateway, PASSWORD, post, tokens, wait_until};

/// An upstream that a test plays by hand: it gets each connection with its request's head read.
struct Manual {
    address: SocketAddr,
    connections: Receiver<(TcpStream, String)>,
}

impl Manual {
    fn start() -> Manual {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, connections): (Sender<(TcpStream, String)>, _) = channel();
        spawn(move || {
            for mut socket in listener.incoming().flatten() {
                let sender = sender.clone();
                spawn(move || {
                    let head = read_head(&mut socket);
                    let _ = sender.send((socket, head));
                });
            }
        });
        Manual { address, connections }
    }

    fn next(&self) -> (TcpStream, String) {
        self.connections.recv_timeout(Duration::from_secs(10)).expect("no request reached the upstream")
    }

    fn gateway(&self, more: &str) -> Gateway {
        Gateway::start(&format!(
            "[server]\nworkers = 1\n[store]\nkind = \"memory\"\n[upstreams.app]\nurls = [\"http://{}\"]\n{more}\n\
             [[routes]]\npath = \"/\"\nupstream = \"app\"\naccess = \"public\"\n\
             [[routes]]\npath = \"/mine\"\nupstream = \"app\"\n",
            self.address
        ))
    }
}

fn read_head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if socket.read(&mut byte).unwrap_or(0) == 0 {
            break;
        }
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

fn ask(gateway: &Gateway, head: &str) -> TcpStream {
    let mut client = TcpStream::connect(gateway.address).unwrap();
    client.write_all(head.as_bytes()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    client
}

/// How long it takes until a peer has ended the connection.
fn until_closed(socket: &mut TcpStream) -> Duration {
    let started = Instant::now();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut bytes = [0; 64 * 1024];
    while matches!(socket.read(&mut bytes), Ok(1..)) {}
    started.elapsed()
}

#[test]
fn a_client_that_leaves_ends_the_work_that_it_waits_for() {
    let upstream = Manual::start();
    let gateway = upstream.gateway("max_connections = 1\nmax_pending = 0");
    let client = ask(&gateway, "GET /poll HTTP/1.1\r\nHost: a\r\n\r\n");
    let (mut waiting, _) = upstream.next();
    drop(client);
    assert!(until_closed(&mut waiting) < Duration::from_secs(2));
    wait_until("the line says who left", || {
        gateway.log().lines().any(|line| line.contains("/poll") && line.contains("client_closed"))
    });
    let _next = ask(&gateway, "GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(upstream.next().1.starts_with("GET /next "), "the place of the one that left is free");
}

#[test]
fn a_client_that_has_said_everything_still_gets_its_response() {
    let upstream = Manual::start();
    let gateway = upstream.gateway("");
    let mut client = ask(&gateway, "GET /half HTTP/1.1\r\nHost: a\r\n\r\n");
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let (mut socket, _) = upstream.next();
    socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").unwrap();
    let mut response = String::new();
    client.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n") && response.ends_with("hi"), "{response}");
}

#[test]
fn an_app_that_answers_before_the_upload_is_over_gets_the_rest_of_it() {
    const SIZE: usize = 2_000_000;
    let upstream = Manual::start();
    let gateway = upstream.gateway("");
    let head = format!("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n");
    let mut client = ask(&gateway, &head);
    let (mut socket, _) = upstream.next();
    let app = spawn(move || {
        socket.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\ndone").unwrap();
        let (mut taken, mut bytes) = (0, [0; 64 * 1024]);
        while taken < SIZE {
            match socket.read(&mut bytes).unwrap() {
                0 => break,
                n => taken += n,
            }
        }
        taken
    });
    for _ in 0..SIZE / 20_000 {
        client.write_all(&[b'x'; 20_000]).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut response = [0; 20];
    client.read_exact(&mut response).unwrap();
    assert_eq!(&response, b"HTTP/1.1 201 Created");
    assert_eq!(app.join().unwrap(), SIZE);
}

#[test]
fn a_response_that_its_upstream_cuts_is_reported_as_cut() {
    let upstream = Manual::start();
    let gateway = upstream.gateway("");
    let mut client = ask(&gateway, "GET /cut HTTP/1.1\r\nHost: a\r\n\r\n");
    let (mut socket, _) = upstream.next();
    socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").unwrap();
    drop(socket);
    let mut response = Vec::new();
    let _ = client.read_to_end(&mut response);
    assert!(!response.ends_with(&[b'x'; 100]));
    wait_until("the line says that it was cut", || {
        gateway.log().lines().any(|line| line.contains("/cut") && line.contains("upstream_closed"))
    });
    let counted = "auth_gateway_responses_aborted_total{reason=\"upstream_closed\"} 1";
    assert!(gateway.metrics().contains(counted));
}

#[test]
fn a_session_that_ends_takes_stalled_downloads_and_uploads_with_it() {
    let upstream = Manual::start();
    let gateway = upstream.gateway("");
    let (token, refresh) = tokens(gateway.address, "alice", PASSWORD);
    let with_token = |line: &str, more: &str| {
        format!("{line} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n{more}\r\n")
    };
    // One that does not read, and one that sends for as long as it is let.
    let mut stalled = ask(&gateway, &with_token("GET /mine/down", ""));
    let (mut down, _) = upstream.next();
    down.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").unwrap();
    let source = spawn(move || while down.write_all(&[b'x'; 64 * 1024]).is_ok() {});
    let mut uploading = ask(&gateway, &with_token("POST /mine/up", "Transfer-Encoding: chunked\r\n"));
    let (mut up, _) = upstream.next();
    let sink = spawn(move || until_closed(&mut up));
    let upload = spawn(move || while uploading.write_all(b"4\r\ndata\r\n").is_ok() {});
    std::thread::sleep(Duration::from_millis(300));

    let ended = Instant::now();
    assert_eq!(post(gateway.address, "/logout", &refresh).status, 204);
    source.join().unwrap();
    upload.join().unwrap();
    sink.join().unwrap();
    assert!(ended.elapsed() < Duration::from_secs(2), "{:?}", ended.elapsed());
    until_closed(&mut stalled);
    wait_until("both lines say why", || gateway.log().matches("session_revoked").count() == 2);
}
