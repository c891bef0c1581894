//! Background load over HTTP/1.1 and HTTP/2: requests, uploads and downloads. A request without a complete
//! response fails the test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;

use crate::fixture::http2::ask;
use crate::fixture::{Connection, Cut, Reply};

/// A download, in so many pieces.
const PIECE: usize = 16 * 1024;
const PIECES: usize = 4;
const UPLOAD: usize = 20_000;
/// Clients of HTTP/1.1, each with one connection at a time, and streams of the one connection of HTTP/2.
const CLIENTS: usize = 3;
const STREAMS: usize = 3;
/// Requests over a connection, so that there are always new ones.
const PER_CONNECTION: usize = 50;

/// An app that takes uploads, and gives downloads piece by piece.
pub(super) fn app() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            std::thread::spawn(move || while answer(&socket).is_some() {});
        }
    });
    address
}

/// Answers one request.
fn answer(socket: &TcpStream) -> Option<()> {
    let mut input = BufReader::with_capacity(1 << 16, socket);
    let mut line = String::new();
    input.read_line(&mut line).ok().filter(|&n| n > 0)?;
    let wants_pieces = line.contains("/download");
    let (mut length, mut chunked) = (0, false);
    loop {
        line.clear();
        input.read_line(&mut line).ok().filter(|&n| n > 0)?;
        match line.trim_end().to_ascii_lowercase().split_once(": ") {
            Some(("content-length", value)) => length = value.parse().ok()?,
            Some(("transfer-encoding", _)) => chunked = true,
            Some(_) => {}
            None => break,
        }
    }
    while chunked {
        line.clear();
        input.read_line(&mut line).ok()?;
        let size = usize::from_str_radix(line.trim_end(), 16).ok()?;
        length += size;
        input.read_exact(&mut vec![0; size + 2]).ok()?;
        chunked = size > 0;
        if !chunked {
            return write_answer(socket, wants_pieces, length);
        }
    }
    input.read_exact(&mut vec![0; length]).ok()?;
    write_answer(socket, wants_pieces, length)
}

fn write_answer(mut socket: &TcpStream, in_pieces: bool, received: usize) -> Option<()> {
    if !in_pieces {
        let text = received.to_string();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len());
        return socket.write_all(answer.as_bytes()).ok();
    }
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", PIECE * PIECES);
    socket.write_all(head.as_bytes()).ok()?;
    for _ in 0..PIECES {
        sleep(Duration::from_millis(2));
        socket.write_all(&[b'd'; PIECE]).ok()?;
    }
    Some(())
}

/// What was answered, whole and right.
#[derive(Debug, Default)]
pub(super) struct Counts {
    asked: AtomicUsize,
    uploads: AtomicUsize,
    downloads: AtomicUsize,
    over_http2: AtomicUsize,
    connections: AtomicUsize,
    /// Sent while the gateway ended a connection that had rested, or after it had said that no more are taken: it has not
    /// seen them, and a client sends them again (RFC 9112 section 9.3.1, RFC 9113 section 6.8).
    sent_again: AtomicUsize,
}

impl Counts {
    pub(super) fn answered(&self) -> usize {
        [&self.asked, &self.uploads, &self.downloads].iter().map(|n| n.load(Ordering::Relaxed)).sum()
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let n = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        write!(
            f,
            "{} answered ({} uploads, {} downloads; {} over HTTP/2) over {} connections, {} sent again, 0 lost",
            self.answered(),
            n(&self.uploads),
            n(&self.downloads),
            n(&self.over_http2),
            n(&self.connections),
            n(&self.sent_again),
        )
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Question,
    Upload,
    Download,
}

impl Kind {
    fn of(turn: usize) -> Kind {
        match turn % 8 {
            3 => Kind::Upload,
            6 => Kind::Download,
            _ => Kind::Question,
        }
    }

    fn target(self) -> &'static str {
        match self {
            Kind::Download => "/load/download",
            _ => "/load",
        }
    }

    fn check(self, status: u16, body: &[u8], counts: &Counts) {
        let (counter, right) = match self {
            Kind::Question => (&counts.asked, body == b"0"),
            Kind::Upload => (&counts.uploads, body == UPLOAD.to_string().as_bytes()),
            Kind::Download => {
                (&counts.downloads, body.len() == PIECE * PIECES && body.iter().all(|&byte| byte == b'd'))
            }
        };
        assert!(status == 200 && right, "{status}: {} bytes: {:.200?}", body.len(), body.escape_ascii());
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Running clients. Their routes lead `/load` to [`app`], for all users.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    pub(super) counts: Arc<Counts>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// The gateway speaks `h2c`.
    pub(super) fn start(gateway: SocketAddr, token: &str) -> Load {
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Counts::default()));
        let begin = |work: fn(SocketAddr, &str, &AtomicBool, &Counts)| {
            let (token, stop, counts) = (token.to_owned(), Arc::clone(&stop), Arc::clone(&counts));
            std::thread::spawn(move || work(gateway, &token, &stop, &counts))
        };
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| begin(over_http1)).collect();
        clients.push(begin(over_http2));
        Load { stop, counts, clients }
    }

    /// Lets every client finish what it has begun; fails if one of them lost something.
    pub(super) fn end(self) -> Arc<Counts> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().unwrap();
        }
        self.counts
    }
}

fn over_http1(gateway: SocketAddr, token: &str, stop: &AtomicBool, counts: &Counts) {
    while !stop.load(Ordering::Relaxed) {
        let mut connection = Connection::open(gateway).expect("a connection was refused");
        counts.connections.fetch_add(1, Ordering::Relaxed);
        for turn in 0..PER_CONNECTION {
            let kind = Kind::of(turn);
            match send(&mut connection, kind, token).and_then(|()| connection.reply()) {
                Ok(reply) => {
                    kind.check(reply.status, &reply.body, counts);
                    if is_last(&reply) {
                        break;
                    }
                }
                Err(Cut::Before) if turn > 0 => {
                    counts.sent_again.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                Err(cut) => panic!("no answer: {cut:?} at request {turn} of a connection"),
            }
        }
    }
}

fn is_last(reply: &Reply) -> bool {
    reply.field("connection") == Some("close")
}

fn send(connection: &mut Connection, kind: Kind, token: &str) -> Result<(), Cut> {
    let fields = format!("Host: a\r\nAuthorization: Bearer {token}\r\n");
    let target = kind.target();
    match kind {
        Kind::Upload => {
            let head = format!("POST {target} HTTP/1.1\r\n{fields}Content-Length: {UPLOAD}\r\n\r\n");
            connection.send(head.as_bytes())?;
            for _ in 0..4 {
                // Whatever changes, changes in between.
                sleep(Duration::from_millis(1));
                connection.send(&[b'u'; UPLOAD / 4])?;
            }
            Ok(())
        }
        _ => connection.send(format!("GET {target} HTTP/1.1\r\n{fields}\r\n").as_bytes()),
    }
}

fn over_http2(gateway: SocketAddr, token: &str, stop: &AtomicBool, counts: &Counts) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    while !stop.load(Ordering::Relaxed) {
        runtime.block_on(async {
            let socket = tokio::net::TcpStream::connect(gateway).await.expect("a connection was refused");
            counts.connections.fetch_add(1, Ordering::Relaxed);
            let (client, connection) = h2::client::handshake(socket).await.expect("no HTTP/2");
            let driver = tokio::spawn(async move { drop(connection.await) });
            let client = Rc::new(client);
            let streams = (0..STREAMS).map(|_| stream_after_stream(Rc::clone(&client), token, stop, counts));
            futures_join(streams).await;
            drop(client);
            driver.await.unwrap();
        });
    }
}

/// Waits for all of them.
async fn futures_join(futures: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        futures.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        if futures.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

async fn stream_after_stream(
    client: Rc<SendRequest<Bytes>>,
    token: &str,
    stop: &AtomicBool,
    counts: &Counts,
) {
    for turn in 0..PER_CONNECTION {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        if (*client).clone().ready().await.is_err() {
            // The gateway has ended the connection, and nothing was sent.
            return;
        }
        let kind = Kind::of(turn);
        let (method, body) = match kind {
            Kind::Upload => ("POST", &[b'u'; UPLOAD][..]),
            _ => ("GET", &b""[..]),
        };
        let request = Request::builder()
            .method(method)
            .uri(format!("http://a{}", kind.target()))
            .header("authorization", format!("Bearer {token}"))
            .body(())
            .unwrap();
        match ask(&client, request, body).await {
            Ok(reply) => {
                kind.check(reply.status.as_u16(), &reply.body, counts);
                counts.over_http2.fetch_add(1, Ordering::Relaxed);
            }
            // GOAWAY: this stream, and later ones, are not processed.
            Err(error) if error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR) => {
                counts.sent_again.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Err(error) => panic!("no answer over HTTP/2: {error:?} at request {turn}"),
        }
    }
}
