//! TLS over TCP, read and written through a shared reference like the plain sockets.

use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncBufRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// An established TLS connection. One task uses it, so the `RefCell` borrow below never conflicts.
#[derive(Debug)]
pub(crate) struct TlsSocket {
    stream: RefCell<TlsStream<TcpStream>>,
}

impl TlsSocket {
    /// Wraps an established connection, of a client or to an upstream.
    pub(crate) fn new(stream: impl Into<TlsStream<TcpStream>>) -> TlsSocket {
        TlsSocket { stream: RefCell::new(stream.into()) }
    }

    /// Reads into the spare capacity of `into`. An end without `close_notify` is an error, for it may be a
    /// truncation attack.
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

    /// Ready when there is something to read, or the connection has ended. The TCP socket's readiness is not
    /// enough: the first request often arrives with the end of the handshake and is already decrypted.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_fill_buf(cx).map_ok(drop)
    }

    /// Calls a function with the raw TCP socket.
    pub(crate) fn with_raw<R>(&self, use_it: impl FnOnce(SockRef<'_>) -> R) -> R {
        use_it(SockRef::from(self.stream.borrow().get_ref().0))
    }
}
