//! The tiny upstream behind the demo: it trusts the gateway's identity headers and nothing else.

mod greeting;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Connections may finish their request within this time after a signal.
const DRAIN: Duration = Duration::from_secs(5);

/// Greets whoever the gateway says is asking.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen: an IP address and a port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Arguments { listen } = Arguments::parse();
    match serve(listen).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!(
                "error: cannot listen on {listen}: {error}; stop the process that has it (`ss -ltnp` shows it) or choose another --listen"
            );
            ExitCode::FAILURE
        }
    }
}

async fn serve(listen: SocketAddr) -> std::io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    eprintln!("demo-upstream listens on {}", listener.local_addr()?);
    let connections = GracefulShutdown::new();
    loop {
        let socket = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => socket,
                Err(error) => {
                    eprintln!("cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        };
        if let Err(error) = socket.set_nodelay(true) {
            eprintln!("cannot switch Nagle's algorithm off: {error}");
        }
        let service = service_fn(|request| async move { Ok::<_, Infallible>(greeting::answer(&request)) });
        let connection =
            http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(socket), service);
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("a connection failed: {error}");
            }
        });
    }
    if tokio::time::timeout(DRAIN, connections.shutdown()).await.is_err() {
        eprintln!("some connections did not end in time and are cut");
    }
    Ok(())
}
