//! A byte stream to a client or an upstream, whatever carries it: TCP, a Unix socket, or TLS over TCP.

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

/// What is read at once while only heads are expected.
pub(crate) const DRAIN_READ: usize = 4 * 1024;
/// How much is read before a connection that has said its last is given up, in bytes, and for how long.
pub(crate) const DRAIN_LIMIT: usize = 64 * 1024;
pub(crate) const DRAIN_TIME: Duration = Duration::from_secs(1);

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
    pub(crate) const BRIEF: Linger = Linger { bytes: DRAIN_LIMIT as u64, time: DRAIN_TIME, idle: DRAIN_TIME };

    /// For one in the middle of a body that nobody wants: many clients read the answer only when all is sent, and lose it with
    /// a reset. Who sends nothing for five seconds is not in the middle of anything.
    pub(crate) fn for_upload(time: Duration) -> Linger {
        Linger { bytes: 1 << 30, time, idle: Duration::from_secs(5) }
    }
}

/// A connected socket. It is read and written through a shared reference, by one task: a request's body is still being
/// read while its answer is being written.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsSocket>),
}

impl Socket {
    /// Reads about `size` bytes into `buffer`. `Ok(0)` is the peer's end.
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

    /// Writes some of `bytes`. What was taken may wait in the TLS layer until [`Self::poll_flush`].
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

    /// Pushes out what the TLS layer holds back because the peer did not take it at once. A socket without one holds
    /// nothing back.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tls(tls) => tls.poll_flush(cx),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Ready when bytes or the end have arrived. For a socket from which everything was read before.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tcp(tcp) => tcp.poll_read_ready(cx),
            Socket::Unix(unix) => unix.poll_read_ready(cx),
            Socket::Tls(tls) => tls.poll_readable(cx),
        }
    }

    /// Whether nothing has arrived that was not read: neither an end nor bytes. Costs no system call while the socket is
    /// quiet.
    ///
    /// What the kernel knows and the runtime has not heard of yet goes unnoticed; [`Self::is_known_idle`] asks it.
    pub(crate) fn is_idle(&self) -> bool {
        let nothing_came =
            |read: io::Result<usize>| read.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock);
        match self {
            // Asks the runtime, and the kernel only where the last read filled its buffer to the brim.
            Socket::Tcp(tcp) => nothing_came(tcp.try_read(&mut [0])),
            Socket::Unix(unix) => nothing_came(unix.try_read(&mut [0])),
            // The TLS layer may have something to itself, such as a session ticket: it is read and not passed on.
            Socket::Tls(tls) => {
                tls.poll_read(&mut Context::from_waker(Waker::noop()), &mut Vec::new()).is_pending()
            }
        }
    }

    /// The same for one system call, for requests that cannot be sent a second time.
    pub(crate) fn is_known_idle(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let nothing_came = |e: &io::Error| e.kind() == io::ErrorKind::WouldBlock;
        self.is_idle() && self.with_raw(|raw| raw.peek(&mut byte)).is_err_and(|e| nothing_came(&e))
    }

    /// Does something with the socket below everything.
    pub(crate) fn with_raw<R>(&self, use_it: impl FnOnce(SockRef<'_>) -> R) -> R {
        match self {
            Socket::Tcp(tcp) => use_it(SockRef::from(tcp)),
            Socket::Unix(unix) => use_it(SockRef::from(unix)),
            Socket::Tls(tls) => tls.with_raw(use_it),
        }
    }

    /// Writes all of `bytes`, waiting at most `timeout` for each piece of progress. `meanwhile` is polled whenever the
    /// peer does not take more, so that the other direction of a transfer goes on.
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

    /// Ends a connection whose peer may still be sending: says that nothing more will come, then reads for a moment, so
    /// that the last answer is not lost in a reset (RFC 9112 section 9.6).
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
        // Running out of time is as good an end as any.
        let _ = timeout(linger.time, ending).await;
    }

    /// Says that nothing more will come.
    pub(crate) fn poll_end(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tls(tls) => tls.poll_shutdown(cx),
            _ => Poll::Ready(self.with_raw(|raw| raw.shutdown(Shutdown::Write))),
        }
    }

    /// Ends a connection with a reset once it is dropped: a plain end would make a cut answer look whole where only the
    /// end tells.
    pub(crate) fn reset_at_drop(&self) {
        if let Err(error) = self.with_raw(|raw| raw.set_linger(Some(Duration::ZERO))) {
            tracing::debug!(%error, "cannot reset a connection");
        }
    }
}

/// Reads into the room that `into` has. A read that leaves room has emptied the socket: the runtime is told so at once, which
/// spares the read that would find nothing, one system call in three of a proxied request.
fn receive(socket: impl AsFd, into: &mut Vec<u8>, read: &mut usize) -> io::Result<()> {
    let room = into.capacity() - into.len();
    (*read, _) = recv(socket, spare_capacity(into), RecvFlags::empty())?;
    if 0 < *read && *read < room { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
}
