//! Authentication: from bearer token or session cookie to identity, through the token cache, by verifying the signature, or by a
//! refresh.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_util::future::Either;
use http::StatusCode;
use tower::{Layer, Service};

use crate::auth::authenticate::{authenticate, missing, require_fresh_revocations};
use crate::auth::bearer::Bearer;
use crate::auth::credentials::{Credentials, bearer, browser_cookies, credentials};
use crate::auth::dpop::{self, CheckedProof};
use crate::auth::other_issuers::{self, Lookup, Pending};
use crate::browser::csrf::{self, RequestSource};
use crate::config::{Access, Dpop};
use crate::http1::HeaderKind;
use crate::identity::Identity;
use crate::issuers::IssuerSet;
use crate::layers::step::StepFuture;
use crate::rejection::Rejection;
use crate::request::{Authenticated, Routed};
use crate::response::Response;
use crate::routing::Route;
use crate::services::cookie_session::{self, CookieLookup, Delivery};
use crate::services::machine_credentials;

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
        true => browser.require_own_page(&context.head, &context.client),
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
    match allowed || source.is_trusted(context.own_origin(), trusted) {
        true => Ok(()),
        false => Err(Rejection::ForeignPage),
    }
}
