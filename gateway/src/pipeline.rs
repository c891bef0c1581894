//! The way of one request, top to bottom: admission, route, identity, and then endpoint, file or upstream.
//!
//! [`handle`] is the list; each step is a function in the file that bears its name and either hands on or refuses.

use std::rc::Rc;

use http::{Method, StatusCode};
use tokio::time::Instant;

use crate::auth::identity::Identity;
use crate::client_addr::Client;
use crate::http1::{FieldKind, RequestBody};
use crate::layers::admission::Admitted;
use crate::layers::route::Target;
use crate::layers::{admission, authenticate, authorize};
use crate::proxy::header_edits::Occasion;
use crate::proxy::upstream_request::UpstreamRequest;
use crate::proxy::websocket;
use crate::rejection::{Code, Rejection};
use crate::response::Response;
use crate::runtime::Worker;
use crate::services::{endpoints, proxy, redirect, static_files};
use crate::telemetry::{RequestId, RouteLabel};
use crate::tokens::UnixSeconds;
use crate::worker_state::Serving;

/// A request that was admitted, and its name in logs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exchange<'r> {
    pub(crate) request: &'r Admitted<'r>,
    pub(crate) request_id: &'r RequestId,
    /// When it arrived.
    pub(crate) started: Instant,
    /// The same in milliseconds since 1970.
    pub(crate) now_millis: u64,
}

impl Exchange<'_> {
    /// When it arrived, in the unit of tokens.
    pub(crate) fn now(&self) -> UnixSeconds {
        self.now_millis / 1000
    }
}

/// What is known of a request when it is over, for the access log and the metrics.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// The route's place in the configuration.
    pub(crate) route: Option<usize>,
    /// Whether one of the gateway's own endpoints answered.
    pub(crate) endpoint: bool,
    pub(crate) upstream: Option<usize>,
    pub(crate) identity: Option<Rc<Identity>>,
    /// The name used to log in, in its canonical form.
    pub(crate) username: Option<String>,
}

impl Facts {
    pub(crate) fn label(&self) -> RouteLabel {
        match self.route {
            Some(index) => RouteLabel::Route(index),
            None if self.endpoint => RouteLabel::Endpoint,
            None => RouteLabel::None,
        }
    }

    /// Who it was, as far as was verified or claimed at login.
    pub(crate) fn user(&self) -> Option<&str> {
        let verified = self.identity.as_ref().map(|identity| identity.claims().username());
        verified.or(self.username.as_deref())
    }
}

/// Answers a request. Whatever happens, there is an answer, and a page of an allowed origin can read it.
pub(crate) async fn handle<'c>(
    worker: &Worker,
    serving: &Serving,
    client: &Client,
    exchange: &Exchange<'_>,
    facts: &mut Facts,
    body: RequestBody<'c>,
) -> Response<'c> {
    let mut response = match answer(worker, serving, client, exchange, facts, body).await {
        Ok(response) => response,
        Err(rejection) => Response::refusal(&rejection, exchange.request_id.as_str()),
    };
    serving.snapshot.cors.decorate(exchange.request.head(), &mut response);
    if let Some(hsts) = &serving.snapshot.hsts
        && client.is_secure()
    {
        hsts.decorate(&mut response);
    }
    response
}

async fn answer<'c>(
    worker: &Worker,
    serving: &Serving,
    client: &Client,
    exchange: &Exchange<'_>,
    facts: &mut Facts,
    body: RequestBody<'c>,
) -> Result<Response<'c>, Rejection> {
    let snapshot = &*serving.snapshot;
    let request = exchange.request;
    // Before anything else, for a browser sends no token with it.
    if let Some(response) = snapshot.cors.preflight(request.head()) {
        return Ok(response);
    }
    if let Some(response) = options_of_the_gateway(request) {
        return Ok(response);
    }
    // The gateway's own endpoints come before the routes, so that no route can shadow them.
    if let Some(endpoint) = snapshot.endpoints.find(request.target().decoded_path()) {
        facts.endpoint = true;
        // Boxed, for every request's future would have room for a login's.
        return Box::pin(endpoints::serve(endpoint, worker, serving, client, exchange, facts, body)).await;
    }
    let route = snapshot.routes.select(request)?;
    facts.route = Some(route.index);
    // Nothing of the body has been asked for so far: a client that waits for `100 Continue` gets its 401 instead.
    let identity = authorize::authorize(worker, serving, route, request, exchange.now())?;
    facts.identity.clone_from(&identity);
    if identity.is_some() {
        authenticate::heard(worker, exchange.now_millis)?;
    }
    let occasion = Occasion {
        exchange,
        client,
        trusted_proxies: &snapshot.settings.server.trusted_proxies,
        identity: identity.as_ref(),
    };
    let mut response = match &route.target {
        Target::Static { root, index_fallback } => {
            static_files::serve(root, *index_fallback, route.path(), request).await?
        }
        Target::Redirect(to) => redirect::answer(to, route.path(), request),
        Target::Answer(fixed) => fixed.answer(),
        Target::Upstream(forwarding) => {
            facts.upstream = Some(forwarding.upstream);
            proxy::forward(worker, serving, occasion, route, forwarding, body).await?
        }
    };
    if let Some(edits) = &route.response_headers {
        edits.apply(occasion, &mut response)?;
    }
    Ok(response)
}

/// A request's way as far as the socket of its upstream: what would be sent there.
pub(crate) fn upstream_request(
    worker: &Worker,
    serving: &Serving,
    client: &Client,
    exchange: &Exchange<'_>,
) -> Result<UpstreamRequest, Rejection> {
    let snapshot = &*serving.snapshot;
    let request = exchange.request;
    let route = snapshot.routes.select(request)?;
    let identity = authorize::authorize(worker, serving, route, request, exchange.now())?;
    match &route.target {
        Target::Static { .. } | Target::Redirect(_) | Target::Answer(_) => {
            Err(Rejection::new(Code::NotFound, "the route has no upstream"))
        }
        Target::Upstream(forwarding) => {
            let handshake = websocket::handshake(request, forwarding, &snapshot.cors)?;
            let trusted_proxies = &snapshot.settings.server.trusted_proxies;
            let occasion = Occasion { exchange, client, trusted_proxies, identity: identity.as_ref() };
            proxy::outgoing(snapshot, occasion, route, forwarding, handshake.as_ref())
        }
    }
}

/// `OPTIONS *` asks about the gateway itself, and `Max-Forwards: 0` says that this is the last hop (RFC 9110
/// sections 9.3.7 and 7.6.2).
pub(crate) fn options_of_the_gateway<'c>(request: &Admitted<'_>) -> Option<Response<'c>> {
    let last_hop = || request.head().fields().only(FieldKind::MaxForwards).is_some_and(|f| f.value == b"0");
    if *request.method() != Method::OPTIONS || (request.target().path() != "*" && !last_hop()) {
        return None;
    }
    Some(
        Response::new(StatusCode::NO_CONTENT)
            .field("Allow", &admission::USUAL_METHODS.map(|m| m.to_string()).join(", ")),
    )
}
