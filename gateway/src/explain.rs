//! Explains a request: runs the same stack that serves requests, with endpoints and a proxy that capture
//! instead of acting. Everything that is explained was reported by the stack; nothing is decided here.

use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::future::ready;
use std::rc::Rc;

use http::StatusCode;
use tower::{Service, service_fn};

use crate::client_addr::ClientAddr;
use crate::config::{Access, RouteRef};
use crate::http1::RequestHead;
use crate::identity::Identity;
use crate::proxy::websocket;
use crate::rejection::{Code, Rejection};
use crate::request::{Authorized, Incoming, PREFLIGHT_PASSED, RequestContext};
use crate::request_body::RequestBody;
use crate::response::{self, Response};
use crate::routing::MatchResult;
use crate::runtime::Worker;
use crate::services::endpoints::EndpointRequest;
use crate::services::proxy::{forwarding, outgoing_request, upstream_host};
use crate::services::target::TargetService;
use crate::stack::request_stack;
use crate::stream_state::StreamState;
use crate::tokens::{TokenError, VerifiedClaims};
use crate::upstream::UpstreamRequest;

/// The path of a request up to its upstream's socket, or to its response here.
#[derive(Debug)]
pub(crate) struct Explanation {
    /// Who sent the request, and where to, as far as trusted proxies report; none where it cannot be read.
    pub(crate) client: Option<String>,
    /// All routes in the order of matching; empty where the request is rejected before routing.
    pub(crate) tried: Vec<(RouteRef, MatchResult)>,
    pub(crate) token: TokenState,
    /// What becomes of a CORS preflight, in words.
    pub(crate) preflight: Option<String>,
    pub(crate) outcome: Outcome,
    /// The header fields that the gateway itself adds to the response.
    pub(crate) headers: Vec<(String, String)>,
}

/// The result of verifying the request's token. Whether its session was revoked is known to the running
/// gateway only.
#[derive(Debug)]
pub(crate) enum TokenState {
    NotAskedFor,
    None,
    /// The credentials are not a single token; why.
    Unreadable(String),
    /// With the claims, where the signature is valid.
    Refused(TokenError, Option<VerifiedClaims>),
    /// The keys of its issuer are not known here.
    Unjudged,
    Good(Rc<Identity>),
}

/// The outcome of a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// One of the gateway's own endpoints; its response depends on more than is known here.
    Endpoint,
    /// A response of the gateway.
    Here(StatusCode),
    /// A rejection, and the status that the client gets.
    Refused(StatusCode, Rejection),
    /// The name of the upstream, and the request head that it would get.
    Upstream(String, Vec<u8>),
}

/// What the capturing services captured.
#[derive(Debug, Clone, Default)]
struct Capture(Rc<RefCell<Option<Outcome>>>);

impl Capture {
    fn endpoint(&self) -> Response {
        self.0.replace(Some(Outcome::Endpoint));
        response::empty(StatusCode::OK)
    }

    fn upstream(&self, request: &Authorized) -> Result<Response, Rejection> {
        let (state, forwarding) = (&request.context().state, forwarding(request)?);
        let handshake = websocket::handshake(request, forwarding)?;
        let head = match outgoing_request(request, handshake.as_ref(), &upstream_host(request)?)? {
            UpstreamRequest::Http1(head) => head,
            UpstreamRequest::Http2(head) => {
                let (host, target) =
                    (String::from_utf8_lossy(&head.host), String::from_utf8_lossy(&head.target));
                let mut text = format!("{} {target} HTTP/2\r\n:authority: {host}\r\n", head.method);
                for (name, value) in &head.headers {
                    // Writing to a String does not fail.
                    let _ = write!(text, "{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes()));
                }
                text.into_bytes()
            }
        };
        let upstream = state.upstream(forwarding.upstream).name().to_owned();
        self.0.replace(Some(Outcome::Upstream(upstream, head)));
        Ok(response::empty(StatusCode::OK))
    }
}

/// Passes a request through the stack. Files are accessed; upstreams and stores are not contacted.
pub(crate) async fn explain(
    worker: Rc<Worker>,
    client: ClientAddr,
    head: Box<RequestHead>,
    refused: Option<Rejection>,
) -> Explanation {
    let capture = Capture::default();
    let (endpoints, proxy) = (capture.clone(), capture.clone());
    let endpoints = service_fn(move |_: EndpointRequest| ready(Ok(endpoints.endpoint())));
    let proxy = service_fn(move |request: Authorized| ready(proxy.upstream(&request)));
    let mut stack = request_stack(Rc::clone(&worker), endpoints, TargetService::new(proxy));
    let incoming = Incoming {
        head,
        refused: refused.map(Box::new),
        body: RequestBody::default(),
        client: Rc::new(client),
        stream: StreamState::of_http2_stream(),
    };
    let response = stack.call(incoming).await.unwrap_or_else(|never: Infallible| match never {});
    let (parts, body) = response.into_parts();
    let tried = worker.trace.as_ref().map(|trace| trace.routes.take()).unwrap_or_default();
    let token = body.context().map_or(TokenState::NotAskedFor, |context| token_state(context));
    let preflight = body.context().and_then(|context| preflight(context));
    let client = body.context().map(|context| client_and_origin(context));
    let rejection = body.context().and_then(|context| context.record.rejection.take());
    let outcome = match (rejection, capture.0.take()) {
        // The target may have been reached, and its response refused.
        (Some(rejection), _) => Outcome::Refused(parts.status, rejection),
        (None, Some(captured)) => captured,
        (None, None) => Outcome::Here(parts.status),
    };
    let headers = parts.headers.iter().filter(|(name, _)| *name != "x-request-id");
    let headers = headers.map(|(name, value)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    Explanation { client, tried, token, preflight, outcome, headers: headers.collect() }
}

/// The client's address, and the origin that its request was sent to: what counts as the host's own page.
fn client_and_origin(context: &RequestContext) -> String {
    let origin = context.own_origin();
    let trust = if context.client.is_trusted() { ", its forwarding fields are read" } else { "" };
    format!("{} to {}://{}{trust}", context.client_address(), origin.scheme.name(), origin.host_with_port())
}

/// What the stack did with a CORS preflight, in words.
fn preflight(context: &RequestContext) -> Option<String> {
    let problem = context.worker.trace.as_ref().and_then(|trace| trace.preflight_problem.take());
    Some(match (context.record.cors.get()?, problem) {
        (PREFLIGHT_PASSED, _) => "is left to the app, without a token".to_owned(),
        (_, None) => "is answered here: the browser goes on".to_owned(),
        (_, Some(why)) => format!("is answered here: refused, {why}"),
    })
}

/// What the stack says of the token.
fn token_state(context: &RequestContext) -> TokenState {
    if let Some(identity) = context.record.identity.borrow().clone() {
        return TokenState::Good(identity);
    }
    if let Some((error, claims)) = context.worker.trace.as_ref().and_then(|trace| trace.refused_token.take())
    {
        return TokenState::Refused(error, claims);
    }
    if context.route().is_none_or(|route| route.access == Access::Public) {
        return TokenState::NotAskedFor;
    }
    match &*context.record.rejection.borrow() {
        Some(Rejection::IssuerUnavailable(_)) => TokenState::Unjudged,
        Some(rejection) if rejection.code() == Code::InvalidRequest => {
            TokenState::Unreadable(rejection.detail().into_owned())
        }
        _ => TokenState::None,
    }
}
