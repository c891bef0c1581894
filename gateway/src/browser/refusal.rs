//! In which form a browser gets a refusal: the JSON of every client, a page, or the way to the sign-in page.

use http::Method;

use super::navigation::RequestPurpose;
use crate::config::Unauthenticated;
use crate::rejection::Code;

/// What is known of a refused request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RefusedRequest<'r> {
    pub(crate) code: Code,
    pub(crate) purpose: RequestPurpose,
    pub(crate) method: &'r Method,
    /// Whether one of the gateway's endpoints refused it.
    pub(crate) endpoint: bool,
    /// Whether it came with credentials in `Authorization`, as programs send them.
    pub(crate) token: bool,
    /// What its route says.
    pub(crate) unauthenticated: Option<Unauthenticated>,
}

/// The form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefusalForm {
    /// Problem details (RFC 9457).
    Problem,
    /// 303 to the sign-in page.
    SignIn,
    /// A page that says why.
    Page,
}

/// Chooses the form.
pub(crate) fn form(request: RefusedRequest<'_>) -> RefusalForm {
    let RefusedRequest { code, purpose, method, endpoint, token, unauthenticated } = request;
    let is_shown = matches!(purpose, RequestPurpose::Navigation | RequestPurpose::FormSubmission);
    if token || purpose == RequestPurpose::Background {
        return RefusalForm::Problem;
    }
    if code.status() != http::StatusCode::UNAUTHORIZED {
        return if is_shown { RefusalForm::Page } else { RefusalForm::Problem };
    }
    // A sign-in would not help: the endpoints that refuse with 401 take tokens only.
    if endpoint {
        return RefusalForm::Problem;
    }
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    match unauthenticated {
        Some(Unauthenticated::Refuse) => RefusalForm::Problem,
        Some(Unauthenticated::Login) if is_read => RefusalForm::SignIn,
        _ => match purpose {
            RequestPurpose::Navigation => RefusalForm::SignIn,
            RequestPurpose::FormSubmission => RefusalForm::Page,
            RequestPurpose::Background | RequestPurpose::Other => RefusalForm::Problem,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::RefusalForm::*;
    use super::*;

    #[test]
    fn people_get_pages_and_programs_get_problems() {
        use RequestPurpose::{Background, FormSubmission, Navigation, Other};
        let (login, refuse) = (Some(Unauthenticated::Login), Some(Unauthenticated::Refuse));
        for (code, purpose, method, unauthenticated, expected) in [
            (Code::MissingToken, Navigation, Method::GET, None, SignIn),
            (Code::TokenRevoked, Navigation, Method::GET, None, SignIn),
            (Code::TokenExpired, Navigation, Method::HEAD, None, SignIn),
            (Code::MissingToken, FormSubmission, Method::POST, None, Page),
            (Code::MissingToken, Other, Method::GET, None, Problem),
            (Code::MissingToken, Other, Method::POST, None, Problem),
            (Code::MissingToken, Background, Method::GET, None, Problem),
            (Code::MissingToken, Navigation, Method::GET, refuse, Problem),
            (Code::MissingToken, FormSubmission, Method::POST, refuse, Problem),
            (Code::MissingToken, Other, Method::GET, login, SignIn),
            (Code::MissingToken, Other, Method::POST, login, Problem),
            (Code::MissingToken, FormSubmission, Method::POST, login, Page),
            (Code::MissingToken, Background, Method::GET, login, Problem),
            (Code::InsufficientScope, Navigation, Method::GET, None, Page),
            (Code::InsufficientScope, Other, Method::GET, None, Problem),
            (Code::InsufficientScope, Navigation, Method::GET, refuse, Page),
            (Code::CsrfRejected, FormSubmission, Method::POST, None, Page),
            (Code::CsrfRejected, Other, Method::POST, None, Problem),
            (Code::StoreUnavailable, Navigation, Method::GET, login, Page),
            (Code::StoreUnavailable, Other, Method::GET, login, Problem),
            (Code::NotFound, Navigation, Method::GET, None, Page),
        ] {
            let method = &method;
            let request =
                RefusedRequest { code, purpose, method, endpoint: false, token: false, unauthenticated };
            assert_eq!(form(request), expected, "{code:?} {purpose:?} {method} {unauthenticated:?}");
            assert_eq!(form(RefusedRequest { token: true, ..request }), Problem);
            let at_endpoint = form(RefusedRequest { endpoint: true, ..request });
            let is_401 = code.status() == http::StatusCode::UNAUTHORIZED;
            assert_eq!(at_endpoint, if is_401 { Problem } else { expected });
        }
    }
}
