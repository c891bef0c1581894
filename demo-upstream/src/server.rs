//! The server: listening, serving connections, and graceful shutdown.

use std::convert::Infallible;
use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep, timeout};

use crate::answer::answer;

/// How long requests in flight may take after the signal to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// A pause after a failed accept: it fails for want of file descriptors, and at once again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the upstream could not run.
#[derive(Debug)]
pub(crate) enum ServeError {
    /// The address could not be had.
    Listen(SocketAddr, io::Error),
    /// The signals that stop it could not be caught.
    Signals(io::Error),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeError::Listen(address, error) if error.kind() == io::ErrorKind::AddrInUse => write!(
                f,
                "{address} is in use by another program: stop it (`ss -ltnp` lists who listens) or choose another \
                 address with --listen"
            ),
            ServeError::Listen(address, error) => {
                write!(f, "cannot listen on {address}: {error}; choose another address with --listen")
            }
            ServeError::Signals(error) => write!(f, "cannot catch the signals that stop it: {error}"),
        }
    }
}

/// Writes a line to standard error. Who closed it does not want to know.
pub(crate) fn log(line: &str) {
    let _ = writeln!(io::stderr(), "demo-upstream: {line}");
}

/// Serves at `address` until SIGTERM or SIGINT, then lets requests in flight finish.
pub(crate) async fn run(address: SocketAddr) -> Result<(), ServeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;
    let failed = |error| ServeError::Listen(address, error);
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    log(&format!("listening on http://{local}"));
    if !local.ip().is_loopback() {
        log(
            "warning: clients that can reach this address directly can claim any identity; let only the gateway reach it",
        );
    }
    let connections = GracefulShutdown::new();
    let name = serve(&listener, &connections, &mut terminate, &mut interrupt).await;
    drop(listener);
    log(&format!("{name}: stopping"));
    if timeout(DRAIN, connections.shutdown()).await.is_err() {
        log(&format!("requests still unanswered after {} s were cut off", DRAIN.as_secs()));
    }
    Ok(())
}

/// Accepts connections until a signal comes, and returns its name.
async fn serve(
    listener: &TcpListener,
    connections: &GracefulShutdown,
    terminate: &mut Signal,
    interrupt: &mut Signal,
) -> &'static str {
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => start_connection(stream, connections),
                Err(error) => {
                    log(&format!("cannot accept a connection: {error}"));
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            _ = terminate.recv() => return "SIGTERM",
            _ = interrupt.recv() => return "SIGINT",
        }
    }
}

fn start_connection(stream: TcpStream, connections: &GracefulShutdown) {
    // Only fails on a connection that is gone already, which the first read reports too.
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service_fn(respond));
    let connection = connections.watch(connection);
    tokio::spawn(async move {
        // A peer that breaks off or talks nonsense is the peer's matter: hyper has answered what could be.
        let _ = connection.await;
    });
}

async fn respond(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(answer(request.method(), request.uri().path(), request.headers()))
}
