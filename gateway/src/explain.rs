//! Explains a request: runs the same stack that serves requests, with endpoints and a proxy that capture
//! instead of acting.

use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::future::ready;
use std::rc::Rc;

use http::StatusCode;
use http_body_util::BodyExt;
use tower::{Service, service_fn};

use crate::auth::bearer::Bearer;
use crate::client_addr::ClientAddr;
use crate::config::{Access, RouteRef};
use crate::http1::RequestHead;
use crate::layers::admission::admit;
use crate::layers::authenticate::credentials;
use crate::layers::cors::{self, Preflight};
use crate::layers::route::MatchResult;
use crate::proxy::upstream_request::UpstreamRequest;
use crate::proxy::websocket;
use crate::rejection::Rejection;
use crate::request::{Authorized, Incoming, RequestView};
use crate::request_body::RequestBody;
use crate::response::{self, Response};
use crate::runtime::Worker;
use crate::runtime_config::RuntimeConfig;
use crate::services::endpoints::EndpointRequest;
use crate::services::proxy::{forwarding, outgoing_request};
use crate::services::target::TargetService;
use crate::stack::request_stack;
use crate::stream_state::StreamState;
use crate::tokens::{TokenError, TokenType, UnixSeconds, VerifiedClaims};

/// The path of a request up to its upstream's socket, or to its response here.
#[derive(Debug)]
pub(crate) struct Explanation {
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
    /// The credentials are not a single token.
    Unreadable(Rejection),
    /// With the claims, where the signature is valid.
    Refused(TokenError, Option<VerifiedClaims>),
    Good(VerifiedClaims),
}

/// The outcome of a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// One of the gateway's own endpoints; its response depends on more than is known here.
    Endpoint,
    /// A response of the gateway.
    Here(StatusCode),
    /// A rejection: status, code and detail, as the client gets them.
    Refused(StatusCode, String, String),
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
        let cors = state.config.cors.of(Some(request.route().index));
        let handshake = websocket::handshake(request.view(), forwarding, cors, &request.context().client)?;
        let head = match outgoing_request(request, handshake.as_ref())? {
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
    let (state, now) = (worker.state(), worker.now_millis() / 1000);
    let (mut tried, mut token, mut preflight) = (Vec::new(), TokenState::NotAskedFor, None);
    if refused.is_none()
        && let Ok(admission) = admit(&head)
    {
        let view = RequestView::new(&head, &admission);
        tried = state.config.routes.explain(view);
        token = token_state(&state.config, view, now);
        preflight = cors::preflight(&state.config, view).map(|preflight| match preflight {
            Preflight::PassedThrough => "is left to the app, without a token".to_owned(),
            Preflight::Answered { problem: None, .. } => "is answered here: the browser goes on".to_owned(),
            Preflight::Answered { problem: Some(why), .. } => format!("is answered here: refused, {why}"),
        });
    }
    let capture = Capture::default();
    let (endpoints, proxy) = (capture.clone(), capture.clone());
    let endpoints = service_fn(move |_: EndpointRequest| ready(Ok(endpoints.endpoint())));
    let proxy = service_fn(move |request: Authorized| ready(proxy.upstream(&request)));
    let mut stack = request_stack(worker, endpoints, TargetService::new(proxy));
    let incoming = Incoming {
        head,
        refused,
        body: RequestBody::default(),
        client: Rc::new(client),
        stream: StreamState::of_http2_stream(),
    };
    let response = stack.call(incoming).await.unwrap_or_else(|never: Infallible| match never {});
    let (parts, body) = response.into_parts();
    let captured = capture.0.take();
    let outcome = match captured {
        // The target may have been reached, and its response rejected.
        Some(outcome) if parts.status == StatusCode::OK => outcome,
        _ => here(parts.status, body.collect().await.map(|body| body.to_bytes()).ok()),
    };
    if !matches!(outcome, Outcome::Upstream(..) | Outcome::Here(_) | Outcome::Refused(..))
        || is_preflight(&outcome)
    {
        tried.clear();
    }
    let headers = parts.headers.iter().filter(|(name, _)| *name != "x-request-id");
    let headers = headers.map(|(name, value)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    Explanation { tried, token, preflight, outcome, headers: headers.collect() }
}

/// Whether the gateway responded to `OPTIONS` itself, before routing.
fn is_preflight(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Here(StatusCode::NO_CONTENT))
}

/// A response of the gateway: a rejection where its body is a problem document.
fn here(status: StatusCode, body: Option<bytes::Bytes>) -> Outcome {
    let problem = body.and_then(|body| serde_json::from_slice::<serde_json::Value>(&body).ok());
    let member = |name: &str| problem.as_ref()?.get(name)?.as_str().map(str::to_owned);
    match (member("code"), member("detail"), status.is_client_error() || status.is_server_error()) {
        (Some(code), Some(detail), true) => Outcome::Refused(status, code, detail),
        _ => Outcome::Here(status),
    }
}

fn token_state(config: &RuntimeConfig, request: RequestView<'_>, now: UnixSeconds) -> TokenState {
    let credentials = match config.routes.select(request) {
        Ok(route) if route.access == Access::Public => return TokenState::NotAskedFor,
        Ok(route) => credentials(route, request),
        Err(_) => Bearer::of(request.head()),
    };
    let token = match credentials.map(|bearer| bearer.map(Bearer::token).transpose()) {
        Ok(Ok(Some(token))) => token,
        Ok(Ok(None)) => return TokenState::None,
        Ok(Err(rejection)) | Err(rejection) => return TokenState::Unreadable(rejection),
    };
    match config.verifier.verify(token, TokenType::Access, now) {
        Ok(claims) => TokenState::Good(claims),
        Err(error) => TokenState::Refused(error, config.verifier.verify_signed(token, now).ok()),
    }
}
