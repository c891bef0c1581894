//! One connection to a server, and how it is made.

use std::io;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::http1::{ResponseHead, ResponseLimits};
use crate::net::{Deadline, ReadBuffer, Socket, TlsSocket};
use crate::tls::in_words;
use crate::upstream::cluster::Upstream;
use crate::upstream::happy_eyeballs::connect_any;
use crate::upstream::outlier_ejection::{Address, Endpoint};

/// Whether the last response of a connection has a body: a server that sends one where none belongs sends it a moment later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LastBody {
    Sent,
    /// The status says that there is none.
    Empty,
    /// It answered HEAD.
    Head,
}

/// A connection and what is needed to use it again.
#[derive(Debug)]
pub(crate) struct UpstreamConnection {
    /// Shared with a request body that goes on while the response does.
    pub(crate) socket: Rc<Socket>,
    pub(crate) input: ReadBuffer,
    /// The head of the response in hand; its space is used again for the next.
    pub(crate) head: ResponseHead,
    pub(crate) limits: ResponseLimits,
    pub(crate) deadline: Deadline,
    /// How long the server keeps it idle, where its last response has said so.
    pub(crate) keep_alive: Option<Duration>,
    pub(crate) last_body: LastBody,
}

impl UpstreamConnection {
    /// Connects to a server of `upstream`, with TLS where its URL says so.
    pub(crate) async fn open(upstream: &Upstream, endpoint: &Endpoint) -> io::Result<UpstreamConnection> {
        // Boxed, for requests mostly find a connection that is there.
        let connecting = Box::pin(timeout(upstream.settings.connect_timeout, connect(upstream, endpoint)));
        let socket = match connecting.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? {
            Transport::Tcp(tcp) => Socket::Tcp(tcp),
            Transport::Unix(unix) => Socket::Unix(unix),
            Transport::Tls(tls) => Socket::Tls(Box::new(TlsSocket::new(*tls))),
        };
        Ok(UpstreamConnection {
            socket: Rc::new(socket),
            input: ReadBuffer::default(),
            head: ResponseHead::default(),
            limits: upstream.settings.response_limits(),
            deadline: Deadline::default(),
            keep_alive: None,
            last_body: LastBody::Sent,
        })
    }

    /// Whether nothing has happened on it since its last response: neither an end nor bytes that nobody asked for,
    /// which the next client would take for its answer.
    pub(crate) fn is_idle(&self) -> bool {
        self.input.filled().is_empty() && self.socket.is_idle()
    }

    /// Whether bytes that belong to no response may yet come, so long after the last one.
    pub(crate) fn may_get_stray_bytes(&self, age: Duration, quiet_time: Duration) -> bool {
        match self.last_body {
            LastBody::Sent => false,
            LastBody::Empty => age < quiet_time,
            LastBody::Head => true,
        }
    }

    /// Whether such bytes are here. Under TLS nobody knows.
    pub(crate) fn has_stray_bytes(&self) -> bool {
        let mut byte = [std::mem::MaybeUninit::uninit()];
        let is_tls = matches!(*self.socket, Socket::Tls(_));
        !self.input.filled().is_empty()
            || !is_tls && self.socket.with_raw(|raw| raw.peek(&mut byte)).is_ok_and(|n| n > 0)
    }

    /// The same, and the kernel is asked too: for requests that cannot be sent a second time.
    pub(crate) fn is_known_idle(&self) -> bool {
        self.input.filled().is_empty() && self.socket.is_known_idle()
    }
}

/// What carries bytes to a server, before anything is known of what it speaks.
pub(crate) enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Connects to a server of `upstream`, with TLS where its URL says so. Waits for as long as it takes.
pub(crate) async fn connect(upstream: &Upstream, endpoint: &Endpoint) -> io::Result<Transport> {
    let tcp = match &endpoint.address {
        Address::Unix(path) => return UnixStream::connect(path).await.map(Transport::Unix),
        Address::Tcp(addresses) => {
            let last = endpoint.last_address.load(Ordering::Relaxed);
            let (tcp, place) = connect_any(addresses, last).await?;
            if place != last {
                endpoint.last_address.store(place, Ordering::Relaxed);
            }
            tcp
        }
    };
    tcp.set_nodelay(true)?;
    let tls = upstream.tls.as_ref();
    match tls.and_then(|tls| Some((tls, tls.names[endpoint.url].as_ref()?))) {
        None => Ok(Transport::Tcp(tcp)),
        Some((tls, name)) => {
            let connected = tls.connector.connect(name.clone(), tcp).await;
            let stream = connected.map_err(|error| io::Error::new(error.kind(), in_words(&error, name)))?;
            Ok(Transport::Tls(Box::new(stream)))
        }
    }
}
