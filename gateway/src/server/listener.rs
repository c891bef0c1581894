//! Sockets that accept connections.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// How long accepting pauses when the process has no file descriptor left.
const BREATHER: Duration = Duration::from_millis(50);

/// Binds without accepting yet. `shared` lets every worker, and a gateway that takes over, have a socket of its own on the
/// address, among which the kernel deals connections out.
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

/// The next connection. Errors of one connection are passed over; when the process is out of descriptors, accepting
/// pauses instead of spinning or giving up.
pub(crate) async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections; raise the limit of open files (ulimit -n)");
                sleep(BREATHER).await;
            }
        }
    }
}

/// Stops listening, and gives those whom the kernel has let in already: they think that they are connected, and closing
/// the socket would reset them with what they have sent.
pub(crate) fn close(listener: TcpListener) -> io::Result<Vec<(TcpStream, SocketAddr)>> {
    // From here on the kernel lets hardly anybody in. Who is left out now tries again, and is refused.
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
            // Nobody is left, or there is no descriptor for them.
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
