//! `POST /refresh`: exchanges a refresh token for a new access token, and in most modes for its own
//! successor.

use crate::auth::bearer::bearer_token;
use crate::layers::authenticate::refusal;
use crate::rejection::{Code, Rejection};
use crate::request::RequestContext;
use crate::response::Response;
use crate::services::endpoints::{rate_limited, store_unavailable, users_unavailable};
use crate::services::token_response::{Grant, IssuedTokens, NewRefreshToken, issue, respond};
use crate::sessions::{
    Account, RateLimitDecision, RateLimitScope, RefreshError, Session, SessionId, TokenId,
};
use crate::telemetry::RefreshOutcome;
use crate::tokens::TokenType;

/// Refreshes the session of the refresh token in `Authorization`.
pub(crate) async fn refresh(context: &RequestContext) -> Result<Response, Rejection> {
    let presented = bearer_token(&context.head)
        .and_then(|token| token.ok_or_else(|| Rejection::RefreshTokenMissing))
        .and_then(|token| PresentedToken::verify(context, token));
    match presented {
        Ok(presented) => redeem(context, presented).await.map(|tokens| respond(context, tokens, None)),
        Err(rejection) => Err(not_presented(context, rejection).await),
    }
}

/// A refresh token that was signed here and has not expired.
pub(crate) struct PresentedToken {
    pub(crate) session: SessionId,
    pub(crate) id: TokenId,
    subject: String,
}

impl PresentedToken {
    /// # Errors
    ///
    /// It is none, or expired.
    pub(crate) fn verify(context: &RequestContext, token: &str) -> Result<PresentedToken, Rejection> {
        let claims = context.state.config.verifier.verify(token, TokenType::Refresh, context.now());
        let claims = claims.map_err(refusal)?;
        let not_ours = |_| Rejection::TokenWithoutSession;
        let session = claims.sid().parse().map_err(not_ours)?;
        let id = claims.jti().parse().map_err(not_ours)?;
        Ok(PresentedToken { session, id, subject: claims.subject().to_owned() })
    }
}

/// New tokens for a refresh token.
///
/// # Errors
///
/// The session is over (401), or nothing is known of it at the moment (503).
pub(crate) async fn redeem(
    context: &RequestContext,
    presented: PresentedToken,
) -> Result<IssuedTokens, Rejection> {
    let metrics = &context.worker.metrics;
    let PresentedToken { session, id: presented, subject } = presented;
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
    issue(
        context,
        Grant {
            user: &user,
            session: &session,
            session_ends_at: refreshed.expires_at / 1000,
            refresh_token: refreshed
                .successor
                .map(|s| NewRefreshToken { id: s.id, issued_at: s.issued_at / 1000 }),
        },
    )
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
