//! Forms for accounts, other than the sign-in itself: what fields each of them has, in the order of the page.

use http::StatusCode;
use serde::Serialize;

use super::branding::Texts;
use super::pages::{FormError, FormTargets, Link, Page, Pages, form_error};
use super::return_address::ReturnAddress;
use crate::response::Response;

/// A form for an account.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AccountForm<'a> {
    pub(crate) kind: FormKind<'a>,
    /// The name that is typed, or who it is about.
    pub(crate) username: &'a str,
    /// Whether that one stays.
    pub(crate) is_named: bool,
    /// Whether a new password takes a code as well.
    pub(crate) asks_code: bool,
    /// Whether it is sent to the address of the page that has it. The browser then keeps the fragment of that address for the one
    /// that it is led back to.
    pub(crate) at_own_address: bool,
    /// What allows the form to be sent, besides what is typed; mostly empty.
    pub(crate) token: &'a str,
    pub(crate) remember: bool,
    pub(crate) return_to: &'a ReturnAddress,
    /// See [`super::cookies::CookieKind::State`].
    pub(crate) state: &'a str,
    pub(crate) error: Option<FormError>,
}

/// What tells the form of a required change from others at its address.
pub(crate) const REQUIRED_CHANGE: &str = "password-change";

impl AccountForm<'_> {
    /// With an input for a code, if a new password takes one.
    pub(crate) fn with_code(self, asks_code: bool) -> Self {
        AccountForm { asks_code, ..self }
    }
}

/// What a form is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FormKind<'a> {
    /// Another password, at one's own wish.
    ChangePassword,
    /// Another password, without which there is no sign-in.
    RequiredChange,
    /// Another password, by a link of an operator.
    ResetPassword,
    /// The code of a sign-in.
    Code,
    /// The identity anew, by a code.
    ProveByCode,
    /// The identity anew, by the password.
    ProveByPassword,
    /// The password before an app is enrolled.
    BeginEnrolment,
    /// New recovery codes, by a code.
    RenewRecoveryCodes,
    /// The end of a second factor, by a code.
    RemoveFactor,
    /// The first code of an app.
    ConfirmEnrolment(Enrolment<'a>),
}

/// What an app is enrolled by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Enrolment<'a> {
    /// An image, as SVG.
    pub(crate) qr: &'a str,
    /// The same to be typed.
    pub(crate) secret: &'a str,
}

/// A field that a person sees.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Field {
    name: &'static str,
    label: String,
    /// The type of the input.
    kind: &'static str,
    autocomplete: &'static str,
    value: String,
    readonly: bool,
    focus: bool,
}

/// A field that a person does not see.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Hidden {
    name: &'static str,
    value: String,
}

impl Pages {
    /// A form for an account.
    pub(crate) fn form(&self, status: StatusCode, accept_language: &[u8], form: AccountForm<'_>) -> Response {
        let texts = self.texts(accept_language);
        let page = self.form_page(texts, form);
        self.respond(status, "form.html", texts, &page, FormTargets::AnyHost)
    }

    /// That a password is another one now. Who is `signed_in` goes on, and others sign in.
    pub(crate) fn password_changed(
        &self,
        accept_language: &[u8],
        signed_in: bool,
        return_to: &ReturnAddress,
    ) -> Response {
        let texts = self.texts(accept_language);
        let (href, text) = match signed_in {
            true => (return_to.as_str().to_owned(), "continue"),
            false => (self.login_link(return_to, false), "sign_in"),
        };
        let page = Page {
            heading: texts.get("password_changed_heading").to_owned(),
            paragraphs: vec![texts.get("password_changed").to_owned()],
            links: vec![Link { href, text: texts.get(text).to_owned() }],
            ..Page::default()
        };
        self.respond(StatusCode::OK, "message.html", texts, &page, FormTargets::OwnHost)
    }

    /// The recovery codes of a second factor, which are shown once.
    pub(crate) fn recovery_codes(
        &self,
        accept_language: &[u8],
        codes: &[String],
        return_to: &ReturnAddress,
    ) -> Response {
        let texts = self.texts(accept_language);
        let about = texts.get("recovery_about").to_owned();
        let paragraphs = std::iter::once(about).chain(codes.iter().cloned()).collect();
        let page = continue_page(texts, "recovery_heading", paragraphs, return_to);
        self.respond(StatusCode::OK, "message.html", texts, &page, FormTargets::OwnHost)
    }

    /// That a second factor is set up, with the ways to change that.
    pub(crate) fn factor_ready(
        &self,
        accept_language: &[u8],
        recovery_codes: usize,
        return_to: &ReturnAddress,
    ) -> Response {
        let texts = self.texts(accept_language);
        let count = recovery_codes.to_string();
        let about = texts.filled("factor_ready", &[("count", &count)]);
        let mut page = continue_page(texts, "second_factor", vec![about], return_to);
        for (change, text) in [("recovery-codes", "recovery_new"), ("remove", "factor_remove")] {
            let href = format!("{}?change={change}", return_to.prefixed(&self.mfa_path));
            page.links.push(Link { href, text: texts.get(text).to_owned() });
        }
        self.respond(StatusCode::OK, "message.html", texts, &page, FormTargets::OwnHost)
    }

    /// That there is no second factor any more.
    pub(crate) fn factor_removed(&self, accept_language: &[u8], return_to: &ReturnAddress) -> Response {
        let texts = self.texts(accept_language);
        let about = texts.get("factor_removed").to_owned();
        let page = continue_page(texts, "second_factor", vec![about], return_to);
        self.respond(StatusCode::OK, "message.html", texts, &page, FormTargets::OwnHost)
    }

    /// Where people see their second factor.
    pub(crate) fn factor_link(&self, return_to: &ReturnAddress) -> String {
        return_to.prefixed(&self.mfa_path)
    }

    pub(super) fn form_page(&self, texts: &Texts, form: AccountForm<'_>) -> Page {
        let text = |name: &str| texts.get(name).to_owned();
        let Layout { heading, about, submit, step, inputs } = form.kind.layout();
        let inputs = inputs.iter().filter(|input| match input {
            Input::CodeIfAsked => form.asks_code,
            // Who has no session here has none to spare.
            Input::EndOthers => form.is_named,
            _ => true,
        });
        let mut fields: Vec<Field> = inputs.map(|input| input.field(texts, &form)).collect();
        if let Some(first) = fields.iter_mut().find(|field| !field.readonly) {
            first.focus = true;
        }
        let hidden = |name, value: &str| Hidden { name, value: value.to_owned() };
        let hidden = [
            hidden("token", form.token),
            hidden("step", step),
            hidden("return", form.return_to.as_str()),
            hidden("state", form.state),
            hidden("remember", if form.remember { "1" } else { "" }),
        ];
        let (image, secret) = match form.kind {
            FormKind::ConfirmEnrolment(Enrolment { qr, secret }) => {
                (Some(minijinja::Value::from_safe_string(qr.to_owned())), secret.to_owned())
            }
            _ => (None, String::new()),
        };
        let action = match form.kind {
            _ if form.at_own_address => String::new(),
            FormKind::ResetPassword => form.return_to.prefixed(&self.reset_path),
            _ => form.return_to.prefixed(&self.prove_path),
        };
        Page {
            heading: text(heading),
            paragraphs: about.map(text).into_iter().collect(),
            error: form.error.map(|error| form_error(texts, error)),
            action,
            fields,
            image,
            secret,
            hidden: hidden.into_iter().filter(|field| !field.value.is_empty()).collect(),
            submit: text(submit),
            prefix: form.return_to.prefix().to_owned(),
            ..Page::default()
        }
    }
}

/// What a kind of form is made of: names of texts, and its inputs in the order of the page.
struct Layout {
    heading: &'static str,
    about: Option<&'static str>,
    submit: &'static str,
    /// The value of the field `step`.
    step: &'static str,
    inputs: &'static [Input],
}

impl FormKind<'_> {
    fn layout(self) -> Layout {
        use Input::{Code, CodeIfAsked, Current, EndOthers, Name, New, Repeat};
        let of = |heading, about, submit, step, inputs| Layout { heading, about, submit, step, inputs };
        match self {
            FormKind::ChangePassword => {
                let inputs = &[Name, Current, New, Repeat, CodeIfAsked, EndOthers];
                of("change_password", None, "change_password", "", inputs)
            }
            FormKind::RequiredChange => {
                let inputs = &[Name, Current, New, Repeat, CodeIfAsked];
                of("change_password", Some("change_required"), "change_password", REQUIRED_CHANGE, inputs)
            }
            FormKind::ResetPassword => of("reset_heading", None, "set_password", "", &[Name, New, Repeat]),
            FormKind::Code => of("second_factor", Some("code_about"), "sign_in", "", &[Code]),
            FormKind::ProveByCode => of("prove_heading", Some("code_about"), "confirm", "code", &[Code]),
            FormKind::ProveByPassword => {
                of("prove_heading", Some("prove_about"), "confirm", "password", &[Current])
            }
            FormKind::BeginEnrolment => {
                of("enrol_heading", Some("enrol_begin"), "continue", "begin-enrolment", &[Current])
            }
            FormKind::ConfirmEnrolment(_) => {
                of("enrol_heading", Some("enrol_about"), "confirm", "confirm-enrolment", &[Code])
            }
            FormKind::RenewRecoveryCodes => {
                of("recovery_new", Some("recovery_new_about"), "confirm", "recovery-codes", &[Code])
            }
            FormKind::RemoveFactor => {
                of("factor_remove", Some("factor_remove_about"), "confirm", "remove", &[Code, EndOthers])
            }
        }
    }
}

/// What a person fills in.
#[derive(Debug, Clone, Copy)]
enum Input {
    Name,
    Current,
    New,
    Repeat,
    Code,
    CodeIfAsked,
    EndOthers,
}

impl Input {
    fn field(self, texts: &Texts, form: &AccountForm<'_>) -> Field {
        let (name, kind, autocomplete) = match self {
            Input::Name => ("username", "text", "username"),
            Input::Current => ("current_password", "password", "current-password"),
            Input::New => ("new_password", "password", "new-password"),
            Input::Repeat => ("repeat_password", "password", "new-password"),
            Input::Code | Input::CodeIfAsked => ("code", "text", "one-time-code"),
            Input::EndOthers => ("end_other_sessions", "checkbox", ""),
        };
        let value = match self {
            Input::Name => form.username,
            Input::EndOthers => "1",
            _ => "",
        };
        Field {
            name,
            label: texts.get(name).to_owned(),
            kind,
            autocomplete,
            value: value.to_owned(),
            readonly: form.is_named && matches!(self, Input::Name),
            focus: false,
        }
    }
}

fn continue_page(texts: &Texts, heading: &str, paragraphs: Vec<String>, return_to: &ReturnAddress) -> Page {
    let link = Link { href: return_to.as_str().to_owned(), text: texts.get("continue").to_owned() };
    let prefix = return_to.prefix().to_owned();
    let heading = texts.get(heading).to_owned();
    Page { heading, paragraphs, links: vec![link], prefix, ..Page::default() }
}
