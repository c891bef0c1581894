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
use crate::auth::credentials::{Credentials, browser_cookies, credentials};
use crate::auth::identity::Identity;
use crate::auth::token_cache::CacheLookup;
use crate::browser::csrf::{self, RequestSource};
use crate::browser::own_origin;
use crate::config::Access;
use crate::http1::HeaderKind;
use crate::issuers::IssuerSet;
use crate::layers::other_issuers::{self, Lookup, Pending};
use crate::layers::route::Route;
use crate::layers::step::StepFuture;
use crate::rejection::Rejection;
use crate::request::{Authenticated, Routed};
use crate::response::Response;
use crate::runtime::Worker;
use crate::services::cookie_session::{self, CookieLookup};
use crate::services::machine_credentials;
use crate::sessions::personal_token::PresentedToken;
use crate::telemetry::VerificationOutcome;
use crate::tokens::{TokenError, TokenType, UnixSeconds};
use crate::worker_state::WorkerState;

/// Puts authentication before a service. Nothing of the body has been asked for so far, so a client that waits for
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
    /// Shared with requests that wait for a refresh.
    inner: Rc<RefCell<S>>,
}

type Refreshing = Pin<Box<dyn Future<Output = Result<Response, Rejection>>>>;

impl<S> Service<Routed> for AuthenticateService<S>
where
    S: Service<Authenticated, Response = Response, Error = Rejection> + 'static,
{
    type Response = Response;
    type Error = Rejection;
    type Future = Either<StepFuture<S::Future>, Refreshing>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.borrow_mut().poll_ready(cx)
    }

    fn call(&mut self, routed: Routed) -> Self::Future {
        match find_identity(&routed) {
            Ok(Found::Known { identity, by_cookie }) => {
                let request = Authenticated::new(routed, identity, by_cookie);
                Either::Left(StepFuture::Passed { inner: self.inner.borrow_mut().call(request) })
            }
            // Boxed, for it is needed once in the life of an access token.
            Ok(Found::NeedsRefresh) => {
                Either::Right(Box::pin(refresh_and_call(routed, Rc::clone(&self.inner))))
            }
            Ok(Found::NeedsVerification) => {
                Either::Right(Box::pin(verify_and_call(routed, Rc::clone(&self.inner))))
            }
            // Boxed, for it is needed when an issuer's keys change, and once in a while for an opaque token.
            Ok(Found::NeedsIssuer(pending)) => {
                Either::Right(Box::pin(resolve_and_call(routed, pending, Rc::clone(&self.inner))))
            }
            Err(rejection) => Either::Left(StepFuture::decided(Err(rejection))),
        }
    }
}

/// What is found out at once.
enum Found {
    Known {
        identity: Option<Rc<Identity>>,
        by_cookie: bool,
    },
    /// The access token in the session's cookie has expired.
    NeedsRefresh,
    /// The store or the users have to be read.
    NeedsVerification,
    /// The token's issuer has to be asked.
    NeedsIssuer(Pending),
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
                Lookup::Found(identity) => (Some(identity), false),
                Lookup::Pending(pending) => return Ok(Found::NeedsIssuer(pending)),
            }
        }
        Credentials::Bearer(bearer) => {
            let identity = authenticate(&context.worker, &context.state, Some(bearer), context.now())?;
            require_fresh_revocations(&context.worker, context.now_millis)?;
            (identity, false)
        }
        Credentials::Personal(token) => match machine_credentials::cached(context, token)? {
            Some(identity) => (Some(identity), false),
            None => return Ok(Found::NeedsVerification),
        },
        Credentials::Basic(_) => {
            require_no_foreign_page(routed)?;
            return Ok(Found::NeedsVerification);
        }
        Credentials::Cookies(cookies) => {
            require_own_page(routed)?;
            match cookie_session::lookup(context, cookies) {
                Ok(CookieLookup::Found(identity)) => (Some(identity), true),
                Ok(CookieLookup::NeedsRefresh) => return Ok(Found::NeedsRefresh),
                Ok(CookieLookup::None) => (None, true),
                Err(rejection) => (without_session(route, rejection)?, true),
            }
        }
    };
    if identity.is_some() {
        context.record.identity.replace(identity.clone());
    }
    Ok(Found::Known { identity, by_cookie })
}

async fn refresh_and_call<S>(routed: Routed, inner: Rc<RefCell<S>>) -> Result<Response, Rejection>
where
    S: Service<Authenticated, Response = Response, Error = Rejection>,
{
    let context = Rc::clone(routed.context());
    let Some(browser) = &context.state.config.browser else {
        return Err(missing(&context.worker));
    };
    let cookies = browser_cookies(browser, &context);
    let (identity, delivery) = match cookie_session::refresh(&context, browser, cookies).await {
        Ok((identity, delivery)) => (Some(identity), Some(delivery)),
        Err(rejection) => (without_session(routed.route(), rejection)?, None),
    };
    context.record.identity.replace(identity.clone());
    let call = inner.borrow_mut().call(Authenticated::new(routed, identity, true));
    let response = call.await;
    if let Some(delivery) = delivery {
        match context.is_verdict() {
            true => delivery.relay(),
            false => delivery.complete(&context).await,
        }
    }
    response
}

async fn verify_and_call<S>(routed: Routed, inner: Rc<RefCell<S>>) -> Result<Response, Rejection>
where
    S: Service<Authenticated, Response = Response, Error = Rejection>,
{
    let context = Rc::clone(routed.context());
    let identity = {
        let credentials = credentials(routed.route(), routed.view(), &context)?;
        machine_credentials::verify(&context, credentials).await?
    };
    context.record.identity.replace(identity.clone());
    let call = inner.borrow_mut().call(Authenticated::new(routed, identity, false));
    call.await
}

async fn resolve_and_call<S>(
    routed: Routed,
    pending: Pending,
    inner: Rc<RefCell<S>>,
) -> Result<Response, Rejection>
where
    S: Service<Authenticated, Response = Response, Error = Rejection>,
{
    let identity = Some(other_issuers::resolve(routed.context(), pending).await?);
    routed.context().record.identity.replace(identity.clone());
    let call = inner.borrow_mut().call(Authenticated::new(routed, identity, false));
    call.await
}

/// What a session that is over means to a route: nothing where none is needed, for a browser keeps old cookies without a
/// person's doing.
fn without_session(route: &Route, rejection: Rejection) -> Result<Option<Rc<Identity>>, Rejection> {
    match route.access != Access::Authenticated && rejection.code().status() == StatusCode::UNAUTHORIZED {
        true => Ok(None),
        false => Err(rejection),
    }
}

/// Refuses requests with the session's cookies that a page of somebody else has sent.
fn require_own_page(routed: &Routed) -> Result<(), Rejection> {
    let (context, headers) = (routed.context(), routed.view().headers());
    let Some(browser) = &context.state.config.browser else { return Ok(()) };
    match csrf::needs_check(routed.view().method(), headers.asks_for_upgrade()) {
        true => browser.require_own_page(context),
        false => Ok(()),
    }
}

/// Refuses requests with Basic credentials that a page of somebody else has sent: a browser adds them by itself, as it does cookies.
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

/// The identity of a request's bearer token, or `None` if it has none.
pub(crate) fn authenticate(
    worker: &Worker,
    state: &WorkerState,
    bearer: Option<Bearer<'_>>,
    now: UnixSeconds,
) -> Result<Option<Rc<Identity>>, Rejection> {
    let Some(bearer) = bearer else { return Ok(None) };
    let revocations = worker.gateway.sessions.revocations();
    let config = &*state.config;
    let leeway = config.verifier.leeway();
    match state.token_cache.borrow_mut().get(bearer.as_bytes(), now, leeway, revocations) {
        CacheLookup::Good(identity) if identity.origin().is_some() => {
            return Err(refused(
                worker,
                TokenError::Invalid("only the gateway's own tokens are accepted here"),
            ));
        }
        CacheLookup::Good(identity) => {
            worker.metrics.verification(VerificationOutcome::Cached);
            return Ok(Some(identity));
        }
        CacheLookup::Expired => return Err(refused(worker, TokenError::Expired)),
        CacheLookup::Revoked => return Err(revoked(worker)),
        CacheLookup::Unknown => {}
    }
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
    Ok(Some(identity))
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
