//! A connection to an upstream server, and how it is opened.

use std::io;
use std::rc::Rc;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::http1::ResponseHead;
use crate::net::{Deadline, ReadBuffer, Socket, TlsSocket};
use crate::upstream::cluster::Upstream;
use crate::upstream::outlier_ejection::{Address, Endpoint};

/// A connection with its buffers, for reuse.
#[derive(Debug)]
pub(crate) struct UpstreamConnection {
    /// Shared with a request body that is still being sent while the response arrives.
    pub(crate) socket: Rc<Socket>,
    pub(crate) input: ReadBuffer,
    /// The head of the current response; its memory is reused for the next.
    pub(crate) head: ResponseHead,
    pub(crate) deadline: Deadline,
}

impl UpstreamConnection {
    /// Connects to a server of `upstream`, with TLS where its URL has it.
    pub(crate) async fn open(upstream: &Upstream, endpoint: &Endpoint) -> io::Result<UpstreamConnection> {
        // Boxed, for most requests find a pooled connection.
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

    /// Whether nothing has arrived since its last response: neither the end nor unsolicited bytes, which the
    /// next client would get as its response (response smuggling).
    pub(crate) fn is_idle(&self) -> bool {
        self.input.filled().is_empty() && self.socket.is_idle()
    }

    /// The same, and the kernel is asked too: for requests that cannot be sent a second time.
    pub(crate) fn is_known_idle(&self) -> bool {
        self.input.filled().is_empty() && self.socket.is_known_idle()
    }
}

/// A transport to a server, before a protocol runs over it.
pub(crate) enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Connects to a server of `upstream`, with TLS where its URL has it. Has no timeout of its own.
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
