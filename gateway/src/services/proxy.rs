//! Forwarding: the cleaned request goes to the upstream, its answer comes back cleaned.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::http1::{BodyError, BodyFraming, FieldKind, RequestBody, ResponseHead};
use crate::layers::admission::Admitted;
use crate::layers::route::{Forwarding, Route};
use crate::proxy::header_edits::Occasion;
use crate::proxy::session_expiry::Lifetime;
use crate::proxy::upstream_request::{Additions, UpstreamRequest};
use crate::proxy::websocket;
use crate::proxy::websocket::Handshake;
use crate::rejection::{Code, Rejection};
use crate::response::{Response, ResponseBody};
use crate::runtime::Worker;
use crate::runtime_config::Snapshot;
use crate::telemetry::UpstreamOutcome;
use crate::upstream::{OutgoingRequest, SendError, UpgradeAnswer, UpstreamResponse, send};
use crate::worker_state::Serving;

/// The request as its upstream gets it.
pub(crate) fn outgoing(
    snapshot: &Snapshot,
    occasion: Occasion<'_>,
    route: &Route,
    forwarding: &Forwarding,
    upgrade: Option<&Handshake<'_>>,
) -> Result<UpstreamRequest, Rejection> {
    let exchange = occasion.exchange;
    snapshot.via.stop_loop(exchange.request.head())?;
    // Before the upstream hears of it; a body that does not tell its length is counted while it comes.
    if matches!(exchange.request.framing(), BodyFraming::Length(n) if n > route.max_body) {
        return Err(bad_body(&BodyError::TooLarge));
    }
    let target = exchange.request.target();
    let (prefix, target) = match &forwarding.new_prefix {
        None => ("", target.as_str()),
        Some(prefix) => (prefix.as_str(), target.below(route.path())),
    };
    let mut edit_lines = Vec::new();
    if let Some(edits) = &route.request_headers {
        edits.push_lines(occasion, &mut edit_lines)?;
    }
    let additions = Additions {
        prefix,
        target,
        host: forwarding.host.as_deref(),
        identity: occasion.identity.map(Rc::as_ref),
        identity_headers: &snapshot.identity_headers,
        forward_token: forwarding.forward_token,
        edits: route.request_headers.as_ref(),
        edit_lines: &edit_lines,
        client: occasion.client,
        via: &snapshot.via,
        request_id: exchange.request_id.as_bytes(),
        upgrade,
    };
    Ok(UpstreamRequest::new(exchange.request, additions))
}

/// Forwards a request and gives the upstream's answer, its body still on its way.
pub(crate) async fn forward<'c>(
    worker: &Worker,
    serving: &Serving,
    occasion: Occasion<'_>,
    route: &Route,
    forwarding: &Forwarding,
    body: RequestBody<'c>,
) -> Result<Response<'c>, Rejection> {
    let exchange = occasion.exchange;
    let request = exchange.request;
    let snapshot = &*serving.snapshot;
    let pool = serving.upstream(forwarding.upstream);
    let handshake = websocket::handshake(request, forwarding, &snapshot.cors)?;
    let outgoing = outgoing(snapshot, occasion, route, forwarding, handshake.as_ref())?;
    let outgoing = OutgoingRequest {
        head: outgoing.head(),
        method: request.method(),
        now: exchange.started,
        patience: &forwarding.patience,
        upgrade: handshake.is_some(),
    };
    let failed = |error: SendError| failed(serving, forwarding.upstream, &error);
    let lifetime = || {
        let grace = snapshot.settings.tokens.stream_grace;
        let identity = occasion.identity.map(Rc::clone);
        identity.map(|identity| Lifetime::new(Arc::clone(&worker.gateway), identity, grace))
    };
    let response = match &handshake {
        None => send(pool, &outgoing, body.limited(route.max_body)).await.map_err(failed)?,
        Some(handshake) => {
            match Box::pin(crate::upstream::upgrade(pool, &outgoing, websocket::PROTOCOL))
                .await
                .map_err(failed)?
            {
                UpgradeAnswer::Declined(response) => *response,
                UpgradeAnswer::Accepted(upgraded) => {
                    serving.counters.upstream_request(forwarding.upstream, UpstreamOutcome::Ok);
                    return Ok(websocket::opened(handshake, *upgraded, lifetime()));
                }
            }
        }
    };
    serving.counters.upstream_request(forwarding.upstream, UpstreamOutcome::Ok);
    let mut response = pass_back(response, request, snapshot);
    // Most answers have come whole, and nothing has to watch over them.
    if let ResponseBody::Upstream { body, lifetime: watch, .. } = &mut response.body
        && occasion.identity.is_some()
        && !body.is_complete()
    {
        *watch = lifetime().map(Box::new);
    }
    Ok(response)
}

/// The upstream's answer without what belongs to its connection or to the gateway.
fn pass_back<'c>(
    upstream: UpstreamResponse<'c>,
    request: &Admitted<'_>,
    snapshot: &Snapshot,
) -> Response<'c> {
    let UpstreamResponse { framing, body } = upstream;
    let head = body.head();
    let mut response = Response::new(head.status());
    let nominated = head.fields().nominated();
    for field in head.fields().iter() {
        let passes = match field.kind {
            FieldKind::Connection
            | FieldKind::HopByHop
            | FieldKind::Upgrade
            | FieldKind::TransferEncoding
            | FieldKind::ContentLength
            | FieldKind::XRequestId
            | FieldKind::Alias => false,
            FieldKind::AccessControl => !snapshot.cors.is_on(),
            FieldKind::Date => {
                response.has_date = true;
                true
            }
            _ => true,
        };
        if passes && !nominated.contains(field.name) {
            response.fields.push(field.name, field.value);
        }
    }
    let declared = match (framing, head.status()) {
        (BodyFraming::Empty, StatusCode::NO_CONTENT) => None,
        (BodyFraming::Empty, StatusCode::NOT_MODIFIED) => told_length(head),
        (BodyFraming::Empty, _) if *request.method() == http::Method::HEAD => told_length(head),
        (BodyFraming::Empty, _) => Some(0),
        _ => None,
    };
    response.body = ResponseBody::Upstream { body, framing, declared, lifetime: None };
    response
}

fn told_length(head: &ResponseHead) -> Option<u64> {
    let field = head.fields().of_kind(FieldKind::ContentLength).next()?;
    std::str::from_utf8(field.value).ok()?.parse().ok()
}

/// When a client may try again where the upstream may be back any moment.
const AGAIN: Duration = Duration::from_secs(1);

fn failed(serving: &Serving, upstream: usize, error: &SendError) -> Rejection {
    if let SendError::Body(error) = error {
        return bad_body(error);
    }
    let pool = serving.upstream(upstream);
    tracing::warn!(upstream = pool.name(), addresses = pool.addresses(), %error, "upstream failed");
    let (outcome, rejection) = match error {
        SendError::Connect(_) => (
            UpstreamOutcome::ConnectFailed,
            Rejection::new(Code::BadGateway, "the upstream cannot be reached"),
        ),
        SendError::NoServer => (
            UpstreamOutcome::NoServer,
            Rejection::new(Code::NoHealthyUpstream, "no server of the upstream is well").retry_after(AGAIN),
        ),
        SendError::Full => (
            UpstreamOutcome::Full,
            Rejection::new(Code::Overloaded, "the upstream has all it can take").retry_after(AGAIN),
        ),
        SendError::Timeout => (
            UpstreamOutcome::Timeout,
            Rejection::new(Code::GatewayTimeout, "the upstream did not answer in time"),
        ),
        _ => (UpstreamOutcome::Broken, Rejection::new(Code::BadGateway, "the upstream's answer was broken")),
    };
    serving.counters.upstream_request(upstream, outcome);
    rejection
}

/// The refusal for a body that the client did not send properly. What follows it on the connection is lost.
pub(crate) fn bad_body(error: &BodyError) -> Rejection {
    match error {
        BodyError::TimedOut => Rejection::new(Code::RequestTimeout, "the body stopped arriving"),
        BodyError::TooLarge => {
            Rejection::new(Code::PayloadTooLarge, "the body is larger than is allowed here")
        }
        _ => Rejection::new(Code::BadRequest, "the body's framing is malformed").close(),
    }
}
