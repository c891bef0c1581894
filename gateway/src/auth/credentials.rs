//! What a request shows to say who sends it: a Bearer token, or the cookies of a browser's session. Found here for every route.

use crate::auth::bearer::Bearer;
use crate::auth::dpop;
use crate::browser::cookies::SessionCookies;
use crate::browser::{Browser, own_origin};
use crate::config::Dpop;
use crate::layers::route::{Forwarding, Route, Target};
use crate::proxy::websocket;
use crate::rejection::Rejection;
use crate::request::{RequestContext, RequestView};

/// The credentials of a request; nothing of them is verified.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Credentials<'r> {
    None,
    Bearer(Bearer<'r>),
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
    let bearer = bearer(route, request, dpop::mode(route, context) != Dpop::Off);
    let Some(browser) = &context.state.config.browser else { return from_bearer(bearer) };
    let cookies = browser_cookies(browser, context);
    if cookies.is_empty() {
        return from_bearer(bearer);
    }
    match bearer {
        Ok(Some(bearer)) if is_own(bearer, context) => Ok(Credentials::Bearer(bearer)),
        _ => Ok(Credentials::Cookies(cookies)),
    }
}

/// The session's cookies of a request.
pub(crate) fn browser_cookies<'r>(browser: &Browser, context: &'r RequestContext) -> SessionCookies<'r> {
    browser.session_cookies(context.head.headers(), own_origin(context))
}

fn from_bearer(bearer: Result<Option<Bearer<'_>>, Rejection>) -> Result<Credentials<'_>, Rejection> {
    Ok(bearer?.map_or(Credentials::None, Credentials::Bearer))
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

/// Whether a token was signed by the gateway, good or not.
fn is_own(bearer: Bearer<'_>, context: &RequestContext) -> bool {
    let Ok(token) = bearer.token() else { return false };
    context.state.config.verifier.is_own(token, context.now())
}
