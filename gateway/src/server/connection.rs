//! Connection setup: PROXY protocol, connection limits, TLS, and protocol detection (HTTP/1.1 or HTTP/2).

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::client_addr::ClientAddr;
use crate::config::Settings;
use crate::net::{ProxyHeader, Socket, TlsSocket, take_proxy_header};
use crate::runtime::Worker;
use crate::server::connection_limit::{SourceLimiter, SourcePermit};
use crate::server::worker::SharedStack;
use crate::server::{http1, http2};
use crate::sessions::SourceNetwork;
use crate::stack::RequestStack;

/// Serves a connection until one side closes it. `draining` turns true at graceful shutdown.
pub(crate) async fn serve<S: RequestStack>(
    socket: TcpStream,
    peer: SocketAddr,
    worker: &Rc<Worker>,
    stack: SharedStack<S>,
    sources: &SourceLimiter,
    draining: watch::Receiver<bool>,
) {
    // Boxed, as is what serves HTTP/2: a task is as large as its largest await, and most connections are
    // idle.
    let Some(Accepted { client, protocol, _permit }) =
        Box::pin(accept_protocol(socket, peer, worker, sources)).await
    else {
        return;
    };
    match protocol {
        Protocol::Http1(socket) => http1::serve(socket, client, worker, stack, draining).await,
        Protocol::Http2(socket) => Box::pin(http2::serve(socket, client, stack, draining)).await,
        Protocol::Http2OverTls(stream) => Box::pin(http2::serve(*stream, client, stack, draining)).await,
    }
}

/// A connection that may send requests.
struct Accepted<'s> {
    client: ClientAddr,
    protocol: Protocol,
    /// Counts the connection against its source's limit for as long as it lasts.
    _permit: Option<SourcePermit<'s>>,
}

/// The protocol of a connection and its transport.
enum Protocol {
    Http1(Socket),
    Http2(TcpStream),
    Http2OverTls(Box<TlsStream<TcpStream>>),
}

/// Sets a connection up; `None` where it ended during setup.
async fn accept_protocol<'s>(
    socket: TcpStream,
    peer: SocketAddr,
    worker: &Worker,
    sources: &'s SourceLimiter,
) -> Option<Accepted<'s>> {
    // The configuration at the start of the connection; each request uses the one that is active when it
    // arrives.
    let state = worker.state();
    let config = &*state.config;
    let settings = &config.settings;
    let timeout_after = settings.limits.handshake_timeout;
    let (trusted, tls) = (&settings.server.trusted_proxies, config.tls.is_some());
    let (client, peer) = match proxy_header(&socket, peer, settings, timeout_after).await {
        Ok(Some(ProxyHeader { client: Some(named), secure, .. })) => {
            (ClientAddr::relayed(peer, named, trusted, tls || secure), named)
        }
        Ok(_) => (ClientAddr::new(peer, trusted, tls), peer),
        Err(error) => {
            tracing::debug!(%peer, %error, "no PROXY protocol header");
            return None;
        }
    };
    let mut place = None;
    if !client.is_proxy(trusted) {
        let source = SourceNetwork::of(peer.ip());
        place = sources.enter(source, settings.limits.connections_per_source);
        if place.is_none() {
            tracing::debug!(%peer, "too many connections of one source");
            worker.metrics.connection_refused();
            return None;
        }
    }
    let protocol = match &config.tls {
        Some(tls) => match timeout(timeout_after, TlsAcceptor::from(Arc::clone(tls)).accept(socket)).await {
            Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                Protocol::Http2OverTls(Box::new(stream))
            }
            Ok(Ok(stream)) => Protocol::Http1(Socket::Tls(Box::new(TlsSocket::new(stream)))),
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "the TLS handshake failed");
                return None;
            }
            Err(_) => {
                tracing::debug!(%peer, "the TLS handshake took too long");
                return None;
            }
        },
        None if settings.server.h2c && speaks_http2(&socket, settings.limits.first_byte_timeout).await => {
            Protocol::Http2(socket)
        }
        None => Protocol::Http1(Socket::Tcp(socket)),
    };
    Some(Accepted { client, protocol, _permit: place })
}

/// The PROXY protocol header of a connection, where the peer has to send one.
async fn proxy_header(
    socket: &TcpStream,
    peer: SocketAddr,
    settings: &Settings,
    timeout_after: Duration,
) -> io::Result<Option<ProxyHeader>> {
    let address = peer.ip().to_canonical();
    if !settings.server.proxy_protocol_from.iter().any(|net| net.contains(&address)) {
        return Ok(None);
    }
    Ok(Some(timeout(timeout_after, take_proxy_header(socket)).await??))
}

/// Whether a connection begins with the HTTP/2 preface (RFC 9113 section 3.4), which is peeked and not
/// consumed. The first bytes decide: no HTTP/1.1 method begins like that.
async fn speaks_http2(socket: &TcpStream, timeout_after: Duration) -> bool {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut front = [0; 4];
    match timeout(timeout_after, socket.peek(&mut front)).await {
        Ok(Ok(n)) => n > 0 && PREFACE.starts_with(&front[..n]),
        _ => false,
    }
}
