//! What is written down of each exchange: a line in the access log and a count in the metrics.

use http::Method;
use tokio::time::Instant;

use crate::pipeline::{Facts, Serving, Worker};
use crate::telemetry::AccessRecord;
use crate::wire::{RequestHead, Version};

/// How an exchange ended.
pub(super) struct Seen {
    pub(super) started: Instant,
    /// The same in milliseconds since 1970.
    pub(super) started_millis: u64,
    pub(super) ended: Instant,
    pub(super) status: u16,
    pub(super) code: Option<&'static str>,
    pub(super) bytes: u64,
}

/// Who asked for what, for the log.
pub(super) struct Asked<'a> {
    pub(super) client: &'a str,
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) host: &'a str,
    pub(super) protocol: &'static str,
}

/// What a request that was not admitted asked for; nobody vouches for it.
pub(super) struct RequestLine {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) version: Version,
}

impl RequestLine {
    pub(super) fn of(head: &RequestHead) -> RequestLine {
        let target = String::from_utf8_lossy(head.target());
        let path = target.split('?').next().unwrap_or_default().to_owned();
        RequestLine { method: head.method().clone(), path, version: head.version() }
    }
}

pub(super) fn protocol(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
        Version::Http2 => "HTTP/2",
    }
}

/// Writes an exchange down.
pub(super) fn log(
    worker: &Worker,
    serving: &Serving,
    asked: &Asked<'_>,
    request_id: &str,
    facts: &Facts,
    seen: &Seen,
) {
    let duration = seen.ended.duration_since(seen.started);
    worker.metrics.request(&serving.counters, facts.label(), seen.status, duration);
    let Some(access_log) = &worker.access_log else { return };
    let routes = &serving.snapshot.settings.routes;
    access_log.write(&AccessRecord {
        at_millis: seen.started_millis + duration.as_millis() as u64,
        request_id,
        client: asked.client,
        method: asked.method,
        path: asked.path,
        host: asked.host,
        protocol: asked.protocol,
        status: seen.status,
        bytes_sent: seen.bytes,
        duration,
        route: facts.route.map(|i| routes[i].path.as_str()),
        upstream: facts.upstream.map(|i| serving.upstream(i).name()),
        user: facts.user(),
        code: seen.code,
    });
}
