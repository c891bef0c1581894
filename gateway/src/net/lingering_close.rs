//! Lingering close: a socket is closed only after its peer has read the last of what was written (RFC 9112
//! section 9.6).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::Deadline;
use crate::net::socket::{DRAIN_LIMIT, DRAIN_READ, DRAIN_TIMEOUT};

/// Closes like [`Socket::drain`](crate::net::Socket::drain): shutdown closes the write side, then reads for a
/// moment what the peer still sends. HTTP/2 needs this as HTTP/1.1 does: a window update that arrives at a
/// closed socket is answered with a reset, which discards the end of the last response.
pub(crate) struct Lingering<S> {
    socket: S,
    /// The write side is closed.
    ended: bool,
    left: usize,
    deadline: Deadline,
}

impl<S> Lingering<S> {
    pub(crate) fn new(socket: S) -> Lingering<S> {
        Lingering { socket, ended: false, left: DRAIN_LIMIT, deadline: Deadline::default() }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Lingering<S> {
    /// Reads and discards until the peer closes too, or the limit is reached.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut bytes = [0; DRAIN_READ];
        while self.left > 0 {
            let mut buffer = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {
                    self.left = self.left.saturating_sub(buffer.filled().len());
                }
                _ => break,
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.ended {
            ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
            self.ended = true;
        }
        if self.poll_rest(cx).is_pending() && self.deadline.poll_within(cx, DRAIN_TIMEOUT).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}
