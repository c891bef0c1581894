//! The tokens of a session, and the response that carries them (RFC 6749 section 5.1).

use std::borrow::Cow;
use std::time::Duration;

use http::header::PRAGMA;
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::auth::dpop::{self, CheckedProof};
use crate::config::{ClaimSubject, Tokens};
use crate::rejection::Rejection;
use crate::request::RequestContext;
use crate::response::{self, Response};
use crate::sessions::{Authentication, IssuedTokens, NewTokens, SessionId, TokenId};
use crate::tokens::{
    AuthenticationClaims, KeyThumbprint, SigningError, TokenRequest, TokenType, UnixSeconds, VerifiedClaims,
};
use crate::users::User;

#[derive(Serialize)]
struct Body {
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'static str>,
    access_token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    token_type: &'static str,
    /// Lifetime of the access token, in seconds.
    expires_in: u64,
    /// Time until the session ends without a refresh, in seconds.
    refresh_expires_in: u64,
    /// The clock of the tokens, in seconds since 1970.
    server_time: UnixSeconds,
}

/// What a Flask app returns by `jsonify(access_token=…, refresh_token=…)`.
#[derive(Serialize)]
struct FlaskBody {
    access_token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
}

/// A refresh token to be signed.
pub(crate) struct NewRefreshToken {
    pub(crate) id: TokenId,
    /// Of its first issue: a token that is returned again is the same token.
    pub(crate) issued_at: UnixSeconds,
}

/// Where tokens go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recipient {
    /// To a client, in the body of the response.
    Client,
    /// Into the cookies of a browser: their claims say so, which tokens that a client has put there lack.
    Cookies,
}

impl Recipient {
    /// Where those go that take the place of a token in a browser's cookies.
    pub(crate) fn in_place_of(claims: &VerifiedClaims) -> Recipient {
        if claims.is_of_cookie_session() { Recipient::Cookies } else { Recipient::Client }
    }
}

/// The session of the tokens.
pub(crate) struct Grant<'a> {
    pub(crate) user: &'a User,
    pub(crate) session: &'a SessionId,
    pub(crate) session_ends_at: UnixSeconds,
    pub(crate) refresh_token: Option<NewRefreshToken>,
    /// The key that the tokens are bound to.
    pub(crate) key: Option<KeyThumbprint>,
    pub(crate) recipient: Recipient,
    /// Of a login, which also makes the access token fresh.
    pub(crate) message: Option<&'static str>,
    /// How the user proved the identity.
    pub(crate) authentication: Authentication,
}

impl<'a> Grant<'a> {
    /// The grant of a session that begins.
    pub(crate) fn of_login(
        user: &'a User,
        opened: &'a NewTokens,
        recipient: Recipient,
        now: UnixSeconds,
    ) -> Grant<'a> {
        Grant {
            user,
            session: &opened.session,
            session_ends_at: opened.expires_at.seconds(),
            refresh_token: Some(NewRefreshToken { id: opened.refresh_token, issued_at: now }),
            key: None,
            recipient,
            message: Some("Login successful"),
            authentication: opened.authentication,
        }
    }
}

/// Signs the tokens of a grant.
///
/// # Errors
///
/// The session is in its last second, or nothing can be signed.
pub(crate) fn issue(context: &RequestContext, grant: Grant<'_>) -> Result<IssuedTokens, Rejection> {
    let now = context.now();
    let left = grant.session_ends_at.since(now).as_secs();
    if left == 0 {
        // Within the last second of a session there is no token to issue.
        return Err(Rejection::SessionExpired);
    }
    let access_ttl = context.state.config.settings.tokens.access_ttl.as_secs().min(left);
    let session = grant.session.to_string();
    let compat = &context.state.config.settings.compat;
    let csrf = (compat.is_on() && compat.csrf).then(|| TokenId::random().to_string());
    let further = further_claims(&context.state.config.settings.tokens, grant.user, &grant.user.roles);
    let Authentication { at, second_factor } = grant.authentication;
    let authentication = context
        .state
        .config
        .tells_authentication
        .then(|| AuthenticationClaims::new(at.seconds(), second_factor));
    let request = |token_type, jti, issued_at, expires_at| {
        context.state.config.issuer.issue(TokenRequest {
            token_type,
            jti,
            sid: &session,
            subject: &grant.user.id,
            username: &grant.user.username,
            roles: &grant.user.roles,
            further: &further,
            fresh: compat.fresh && grant.message.is_some() && token_type == TokenType::Access,
            authentication,
            csrf: csrf.as_deref(),
            key: grant.key,
            cookie_session: grant.recipient == Recipient::Cookies,
            issued_at,
            expires_at,
            session_expires_at: grant.session_ends_at,
        })
    };
    let access_id = TokenId::random().to_string();
    let access_token =
        request(TokenType::Access, &access_id, now, now.saturating_add(Duration::from_secs(access_ttl)))
            .map_err(cannot_sign)?;
    let refresh_token = match &grant.refresh_token {
        Some(new) => {
            let (id, end) = (new.id.to_string(), grant.session_ends_at);
            Some(request(TokenType::Refresh, &id, new.issued_at, end).map_err(cannot_sign)?)
        }
        None => None,
    };
    Ok(IssuedTokens {
        are_bound: grant.key.is_some(),
        message: grant.message,
        session: *grant.session,
        subject: grant.user.id.clone(),
        username: grant.user.username.clone(),
        access_token,
        refresh_token,
        expires_in: access_ttl,
        session_expires_in: left,
    })
}

/// The claims of a user besides those that every token has: of the users' source, and of the configuration.
pub(crate) fn further_claims<'u>(
    tokens: &Tokens,
    user: &'u User,
    roles: &[String],
) -> Cow<'u, Map<String, Value>> {
    match tokens.claims.is_empty() {
        true => Cow::Borrowed(&user.claims),
        false => Cow::Owned(tokens.claims.apply(ClaimSubject {
            id: &user.id,
            name: &user.username,
            roles,
            claims: &user.claims,
        })),
    }
}

/// The response with these tokens, and with a new nonce where `proof` needs one.
pub(crate) fn respond(
    context: &RequestContext,
    tokens: IssuedTokens,
    proof: Option<&CheckedProof>,
) -> Response {
    let IssuedTokens {
        message,
        access_token,
        refresh_token,
        expires_in,
        session_expires_in: left,
        are_bound,
        ..
    } = tokens;
    let settings = &context.state.config.settings;
    if settings.compat.is_on() {
        return response::no_store(response::flask_json(
            StatusCode::OK,
            &FlaskBody { access_token, refresh_token },
        ));
    }
    let body = Body {
        message,
        access_token,
        refresh_token,
        token_type: if are_bound { "DPoP" } else { "Bearer" },
        expires_in,
        refresh_expires_in: settings.tokens.idle_ttl.map_or(left, |idle| left.min(idle.as_secs())),
        server_time: context.now(),
    };
    let mut response = response::no_store(response::json(StatusCode::OK, &body));
    response.headers_mut().insert(PRAGMA, HeaderValue::from_static("no-cache"));
    if proof.is_some_and(CheckedProof::renews_nonce) {
        dpop::insert_nonce(context, &mut response);
    }
    response
}

fn cannot_sign(error: SigningError) -> Rejection {
    tracing::error!(%error, "no token could be signed");
    Rejection::SigningFailed
}
