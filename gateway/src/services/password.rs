//! `POST /password`: a user changes the password.
//!
//! Who it is says an access token, the session's cookies, or the user name in the body; whatever it is, the current
//! password is asked for, throttled and locked like a login.

use std::rc::Rc;
use std::sync::Arc;

use http::StatusCode;
use serde_json::Value;

use crate::auth::authenticate::missing;
use crate::clock::now_millis;
use crate::identity::Identity;
use crate::rejection::Rejection;
use crate::rejection::store_unavailable;
use crate::request::RequestContext;
use crate::request_body::RequestBody;
use crate::response::{self, Response};
use crate::services::foreign;
use crate::services::login::{check_password, not_checked, only_json, read_body, settle};
use crate::services::second_factor;
use crate::services::sessions::caller;
use crate::sessions::{KeptSessions, LoginResult};
use crate::strict_json;
use crate::users::{CanonicalName, ChangePasswordError, NewPasswordRefusal, Password, PasswordChange, User};

/// The name of a change in the audit log.
const EVENT: &str = "password-change";

/// What a change needs.
pub(super) struct Change {
    /// Of a user without a session.
    pub(super) username: Option<String>,
    pub(super) current: Password,
    pub(super) new: Password,
    /// Of a user without a session who has a second factor.
    pub(super) code: Option<String>,
    pub(super) end_other_sessions: bool,
}

impl Change {
    /// `current_password`, `new_password`, and optionally `username` and `end_other_sessions`; other members are
    /// ignored.
    fn parse(body: &[u8]) -> Result<Change, Rejection> {
        let mut members = strict_json::object(body).ok_or(Rejection::BodyNotJson)?;
        let mut text = |name: &str| match members.remove(name) {
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text)),
            Some(_) => Err(Rejection::NewPasswordNotText),
            None => Ok(None),
        };
        let password = |text: Option<String>| {
            let text = text.ok_or(Rejection::NewPasswordMissing)?;
            Password::new(text).map_err(|_| Rejection::PasswordTooLong)
        };
        let (current, new) = (password(text("current_password")?)?, password(text("new_password")?)?);
        let (username, code) = (text("username")?, text("code")?);
        let end_other_sessions = match members.remove("end_other_sessions") {
            None => true,
            Some(Value::Bool(end)) => end,
            Some(_) => return Err(Rejection::NewPasswordNotText),
        };
        Ok(Change { username, current, new, code, end_other_sessions })
    }
}

/// Changes a password for a client that sends JSON.
pub(super) async fn change(context: &Rc<RequestContext>, body: RequestBody) -> Result<Response, Rejection> {
    only_json(&context.head)?;
    let identity = caller(context).await?;
    let change = Change::parse(&read_body(context, body).await?)?;
    apply(context, identity, change).await?;
    Ok(response::no_store(response::empty(StatusCode::NO_CONTENT)))
}

/// Changes the password of the user of `identity`, or else of the one that `change` names. Returns the changed user, and whether
/// a second factor was used.
pub(super) async fn apply(
    context: &RequestContext,
    identity: Option<Rc<Identity>>,
    change: Change,
) -> Result<(Arc<User>, bool), Rejection> {
    let (name, own) = match (identity, &change.username) {
        (Some(identity), _) => {
            let user =
                foreign::user_of(context, identity.claims()).await?.ok_or(Rejection::AccountChanged)?;
            let own = *identity.session();
            context.record.identity.replace(Some(identity));
            (CanonicalName::for_lockout(&user.username), Some(own))
        }
        (None, Some(username)) => (CanonicalName::for_lockout(username), None),
        (None, None) => return Err(missing(&context.worker)),
    };
    let (user, permit) = check_password(context, EVENT, &name, change.current.clone()).await?;
    let asks_code = match own {
        Some(_) => Ok(false),
        None => second_factor::is_enrolled(context, &user).await,
    };
    // The password was right, whatever becomes of the new one. Where a code is asked for, it clears no failures.
    let outcome = if matches!(asks_code, Ok(false)) { LoginResult::Succeeded } else { LoginResult::Unknown };
    settle(context, permit, outcome).await?;
    let asks_code = asks_code?;
    if asks_code && change.code.is_none() {
        return Err(Rejection::CodeRequired);
    }
    let kept = match (change.end_other_sessions, own) {
        (false, _) => KeptSessions::All,
        (true, Some(own)) => KeptSessions::SignIn(own),
        (true, None) => KeptSessions::None,
    };
    let prepared = prepare(context, &user, Some(&change.current), change.new).await?;
    // At last, so that no other refusal uses up a code.
    if let Some(code) = change.code.filter(|_| asks_code) {
        second_factor::check_code(context, EVENT, &user, &code).await?;
    }
    let changed = store(context, &user, prepared, kept).await?;
    context.audit(EVENT, "success", name.as_str(), own.map(|own| own.to_string()));
    Ok((changed, asks_code))
}

/// Checks and hashes a new password, without storing it.
pub(super) async fn prepare(
    context: &RequestContext,
    user: &User,
    current: Option<&Password>,
    new: Password,
) -> Result<PasswordChange, Rejection> {
    let (gateway, users) = (&context.worker.gateway, &context.state.config.users);
    let prepared = PasswordChange::prepare(users, &gateway.hashing, user, current, new).await;
    prepared.map_err(|error| refused(context, user, error))
}

fn refused(context: &RequestContext, user: &User, error: ChangePasswordError) -> Rejection {
    let rejection = refusal(error);
    context.audit(EVENT, rejection.code().name(), &user.username, None);
    rejection
}

/// Stores another password of a user, and ends all sessions but `kept`.
pub(super) async fn store(
    context: &RequestContext,
    user: &User,
    change: PasswordChange,
    kept: KeptSessions,
) -> Result<Arc<User>, Rejection> {
    let (gateway, users) = (&context.worker.gateway, &context.state.config.users);
    let changed = Arc::clone(change.user());
    let (from, to) = (user.credential_fingerprint(), changed.credential_fingerprint());
    // Before the password: another instance may see the change at once.
    let keeping = gateway.sessions.keep_through_change(&user.id, kept, from, to).await;
    keeping.map_err(|error| store_unavailable(&error))?;
    change.store(users).await.map_err(|error| refused(context, user, error))?;
    let ended = gateway.sessions.end_changed(&user.id, changed.account(), now_millis()).await;
    if let Err(error) = ended {
        // The password is another one: they end when they are refreshed.
        tracing::warn!(%error, "sessions of a user with a new password could not be ended yet");
    }
    Ok(changed)
}

fn refusal(error: ChangePasswordError) -> Rejection {
    match error {
        ChangePasswordError::Unfit(refusal) => match refusal {
            NewPasswordRefusal::TooShort { min, .. } => Rejection::PasswordTooShort(min),
            NewPasswordRefusal::Common => Rejection::PasswordTooCommon,
            NewPasswordRefusal::UserName => Rejection::PasswordIsUsername,
            NewPasswordRefusal::TooWeak => Rejection::PasswordTooWeak,
            NewPasswordRefusal::Breached => Rejection::PasswordBreached,
            // JSON and forms are UTF-8.
            NewPasswordRefusal::NotUtf8 => Rejection::NewPasswordNotText,
            NewPasswordRefusal::CannotSearch(error) => {
                tracing::error!(
                    error,
                    "users.password_policy.breached_file cannot be searched: passwords stay as they are"
                );
                Rejection::PasswordNotChecked
            }
        },
        ChangePasswordError::Same => Rejection::PasswordUnchanged,
        ChangePasswordError::Conflict => Rejection::PasswordConflict,
        ChangePasswordError::NotWritable => Rejection::PasswordNotChangeable,
        ChangePasswordError::Check(error) => not_checked(&error),
        ChangePasswordError::Store(error) => {
            tracing::error!(error, "a new password could not be stored");
            Rejection::PasswordNotStored
        }
    }
}
