//! `POST /refresh`: exchanges a refresh token for a new access token, and in most modes for its own
//! successor.

use crate::auth::authenticate::refusal;
use crate::auth::bearer::signed_token;
use crate::auth::dpop::{self, CheckedProof};
use crate::config::Dpop;
use crate::rejection::store_unavailable;
use crate::rejection::{Code, Rejection};
use crate::request::RequestContext;
use crate::request_body::RequestBody;
use crate::response::Response;
use crate::services::foreign;
use crate::services::login::only_json;
use crate::services::proxy::bad_body;
use crate::services::token_response::{Grant, NewRefreshToken, Recipient, issue, respond};
use crate::sessions::{
    Account, IssuedTokens, RateLimitDecision, RateLimitScope, RefreshError, Session, SessionId,
};
use crate::strict_json;
use crate::telemetry::{AuditEvent, RefreshOutcome};
use crate::tokens::{KeyThumbprint, TokenType, VerifiedClaims};

/// Refreshes the session of a refresh token.
pub(crate) async fn refresh(context: &RequestContext, body: RequestBody) -> Result<Response, Rejection> {
    let (token, claims) = match presented(context, body).await {
        Ok(presented) => presented,
        Err(rejection) => return Err(not_presented(context, rejection).await),
    };
    let proof = proof(context, &token, &claims).await.inspect_err(|rejection| {
        context.worker.metrics.refresh(match rejection {
            Rejection::DpopKeyMismatch | Rejection::DpopTokenAsBearer => RefreshOutcome::WrongKey,
            _ => RefreshOutcome::Invalid,
        });
    })?;
    let key = proof.as_ref().map(|proof| proof.key);
    let tokens = redeem(context, &claims, key, Recipient::Client).await?;
    Ok(respond(context, tokens, proof.as_ref()))
}

/// The proof of the key that the refresh token is bound to, or is to be bound to from now on. It is used.
async fn proof(
    context: &RequestContext,
    token: &str,
    claims: &VerifiedClaims,
) -> Result<Option<CheckedProof>, Rejection> {
    let proof = dpop::of_token_request(context, Some(token.as_bytes()))?;
    dpop::require_key(context, claims.bound_key().map_err(refusal)?, proof.as_ref())?;
    if let Some(proof) = &proof {
        proof.claim(context).await?;
    }
    Ok(proof)
}

/// New tokens for the refresh token with these claims, bound to `key`, which the client has proven to hold.
///
/// # Errors
///
/// The session is over (401), or nothing is known of it at the moment (503).
pub(crate) async fn redeem(
    context: &RequestContext,
    claims: &VerifiedClaims,
    key: Option<KeyThumbprint>,
    recipient: Recipient,
) -> Result<IssuedTokens, Rejection> {
    let metrics = &context.worker.metrics;
    // The user is looked up again: a session of one who was disabled or deleted, or has a new password, ends
    // here; new roles take effect.
    let user = foreign::user_of(context, claims).await?.filter(|user| !user.disabled);
    let session = foreign::session_of(context, claims, user.as_deref()).await?;
    let presented = foreign::refresh_token_of(claims)?;
    let subject = claims.subject();
    let account = |_: &Session| user.as_ref().map_or(Account::Gone, |user| user.account());
    let sessions = &context.worker.gateway.sessions;
    let refreshed = match sessions
        .refresh(
            session,
            presented,
            key.map(|key| key.0),
            account,
            Some(&context.client_info()),
            context.now_millis,
        )
        .await
    {
        Ok(refreshed) => refreshed,
        Err(error) => return Err(refused(context, &error, subject, session)),
    };
    let Some(user) = user else {
        return Err(refused(context, &RefreshError::AccountChanged, subject, session));
    };
    metrics.refresh(match refreshed.successor {
        Some(successor) if successor.repeated => RefreshOutcome::Repeated,
        Some(_) => RefreshOutcome::Rotated,
        None => RefreshOutcome::Kept,
    });
    context.audit("refresh", "success", &user.username, Some(session.to_string()));
    context.record.username.replace(Some(user.username.clone()));
    issue(
        context,
        Grant {
            user: &user,
            session: &session,
            session_ends_at: refreshed.expires_at.seconds(),
            refresh_token: refreshed
                .successor
                .map(|s| NewRefreshToken { id: s.id, issued_at: s.issued_at.seconds() }),
            key,
            recipient,
            message: None,
            authentication: refreshed.authentication,
        },
    )
}

/// A refresh token fits many times into this, in bytes.
const MAX_BODY: usize = 16 * 1024;

/// The refresh token in `Authorization` or else in the body, and its claims.
async fn presented(
    context: &RequestContext,
    body: RequestBody,
) -> Result<(String, VerifiedClaims), Rejection> {
    let dpop = context.state.config.settings.tokens.dpop != Dpop::Off;
    let token = match signed_token(&context.head, dpop)? {
        Some(bearer) => bearer.token()?.to_owned(),
        None => token_in_body(context, body).await?.ok_or(Rejection::RefreshTokenMissing)?,
    };
    let claims = verify(context, &token)?;
    Ok((token, claims))
}

/// The claims of a refresh token that was signed here and has not expired, with both ids: without them it counts as a bad one.
///
/// # Errors
///
/// It is none.
pub(crate) fn verify(context: &RequestContext, token: &str) -> Result<VerifiedClaims, Rejection> {
    let claims = context.state.config.verifier.verify(token, TokenType::Refresh, context.now());
    let claims = claims.map_err(refusal)?;
    foreign::refresh_token_of(&claims)?;
    claims.sid().parse::<SessionId>().map_err(|_| Rejection::TokenWithoutSession)?;
    Ok(claims)
}

/// The member `refresh_token` of a JSON body, for clients of RFC 6749 and others that have no field for it.
async fn token_in_body(context: &RequestContext, body: RequestBody) -> Result<Option<String>, Rejection> {
    if only_json(&context.head).is_err() {
        return Ok(None);
    }
    let timeout = context.state.config.settings.limits.login_body_timeout;
    let body = body.read_all(MAX_BODY, timeout).await.map_err(|e| bad_body(&e))?;
    if body.is_empty() {
        return Ok(None);
    }
    let mut members = strict_json::object(&body).ok_or(Rejection::BodyNotJson)?;
    match members.remove("refresh_token") {
        None => Ok(None),
        Some(serde_json::Value::String(token)) => Ok(Some(token)),
        Some(_) => Err(Rejection::RefreshTokenNotText),
    }
}

/// A token that is none of ours counts against its network, and the answer is 429 once that has sent too many. Tokens that are
/// ours are still redeemed, so that a neighbour's failures keep no one from refreshing.
async fn not_presented(context: &RequestContext, rejection: Rejection) -> Rejection {
    let outcome = match rejection.code() {
        Code::TokenExpired => RefreshOutcome::Expired,
        Code::MissingToken
        | Code::InvalidRequest
        | Code::BadRequest
        | Code::PayloadTooLarge
        | Code::RequestTimeout => RefreshOutcome::Invalid,
        _ => {
            let sessions = &context.worker.gateway.sessions;
            match sessions
                .count_failure(RateLimitScope::Refresh, &context.network(), context.now_millis)
                .await
            {
                Ok(RateLimitDecision::Limited { retry_after }) => {
                    context.worker.metrics.refresh(RefreshOutcome::RateLimited);
                    return Rejection::RateLimited(retry_after);
                }
                Ok(RateLimitDecision::Allowed | RateLimitDecision::Busy) => {}
                Err(error) => tracing::error!(%error, "a bad refresh token was not counted"),
            }
            RefreshOutcome::Invalid
        }
    };
    context.worker.metrics.refresh(outcome);
    rejection
}

fn refused(context: &RequestContext, error: &RefreshError, subject: &str, session: SessionId) -> Rejection {
    let (outcome, logged, rejection) = match error {
        RefreshError::Unknown => (RefreshOutcome::Invalid, "unknown", Rejection::SessionUnknown),
        RefreshError::Expired => (RefreshOutcome::Expired, "expired", Rejection::SessionExpired),
        RefreshError::Idle => (RefreshOutcome::Idle, "idle", Rejection::SessionIdle),
        RefreshError::Revoked => (RefreshOutcome::Revoked, "revoked", Rejection::SessionEnded),
        RefreshError::Reused => (RefreshOutcome::Reused, "reused", Rejection::RefreshTokenReused),
        RefreshError::WrongKey => (RefreshOutcome::WrongKey, "wrong_key", Rejection::DpopKeyMismatch),
        RefreshError::AccountChanged => {
            (RefreshOutcome::AccountChanged, "account_changed", Rejection::AccountChanged)
        }
        RefreshError::Store(error) => {
            (RefreshOutcome::StoreUnavailable, "store_unavailable", store_unavailable(error))
        }
    };
    context.worker.metrics.refresh(outcome);
    context.write_audit(AuditEvent {
        session: Some(&session.to_string()),
        // Somebody may have stolen the token.
        alert: matches!(error, RefreshError::Reused),
        ..AuditEvent::new("refresh", logged, subject)
    });
    rejection
}
