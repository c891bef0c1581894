//! `POST /login`: a name and a password for a session.

use std::time::Duration;

use crate::http1::{HeaderKind, RequestHead};
use crate::request_body::RequestBody;
use crate::rejection::{Code, Rejection};
use crate::request::RequestContext;
use crate::response::Response;
use crate::services::endpoints::{rate_limited, store_unavailable};
use crate::services::proxy::bad_body;
use crate::services::token_response::{Grant, NewRefreshToken, tokens};
use crate::sessions::{LoginAttempt, NewSession, RateLimitDecision, RateLimitScope, UnixMillis};
use crate::strict_json;
use crate::telemetry::LoginOutcome;
use crate::users::{Busy, CanonicalName, Password, check_credentials};

/// A name and a password fit many times into this, in bytes.
const MAX_BODY: usize = 8 * 1024;

/// Logs a user in.
pub(crate) async fn login(
    context: &RequestContext,
    body: RequestBody,
) -> Result<Response, Rejection> {
    let result = attempt(context, body).await;
    let outcome = match &result {
        Ok(_) => LoginOutcome::Success,
        Err(rejection) => match rejection.code() {
            Code::InvalidCredentials => LoginOutcome::Invalid,
            Code::AccountLocked => LoginOutcome::Locked,
            Code::RateLimited => LoginOutcome::RateLimited,
            Code::Overloaded => LoginOutcome::Overloaded,
            Code::StoreUnavailable => LoginOutcome::StoreUnavailable,
            _ => LoginOutcome::BadRequest,
        },
    };
    context.worker.metrics.login(outcome);
    result
}

async fn attempt(
    context: &RequestContext,
    body: RequestBody,
) -> Result<Response, Rejection> {
    let limits = &context.state.config.settings.limits;
    only_json(&context.head)?;
    let body = body.read_all(MAX_BODY, limits.login_body_timeout).await.map_err(|e| bad_body(&e))?;
    let credentials = Credentials::parse(&body)?;
    let name = CanonicalName::for_lockout(&credentials.username);
    context.record.username.replace(Some(name.to_string()));

    let (sessions, now, network) = (&context.worker.gateway.sessions, context.now_millis, context.network());
    // A locked answer runs no hash, so that it cannot depend on the password. It uses nothing up either.
    if let Some(left) = sessions.locked_for(name.as_str(), now).await.map_err(|e| store_unavailable(&e))? {
        return Err(locked(context, &name, left));
    }
    // Counted before the hash runs, so that parallel guesses cannot pass the limits. The network comes first: who is
    // turned away for it locks no name.
    let decision = sessions.acquire_rate_limit(RateLimitScope::Login, &network, now).await;
    if let RateLimitDecision::Limited { retry_after } = decision.map_err(|e| store_unavailable(&e))? {
        context.audit("login", "rate_limited", name.as_str(), None);
        return Err(rate_limited(retry_after));
    }
    let attempt = sessions.reserve_attempt(name.as_str(), now).await;
    if let LoginAttempt::Locked { retry_after } = attempt.map_err(|e| store_unavailable(&e))? {
        sessions
            .refund_rate_limit(RateLimitScope::Login, &network)
            .await
            .map_err(|e| store_unavailable(&e))?;
        return Err(locked(context, &name, retry_after));
    }
    let hashing = &context.worker.gateway.hashing;
    let users = context.state.config.users.current();
    let user = match check_credentials(&*users, hashing, &name, credentials.password).await {
        Ok(Some(user)) => user,
        Ok(None) => {
            context.audit("login", "failed", name.as_str(), None);
            return Err(Rejection::new(Code::InvalidCredentials, "wrong username or password"));
        }
        Err(Busy) => {
            // Nobody looked at the password: a crowd at the door must not lock its accounts.
            let (attempt, decision) = tokio::join!(
                sessions.refund_attempt(name.as_str(), now),
                sessions.refund_rate_limit(RateLimitScope::Login, &network),
            );
            attempt.and(decision).map_err(|e| store_unavailable(&e))?;
            return Err(Rejection::new(Code::Overloaded, "too many logins at once")
                .retry_after(Duration::from_secs(1)));
        }
    };
    let new = NewSession {
        subject: user.id.clone(),
        username: user.username.clone(),
        credential: user.credential_fingerprint(),
    };
    // Together, so that they share an fsync; and each to its end, for a right password must not count as wrong because
    // there was no place for the session.
    let (attempt, decision, opened) = tokio::join!(
        sessions.attempt_succeeded(name.as_str()),
        sessions.refund_rate_limit(RateLimitScope::Login, &network),
        sessions.open(new, now),
    );
    let opened = attempt.and(decision).and(opened).map_err(|e| store_unavailable(&e))?;
    context.audit("login", "success", name.as_str(), Some(opened.session.to_string()));
    tokens(
        context,
        Grant {
            user: &user,
            session: &opened.session,
            session_ends_at: opened.expires_at / 1000,
            refresh_token: Some(NewRefreshToken { id: opened.refresh_token, issued_at: now / 1000 }),
            message: Some("Login successful"),
        },
    )
}

fn locked(context: &RequestContext, name: &CanonicalName, left: UnixMillis) -> Rejection {
    context.audit("login", "locked", name.as_str(), None);
    Rejection::new(Code::AccountLocked, "too many failed attempts").retry_after(Duration::from_millis(left))
}

/// `application/json` and nothing around it. A browser sends that type to another origin only after a preflight, so
/// this is also what keeps other sites' forms out.
fn only_json(head: &RequestHead) -> Result<(), Rejection> {
    let media_type = head.headers().only(HeaderKind::ContentType).map(|field| field.value);
    let essence = media_type.and_then(|value| value.split(|&b| b == b';').next()).unwrap_or_default();
    if !essence.trim_ascii().eq_ignore_ascii_case(b"application/json") {
        return Err(Rejection::new(Code::UnsupportedMediaType, "Content-Type is not application/json"));
    }
    if head.headers().of_kind(HeaderKind::ContentEncoding).next().is_some() {
        return Err(Rejection::new(Code::UnsupportedMediaType, "Content-Encoding is not accepted here"));
    }
    Ok(())
}

struct Credentials {
    username: String,
    password: Password,
}

impl Credentials {
    /// Exactly `username` and `password`, each once, both strings.
    fn parse(body: &[u8]) -> Result<Credentials, Rejection> {
        let mut members = strict_json::object(body)
            .ok_or_else(|| bad("the body is not a JSON object with unique members"))?;
        let mut text = |name: &'static str| match members.remove(name) {
            Some(serde_json::Value::String(text)) if !text.is_empty() => Ok(text),
            Some(_) => Err(bad("username and password must be non-empty strings")),
            None => Err(bad("username or password is missing")),
        };
        let (username, password) = (text("username")?, text("password")?);
        if !members.is_empty() {
            return Err(bad("the body has members besides username and password"));
        }
        let password = Password::new(password).map_err(|_| bad("the password is longer than 1024 bytes"))?;
        Ok(Credentials { username, password })
    }
}

fn bad(why: &'static str) -> Rejection {
    Rejection::new(Code::BadRequest, why)
}
