//! Upstreams with several servers: load balancing, outages, TLS and Unix sockets.

mod http2;
mod servers;
mod transport;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use crate::fixture::Gateway;

/// A gateway whose upstream `app` has these URLs.
fn gateway(urls: &[String], more: &str) -> Gateway {
    Gateway::start(&format!(
        "[server]\nworkers = 1\n[store]\nkind = \"memory\"\n\
         [upstreams.app]\nurls = {urls:?}\n{more}\n\
         [[routes]]\npath = \"/\"\nupstream = \"app\"\naccess = \"public\"\n"
    ))
}

/// A server that can be taken away and brought back on the same address, and counts what it is asked.
struct Server {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    away: AtomicBool,
    /// What it says at /healthz, if not 200.
    health: AtomicU16,
    requests: AtomicUsize,
    checks: AtomicUsize,
    /// Milliseconds that an answer takes.
    slow: AtomicUsize,
}

impl Server {
    fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server { address: listener.local_addr().unwrap(), state: Arc::default() };
        let state = Arc::clone(&server.state);
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                // Down: connections are closed at once.
                if state.away.load(Ordering::SeqCst) {
                    continue;
                }
                let state = Arc::clone(&state);
                std::thread::spawn(move || serve(socket, &state));
            }
        });
        server
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    fn go_away(&self, away: bool) {
        self.state.away.store(away, Ordering::SeqCst);
    }
}

fn serve(mut socket: TcpStream, state: &State) {
    socket.set_nodelay(true).unwrap();
    let mut head = Vec::new();
    let mut byte = [0; 1024];
    while let Ok(n @ 1..) = socket.read(&mut byte) {
        head.extend_from_slice(&byte[..n]);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        if state.away.load(Ordering::SeqCst) {
            return;
        }
        let status = match head.starts_with(b"GET /healthz") {
            true => {
                state.checks.fetch_add(1, Ordering::SeqCst);
                state.health.load(Ordering::SeqCst).max(200)
            }
            false => {
                state.requests.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(state.slow.load(Ordering::SeqCst) as u64));
                200
            }
        };
        let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: 2\r\n\r\nok");
        if socket.write_all(answer.as_bytes()).is_err() {
            return;
        }
        head.clear();
    }
}
