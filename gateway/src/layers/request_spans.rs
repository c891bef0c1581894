//! The spans of a request that has ended, for the collector.

use tokio::time::Instant;

use crate::http1::Version;
use crate::request::{RequestContext, RequestTrace};
use crate::telemetry::{
    EndpointLabel, FinishedRequest, FinishedUpstreamRequest, SpanExporter, logged_host, logged_request_line,
    spans,
};

/// Exports the spans of a request whose trace is sampled. `error` is why it was refused, or why its response is
/// incomplete.
pub(crate) fn export(
    context: &RequestContext,
    (trace, exporter): (&RequestTrace, &SpanExporter),
    status: u16,
    error: Option<&str>,
    ended: Instant,
) {
    let settings = &context.state.config.settings;
    let head = &context.head;
    let nanos = |at: Instant| {
        let since = u64::try_from(at.duration_since(context.started).as_nanos()).unwrap_or(u64::MAX);
        (context.now_millis * 1_000_000).saturating_add(since)
    };
    let (method, path) = logged_request_line(head);
    let user_agent = context.user_agent();
    let pool = context.record.upstream.get().map(|index| context.state.upstream(index));
    let authority = pool.and_then(|pool| match pool.settings().urls.as_slice() {
        [only] => Some((only.authority(), only.is_secure())),
        _ => None,
    });
    let upstream = pool.zip(trace.upstream.get()).map(|(pool, call)| FinishedUpstreamRequest {
        upstream: pool.name(),
        authority: authority.as_ref().map(|(authority, _)| authority.as_str()),
        secure: authority.as_ref().is_some_and(|(_, secure)| *secure),
        status: call.status,
        error: call.error,
        started: nanos(call.started),
        ended: nanos(call.ended.unwrap_or(ended)),
    });
    // Their paths have no part that varies.
    let endpoint =
        matches!(context.record.endpoint.get(), Some(EndpointLabel::Login | EndpointLabel::Refresh));
    let request = FinishedRequest {
        trace: &trace.context,
        method,
        path: &path,
        scheme: context.own_origin().scheme.name(),
        host: logged_host(head),
        version: match head.version() {
            Version::Http10 => "1.0",
            Version::Http11 => "1.1",
            Version::Http2 => "2",
        },
        client: &context.client.address_text(head, &settings.server.trusted_proxies),
        user_agent: user_agent.as_deref(),
        route: context.route_path().or_else(|| endpoint.then_some(&*path)),
        status,
        error,
        started: nanos(context.started),
        ended: nanos(ended),
        upstream,
    };
    spans(request).for_each(|span| exporter.send(span));
}
