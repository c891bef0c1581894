//! TLS over TCP, read and written through a shared reference like the plain sockets.

use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncBufRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// A TLS connection whose handshake is over. One task uses it, so the borrow below never meets another.
#[derive(Debug)]
pub(crate) struct TlsSocket {
    stream: RefCell<TlsStream<TcpStream>>,
}

impl TlsSocket {
    /// Takes over a connection, of a client or to an upstream.
    pub(crate) fn new(stream: impl Into<TlsStream<TcpStream>>) -> TlsSocket {
        TlsSocket { stream: RefCell::new(stream.into()) }
    }

    /// Reads into the room that `into` has. An end without a `close_notify` is an error, for it may be a cut.
    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, into: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        pin!(self.stream.borrow_mut().read_buf(into)).poll(cx)
    }

    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_write(cx, bytes)
    }

    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_flush(cx)
    }

    pub(crate) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_shutdown(cx)
    }

    /// Ready when there is something to read or will never be. The TCP socket alone cannot tell: the first request mostly
    /// comes right behind the end of the handshake, and is read together with it.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_fill_buf(cx).map_ok(drop)
    }

    /// Does something with the TCP socket below.
    pub(crate) fn with_raw<R>(&self, use_it: impl FnOnce(SockRef<'_>) -> R) -> R {
        use_it(SockRef::from(self.stream.borrow().get_ref().0))
    }
}
