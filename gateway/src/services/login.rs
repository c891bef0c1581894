//! `POST /login`: exchanges a name and a password for a session.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::auth::dpop::{self, CheckedProof};
use crate::clock::now_millis;
use crate::http1::{HeaderKind, RequestHead};
use crate::rejection::{Code, Rejection};
use crate::rejection::{store_unavailable, users_unavailable};
use crate::request::RequestContext;
use crate::request_body::RequestBody;
use crate::response::Response;
use crate::services::proxy::bad_body;
use crate::services::second_factor;
use crate::services::token_response::{Grant, Recipient, issue, respond};
use crate::sessions::{
    IssuedTokens, LoginDecision, LoginPermit, LoginResult, MAX_CHECK_TIME, NewSession, OpenSessionError,
};
use crate::strict_json;
use crate::telemetry::{AuditEvent, LoginOutcome};
use crate::tokens::KeyThumbprint;
use crate::users::{Busy, CanonicalName, CheckError, Password, User, check_credentials};

/// Maximum length of the body, in bytes.
const MAX_BODY: usize = 8 * 1024;

/// Logs a user in who sends JSON.
pub(crate) async fn login(context: &RequestContext, body: RequestBody) -> Result<Response, Rejection> {
    let proof = dpop::of_token_request(context, None)?;
    let tokens = sign_in(context, read_json(context, body), proof.as_ref(), Recipient::Client).await?;
    Ok(respond(context, tokens, proof.as_ref()))
}

/// Reads the body of a login.
pub(crate) async fn read_body(context: &RequestContext, body: RequestBody) -> Result<Vec<u8>, Rejection> {
    let limits = &context.state.config.settings.limits;
    body.read_all(MAX_BODY, limits.login_body_timeout).await.map_err(|e| bad_body(&e))
}

async fn read_json(context: &RequestContext, body: RequestBody) -> Result<Credentials, Rejection> {
    only_json(&context.head)?;
    Credentials::parse(&read_body(context, body).await?)
}

/// Opens a session for whoever's name and password these are, bound to the key of `proof`, and counts how it went.
pub(crate) async fn sign_in(
    context: &RequestContext,
    credentials: impl Future<Output = Result<Credentials, Rejection>>,
    proof: Option<&CheckedProof>,
    recipient: Recipient,
) -> Result<IssuedTokens, Rejection> {
    let result = match credentials.await {
        Ok(credentials) => attempt(context, credentials, proof, recipient).await,
        Err(rejection) => Err(rejection),
    };
    let outcome = match &result {
        Ok(_) => LoginOutcome::Success,
        Err(rejection) => match rejection.code() {
            Code::InvalidCredentials => LoginOutcome::Invalid,
            Code::AccountLocked => LoginOutcome::Locked,
            Code::RateLimited => LoginOutcome::RateLimited,
            Code::TooManySessions => LoginOutcome::TooManySessions,
            Code::MfaRequired | Code::PasswordChangeRequired => LoginOutcome::FurtherStep,
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
    credentials: Credentials,
    proof: Option<&CheckedProof>,
    recipient: Recipient,
) -> Result<IssuedTokens, Rejection> {
    let name = CanonicalName::for_lockout(&credentials.username);
    let (user, permit) = check_password(context, "login", &name, credentials.password).await?;
    // After the password, so that only users can fill the memory of used proofs.
    if let Some(proof) = proof
        && let Err(rejection) = proof.claim(context).await
    {
        settle(context, permit, LoginResult::Unknown).await?;
        return Err(rejection);
    }
    let enrolled = second_factor::is_enrolled(context, &user).await;
    if !matches!(enrolled, Ok(false)) {
        // The password alone must not clear the failures: they may be of the second factor.
        settle(context, permit, LoginResult::Unknown).await?;
        enrolled?;
        if user.must_change_password {
            // The change takes a code: one here would be used up for nothing.
            return Err(change_required(context, &user, true));
        }
        context.audit("login", "second_factor_required", name.as_str(), None);
        return Err(second_factor::ask(context, &user).await);
    }
    let settled = settle(context, permit, LoginResult::Succeeded);
    let key = proof.map(|proof| proof.key);
    open_session(context, &user, false, (key, recipient), settled).await
}

/// Opens a session of a user who has proved the identity, bound to `key`, while `settled` takes place.
pub(super) async fn open_session(
    context: &RequestContext,
    user: &User,
    second_factor: bool,
    (key, recipient): (Option<KeyThumbprint>, Recipient),
    settled: impl Future<Output = Result<(), Rejection>>,
) -> Result<IssuedTokens, Rejection> {
    let name = &user.username;
    if user.must_change_password {
        settled.await?;
        return Err(change_required(context, user, second_factor));
    }
    let new = NewSession { second_factor, key: key.map(|key| key.0), ..new_session(context, user) };
    let sessions = &context.worker.gateway.sessions;
    let opening = sessions.open(new, context.now_millis);
    // Concurrently, so that they share an fsync.
    let (settled, opened) = tokio::join!(settled, opening);
    settled?;
    let opened = opened.map_err(|error| match error {
        OpenSessionError::TooMany => {
            context.audit("login", "too_many_sessions", name, None);
            Rejection::TooManySessions
        }
        OpenSessionError::Store(error) => store_unavailable(&error),
    })?;
    context.audit("login", "success", name, Some(opened.session.to_string()));
    issue(context, Grant { key, ..Grant::of_login(user, &opened, recipient, context.now()) })
}

fn change_required(context: &RequestContext, user: &User, with_code: bool) -> Rejection {
    context.audit("login", "password_change_required", &user.username, None);
    Rejection::PasswordChangeRequired(with_code)
}

/// The user of a name and a password. The permit of a success is left to be settled; nothing may be sent before that.
///
/// # Errors
///
/// The password is wrong or was not checked, and the permit is settled. `event` is what the audit log calls it.
pub(super) async fn check_password(
    context: &RequestContext,
    event: &'static str,
    name: &CanonicalName,
    password: Password,
) -> Result<(Arc<User>, LoginPermit), Rejection> {
    let permit = permit(context, event, name).await?;
    let hashing = &context.worker.gateway.hashing;
    let users = &context.state.config.users;
    let check = timeout(MAX_CHECK_TIME, check_credentials(users, hashing, name, password)).await;
    let checked = check.unwrap_or(Err(CheckError::Busy(Busy)));
    let mut wrong = None;
    let (result, rejection) = match checked {
        Ok(Ok(user)) if context.state.config.issuers.reserve(&user.id) => {
            tracing::error!(
                user = user.id,
                "a user's id begins with the name of another issuer and a colon, so it could be taken for a user of that issuer; give the user another id"
            );
            (LoginResult::Unknown, Rejection::WrongCredentials)
        }
        Ok(Ok(user)) => return Ok((user, permit)),
        Ok(Err(reason)) => {
            wrong = Some(reason.name());
            (LoginResult::Failed, Rejection::WrongCredentials)
        }
        // The password was not checked: overload must not lock accounts.
        Err(error) => (LoginResult::Unknown, not_checked(&error)),
    };
    // An unsettled permit does not count as a failure; then the result must not be sent.
    settle(context, permit, result).await?;
    if wrong.is_some() {
        let failed = AuditEvent::new(event, "failed", name.as_str());
        context.write_audit(AuditEvent { reason: wrong, ..failed });
    }
    Err(rejection)
}

/// The permit for one attempt. It is acquired before the attempt, so that parallel guesses cannot pass the limits.
pub(super) async fn permit(
    context: &RequestContext,
    event: &'static str,
    name: &CanonicalName,
) -> Result<LoginPermit, Rejection> {
    context.record.username.replace(Some(name.to_string()));
    let (now, network) = (context.now_millis, context.network());
    let decision = context.worker.gateway.sessions.begin_login(name.as_str(), &network, now).await;
    match decision.map_err(|e| store_unavailable(&e))? {
        LoginDecision::Permitted(permit) => Ok(permit),
        LoginDecision::Locked { retry_after } => Err(locked(context, event, name, retry_after)),
        LoginDecision::Limited { retry_after } => {
            context.audit(event, "rate_limited", name.as_str(), None);
            Err(Rejection::RateLimited(retry_after))
        }
        LoginDecision::Busy => Err(Rejection::TooManyLogins),
    }
}

/// Settles the permit of an attempt. Nothing may be sent of a result that was not settled.
///
/// # Errors
///
/// The store fails (503).
pub(super) async fn settle(
    context: &RequestContext,
    permit: LoginPermit,
    result: LoginResult,
) -> Result<(), Rejection> {
    let settled = context.worker.gateway.sessions.settle_login(permit, result, now_millis()).await;
    settled.map_err(|error| store_unavailable(&error))
}

/// The rejection where a password could be checked neither way.
pub(super) fn not_checked(error: &CheckError) -> Rejection {
    match error {
        CheckError::Busy(_) => Rejection::TooManyLogins,
        CheckError::Unavailable(error) => users_unavailable(error),
    }
}

/// A session of a user at the client of this request.
pub(super) fn new_session(context: &RequestContext, user: &User) -> NewSession {
    NewSession {
        subject: user.id.clone(),
        username: user.username.clone(),
        credential: user.credential_fingerprint(),
        second_factor: false,
        key: None,
        client: context.client_info(),
    }
}

fn locked(context: &RequestContext, event: &'static str, name: &CanonicalName, left: Duration) -> Rejection {
    context.audit(event, "locked", name.as_str(), None);
    Rejection::AccountLocked(left)
}

/// `application/json` and nothing around it. A browser sends that type to another origin only after a preflight, so
/// this is also what keeps other sites' forms out.
pub(super) fn only_json(head: &RequestHead) -> Result<(), Rejection> {
    if !head.media_type().eq_ignore_ascii_case(b"application/json") {
        return Err(Rejection::ContentTypeNotJson);
    }
    if head.headers().of_kind(HeaderKind::ContentEncoding).next().is_some() {
        return Err(Rejection::ContentEncoded);
    }
    Ok(())
}

/// A name and a password, neither of them empty.
pub(crate) struct Credentials {
    username: String,
    password: Password,
}

impl Credentials {
    /// `username` and `password`, each once, both strings; other members are ignored, as forms and clients send more.
    fn parse(body: &[u8]) -> Result<Credentials, Rejection> {
        let mut members = strict_json::object(body).ok_or(Rejection::BodyNotJson)?;
        let mut text = |name: &'static str| match members.remove(name) {
            Some(serde_json::Value::String(text)) if !text.is_empty() => Ok(text),
            Some(_) => Err(Rejection::CredentialsNotText),
            None => Err(Rejection::CredentialsMissing),
        };
        let (username, password) = (text("username")?, text("password")?);
        Credentials::new(username, password)
    }

    /// # Errors
    ///
    /// The password is too long to be one.
    pub(crate) fn new(username: String, password: String) -> Result<Credentials, Rejection> {
        let password = Password::new(password).map_err(|_| Rejection::PasswordTooLong)?;
        Ok(Credentials { username, password })
    }
}
