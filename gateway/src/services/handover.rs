//! One sign-in for hosts that share no domain: `browser.login_host` hands a session over to the host that a person came from,
//! by a code in an address that counts once, there only, and in the browser only that began the sign-in.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use http::header::{REFERRER_POLICY, SET_COOKIE};

use crate::admission::RequestView;
use crate::auth::credentials::browser_cookies;
use crate::browser::cookies::{CookieKind, CookieScope};
use crate::browser::pages::{Refusal, RefusalContext};
use crate::browser::return_address::ReturnAddress;
use crate::browser::{Browser, CookieChange, accept_language};
use crate::clock::UnixMillis;
use crate::identity::Identity;
use crate::rejection::Rejection;
use crate::rejection::{store_unavailable, users_unavailable};
use crate::request::RequestContext;
use crate::response::{Response, header_value};
use crate::services::foreign;
use crate::services::login::new_session;
use crate::services::sign_in_page::{query_value, see_other};
use crate::services::token_response::{Grant, Recipient, issue};
use crate::sessions::{IssuedTokens, RevocationReason, SessionId, TokenId};

/// How long a sign-in on another host may take, in seconds.
const STATE_MAX_AGE: u64 = 600;

/// Leads a person to the sign-in page, and from there to `return_to`, an address of the request's host.
pub(crate) fn to_sign_in(context: &RequestContext, browser: &Browser, return_to: &ReturnAddress) -> Response {
    let own = context.own_origin();
    let Some(login_host) = browser.login_elsewhere(own) else {
        return see_other(&browser.pages.login_link(return_to, false));
    };
    if !browser.hands_over() {
        return see_other(&browser.login_link_at(login_host, return_to, own, None));
    }
    // Several tabs of one browser share it.
    let known = browser_cookies(browser, context).state.and_then(|state| std::str::from_utf8(state).ok());
    let is_state = |state: &&str| state.len() == 22 && URL_SAFE_NO_PAD.decode(state).is_ok();
    let state = known.filter(is_state).map_or_else(|| TokenId::random().to_string(), str::to_owned);
    let mut response = see_other(&browser.login_link_at(login_host, return_to, own, Some(&state)));
    let scope = CookieScope::of(own);
    let cookie = browser.cookies.set(CookieKind::State, &state, scope, Some(STATE_MAX_AGE));
    response.headers_mut().append(SET_COOKIE, header_value(&cookie));
    response
}

/// A sign-in on this host.
#[derive(Debug)]
pub(crate) struct SignIn {
    session: SessionId,
    subject: String,
    ends_at: UnixMillis,
    remember: bool,
}

impl SignIn {
    pub(crate) async fn of_identity(
        context: &RequestContext,
        identity: &Identity,
        remember: bool,
    ) -> Result<SignIn, Rejection> {
        let claims = identity.claims();
        let subject = foreign::account_id(context, claims).await?;
        let ends_at = claims.session_expires_at().unwrap_or_else(|| claims.expires_at());
        Ok(SignIn {
            session: *identity.session(),
            subject,
            ends_at: UnixMillis::of_seconds(ends_at),
            remember,
        })
    }

    pub(crate) fn new(context: &RequestContext, tokens: &IssuedTokens, remember: bool) -> SignIn {
        let ends_at = UnixMillis::of_seconds(
            context.now().saturating_add(Duration::from_secs(tokens.session_expires_in)),
        );
        SignIn { session: tokens.session, subject: tokens.subject.clone(), ends_at, remember }
    }
}

/// Where a person who has signed in here goes on: `return_to`, by way of the hand-over where that is another host.
///
/// # Errors
///
/// The store or the users' source does not answer.
pub(crate) async fn go_on(
    context: &RequestContext,
    browser: &Browser,
    sign_in: SignIn,
    return_to: &ReturnAddress,
    state: &str,
) -> Result<Response, Rejection> {
    let other = return_to.other_origin().filter(|_| browser.hands_over());
    let Some((origin, host)) = other.and_then(|origin| Some((origin, origin.split_once("://")?.1))) else {
        return Ok(see_other(return_to.as_str()));
    };
    let user = context.state.config.users.by_id(&sign_in.subject).await.map_err(|e| users_unavailable(&e))?;
    let Some(user) = user.filter(|user| !user.disabled) else {
        return Ok(see_other(return_to.as_str()));
    };
    let new = new_session(context, &user);
    let sessions = &context.worker.gateway.sessions;
    let opened = sessions.hand_over(new, sign_in.session, host, sign_in.ends_at, context.now_millis).await;
    let opened = opened.map_err(|e| store_unavailable(&e))?;
    context.audit("handover", "success", &user.username, Some(opened.session.to_string()));
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("code", &format!("{}.{}", opened.session, opened.refresh_token));
    query.append_pair("state", state);
    if sign_in.remember {
        query.append_pair("remember", "1");
    }
    query.append_pair("return", return_to.as_str());
    let mut response = see_other(&format!("{origin}{}?{}", browser.pages.continue_path(), query.finish()));
    response.headers_mut().insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(response)
}

/// `GET /login/continue`: claims the session that was handed over to this host.
///
/// # Errors
///
/// The store or the users' source does not answer.
pub(crate) async fn receive(
    context: &Rc<RequestContext>,
    browser: &Browser,
    request: RequestView<'_>,
) -> Result<Response, Rejection> {
    let own = context.own_origin();
    let value = |name: &str| query_value(request, name).unwrap_or_default();
    let return_to = browser.return_address(&context.head, &context.client, &value("return"));
    let lost = |browser: &Browser| {
        let about =
            RefusalContext { user: None, return_to: &return_to, request_id: context.request_id.as_str() };
        let language = accept_language(&context.head);
        browser.pages.refusal(http::StatusCode::FORBIDDEN, language, Refusal::SignInLost, about)
    };
    // The address may have been sent to somebody else, who would be signed in as its sender.
    let state = value("state");
    let is_own_browser =
        !state.is_empty() && browser_cookies(browser, context).state == Some(state.as_bytes());
    let code = value("code");
    let code = code.split_once('.').and_then(|(session, code)| {
        Some((session.parse::<SessionId>().ok()?, code.parse::<TokenId>().ok()?))
    });
    let Some((session, code)) = code.filter(|_| is_own_browser) else { return Ok(lost(browser)) };
    let (sessions, now) = (&context.worker.gateway.sessions, context.now_millis);
    let claimed =
        sessions.claim(session, code, &own.host_with_port(), now).await.map_err(|e| store_unavailable(&e))?;
    let Some((opened, record)) = claimed else {
        context.audit("handover", "refused", "-", Some(session.to_string()));
        return Ok(lost(browser));
    };
    let user = context.state.config.users.by_id(&record.subject).await.map_err(|e| users_unavailable(&e))?;
    let user = user.filter(|user| !user.disabled && user.credential_fingerprint() == record.credential);
    let Some(user) = user else {
        let ended = sessions.revoke(session, RevocationReason::AccountChanged, now).await;
        ended.map_err(|e| store_unavailable(&e))?;
        return Ok(lost(browser));
    };
    let tokens =
        Arc::new(issue(context, Grant::of_login(&user, &opened, Recipient::Cookies, context.now()))?);
    context.audit("handover", "claimed", &user.username, Some(session.to_string()));
    context.record.username.replace(Some(user.username.clone()));
    let remember = browser.remember_me.applies(!value("remember").is_empty());
    context.record.cookies.replace(Some(CookieChange::Set { tokens, remember }));
    Ok(see_other(return_to.as_str()))
}
