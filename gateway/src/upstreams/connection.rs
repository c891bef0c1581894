//! One connection to an upstream.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::UpstreamUrl;
use crate::wire::{Deadline, ReadBuffer, ResponseHead, Socket};

/// A connection and what is needed to use it again.
#[derive(Debug)]
pub(super) struct UpstreamConnection {
    pub(super) socket: Socket,
    pub(super) input: ReadBuffer,
    /// The head of the response in hand; its space is used again for the next.
    pub(super) head: ResponseHead,
    pub(super) deadline: Deadline,
}

impl UpstreamConnection {
    pub(super) async fn open(url: &UpstreamUrl, within: Duration) -> io::Result<UpstreamConnection> {
        let connecting = TcpStream::connect((url.host.as_str(), url.port));
        let socket =
            timeout(within, connecting).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        socket.set_nodelay(true)?;
        Ok(UpstreamConnection {
            socket: Socket::Tcp(socket),
            input: ReadBuffer::default(),
            head: ResponseHead::default(),
            deadline: Deadline::default(),
        })
    }

    /// Whether nothing has happened on it since its last response: neither an end nor bytes that nobody asked for,
    /// which the next client would take for its answer.
    pub(super) fn is_quiet(&self) -> bool {
        self.input.filled().is_empty() && self.socket.is_quiet()
    }

    /// The same, and the kernel is asked too: for requests that cannot be sent a second time.
    pub(super) fn is_surely_quiet(&self) -> bool {
        self.input.filled().is_empty() && self.socket.is_surely_quiet()
    }
}
