//! `POST /password/reset`, and its page: a new password by a link that an operator made (`users reset NAME`).
//!
//! The link counts once. Only a new password that may be set uses it up. All sessions of the user end, and a lock.

use std::rc::Rc;
use std::sync::Arc;

use http::StatusCode;
use serde_json::Value;

use crate::admission::RequestView;
use crate::browser::forms::{AccountForm, FormKind};
use crate::browser::pages::{FormError, Refusal, RefusalContext};
use crate::browser::return_address::ReturnAddress;
use crate::browser::{Browser, accept_language};
use crate::clock::now_millis;
use crate::rejection::{Code, Rejection};
use crate::rejection::{store_unavailable, users_unavailable};
use crate::request::RequestContext;
use crate::request_body::RequestBody;
use crate::response::{self, Response};
use crate::services::login::{only_json, read_body};
use crate::services::page_form::{AccountFields, read_form, refuse_form};
use crate::services::password;
use crate::services::password_page::refused;
use crate::services::sign_in_page::query_value;
use crate::sessions::{
    BadTicket, KeptSessions, RateLimitDecision, RateLimitScope, RevocationReason, TicketPurpose,
};
use crate::strict_json;
use crate::users::{Password, User};

/// The name of a reset in the audit log.
const EVENT: &str = "password-reset";

/// Sets a new password for a client that sends JSON: `token` of the link, and `new_password`.
pub(super) async fn reset(context: &RequestContext, body: RequestBody) -> Result<Response, Rejection> {
    only_json(&context.head)?;
    let body = read_body(context, body).await?;
    let mut members = strict_json::object(&body).ok_or(Rejection::BodyNotJson)?;
    let mut text = |name: &str| match members.remove(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        _ => Err(Rejection::ResetIncomplete),
    };
    let (token, new) = (text("token")?, text("new_password")?);
    apply(context, &token, new).await?;
    Ok(response::no_store(response::empty(StatusCode::NO_CONTENT)))
}

/// The user whom a link is for.
async fn user_of(context: &RequestContext, token: &str) -> Result<Arc<User>, Rejection> {
    let sessions = &context.worker.gateway.sessions;
    let ticket = sessions.ticket(token, TicketPurpose::PasswordReset, context.now_millis).await;
    let ticket = match ticket.map_err(|error| store_unavailable(&error))? {
        Ok(ticket) => ticket,
        Err(bad) => return Err(bad_link(context, bad).await),
    };
    let user = context.state.config.users.by_id(&ticket.subject).await;
    let user = user.map_err(|error| users_unavailable(&error))?.filter(|user| !user.disabled);
    match user {
        // There is another password since the link was made.
        Some(user) if user.credential_fingerprint() != ticket.credential => Err(Rejection::LinkUsed),
        Some(user) => Ok(user),
        None => Err(Rejection::LinkExpired),
    }
}

/// A link that does not count is a failure of its network.
async fn bad_link(context: &RequestContext, bad: BadTicket) -> Rejection {
    if bad == BadTicket::Unknown {
        let sessions = &context.worker.gateway.sessions;
        let (network, now) = (context.network(), context.now_millis);
        let counted = sessions.count_failure(RateLimitScope::Login, &network, now).await;
        if let Ok(RateLimitDecision::Limited { retry_after }) = counted {
            return Rejection::RateLimited(retry_after);
        }
    }
    match bad {
        BadTicket::Unknown | BadTicket::Expired => Rejection::LinkExpired,
        BadTicket::Used => Rejection::LinkUsed,
    }
}

async fn apply(context: &RequestContext, token: &str, new: String) -> Result<Arc<User>, Rejection> {
    let new = Password::new(new).map_err(|_| Rejection::PasswordTooLong)?;
    let user = user_of(context, token).await?;
    context.record.username.replace(Some(user.username.clone()));
    let change = password::prepare(context, &user, None, new).await?;
    let sessions = &context.worker.gateway.sessions;
    // Before the password is stored: of two requests at the same time, one goes on.
    let used = sessions.use_ticket(token, TicketPurpose::PasswordReset, now_millis()).await;
    if let Err(bad) = used.map_err(|error| store_unavailable(&error))? {
        return Err(bad_link(context, bad).await);
    }
    let stored = password::store(context, &user, change, KeptSessions::None).await;
    let changed = match stored {
        Ok(changed) => changed,
        Err(rejection) => {
            if let Err(error) = sessions.return_ticket(token).await {
                tracing::warn!(%error, "a link for a new password was used up without one");
            }
            return Err(rejection);
        }
    };
    let ended = sessions.revoke_all(&user.id, RevocationReason::AccountChanged, now_millis()).await;
    let unlocked = sessions.unlock(&user.username, now_millis()).await;
    if let Err(error) = ended.map(drop).and(unlocked.map(drop)) {
        tracing::warn!(%error, "after a reset of a password, sessions or a lock of the user go on for now");
    }
    context.audit(EVENT, "success", &user.username, None);
    Ok(changed)
}

/// Shows the form, or that the link does not count.
pub(super) async fn show(
    context: &RequestContext,
    browser: &Browser,
    request: RequestView<'_>,
) -> Result<Response, Rejection> {
    let token = query_value(request, "token").unwrap_or_default();
    match user_of(context, &token).await {
        Ok(user) => {
            let fields = AccountFields { username: user.username.clone(), token, ..AccountFields::default() };
            let home = ReturnAddress::home();
            let form = form(&fields, &home, None);
            Ok(browser.pages.form(StatusCode::OK, accept_language(&context.head), form))
        }
        Err(rejection) => Ok(bad_link_page(context, browser, rejection)),
    }
}

/// Sets the password of a form, or shows it again with what is wrong.
pub(super) async fn submit(
    context: &Rc<RequestContext>,
    browser: &Browser,
    body: RequestBody,
) -> Result<Response, Rejection> {
    let fields: AccountFields = read_form(context, body).await?;
    let home = ReturnAddress::home();
    let again = |status, error| {
        browser.pages.form(status, accept_language(&context.head), form(&fields, &home, Some(error)))
    };
    if let Some(error) = fields.error() {
        return Ok(again(StatusCode::BAD_REQUEST, error));
    }
    match apply(context, &fields.token, fields.new.clone()).await {
        Ok(_) => Ok(browser.pages.password_changed(accept_language(&context.head), false, &home)),
        Err(rejection) if matches!(rejection.code(), Code::LinkUsed | Code::LinkExpired) => {
            Ok(bad_link_page(context, browser, rejection))
        }
        Err(rejection) => Ok(refused(context, rejection, again)),
    }
}

fn form<'a>(fields: &'a AccountFields, home: &'a ReturnAddress, error: Option<FormError>) -> AccountForm<'a> {
    AccountForm {
        remember: false,
        state: "",
        at_own_address: false,
        ..fields.form(FormKind::ResetPassword, home, error)
    }
}

fn bad_link_page(context: &RequestContext, browser: &Browser, rejection: Rejection) -> Response {
    refuse_form(context, rejection, |rejection| {
        let refusal = match rejection.code() {
            Code::LinkUsed => Refusal::LinkUsed,
            Code::LinkExpired => Refusal::LinkExpired,
            Code::StoreUnavailable => Refusal::StoreUnavailable,
            Code::Overloaded => Refusal::Overloaded,
            _ => Refusal::Other,
        };
        let home = ReturnAddress::home();
        let of_request =
            RefusalContext { user: None, return_to: &home, request_id: context.request_id.as_str() };
        let language = accept_language(&context.head);
        browser.pages.refusal(rejection.status(), language, refusal, of_request)
    })
}
