//! Second factors for clients: the step of a login (`POST /login/totp`), enrolment and removal (`/mfa/…`), and proving one's
//! identity anew for what needs that (`POST /reauthenticate`, RFC 9470).
//!
//! Every code is throttled and locked like a password.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::auth::authenticate::authenticate_endpoint;
use crate::auth::dpop::{self, CheckedProof};
use crate::clock::now_millis;
use crate::config::Endpoint;
use crate::identity::Identity;
use crate::rejection::{MFA_TOKEN_SECONDS, Rejection};
use crate::rejection::{store_unavailable, users_unavailable};
use crate::request::RequestContext;
use crate::request_body::RequestBody;
use crate::response::{self, Response};
use crate::services::foreign;
use crate::services::login::{check_password, only_json, open_session, permit, read_body, settle};
use crate::services::token_response::{Grant, Recipient, issue, respond};
use crate::sessions::{
    EnrolledFactors, FactorError, IssuedTokens, LoginResult, NewSecret, RevocationReason, SessionId, Ticket,
    TicketPurpose,
};
use crate::strict_json;
use crate::tokens::{KeyThumbprint, UnixSeconds};
use crate::users::{CanonicalName, Password, User};

/// What an app needs for an enrolment.
#[derive(Serialize)]
struct EnrolmentBody {
    /// In base32.
    secret: String,
    /// For apps, as a link or as a QR code.
    otpauth_uri: String,
    /// The same as an image.
    qr_svg: String,
    /// In seconds.
    expires_in: u64,
}

#[derive(Serialize)]
struct RecoveryBody {
    recovery_codes: Vec<String>,
}

/// Whether a user has to be asked for a second factor.
pub(super) async fn is_enrolled(context: &RequestContext, user: &User) -> Result<bool, Rejection> {
    if !context.state.config.settings.mfa.enabled {
        return Ok(false);
    }
    let factors = context.worker.gateway.sessions.factors(&user.id).await;
    Ok(factors.map_err(|error| store_unavailable(&error))?.totp)
}

/// The rejection of a login whose password was right: with what it goes on by.
pub(super) async fn ask(context: &RequestContext, user: &User) -> Rejection {
    let ticket = Ticket {
        purpose: TicketPurpose::SecondFactor,
        subject: user.id.clone(),
        credential: user.credential_fingerprint(),
        expires_at: now_millis().saturating_add(Duration::from_secs(MFA_TOKEN_SECONDS)),
        used_at: None,
    };
    match context.worker.gateway.sessions.issue_ticket(ticket).await {
        Ok(token) => Rejection::SecondFactorRequired(token.into()),
        Err(error) => store_unavailable(&error),
    }
}

/// Uses a code of a user, within the limits of logins. The permit is settled.
pub(super) async fn check_code(
    context: &RequestContext,
    event: &'static str,
    user: &User,
    code: &str,
) -> Result<(), Rejection> {
    let name = CanonicalName::for_lockout(&user.username);
    let permit = permit(context, event, &name).await?;
    let sessions = &context.worker.gateway.sessions;
    let sealer = &context.state.config.sealer;
    let redeemed = sessions.redeem_code(&user.id, sealer, code, now_millis()).await;
    let outcome = match &redeemed {
        Ok(()) => LoginResult::Succeeded,
        Err(FactorError::WrongCode) => LoginResult::Failed,
        Err(_) => LoginResult::Unknown,
    };
    settle(context, permit, outcome).await?;
    redeemed.map_err(|error| {
        context.audit(event, "failed", name.as_str(), None);
        refusal(error)
    })
}

fn refusal(error: FactorError) -> Rejection {
    match error {
        FactorError::WrongCode => Rejection::WrongCode,
        FactorError::None => Rejection::NoFactor,
        FactorError::Enrolled => Rejection::FactorExists,
        FactorError::Store(error) => store_unavailable(&error),
        FactorError::Unsealable(error) => {
            tracing::error!(%error, "a second factor cannot be read");
            Rejection::FactorUnreadable
        }
    }
}

async fn members(context: &RequestContext, body: RequestBody) -> Result<Map<String, Value>, Rejection> {
    only_json(&context.head)?;
    strict_json::object(&read_body(context, body).await?).ok_or(Rejection::BodyNotJson)
}

fn text(members: &mut Map<String, Value>, name: &str) -> Result<Option<String>, Rejection> {
    match members.remove(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(Some(text)),
        None => Ok(None),
        Some(_) => Err(Rejection::CodeNotText),
    }
}

fn required(members: &mut Map<String, Value>, name: &str) -> Result<String, Rejection> {
    text(members, name)?.ok_or(Rejection::CodeMissing)
}

/// `POST /login/totp`: completes a login by a code.
pub(super) async fn step(context: &RequestContext, body: RequestBody) -> Result<Response, Rejection> {
    let mut members = members(context, body).await?;
    let (token, code) = (required(&mut members, "mfa_token")?, required(&mut members, "code")?);
    let proof = dpop::of_token_request(context, None)?;
    let tokens = complete_login(context, &token, &code, proof.as_ref(), Recipient::Client).await?;
    Ok(respond(context, tokens, proof.as_ref()))
}

/// The tokens of a login whose password was right, by its ticket and a code. A wrong code leaves the ticket as it is; a right one
/// uses both up. The session is bound to the key of `proof`.
pub(super) async fn complete_login(
    context: &RequestContext,
    token: &str,
    code: &str,
    proof: Option<&CheckedProof>,
    recipient: Recipient,
) -> Result<IssuedTokens, Rejection> {
    let sessions = &context.worker.gateway.sessions;
    let purpose = TicketPurpose::SecondFactor;
    let ticket = sessions.ticket(token, purpose, context.now_millis).await;
    let ticket = ticket.map_err(|error| store_unavailable(&error))?.map_err(|_| Rejection::LoginStepOver)?;
    let user = context.state.config.users.by_id(&ticket.subject).await;
    let user = user.map_err(|error| users_unavailable(&error))?;
    let user = user.filter(|user| !user.disabled && user.credential_fingerprint() == ticket.credential);
    let user = user.ok_or(Rejection::LoginStepOver)?;
    context.record.username.replace(Some(user.username.clone()));
    check_code(context, "login", &user, code).await?;
    if let Some(proof) = proof {
        proof.claim(context).await?;
    }
    let used = sessions.use_ticket(token, purpose, now_millis()).await;
    used.map_err(|error| store_unavailable(&error))?.map_err(|_| Rejection::LoginStepOver)?;
    let key = proof.map(|proof| proof.key);
    open_session(context, &user, true, (key, recipient), async { Ok(()) }).await
}

/// The user of an access token, and the token's session.
async fn user_of(context: &RequestContext) -> Result<(Arc<User>, SessionId), Rejection> {
    user_behind(context, authenticate_endpoint(context).await?).await
}

/// The user behind an identity, and its session.
pub(super) async fn user_behind(
    context: &RequestContext,
    identity: Rc<Identity>,
) -> Result<(Arc<User>, SessionId), Rejection> {
    let user = foreign::user_of(context, identity.claims()).await?.filter(|user| !user.disabled);
    let session = *identity.session();
    context.record.identity.replace(Some(identity));
    Ok((user.ok_or(Rejection::AccountChanged)?, session))
}

/// Checks the password of a user who is logged in, within the limits of logins.
pub(super) async fn confirm_password(
    context: &RequestContext,
    event: &'static str,
    user: &User,
    password: String,
) -> Result<(), Rejection> {
    let password = Password::new(password).map_err(|_| Rejection::PasswordTooLong)?;
    let name = CanonicalName::for_lockout(&user.username);
    let (_, permit) = check_password(context, event, &name, password).await?;
    settle(context, permit, LoginResult::Succeeded).await
}

/// `/mfa` and what is below it.
pub(super) async fn manage(
    context: &RequestContext,
    endpoint: Endpoint,
    body: RequestBody,
) -> Result<Response, Rejection> {
    let (user, session) = user_of(context).await?;
    match endpoint {
        Endpoint::Mfa => Ok(ok(&status(context, &user).await?)),
        Endpoint::MfaTotp => {
            let password = required(&mut members(context, body).await?, "current_password")?;
            confirm_password(context, "mfa-enroll", &user, password).await?;
            let new = begin(context, &user).await?;
            let uri = otpauth_uri(context, &user, &new.secret);
            let expires_in = new.expires_at.since(context.now_millis).as_secs();
            Ok(ok(&EnrolmentBody { qr_svg: qr_code(&uri), otpauth_uri: uri, secret: new.secret, expires_in }))
        }
        Endpoint::MfaConfirm => {
            let code = required(&mut members(context, body).await?, "code")?;
            let (recovery_codes, _) = confirm(context, &user, session, &code, Recipient::Client).await?;
            Ok(ok(&RecoveryBody { recovery_codes }))
        }
        Endpoint::MfaRecoveryCodes => {
            let code = text(&mut members(context, body).await?, "code")?;
            let recovery_codes = renew_recovery_codes(context, &user, session, code).await?;
            Ok(ok(&RecoveryBody { recovery_codes }))
        }
        _ => {
            let mut members = members(context, body).await?;
            let code = text(&mut members, "code")?;
            let end_other_sessions = match members.remove("end_other_sessions") {
                None => true,
                Some(Value::Bool(end)) => end,
                Some(_) => return Err(Rejection::CodeNotText),
            };
            remove(context, &user, session, code, end_other_sessions).await?;
            Ok(response::no_store(response::empty(StatusCode::NO_CONTENT)))
        }
    }
}

fn ok<T: Serialize>(body: &T) -> Response {
    response::no_store(response::json(StatusCode::OK, body))
}

/// What a user has enrolled.
pub(super) async fn status(context: &RequestContext, user: &User) -> Result<EnrolledFactors, Rejection> {
    let factors = context.worker.gateway.sessions.factors(&user.id).await;
    factors.map_err(|error| store_unavailable(&error))
}

/// Begins an enrolment.
pub(super) async fn begin(context: &RequestContext, user: &User) -> Result<NewSecret, Rejection> {
    let sessions = &context.worker.gateway.sessions;
    let begun = sessions.begin_totp(&user.id, &context.state.config.sealer, now_millis()).await;
    begun.map_err(refusal)
}

/// The enrolment that was begun.
pub(super) async fn begun(context: &RequestContext, user: &User) -> Result<NewSecret, Rejection> {
    let sessions = &context.worker.gateway.sessions;
    sessions.begun_totp(&user.id, &context.state.config.sealer, now_millis()).await.map_err(refusal)
}

/// Completes an enrolment, which the session of the request then counts as authenticated by.
pub(super) async fn confirm(
    context: &RequestContext,
    user: &User,
    session: SessionId,
    code: &str,
    recipient: Recipient,
) -> Result<(Vec<String>, IssuedTokens), Rejection> {
    const EVENT: &str = "mfa-enroll";
    let name = CanonicalName::for_lockout(&user.username);
    let permit = permit(context, EVENT, &name).await?;
    let sessions = &context.worker.gateway.sessions;
    let confirmed = sessions.confirm_totp(&user.id, &context.state.config.sealer, code, now_millis()).await;
    let outcome = match &confirmed {
        Err(FactorError::WrongCode) => LoginResult::Failed,
        // A success proves no password: earlier failures stay counted.
        _ => LoginResult::Unknown,
    };
    settle(context, permit, outcome).await?;
    let codes = confirmed.map_err(refusal)?;
    let tokens = raise(context, user, session, true, recipient).await?;
    context.audit(EVENT, "success", &user.username, Some(session.to_string()));
    Ok((codes, tokens))
}

/// Notes in a session that its user has proved the identity anew, and gives an access token that says so.
async fn raise(
    context: &RequestContext,
    user: &User,
    session: SessionId,
    second_factor: bool,
    recipient: Recipient,
) -> Result<IssuedTokens, Rejection> {
    let raised = context.worker.gateway.sessions.reauthenticate(session, second_factor, now_millis()).await;
    let raised = raised.map_err(|error| store_unavailable(&error))?.ok_or(Rejection::SessionEnded)?;
    let session_ends_at: UnixSeconds = raised.expires_at.seconds();
    let authentication = raised.authentication;
    issue(
        context,
        Grant {
            user,
            session: &session,
            session_ends_at,
            refresh_token: None,
            key: raised.key.map(KeyThumbprint),
            recipient,
            message: None,
            authentication,
        },
    )
}

/// Replaces the recovery codes of a user who has a factor.
pub(super) async fn renew_recovery_codes(
    context: &RequestContext,
    user: &User,
    session: SessionId,
    code: Option<String>,
) -> Result<Vec<String>, Rejection> {
    const EVENT: &str = "mfa-recovery-codes";
    check_code(context, EVENT, user, &code.ok_or(Rejection::CodeMissing)?).await?;
    let codes = context.worker.gateway.sessions.renew_recovery_codes(&user.id).await.map_err(refusal)?;
    context.audit(EVENT, "success", &user.username, Some(session.to_string()));
    Ok(codes)
}

/// Removes the factors of a user who still has them, and ends the user's other sessions if that is wished. The password would not do:
/// who has learned it must not get rid of what it lacks.
pub(super) async fn remove(
    context: &RequestContext,
    user: &User,
    session: SessionId,
    code: Option<String>,
    end_other_sessions: bool,
) -> Result<(), Rejection> {
    const EVENT: &str = "mfa-remove";
    check_code(context, EVENT, user, &code.ok_or(Rejection::CodeMissing)?).await?;
    let sessions = &context.worker.gateway.sessions;
    // Before the factor goes: after an outage in between, the whole can be tried again.
    if end_other_sessions {
        let ended = sessions.revoke_others(&user.id, session, RevocationReason::Revoked, now_millis()).await;
        ended.map_err(|error| store_unavailable(&error))?;
    }
    sessions.remove_factors(&user.id).await.map_err(refusal)?;
    context.audit(EVENT, "success", &user.username, Some(session.to_string()));
    Ok(())
}

/// `POST /reauthenticate`: proves the identity anew by `code`, or by `current_password` where no second factor is enrolled, and
/// gives an access token that says so.
pub(super) async fn reauthenticate(
    context: &RequestContext,
    body: RequestBody,
) -> Result<Response, Rejection> {
    let (user, session) = user_of(context).await?;
    let mut members = members(context, body).await?;
    let (password, code) = (text(&mut members, "current_password")?, text(&mut members, "code")?);
    let tokens = prove(context, &user, session, (password, code), Recipient::Client).await?;
    Ok(respond(context, tokens, None))
}

/// Checks what is given, raises the session, and gives a new access token of it.
pub(super) async fn prove(
    context: &RequestContext,
    user: &User,
    session: SessionId,
    (password, code): (Option<String>, Option<String>),
    recipient: Recipient,
) -> Result<IssuedTokens, Rejection> {
    const EVENT: &str = "reauthenticate";
    let is_enrolled = is_enrolled(context, user).await?;
    let second_factor = match (is_enrolled, code, password) {
        (true, Some(code), _) => {
            check_code(context, EVENT, user, &code).await?;
            true
        }
        (true, None, _) => return Err(Rejection::CodeMissing),
        (false, _, Some(password)) => {
            confirm_password(context, EVENT, user, password).await?;
            false
        }
        (false, _, None) => return Err(Rejection::CodeMissing),
    };
    let tokens = raise(context, user, session, second_factor, recipient).await?;
    context.audit(EVENT, "success", &user.username, Some(session.to_string()));
    Ok(tokens)
}

/// The address by which apps take a secret (Key URI Format of Google Authenticator).
pub(super) fn otpauth_uri(context: &RequestContext, user: &User, secret: &str) -> String {
    let settings = &context.state.config.settings;
    let issuer = settings.mfa.issuer.as_deref().unwrap_or(&settings.tokens.issuer);
    // A colon separates the issuer from the name.
    let issuer = issuer.trim_start_matches("https://").trim_start_matches("http://").replace(':', " ");
    let encoded = |text: &str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    let (issuer, name) = (encoded(&issuer), encoded(&user.username));
    format!(
        "otpauth://totp/{issuer}:{name}?secret={secret}&issuer={issuer}&algorithm=SHA1&digits=6&period=30"
    )
}

/// A QR code as SVG, black on white. It has no style attribute, which the pages' policy would forbid.
pub(super) fn qr_code(text: &str) -> String {
    // The addresses are far shorter than a QR code can hold.
    let Ok(code) = qrcode::QrCode::new(text) else { return String::new() };
    let svg = code.render::<qrcode::render::svg::Color<'_>>().min_dimensions(240, 240).build();
    svg.split_once("?>").map_or_else(|| svg.clone(), |(_, svg)| svg.to_owned())
}
