//! `POST /refresh`: exchanges a refresh token for a new access token, and in most modes for its own
//! successor.

use crate::auth::bearer::bearer_token;
use crate::layers::authenticate::refusal;
use crate::rejection::{Code, Rejection};
use crate::request::RequestContext;
use crate::response::Response;
use crate::services::endpoints::{rate_limited, store_unavailable, users_unavailable};
use crate::services::token_response::{Grant, NewRefreshToken, tokens};
use crate::sessions::{
    Account, RateLimitDecision, RateLimitScope, RefreshError, Session, SessionId, TokenId,
};
use crate::telemetry::RefreshOutcome;
use crate::tokens::TokenType;

/// Refreshes a session.
pub(crate) async fn refresh(context: &RequestContext) -> Result<Response, Rejection> {
    let metrics = &context.worker.metrics;
    let (session, presented, subject) = match presented(context) {
        Ok(presented) => presented,
        Err(rejection) => return Err(not_presented(context, rejection).await),
    };
    // The user is looked up again: a session of one who was disabled or deleted, or has a new password, ends
    // here; new roles take effect.
    let user = context.state.config.users.by_id(&subject).await.map_err(|e| users_unavailable(&e))?;
    let user = user.filter(|user| !user.disabled);
    let account = |_: &Session| match &user {
        Some(user) => Account::Active { credential: user.credential_fingerprint() },
        None => Account::Gone,
    };
    let sessions = &context.worker.gateway.sessions;
    let refreshed = match sessions
        .refresh(session, presented, account, Some(&context.client_info()), context.now_millis)
        .await
    {
        Ok(refreshed) => refreshed,
        Err(error) => return Err(refused(context, &error, &subject, session)),
    };
    let Some(user) = user else {
        return Err(refused(context, &RefreshError::AccountChanged, &subject, session));
    };
    metrics.refresh(match refreshed.successor {
        Some(successor) if successor.repeated => RefreshOutcome::Repeated,
        Some(_) => RefreshOutcome::Rotated,
        None => RefreshOutcome::Kept,
    });
    context.audit("refresh", "success", &user.username, Some(session.to_string()));
    context.record.username.replace(Some(user.username.clone()));
    tokens(
        context,
        Grant {
            user: &user,
            session: &session,
            session_ends_at: refreshed.expires_at / 1000,
            refresh_token: refreshed
                .successor
                .map(|s| NewRefreshToken { id: s.id, issued_at: s.issued_at / 1000 }),
            message: None,
        },
    )
}

/// The session, the token id and the subject of the refresh token in `Authorization`.
fn presented(context: &RequestContext) -> Result<(SessionId, TokenId, String), Rejection> {
    let token = bearer_token(&context.head)?.ok_or(Rejection::RefreshTokenMissing)?;
    let claims = context.state.config.verifier.verify(token, TokenType::Refresh, context.now());
    let claims = claims.map_err(refusal)?;
    let not_ours = |_| Rejection::TokenWithoutSession;
    let session = claims.sid().parse().map_err(not_ours)?;
    Ok((session, claims.jti().parse().map_err(not_ours)?, claims.subject().to_owned()))
}

/// An unknown token counts against its network, which gets 429 once it has sent too many. Valid tokens are
/// still redeemed, so that a neighbour's failures block no one's refresh.
async fn not_presented(context: &RequestContext, rejection: Rejection) -> Rejection {
    let outcome = match rejection.code() {
        Code::TokenExpired => RefreshOutcome::Expired,
        Code::MissingToken | Code::InvalidRequest => RefreshOutcome::Invalid,
        _ => {
            let sessions = &context.worker.gateway.sessions;
            match sessions
                .count_failure(RateLimitScope::Refresh, &context.network(), context.now_millis)
                .await
            {
                Ok(RateLimitDecision::Limited { retry_after }) => {
                    context.worker.metrics.refresh(RefreshOutcome::RateLimited);
                    return rate_limited(retry_after);
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
        RefreshError::AccountChanged => {
            (RefreshOutcome::AccountChanged, "account_changed", Rejection::AccountChanged)
        }
        RefreshError::Store(error) => {
            (RefreshOutcome::StoreUnavailable, "store_unavailable", store_unavailable(error))
        }
    };
    context.worker.metrics.refresh(outcome);
    context.audit("refresh", logged, subject, Some(session.to_string()));
    rejection
}
