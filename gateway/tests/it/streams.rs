//! Exchanges in flight when one side disconnects, stalls or loses its session.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;

use crate::fixture::http2::http2;
use crate::fixture::{Gateway, PASSWORD, post, tokens, wait_until};

/// Within this time of a session's end its streams have ended, on every instance.
pub(crate) const STREAM_END: Duration = Duration::from_millis(500);

/// How late this machine wakes threads: what a promised time may take longer here.
pub(crate) struct MachineDelay(Arc<AtomicU64>);

impl MachineDelay {
    const STEP: Duration = Duration::from_millis(5);

    pub(crate) fn measure() -> MachineDelay {
        let worst = Arc::new(AtomicU64::new(0));
        let kept = Arc::downgrade(&worst);
        spawn(move || {
            while let Some(worst) = kept.upgrade() {
                let began = Instant::now();
                sleep(MachineDelay::STEP);
                worst.fetch_max((began.elapsed() - MachineDelay::STEP).as_millis() as u64, Ordering::Relaxed);
            }
        });
        MachineDelay(worst)
    }

    /// A second for an unoptimised gateway that shares two cores, and what four threads that wake each other may take:
    /// the gateway's two, the app and the test. Without the watching of streams it would be half a minute.
    pub(crate) fn allowance(&self) -> Duration {
        let worst = Duration::from_millis(self.0.load(Ordering::Relaxed));
        Duration::from_secs(1) + (4 * worst).min(Duration::from_secs(5))
    }
}

/// An upstream that a test plays by hand: it gets each connection with its request's head read.
pub(crate) struct Manual {
    pub(crate) address: SocketAddr,
    connections: Receiver<(TcpStream, String)>,
}

impl Manual {
    pub(crate) fn start() -> Manual {
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

    pub(crate) fn gateway(&self, more: &str) -> Gateway {
        self.gateway_with("[store]\nkind = \"memory\"\n", more)
    }

    /// One with that store; `more` is of the upstream's table.
    pub(crate) fn gateway_with(&self, store: &str, more: &str) -> Gateway {
        Gateway::start(&format!(
            "[server]\nworkers = 1\nh2c = true\n{store}\n[upstreams.app]\nurls = [\"http://{}\"]\n{more}\n\
             [[routes]]\npath = \"/\"\nupstream = \"app\"\naccess = \"public\"\n\
             [[routes]]\npath = \"/mine\"\nupstream = \"app\"\nupgrade = [\"websocket\"]\n",
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
    assert!(until_closed(&mut waiting) < Duration::from_secs(8));
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

/// The head of a request with a token.
fn with_token(line: &str, token: &str, more: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n{more}\r\n")
}

/// What a client sends to open a WebSocket, beside its token.
const WEBSOCKET: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const SWITCHED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Opens a WebSocket, and returns the client's and the app's end.
fn open_websocket(gateway: &Gateway, upstream: &Manual, token: &str) -> (TcpStream, TcpStream) {
    let mut client = ask(gateway, &with_token("GET /mine/socket", token, WEBSOCKET));
    let (mut app, _) = upstream.next();
    app.write_all(SWITCHED).unwrap();
    assert!(read_head(&mut client).starts_with("HTTP/1.1 101 "));
    (client, app)
}

/// Writes pieces until the peer has gone.
fn write_until_closed(mut socket: TcpStream, piece: &'static [u8], pause: Duration) {
    while socket.write_all(piece).is_ok() {
        sleep(pause);
    }
}

/// An event stream, a WebSocket and an upload of a session, each of which notes when it has ended for its client.
pub(crate) fn open_streams(
    gateway: &Gateway,
    upstream: &Manual,
    token: &str,
) -> Vec<(&'static str, JoinHandle<Instant>)> {
    const PAUSE: Duration = Duration::from_millis(10);
    let read = |mut client: TcpStream| {
        spawn(move || {
            let mut bytes = [0; 4096];
            while matches!(client.read(&mut bytes), Ok(1..)) {}
            Instant::now()
        })
    };
    let events = ask(gateway, &with_token("GET /mine/events", token, ""));
    let (mut app, _) = upstream.next();
    app.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").unwrap();
    spawn(move || write_until_closed(app, b"data: x\n\n", PAUSE));
    let (socket, app) = open_websocket(gateway, upstream, token);
    spawn(move || write_until_closed(app, b"\x81\x01x", PAUSE));
    let upload = ask(gateway, &with_token("POST /mine/upload", token, "Transfer-Encoding: chunked\r\n"));
    let (mut app, _) = upstream.next();
    spawn(move || until_closed(&mut app));
    let upload = spawn(move || {
        write_until_closed(upload, b"1\r\nx\r\n", PAUSE);
        Instant::now()
    });
    vec![("event stream", read(events)), ("WebSocket", read(socket)), ("upload", upload)]
}

#[test]
fn a_session_that_ends_takes_stalled_downloads_and_uploads_with_it() {
    let upstream = Manual::start();
    let gateway = upstream.gateway("");
    let (token, refresh) = tokens(gateway.address, "alice", PASSWORD);
    // One that does not read, and one that sends for as long as it is let.
    let mut stalled = ask(&gateway, &with_token("GET /mine/down", &token, ""));
    let (mut down, _) = upstream.next();
    down.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").unwrap();
    let source = spawn(move || while down.write_all(&[b'x'; 64 * 1024]).is_ok() {});
    let mut uploading = ask(&gateway, &with_token("POST /mine/up", &token, "Transfer-Encoding: chunked\r\n"));
    let (mut up, _) = upstream.next();
    let sink = spawn(move || until_closed(&mut up));
    let upload = spawn(move || while uploading.write_all(b"4\r\ndata\r\n").is_ok() {});
    let delay = MachineDelay::measure();
    sleep(Duration::from_millis(300));

    let ended = Instant::now();
    assert_eq!(post(gateway.address, "/logout", &refresh).status, 204);
    source.join().unwrap();
    upload.join().unwrap();
    sink.join().unwrap();
    assert!(ended.elapsed() < STREAM_END + delay.allowance(), "{:?}", ended.elapsed());
    until_closed(&mut stalled);
    wait_until("both lines say why", || gateway.log().matches("session_revoked").count() == 2);
}

#[test]
fn a_session_that_ends_takes_stalled_websockets_with_it_in_both_directions() {
    let upstream = Manual::start();
    let gateway = upstream.gateway("");
    let (token, refresh) = tokens(gateway.address, "alice", PASSWORD);
    // One whose client does not read, and one whose app does not.
    let (silent_client, app) = open_websocket(&gateway, &upstream, &token);
    let from_app = spawn(move || write_until_closed(app, &[0; 64 * 1024], Duration::ZERO));
    let (client, silent_app) = open_websocket(&gateway, &upstream, &token);
    let from_client = spawn(move || write_until_closed(client, &[0; 64 * 1024], Duration::ZERO));
    let delay = MachineDelay::measure();
    sleep(Duration::from_millis(300));
    assert!(!from_app.is_finished() && !from_client.is_finished());

    let ended = Instant::now();
    assert_eq!(post(gateway.address, "/logout", &refresh).status, 204);
    from_app.join().unwrap();
    from_client.join().unwrap();
    assert!(ended.elapsed() < STREAM_END + delay.allowance(), "{:?}", ended.elapsed());
    for mut socket in [silent_client, silent_app] {
        until_closed(&mut socket);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_session_that_ends_takes_stalled_streams_of_http2_with_it() {
    let upstream = Manual::start();
    let gateway = upstream.gateway("");
    let (token, refresh) = tokens(gateway.address, "alice", PASSWORD);
    let client = http2(tokio::net::TcpStream::connect(gateway.address).await.unwrap()).await;
    let request = |method: &str, path: &str| {
        let request = Request::builder().method(method).uri(format!("http://a{path}"));
        request.header("authorization", format!("Bearer {token}")).body(()).unwrap()
    };
    // One that gives no window, and one that sends for as long as it is let.
    let mut ready = client.clone().ready().await.unwrap();
    let (response, _) = ready.send_request(request("GET", "/mine/down"), true).unwrap();
    let (mut down, _) = upstream.next();
    down.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").unwrap();
    let source = spawn(move || while down.write_all(&[b'x'; 64 * 1024]).is_ok() {});
    let mut stalled = response.await.unwrap().into_body();
    let mut ready = client.clone().ready().await.unwrap();
    let (_response, mut body) = ready.send_request(request("POST", "/mine/up"), false).unwrap();
    let upload = tokio::spawn(async move {
        while body.send_data(Bytes::from_static(b"data"), false).is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let (mut up, _) = upstream.next();
    let sink = spawn(move || until_closed(&mut up));
    let delay = MachineDelay::measure();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!source.is_finished() && !upload.is_finished());

    let ended = Instant::now();
    assert_eq!(post(gateway.address, "/logout", &refresh).status, 204);
    upload.await.unwrap();
    tokio::task::spawn_blocking(move || {
        source.join().unwrap();
        sink.join().unwrap();
    })
    .await
    .unwrap();
    assert!(ended.elapsed() < STREAM_END + delay.allowance(), "{:?}", ended.elapsed());
    // What the window let pass is there, and then the reset.
    let error = loop {
        match stalled.data().await {
            Some(Ok(piece)) => drop(stalled.flow_control().release_capacity(piece.len())),
            Some(Err(error)) => break error,
            None => panic!("a stream that was cut looks whole"),
        }
    };
    assert!(error.is_reset(), "{error}");
    wait_until("both lines say why", || gateway.log().matches("session_revoked").count() == 2);
}
