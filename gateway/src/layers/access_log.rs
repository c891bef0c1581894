//! What is written down of each exchange: a line in the access log and a count in the metrics.

use http::Method;
use tokio::time::Instant;

use crate::http1::{RequestHead, Version};
use crate::pipeline::Facts;
use crate::runtime::Worker;
use crate::telemetry::AccessRecord;
use crate::worker_state::Serving;

/// How an exchange ended.
pub(crate) struct Seen {
    pub(crate) started: Instant,
    /// The same in milliseconds since 1970.
    pub(crate) started_millis: u64,
    pub(crate) ended: Instant,
    pub(crate) status: u16,
    pub(crate) code: Option<&'static str>,
    pub(crate) bytes: u64,
}

/// Who asked for what, for the log.
pub(crate) struct Asked<'a> {
    pub(crate) client: &'a str,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) host: &'a str,
    pub(crate) protocol: &'static str,
}

/// What a request that was not admitted asked for; nobody vouches for it.
pub(crate) struct RequestLine {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) version: Version,
}

impl RequestLine {
    pub(crate) fn of(head: &RequestHead) -> RequestLine {
        let target = String::from_utf8_lossy(head.target());
        let path = target.split('?').next().unwrap_or_default().to_owned();
        RequestLine { method: head.method().clone(), path, version: head.version() }
    }
}

pub(crate) fn protocol(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
        Version::Http2 => "HTTP/2",
    }
}

/// Writes an exchange down.
pub(crate) fn log(
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
