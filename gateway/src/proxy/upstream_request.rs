//! The upstream request: the client's, sanitised and extended, in the one safe order.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::admission::RequestView;
use crate::browser::cookies::Cookies;
use crate::client_addr::ClientAddr;
use crate::http1::{BodyFraming, HeaderField, HeaderKind, fold, split_lines};
use crate::identity::{Identity, IdentityHeaders};
use crate::proxy::websocket::Handshake;
use crate::routing::header_edits::HeaderEdits;
use crate::routing::via::Via;
use crate::telemetry::TraceContext;
use crate::upstream::{Http2Head, UpstreamRequest};

/// What a route and a connection add to a request.
#[derive(Debug)]
pub(crate) struct ForwardingHeaders<'a> {
    /// Prefix of the target: empty, or whole segments.
    pub(crate) prefix: &'a str,
    /// Path and query, byte for byte from the admitted target: empty, or from a `/` or the `?` on. So nothing that is put
    /// together of these two has anything that the admitted target could not have.
    pub(crate) target: &'a str,
    /// What of the request's path stands neither in `prefix` nor in `target`: nothing, or whole segments.
    pub(crate) stripped: &'a str,
    /// What replaces WebDAV's `Destination`.
    pub(crate) destination: Option<&'a str>,
    /// What the upstream sees as `Host`.
    pub(crate) host: &'a str,
    pub(crate) identity: Option<&'a Identity>,
    pub(crate) identity_headers: &'a IdentityHeaders,
    /// Whether the client's `Authorization` goes on.
    pub(crate) client_authorization: bool,
    /// Whether its `DPoP` goes on.
    pub(crate) client_proof: bool,
    /// What replaces `Authorization`.
    pub(crate) own_authorization: Option<&'a str>,
    /// The gateway's own cookies, which are kept from upstreams.
    pub(crate) cookies: Option<&'a Cookies>,
    /// What the route takes out of the client's fields.
    pub(crate) edits: Option<&'a HeaderEdits>,
    /// The fields that the route adds, in wire format.
    pub(crate) edit_lines: &'a [u8],
    /// The field with the signed assertion, in wire format; may be empty.
    pub(crate) assertion_line: &'a [u8],
    /// The client.
    pub(crate) client: &'a ClientAddr,
    pub(crate) via: &'a Via,
    pub(crate) request_id: &'a [u8],
    /// Whether the gateway decides on `traceparent` and `tracestate`: the client's are removed then.
    pub(crate) owns_trace: bool,
    /// The trace that the upstream's span belongs to.
    pub(crate) trace: Option<&'a TraceContext>,
    /// The protocol that it requests to switch to.
    pub(crate) upgrade: Option<&'a Handshake<'a>>,
}

/// Builds the head for an HTTP/1.1 upstream.
pub(crate) fn build_upstream_request(
    request: RequestView<'_>,
    add: &ForwardingHeaders<'_>,
) -> UpstreamRequest {
    let mut head = Vec::with_capacity(1024);
    head.extend_from_slice(request.method().as_str().as_bytes());
    head.push(b' ');
    push_target(&mut head, add);
    head.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    head.extend_from_slice(add.host.as_bytes());
    head.extend_from_slice(b"\r\n");
    push_fields(&mut head, request, add);
    if let Some(handshake) = add.upgrade {
        handshake.push_lines(&mut head);
    }
    push_framing(&mut head, request);
    head.extend_from_slice(b"\r\n");
    UpstreamRequest::Http1(head)
}

/// Builds the head for an HTTP/2 upstream.
pub(crate) fn build_http2_request(request: RequestView<'_>, add: &ForwardingHeaders<'_>) -> UpstreamRequest {
    let mut target = Vec::with_capacity(add.prefix.len() + add.target.len() + 1);
    push_target(&mut target, add);
    let mut headers = HeaderMap::with_capacity(request.headers().len() + 12);
    push_fields(&mut headers, request, add);
    if let BodyFraming::Length(length) = request.framing() {
        headers.insert(http::header::CONTENT_LENGTH, length.into());
    }
    // gRPC requires it, and trailers are supported.
    headers.insert(http::header::TE, HeaderValue::from_static("trailers"));
    UpstreamRequest::Http2(Box::new(Http2Head {
        method: request.method().clone(),
        target: target.into(),
        host: Bytes::copy_from_slice(add.host.as_bytes()),
        headers,
    }))
}

/// A destination of header fields.
trait FieldSink {
    fn field(&mut self, name: &[u8], value: &[u8]);

    /// Adds preformatted lines, each with its CRLF.
    fn lines(&mut self, lines: &[u8]);

    /// Adds the lines that `write` appends to a buffer.
    fn written(&mut self, write: impl FnOnce(&mut Vec<u8>));
}

impl FieldSink for Vec<u8> {
    fn field(&mut self, name: &[u8], value: &[u8]) {
        self.extend_from_slice(name);
        self.extend_from_slice(b": ");
        self.extend_from_slice(value);
        self.extend_from_slice(b"\r\n");
    }

    fn lines(&mut self, lines: &[u8]) {
        self.extend_from_slice(lines);
    }

    fn written(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(self);
    }
}

impl FieldSink for HeaderMap {
    fn field(&mut self, name: &[u8], value: &[u8]) {
        match (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            (Ok(name), Ok(value)) => drop(self.append(name, value)),
            _ => tracing::debug!("a field cannot be represented in HTTP/2"),
        }
    }

    fn lines(&mut self, lines: &[u8]) {
        split_lines(lines).for_each(|(name, value)| self.field(name, value));
    }

    fn written(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut lines = Vec::with_capacity(256);
        write(&mut lines);
        self.lines(&lines);
    }
}

fn push_target(out: &mut Vec<u8>, add: &ForwardingHeaders<'_>) {
    out.extend_from_slice(add.prefix.as_bytes());
    if add.prefix.is_empty() && !add.target.starts_with('/') && add.target != "*" {
        out.push(b'/');
    }
    out.extend_from_slice(add.target.as_bytes());
}

/// The order matters (CVE-2024-45410): first all hop-by-hop and forgeable fields are removed, then verified
/// values are added, where nothing can remove them again.
fn push_fields(sink: &mut impl FieldSink, request: RequestView<'_>, add: &ForwardingHeaders<'_>) {
    let connection_options = request.headers().connection_options();
    for field in request.headers().iter() {
        if !passes(&field, add) || connection_options.contains(field.name) {
            continue;
        }
        let own = add.cookies.filter(|_| field.kind == HeaderKind::Cookie);
        match own.and_then(|cookies| cookies.without_own(field.value)) {
            None => sink.field(field.name, field.value),
            Some(others) if others.is_empty() => {}
            Some(others) => sink.field(field.name, &others),
        }
    }
    if let Some(identity) = add.identity {
        sink.lines(identity.header_lines());
    }
    if let Some(value) = add.own_authorization {
        sink.field(b"Authorization", value.as_bytes());
    }
    sink.lines(add.edit_lines);
    sink.lines(add.assertion_line);
    let host = request.host();
    sink.written(|lines| {
        add.client.push_forwarding_lines(request.head(), host.as_str(), add.stripped, lines);
    });
    if let Some(value) = add.destination {
        sink.field(b"Destination", value.as_bytes());
    }
    sink.field(b"X-Request-Id", add.request_id);
    if let Some(trace) = add.trace {
        sink.field(b"traceparent", trace.traceparent().as_bytes());
        if !trace.state.is_empty() {
            sink.field(b"tracestate", trace.state.as_bytes());
        }
    }
    sink.lines(add.via.line(request.version()));
}

/// Whether a field of the client is forwarded.
fn passes(field: &HeaderField<'_>, add: &ForwardingHeaders<'_>) -> bool {
    let is_edited = || add.edits.is_some_and(|edits| edits.remove_edited(field.name));
    match field.kind {
        HeaderKind::Authorization => add.client_authorization && !is_edited(),
        HeaderKind::Dpop => add.client_proof && !is_edited(),
        kind if kind.is_of_connection() => false,
        HeaderKind::Expect
        | HeaderKind::Host
        | HeaderKind::Forwarded
        | HeaderKind::XForwardedFor
        | HeaderKind::XForwardedHost
        | HeaderKind::XForwardedProto
        | HeaderKind::XRequestId
        | HeaderKind::RoutingOverride
        | HeaderKind::UnderscoreAlias => false,
        HeaderKind::TraceParent | HeaderKind::TraceState if add.owns_trace => false,
        _ => {
            let removed = is_reserved(field.name, add.identity_headers)
                || is_edited()
                || add.upgrade.is_some_and(|handshake| handshake.rewrites(field.name))
                || add.destination.is_some() && is_destination(field.name);
            !removed
        }
    }
}

/// Whether some app could take a field of that name for one of the gateway's. CGI and WSGI know fields as `HTTP_NAME`, and a field
/// with such a name may have been sent to be confused with it.
pub(crate) fn is_reserved(name: &[u8], identity_headers: &IdentityHeaders) -> bool {
    let mut rest = name;
    while rest.get(..4).is_some_and(|front| front.eq_ignore_ascii_case(b"http"))
        && rest.get(4).is_some_and(|&b| fold(b) == b'-')
    {
        rest = &rest[5..];
        if HeaderKind::of(rest) != HeaderKind::Other || identity_headers.reserves(rest) {
            return true;
        }
    }
    identity_headers.reserves(name)
}

/// Whether a field is WebDAV's `Destination`.
pub(crate) fn is_destination(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"destination")
}

/// The framing is written from what was understood, never copied.
fn push_framing(head: &mut Vec<u8>, request: RequestView<'_>) {
    let expects_body = matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    match request.framing() {
        BodyFraming::Length(n) => head.field(b"Content-Length", itoa::Buffer::new().format(n).as_bytes()),
        BodyFraming::Chunked => head.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        BodyFraming::Empty if expects_body => head.extend_from_slice(b"Content-Length: 0\r\n"),
        BodyFraming::Empty | BodyFraming::UntilClose => {}
    }
}
