//! What would become of a request, told by the functions that serve requests: no second opinion, and nobody else is asked.

use http::StatusCode;

use crate::auth::bearer::Bearer;
use crate::client_addr::Client;
use crate::config::{Access, Placed};
use crate::layers::authorize;
use crate::layers::route::{Target, Verdict};
use crate::pipeline::{Exchange, options_of_the_gateway};
use crate::proxy::header_edits::Occasion;
use crate::rejection::Rejection;
use crate::response::Response;
use crate::runtime::Worker;
use crate::runtime_config::Snapshot;
use crate::services::{redirect, static_files};
use crate::tokens::{TokenError, TokenType, VerifiedClaims};
use crate::worker_state::Serving;

/// The way of a request as far as the socket of its upstream, or to its answer here.
#[derive(Debug)]
pub(crate) struct Explanation {
    /// All routes in the order of matching; none where the gateway itself answers.
    pub(crate) tried: Vec<(Placed, Verdict)>,
    pub(crate) token: TokenState,
    pub(crate) outcome: Result<Outcome, Rejection>,
}

/// What verification says of the request's token. Whether its session was ended is known to the running gateway only.
#[derive(Debug)]
pub(crate) enum TokenState {
    NotAskedFor,
    None,
    /// There is something, but no one token.
    Unreadable(Rejection),
    /// With the claims, where it was at least signed here.
    Refused(TokenError, Option<VerifiedClaims>),
    Good(VerifiedClaims),
}

/// Where a request leads that is not refused.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// One of the gateway's own endpoints; what it says depends on more than is known here.
    Endpoint,
    /// An answer of the gateway's: its status and its fields as lines.
    Here(StatusCode, Vec<u8>),
    /// The name of the upstream, and the head that it would get.
    Upstream(String, Vec<u8>),
}

impl Outcome {
    fn here(response: &Response<'_>) -> Outcome {
        Outcome::Here(response.status, response.fields.as_bytes().to_vec())
    }
}

/// Goes the way of a request without its body. Files are looked at; upstreams and stores are not.
pub(crate) async fn explain(worker: &Worker, client: &Client, exchange: &Exchange<'_>) -> Explanation {
    let serving = worker.serving();
    let snapshot = &*serving.snapshot;
    let request = exchange.request;
    let untried =
        |outcome| Explanation { tried: Vec::new(), token: TokenState::NotAskedFor, outcome: Ok(outcome) };
    let preflight = snapshot.cors.preflight(request.head());
    if let Some(response) = preflight.or_else(|| options_of_the_gateway(request)) {
        return untried(Outcome::here(&response));
    }
    if snapshot.endpoints.find(request.target().decoded_path()).is_some() {
        return untried(Outcome::Endpoint);
    }
    Explanation {
        tried: snapshot.routes.explain(request),
        token: token_state(snapshot, exchange),
        outcome: outcome(worker, &serving, client, exchange).await,
    }
}

async fn outcome(
    worker: &Worker,
    serving: &Serving,
    client: &Client,
    exchange: &Exchange<'_>,
) -> Result<Outcome, Rejection> {
    let snapshot = &*serving.snapshot;
    let request = exchange.request;
    let route = snapshot.routes.select(request)?;
    let identity = authorize::authorize(worker, serving, route, request, exchange.now())?;
    let mut response = match &route.target {
        Target::Upstream(forwarding) => {
            let name = serving.upstream(forwarding.upstream).name().to_owned();
            let outgoing = crate::pipeline::upstream_request(worker, serving, client, exchange)?;
            return Ok(Outcome::Upstream(name, outgoing.head().to_vec()));
        }
        Target::Static { root, index_fallback } => {
            static_files::serve(root, *index_fallback, route.path(), request).await?
        }
        Target::Redirect(to) => redirect::answer(to, route.path(), request),
        Target::Answer(fixed) => fixed.answer(),
    };
    if let Some(edits) = &route.response_headers {
        let trusted_proxies = &snapshot.settings.server.trusted_proxies;
        edits.apply(
            Occasion { exchange, client, trusted_proxies, identity: identity.as_ref() },
            &mut response,
        )?;
    }
    Ok(Outcome::here(&response))
}

fn token_state(snapshot: &Snapshot, exchange: &Exchange<'_>) -> TokenState {
    let request = exchange.request;
    let credentials = match snapshot.routes.select(request) {
        Ok(route) if route.access == Access::Public => return TokenState::NotAskedFor,
        Ok(route) => authorize::credentials(route, request),
        Err(_) => Bearer::of(request.head()),
    };
    let token = match credentials.map(|bearer| bearer.map(Bearer::token).transpose()) {
        Ok(Ok(Some(token))) => token,
        Ok(Ok(None)) => return TokenState::None,
        Ok(Err(rejection)) | Err(rejection) => return TokenState::Unreadable(rejection),
    };
    match snapshot.verifier.verify(token, TokenType::Access, exchange.now()) {
        Ok(claims) => TokenState::Good(claims),
        Err(error) => TokenState::Refused(error, snapshot.verifier.verify_signed(token, exchange.now()).ok()),
    }
}
