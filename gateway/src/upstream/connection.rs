//! One connection to a server, and how it is made.

use std::io;
use std::rc::Rc;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::http1::ResponseHead;
use crate::net::{Deadline, ReadBuffer, Socket, TlsSocket};
use crate::upstream::cluster::Upstream;
use crate::upstream::outlier_ejection::{Address, Endpoint};

/// A connection and what is needed to use it again.
#[derive(Debug)]
pub(crate) struct UpstreamConnection {
    /// Shared with a request body that goes on while the response does.
    pub(crate) socket: Rc<Socket>,
    pub(crate) input: ReadBuffer,
    /// The head of the response in hand; its space is used again for the next.
    pub(crate) head: ResponseHead,
    pub(crate) deadline: Deadline,
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
            deadline: Deadline::default(),
        })
    }

    /// Whether nothing has happened on it since its last response: neither an end nor bytes that nobody asked for,
    /// which the next client would take for its answer.
    pub(crate) fn is_idle(&self) -> bool {
        self.input.filled().is_empty() && self.socket.is_idle()
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
        Address::Tcp(address) => TcpStream::connect(address).await?,
    };
    tcp.set_nodelay(true)?;
    let tls = upstream.tls.as_ref();
    match tls.and_then(|tls| Some((tls, tls.names[endpoint.url].as_ref()?))) {
        None => Ok(Transport::Tcp(tcp)),
        Some((tls, name)) => Ok(Transport::Tls(Box::new(tls.connector.connect(name.clone(), tcp).await?))),
    }
}
