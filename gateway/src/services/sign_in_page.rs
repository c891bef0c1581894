//! `GET /login` and the form that it shows, sent by `POST /login`.

use std::rc::Rc;
use std::sync::Arc;

use http::StatusCode;
use http::header::LOCATION;

use crate::admission::RequestView;
use crate::auth::credentials::browser_cookies;
use crate::browser::cookies::SessionCookies;
use crate::browser::forms::FormKind;
use crate::browser::navigation::{RequestPurpose, purpose};
use crate::browser::pages::{FormError, LoginForm};
use crate::browser::return_address::ReturnAddress;
use crate::browser::{Browser, CookieChange, accept_language};
use crate::http1::RequestHead;
use crate::identity::Identity;
use crate::rejection::{Code, Rejection};
use crate::request::RequestContext;
use crate::request_body::RequestBody;
use crate::response::{self, Response, header_value};
use crate::services::cookie_session::{resolve_for_page, signed_claims};
use crate::services::handover::{SignIn, go_on, to_sign_in};
use crate::services::login::{Credentials, sign_in};
use crate::services::page_form::{AccountFields, read_form, refuse_form};
use crate::services::password_page;
use crate::services::second_factor_page::{self, ask_code};
use crate::services::token_response::Recipient;
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
    let is_handover = !state.is_empty() && return_to.other_origin().is_some();
    // The other host's routes may ask for it.
    let counts = |identity: &Rc<Identity>| {
        !(is_handover && context.state.config.requires_possession) || identity.claims().is_of_cookie_session()
    };
    let identity = identity.filter(counts);
    let user = identity.as_ref().map(|identity| identity.claims().username());
    let language = accept_language(&context.head);
    let is_switch = query_value(request, "switch").is_some();
    match (user, &identity) {
        // The other host asked for a session: here is one.
        (_, Some(identity)) if !is_switch && is_handover => {
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
                (false, false)
                    if !is_switch && cookies.is_empty() && is_led_from_itself(context, browser) =>
                {
                    Some(FormError::CookiesMissing)
                }
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

/// Whether a person came from the sign-in page to the sign-in page, as happens where a browser keeps no cookies: the page that it was
/// led on to knew of no session.
fn is_led_from_itself(context: &RequestContext, browser: &Browser) -> bool {
    let own = context.own_origin();
    let from = format!(
        "{}://{}{}{}",
        own.scheme.name(),
        own.host_with_port(),
        context.client.prefix(&context.head),
        browser.pages.login_path()
    );
    let referrer = context.head.headers().iter().find(|field| field.name.eq_ignore_ascii_case(b"referer"));
    let rest = referrer.and_then(|field| field.value.strip_prefix(from.as_bytes()));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'?')))
}

/// Takes a form of a sign-in, whichever step it is of: all of them are sent to the address of the first one, so that the browser
/// keeps the fragment of the address that it is led back to.
pub(crate) async fn submit(
    context: &Rc<RequestContext>,
    browser: &Browser,
    body: RequestBody,
) -> Result<Response, Rejection> {
    let fields: AccountFields = read_form(context, body).await?;
    match (fields.is_required_change(), fields.token.is_empty()) {
        (true, _) => password_page::change(context, browser, fields).await,
        (false, false) => second_factor_page::check_code(context, browser, fields).await,
        (false, true) => first_step(context, browser, fields).await,
    }
}

/// Signs a person in, or shows the form again with what is wrong. A new session begins whatever cookies came along, and the
/// session that they belong to ends: no person can be made to use one that was chosen for them.
async fn first_step(
    context: &Rc<RequestContext>,
    browser: &Browser,
    mut fields: AccountFields,
) -> Result<Response, Rejection> {
    let password = std::mem::take(&mut fields.password);
    let return_to = browser.return_address(&context.head, &context.client, &fields.return_to);
    let cookies = browser_cookies(browser, context);
    if fields.username.trim().is_empty() || password.is_empty() {
        let error = (FormError::BothRequired, StatusCode::BAD_REQUEST);
        return Ok(again(context, browser, &fields, &return_to, error));
    }
    let username = fields.username.clone();
    let result =
        sign_in(context, async { Credentials::new(username, password) }, None, Recipient::Cookies).await;
    match result {
        Ok(tokens) => begin_session(context, browser, cookies, tokens, fields.destination(&return_to)).await,
        Err(Rejection::SecondFactorRequired(token)) => {
            let step = AccountFields { token: token.as_str().to_owned(), ..fields };
            context.record.rejection.replace(Some(Rejection::SecondFactorRequired(token)));
            Ok(ask_code(context, browser, &step, &return_to, (StatusCode::FORBIDDEN, None)))
        }
        Err(Rejection::PasswordChangeRequired(with_code))
            if context.state.config.settings.users.password_change =>
        {
            Ok(ask_change(context, browser, &fields, &return_to, with_code))
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

/// The form for another password, which takes a code as well if that is needed, in place of a sign-in.
pub(super) fn ask_change(
    context: &RequestContext,
    browser: &Browser,
    fields: &AccountFields,
    return_to: &ReturnAddress,
    with_code: bool,
) -> Response {
    refuse_form(context, Rejection::PasswordChangeRequired(with_code), |rejection| {
        let form = fields.form(FormKind::RequiredChange, return_to, None).with_code(with_code);
        browser.pages.form(rejection.status(), accept_language(&context.head), form)
    })
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
    fields: &AccountFields,
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
