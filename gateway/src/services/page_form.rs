//! Forms of the sign-in pages: reading them, and the page that answers one that is refused.

use crate::browser::csrf::RequestSource;
use crate::browser::forms::{AccountForm, FormKind, REQUIRED_CHANGE};
use crate::browser::pages::FormError;
use crate::browser::return_address::ReturnAddress;
use crate::rejection::Rejection;
use crate::request::RequestContext;
use crate::request_body::RequestBody;
use crate::response::Response;
use crate::services::login::read_body;
use crate::services::sign_in_page::Destination;

/// Where the value of a field goes.
pub(super) enum Slot<'f> {
    /// A text field, which a form has once.
    Text(&'f mut String),
    /// A checkbox.
    Checked(&'f mut bool),
}

/// What a form sends.
pub(super) trait FormFields: Default {
    /// Where a field goes; `None` for one that the form does not have, which is ignored.
    fn slot(&mut self, name: &str) -> Option<Slot<'_>>;

    /// # Errors
    ///
    /// A text field has two values.
    fn parse(body: &[u8]) -> Result<Self, Rejection> {
        let mut fields = Self::default();
        for (name, value) in form_urlencoded::parse(body) {
            match fields.slot(&name) {
                Some(Slot::Text(text)) if text.is_empty() => *text = value.into_owned(),
                Some(Slot::Text(_)) => return Err(Rejection::FormFieldTwice),
                Some(Slot::Checked(checked)) => *checked = true,
                None => {}
            }
        }
        Ok(fields)
    }
}

/// Reads a form.
///
/// # Errors
///
/// A page of another host has sent it: that could sign its visitors in as somebody else (login CSRF). Or the form is malformed.
pub(super) async fn read_form<F: FormFields>(
    context: &RequestContext,
    body: RequestBody,
) -> Result<F, Rejection> {
    if !RequestSource::of(context.head.headers()).is_trusted(context.own_origin(), &[]) {
        return Err(Rejection::ForeignPage);
    }
    F::parse(&read_body(context, body).await?)
}

/// The response to a form that is refused: a page in place of the problem details, with the fields of the rejection.
pub(super) fn refuse_form(
    context: &RequestContext,
    rejection: Rejection,
    page: impl FnOnce(&Rejection) -> Response,
) -> Response {
    let mut response = page(&rejection);
    rejection.insert_fields(response.headers_mut());
    context.record.rejection.replace(Some(rejection));
    response
}

/// What the forms for sign-ins, passwords and second factors send.
#[derive(Default)]
pub(super) struct AccountFields {
    pub(super) username: String,
    /// Of a sign-in.
    pub(super) password: String,
    pub(super) current: String,
    pub(super) new: String,
    pub(super) repeat: String,
    pub(super) token: String,
    pub(super) code: String,
    /// What a form is for, where its address does not say that.
    pub(super) step: String,
    pub(super) return_to: String,
    pub(super) state: String,
    pub(super) remember: bool,
    pub(super) end_other_sessions: bool,
}

impl FormFields for AccountFields {
    fn slot(&mut self, name: &str) -> Option<Slot<'_>> {
        Some(match name {
            "username" => Slot::Text(&mut self.username),
            "password" => Slot::Text(&mut self.password),
            "current_password" => Slot::Text(&mut self.current),
            "new_password" => Slot::Text(&mut self.new),
            "repeat_password" => Slot::Text(&mut self.repeat),
            "token" => Slot::Text(&mut self.token),
            "code" => Slot::Text(&mut self.code),
            "step" => Slot::Text(&mut self.step),
            "return" => Slot::Text(&mut self.return_to),
            "state" => Slot::Text(&mut self.state),
            "remember" => Slot::Checked(&mut self.remember),
            "end_other_sessions" => Slot::Checked(&mut self.end_other_sessions),
            _ => return None,
        })
    }
}

impl AccountFields {
    /// Whether the form sets another password, without which there is no sign-in.
    pub(super) fn is_required_change(&self) -> bool {
        self.step == REQUIRED_CHANGE
    }

    /// What is wrong with the new password before it is looked at.
    pub(super) fn error(&self) -> Option<FormError> {
        match (self.new.is_empty(), self.new == self.repeat) {
            (true, _) => Some(FormError::FieldMissing),
            (false, false) => Some(FormError::PasswordsDiffer),
            (false, true) => None,
        }
    }

    /// A form with what was typed, except passwords and codes.
    pub(super) fn form<'a>(
        &'a self,
        kind: FormKind<'a>,
        return_to: &'a ReturnAddress,
        error: Option<FormError>,
    ) -> AccountForm<'a> {
        AccountForm {
            kind,
            username: &self.username,
            is_named: true,
            asks_code: !self.code.is_empty(),
            at_own_address: true,
            token: &self.token,
            remember: self.remember,
            return_to,
            state: &self.state,
            error,
        }
    }

    /// Where a sign-in by this form leads.
    pub(super) fn destination<'a>(&'a self, return_to: &'a ReturnAddress) -> Destination<'a> {
        Destination { return_to, state: &self.state, remember: self.remember }
    }
}
