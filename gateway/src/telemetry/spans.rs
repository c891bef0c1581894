//! The spans of a request, with the names of OpenTelemetry's semantic conventions for HTTP
//! (<https://opentelemetry.io/docs/specs/semconv/http/http-spans/>).

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, SpanFlags, Status};

use super::trace_context::TraceContext;

/// A request that has ended. Times are in nanoseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FinishedRequest<'a> {
    pub(crate) trace: &'a TraceContext,
    pub(crate) method: &'a str,
    /// Without the query.
    pub(crate) path: &'a str,
    pub(crate) scheme: &'a str,
    /// The `Host`.
    pub(crate) host: &'a str,
    /// `1.1` or `2`.
    pub(crate) version: &'a str,
    pub(crate) client: &'a str,
    pub(crate) user_agent: Option<&'a str>,
    /// The path of the route, as configured, or of the endpoint.
    pub(crate) route: Option<&'a str>,
    pub(crate) status: u16,
    /// The error code, if the gateway refused it, or why the response is incomplete.
    pub(crate) error: Option<&'a str>,
    pub(crate) started: u64,
    pub(crate) ended: u64,
    pub(crate) upstream: Option<FinishedUpstreamRequest<'a>>,
}

/// Its request to an upstream, up to the response's head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FinishedUpstreamRequest<'a> {
    pub(crate) upstream: &'a str,
    /// Host and port, where the upstream has one server.
    pub(crate) authority: Option<&'a str>,
    pub(crate) secure: bool,
    /// None where there was no response.
    pub(crate) status: Option<u16>,
    /// Why there was none.
    pub(crate) error: Option<&'a str>,
    pub(crate) started: u64,
    pub(crate) ended: u64,
}

/// The span of the request, and that of its request to the upstream.
pub(crate) fn spans(request: FinishedRequest<'_>) -> impl Iterator<Item = Span> + use<> {
    let client = request.upstream.map(|upstream| upstream_span(request, upstream));
    [Some(server_span(request)), client].into_iter().flatten()
}

fn server_span(request: FinishedRequest<'_>) -> Span {
    let FinishedRequest { trace, status, .. } = request;
    let (address, port) = split_port(request.host);
    let mut attributes = method_attributes(request.method);
    attributes.extend([
        text("url.path", request.path),
        text("url.scheme", request.scheme),
        text("server.address", address),
        text("client.address", request.client),
        text("network.protocol.name", "http"),
        text("network.protocol.version", request.version),
        number("http.response.status_code", status.into()),
    ]);
    attributes.extend(port.map(|port| number("server.port", port.into())));
    attributes.extend(request.route.map(|route| text("http.route", route)));
    attributes.extend(request.user_agent.map(|agent| text("user_agent.original", agent)));
    attributes.extend(request.error.map(|error| text("error.type", error)));
    // What a client did wrong is no error of a server.
    let failed = status >= 500 || request.error.is_some() && status < 400;
    if failed && request.error.is_none() {
        attributes.push(text("error.type", &status.to_string()));
    }
    let method = known_method(request.method).unwrap_or("HTTP");
    Span {
        name: request.route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}")),
        span_id: trace.ids.span_id.to_be_bytes().into(),
        parent_span_id: trace.parent_id.map_or_else(Vec::new, |id| id.to_be_bytes().into()),
        kind: SpanKind::Server.into(),
        start_time_unix_nano: request.started,
        end_time_unix_nano: request.ended,
        attributes,
        status: failed.then(error_status),
        ..of_trace(trace, trace.parent_id.is_some())
    }
}

fn upstream_span(request: FinishedRequest<'_>, upstream: FinishedUpstreamRequest<'_>) -> Span {
    let trace = request.trace;
    let scheme = if upstream.secure { "https" } else { "http" };
    let authority = upstream.authority.unwrap_or(upstream.upstream);
    let (address, port) = split_port(authority);
    let mut attributes = method_attributes(request.method);
    attributes.extend([
        text("peer.service", upstream.upstream),
        text("server.address", address),
        text("url.full", &format!("{scheme}://{authority}{}", request.path)),
    ]);
    attributes.extend(port.map(|port| number("server.port", port.into())));
    attributes.extend(upstream.status.map(|status| number("http.response.status_code", status.into())));
    let status = upstream.status.filter(|status| *status >= 400).map(|status| status.to_string());
    let error = upstream.error.or(status.as_deref());
    attributes.extend(error.map(|error| text("error.type", error)));
    Span {
        name: known_method(request.method).unwrap_or("HTTP").to_owned(),
        span_id: trace.upstream_span_id.to_be_bytes().into(),
        parent_span_id: trace.ids.span_id.to_be_bytes().into(),
        kind: SpanKind::Client.into(),
        start_time_unix_nano: upstream.started,
        end_time_unix_nano: upstream.ended,
        attributes,
        status: error.map(|_| error_status()),
        ..of_trace(trace, false)
    }
}

fn of_trace(trace: &TraceContext, has_remote_parent: bool) -> Span {
    let is_remote = if has_remote_parent { SpanFlags::ContextIsRemoteMask as u32 } else { 0 };
    Span {
        trace_id: trace.ids.trace_id.to_be_bytes().into(),
        trace_state: trace.state.clone(),
        flags: u32::from(trace.sampled) | SpanFlags::ContextHasIsRemoteMask as u32 | is_remote,
        ..Span::default()
    }
}

fn error_status() -> Status {
    Status { code: StatusCode::Error.into(), ..Status::default() }
}

/// The method where it is a common one: a span's name and its method come from a closed set.
fn known_method(method: &str) -> Option<&str> {
    const METHODS: [&str; 9] =
        ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    METHODS.contains(&method).then_some(method)
}

fn method_attributes(method: &str) -> Vec<KeyValue> {
    match known_method(method) {
        Some(method) => vec![text("http.request.method", method)],
        None => vec![text("http.request.method", "_OTHER"), text("http.request.method_original", method)],
    }
}

/// Host and port of an authority; the brackets of an IPv6 address are no part of it.
fn split_port(authority: &str) -> (&str, Option<u16>) {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (authority, None),
        },
        _ => (authority, None),
    };
    (host.trim_start_matches('[').trim_end_matches(']'), port)
}

pub(super) fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn number(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::telemetry::trace_context::TraceIds;

    fn trace(parent_id: Option<u64>) -> TraceContext {
        let ids = TraceIds { trace_id: 1, span_id: 2 };
        TraceContext { ids, parent_id, upstream_span_id: 3, sampled: true, state: "a=1".into() }
    }

    fn request(trace: &TraceContext) -> FinishedRequest<'_> {
        FinishedRequest {
            trace,
            method: "GET",
            path: "/api/x",
            scheme: "https",
            host: "app.example:8443",
            version: "2",
            client: "192.0.2.1",
            user_agent: Some("curl/8"),
            route: Some("/api"),
            status: 200,
            error: None,
            started: 10,
            ended: 30,
            upstream: None,
        }
    }

    fn attributes(span: &Span) -> BTreeMap<&str, String> {
        let text = |value: &Value| match value {
            Value::StringValue(text) => text.clone(),
            Value::IntValue(number) => number.to_string(),
            other => format!("{other:?}"),
        };
        let value = |attribute: &KeyValue| text(attribute.value.as_ref().unwrap().value.as_ref().unwrap());
        span.attributes.iter().map(|attribute| (attribute.key.as_str(), value(attribute))).collect()
    }

    #[test]
    fn a_server_span_has_the_names_of_the_conventions() {
        let trace = trace(Some(9));
        let span = spans(request(&trace)).next().unwrap();
        assert_eq!((span.name.as_str(), span.kind), ("GET /api", SpanKind::Server.into()));
        assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (10, 30));
        assert_eq!(span.trace_id, 1_u128.to_be_bytes());
        assert_eq!(
            (&span.span_id[..], &span.parent_span_id[..]),
            (&2_u64.to_be_bytes()[..], &9_u64.to_be_bytes()[..])
        );
        assert_eq!((span.trace_state.as_str(), span.flags), ("a=1", 0x301));
        assert_eq!(span.status, None);
        let expected = [
            ("client.address", "192.0.2.1"),
            ("http.request.method", "GET"),
            ("http.response.status_code", "200"),
            ("http.route", "/api"),
            ("network.protocol.name", "http"),
            ("network.protocol.version", "2"),
            ("server.address", "app.example"),
            ("server.port", "8443"),
            ("url.path", "/api/x"),
            ("url.scheme", "https"),
            ("user_agent.original", "curl/8"),
        ];
        assert_eq!(attributes(&span), expected.map(|(name, value)| (name, value.to_owned())).into());
    }

    #[test]
    fn only_what_the_server_did_wrong_is_an_error_of_the_server() {
        let trace = trace(None);
        for (status, error, failed, kind) in [
            (200, None, false, None),
            (403, Some("insufficient_scope"), false, Some("insufficient_scope")),
            (404, None, false, None),
            (500, None, true, Some("500")),
            (502, Some("bad_gateway"), true, Some("bad_gateway")),
            (200, Some("upstream_closed"), true, Some("upstream_closed")),
        ] {
            let span = spans(FinishedRequest { status, error, ..request(&trace) }).next().unwrap();
            assert_eq!(span.status.is_some(), failed, "{status}");
            assert_eq!(attributes(&span).get("error.type").map(String::as_str), kind, "{status}");
            assert!(span.parent_span_id.is_empty());
        }
    }

    #[test]
    fn the_upstreams_span_is_a_child_of_the_requests() {
        let trace = trace(None);
        let upstream = FinishedUpstreamRequest {
            upstream: "app",
            authority: Some("[::1]:9000"),
            secure: false,
            status: Some(404),
            error: None,
            started: 12,
            ended: 20,
        };
        let span = spans(FinishedRequest { upstream: Some(upstream), ..request(&trace) }).nth(1).unwrap();
        assert_eq!(
            (&span.span_id[..], &span.parent_span_id[..]),
            (&3_u64.to_be_bytes()[..], &2_u64.to_be_bytes()[..])
        );
        assert_eq!((span.name.as_str(), span.kind), ("GET", SpanKind::Client.into()));
        assert!(span.status.is_some(), "to a client 404 is an error");
        let found = attributes(&span);
        for (name, value) in [
            ("server.address", "::1"),
            ("server.port", "9000"),
            ("peer.service", "app"),
            ("url.full", "http://[::1]:9000/api/x"),
            ("error.type", "404"),
        ] {
            assert_eq!(found[name], value, "{found:?}");
        }
        let silent =
            FinishedUpstreamRequest { status: None, error: Some("timeout"), authority: None, ..upstream };
        let span = spans(FinishedRequest { upstream: Some(silent), ..request(&trace) }).nth(1).unwrap();
        assert_eq!(
            (attributes(&span)["error.type"].as_str(), attributes(&span)["server.address"].as_str()),
            ("timeout", "app")
        );
    }

    #[test]
    fn methods_and_hosts_of_any_kind_have_their_attributes() {
        let trace = trace(None);
        let span = spans(FinishedRequest { method: "BREW", route: None, ..request(&trace) }).next().unwrap();
        let found = attributes(&span);
        assert_eq!((span.name.as_str(), found["http.request.method"].as_str()), ("HTTP", "_OTHER"));
        assert_eq!(found["http.request.method_original"], "BREW");
        for (host, expected) in [
            ("a.example", ("a.example", None)),
            ("a.example:80", ("a.example", Some(80))),
            ("[::1]:80", ("::1", Some(80))),
            ("[::1]", ("::1", None)),
            ("::1", ("::1", None)),
            ("a:x", ("a:x", None)),
            ("-", ("-", None)),
        ] {
            assert_eq!(split_port(host), expected, "{host}");
        }
    }
}
