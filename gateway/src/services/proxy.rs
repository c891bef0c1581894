//! The reverse proxy: sends the sanitised request to the upstream, and returns its sanitised response.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tower::Service;

use crate::config::UpstreamProtocol;
use crate::grpc;
use crate::http1::{BodyFraming, HeaderKind, ResponseHead, Version};
use crate::layers::cors::Cors;
use crate::layers::route::{Forwarding, Target};
use crate::proxy::header_edits::HeaderTemplateContext;
use crate::proxy::session_expiry::SessionExpiry;
use crate::proxy::upstream_request::{
    ForwardingHeaders, UpstreamRequest, build_http2_request, build_upstream_request,
};
use crate::proxy::websocket::{self, Handshake, Tunnel};
use crate::rejection::Rejection;
use crate::request::{Authorized, RequestContext};
use crate::request_body::BodyError;
use crate::response::{Body, Response};
use crate::telemetry::UpstreamOutcome;
use crate::upstream::{OutgoingRequest, SendError, UpgradeResponse, UpstreamResponse, send, upgrade};

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

/// The request for the upstream.
///
/// # Errors
///
/// The request comes from this gateway itself (loop), its body is too large, or a claim does not fit into a
/// field.
pub(crate) fn outgoing_request(
    request: &Authorized,
    handshake: Option<&Handshake<'_>>,
) -> Result<UpstreamRequest, Rejection> {
    let (route, view, context) = (request.route(), request.view(), request.context());
    let (forwarding, config) = (forwarding(request)?, &context.state.config);
    config.via.stop_loop(view.head())?;
    // Before the upstream is contacted; a body without a declared length is counted as it arrives.
    if matches!(view.framing(), BodyFraming::Length(n) if n > route.max_body) {
        return Err(Rejection::BodyTooLarge);
    }
    let target = view.target();
    let (prefix, target) = match &forwarding.new_prefix {
        None => ("", target.as_str()),
        Some(prefix) => (prefix.as_str(), target.below(route.path())),
    };
    let mut edit_lines = Vec::new();
    if let Some(edits) = &route.request_headers {
        edits.push_lines(HeaderTemplateContext::of(request), &mut edit_lines)?;
    }
    let upstream = context.state.upstream(forwarding.upstream).settings();
    let own_host = || upstream.urls.first().map(|url| url.authority()).unwrap_or_default();
    let unknown_host = if view.host().is_unknown() { own_host() } else { String::new() };
    let client_host = if view.host().is_unknown() { &unknown_host } else { view.host().as_str() };
    let add = ForwardingHeaders {
        prefix,
        target,
        host: forwarding.host.as_deref().unwrap_or(client_host),
        identity: request.identity().map(Rc::as_ref),
        identity_headers: &config.identity_headers,
        forward_token: forwarding.forward_token,
        edits: route.request_headers.as_ref(),
        edit_lines: &edit_lines,
        client: &context.client,
        via: &config.via,
        request_id: context.request_id.as_bytes(),
        upgrade: handshake,
    };
    Ok(match upstream.protocol {
        UpstreamProtocol::Http1 => build_upstream_request(view, add),
        UpstreamProtocol::Http2 => build_http2_request(view, add),
    })
}

/// How long a gRPC stream may be silent where its route does not limit that.
const GRPC_SILENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// Forwards a request and returns the upstream's response with its body still streaming.
async fn forward(mut request: Authorized) -> Result<Response, Rejection> {
    let context = Rc::clone(request.context());
    let (upstream, mut timeouts, own_timeouts, stream_grace) = {
        let forwarding = forwarding(&request)?;
        (forwarding.upstream, forwarding.timeouts, forwarding.own_timeouts, context.state.config.settings.tokens.stream_grace)
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
    if request.view().version() == Version::Http2 && grpc::media_type(request.view().head()).is_some() {
        if own_timeouts.request_body.is_none() {
            body.set_timeout(GRPC_SILENCE);
        }
        if own_timeouts.body.is_none() {
            timeouts.body = timeouts.body.max(GRPC_SILENCE);
        }
    }
    let handshake = websocket::handshake(
        request.view(),
        forwarding(&request)?,
        context.state.config.cors.of(Some(request.route().index)),
        &context.client,
    )?;
    let head = outgoing_request(&request, handshake.as_ref())?;
    let outgoing = OutgoingRequest {
        head: &head,
        method: request.view().method(),
        now: context.started,
        timeouts: &timeouts,
        upgrade: handshake.is_some(),
    };
    let pool = context.state.upstream(upstream);
    let failed = |error: SendError| failed(&context, upstream, &error);
    let response = match &handshake {
        None => send(pool, &outgoing, body).await.map_err(failed)?,
        Some(handshake) => {
            // Boxed, for few requests are upgrades.
            match Box::pin(upgrade(pool, &outgoing, websocket::PROTOCOL)).await.map_err(failed)? {
                UpgradeResponse::Declined(response) => *response,
                UpgradeResponse::Accepted(upgraded) => {
                    context.state.counters.upstream_request(upstream, UpstreamOutcome::Ok);
                    let response = websocket::upgrade_accepted(handshake, &upgraded.head);
                    let tunnel = Tunnel { upstream: *upgraded, log: None };
                    context.stream.tunnel.replace(Some(Box::new(tunnel)));
                    return Ok(response);
                }
            }
        }
    };
    context.state.counters.upstream_request(upstream, UpstreamOutcome::Ok);
    let cors = context.state.config.cors.of(Some(request.route().index));
    Ok(forward_response(response, request.view().method(), cors))
}

/// The upstream's response without hop-by-hop fields and fields that the gateway sets itself.
fn forward_response(upstream: UpstreamResponse, method: &Method, cors: &Cors) -> Response {
    let UpstreamResponse { framing, mut body } = upstream;
    let mut response = http::Response::new(Body::Empty);
    let head = body.head();
    *response.status_mut() = head.status();
    *response.headers_mut() = response_headers(head, cors);
    let declared = match (framing, head.status()) {
        (BodyFraming::Empty, StatusCode::NO_CONTENT) => None,
        (BodyFraming::Empty, StatusCode::NOT_MODIFIED) => declared_length(head),
        (BodyFraming::Empty, _) if *method == Method::HEAD => declared_length(head),
        (BodyFraming::Empty, _) => Some(0),
        (BodyFraming::Length(length), _) => Some(length),
        _ => None,
    };
    if let Some(length) = declared {
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    *response.body_mut() = match framing {
        BodyFraming::Empty => {
            body.finish();
            Body::Empty
        }
        // Most responses have arrived completely: their connection is released at once, and no state is
        // needed.
        _ => match body.take_complete() {
            Some(bytes) => Body::Bytes(bytes),
            None => Body::Upstream(Box::new(body)),
        },
    };
    response
}

/// The fields that are forwarded to the client: end-to-end ones, except those the gateway sets itself.
fn response_headers(head: &ResponseHead, cors: &Cors) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(head.headers().len() + 1);
    let connection_options = head.headers().connection_options();
    PARSED.with_borrow_mut(|parsed| {
        for (place, field) in head.headers().iter().enumerate() {
            let passes = match field.kind {
                HeaderKind::Connection
                | HeaderKind::HopByHop
                | HeaderKind::Upgrade
                | HeaderKind::TransferEncoding
                | HeaderKind::ContentLength
                | HeaderKind::XRequestId
                | HeaderKind::UnderscoreAlias => false,
                HeaderKind::AccessControl => !cors.replaces_upstream(),
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

fn declared_length(head: &ResponseHead) -> Option<u64> {
    let field = head.headers().of_kind(HeaderKind::ContentLength).next()?;
    std::str::from_utf8(field.value).ok()?.parse().ok()
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
    context.state.counters.upstream_request(upstream, outcome);
    rejection
}

/// The rejection for a body that the client did not send properly. The connection cannot be reused.
pub(crate) fn bad_body(error: &BodyError) -> Rejection {
    match error {
        BodyError::TimedOut => Rejection::BodyTimeout,
        BodyError::TooLarge => Rejection::BodyTooLarge,
        _ => Rejection::MalformedBody,
    }
}
