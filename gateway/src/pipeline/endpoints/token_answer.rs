//! The answer that carries tokens (RFC 6749 section 5.1).

use http::StatusCode;
use serde::Serialize;

use super::Call;
use crate::pipeline::response::Response;
use crate::problem::{Code, Rejection};
use crate::sessions::{SessionId, TokenId};
use crate::tokens::{SigningError, TokenRequest, TokenType, UnixSeconds};
use crate::users::User;

#[derive(Serialize)]
struct Body {
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'static str>,
    access_token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    token_type: &'static str,
    /// Seconds the access token lives.
    expires_in: u64,
    /// Seconds the session can still be refreshed if nobody does.
    refresh_expires_in: u64,
    /// The clock the tokens go by, in seconds since 1970.
    server_time: UnixSeconds,
}

/// A refresh token to be signed.
pub(super) struct NewRefreshToken {
    pub(super) id: TokenId,
    /// Of its first issue: a token that is handed out again is the same token.
    pub(super) issued_at: UnixSeconds,
}

/// The session that the tokens belong to.
pub(super) struct Grant<'a> {
    pub(super) user: &'a User,
    pub(super) session: &'a SessionId,
    pub(super) session_ends_at: UnixSeconds,
    pub(super) refresh_token: Option<NewRefreshToken>,
    pub(super) message: Option<&'static str>,
}

/// Signs the tokens of a grant and answers with them.
pub(super) fn tokens<'c>(call: Call<'_>, grant: Grant<'_>) -> Result<Response<'c>, Rejection> {
    let now = call.exchange.now();
    let settings = &call.snapshot.settings.tokens;
    let left = grant.session_ends_at.saturating_sub(now);
    if left == 0 {
        // In its last second there is no token left to give.
        return Err(Rejection::new(Code::TokenExpired, "the session has expired"));
    }
    let access_ttl = settings.access_ttl.as_secs().min(left);
    let session = grant.session.to_string();
    let request = |token_type, jti, issued_at, expires_at| {
        call.snapshot.issuer.issue(TokenRequest {
            token_type,
            jti,
            sid: &session,
            subject: &grant.user.id,
            username: &grant.user.username,
            roles: &grant.user.roles,
            further: &grant.user.claims,
            issued_at,
            expires_at,
            session_expires_at: grant.session_ends_at,
        })
    };
    let access_id = TokenId::random().to_string();
    let access_token = request(TokenType::Access, &access_id, now, now + access_ttl).map_err(cannot_sign)?;
    let refresh_token = match &grant.refresh_token {
        Some(new) => {
            let (id, end) = (new.id.to_string(), grant.session_ends_at);
            Some(request(TokenType::Refresh, &id, new.issued_at, end).map_err(cannot_sign)?)
        }
        None => None,
    };
    let body = Body {
        message: grant.message,
        access_token,
        refresh_token,
        token_type: "Bearer",
        expires_in: access_ttl,
        refresh_expires_in: settings.idle_ttl.map_or(left, |idle| left.min(idle.as_secs())),
        server_time: now,
    };
    Ok(Response::json(StatusCode::OK, &body).field("Cache-Control", "no-store").field("Pragma", "no-cache"))
}

fn cannot_sign(error: SigningError) -> Rejection {
    tracing::error!(%error, "no token could be signed");
    Rejection::new(Code::Internal, "no token could be made")
}
