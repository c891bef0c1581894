//! One connection to an upstream.

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::UpstreamUrl;
use crate::wire::{Deadline, ReadBuffer, ResponseHead};

/// A connection and what is needed to use it again.
#[derive(Debug)]
pub(super) struct UpstreamConnection {
    pub(super) socket: TcpStream,
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
            socket,
            input: ReadBuffer::default(),
            head: ResponseHead::default(),
            deadline: Deadline::default(),
        })
    }

    /// Whether nothing has happened on it since its last response: neither an end nor bytes that nobody asked for,
    /// which the next client would take for its answer. Costs no system call while the socket is quiet.
    ///
    /// What the kernel knows and the runtime has not heard of yet goes unnoticed; [`Self::is_surely_quiet`] asks it.
    pub(super) fn is_quiet(&self) -> bool {
        let nothing_came = |e: &io::Error| e.kind() == io::ErrorKind::WouldBlock;
        // Asks the runtime, and the kernel only where the last read filled its buffer to the brim.
        self.socket.try_read(&mut [0]).is_err_and(|e| nothing_came(&e)) && self.input.filled().is_empty()
    }

    /// The same for one system call, for requests that cannot be sent a second time.
    pub(super) fn is_surely_quiet(&self) -> bool {
        let nothing_came = |e: &io::Error| e.kind() == io::ErrorKind::WouldBlock;
        let mut byte = [MaybeUninit::uninit()];
        self.is_quiet()
            && socket2::SockRef::from(&self.socket).peek(&mut byte).is_err_and(|e| nothing_came(&e))
    }
}
