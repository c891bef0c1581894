//! The pages of second factors: the second step of a sign-in, the enrolment of an app, and proving one's identity anew where a
//! route asks for that.

use std::rc::Rc;

use http::StatusCode;

use crate::admission::RequestView;
use crate::auth::credentials::browser_cookies;
use crate::browser::forms::{AccountForm, Enrolment, FormKind};
use crate::browser::pages::FormError;
use crate::browser::return_address::ReturnAddress;
use crate::browser::{Browser, CookieChange, accept_language};
use crate::identity::Identity;
use crate::rejection::{Code, Rejection};
use crate::request::RequestContext;
use crate::request_body::RequestBody;
use crate::response::Response;
use crate::services::cookie_session::resolve_for_page;
use crate::services::handover::to_sign_in;
use crate::services::page_form::{AccountFields, read_form, refuse_form};
use crate::services::second_factor::{
    begin, begun, complete_login, confirm, confirm_password, otpauth_uri, prove, qr_code, remove,
    renew_recovery_codes, status, user_behind,
};
use crate::services::sign_in_page::{ask_change, begin_session, form_error, query_value, see_other};
use crate::services::token_response::Recipient;
use crate::sessions::IssuedTokens;

/// The form for the code of a sign-in whose password was right.
pub(super) fn ask_code(
    context: &RequestContext,
    browser: &Browser,
    fields: &AccountFields,
    return_to: &ReturnAddress,
    problem: (StatusCode, Option<FormError>),
) -> Response {
    form(context, browser, FormKind::Code, (fields, return_to), problem)
}

fn form(
    context: &RequestContext,
    browser: &Browser,
    kind: FormKind<'_>,
    (fields, return_to): (&AccountFields, &ReturnAddress),
    (status, error): (StatusCode, Option<FormError>),
) -> Response {
    browser.pages.form(status, accept_language(&context.head), fields.form(kind, return_to, error))
}

/// Completes a sign-in by the code of a form, or shows the form again.
pub(super) async fn check_code(
    context: &Rc<RequestContext>,
    browser: &Browser,
    fields: AccountFields,
) -> Result<Response, Rejection> {
    let return_to = browser.return_address(&context.head, &context.client, &fields.return_to);
    match complete_login(context, &fields.token, &fields.code, None, Recipient::Cookies).await {
        Ok(tokens) => {
            let cookies = browser_cookies(browser, context);
            begin_session(context, browser, cookies, tokens, fields.destination(&return_to)).await
        }
        // It is required since the password was right.
        Err(Rejection::PasswordChangeRequired(with_code))
            if context.state.config.settings.users.password_change =>
        {
            let username = context.record.username.borrow().clone().unwrap_or_default();
            let fields = AccountFields { username, token: String::new(), ..fields };
            Ok(ask_change(context, browser, &fields, &return_to, with_code))
        }
        // Only a new sign-in helps.
        Err(rejection) if rejection.code() == Code::MfaTokenExpired => {
            Ok(to_sign_in(context, browser, &return_to))
        }
        Err(rejection) => Ok(refused(context, rejection, |status, error| {
            ask_code(context, browser, &fields, &return_to, (status, Some(error)))
        })),
    }
}

/// The form again, with what is wrong.
fn refused(
    context: &RequestContext,
    rejection: Rejection,
    again: impl FnOnce(StatusCode, FormError) -> Response,
) -> Response {
    refuse_form(context, rejection, |rejection| {
        let error = match rejection.code() {
            Code::WrongSecondFactor => FormError::WrongCode,
            Code::InvalidCredentials => FormError::WrongPassword,
            Code::BadRequest => FormError::FieldMissing,
            _ => form_error(rejection),
        };
        again(rejection.status(), error)
    })
}

/// The identity of the session in the cookies.
async fn identity(
    context: &Rc<RequestContext>,
    browser: &Browser,
) -> Result<Option<Rc<Identity>>, Rejection> {
    let (identity, _) = resolve_for_page(context, browser, browser_cookies(browser, context)).await?;
    Ok(identity)
}

/// `GET /reauthenticate` and `GET /mfa`: asks for what the user has. Where a second factor is needed, who has none enrols one.
pub(super) async fn show(
    context: &Rc<RequestContext>,
    browser: &Browser,
    request: RequestView<'_>,
    is_mfa: bool,
) -> Result<Response, Rejection> {
    let Some(identity) = identity(context, browser).await? else {
        return Ok(to_sign_in(context, browser, &browser.own_address(&context.head, &context.client)));
    };
    let (user, _) = user_behind(context, identity).await?;
    let back = query_value(request, "return");
    let return_to =
        browser.return_address(&context.head, &context.client, back.as_deref().unwrap_or_default());
    let factor = is_mfa || query_value(request, "factor").is_some();
    let enrolled = status(context, &user).await?;
    let is_enabled = context.state.config.settings.mfa.enabled;
    let change = query_value(request, "change");
    let kind = match (enrolled.totp && is_enabled, change.as_deref(), back.is_some()) {
        (true, Some("recovery-codes"), _) => FormKind::RenewRecoveryCodes,
        (true, Some("remove"), _) => FormKind::RemoveFactor,
        (true, _, false) => {
            let language = accept_language(&context.head);
            return Ok(browser.pages.factor_ready(language, enrolled.recovery_codes, &return_to));
        }
        (true, _, true) => FormKind::ProveByCode,
        (false, _, _) if factor && is_enabled => FormKind::BeginEnrolment,
        (false, _, _) => FormKind::ProveByPassword,
    };
    let fields = AccountFields::default();
    let form = fields.form(kind, &return_to, None);
    // `/mfa` takes no forms.
    let form = AccountForm { at_own_address: !is_mfa, ..form };
    Ok(browser.pages.form(StatusCode::OK, accept_language(&context.head), form))
}

/// `POST /reauthenticate` of a form: proves the identity, or enrols an app, renews its recovery codes or removes it.
pub(super) async fn submit(
    context: &Rc<RequestContext>,
    browser: &Browser,
    body: RequestBody,
) -> Result<Response, Rejection> {
    let fields: AccountFields = read_form(context, body).await?;
    let return_to = browser.return_address(&context.head, &context.client, &fields.return_to);
    let Some(identity) = identity(context, browser).await? else {
        return Ok(to_sign_in(context, browser, &return_to));
    };
    let recipient = Recipient::in_place_of(identity.claims());
    let (user, session) = user_behind(context, identity).await?;
    let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let about = (&fields, &return_to);
    let again = |kind| move |status, error| form(context, browser, kind, about, (status, Some(error)));
    let enrolment = |secret: &str, problem| {
        let qr = qr_code(&otpauth_uri(context, &user, secret));
        form(context, browser, FormKind::ConfirmEnrolment(Enrolment { qr: &qr, secret }), about, problem)
    };
    // Where another tab has removed the factor, its page shows that.
    let unless_gone = |rejection: Rejection, kind| match rejection.code() {
        Code::MfaNotEnrolled => see_other(&browser.pages.factor_link(&return_to)),
        _ => refused(context, rejection, again(kind)),
    };
    match fields.step.as_str() {
        "begin-enrolment" => {
            let begun = match given(&fields.current).ok_or(Rejection::CodeMissing) {
                Ok(password) => confirm_password(context, "mfa-enroll", &user, password).await,
                Err(rejection) => Err(rejection),
            };
            if let Err(rejection) = begun {
                return Ok(refused(context, rejection, again(FormKind::BeginEnrolment)));
            }
            let secret = begin(context, &user).await?.secret;
            Ok(enrolment(&secret, (StatusCode::OK, None)))
        }
        "confirm-enrolment" => match confirm(context, &user, session, &fields.code, recipient).await {
            Ok((codes, tokens)) => {
                keep(context, browser, tokens);
                Ok(browser.pages.recovery_codes(accept_language(&context.head), &codes, &return_to))
            }
            Err(rejection) if rejection.code() == Code::WrongSecondFactor => {
                let secret = begun(context, &user).await?.secret;
                let again = |status, error| enrolment(&secret, (status, Some(error)));
                Ok(refused(context, rejection, again))
            }
            Err(rejection) => Ok(refused(context, rejection, again(FormKind::BeginEnrolment))),
        },
        "recovery-codes" => match renew_recovery_codes(context, &user, session, given(&fields.code)).await {
            Ok(codes) => Ok(browser.pages.recovery_codes(accept_language(&context.head), &codes, &return_to)),
            Err(rejection) => Ok(unless_gone(rejection, FormKind::RenewRecoveryCodes)),
        },
        "remove" => {
            let end_other_sessions = fields.end_other_sessions;
            match remove(context, &user, session, given(&fields.code), end_other_sessions).await {
                Ok(()) => Ok(browser.pages.factor_removed(accept_language(&context.head), &return_to)),
                Err(rejection) => Ok(unless_gone(rejection, FormKind::RemoveFactor)),
            }
        }
        step => {
            let kind = if step == "code" { FormKind::ProveByCode } else { FormKind::ProveByPassword };
            let proofs = (given(&fields.current), given(&fields.code));
            match prove(context, &user, session, proofs, recipient).await {
                Ok(tokens) => {
                    keep(context, browser, tokens);
                    Ok(see_other(return_to.as_str()))
                }
                Err(rejection) => Ok(refused(context, rejection, again(kind))),
            }
        }
    }
}

/// Puts the new access token into the cookie; the refresh token stays.
fn keep(context: &RequestContext, browser: &Browser, tokens: IssuedTokens) {
    let remember = browser.remember_me.applies(browser_cookies(browser, context).remember);
    context.record.cookies.replace(Some(CookieChange::Set { tokens: tokens.into(), remember }));
}
