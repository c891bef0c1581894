//! What a request shows to say who sends it: a token, Basic credentials, or the cookies of a browser's session. Found here for every route.

use crate::admission::RequestView;
use crate::auth::basic::BasicCredentials;
use crate::auth::bearer::Bearer;
use crate::auth::dpop;
use crate::auth::websocket;
use crate::browser::Browser;
use crate::browser::cookies::SessionCookies;
use crate::config::Dpop;
use crate::issuers::{IssuerSet, Jws};
use crate::rejection::Rejection;
use crate::request::RequestContext;
use crate::routing::{Forwarding, Route, Target};
use crate::sessions::personal_token::PresentedToken;

/// The credentials of a request; nothing of them is verified.
#[derive(Debug)]
pub(crate) enum Credentials<'r> {
    None,
    Bearer(Bearer<'r>),
    /// A personal access token.
    Personal(Bearer<'r>),
    /// On routes with `basic` only.
    Basic(BasicCredentials),
    /// `Authorization` then belongs to the app.
    Cookies(SessionCookies<'r>),
}

/// Finds the credentials of a request. A session's cookies count before a token that is not the gateway's: it is the app's.
///
/// # Errors
///
/// `Authorization` is malformed, or there are two tokens.
pub(crate) fn credentials<'r>(
    route: &Route,
    request: RequestView<'r>,
    context: &'r RequestContext,
) -> Result<Credentials<'r>, Rejection> {
    if route.basic
        && route.issuers.has_own()
        && let Some(basic) = BasicCredentials::of(request.head())?
    {
        return Ok(Credentials::Basic(basic));
    }
    let bearer = bearer(route, request, dpop::mode(route, context) != Dpop::Off);
    let Some(browser) = &context.state.config.browser else { return from_bearer(bearer, route, context) };
    let cookies = browser_cookies(browser, context);
    if cookies.is_empty() || !route.issuers.has_own() {
        return from_bearer(bearer, route, context);
    }
    match bearer {
        Ok(Some(bearer)) if is_own(bearer, context) || names_accepted_issuer(bearer, route, context) => {
            from_bearer(Ok(Some(bearer)), route, context)
        }
        _ => Ok(Credentials::Cookies(cookies)),
    }
}

/// The session's cookies of a request.
pub(crate) fn browser_cookies<'r>(browser: &Browser, context: &'r RequestContext) -> SessionCookies<'r> {
    browser.session_cookies(context.head.headers(), context.own_origin())
}

fn from_bearer<'r>(
    bearer: Result<Option<Bearer<'r>>, Rejection>,
    route: &Route,
    context: &RequestContext,
) -> Result<Credentials<'r>, Rejection> {
    Ok(match bearer? {
        None => Credentials::None,
        Some(bearer) if route.issuers.has_own() && is_personal(bearer, context) => {
            Credentials::Personal(bearer)
        }
        Some(bearer) => Credentials::Bearer(bearer),
    })
}

/// Whether it means to be a personal access token, where these are on.
fn is_personal(bearer: Bearer<'_>, context: &RequestContext) -> bool {
    PresentedToken::is_meant_by(bearer.as_bytes()) && context.state.config.settings.personal_tokens.enabled
}

/// The token that a request brings, where its route looks for it; with `dpop`, it may be one that is bound to a key.
pub(crate) fn bearer<'r>(
    route: &Route,
    request: RequestView<'r>,
    dpop: bool,
) -> Result<Option<Bearer<'r>>, Rejection> {
    let bearer = Bearer::of_either(request.head(), dpop)?;
    let Target::Upstream(Forwarding { token_in_subprotocol: true, .. }) = route.target else {
        return Ok(bearer);
    };
    match (bearer, websocket::token(request, dpop)?) {
        (Some(_), Some(_)) => Err(Rejection::TokenInTwoPlaces),
        (bearer, token) => Ok(bearer.or(token)),
    }
}

/// Whether a token was made by the gateway, good or not.
fn is_own(bearer: Bearer<'_>, context: &RequestContext) -> bool {
    let Ok(token) = bearer.token() else { return false };
    if is_personal(bearer, context) {
        return PresentedToken::parse(token).is_some();
    }
    context.state.config.verifier.is_own(token, context.now())
}

/// Whether a token names another issuer whose tokens the route accepts.
fn names_accepted_issuer(bearer: Bearer<'_>, route: &Route, context: &RequestContext) -> bool {
    if route.issuers == IssuerSet::OWN {
        return false;
    }
    let token = bearer.token().ok().and_then(Jws::parse);
    let named = token.as_ref().and_then(|token| context.state.config.issuers.named_by(token));
    named.is_some_and(|(index, _)| route.issuers.has(index))
}
