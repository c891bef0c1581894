//! Authentication: from bearer token or session cookie to identity, through the token cache, by verifying the signature, or by a
//! refresh.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_util::future::Either;
use http::StatusCode;
use tower::{Layer, Service};

use crate::auth::bearer::Bearer;
use crate::auth::credentials::{Credentials, bearer, browser_cookies, credentials};
use crate::auth::dpop::{self, CheckedProof};
use crate::browser::csrf::{self, RequestSource};
use crate::browser::own_origin;
use crate::config::{Access, Dpop};
use crate::http1::HeaderKind;
use crate::identity::Identity;
use crate::identity::token_cache::CacheLookup;
use crate::issuers::IssuerSet;
use crate::layers::other_issuers::{self, Lookup, Pending};
use crate::layers::route::Route;
use crate::layers::step::StepFuture;
use crate::rejection::Rejection;
use crate::request::{Authenticated, RequestContext, Routed};
use crate::response::Response;
use crate::runtime::Worker;
use crate::services::cookie_session::{self, CookieLookup, Delivery};
use crate::services::machine_credentials;
use crate::sessions::personal_token::PresentedToken;
use crate::telemetry::VerificationOutcome;
use crate::tokens::{TokenError, TokenType, UnixSeconds};
use crate::worker_state::WorkerState;

/// Puts authentication before a service. Nothing of the body has been requested so far, so a client that waits for
/// `100 Continue` gets its 401 instead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AuthenticateLayer;

impl<S> Layer<S> for AuthenticateLayer {
    type Service = AuthenticateService<S>;

    fn layer(&self, inner: S) -> AuthenticateService<S> {
        AuthenticateService { inner: Rc::new(RefCell::new(inner)) }
    }
}

/// See [`AuthenticateLayer`].
#[derive(Debug)]
pub(crate) struct AuthenticateService<S> {
    /// Shared with requests that wait for their identity.
    inner: Rc<RefCell<S>>,
}

type Waiting = Pin<Box<dyn Future<Output = Result<Response, Rejection>>>>;

impl<S> Service<Routed> for AuthenticateService<S>
where
    S: Service<Authenticated, Response = Response, Error = Rejection> + 'static,
{
    type Response = Response;
    type Error = Rejection;
    type Future = Either<StepFuture<S::Future>, Waiting>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.borrow_mut().poll_ready(cx)
    }

    fn call(&mut self, routed: Routed) -> Self::Future {
        match find_identity(&routed) {
            Ok(Found::Known { identity, by_cookie }) => {
                Either::Left(StepFuture::Passed { inner: call_as(&self.inner, routed, identity, by_cookie) })
            }
            // Boxed, for it is needed when a token has expired or is new, and where a proof is shared or answered with a nonce.
            Ok(Found::Pending(wait)) => {
                Either::Right(Box::pin(wait_and_call(routed, wait, Rc::clone(&self.inner))))
            }
            Err(rejection) => Either::Left(StepFuture::decided(Err(rejection))),
        }
    }
}

/// What is found out at once.
enum Found {
    Known { identity: Option<Rc<Identity>>, by_cookie: bool },
    Pending(Wait),
}

/// What a request waits for before its service is called.
enum Wait {
    /// A bound token with a good proof: it takes more than this process to determine whether that was used before, or the response
    /// needs a nonce.
    Proof { identity: Rc<Identity>, proof: CheckedProof },
    /// The access token in the session's cookie has expired.
    Refresh,
    /// The store or the users have to be read.
    Verification,
    /// The token's issuer has to be queried.
    Issuer(Pending),
}

fn find_identity(routed: &Routed) -> Result<Found, Rejection> {
    let (context, route) = (routed.context(), routed.route());
    if route.access == Access::Public || context.is_passed_preflight() {
        return Ok(Found::Known { identity: None, by_cookie: false });
    }
    let (identity, by_cookie) = match credentials(route, routed.view(), context)? {
        Credentials::None => (None, false),
        Credentials::Bearer(bearer) if route.issuers != IssuerSet::OWN => {
            match other_issuers::lookup(context, bearer, route.issuers)? {
                Lookup::Found(identity) => return prove(routed, bearer, identity),
                Lookup::Pending(pending) => return Ok(Found::Pending(Wait::Issuer(pending))),
            }
        }
        Credentials::Bearer(bearer) => {
            let identity = authenticate(&context.worker, &context.state, bearer, context.now())?;
            require_fresh_revocations(&context.worker, context.now_millis)?;
            return prove(routed, bearer, identity);
        }
        Credentials::Personal(token) => {
            // It is bound to no key.
            dpop::require_binding(context, dpop::mode(route, context), token, None)?;
            match machine_credentials::cached(context, token)? {
                Some(identity) => (Some(identity), false),
                None => return Ok(Found::Pending(Wait::Verification)),
            }
        }
        Credentials::Basic(_) => {
            if dpop::mode(route, context) == Dpop::Required {
                return Err(Rejection::DpopBasic);
            }
            require_no_foreign_page(routed)?;
            return Ok(Found::Pending(Wait::Verification));
        }
        Credentials::Cookies(cookies) => {
            require_own_page(routed)?;
            match cookie_session::lookup(context, cookies) {
                Ok(CookieLookup::Found(identity)) => (Some(identity), true),
                Ok(CookieLookup::NeedsRefresh) => return Ok(Found::Pending(Wait::Refresh)),
                Ok(CookieLookup::None) => (None, true),
                Err(rejection) => (without_session(route, rejection)?, true),
            }
        }
    };
    Ok(Found::Known { identity, by_cookie })
}

/// The identity of a token once its key was proven, where it is bound to one.
fn prove(routed: &Routed, bearer: Bearer<'_>, identity: Rc<Identity>) -> Result<Found, Rejection> {
    let context = routed.context();
    let mode = dpop::mode(routed.route(), context);
    if let Some(proof) = dpop::require_binding(context, mode, bearer, identity.key())? {
        if !proof.is_local(context) || proof.renews_nonce() {
            return Ok(Found::Pending(Wait::Proof { identity, proof }));
        }
        proof.claim_here(context)?;
    }
    Ok(Found::Known { identity: Some(identity), by_cookie: false })
}

/// Calls a service as this identity, which the access log has as well.
fn call_as<S: Service<Authenticated>>(
    inner: &RefCell<S>,
    routed: Routed,
    identity: Option<Rc<Identity>>,
    by_cookie: bool,
) -> S::Future {
    routed.context().record.identity.replace(identity.clone());
    inner.borrow_mut().call(Authenticated::new(routed, identity, by_cookie))
}

/// Calls a service when the identity is known.
async fn wait_and_call<S>(routed: Routed, wait: Wait, inner: Rc<RefCell<S>>) -> Result<Response, Rejection>
where
    S: Service<Authenticated, Response = Response, Error = Rejection>,
{
    let context = Rc::clone(routed.context());
    match wait {
        Wait::Proof { identity, proof } => {
            proof.claim(&context).await?;
            let mut response = call_as(&inner, routed, Some(identity), false).await?;
            if proof.renews_nonce() {
                dpop::insert_nonce(&context, &mut response);
            }
            Ok(response)
        }
        Wait::Refresh => {
            let (identity, delivery) = refresh(&routed).await?;
            let response = call_as(&inner, routed, identity, true).await;
            match delivery {
                Some(delivery) if context.is_verdict() => delivery.relay(),
                Some(delivery) => delivery.complete(&context).await,
                None => {}
            }
            response
        }
        Wait::Verification => {
            let credentials = credentials(routed.route(), routed.view(), &context)?;
            let identity = machine_credentials::verify(&context, credentials).await?;
            call_as(&inner, routed, identity, false).await
        }
        Wait::Issuer(pending) => {
            let identity = resolve(&routed, pending).await?;
            call_as(&inner, routed, Some(identity), false).await
        }
    }
}

/// The identity after a refresh, with the delivery of the new tokens; none where the session is over and the route needs none.
async fn refresh(routed: &Routed) -> Result<(Option<Rc<Identity>>, Option<Delivery>), Rejection> {
    let context = routed.context();
    let Some(browser) = &context.state.config.browser else {
        return Err(missing(&context.worker));
    };
    match cookie_session::refresh(context, browser, browser_cookies(browser, context)).await {
        Ok((identity, delivery)) => Ok((Some(identity), Some(delivery))),
        Err(rejection) => Ok((without_session(routed.route(), rejection)?, None)),
    }
}

/// The identity of another issuer's token, whose key was proven where it is bound to one.
async fn resolve(routed: &Routed, pending: Pending) -> Result<Rc<Identity>, Rejection> {
    let context = routed.context();
    let identity = other_issuers::resolve(context, pending).await?;
    let mode = dpop::mode(routed.route(), context);
    if let Some(bearer) = bearer(routed.route(), routed.view(), mode != Dpop::Off)? {
        dpop::require_and_claim(context, mode, bearer, &identity).await?;
    }
    Ok(identity)
}

/// What a session that is over means to a route: nothing where none is needed, for a browser keeps old cookies without a
/// person's doing.
fn without_session(route: &Route, rejection: Rejection) -> Result<Option<Rc<Identity>>, Rejection> {
    match route.access != Access::Authenticated && rejection.code().status() == StatusCode::UNAUTHORIZED {
        true => Ok(None),
        false => Err(rejection),
    }
}

/// Refuses requests with the session's cookies that a page of another origin has sent.
fn require_own_page(routed: &Routed) -> Result<(), Rejection> {
    let (context, headers) = (routed.context(), routed.view().headers());
    let Some(browser) = &context.state.config.browser else { return Ok(()) };
    match csrf::needs_check(routed.view().method(), headers.asks_for_upgrade()) {
        true => browser.require_own_page(context),
        false => Ok(()),
    }
}

/// Refuses requests with Basic credentials that a page of another origin has sent: a browser adds them by itself, as it does cookies.
/// Other clients do not say what page they are.
fn require_no_foreign_page(routed: &Routed) -> Result<(), Rejection> {
    let (context, headers) = (routed.context(), routed.view().headers());
    let source = RequestSource::of(headers);
    if !csrf::needs_check(routed.view().method(), headers.asks_for_upgrade()) || source.is_unknown() {
        return Ok(());
    }
    let config = &context.state.config;
    let trusted = config.browser.as_ref().map(|browser| &browser.trusted_origins[..]).unwrap_or_default();
    let allowed = headers
        .only(HeaderKind::Origin)
        .is_some_and(|origin| config.cors.of(Some(routed.route().index)).allows(origin.value));
    match allowed || source.is_trusted(own_origin(context), trusted) {
        true => Ok(()),
        false => Err(Rejection::ForeignPage),
    }
}

/// The identity of a request to an endpoint.
///
/// # Errors
///
/// There is none, or its token is not good.
pub(crate) async fn authenticate_endpoint(context: &RequestContext) -> Result<Rc<Identity>, Rejection> {
    let mode = context.state.config.settings.tokens.dpop;
    let bearer = Bearer::of_either(&context.head, mode != Dpop::Off)?;
    let bearer = bearer.ok_or_else(|| missing(&context.worker))?;
    let identity = authenticate(&context.worker, &context.state, bearer, context.now())?;
    dpop::require_and_claim(context, mode, bearer, &identity).await?;
    Ok(identity)
}

/// The identity of a request's bearer token. A token that is bound to a key must not be used before its proof was required: see
/// [`dpop::require_binding`].
pub(crate) fn authenticate(
    worker: &Worker,
    state: &WorkerState,
    bearer: Bearer<'_>,
    now: UnixSeconds,
) -> Result<Rc<Identity>, Rejection> {
    let (leeway, revocations) = (state.config.verifier.leeway(), worker.gateway.sessions.revocations());
    let cached = state.token_cache.borrow_mut().get(bearer.as_bytes(), now, leeway, revocations);
    match cached {
        CacheLookup::Good(identity) if identity.origin().is_some() => {
            Err(refused(worker, TokenError::Invalid("only the gateway's own tokens are accepted here")))
        }
        CacheLookup::Good(identity) => {
            worker.metrics.verification(VerificationOutcome::Cached);
            Ok(identity)
        }
        CacheLookup::Expired => Err(refused(worker, TokenError::Expired)),
        CacheLookup::Revoked => Err(revoked(worker)),
        CacheLookup::Unknown => verify(worker, state, bearer, now),
    }
}

/// The identity of one of the gateway's own tokens that is not in the cache.
pub(super) fn verify(
    worker: &Worker,
    state: &WorkerState,
    bearer: Bearer<'_>,
    now: UnixSeconds,
) -> Result<Rc<Identity>, Rejection> {
    let (config, revocations) = (&*state.config, worker.gateway.sessions.revocations());
    let token = bearer.token()?;
    if PresentedToken::is_meant_by(bearer.as_bytes()) {
        return Err(Rejection::PersonalTokenNotHere);
    }
    // Read before the lookup: a revocation in between makes the cache check again.
    let epoch = revocations.epoch();
    let claims = config.verifier.verify(token, TokenType::Access, now).map_err(|error| {
        if let Some(trace) = &worker.trace {
            trace.refused_token.replace(Some((error, config.verifier.verify_signed(token, now).ok())));
        }
        refused(worker, error)
    })?;
    if config.issuers.reserve(claims.subject()) {
        return Err(refused(worker, TokenError::Invalid("sub is in the namespace of another issuer")));
    }
    let identity = Rc::new(Identity::new(claims, &config.identity_headers)?);
    if revocations.is_revoked(identity.session()) {
        return Err(revoked(worker));
    }
    worker.metrics.verification(VerificationOutcome::Valid);
    state.token_cache.borrow_mut().insert(bearer.as_bytes(), Rc::clone(&identity), epoch);
    Ok(identity)
}

/// Rejects requests while the revocation set is stale, as configured by `store.redis.revocation`.
pub(crate) fn require_fresh_revocations(worker: &Worker, now_millis: u64) -> Result<(), Rejection> {
    if worker.gateway.sessions.revocations().are_trusted(now_millis) {
        return Ok(());
    }
    Err(Rejection::RevocationsUnknown)
}

/// The rejection of a request without a token.
pub(crate) fn missing(worker: &Worker) -> Rejection {
    worker.metrics.verification(VerificationOutcome::Missing);
    Rejection::AccessTokenMissing
}

/// The rejection of a token of a revoked session.
pub(super) fn revoked(worker: &Worker) -> Rejection {
    worker.metrics.verification(VerificationOutcome::Revoked);
    Rejection::SessionEnded
}

pub(super) fn refused(worker: &Worker, error: TokenError) -> Rejection {
    worker.metrics.verification(match error {
        TokenError::Invalid(_) => VerificationOutcome::Invalid,
        TokenError::Expired => VerificationOutcome::Expired,
        TokenError::NotYetValid => VerificationOutcome::NotYetValid,
        TokenError::WrongType => VerificationOutcome::WrongType,
    });
    refusal(error)
}

/// The rejection of an invalid token. The exact error of a forged one is only logged.
pub(crate) fn refusal(error: TokenError) -> Rejection {
    match error {
        TokenError::Invalid(reason) => {
            tracing::debug!(reason, "token refused");
            Rejection::TokenInvalid(reason)
        }
        TokenError::Expired => Rejection::TokenExpired,
        TokenError::NotYetValid => Rejection::TokenNotYetValid,
        TokenError::WrongType => Rejection::TokenOfWrongType,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_learns_no_more_of_a_bad_token_than_it_may() {
        for (error, rejection) in [
            (
                TokenError::Invalid("the signature does not match"),
                Rejection::TokenInvalid("the signature does not match"),
            ),
            (TokenError::Expired, Rejection::TokenExpired),
            (TokenError::NotYetValid, Rejection::TokenNotYetValid),
            (TokenError::WrongType, Rejection::TokenOfWrongType),
        ] {
            assert_eq!(refusal(error), rejection);
        }
    }
}
