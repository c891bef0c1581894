//! Listening sockets: bind, accept with backoff, close without resetting queued connections.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// Accept queue length (`listen(2)` backlog).
const BACKLOG: i32 = 4096;
/// Backoff when the process is out of file descriptors.
const ACCEPT_ERROR_BACKOFF: Duration = Duration::from_millis(50);

/// Binds without accepting yet. `shared` sets `SO_REUSEPORT`: every worker, and a new process that takes
/// over, has a socket of its own on the address, among which the kernel distributes connections.
pub(crate) fn bind(address: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Switches Nagle's algorithm off for all connections that are accepted here, which inherit that (Linux): one system call less
/// for each.
pub(crate) fn set_nodelay(listener: &TcpListener) {
    if let Err(error) = SockRef::from(listener).set_tcp_nodelay(true) {
        tracing::debug!(%error, "cannot switch Nagle's algorithm off");
    }
}

/// Accepts the next connection. Errors of a single connection are skipped; when the process is out of
/// descriptors, accepting backs off instead of spinning or failing.
pub(crate) async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections; raise the limit of open files (ulimit -n)");
                sleep(ACCEPT_ERROR_BACKOFF).await;
            }
        }
    }
}

/// Closes the socket, and returns the connections in its accept queue: to their clients they are established,
/// and closing the socket would reset them together with what was already sent.
pub(crate) fn close(listener: TcpListener) -> io::Result<Vec<(TcpStream, SocketAddr)>> {
    // From here on the kernel queues hardly any connection; clients that are left out retry, and are refused.
    SockRef::from(&listener).listen(0)?;
    let listener = listener.into_std()?;
    let mut waiting = Vec::new();
    loop {
        match listener.accept() {
            Ok((socket, peer)) => {
                socket.set_nonblocking(true)?;
                waiting.push((TcpStream::from_std(socket)?, peer));
            }
            Err(error) if is_of_one_connection(&error) => {}
            // The queue is empty, or there is no descriptor left.
            Err(_) => return Ok(waiting),
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn accepted_connections_are_without_nagles_algorithm() {
        let listener = TcpListener::from_std(bind(([127, 0, 0, 1], 0).into(), false).unwrap()).unwrap();
        set_nodelay(&listener);
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        assert!(accept(&listener).await.0.nodelay().unwrap());
    }
}
