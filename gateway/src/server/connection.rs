//! The beginning of a connection: whom it really comes from, TLS, and which version of HTTP it speaks.

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

use crate::client_addr::Client;
use crate::config::Settings;
use crate::net::{Socket, TlsSocket, take_proxy_header};
use crate::runtime::Worker;
use crate::server::buffers::BufferPool;
use crate::server::connection_limit::{OneOfSource, Sources};
use crate::server::{http1, http2};
use crate::sessions::SourceNetwork;

/// Serves a connection until one side ends it. `draining` turns true when the gateway is about to stop.
pub(crate) async fn serve(
    socket: TcpStream,
    peer: SocketAddr,
    worker: &Rc<Worker>,
    pool: &BufferPool,
    sources: &Sources,
    draining: watch::Receiver<bool>,
) {
    // Boxed, as what speaks HTTP/2 is: a task is as large as its largest wait, and clients mostly rest.
    let Some(Beginning { client, spoken, _place }) = Box::pin(begin(socket, peer, worker, sources)).await
    else {
        return;
    };
    match spoken {
        Spoken::Http1(socket) => http1::serve(socket, client, worker, pool, draining).await,
        Spoken::Http2(socket) => Box::pin(http2::serve(socket, client, worker, draining)).await,
        Spoken::Http2OverTls(stream) => Box::pin(http2::serve(stream, client, worker, draining)).await,
    }
}

/// A connection that may send requests.
struct Beginning<'s> {
    client: Client,
    spoken: Spoken,
    /// Among the connections of its source, for as long as it lasts.
    _place: Option<OneOfSource<'s>>,
}

/// What a client speaks, over what.
enum Spoken {
    Http1(Socket),
    Http2(TcpStream),
    Http2OverTls(Box<TlsStream<TcpStream>>),
}

/// Finds out who wants what; `None` where it ends with that.
async fn begin<'s>(
    socket: TcpStream,
    peer: SocketAddr,
    worker: &Worker,
    sources: &'s Sources,
) -> Option<Beginning<'s>> {
    // What it began with; its requests see what is in force when they come.
    let serving = worker.serving();
    let snapshot = &*serving.snapshot;
    let settings = &snapshot.settings;
    let patience = settings.limits.handshake_timeout;
    let peer = match client_of(&socket, peer, settings, patience).await {
        Ok(peer) => peer,
        Err(error) => {
            tracing::debug!(%peer, %error, "no PROXY protocol header");
            return None;
        }
    };
    let client = Client::new(peer, &settings.server.trusted_proxies, snapshot.tls.is_some());
    let mut place = None;
    if !client.is_trusted() {
        let source = SourceNetwork::of(peer.ip());
        place = sources.enter(source, settings.limits.connections_per_source);
        if place.is_none() {
            tracing::debug!(%peer, "too many connections of one source");
            worker.metrics.connection_refused();
            return None;
        }
    }
    let spoken = match &snapshot.tls {
        Some(tls) => match timeout(patience, TlsAcceptor::from(Arc::clone(tls)).accept(socket)).await {
            Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                Spoken::Http2OverTls(Box::new(stream))
            }
            Ok(Ok(stream)) => Spoken::Http1(Socket::Tls(Box::new(TlsSocket::new(stream)))),
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
            Spoken::Http2(socket)
        }
        None => Spoken::Http1(Socket::Tcp(socket)),
    };
    Some(Beginning { client, spoken, _place: place })
}

/// Whom a connection comes from: its peer, or whom that names if it is one that has to.
async fn client_of(
    socket: &TcpStream,
    peer: SocketAddr,
    settings: &Settings,
    patience: Duration,
) -> io::Result<SocketAddr> {
    let address = peer.ip().to_canonical();
    if !settings.server.proxy_protocol_from.iter().any(|net| net.contains(&address)) {
        return Ok(peer);
    }
    let named = timeout(patience, take_proxy_header(socket)).await??;
    Ok(named.unwrap_or(peer))
}

/// Whether a connection begins with the preface of HTTP/2 (RFC 9113 section 3.4), of which nothing is taken. The first
/// bytes decide: no method of HTTP/1.1 begins like that.
async fn speaks_http2(socket: &TcpStream, patience: Duration) -> bool {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut front = [0; 4];
    match timeout(patience, socket.peek(&mut front)).await {
        Ok(Ok(n)) => n > 0 && PREFACE.starts_with(&front[..n]),
        _ => false,
    }
}
