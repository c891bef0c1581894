//! `GET /password` and the form that it shows, sent by `POST /password`: people change their passwords in a browser.

use std::rc::Rc;

use http::StatusCode;

use crate::auth::credentials::browser_cookies;
use crate::browser::csrf::RequestSource;
use crate::browser::forms::{AccountForm, FormKind};
use crate::browser::pages::FormError;
use crate::browser::return_address::ReturnAddress;
use crate::browser::{Browser, accept_language, own_origin};
use crate::rejection::{Code, Rejection};
use crate::request::{RequestContext, RequestView};
use crate::request_body::RequestBody;
use crate::response::Response;
use crate::services::cookie_session::resolve;
use crate::services::login::{Credentials, read_body, sign_in};
use crate::services::password::{self, Change};
use crate::services::sign_in_page::{Destination, begin_session, form_error, query_value};
use crate::users::Password;

/// What the forms for passwords send.
#[derive(Default)]
pub(super) struct Fields {
    pub(super) username: String,
    pub(super) current: String,
    pub(super) new: String,
    pub(super) repeat: String,
    pub(super) token: String,
    pub(super) code: String,
    /// What a form of second factors is for.
    pub(super) step: String,
    pub(super) return_to: String,
    pub(super) state: String,
    pub(super) remember: bool,
    pub(super) end_other_sessions: bool,
}

impl Fields {
    pub(super) fn parse(body: &[u8]) -> Result<Fields, Rejection> {
        let mut fields = Fields::default();
        for (name, value) in form_urlencoded::parse(body) {
            let value = value.into_owned();
            let slot = match &*name {
                "username" => &mut fields.username,
                "current_password" => &mut fields.current,
                "new_password" => &mut fields.new,
                "repeat_password" => &mut fields.repeat,
                "token" => &mut fields.token,
                "code" => &mut fields.code,
                "step" => &mut fields.step,
                "return" => &mut fields.return_to,
                "state" => &mut fields.state,
                "remember" => {
                    fields.remember = true;
                    continue;
                }
                "end_other_sessions" => {
                    fields.end_other_sessions = true;
                    continue;
                }
                _ => continue,
            };
            if !std::mem::replace(slot, value).is_empty() {
                return Err(Rejection::FormFieldTwice);
            }
        }
        Ok(fields)
    }

    /// What is wrong with the new password before it is looked at.
    pub(super) fn error(&self) -> Option<FormError> {
        match (self.new.is_empty(), self.new == self.repeat) {
            (true, _) => Some(FormError::FieldMissing),
            (false, false) => Some(FormError::PasswordsDiffer),
            (false, true) => None,
        }
    }
}

/// Shows the form.
pub(super) async fn show(
    context: &Rc<RequestContext>,
    browser: &Browser,
    request: RequestView<'_>,
) -> Result<Response, Rejection> {
    let return_to = query_value(request, "return").unwrap_or_default();
    let return_to = browser.return_address(context, &return_to);
    let (identity, error) = match resolve(context, browser, browser_cookies(browser, context)).await {
        Ok(identity) => (identity, None),
        Err(rejection) if rejection.code().status() == StatusCode::UNAUTHORIZED => {
            (None, Some(FormError::SessionEnded))
        }
        Err(rejection) => return Err(rejection),
    };
    let user = identity.as_ref().map(|identity| identity.claims().username());
    let fields = Fields::default();
    let form = form(FormKind::ChangePassword, user, &fields, &return_to, error);
    Ok(browser.pages.form(StatusCode::OK, accept_language(&context.head), form))
}

/// The form with what was typed, except passwords; `user` is who is signed in.
fn form<'a>(
    kind: FormKind<'a>,
    user: Option<&'a str>,
    fields: &'a Fields,
    return_to: &'a ReturnAddress,
    error: Option<FormError>,
) -> AccountForm<'a> {
    AccountForm {
        kind,
        username: user.unwrap_or(&fields.username),
        is_named: user.is_some() || kind == FormKind::RequiredChange,
        token: &fields.token,
        remember: fields.remember,
        return_to,
        state: &fields.state,
        error,
    }
}

/// Changes the password, or shows the form again with what is wrong. Who has no session is signed in with the new password.
pub(super) async fn submit(
    context: &Rc<RequestContext>,
    browser: &Browser,
    body: RequestBody,
) -> Result<Response, Rejection> {
    let own = own_origin(context);
    if !RequestSource::of(context.head.headers()).is_trusted(own, &[]) {
        return Err(Rejection::ForeignPage);
    }
    let fields = Fields::parse(&read_body(context, body).await?)?;
    let return_to = browser.return_address(context, &fields.return_to);
    let cookies = browser_cookies(browser, context);
    let identity = match resolve(context, browser, cookies).await {
        Err(rejection) if rejection.code().status() == StatusCode::UNAUTHORIZED => None,
        resolved => resolved?,
    };
    let user = identity.as_ref().map(|identity| identity.claims().username().to_owned());
    let again = |status, error| {
        let form = form(FormKind::ChangePassword, user.as_deref(), &fields, &return_to, Some(error));
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
        Ok(_) => {
            let credentials = async { Credentials::new(fields.username.clone(), fields.new.clone()) };
            match sign_in(context, credentials, None).await {
                Ok(tokens) => {
                    let (state, remember) = (fields.state.as_str(), fields.remember);
                    let to = Destination { return_to: &return_to, state, remember };
                    begin_session(context, browser, cookies, tokens, to).await
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
    let error = match (&rejection, rejection.code()) {
        (Rejection::PasswordTooShort(min), _) => FormError::PasswordTooShort(*min),
        (_, Code::PasswordTooCommon) => FormError::PasswordTooCommon,
        (_, Code::PasswordTooWeak) => FormError::PasswordTooWeak,
        (_, Code::PasswordBreached) => FormError::PasswordBreached,
        (_, Code::PasswordIsUsername) => FormError::PasswordIsUsername,
        (_, Code::PasswordUnchanged) => FormError::PasswordUnchanged,
        (_, Code::PasswordNotChangeable) => FormError::PasswordNotChangeable,
        (_, Code::PasswordConflict) => FormError::PasswordConflict,
        (_, Code::InvalidCredentials | Code::BadRequest) => FormError::WrongPassword,
        _ => form_error(&rejection),
    };
    let mut response = again(rejection.status(), error);
    rejection.insert_fields(response.headers_mut());
    context.record.rejection.replace(Some(rejection));
    response
}
