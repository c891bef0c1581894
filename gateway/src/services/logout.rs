//! `POST /logout` and `POST /logout-all`: revoke a session, or all of a user's.

use http::StatusCode;

use crate::auth::authenticate::{authenticate_endpoint, missing, refusal};
use crate::auth::bearer::signed_token;
use crate::auth::dpop::require_binding;
use crate::config::Dpop;
use crate::rejection::Rejection;
use crate::rejection::store_unavailable;
use crate::request::RequestContext;
use crate::response::{self, Response};
use crate::services::foreign;
use crate::sessions::RevocationReason;
use crate::tokens::VerifiedClaims;

/// Revokes the session of the token, of either type. An expired token is accepted. Idempotent.
pub(crate) async fn logout(context: &RequestContext) -> Result<Response, Rejection> {
    let dpop = context.state.config.settings.tokens.dpop;
    let bearer = signed_token(&context.head, dpop != Dpop::Off)?.ok_or_else(|| missing(&context.worker))?;
    let token = bearer.token()?;
    let claims = context.state.config.verifier.verify_signed(token, context.now()).map_err(refusal)?;
    let key = claims.bound_key().map_err(refusal)?;
    // One who logged in before proofs were required can still leave.
    if let Some(proof) = require_binding(context, dpop.min(Dpop::Optional), bearer, key)? {
        proof.claim(context).await?;
    }
    end_session_of(context, &claims).await?;
    context.record.username.replace(Some(claims.username().to_owned()));
    Ok(logged_out())
}

/// Revokes the session that a token with these claims belongs to.
///
/// # Errors
///
/// The store or the users are unavailable (503).
pub(super) async fn end_session_of(
    context: &RequestContext,
    claims: &VerifiedClaims,
) -> Result<(), Rejection> {
    let user = if claims.is_foreign() { foreign::user_of(context, claims).await? } else { None };
    let session = foreign::session_of(context, claims, user.as_deref()).await?;
    let sessions = &context.worker.gateway.sessions;
    let ended = sessions.revoke(session, RevocationReason::Logout, context.now_millis).await;
    ended.map_err(|e| store_unavailable(&e))?;
    context.worker.metrics.logout();
    context.audit("logout", "success", claims.username(), Some(session.to_string()));
    Ok(())
}

/// Revokes all sessions of the user. Requires a valid access token.
pub(crate) async fn logout_all(context: &RequestContext) -> Result<Response, Rejection> {
    let worker = &context.worker;
    let identity = authenticate_endpoint(context).await?;
    let subject = &foreign::account_id(context, identity.claims()).await?;
    let ended =
        worker.gateway.sessions.revoke_all(subject, RevocationReason::LogoutAll, context.now_millis).await;
    ended.map_err(|e| store_unavailable(&e))?;
    worker.metrics.logout();
    context.audit("logout-all", "success", identity.claims().username(), None);
    context.record.identity.replace(Some(identity));
    Ok(logged_out())
}

/// 204.
pub(crate) fn logged_out() -> Response {
    response::no_store(response::empty(StatusCode::NO_CONTENT))
}
