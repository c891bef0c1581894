//! The identity behind a personal access token or HTTP Basic credentials.
//!
//! Neither is signed, so the first request of each reads the store and the users; then the identity is in the worker's cache and
//! costs what a verified access token costs. A cached identity counts until it is revoked, its user's source changes, or
//! [`RECHECK_INTERVAL`] have passed.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_local;

use crate::auth::authenticate::require_fresh_revocations;
use crate::auth::basic::BasicCredentials;
use crate::auth::bearer::Bearer;
use crate::auth::credentials::Credentials;
use crate::config::CompatIdentity;
use crate::identity::password_memory::{CheckResult, PasswordTag, RightPassword};
use crate::identity::token_cache::CacheLookup;
use crate::identity::{Identity, Machine};
use crate::rejection::Rejection;
use crate::rejection::{store_unavailable, users_unavailable};
use crate::request::RequestContext;
use crate::runtime_config::RuntimeConfig;
use crate::services::login::{check_password, settle};
use crate::services::second_factor;
use crate::services::token_response::further_claims;
use crate::sessions::personal_token::{
    PersonalToken, PersonalTokenRefusal, PresentedToken, RECHECK_INTERVAL,
};
use crate::sessions::{LoginResult, RateLimitDecision, RateLimitScope, SessionId, UnixMillis};
use crate::telemetry::{BasicOutcome, VerificationOutcome};
use crate::tokens::{ClaimsOfUser, VerifiedClaims};
use crate::users::{CanonicalName, Credential, Password, User};

/// The cached identity of a personal access token.
///
/// # Errors
///
/// It is not known whether it was revoked.
pub(crate) fn cached(context: &RequestContext, token: Bearer<'_>) -> Result<Option<Rc<Identity>>, Rejection> {
    let Some(identity) = lookup(context, token.as_bytes()) else { return Ok(None) };
    require_fresh_revocations(&context.worker, context.now_millis)?;
    Ok(Some(identity))
}

/// The identity behind credentials that are not a signed token.
///
/// # Errors
///
/// They are wrong (401), locked (403), or cannot be checked at the moment (503).
pub(crate) async fn verify(
    context: &Rc<RequestContext>,
    credentials: Credentials<'_>,
) -> Result<Option<Rc<Identity>>, Rejection> {
    let identity = match credentials {
        Credentials::Personal(token) => verify_token(context, token.token()?, None).await?,
        Credentials::Basic(basic) => verify_basic(context, basic).await?,
        _ => return Ok(None),
    };
    require_fresh_revocations(&context.worker, context.now_millis)?;
    Ok(Some(identity))
}

/// The cached identity under `key`, while nothing has to be read again.
fn lookup(context: &RequestContext, key: &[u8]) -> Option<Rc<Identity>> {
    let revocations = context.worker.gateway.sessions.revocations();
    let found =
        context.state.credential_cache.borrow_mut().get(key, context.now(), Duration::ZERO, revocations);
    let CacheLookup::Good(identity) = found else { return None };
    let users = context.state.config.users.changes();
    identity.machine().filter(|machine| machine.is_current(users, context.now_millis))?;
    context.worker.metrics.verification(VerificationOutcome::Cached);
    Some(identity)
}

/// The identity that was cached, though it should be read again: it goes on during an outage of the store.
fn outdated(context: &RequestContext, key: &[u8]) -> Option<Rc<Identity>> {
    let revocations = context.worker.gateway.sessions.revocations();
    match context.state.credential_cache.borrow_mut().get(key, context.now(), Duration::ZERO, revocations) {
        CacheLookup::Good(identity) => {
            identity.machine().filter(|machine| machine.users == context.state.config.users.changes())?;
            Some(identity)
        }
        _ => None,
    }
}

/// `name` is the user name that came with it, where it came as a password.
async fn verify_token(
    context: &Rc<RequestContext>,
    text: &str,
    name: Option<&CanonicalName>,
) -> Result<Rc<Identity>, Rejection> {
    let refuse = |outcome, rejection| {
        context.worker.metrics.verification(outcome);
        rejection
    };
    let of_name = |identity: &Identity| name.is_none_or(|name| name.as_str() == identity.claims().username());
    if let Some(identity) = lookup(context, text.as_bytes()) {
        return if of_name(&identity) { Ok(identity) } else { Err(Rejection::WrongCredentials) };
    }
    let unknown = Rejection::TokenInvalid("there is no such personal access token");
    let Some(presented) = PresentedToken::parse(text) else {
        return Err(refuse(VerificationOutcome::Invalid, unknown));
    };
    let (sessions, users) = (&context.worker.gateway.sessions, &context.state.config.users);
    // Read before the record: a change in between makes the cache check again.
    let (epoch, changes) = (sessions.revocations().epoch(), users.changes());
    let token = match sessions.find_token(&presented, context.now_millis).await {
        Ok(Ok(token)) => token,
        Ok(Err(PersonalTokenRefusal::Revoked)) => {
            return Err(refuse(VerificationOutcome::Revoked, Rejection::PersonalTokenRevoked));
        }
        Ok(Err(PersonalTokenRefusal::Expired)) => {
            return Err(refuse(VerificationOutcome::Expired, Rejection::TokenExpired));
        }
        Ok(Err(PersonalTokenRefusal::Unknown)) => {
            let rejection = match count_unknown(context).await {
                Some(wait) => Rejection::RateLimited(wait),
                None => unknown,
            };
            return Err(refuse(VerificationOutcome::Invalid, rejection));
        }
        Err(error) => {
            let unavailable = store_unavailable(&error);
            return outdated(context, text.as_bytes()).filter(|found| of_name(found)).ok_or(unavailable);
        }
    };
    let user = users.by_id(&token.subject).await.map_err(|error| users_unavailable(&error))?;
    let Some(user) = user.filter(|user| !user.disabled) else {
        return Err(refuse(VerificationOutcome::Revoked, Rejection::TokenUserGone));
    };
    let machine = Machine {
        users: changes,
        recheck_at: context.now_millis.saturating_add(RECHECK_INTERVAL),
        routes: token.routes.clone().into(),
    };
    let roles = token.roles_of(&user.roles);
    let lifetime = (token.created_at, token.expires_at);
    let identity = identity(context, &user, roles, presented.id, lifetime, machine)?;
    if !of_name(&identity) {
        return Err(Rejection::WrongCredentials);
    }
    context.worker.metrics.verification(VerificationOutcome::Valid);
    context.state.credential_cache.borrow_mut().insert(text.as_bytes(), Rc::clone(&identity), epoch);
    record_use(context, presented.id, &token);
    Ok(identity)
}

/// Counts a token that does not exist against its network; the time to wait where that has sent too many.
async fn count_unknown(context: &RequestContext) -> Option<Duration> {
    let sessions = &context.worker.gateway.sessions;
    match sessions.count_failure(RateLimitScope::PersonalToken, &context.network(), context.now_millis).await
    {
        Ok(RateLimitDecision::Limited { retry_after }) => Some(retry_after),
        Ok(RateLimitDecision::Allowed | RateLimitDecision::Busy) => None,
        Err(error) => {
            tracing::error!(%error, "an unknown personal access token was not counted");
            None
        }
    }
}

/// Records the use of a token beside the request.
fn record_use(context: &RequestContext, id: SessionId, token: &PersonalToken) {
    let (now, from) = (context.now_millis, context.client_address());
    if !token.is_use_due(now) {
        return;
    }
    let sessions = context.worker.gateway.sessions.clone();
    spawn_local(async move {
        if let Err(error) = sessions.record_token_use(id, from, now).await {
            tracing::debug!(%error, "the use of a personal access token was not recorded");
        }
    });
}

async fn verify_basic(
    context: &Rc<RequestContext>,
    basic: BasicCredentials,
) -> Result<Rc<Identity>, Rejection> {
    let BasicCredentials { username, password } = basic;
    let takes_tokens = context.state.config.settings.personal_tokens.enabled;
    // As git's users know it: `https://TOKEN@host`. It is no name, and must not get into logs as one.
    if takes_tokens && PresentedToken::is_meant_by(username.as_bytes()) {
        return verify_token(context, &username, None).await;
    }
    let name = CanonicalName::for_lockout(&username);
    context.record.username.replace(Some(name.to_string()));
    let is_token = PresentedToken::is_meant_by(password.as_bytes());
    if is_token && takes_tokens {
        let text = std::str::from_utf8(password.as_bytes()).unwrap_or_default();
        return verify_token(context, text, Some(&name).filter(|_| !username.is_empty())).await;
    }
    verify_password(context, name, password).await
}

/// The identity of a user by name and password: at most one hash for each password and process.
async fn verify_password(
    context: &Rc<RequestContext>,
    name: CanonicalName,
    password: Password,
) -> Result<Rc<Identity>, Rejection> {
    let gateway = &context.worker.gateway;
    let (sessions, memory) = (&gateway.sessions, &gateway.passwords);
    let tag = memory.tag(&name, &password);
    // Read each time, for another instance may have locked the name.
    let locked = sessions.locked_for(name.as_str(), context.now_millis).await;
    if let Some(left) = locked.map_err(|error| store_unavailable(&error))? {
        memory.remove(&tag);
        context.audit("basic", "locked", name.as_str(), None);
        context.worker.metrics.basic(BasicOutcome::Locked);
        return Err(Rejection::AccountLocked(left));
    }
    if let Some(identity) = memory.get(&tag).and_then(|_| lookup(context, &tag)) {
        context.worker.metrics.basic(BasicOutcome::Remembered);
        return Ok(identity);
    }
    let users = &context.state.config.users;
    let (epoch, changes) = (sessions.revocations().epoch(), users.changes());
    let (right, user) = match remembered(context, &tag, &name).await? {
        Some(found) => found,
        None => {
            let right = shared_check(context, tag, &name, password).await?;
            let user = users.by_id(&right.subject).await.map_err(|error| users_unavailable(&error))?;
            (right, user.filter(|user| !user.disabled).ok_or(Rejection::WrongCredentials)?)
        }
    };
    let machine = Machine {
        users: changes,
        recheck_at: context.now_millis.saturating_add(RECHECK_INTERVAL),
        routes: Box::default(),
    };
    let lifetime = (right.checked_at, None);
    let identity = identity(context, &user, user.roles.clone(), right.session, lifetime, machine)?;
    context.state.credential_cache.borrow_mut().insert(&tag, Rc::clone(&identity), epoch);
    Ok(identity)
}

/// The user of a password that was right before, if it still has to be.
async fn remembered(
    context: &RequestContext,
    tag: &PasswordTag,
    name: &CanonicalName,
) -> Result<Option<(RightPassword, Arc<User>)>, Rejection> {
    let memory = &context.worker.gateway.passwords;
    let Some(right) = memory.get(tag) else { return Ok(None) };
    let found = context.state.config.users.by_name(name).await.map_err(|error| users_unavailable(&error))?;
    let user = found.map(|found| found.user).filter(|user| !user.disabled && right.is_of(user));
    // A directory may not say when a password was changed.
    let is_recent = context.now_millis.since(right.checked_at) < RECHECK_INTERVAL;
    match user.filter(|user| is_recent || matches!(user.credential, Credential::Hash(_))) {
        Some(user) => {
            context.worker.metrics.basic(BasicOutcome::Remembered);
            Ok(Some((right, user)))
        }
        None => {
            memory.remove(tag);
            Ok(None)
        }
    }
}

/// The result of the check that is under way for this password, or of one that begins. It is carried through, also where all who
/// wait for it go away: its permit has to be settled.
async fn shared_check(
    context: &Rc<RequestContext>,
    tag: PasswordTag,
    name: &CanonicalName,
    password: Password,
) -> CheckResult {
    let (mut result, begun) = context.worker.gateway.passwords.join_check(tag);
    if let Some(sender) = begun {
        let (context, name) = (Rc::clone(context), name.clone());
        spawn_local(async move {
            let check = Check { context, tag };
            let checked = check_now(&check.context, &name, password).await;
            if let Ok(right) = &checked {
                check.context.worker.gateway.passwords.insert(tag, right.clone());
            }
            drop(check);
            sender.send_replace(Some(checked));
        });
    }
    let result = result.wait_for(Option::is_some).await.ok().and_then(|result| result.clone());
    result.unwrap_or(Err(Rejection::TooManyLogins))
}

/// A check under way; it is none any more when this is dropped.
struct Check {
    context: Rc<RequestContext>,
    tag: PasswordTag,
}

impl Drop for Check {
    fn drop(&mut self) {
        self.context.worker.gateway.passwords.end_check(&self.tag);
    }
}

/// Checks a password as a login does, with its locks and limits.
async fn check_now(context: &RequestContext, name: &CanonicalName, password: Password) -> CheckResult {
    let checked = check_password(context, "basic", name, password).await;
    context.worker.metrics.basic(match &checked {
        Ok(_) => BasicOutcome::Verified,
        Err(Rejection::WrongCredentials) => BasicOutcome::Wrong,
        Err(Rejection::AccountLocked(_)) => BasicOutcome::Locked,
        Err(Rejection::RateLimited(_)) => BasicOutcome::RateLimited,
        Err(_) => BasicOutcome::Unavailable,
    });
    let (user, permit) = checked?;
    // A password alone is not enough, and Basic has no place for a code: such users have tokens for programs.
    if !matches!(second_factor::is_enrolled(context, &user).await, Ok(false)) {
        settle(context, permit, LoginResult::Unknown).await?;
        return Err(Rejection::CodeRequired);
    }
    settle(context, permit, LoginResult::Succeeded).await?;
    if user.must_change_password {
        context.audit("basic", "password_change_required", name.as_str(), None);
        return Err(Rejection::PasswordChangeRequired(false));
    }
    let session = SessionId::random();
    context.audit("basic", "success", name.as_str(), Some(session.to_string()));
    Ok(RightPassword {
        subject: user.id.clone(),
        credential: user.credential_fingerprint(),
        session,
        checked_at: context.now_millis,
    })
}

/// `lifetime` is when the credentials began, and when they expire.
fn identity(
    context: &RequestContext,
    user: &User,
    roles: Vec<String>,
    session: SessionId,
    lifetime: (UnixMillis, Option<UnixMillis>),
    machine: Machine,
) -> Result<Rc<Identity>, Rejection> {
    let config = &context.state.config;
    if config.issuers.reserve(&user.id) {
        return Err(Rejection::TokenInvalid("the user's id is in the namespace of another issuer"));
    }
    let claims = claims_of_user(config, user, roles, session, lifetime);
    Ok(Rc::new(Identity::of_machine(claims, session, &config.identity_headers, machine)?))
}

/// The claims that an access token of the user would have; `lifetime` as for [`identity`].
pub(crate) fn claims_of_user(
    config: &RuntimeConfig,
    user: &User,
    roles: Vec<String>,
    session: SessionId,
    (from, until): (UnixMillis, Option<UnixMillis>),
) -> VerifiedClaims {
    let compat = &config.settings.compat;
    let by_name = compat.is_on() && compat.identity == CompatIdentity::Username;
    let further = further_claims(&config.settings.tokens, user, &roles).into_owned();
    config.verifier.claims_of_user(ClaimsOfUser {
        subject: if by_name { &user.username } else { &user.id },
        username: &user.username,
        roles,
        further,
        session: session.to_string(),
        issued_at: from.seconds(),
        expires_at: until.map(UnixMillis::seconds),
    })
}
