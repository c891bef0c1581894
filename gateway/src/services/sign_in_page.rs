//! `GET /login` and the form that it shows, sent by `POST /login`.

use std::rc::Rc;
use std::sync::Arc;

use http::StatusCode;
use http::header::LOCATION;

use crate::admission::RequestView;
use crate::auth::credentials::browser_cookies;
use crate::browser::cookies::SessionCookies;
use crate::browser::forms::{AccountForm, FormKind};
use crate::browser::navigation::{RequestPurpose, purpose};
use crate::browser::pages::{FormError, LoginForm};
use crate::browser::return_address::ReturnAddress;
use crate::browser::{Browser, CookieChange, accept_language};
use crate::http1::RequestHead;
use crate::rejection::{Code, Rejection};
use crate::request::RequestContext;
use crate::request_body::RequestBody;
use crate::response::{self, Response, header_value};
use crate::services::cookie_session::{resolve_for_page, signed_claims};
use crate::services::handover::{SignIn, go_on, to_sign_in};
use crate::services::login::{Credentials, sign_in};
use crate::services::page_form::{AccountFields, FormFields, Slot, read_form, refuse_form};
use crate::services::second_factor_page::ask_code;
use crate::sessions::IssuedTokens;
use crate::sessions::RevocationReason;

/// Browsers keep a cookie whose name and value have so many bytes together (RFC 6265bis section 5.6), less the longest name.
const MAX_COOKIE_VALUE: usize = 4096 - 80;

/// Whether a person opens it as a page.
pub(crate) fn is_opened(head: &RequestHead) -> bool {
    purpose(head.method(), head.headers()) == RequestPurpose::Navigation
}

/// Whether what is sent is a form's and not JSON.
pub(crate) fn is_form(head: &RequestHead) -> bool {
    head.media_type().eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
}

/// A value of the request's query.
pub(crate) fn query_value(request: RequestView<'_>, name: &str) -> Option<String> {
    let (_, query) = request.target().as_str().split_once('?')?;
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// Shows the form, or who is signed in.
pub(crate) async fn show(
    context: &Rc<RequestContext>,
    browser: &Browser,
    request: RequestView<'_>,
) -> Result<Response, Rejection> {
    let own = context.own_origin();
    let return_to = query_value(request, "return").unwrap_or_default();
    let return_to = browser.return_address(&context.head, &context.client, &return_to);
    if browser.login_elsewhere(own).is_some() {
        return Ok(to_sign_in(context, browser, &return_to));
    }
    let state = query_value(request, "state").unwrap_or_default();
    let cookies = browser_cookies(browser, context);
    let (identity, ended) = resolve_for_page(context, browser, cookies).await?;
    let user = identity.as_ref().map(|identity| identity.claims().username());
    let language = accept_language(&context.head);
    let is_switch = query_value(request, "switch").is_some();
    match (user, &identity) {
        // The other host asked for a session: here is one.
        (_, Some(identity)) if !is_switch && !state.is_empty() && return_to.other_origin().is_some() => {
            go_on(
                context,
                browser,
                SignIn::of_identity(context, identity, cookies.remember).await?,
                &return_to,
                &state,
            )
            .await
        }
        (Some(user), _) if !is_switch => Ok(browser.pages.account(language, user, &return_to)),
        _ => {
            let error = match (cookies.conflict, ended) {
                (true, _) => Some(FormError::CookieConflict),
                (false, true) => Some(FormError::SessionEnded),
                (false, false) => None,
            };
            let form = LoginForm {
                username: "",
                remember: cookies.remember,
                return_to: &return_to,
                state: &state,
                error,
                user,
            };
            Ok(browser.pages.login(StatusCode::OK, language, form))
        }
    }
}

/// What the form sends.
#[derive(Default)]
struct Fields {
    username: String,
    password: String,
    return_to: String,
    state: String,
    remember: bool,
}

impl FormFields for Fields {
    fn slot(&mut self, name: &str) -> Option<Slot<'_>> {
        Some(match name {
            "username" => Slot::Text(&mut self.username),
            "password" => Slot::Text(&mut self.password),
            "return" => Slot::Text(&mut self.return_to),
            "state" => Slot::Text(&mut self.state),
            "remember" => Slot::Checked(&mut self.remember),
            _ => return None,
        })
    }
}

/// Signs a person in, or shows the form again with what is wrong. A new session begins whatever cookies came along, and the
/// session that they belong to ends: no person can be made to use one that was chosen for them.
pub(crate) async fn submit(
    context: &Rc<RequestContext>,
    browser: &Browser,
    body: RequestBody,
) -> Result<Response, Rejection> {
    let mut fields: Fields = read_form(context, body).await?;
    let password = std::mem::take(&mut fields.password);
    let return_to = browser.return_address(&context.head, &context.client, &fields.return_to);
    let cookies = browser_cookies(browser, context);
    if fields.username.trim().is_empty() || password.is_empty() {
        let error = (FormError::BothRequired, StatusCode::BAD_REQUEST);
        return Ok(again(context, browser, &fields, &return_to, error));
    }
    let username = fields.username.clone();
    let result = sign_in(context, async { Credentials::new(username, password) }, None).await;
    match result {
        Ok(tokens) => {
            let to = Destination { return_to: &return_to, state: &fields.state, remember: fields.remember };
            begin_session(context, browser, cookies, tokens, to).await
        }
        Err(Rejection::SecondFactorRequired(token)) => {
            let step = AccountFields {
                token: token.as_str().to_owned(),
                remember: fields.remember,
                state: fields.state.clone(),
                ..AccountFields::default()
            };
            context.record.rejection.replace(Some(Rejection::SecondFactorRequired(token)));
            Ok(ask_code(context, browser, &step, &return_to, (StatusCode::FORBIDDEN, None)))
        }
        Err(rejection)
            if rejection.code() == Code::PasswordChangeRequired
                && context.state.config.settings.users.password_change =>
        {
            let form = AccountForm {
                kind: FormKind::RequiredChange,
                username: &fields.username,
                is_named: true,
                token: "",
                remember: fields.remember,
                return_to: &return_to,
                state: &fields.state,
                error: None,
            };
            let response = browser.pages.form(rejection.status(), accept_language(&context.head), form);
            context.record.rejection.replace(Some(rejection));
            Ok(response)
        }
        Err(rejection) => {
            Ok(refuse_form(context, rejection, |rejection| {
                let error = match rejection.code() {
                    // A password that is too long is a wrong one to a person.
                    Code::InvalidCredentials | Code::BadRequest => FormError::InvalidCredentials,
                    _ => form_error(rejection),
                };
                again(context, browser, &fields, &return_to, (error, rejection.status()))
            }))
        }
    }
}

/// Where a sign-in leads, and how long it lasts.
pub(super) struct Destination<'a> {
    pub(super) return_to: &'a ReturnAddress,
    pub(super) state: &'a str,
    pub(super) remember: bool,
}

/// Gives a browser the cookies of a session that has begun, in place of those that it sent, and leads it on.
///
/// # Errors
///
/// The session does not fit into cookies.
pub(super) async fn begin_session(
    context: &Rc<RequestContext>,
    browser: &Browser,
    earlier: SessionCookies<'_>,
    tokens: IssuedTokens,
    to: Destination<'_>,
) -> Result<Response, Rejection> {
    if tokens.access_token.len().max(refresh_len(&tokens)) > MAX_COOKIE_VALUE {
        tracing::error!(
            username = tokens.username,
            bytes = tokens.access_token.len(),
            "the session's token does not fit into a cookie, which browsers limit to 4096 bytes; give the user fewer roles and claims"
        );
        end(context, tokens.session).await;
        return Err(Rejection::CookieTooLarge);
    }
    end_earlier(context, earlier).await;
    let remember = browser.remember_me.applies(to.remember);
    let sign_in = SignIn::new(context, &tokens, remember);
    let tokens = Arc::new(tokens);
    context.record.cookies.replace(Some(CookieChange::Set { tokens, remember }));
    go_on(context, browser, sign_in, to.return_to, to.state).await
}

/// What a form says of a rejection, whatever form it is.
pub(super) fn form_error(rejection: &Rejection) -> FormError {
    let wait = rejection.retry_after().unwrap_or_default();
    match rejection.code() {
        Code::AccountLocked => FormError::Locked(wait),
        Code::RateLimited => FormError::RateLimited(wait),
        Code::TooManySessions => FormError::TooManySessions,
        Code::PasswordChangeRequired => FormError::ChangeRequired,
        Code::Overloaded => FormError::Overloaded,
        Code::StoreUnavailable => FormError::StoreUnavailable,
        _ => FormError::Other,
    }
}

fn refresh_len(tokens: &IssuedTokens) -> usize {
    tokens.refresh_token.as_ref().map_or(0, String::len)
}

/// The form again.
fn again(
    context: &RequestContext,
    browser: &Browser,
    fields: &Fields,
    return_to: &ReturnAddress,
    (error, status): (FormError, StatusCode),
) -> Response {
    let form = LoginForm {
        username: &fields.username,
        remember: fields.remember,
        return_to,
        state: &fields.state,
        error: Some(error),
        user: None,
    };
    browser.pages.login(status, accept_language(&context.head), form)
}

/// Ends the session that the cookies belong to.
pub(crate) async fn end_earlier(context: &RequestContext, cookies: SessionCookies<'_>) {
    if let Some(session) = signed_claims(context, cookies).and_then(|claims| claims.sid().parse().ok()) {
        end(context, session).await;
    }
}

async fn end(context: &RequestContext, session: crate::sessions::SessionId) {
    let sessions = &context.worker.gateway.sessions;
    // The person is signed in all the same: the session that was left behind ends by its time.
    if let Err(error) = sessions.revoke(session, RevocationReason::Logout, context.now_millis).await {
        tracing::error!(%error, "a session that was replaced by a new sign-in was not ended");
    }
}

/// Has a browser go on to an address (303), whatever it did here.
pub(crate) fn see_other(location: &str) -> Response {
    let mut response = response::no_store(response::empty(StatusCode::SEE_OTHER));
    response.headers_mut().insert(LOCATION, header_value(location));
    response
}
