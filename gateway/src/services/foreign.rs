//! Tokens of the compatible profile: whose they are, and sessions for tokens that another library issued.

use std::sync::Arc;

use crate::clock::UnixMillis;
use crate::config::CompatIdentity;
use crate::rejection::Rejection;
use crate::rejection::{store_unavailable, users_unavailable};
use crate::request::RequestContext;
use crate::services::login::new_session;
use crate::sessions::{NewSession, SessionId, TokenId};
use crate::tokens::VerifiedClaims;
use crate::users::User;

fn identity(context: &RequestContext) -> CompatIdentity {
    let compat = &context.state.config.settings.compat;
    if compat.is_on() { compat.identity } else { CompatIdentity::Id }
}

/// The user that a token names.
pub(crate) async fn user_of(
    context: &RequestContext,
    claims: &VerifiedClaims,
) -> Result<Option<Arc<User>>, Rejection> {
    let users = &context.state.config.users;
    let user = users.by_identity(identity(context), claims.subject()).await;
    user.map_err(|error| users_unavailable(&error))
}

/// The id under which the user's sessions are stored; users are looked up only where tokens carry names.
pub(crate) async fn account_id(
    context: &RequestContext,
    claims: &VerifiedClaims,
) -> Result<String, Rejection> {
    if identity(context) == CompatIdentity::Id {
        return Ok(claims.subject().to_owned());
    }
    let user = user_of(context, claims).await?;
    Ok(user.map_or_else(|| claims.subject().to_owned(), |user| user.id.clone()))
}

/// The session of a token. One that another library issued gets a session at its first use here, which ends
/// when the token expires.
pub(crate) async fn session_of(
    context: &RequestContext,
    claims: &VerifiedClaims,
    user: Option<&User>,
) -> Result<SessionId, Rejection> {
    let session = claims.sid().parse().map_err(|_| Rejection::TokenWithoutSession)?;
    if claims.is_foreign() {
        let new = match user {
            Some(user) => new_session(context, user),
            None => NewSession {
                subject: claims.subject().to_owned(),
                username: claims.username().to_owned(),
                credential: Default::default(),
                second_factor: false,
                key: None,
                client: context.client_info(),
                opened_at: None,
            },
        };
        let (token, end) = (refresh_token_of(claims)?, UnixMillis::of_seconds(claims.expires_at()));
        let sessions = &context.worker.gateway.sessions;
        let adopted = sessions.adopt(session, token, new, end, context.now_millis).await;
        adopted.map_err(|error| store_unavailable(&error))?;
    }
    Ok(session)
}

/// The id under which a session knows a refresh token.
pub(crate) fn refresh_token_of(claims: &VerifiedClaims) -> Result<TokenId, Rejection> {
    // A foreign token is the first and only one of its session.
    let id = if claims.is_foreign() { claims.sid() } else { claims.jti() };
    id.parse().map_err(|_| Rejection::TokenWithoutSession)
}
