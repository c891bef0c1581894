//! `GET /sessions` and `DELETE /sessions/SID`: users list and revoke their own sessions, with a token or with a browser's session.

use std::net::IpAddr;
use std::rc::Rc;

use http::StatusCode;
use serde::Serialize;

use crate::auth::authenticate::{authenticate_endpoint, missing};
use crate::auth::bearer::Bearer;
use crate::auth::credentials::browser_cookies;
use crate::browser::csrf;
use crate::config::{Dpop, Settings};
use crate::identity::Identity;
use crate::rejection::Rejection;
use crate::rejection::store_unavailable;
use crate::request::RequestContext;
use crate::response::{self, Response};
use crate::services::cookie_session::resolve;
use crate::services::foreign;
use crate::sessions::{SessionId, SessionInfo};
use crate::tokens::UnixSeconds;

/// The user's sessions, newest first.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Body {
    sessions: Vec<Entry>,
    features: Vec<&'static str>,
}

/// Times are seconds since 1970.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Entry {
    sid: SessionId,
    started_at: UnixSeconds,
    /// Accurate to a minute.
    last_refreshed_at: UnixSeconds,
    expires_at: UnixSeconds,
    address: Option<IpAddr>,
    /// The client's `User-Agent`.
    client: Option<String>,
    /// Whether the request belongs to it.
    current: bool,
}

impl Body {
    fn of(sessions: Vec<SessionInfo>, current: SessionId, features: Vec<&'static str>) -> Body {
        let entry = |session: SessionInfo| Entry {
            sid: session.id,
            started_at: session.started_at.seconds(),
            last_refreshed_at: session.last_refreshed_at.seconds(),
            expires_at: session.expires_at.seconds(),
            address: session.client.address,
            client: session.client.user_agent,
            current: session.id == current,
        };
        Body { sessions: sessions.into_iter().map(entry).collect(), features }
    }
}

/// What else users can do for their accounts here, by the names of the settings: so that a page asks for nothing that is off.
fn features(settings: &Settings) -> Vec<&'static str> {
    let all = [
        ("mfa", settings.mfa.enabled),
        ("password_change", settings.users.password_change),
        ("personal_tokens", settings.personal_tokens.enabled),
    ];
    all.into_iter().filter(|(_, is_on)| *is_on).map(|(name, _)| name).collect()
}

/// Lists the user's sessions.
pub(crate) async fn list(context: &Rc<RequestContext>) -> Result<Response, Rejection> {
    let identity = user(context).await?;
    let subject = &foreign::account_id(context, identity.claims()).await?;
    let sessions = context.worker.gateway.sessions.list(Some(subject), context.now_millis).await;
    let features = features(&context.state.config.settings);
    let body = Body::of(sessions.map_err(|e| store_unavailable(&e))?, *identity.session(), features);
    context.record.identity.replace(Some(identity));
    Ok(response::no_store(response::json(StatusCode::OK, &body)))
}

/// Revokes one of them; 404 for one that has ended or belongs to another user.
pub(crate) async fn end(context: &Rc<RequestContext>, path: &str) -> Result<Response, Rejection> {
    let identity = user(context).await?;
    let id: SessionId =
        path.rsplit_once('/').and_then(|(_, id)| id.parse().ok()).ok_or(Rejection::SessionNotFound)?;
    let subject = &foreign::account_id(context, identity.claims()).await?;
    let ended = context.worker.gateway.sessions.revoke_of(Some(subject), id, context.now_millis).await;
    if !ended.map_err(|e| store_unavailable(&e))? {
        return Err(Rejection::SessionNotFound);
    }
    context.worker.metrics.logout();
    context.audit("revoke", "success", identity.claims().username(), Some(id.to_string()));
    context.record.identity.replace(Some(identity));
    Ok(response::no_store(response::empty(StatusCode::NO_CONTENT)))
}

async fn user(context: &Rc<RequestContext>) -> Result<Rc<Identity>, Rejection> {
    caller(context).await?.ok_or_else(|| missing(&context.worker))
}

/// The identity by an access token or, without one, by the cookies of a browser's session; `None` where there is neither.
///
/// # Errors
///
/// They are not good, or the page of somebody else has sent the cookies.
pub(super) async fn caller(context: &Rc<RequestContext>) -> Result<Option<Rc<Identity>>, Rejection> {
    let dpop = context.state.config.settings.tokens.dpop != Dpop::Off;
    if Bearer::of_either(&context.head, dpop)?.is_some() {
        return authenticate_endpoint(context).await.map(Some);
    }
    let Some(browser) = &context.state.config.browser else { return Ok(None) };
    let cookies = browser_cookies(browser, context);
    if !cookies.is_empty() && csrf::needs_check(context.head.method(), false) {
        browser.require_own_page(&context.head, &context.client)?;
    }
    resolve(context, browser, cookies).await
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::clock::UnixMillis;
    use crate::sessions::ClientInfo;

    #[test]
    fn sessions_are_listed_in_seconds_with_their_client_and_the_current_one() {
        let ids = [SessionId::random(), SessionId::random()];
        let session = |id| SessionInfo {
            id,
            subject: "1".into(),
            username: "alice".into(),
            started_at: UnixMillis::new(5_999),
            last_refreshed_at: UnixMillis::new(6_000),
            expires_at: UnixMillis::new(9_000),
            client: ClientInfo::new("192.0.2.1".parse().unwrap(), None),
        };
        let body = serde_json::to_value(Body::of(ids.map(session).into(), ids[1], vec!["mfa"])).unwrap();
        assert_eq!(
            body["sessions"][1],
            serde_json::json!({
                "sid": ids[1].to_string(), "started_at": 5, "last_refreshed_at": 6, "expires_at": 9,
                "address": "192.0.2.1", "client": null, "current": true,
            })
        );
        assert_eq!(body["sessions"][0]["current"], false);
        assert_eq!(body["features"], serde_json::json!(["mfa"]));
    }
}
