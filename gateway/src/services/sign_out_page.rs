//! `GET /logout` and `POST /logout` or `/logout-all` of a browser: who is signed in, and the end of that.

use std::rc::Rc;

use http::HeaderValue;

use crate::admission::RequestView;
use crate::auth::credentials::browser_cookies;
use crate::browser::navigation::{RequestPurpose, purpose};
use crate::browser::{Browser, CookieChange, accept_language};
use crate::rejection::Rejection;
use crate::rejection::store_unavailable;
use crate::request::RequestContext;
use crate::response::Response;
use crate::services::cookie_session::{resolve, resolve_for_page, signed_claims};
use crate::services::foreign;
use crate::services::logout::logged_out;
use crate::services::sign_in_page::{query_value, see_other};
use crate::sessions::RevocationReason;
use crate::tokens::VerifiedClaims;

/// Shows who is signed in with the ways out, or that no user is.
pub(crate) async fn show(
    context: &Rc<RequestContext>,
    browser: &Browser,
    request: RequestView<'_>,
) -> Result<Response, Rejection> {
    let return_to = query_value(request, "return").unwrap_or_default();
    let return_to = browser.return_address(&context.head, &context.client, &return_to);
    let language = accept_language(&context.head);
    let (identity, _) = resolve_for_page(context, browser, browser_cookies(browser, context)).await?;
    Ok(match identity {
        Some(identity) => browser.pages.account(language, identity.claims().username(), &return_to),
        None => browser.pages.signed_out(language, &return_to),
    })
}

/// Ends the session of the cookies, or with `everywhere` all of its user. A form gets a page, a script 204.
pub(crate) async fn submit(
    context: &Rc<RequestContext>,
    browser: &Browser,
    everywhere: bool,
) -> Result<Response, Rejection> {
    browser.require_own_page(&context.head, &context.client)?;
    let cookies = browser_cookies(browser, context);
    let claims = signed_claims(context, cookies);
    let sessions = &context.worker.gateway.sessions;
    // That takes a session that has not ended, as it does with a token. The access cookie may name another user than the refresh
    // cookie once it has expired.
    if everywhere && claims.is_some() {
        if let Some(identity) = resolve(context, browser, cookies).await? {
            let subject = foreign::account_id(context, identity.claims()).await?;
            let ended = sessions.revoke_all(&subject, RevocationReason::LogoutAll, context.now_millis).await;
            ended.map_err(|e| store_unavailable(&e))?;
            record(context, "logout-all", identity.claims());
        }
        return Ok(signed_out(context, browser));
    }
    // With two sessions it cannot be said which of them is meant.
    if let Some(claims) = claims.filter(|_| !cookies.conflict)
        && let Ok(session) = claims.sid().parse()
    {
        let ended = match browser.hands_over() {
            // On all hosts that it was handed over to.
            true => sessions.revoke_sign_in(session, RevocationReason::Logout, context.now_millis).await,
            false => sessions.revoke(session, RevocationReason::Logout, context.now_millis).await,
        };
        ended.map_err(|e| store_unavailable(&e))?;
        record(context, "logout", &claims);
    }
    Ok(signed_out(context, browser))
}

fn record(context: &RequestContext, event: &'static str, claims: &VerifiedClaims) {
    context.worker.metrics.logout();
    context.audit(event, "success", claims.username(), Some(claims.sid().to_owned()));
    context.record.username.replace(Some(claims.username().to_owned()));
}

fn signed_out(context: &RequestContext, browser: &Browser) -> Response {
    context.record.cookies.replace(Some(CookieChange::Clear));
    let mut response = match purpose(context.head.method(), context.head.headers()) {
        RequestPurpose::Navigation | RequestPurpose::FormSubmission => {
            see_other(&format!("{}{}", context.client.prefix(&context.head), browser.pages.logout_path()))
        }
        RequestPurpose::Background | RequestPurpose::Other => logged_out(),
    };
    // "Back" would show pages of the session from the browser's cache to whoever comes next.
    response.headers_mut().insert("clear-site-data", HeaderValue::from_static("\"cache\""));
    response
}
