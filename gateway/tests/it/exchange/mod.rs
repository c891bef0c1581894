//! One exchange with an app that is not quite right, or with a client that is not: what passes on, what is repaired, what is lost.

mod answers;
mod compression;
mod uploads;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use http::Request;

use crate::fixture::Gateway;
use crate::fixture::http2::{Http2Reply, ask, http2};

/// What an app writes: pieces, with a pause in front of each.
type Script = Vec<(Duration, Vec<u8>)>;

/// An answer in one piece.
fn at_once(bytes: impl Into<Vec<u8>>) -> Script {
    vec![(Duration::ZERO, bytes.into())]
}

/// A plain 200 with that text.
fn ok(text: &str) -> Script {
    at_once(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()))
}

/// An app that answers each request with what `answer` makes of its method, its target and how many requests its connection has
/// had before; no pieces end the connection.
struct ScriptedApp {
    address: SocketAddr,
}

impl ScriptedApp {
    fn start(answer: impl Fn(&str, &str, usize) -> Script + Send + Sync + 'static) -> ScriptedApp {
        ScriptedApp::listen(TcpListener::bind("127.0.0.1:0").unwrap(), answer)
    }

    fn listen(
        listener: TcpListener,
        answer: impl Fn(&str, &str, usize) -> Script + Send + Sync + 'static,
    ) -> ScriptedApp {
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let answer = Arc::clone(&answer);
                std::thread::spawn(move || serve(socket, &*answer));
            }
        });
        ScriptedApp { address }
    }

    /// A gateway in front of it, with a public route; `more` goes into its upstream's table.
    fn gateway(&self, more: &str) -> Gateway {
        gateway(&format!("http://{}", self.address), more, "")
    }
}

fn gateway(url: &str, upstream: &str, more: &str) -> Gateway {
    Gateway::start(&format!(
        "[server]\nworkers = 1\nh2c = true\n[store]\nkind = \"memory\"\n[limits]\nmax_body = \"20MiB\"\n\
         [upstreams.app]\nurls = [{url:?}]\n{upstream}\n\
         [[routes]]\npath = \"/\"\nupstream = \"app\"\naccess = \"public\"\n\
         [[routes]]\npath = \"/closed\"\nupstream = \"app\"\n{more}\n"
    ))
}

fn serve(mut socket: TcpStream, answer: &(impl Fn(&str, &str, usize) -> Script + ?Sized)) {
    socket.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    for before in 0.. {
        let (mut line, mut length, mut first) = (String::new(), 0, String::new());
        loop {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if first.is_empty() {
                first.clone_from(&line);
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let mut words = first.split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let pieces = answer(method, target, before);
        if pieces.is_empty() {
            return;
        }
        for (pause, piece) in pieces {
            std::thread::sleep(pause);
            if socket.write_all(&piece).is_err() {
                return;
            }
        }
    }
}

/// Sends a request over a connection of HTTP/2 of its own.
async fn over_http2(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &[u8],
) -> Result<Http2Reply, h2::Error> {
    let client = http2(tokio::net::TcpStream::connect(address).await.unwrap()).await;
    let request = Request::builder().method(method).uri(format!("http://a{path}")).body(()).unwrap();
    ask(&client, request, body).await
}

/// What comes back for a request, byte for byte, until it ends with `end`.
fn read_raw(address: SocketAddr, request: &str, end: &str) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let mut received = Vec::new();
    while !received.ends_with(end.as_bytes()) {
        let mut bytes = [0; 4096];
        let n = socket.read(&mut bytes).unwrap();
        assert!(n > 0, "the end after {:?}", String::from_utf8_lossy(&received));
        received.extend_from_slice(&bytes[..n]);
    }
    String::from_utf8(received).unwrap()
}
