//! `GET /password` and the form that it shows, sent by `POST /password`: people change their passwords in a browser.

use std::rc::Rc;

use http::StatusCode;

use crate::admission::RequestView;
use crate::auth::credentials::browser_cookies;
use crate::browser::forms::{AccountForm, FormKind};
use crate::browser::pages::FormError;
use crate::browser::return_address::ReturnAddress;
use crate::browser::{Browser, accept_language};
use crate::rejection::{Code, Rejection};
use crate::request::RequestContext;
use crate::request_body::RequestBody;
use crate::response::Response;
use crate::services::cookie_session::resolve_for_page;
use crate::services::login::{Credentials, open_session, sign_in};
use crate::services::page_form::{AccountFields, read_form, refuse_form};
use crate::services::password::{self, Change};
use crate::services::sign_in_page::{begin_session, form_error, query_value};
use crate::services::token_response::Recipient;
use crate::users::Password;

/// Shows the form.
pub(super) async fn show(
    context: &Rc<RequestContext>,
    browser: &Browser,
    request: RequestView<'_>,
) -> Result<Response, Rejection> {
    let return_to = query_value(request, "return").unwrap_or_default();
    let return_to = browser.return_address(&context.head, &context.client, &return_to);
    let (identity, is_over) = resolve_for_page(context, browser, browser_cookies(browser, context)).await?;
    let error = is_over.then_some(FormError::SessionEnded);
    let user = identity.as_ref().map(|identity| identity.claims().username());
    let fields = AccountFields::default();
    let form = form(user, &fields, &return_to, error);
    Ok(browser.pages.form(StatusCode::OK, accept_language(&context.head), form))
}

/// The form with what was typed; `user` is who is signed in.
fn form<'a>(
    user: Option<&'a str>,
    fields: &'a AccountFields,
    return_to: &'a ReturnAddress,
    error: Option<FormError>,
) -> AccountForm<'a> {
    if fields.is_required_change() {
        return fields.form(FormKind::RequiredChange, return_to, error);
    }
    let form = fields.form(FormKind::ChangePassword, return_to, error);
    AccountForm { username: user.unwrap_or(form.username), is_named: user.is_some(), ..form }
}

/// Takes the form.
pub(super) async fn submit(
    context: &Rc<RequestContext>,
    browser: &Browser,
    body: RequestBody,
) -> Result<Response, Rejection> {
    change(context, browser, read_form(context, body).await?).await
}

/// Changes the password, or shows the form again with what is wrong. Who has no session is signed in with the new password.
pub(super) async fn change(
    context: &Rc<RequestContext>,
    browser: &Browser,
    fields: AccountFields,
) -> Result<Response, Rejection> {
    let return_to = browser.return_address(&context.head, &context.client, &fields.return_to);
    let cookies = browser_cookies(browser, context);
    let (identity, _) = resolve_for_page(context, browser, cookies).await?;
    // The form of a sign-in, or one that was opened by another user, is about the user whom it names.
    let identity = identity.filter(|identity| {
        let is_users = [identity.claims().username(), ""].contains(&fields.username.as_str());
        is_users && !fields.is_required_change()
    });
    let user = identity.as_ref().map(|identity| identity.claims().username().to_owned());
    let again = |status, error| {
        let form = form(user.as_deref(), &fields, &return_to, Some(error));
        let form = form.with_code(form.asks_code || error == FormError::CodeRequired);
        browser.pages.form(status, accept_language(&context.head), form)
    };
    if (identity.is_none() && fields.username.trim().is_empty()) || fields.current.is_empty() {
        return Ok(again(StatusCode::BAD_REQUEST, FormError::FieldMissing));
    }
    if let Some(error) = fields.error() {
        return Ok(again(StatusCode::BAD_REQUEST, error));
    }
    let result = async {
        let password = |text: &String| Password::new(text.as_str()).map_err(|_| Rejection::PasswordTooLong);
        let change = Change {
            username: Some(fields.username.clone()),
            current: password(&fields.current)?,
            new: password(&fields.new)?,
            code: Some(fields.code.clone()).filter(|code| !code.is_empty()),
            end_other_sessions: fields.end_other_sessions || identity.is_none(),
        };
        password::apply(context, identity.clone(), change).await
    };
    match result.await {
        Ok(_) if identity.is_some() => {
            Ok(browser.pages.password_changed(accept_language(&context.head), true, &return_to))
        }
        Ok((user, second_factor)) => {
            let signed_in = match second_factor {
                true => {
                    open_session(context, &user, true, (None, Recipient::Cookies), async { Ok(()) }).await
                }
                false => {
                    let credentials = async { Credentials::new(fields.username.clone(), fields.new.clone()) };
                    sign_in(context, credentials, None, Recipient::Cookies).await
                }
            };
            match signed_in {
                Ok(tokens) => {
                    begin_session(context, browser, cookies, tokens, fields.destination(&return_to)).await
                }
                // The password is another one, whatever keeps its user from signing in with it.
                Err(_) => {
                    Ok(browser.pages.password_changed(accept_language(&context.head), false, &return_to))
                }
            }
        }
        Err(rejection) => Ok(refused(context, rejection, again)),
    }
}

/// The form again, with what is wrong.
pub(super) fn refused(
    context: &RequestContext,
    rejection: Rejection,
    again: impl Fn(StatusCode, FormError) -> Response,
) -> Response {
    refuse_form(context, rejection, |rejection| {
        let error = match (rejection, rejection.code()) {
            (Rejection::PasswordTooShort(min), _) => FormError::PasswordTooShort(*min),
            (_, Code::PasswordTooCommon) => FormError::PasswordTooCommon,
            (_, Code::PasswordTooWeak) => FormError::PasswordTooWeak,
            (_, Code::PasswordBreached) => FormError::PasswordBreached,
            (_, Code::PasswordIsUsername) => FormError::PasswordIsUsername,
            (_, Code::PasswordUnchanged) => FormError::PasswordUnchanged,
            (_, Code::PasswordNotChangeable) => FormError::PasswordNotChangeable,
            (_, Code::PasswordConflict) => FormError::PasswordConflict,
            (_, Code::MfaRequired) => FormError::CodeRequired,
            (_, Code::WrongSecondFactor) => FormError::WrongCode,
            (_, Code::InvalidCredentials | Code::BadRequest) => FormError::WrongPassword,
            _ => form_error(rejection),
        };
        again(rejection.status(), error)
    })
}
