//! The beginning of a connection: whom it really comes from, TLS, and which version of HTTP it speaks.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::buffers::BufferPool;
use super::sources::Sources;
use super::{http1, http2};
use crate::config::Settings;
use crate::pipeline::{Client, Worker};
use crate::sessions::SourceNetwork;
use crate::wire::{Socket, TlsSocket, take_proxy_header};

/// Serves a connection until one side ends it. `draining` turns true when the gateway is about to stop.
pub(super) async fn serve(
    socket: TcpStream,
    peer: SocketAddr,
    worker: &Rc<Worker>,
    pool: &BufferPool,
    sources: &Sources,
    draining: watch::Receiver<bool>,
) {
    // What it began with; its requests see what is in force when they come.
    let serving = worker.serving();
    let snapshot = &*serving.snapshot;
    let settings = &snapshot.settings;
    let patience = settings.limits.handshake_timeout;
    let peer = match client_of(&socket, peer, settings, patience).await {
        Ok(peer) => peer,
        Err(error) => return tracing::debug!(%peer, %error, "no PROXY protocol header"),
    };
    let client = Client::new(peer, &settings.server.trusted_proxies, snapshot.tls.is_some());
    let mut _place = None;
    if !client.is_trusted() {
        let source = SourceNetwork::of(peer.ip());
        _place = sources.enter(source, settings.limits.connections_per_source);
        if _place.is_none() {
            tracing::debug!(%peer, "too many connections of one source");
            return worker.metrics.connection_refused();
        }
    }
    let (tls, h2c, first_byte) =
        (snapshot.tls.clone(), settings.server.h2c, settings.limits.first_byte_timeout);
    // A connection may outlast many configurations: it must not keep the one it began with.
    drop(serving);
    let Some(tls) = tls else {
        if h2c && speaks_http2(&socket, first_byte).await {
            return Box::pin(http2::serve(socket, client, worker, draining)).await;
        }
        return http1::serve(Socket::Tcp(socket), client, worker, pool, draining).await;
    };
    // Boxed, as what speaks HTTP/2 is: a task is as large as its largest wait, and clients mostly rest.
    let handshake = Box::pin(timeout(patience, TlsAcceptor::from(tls).accept(socket)));
    let stream = match handshake.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%peer, %error, "the TLS handshake failed"),
        Err(_) => return tracing::debug!(%peer, "the TLS handshake took too long"),
    };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        return Box::pin(http2::serve(stream, client, worker, draining)).await;
    }
    http1::serve(Socket::Tls(Box::new(TlsSocket::new(stream))), client, worker, pool, draining).await;
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
