//! Reading, writing and closing a socket without letting the peer hold the gateway up.

use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Deadline, ReadBuffer};

/// What is read at once while only heads are expected.
const DRAIN_READ: usize = 4 * 1024;
/// How much of an unwanted body is read before a connection is given up, and for how long.
const DRAIN_LIMIT: usize = 64 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// Reads about `size` bytes into `buffer`. `Ok(0)` is the peer's end.
pub(crate) fn poll_read(
    socket: &TcpStream,
    cx: &mut Context<'_>,
    buffer: &mut ReadBuffer,
    size: usize,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_read_ready(cx))?;
        match try_read(socket, buffer.room(size)) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            other => return Poll::Ready(other),
        }
    }
}

/// Reads into the room that `into` has. A read that leaves room has emptied the socket: the runtime is told so at once, which
/// spares the read that would find nothing, one system call in three of a proxied request.
fn try_read(socket: &TcpStream, into: &mut Vec<u8>) -> io::Result<usize> {
    let room = into.capacity() - into.len();
    let mut read = 0;
    let outcome = socket.try_io(Interest::READABLE, || {
        (read, _) = recv(socket, spare_capacity(into), RecvFlags::empty())?;
        if 0 < read && read < room { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    if read > 0 { Ok(read) } else { outcome.map(|()| 0) }
}

/// Writes some of `bytes`.
pub(crate) fn poll_write(socket: &TcpStream, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    loop {
        match socket.try_io(Interest::WRITABLE, || Ok(send(socket, bytes, SendFlags::NOSIGNAL)?)) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready!(socket.poll_write_ready(cx))?,
            other => return Poll::Ready(other),
        }
    }
}

/// Writes all of `bytes`, waiting at most `patience` for each piece of progress. `meanwhile` is polled whenever the
/// peer does not take more, so that the other direction of a transfer goes on.
pub(crate) async fn write_all(
    socket: &TcpStream,
    deadline: &mut Deadline,
    patience: Duration,
    mut bytes: &[u8],
    mut meanwhile: impl FnMut(&mut Context<'_>),
) -> io::Result<()> {
    deadline.clear();
    poll_fn(|cx| {
        while !bytes.is_empty() {
            match poll_write(socket, cx, bytes) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => {
                    bytes = &bytes[n..];
                    deadline.clear();
                }
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => {
                    meanwhile(cx);
                    return match deadline.poll_within(cx, patience) {
                        Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                        Poll::Pending => Poll::Pending,
                    };
                }
            }
        }
        Poll::Ready(Ok(()))
    })
    .await
}

/// Ends a connection whose peer may still be sending: says that nothing more will come, then reads for a moment, so
/// that the last answer is not lost in a reset (RFC 9112 section 9.6).
pub(crate) async fn drain(socket: &TcpStream) {
    if socket2::SockRef::from(socket).shutdown(Shutdown::Write).is_err() {
        return;
    }
    let mut left = DRAIN_LIMIT;
    let mut buffer = ReadBuffer::default();
    let reading = async {
        while left > 0 {
            match poll_fn(|cx| poll_read(socket, cx, &mut buffer, DRAIN_READ)).await {
                Ok(0) | Err(_) => return,
                Ok(n) => left = left.saturating_sub(n),
            }
            let filled = buffer.filled().len();
            buffer.consume(filled);
        }
    };
    // Running out of time is as good an end as any.
    let _ = timeout(DRAIN_TIME, reading).await;
}
