//! `POST /login`: a name and a password for a session.

use std::time::Duration;

use super::token_answer::{Grant, NewRefreshToken, tokens};
use super::{Call, rate_limited, store_unavailable, users_unavailable};
use crate::pipeline::Facts;
use crate::pipeline::proxy::bad_body;
use crate::pipeline::response::Response;
use crate::problem::{Code, Rejection};
use crate::sessions::{Attempt, Door, NewSession, Passage, UnixMillis};
use crate::strict_json;
use crate::telemetry::LoginOutcome;
use crate::users::{CanonicalName, CheckError, Password, check_credentials};
use crate::wire::{FieldKind, RequestBody, RequestHead};

/// A name and a password fit many times into this, in bytes.
const MAX_BODY: usize = 8 * 1024;

/// Logs a user in.
pub(super) async fn login<'c>(
    call: Call<'_>,
    facts: &mut Facts,
    body: RequestBody<'c>,
) -> Result<Response<'c>, Rejection> {
    let result = attempt(call, facts, body).await;
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
    call.worker.metrics.login(outcome);
    result
}

async fn attempt<'c>(
    call: Call<'_>,
    facts: &mut Facts,
    body: RequestBody<'c>,
) -> Result<Response<'c>, Rejection> {
    let limits = &call.snapshot.settings.limits;
    only_json(call.exchange.request.head())?;
    let body = body.read_all(MAX_BODY, limits.login_body_timeout).await.map_err(|e| bad_body(&e))?;
    let credentials = Credentials::parse(&body)?;
    let name = CanonicalName::for_lockout(&credentials.username);
    facts.username = Some(name.to_string());

    let (sessions, now, network) = (&call.worker.gateway.sessions, call.now_millis(), call.network());
    // A locked answer runs no hash, so that it cannot depend on the password. It uses nothing up either.
    if let Some(left) = sessions.locked_for(name.as_str(), now).await.map_err(|e| store_unavailable(&e))? {
        return Err(locked(call, &name, left));
    }
    // Counted before the hash runs, so that parallel guesses cannot pass the limits. The network comes first: who is
    // turned away for it locks no name.
    let passage = sessions.reserve_passage(Door::Login, &network, now).await;
    if let Passage::Shut { retry_after } = passage.map_err(|e| store_unavailable(&e))? {
        call.audit("login", "rate_limited", name.as_str(), None);
        return Err(rate_limited(retry_after));
    }
    let attempt = sessions.reserve_attempt(name.as_str(), now).await;
    if let Attempt::Locked { retry_after } = attempt.map_err(|e| store_unavailable(&e))? {
        sessions.withdraw_passage(Door::Login, &network).await.map_err(|e| store_unavailable(&e))?;
        return Err(locked(call, &name, retry_after));
    }
    let hashing = &call.worker.gateway.hashing;
    let users = &call.snapshot.users;
    let user = match check_credentials(users, hashing, &name, credentials.password).await {
        Ok(Some(user)) => user,
        Ok(None) => {
            call.audit("login", "failed", name.as_str(), None);
            return Err(Rejection::new(Code::InvalidCredentials, "wrong username or password"));
        }
        Err(error) => {
            // Nobody looked at the password: a crowd at the door must not lock its accounts.
            let (attempt, passage) = tokio::join!(
                sessions.withdraw_attempt(name.as_str(), now),
                sessions.withdraw_passage(Door::Login, &network),
            );
            attempt.and(passage).map_err(|e| store_unavailable(&e))?;
            return Err(match error {
                CheckError::Busy(_) => Rejection::new(Code::Overloaded, "too many logins at once")
                    .retry_after(Duration::from_secs(1)),
                CheckError::Unavailable(error) => users_unavailable(&error),
            });
        }
    };
    let new = NewSession {
        subject: user.id.clone(),
        username: user.username.clone(),
        credential: user.credential_fingerprint(),
    };
    // Together, so that they share an fsync; and each to its end, for a right password must not count as wrong because
    // there was no place for the session.
    let (attempt, passage, opened) = tokio::join!(
        sessions.attempt_succeeded(name.as_str()),
        sessions.withdraw_passage(Door::Login, &network),
        sessions.open(new, now),
    );
    let opened = attempt.and(passage).and(opened).map_err(|e| store_unavailable(&e))?;
    call.audit("login", "success", name.as_str(), Some(opened.session.to_string()));
    tokens(
        call,
        Grant {
            user: &user,
            session: &opened.session,
            session_ends_at: opened.expires_at / 1000,
            refresh_token: Some(NewRefreshToken { id: opened.refresh_token, issued_at: now / 1000 }),
            message: Some("Login successful"),
        },
    )
}

fn locked(call: Call<'_>, name: &CanonicalName, left: UnixMillis) -> Rejection {
    call.audit("login", "locked", name.as_str(), None);
    Rejection::new(Code::AccountLocked, "too many failed attempts").retry_after(Duration::from_millis(left))
}

/// `application/json` and nothing around it. A browser sends that type to another origin only after a preflight, so
/// this is also what keeps other sites' forms out.
fn only_json(head: &RequestHead) -> Result<(), Rejection> {
    let media_type = head.fields().only(FieldKind::ContentType).map(|field| field.value);
    let essence = media_type.and_then(|value| value.split(|&b| b == b';').next()).unwrap_or_default();
    if !essence.trim_ascii().eq_ignore_ascii_case(b"application/json") {
        return Err(Rejection::new(Code::UnsupportedMediaType, "Content-Type is not application/json"));
    }
    if head.fields().of_kind(FieldKind::ContentEncoding).next().is_some() {
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
