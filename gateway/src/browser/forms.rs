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
    pub(crate) kind: FormKind,
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
pub(crate) enum FormKind {
    /// Another password, at one's own wish.
    ChangePassword,
    /// Another password, without which there is no sign-in.
    RequiredChange,
    /// Another password, by a link of an operator.
    ResetPassword,
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

    pub(super) fn form_page(&self, texts: &Texts, form: AccountForm<'_>) -> Page {
        let text = |name: &str| texts.get(name).to_owned();
        let (heading, about, submit) = match form.kind {
            FormKind::ChangePassword => ("change_password", None, "change_password"),
            FormKind::RequiredChange => ("change_password", Some("change_required"), "change_password"),
            FormKind::ResetPassword => ("reset_heading", None, "set_password"),
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
        let fields = match form.kind {
            // Who has no session here has none to spare.
            FormKind::ChangePassword if form.is_named => vec![name, current, new, again, end],
            FormKind::ChangePassword | FormKind::RequiredChange => vec![name, current, new, again],
            FormKind::ResetPassword => vec![name, Field { focus: true, ..new }, again],
        };
        let hidden = |name, value: &str| Hidden { name, value: value.to_owned() };
        let hidden = [
            hidden("token", form.token),
            hidden("return", form.return_to.as_str()),
            hidden("state", form.state),
            hidden("remember", if form.remember { "1" } else { "" }),
        ];
        let below = |path: &str| format!("{}{path}", form.return_to.prefix());
        Page {
            heading: text(heading),
            paragraphs: about.map(text).into_iter().collect(),
            error: form.error.map(|error| form_error(texts, error)),
            action: match form.kind {
                FormKind::ChangePassword | FormKind::RequiredChange => below(&self.password_path),
                FormKind::ResetPassword => below(&self.reset_path),
            },
            fields,
            hidden: hidden.into_iter().filter(|field| !field.value.is_empty()).collect(),
            submit: text(submit),
            prefix: form.return_to.prefix().to_owned(),
            ..Page::default()
        }
    }
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
