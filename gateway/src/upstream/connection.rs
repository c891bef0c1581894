//! A connection to an upstream server, and how it is opened.

use std::io;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::http1::{ResponseHead, ResponseLimits};
use crate::net::connect_any;
use crate::net::{Deadline, ReadBuffer, Socket, TlsSocket};
use crate::tls::in_words;
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
    pub(crate) limits: ResponseLimits,
    pub(crate) deadline: Deadline,
    /// How long the server keeps it idle, where its last response has said so.
    pub(crate) keep_alive: Option<Duration>,
    /// Whether the status of the last response (204, 304) says that it has no body: a server that sends one all the same sends it a
    /// moment later.
    pub(crate) is_bodiless: bool,
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
            limits: upstream.settings.response_limits(),
            deadline: Deadline::default(),
            keep_alive: None,
            is_bodiless: false,
        })
    }

    /// Whether nothing has arrived since its last response: neither the end nor unsolicited bytes, which the
    /// next client would get as its response (response smuggling).
    pub(crate) fn is_idle(&self) -> bool {
        self.input.filled().is_empty() && self.socket.is_idle()
    }

    /// Whether bytes that belong to no response may yet come, so long after the last one.
    pub(crate) fn may_get_stray_bytes(&self, age: Duration, quiet_time: Duration) -> bool {
        self.is_bodiless && age < quiet_time
    }

    /// Whether such bytes are here. Under TLS that cannot be seen.
    pub(crate) fn has_stray_bytes(&self) -> bool {
        let mut byte = [std::mem::MaybeUninit::uninit()];
        let is_tls = matches!(*self.socket, Socket::Tls(_));
        !self.input.filled().is_empty()
            || !is_tls && self.socket.with_raw(|raw| raw.peek(&mut byte)).is_ok_and(|n| n > 0)
    }

    /// The same, and the kernel is asked too: for requests that cannot be sent a second time, and where stray bytes are likely.
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
