//! Active health checks: servers are probed at an interval, over HTTP/1.1, HTTP/2 or the gRPC health checking
//! protocol, and get no requests while they are unhealthy.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, TE, USER_AGENT};
use http::uri::Scheme;
use http::{HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn;
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use tokio::task::spawn_local;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::cluster::{Upstream, millis};
use super::connection::{Transport, connect};
use super::dns::resolve;
use super::http2::LocalExecutor;
use super::outlier_ejection::Endpoint;
use crate::config::{HealthCheck, UpstreamProtocol, UpstreamUrl};

/// Resolution of the timers of DNS lookups and probes.
const TICK_INTERVAL: Duration = Duration::from_millis(50);

/// Resolves the names and probes the servers of the active upstreams, for ever.
pub(crate) async fn run_background_tasks(upstreams: impl Fn() -> Vec<Arc<Upstream>>) {
    let mut ticks = interval(TICK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // When each server is probed next; entries of removed servers are dropped.
    let mut next_probe: HashMap<*const Endpoint, u64> = HashMap::new();
    loop {
        ticks.tick().await;
        let now = millis();
        let mut still_probed = HashMap::new();
        for upstream in upstreams() {
            if upstream.has_names() && now >= upstream.resolve_at.load(Ordering::Relaxed) {
                resolve(&upstream);
            }
            let Some(check) = &upstream.settings.health else { continue };
            for endpoint in upstream.endpoints() {
                let key = Arc::as_ptr(&endpoint);
                let due = next_probe.get(&key).copied().unwrap_or(now);
                let next = if now >= due { now + check.interval.as_millis() as u64 } else { due };
                still_probed.insert(key, next);
                if now >= due {
                    spawn_local(probe(Arc::clone(&upstream), endpoint, check.clone()));
                }
            }
        }
        next_probe = still_probed;
    }
}

/// Probes a server and records the result.
async fn probe(upstream: Arc<Upstream>, endpoint: Arc<Endpoint>, check: HealthCheck) {
    let answer = timeout(check.timeout, status_of(&upstream, &endpoint, &check)).await;
    let healthy = matches!(answer, Ok(Ok(200..=399)));
    let counter = if healthy { &upstream.counts.checks_passed } else { &upstream.counts.checks_failed };
    counter.fetch_add(1, Ordering::Relaxed);
    endpoint.record_probe(healthy, millis(), &check);
}

/// The status of a server's response to a probe, over a connection of its own.
async fn status_of(upstream: &Upstream, endpoint: &Endpoint, check: &HealthCheck) -> io::Result<u16> {
    let url = &upstream.settings.urls[endpoint.url];
    match connect(upstream, endpoint).await? {
        Transport::Tcp(tcp) => send_probe(TokioIo::new(tcp), upstream.settings.protocol, url, check).await,
        Transport::Unix(unix) => send_probe(TokioIo::new(unix), upstream.settings.protocol, url, check).await,
        Transport::Tls(tls) => send_probe(TokioIo::new(*tls), upstream.settings.protocol, url, check).await,
    }
}

async fn send_probe<T>(
    io: T,
    protocol: UpstreamProtocol,
    url: &UpstreamUrl,
    check: &HealthCheck,
) -> io::Result<u16>
where
    T: Read + Write + Unpin + 'static,
{
    let request = health_request(protocol, url, &check.path).map_err(io::Error::other)?;
    let response = match protocol {
        UpstreamProtocol::Http1 => {
            let (mut sender, connection) = conn::http1::handshake(io).await.map_err(io::Error::other)?;
            spawn_local(connection);
            sender.send_request(request).await
        }
        UpstreamProtocol::Http2 => {
            let handshake = conn::http2::handshake(LocalExecutor, io).await;
            let (mut sender, connection) = handshake.map_err(io::Error::other)?;
            spawn_local(connection);
            sender.send_request(request).await
        }
    };
    let response = response.map_err(io::Error::other)?;
    match is_grpc(protocol, &check.path) {
        true => grpc_status(response).await,
        false => Ok(response.status().as_u16()),
    }
}

/// The method of the gRPC health checking protocol, as the path of a probe of an HTTP/2 upstream.
const GRPC_HEALTH_PATH: &str = "/grpc.health.v1.Health/Check";
/// Maximum length of a `HealthCheckResponse`, in bytes.
const MAX_GRPC_RESPONSE: usize = 1024;

fn is_grpc(protocol: UpstreamProtocol, path: &str) -> bool {
    protocol == UpstreamProtocol::Http2 && path == GRPC_HEALTH_PATH
}

fn health_request(
    protocol: UpstreamProtocol,
    url: &UpstreamUrl,
    path: &str,
) -> Result<Request<Full<Bytes>>, http::Error> {
    let grpc = is_grpc(protocol, path);
    // An empty HealthCheckRequest is about the whole server: a frame of length 0, not compressed.
    let body = if grpc { Full::new(Bytes::from_static(&[0; 5])) } else { Full::default() };
    let mut request = Request::new(body);
    *request.method_mut() = if grpc { Method::POST } else { Method::GET };
    let authority = url.authority();
    match protocol {
        UpstreamProtocol::Http1 => {
            *request.uri_mut() = Uri::builder().path_and_query(path).build()?;
            request.headers_mut().insert(HOST, HeaderValue::from_str(&authority)?);
        }
        UpstreamProtocol::Http2 => {
            let secure = matches!(url, UpstreamUrl::Tcp { secure: true, .. });
            let scheme = if secure { Scheme::HTTPS } else { Scheme::HTTP };
            *request.uri_mut() =
                Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build()?;
        }
    }
    let headers = request.headers_mut();
    headers.insert(USER_AGENT, HeaderValue::from_static("auth-gateway-health"));
    if grpc {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    Ok(request)
}

/// 200 for SERVING (`status` = 1, field 1 of the message), 503 for any other response.
async fn grpc_status(response: Response<Incoming>) -> io::Result<u16> {
    let body =
        Limited::new(response.into_body(), MAX_GRPC_RESPONSE).collect().await.map_err(io::Error::other)?;
    let ok = body.trailers().and_then(|trailers| trailers.get("grpc-status")).is_some_and(|s| s == "0");
    let serving = body.to_bytes().get(5..) == Some(&[0x08, 0x01]);
    Ok(if ok && serving { 200 } else { 503 })
}
