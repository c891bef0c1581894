//! What the gateway answers itself: login, refresh, logout, and the public keys.

mod audit;
mod jwks;
mod login;
mod logout;
mod refresh;
mod token_answer;

use std::net::IpAddr;
use std::time::Duration;

use http::Method;

use super::client::Client;
use super::response::Response;
use super::serving::Serving;
use super::snapshot::Snapshot;
use super::{Exchange, Facts, Worker};
use crate::problem::{Code, Rejection};
use crate::sessions::{SourceNetwork, StoreError, UnixMillis};
use crate::users::SourceUnavailable;
use crate::wire::RequestBody;

/// The gateway's own endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Login,
    Refresh,
    Logout,
    LogoutAll,
    Jwks,
}

/// Where they are.
#[derive(Debug)]
pub(crate) struct Endpoints {
    paths: Vec<(String, Endpoint)>,
}

impl Endpoints {
    pub(crate) fn new(settings: &crate::config::Endpoints) -> Endpoints {
        let below_prefix = [
            ("/login", Endpoint::Login),
            ("/refresh", Endpoint::Refresh),
            ("/logout", Endpoint::Logout),
            ("/logout-all", Endpoint::LogoutAll),
        ];
        let prefixed = below_prefix.map(|(path, endpoint)| (format!("{}{path}", settings.prefix), endpoint));
        // Well-known addresses are well known: no prefix (RFC 8615).
        let jwks = ("/.well-known/jwks.json".to_owned(), Endpoint::Jwks);
        Endpoints { paths: prefixed.into_iter().chain([jwks]).collect() }
    }

    /// The endpoint at exactly that path.
    pub(crate) fn find(&self, path: &str) -> Option<Endpoint> {
        self.paths.iter().find(|(p, _)| p == path).map(|(_, endpoint)| *endpoint)
    }
}

/// Answers a request to one of them.
pub(crate) async fn serve<'c>(
    endpoint: Endpoint,
    worker: &Worker,
    serving: &Serving,
    client: &Client,
    exchange: &Exchange<'_>,
    facts: &mut Facts,
    body: RequestBody<'c>,
) -> Result<Response<'c>, Rejection> {
    let allowed: &[Method] = match endpoint {
        Endpoint::Jwks => &[Method::GET, Method::HEAD],
        _ => &[Method::POST],
    };
    if !allowed.contains(exchange.request.method()) {
        let allowed = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        return Err(
            Rejection::new(Code::MethodNotAllowed, "the endpoint does not take this method").allow(allowed)
        );
    }
    let snapshot = &*serving.snapshot;
    let call = Call { worker, serving, snapshot, client, exchange };
    match endpoint {
        Endpoint::Login => login::login(call, facts, body).await,
        Endpoint::Refresh => refresh::refresh(call, facts).await,
        Endpoint::Logout => logout::logout(call, facts).await,
        Endpoint::LogoutAll => logout::logout_all(call, facts).await,
        Endpoint::Jwks => Ok(jwks::jwks(snapshot)),
    }
}

/// What every endpoint needs.
#[derive(Clone, Copy)]
struct Call<'a> {
    worker: &'a Worker,
    serving: &'a Serving,
    snapshot: &'a Snapshot,
    client: &'a Client,
    exchange: &'a Exchange<'a>,
}

impl Call<'_> {
    /// Now, in the sessions' unit.
    fn now_millis(&self) -> u64 {
        self.exchange.now_millis
    }

    /// Where the request comes from, as far as trusted proxies tell.
    fn client_address(&self) -> IpAddr {
        self.client.address(self.exchange.request.head(), &self.snapshot.settings.server.trusted_proxies)
    }

    /// The network whose failures are counted together.
    fn network(&self) -> SourceNetwork {
        SourceNetwork::of(self.client_address())
    }
}

/// An outage is never told as a 401: a client must be able to keep its session through it.
fn store_unavailable(error: &StoreError) -> Rejection {
    tracing::error!(%error, "the session store failed");
    Rejection::new(Code::StoreUnavailable, "the session store did not answer")
        .retry_after(Duration::from_secs(2))
}

/// A source of users does not answer; it was logged when that began.
fn users_unavailable(error: &SourceUnavailable) -> Rejection {
    tracing::debug!(%error, "a source of users did not answer");
    Rejection::new(Code::StoreUnavailable, "the users cannot be looked up at the moment")
        .retry_after(Duration::from_secs(2))
}

/// The network has used up its failures.
fn rate_limited(retry_after: UnixMillis) -> Rejection {
    Rejection::new(Code::RateLimited, "too many failures came from this network")
        .retry_after(Duration::from_millis(retry_after))
}
