//! The reverse proxy: sends the sanitised request to the upstream, and returns its sanitised response.

use std::borrow::Cow;
use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body::Body as _;
use tokio::time::Instant;
use tower::Service;

use crate::browser::Browser;
use crate::config::UpstreamProtocol;
use crate::grpc;
use crate::http1::{BodyError, BodyFraming, HeaderKind, ResponseHead, Version, declared_length};
use crate::identity::session_expiry::SessionExpiry;
use crate::proxy::location_rewrite::{self, LocationRewrite};
use crate::proxy::upstream_request::{ForwardingHeaders, build_http2_request, build_upstream_request};
use crate::proxy::websocket::{self, Handshake};
use crate::proxy::{assertion, authorization};
use crate::rejection::Rejection;
use crate::request::{Authorized, RequestContext};
use crate::response::{Body, Response, header_value};
use crate::routing::cors::Cors;
use crate::routing::{Forwarding, Target};
use crate::stream_state::Tunnel;
use crate::telemetry::UpstreamOutcome;
use crate::upstream::{
    OutgoingRequest, SendError, UpgradeResponse, Upgraded, UpstreamRequest, UpstreamResponse, send, upgrade,
};

/// Forwards requests to the upstream of their route.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProxyService;

impl Service<Authorized> for ProxyService {
    type Response = Response;
    type Error = Rejection;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Rejection>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Authorized) -> Self::Future {
        Box::pin(forward(request))
    }
}

/// How a request is forwarded; only requests of routes with an upstream can be.
pub(crate) fn forwarding(request: &Authorized) -> Result<&Forwarding, Rejection> {
    match &request.route().target {
        Target::Upstream(forwarding) => Ok(forwarding),
        _ => Err(Rejection::WrongTarget),
    }
}

/// The request for the upstream, with what it sees as `Host` ([`upstream_host`]).
///
/// # Errors
///
/// The request comes from this gateway itself (loop), its body is too large, or a claim does not fit into a
/// field.
pub(crate) fn outgoing_request(
    request: &Authorized,
    handshake: Option<&Handshake<'_>>,
    host: &str,
) -> Result<UpstreamRequest, Rejection> {
    let (route, view, context) = (request.route(), request.view(), request.context());
    let (forwarding, config) = (forwarding(request)?, &context.state.config);
    config.via.stop_loop(view.head())?;
    // Before the upstream is contacted; a body without a declared length is counted as it arrives.
    check_length(request)?;
    let target = view.target();
    let (prefix, target) = match &forwarding.new_prefix {
        None => ("", target.as_str()),
        Some(prefix) => (prefix.as_str(), target.below(route.path())),
    };
    let mut edit_lines = Vec::new();
    if let Some(edits) = &route.request_headers {
        edits.push_lines(request.template_context(), &mut edit_lines)?;
    }
    let upstream = context.state.upstream(forwarding.upstream).settings();
    let destination = location_rewrite::destination(request, forwarding, host)?;
    let stripped = match &forwarding.new_prefix {
        Some(prefix) if prefix.is_empty() => route.path().trim_end_matches('/'),
        _ => "",
    };
    let assertion = assertion::line(request, forwarding, handshake.is_some())?;
    let client_authorization = authorization::passes(request, forwarding);
    let add = ForwardingHeaders {
        prefix,
        target,
        host,
        stripped,
        destination: destination.as_deref(),
        identity: request.identity().map(Rc::as_ref),
        identity_headers: &config.identity_headers,
        cookies: config.browser.as_ref().map(|browser| &browser.cookies),
        client_authorization,
        client_proof: authorization::passes_proof(context, client_authorization),
        own_authorization: authorization::of_route(request, forwarding),
        edits: route.request_headers.as_ref(),
        edit_lines: &edit_lines,
        assertion_line: assertion.as_deref().unwrap_or_default(),
        client: &context.client,
        via: &config.via,
        request_id: context.request_id.as_bytes(),
        owns_trace: config.settings.tracing.enabled,
        trace: context.trace.as_ref().map(|trace| &trace.context),
        upgrade: handshake,
    };
    Ok(match upstream.protocol {
        UpstreamProtocol::Http1 => build_upstream_request(view, &add),
        UpstreamProtocol::Http2 => build_http2_request(view, &add),
    })
}

/// How long a gRPC stream may be silent where its route does not limit that.
const GRPC_SILENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// What the upstream sees as `Host`.
pub(crate) fn upstream_host(request: &Authorized) -> Result<Cow<'_, str>, Rejection> {
    let forwarding = forwarding(request)?;
    Ok(match (&forwarding.host, request.view().host()) {
        (Some(host), _) => Cow::Borrowed(host),
        (None, host) if !host.is_unknown() => Cow::Borrowed(host.as_str()),
        _ => {
            let urls = &request.context().state.upstream(forwarding.upstream).settings().urls;
            Cow::Owned(urls.first().map(|url| url.authority()).unwrap_or_default())
        }
    })
}

/// Refuses a body that declares more bytes than the route takes.
fn check_length(request: &Authorized) -> Result<(), Rejection> {
    match request.view().framing() {
        BodyFraming::Length(length) if length > request.route().max_body => Err(Rejection::BodyTooLarge),
        _ => Ok(()),
    }
}

/// Forwards a request and returns the upstream's response with its body still streaming.
async fn forward(mut request: Authorized) -> Result<Response, Rejection> {
    let context = Rc::clone(request.context());
    let (upstream, mut timeouts, own_timeouts, stream_grace) = {
        let forwarding = forwarding(&request)?;
        (
            forwarding.upstream,
            forwarding.timeouts,
            forwarding.own_timeouts,
            context.state.config.settings.tokens.stream_grace,
        )
    };
    context.record.upstream.set(Some(upstream));
    if let Some(identity) = request.identity() {
        let session = SessionExpiry::new(Rc::clone(identity), stream_grace);
        context.stream.session.replace(Some(session));
    }
    let mut body = request.take_body();
    body.limit(request.route().max_body);
    if let Some(timeout) = own_timeouts.request_body {
        body.set_timeout(timeout);
    }
    // Silence is no failure of a gRPC stream. Its client is known to be alive by PING.
    if request.view().version() == Version::Http2 && grpc::call_type(request.view().head()).is_some() {
        if own_timeouts.request_body.is_none() {
            body.set_timeout(GRPC_SILENCE);
        }
        if own_timeouts.body.is_none() {
            timeouts.body = timeouts.body.max(GRPC_SILENCE);
        }
    }
    let mut now = context.started;
    if forwarding(&request)?.request_buffering && body.framing() != BodyFraming::Empty {
        check_length(&request)?;
        // Boxed, for most routes do not ask for it.
        body = Box::pin(body.gather()).await.map_err(|error| bad_body(&error))?;
        request.reframe(&body);
        now = Instant::now();
    }
    let handshake = websocket::handshake(&request, forwarding(&request)?)?;
    let host = upstream_host(&request)?;
    let head = outgoing_request(&request, handshake.as_ref(), &host)?;
    let on_informational = |head: &ResponseHead| {
        if request.view().version() == Version::Http11 {
            push_informational(head, &mut context.stream.informational.borrow_mut());
        }
    };
    let rewrite = LocationRewrite::of(&request, forwarding(&request)?, &host);
    let outgoing = OutgoingRequest {
        head: &head,
        method: request.view().method(),
        now,
        timeouts: &timeouts,
        upgrade: handshake.is_some(),
        on_informational: &on_informational,
    };
    if let Some(trace) = &context.trace {
        trace.begin_upstream();
    }
    let pool = context.state.upstream(upstream);
    let failed = |error: SendError| failed(&context, upstream, &error);
    let response = match &handshake {
        None => send(pool, &outgoing, body).await.map_err(failed)?,
        Some(handshake) => {
            // Boxed, for few requests are upgrades.
            match Box::pin(upgrade(pool, &outgoing, handshake.protocol(), body)).await.map_err(failed)? {
                UpgradeResponse::Declined(response) => *response,
                UpgradeResponse::Accepted(upgraded) => {
                    count_upstream(
                        &context,
                        upstream,
                        UpstreamOutcome::Ok,
                        Some(StatusCode::SWITCHING_PROTOCOLS),
                        Instant::now(),
                    );
                    let browser = context.state.config.browser.as_deref();
                    let response = websocket::upgrade_accepted(handshake, &upgraded.head, browser);
                    let Upgraded { socket, input, permit, .. } = *upgraded;
                    let tunnel = Tunnel { upstream: socket, input, _permit: Box::new(permit), log: None };
                    context.stream.tunnel.replace(Some(Box::new(tunnel)));
                    return Ok(response);
                }
            }
        }
    };
    let responded = Instant::now();
    count_upstream(&context, upstream, UpstreamOutcome::Ok, Some(response.body.head().status()), responded);
    let cors = context.state.config.cors.of(Some(request.route().index));
    let browser = context.state.config.browser.as_deref();
    Ok(forward_response(response, responded, request.view().method(), cors, browser, rewrite.as_deref()))
}

/// The upstream's response, whose head had come by `now`, without what belongs to its connection or to the gateway.
fn forward_response(
    upstream: UpstreamResponse,
    now: Instant,
    method: &Method,
    cors: &Cors,
    browser: Option<&Browser>,
    rewrite: Option<&LocationRewrite>,
) -> Response {
    let UpstreamResponse { framing, mut body } = upstream;
    let mut response = http::Response::new(Body::Empty);
    let head = body.head();
    *response.status_mut() = head.status();
    *response.headers_mut() = response_headers(head, cors, browser);
    if let Some(rewrite) = rewrite {
        rewrite_locations(response.headers_mut(), rewrite);
    }
    let declared = match (framing, head.status()) {
        (BodyFraming::Empty, StatusCode::NO_CONTENT) => None,
        (BodyFraming::Empty, StatusCode::NOT_MODIFIED) => declared_length(head),
        (BodyFraming::Empty, _) if *method == Method::HEAD => declared_length(head),
        (BodyFraming::Empty, _) => Some(0),
        (BodyFraming::Length(length), _) => Some(length),
        _ => None,
    };
    *response.body_mut() = match framing {
        BodyFraming::Empty => {
            body.finish(now);
            Body::Empty
        }
        // Most responses have arrived completely: their connection is released at once, and no state is
        // needed.
        _ => match body.take_complete(now) {
            Some(bytes) => Body::Bytes(bytes),
            None => Body::Upstream(Box::new(body)),
        },
    };
    // hyper writes the length of a body that knows it.
    if let Some(length) = declared
        && (length == 0 || response.body().size_hint().exact() != Some(length))
    {
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    response
}

/// More informational responses wait for no client, in bytes.
const MAX_INFORMATIONAL: usize = 64 * 1024;

/// Writes an informational response, such as 103 with its `Link`, as a client of HTTP/1.1 gets it.
fn push_informational(head: &ResponseHead, out: &mut Vec<u8>) {
    if out.len() + head.headers().head().len() > MAX_INFORMATIONAL {
        return;
    }
    let status = head.status();
    let reason = status.canonical_reason().unwrap_or_default();
    out.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).as_bytes());
    let connection_options = head.headers().connection_options();
    for field in head.headers().iter().filter(|f| matches!(f.kind, HeaderKind::Other | HeaderKind::Vary)) {
        if !connection_options.contains(field.name) && !field.name.eq_ignore_ascii_case(b"set-cookie") {
            [field.name, b": ", field.value, b"\r\n"].iter().for_each(|part| out.extend_from_slice(part));
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// The fields that are forwarded to the client: end-to-end ones, except those the gateway sets itself.
fn response_headers(head: &ResponseHead, cors: &Cors, browser: Option<&Browser>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(head.headers().len() + 1);
    let connection_options = head.headers().connection_options();
    PARSED.with_borrow_mut(|parsed| {
        for (place, field) in head.headers().iter().enumerate() {
            let passes = match field.kind {
                kind if kind.is_of_connection() => false,
                HeaderKind::XRequestId | HeaderKind::UnderscoreAlias => false,
                HeaderKind::AccessControl => !cors.replaces_upstream(),
                HeaderKind::SetCookie => {
                    !browser.is_some_and(|browser| browser.cookies.sets_own(field.value))
                }
                _ => true,
            };
            if passes
                && !connection_options.contains(field.name)
                && let Some((name, value)) = parsed.field(place, field.name, field.value)
            {
                headers.append(name, value);
            }
        }
    });
    headers
}

fn rewrite_locations(headers: &mut HeaderMap, rewrite: &LocationRewrite) {
    for (name, value) in headers.iter_mut() {
        let rewritten = value.to_str().ok().and_then(|value| rewrite.response_field(name.as_str(), value));
        if let Some(rewritten) = rewritten {
            *value = header_value(&rewritten);
        }
    }
}

thread_local! {
    static PARSED: RefCell<ParsedFields> = RefCell::default();
}

/// Cache of parsed fields by position: upstreams mostly send the same fields, and then nothing is parsed or
/// copied.
#[derive(Default)]
struct ParsedFields(Vec<(Box<[u8]>, HeaderName, HeaderValue)>);

/// Limits of cached names and values in bytes, and of the number of fields.
const MAX_PARSED_LEN: usize = 128;
const MAX_PARSED_FIELDS: usize = 16;

impl ParsedFields {
    fn field(&mut self, place: usize, name: &[u8], value: &[u8]) -> Option<(HeaderName, HeaderValue)> {
        if let Some((known, parsed, last)) = self.0.get_mut(place).filter(|(known, ..)| **known == *name) {
            debug_assert_eq!(known.len(), name.len());
            if last.as_bytes() != value {
                let value = HeaderValue::from_bytes(value).ok()?;
                if value.len() > MAX_PARSED_LEN {
                    return Some((parsed.clone(), value));
                }
                *last = value;
            }
            return Some((parsed.clone(), last.clone()));
        }
        let (parsed, value) = (HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
        if place < MAX_PARSED_FIELDS && name.len() <= MAX_PARSED_LEN && value.len() <= MAX_PARSED_LEN {
            let entry = (name.into(), parsed.clone(), value.clone());
            if place < self.0.len() {
                self.0[place] = entry;
            } else if place == self.0.len() {
                self.0.push(entry);
            }
        }
        Some((parsed, value))
    }
}

fn count_upstream(
    context: &RequestContext,
    upstream: usize,
    outcome: UpstreamOutcome,
    status: Option<StatusCode>,
    now: Instant,
) {
    context.state.counters.upstream_request(upstream, outcome, now.duration_since(context.started));
    if let Some(trace) = &context.trace {
        trace.end_upstream(outcome, status);
    }
}

fn failed(context: &RequestContext, upstream: usize, error: &SendError) -> Rejection {
    if let SendError::Body(error) = error {
        return bad_body(error);
    }
    let pool = context.state.upstream(upstream);
    tracing::warn!(
        request_id = context.request_id.as_str(),
        upstream = pool.name(),
        addresses = pool.addresses(),
        %error,
        "upstream failed"
    );
    let (outcome, rejection) = match error {
        SendError::Connect(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            (UpstreamOutcome::Timeout, Rejection::UpstreamConnectTimeout)
        }
        SendError::Connect(_) => (UpstreamOutcome::ConnectFailed, Rejection::UpstreamUnreachable),
        SendError::NoServer => (UpstreamOutcome::NoServer, Rejection::UpstreamUnhealthy),
        SendError::Full => (UpstreamOutcome::Full, Rejection::UpstreamFull),
        SendError::Timeout => (UpstreamOutcome::Timeout, Rejection::UpstreamTimeout),
        _ => (UpstreamOutcome::Broken, Rejection::UpstreamBroken),
    };
    count_upstream(context, upstream, outcome, None, Instant::now());
    rejection
}

/// The rejection for a body that the client did not send properly. The connection cannot be reused.
pub(crate) fn bad_body(error: &BodyError) -> Rejection {
    match error {
        BodyError::TimedOut => Rejection::BodyTimeout,
        BodyError::TooLarge => Rejection::BodyTooLarge,
        BodyError::Storage(error) => {
            tracing::error!(%error, "a request body cannot be kept on disk; see TMPDIR");
            Rejection::BodyStorageFailed
        }
        _ => Rejection::MalformedBody,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_request_on_its_way_fits_into_what_the_allocator_calls_small() {
        fn size<F>(_: fn(Authorized) -> F) -> usize {
            size_of::<F>()
        }
        assert!(size(forward) <= 1024, "{}", size(forward));
    }

    #[test]
    fn remembered_fields_are_those_of_this_response() {
        let mut parsed = ParsedFields::default();
        let long = "v".repeat(MAX_PARSED_LEN + 1);
        for (place, name, value) in [
            (0, "content-type", "text/plain"),
            (0, "content-type", "text/html"),
            (0, "content-type", long.as_str()),
            (0, "content-type", "text/html"),
            (0, "server", "app"),
            (0, "Server", "app"),
            (5, "x-later", "1"),
            (MAX_PARSED_FIELDS, "x-last", "1"),
        ] {
            let (found, given) = parsed.field(place, name.as_bytes(), value.as_bytes()).unwrap();
            assert_eq!((found.as_str(), given.to_str().unwrap()), (&*name.to_ascii_lowercase(), value));
        }
        for (name, value) in [("", "x"), ("a b", "x"), ("a", "x\ny")] {
            assert!(parsed.field(1, name.as_bytes(), value.as_bytes()).is_none(), "{name:?}: {value:?}");
        }
        assert!(parsed.0.len() <= MAX_PARSED_FIELDS);
    }

    #[test]
    fn a_failed_body_is_the_clients_doing() {
        let io = || BodyError::Io(std::io::ErrorKind::ConnectionReset.into());
        for (error, rejection) in [
            (BodyError::TimedOut, Rejection::BodyTimeout),
            (BodyError::TooLarge, Rejection::BodyTooLarge),
            (BodyError::Malformed, Rejection::MalformedBody),
            (BodyError::Truncated, Rejection::MalformedBody),
            (io(), Rejection::MalformedBody),
        ] {
            assert_eq!(bad_body(&error), rejection, "{error}");
        }
    }

    #[test]
    fn a_declared_length_is_passed_on_where_there_is_no_body_to_measure() {
        for (fields, length) in
            [("Content-Length: 7\r\n", Some(7)), ("", None), ("Content-Length: x\r\n", None)]
        {
            let mut head = ResponseHead::default();
            let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
            head.parse(text.as_bytes(), &crate::http1::ResponseLimits::default()).unwrap().unwrap();
            assert_eq!(declared_length(&head), length, "{fields}");
        }
    }
}
