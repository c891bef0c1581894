//! Forms for accounts, other than the sign-in itself: what fields each of them has, in the order of the page.

use http::StatusCode;
use serde::Serialize;

use super::branding::Texts;
use super::pages::{FormError, Link, Page, Pages, form_error};
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
    /// What allows the form to be sent, besides what is typed; mostly empty.
    pub(crate) token: &'a str,
    pub(crate) remember: bool,
    pub(crate) return_to: &'a ReturnAddress,
    /// See [`super::cookies::CookieKind::State`].
    pub(crate) state: &'a str,
    pub(crate) error: Option<FormError>,
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
        self.respond(status, "form.html", texts, &page, form.return_to.other_origin())
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
        self.respond(StatusCode::OK, "message.html", texts, &page, None)
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
        self.respond(StatusCode::OK, "message.html", texts, &page, None)
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
        self.respond(StatusCode::OK, "message.html", texts, &page, None)
    }

    /// That there is no second factor any more.
    pub(crate) fn factor_removed(&self, accept_language: &[u8], return_to: &ReturnAddress) -> Response {
        let texts = self.texts(accept_language);
        let about = texts.get("factor_removed").to_owned();
        let page = continue_page(texts, "second_factor", vec![about], return_to);
        self.respond(StatusCode::OK, "message.html", texts, &page, None)
    }

    /// Where people see their second factor.
    pub(crate) fn factor_link(&self, return_to: &ReturnAddress) -> String {
        return_to.prefixed(&self.mfa_path)
    }

    pub(super) fn form_page(&self, texts: &Texts, form: AccountForm<'_>) -> Page {
        let text = |name: &str| texts.get(name).to_owned();
        let (heading, about, submit) = match form.kind {
            FormKind::ChangePassword => ("change_password", None, "change_password"),
            FormKind::RequiredChange => ("change_password", Some("change_required"), "change_password"),
            FormKind::ResetPassword => ("reset_heading", None, "set_password"),
            FormKind::Code => ("second_factor", Some("code_about"), "sign_in"),
            FormKind::ProveByCode => ("prove_heading", Some("code_about"), "confirm"),
            FormKind::ProveByPassword => ("prove_heading", Some("prove_about"), "confirm"),
            FormKind::BeginEnrolment => ("enrol_heading", Some("enrol_begin"), "continue"),
            FormKind::RenewRecoveryCodes => ("recovery_new", Some("recovery_new_about"), "confirm"),
            FormKind::RemoveFactor => ("factor_remove", Some("factor_remove_about"), "confirm"),
            FormKind::ConfirmEnrolment(_) => ("enrol_heading", Some("enrol_about"), "confirm"),
        };
        let name = Field {
            readonly: form.is_named,
            focus: !form.is_named,
            kind: "text",
            autocomplete: "username",
            ..field("username", text("username"), form.username)
        };
        let current =
            Field { focus: form.is_named, ..field("current_password", text("current_password"), "") };
        let new = |name, label: &str| Field { autocomplete: "new-password", ..field(name, text(label), "") };
        let (new, again) = (new("new_password", "new_password"), new("repeat_password", "repeat_password"));
        let end = Field { kind: "checkbox", ..field("end_other_sessions", text("end_other_sessions"), "1") };
        let code = Field {
            kind: "text",
            autocomplete: "one-time-code",
            focus: true,
            ..field("code", text("code"), "")
        };
        let fields = match form.kind {
            // Who has no session here has none to spare.
            FormKind::ChangePassword if form.is_named => vec![name, current, new, again, end],
            FormKind::ChangePassword | FormKind::RequiredChange => vec![name, current, new, again],
            FormKind::Code
            | FormKind::ProveByCode
            | FormKind::RenewRecoveryCodes
            | FormKind::ConfirmEnrolment(_) => {
                vec![code]
            }
            FormKind::RemoveFactor => vec![code, end],
            FormKind::ProveByPassword | FormKind::BeginEnrolment => vec![current],
            FormKind::ResetPassword => vec![name, Field { focus: true, ..new }, again],
        };
        let hidden = |name, value: &str| Hidden { name, value: value.to_owned() };
        let hidden = [
            hidden("token", form.token),
            hidden(
                "step",
                match form.kind {
                    FormKind::ProveByCode => "code",
                    FormKind::ProveByPassword => "password",
                    FormKind::BeginEnrolment => "begin-enrolment",
                    FormKind::RenewRecoveryCodes => "recovery-codes",
                    FormKind::RemoveFactor => "remove",
                    FormKind::ConfirmEnrolment(_) => "confirm-enrolment",
                    _ => "",
                },
            ),
            hidden("return", form.return_to.as_str()),
            hidden("state", form.state),
            hidden("remember", if form.remember { "1" } else { "" }),
        ];
        Page {
            heading: text(heading),
            paragraphs: about.map(text).into_iter().collect(),
            error: form.error.map(|error| form_error(texts, error)),
            action: form.return_to.prefixed(match form.kind {
                FormKind::ChangePassword | FormKind::RequiredChange => &self.password_path,
                FormKind::ResetPassword => &self.reset_path,
                FormKind::Code => &self.code_path,
                _ => &self.prove_path,
            }),
            fields,
            image: match form.kind {
                FormKind::ConfirmEnrolment(enrolment) => {
                    Some(minijinja::Value::from_safe_string(enrolment.qr.to_owned()))
                }
                _ => None,
            },
            secret: match form.kind {
                FormKind::ConfirmEnrolment(enrolment) => enrolment.secret.to_owned(),
                _ => String::new(),
            },
            hidden: hidden.into_iter().filter(|field| !field.value.is_empty()).collect(),
            submit: text(submit),
            prefix: form.return_to.prefix().to_owned(),
            ..Page::default()
        }
    }
}

fn continue_page(texts: &Texts, heading: &str, paragraphs: Vec<String>, return_to: &ReturnAddress) -> Page {
    let link = Link { href: return_to.as_str().to_owned(), text: texts.get("continue").to_owned() };
    let prefix = return_to.prefix().to_owned();
    let heading = texts.get(heading).to_owned();
    Page { heading, paragraphs, links: vec![link], prefix, ..Page::default() }
}

fn field(name: &'static str, label: String, value: &str) -> Field {
    Field {
        name,
        label,
        kind: "password",
        autocomplete: "current-password",
        value: value.to_owned(),
        readonly: false,
        focus: false,
    }
}
