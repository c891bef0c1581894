//! A byte stream to a client or an upstream over TCP, a Unix socket, or TLS over TCP.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::net::tls_socket::TlsSocket;
use crate::net::{Deadline, ReadBuffer};

/// Size of one read while draining a connection, in bytes.
pub(crate) const DRAIN_READ: usize = 4 * 1024;
/// How much of an unwanted body is read before a connection is closed, in bytes, and for how long.
pub(crate) const DRAIN_LIMIT: usize = 64 * 1024;
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a connection whose client is still sending is read at its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Linger {
    /// Bytes that are read at most.
    pub(crate) bytes: u64,
    /// In all.
    pub(crate) time: Duration,
    /// Between two reads.
    pub(crate) idle: Duration,
}

impl Linger {
    /// For a client that has nothing more to send.
    pub(crate) const BRIEF: Linger =
        Linger { bytes: DRAIN_LIMIT as u64, time: DRAIN_TIMEOUT, idle: DRAIN_TIMEOUT };

    /// For one in the middle of a body that is discarded: many clients read the answer only when all is sent, and lose it with
    /// a reset. Who sends nothing for five seconds is not in the middle of anything.
    pub(crate) fn for_upload(time: Duration) -> Linger {
        Linger { bytes: 1 << 30, time, idle: Duration::from_secs(5) }
    }
}

/// A connected socket. It is read and written through a shared reference, by one task: a request's body may
/// still arrive while its response is being written.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsSocket>),
}

impl Socket {
    /// Reads about `size` bytes into `buffer`. `Ok(0)` is the end of the stream.
    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuffer,
        size: usize,
    ) -> Poll<io::Result<usize>> {
        loop {
            let (into, mut read) = (buffer.room(size), 0);
            let outcome = match self {
                Socket::Tcp(tcp) => tcp.try_io(Interest::READABLE, || receive(tcp, into, &mut read)),
                Socket::Unix(unix) => unix.try_io(Interest::READABLE, || receive(unix, into, &mut read)),
                Socket::Tls(tls) => return tls.poll_read(cx, into),
            };
            match outcome {
                _ if read > 0 => return Poll::Ready(Ok(read)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready!(self.poll_readable(cx))?,
                other => return Poll::Ready(other.map(|()| 0)),
            }
        }
    }

    /// Writes some of `bytes`. Accepted bytes may be buffered in the TLS layer until [`Self::poll_flush`].
    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let transmit = |socket: BorrowedFd<'_>| Ok(send(socket, bytes, SendFlags::NOSIGNAL)?);
        loop {
            let written = match self {
                Socket::Tcp(tcp) => tcp.try_io(Interest::WRITABLE, || transmit(tcp.as_fd())),
                Socket::Unix(unix) => unix.try_io(Interest::WRITABLE, || transmit(unix.as_fd())),
                Socket::Tls(tls) => return tls.poll_write(cx, bytes),
            };
            match written {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                other => return Poll::Ready(other),
            }
            ready!(match self {
                Socket::Tcp(tcp) => tcp.poll_write_ready(cx),
                Socket::Unix(unix) => unix.poll_write_ready(cx),
                Socket::Tls(_) => Poll::Ready(Ok(())),
            })?;
        }
    }

    /// Flushes what the TLS layer has buffered because the peer did not take it at once. A plain socket
    /// buffers nothing.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tls(tls) => tls.poll_flush(cx),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Ready when bytes or the end of the stream have arrived. For a socket from which everything was read
    /// before.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tcp(tcp) => tcp.poll_read_ready(cx),
            Socket::Unix(unix) => unix.poll_read_ready(cx),
            Socket::Tls(tls) => tls.poll_readable(cx),
        }
    }

    /// Whether nothing unread has arrived: neither bytes nor the end of the stream. Costs no system call
    /// while the socket is idle.
    ///
    /// What the kernel has received and the runtime was not notified of goes unnoticed;
    /// [`Self::is_known_idle`] asks the kernel.
    pub(crate) fn is_idle(&self) -> bool {
        let nothing_came =
            |read: io::Result<usize>| read.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock);
        match self {
            // Asks the runtime, and the kernel only where the last read filled its buffer.
            Socket::Tcp(tcp) => nothing_came(tcp.try_read(&mut [0])),
            Socket::Unix(unix) => nothing_came(unix.try_read(&mut [0])),
            // The TLS layer may have received records of its own, such as a session ticket, which are read
            // here and not passed on.
            Socket::Tls(tls) => {
                tls.poll_read(&mut Context::from_waker(Waker::noop()), &mut Vec::new()).is_pending()
            }
        }
    }

    /// The same at the cost of one system call, for requests that cannot be sent a second time.
    pub(crate) fn is_known_idle(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let nothing_came = |e: &io::Error| e.kind() == io::ErrorKind::WouldBlock;
        self.is_idle() && self.with_raw(|raw| raw.peek(&mut byte)).is_err_and(|e| nothing_came(&e))
    }

    /// Calls a function with the raw socket below all layers.
    pub(crate) fn with_raw<R>(&self, use_it: impl FnOnce(SockRef<'_>) -> R) -> R {
        match self {
            Socket::Tcp(tcp) => use_it(SockRef::from(tcp)),
            Socket::Unix(unix) => use_it(SockRef::from(unix)),
            Socket::Tls(tls) => tls.with_raw(use_it),
        }
    }

    /// Writes all of `bytes`, waiting at most `timeout` for each piece of progress. `meanwhile` is polled
    /// whenever the peer does not take more, so that the other direction of a transfer goes on.
    pub(crate) async fn write_all(
        &self,
        deadline: &mut Deadline,
        timeout: Duration,
        mut bytes: &[u8],
        mut meanwhile: impl FnMut(&mut Context<'_>),
    ) -> io::Result<()> {
        deadline.clear();
        poll_fn(|cx| {
            loop {
                let progress = match bytes {
                    [] => self.poll_flush(cx).map_ok(|()| 0),
                    _ => self.poll_write(cx, bytes),
                };
                match progress {
                    Poll::Ready(Ok(_)) if bytes.is_empty() => return Poll::Ready(Ok(())),
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(n)) => {
                        bytes = &bytes[n..];
                        deadline.clear();
                    }
                    Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                    Poll::Pending => {
                        meanwhile(cx);
                        return match deadline.poll_within(cx, timeout) {
                            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                            Poll::Pending => Poll::Pending,
                        };
                    }
                }
            }
        })
        .await
    }

    /// Lingering close of a connection whose peer may still be sending: closes the write side, then reads for
    /// a moment, so that the last response is not lost in a reset (RFC 9112 section 9.6).
    pub(crate) async fn drain(&self, linger: Linger) {
        let (mut left, mut deadline) = (linger.bytes, Deadline::default());
        let mut buffer = ReadBuffer::default();
        let size = if linger.bytes > DRAIN_LIMIT as u64 { DRAIN_LIMIT } else { DRAIN_READ };
        let ending = async {
            if poll_fn(|cx| self.poll_end(cx)).await.is_err() {
                return;
            }
            while left > 0 {
                let read = poll_fn(|cx| match self.poll_read(cx, &mut buffer, size) {
                    Poll::Pending => deadline.poll_within(cx, linger.idle).map(|()| Ok(0)),
                    read => read,
                });
                match read.await {
                    Ok(0) | Err(_) => return,
                    Ok(n) => left = left.saturating_sub(n as u64),
                }
                deadline.clear();
                let filled = buffer.filled().len();
                buffer.consume(filled);
            }
        };
        // A timeout ends the connection as well.
        let _ = timeout(linger.time, ending).await;
    }

    /// Closes the write side.
    pub(crate) fn poll_end(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tls(tls) => tls.poll_shutdown(cx),
            _ => Poll::Ready(self.with_raw(|raw| raw.shutdown(Shutdown::Write))),
        }
    }

    /// Resets the connection when it is dropped: an orderly close would make a truncated response look
    /// complete where the body is delimited by the end of the connection.
    pub(crate) fn reset_at_drop(&self) {
        if let Err(error) = self.with_raw(|raw| raw.set_linger(Some(Duration::ZERO))) {
            tracing::debug!(%error, "cannot reset a connection");
        }
    }
}

/// Reads into the spare capacity of `into`. A short read has emptied the socket: the runtime's readiness is
/// cleared at once, which saves the read that would return nothing, one system call in three of a proxied
/// request.
fn receive(socket: impl AsFd, into: &mut Vec<u8>, read: &mut usize) -> io::Result<()> {
    let room = into.capacity() - into.len();
    (*read, _) = recv(socket, spare_capacity(into), RecvFlags::empty())?;
    if 0 < *read && *read < room { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
}
