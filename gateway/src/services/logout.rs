//! `POST /logout` and `POST /logout-all`: ending a session, or all of a user's.

use http::StatusCode;

use crate::auth::bearer::{Bearer, bearer_token};
use crate::layers::authenticate::{authenticate, missing, refusal};
use crate::pipeline::Facts;
use crate::rejection::{Code, Rejection};
use crate::response::Response;
use crate::services::endpoints::{Call, store_unavailable};
use crate::sessions::RevocationReason;

/// Ends the session of the token, whichever of its tokens it is. An expired token will do: who wants to leave may
/// . Leaving twice is leaving.
pub(crate) async fn logout<'c>(call: Call<'_>, facts: &mut Facts) -> Result<Response<'c>, Rejection> {
    let token = bearer_token(call.exchange.request.head())?.ok_or_else(|| missing(call.worker))?;
    let claims = call.snapshot.verifier.verify_signed(token, call.exchange.now()).map_err(refusal)?;
    let session = claims.sid().parse();
    let session = session.map_err(|_| Rejection::new(Code::InvalidToken, "the token names no session"))?;
    let sessions = &call.worker.gateway.sessions;
    let ended = sessions.revoke(session, RevocationReason::Logout, call.now_millis()).await;
    ended.map_err(|e| store_unavailable(&e))?;
    call.worker.metrics.logout();
    call.audit("logout", "success", claims.username(), Some(session.to_string()));
    facts.username = Some(claims.username().to_owned());
    Ok(over())
}

/// Ends every session of the user. That takes a good access token.
pub(crate) async fn logout_all<'c>(call: Call<'_>, facts: &mut Facts) -> Result<Response<'c>, Rejection> {
    let (worker, exchange) = (call.worker, call.exchange);
    let identity = authenticate(worker, call.serving, Bearer::of(exchange.request.head())?, exchange.now())?;
    let identity = identity.ok_or_else(|| missing(worker))?;
    let subject = identity.claims().subject();
    let ended =
        worker.gateway.sessions.revoke_all(subject, RevocationReason::LogoutAll, call.now_millis()).await;
    ended.map_err(|e| store_unavailable(&e))?;
    worker.metrics.logout();
    call.audit("logout-all", "success", identity.claims().username(), None);
    facts.identity = Some(identity);
    Ok(over())
}

fn over<'c>() -> Response<'c> {
    Response::new(StatusCode::NO_CONTENT).field("Cache-Control", "no-store")
}
