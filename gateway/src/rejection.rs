//! Every answer that says no: one code, one status, one shape (RFC 9457 problem details).

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::json;

/// What went wrong, for programs. The names are part of the contract and never change.
#[allow(missing_docs)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    BadRequest,
    InvalidRequest,
    UnsupportedMediaType,
    PayloadTooLarge,
    UriTooLong,
    HeadersTooLarge,
    UnsupportedTransferCoding,
    InvalidCredentials,
    AccountLocked,
    TooManySessions,
    RateLimited,
    MissingToken,
    InvalidToken,
    TokenExpired,
    TokenNotYetValid,
    WrongTokenType,
    TokenRevoked,
    TokenReused,
    InsufficientScope,
    NotFound,
    Misdirected,
    OriginNotAllowed,
    LoopDetected,
    PreconditionFailed,
    MethodNotAllowed,
    AmbiguousTarget,
    RequestTimeout,
    BadGateway,
    GatewayTimeout,
    NoHealthyUpstream,
    Overloaded,
    StoreUnavailable,
    Internal,
}

impl Code {
    /// The name in the body's `code`.
    pub fn name(self) -> &'static str {
        self.entry().0
    }

    /// The status it is sent with.
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.entry().1).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// One sentence for people.
    pub fn message(self) -> &'static str {
        self.entry().2
    }

    fn entry(self) -> (&'static str, u16, &'static str) {
        match self {
            Code::BadRequest => ("bad_request", 400, "The request is malformed."),
            Code::InvalidRequest => ("invalid_request", 400, "The request's credentials are malformed."),
            Code::UnsupportedMediaType => {
                ("unsupported_media_type", 415, "The body must be application/json.")
            }
            Code::PayloadTooLarge => ("payload_too_large", 413, "The body is too large."),
            Code::UriTooLong => ("uri_too_long", 414, "The address is too long."),
            Code::HeadersTooLarge => ("headers_too_large", 431, "The header fields are too large."),
            Code::UnsupportedTransferCoding => {
                ("unsupported_transfer_coding", 501, "The body's transfer coding is not supported.")
            }
            Code::InvalidCredentials => ("invalid_credentials", 401, "Invalid username or password."),
            Code::AccountLocked => {
                ("account_locked", 403, "Account temporarily locked. Please try again later.")
            }
            Code::TooManySessions => (
                "too_many_sessions",
                403,
                "You are logged in too many times. Please log out somewhere else first.",
            ),
            Code::RateLimited => ("rate_limited", 429, "Too many attempts. Please try again later."),
            Code::MissingToken => ("missing_token", 401, "Please log in first."),
            Code::InvalidToken => ("invalid_token", 401, "The token is not valid. Please log in again."),
            Code::TokenExpired => ("token_expired", 401, "The token has expired."),
            Code::TokenNotYetValid => ("token_not_yet_valid", 401, "The token is not valid yet."),
            Code::WrongTokenType => {
                ("wrong_token_type", 401, "This is not the kind of token that is needed here.")
            }
            Code::TokenRevoked => ("token_revoked", 401, "The session has ended. Please log in again."),
            Code::TokenReused => (
                "token_reused",
                401,
                "The session was ended because an old token was used again. Please log in again.",
            ),
            Code::InsufficientScope => {
                ("insufficient_scope", 403, "You do not have the role that is needed here.")
            }
            Code::NotFound => ("not_found", 404, "There is nothing at this address."),
            Code::Misdirected => ("misdirected", 421, "This host is not served here."),
            Code::OriginNotAllowed => {
                ("origin_not_allowed", 403, "Pages of this origin may not do that here.")
            }
            Code::LoopDetected => ("loop_detected", 508, "The request goes round in circles."),
            Code::PreconditionFailed => ("precondition_failed", 412, "The file has changed meanwhile."),
            Code::MethodNotAllowed => ("method_not_allowed", 405, "This method is not allowed here."),
            Code::AmbiguousTarget => {
                ("ambiguous_target", 400, "The address can be read in more than one way.")
            }
            Code::RequestTimeout => ("request_timeout", 408, "The request took too long to arrive."),
            Code::BadGateway => ("bad_gateway", 502, "The application did not answer properly."),
            Code::GatewayTimeout => ("gateway_timeout", 504, "The application took too long to answer."),
            Code::NoHealthyUpstream => {
                ("no_healthy_upstream", 503, "The application is not available at the moment.")
            }
            Code::Overloaded => ("overloaded", 503, "The service is busy. Please try again in a moment."),
            Code::StoreUnavailable => (
                "store_unavailable",
                503,
                "The service cannot reach its session store. Please try again in a moment.",
            ),
            Code::Internal => ("internal", 500, "Something went wrong."),
        }
    }
}

/// Which media types a POST may have (LDP section 7.1).
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");

/// The `WWW-Authenticate` of a refusal (RFC 6750 section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Challenge {
    None,
    /// No token was sent: say only what would be accepted.
    Bare,
    /// Something was wrong with what was sent.
    Error(&'static str),
}

/// A request refused: what the client is told, and whether the connection can go on.
#[derive(Debug, Clone)]
pub struct Rejection {
    code: Code,
    status: StatusCode,
    detail: Cow<'static, str>,
    challenge: Challenge,
    retry_after: Option<Duration>,
    allow: Option<String>,
    close: bool,
}

impl Rejection {
    /// A refusal with that code. `detail` says what was wrong with this request; it never repeats the request.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Rejection {
        let challenge = match code {
            Code::MissingToken | Code::InvalidCredentials => Challenge::Bare,
            Code::InvalidRequest => Challenge::Error("invalid_request"),
            Code::InsufficientScope => Challenge::Error("insufficient_scope"),
            Code::InvalidToken
            | Code::TokenExpired
            | Code::TokenNotYetValid
            | Code::WrongTokenType
            | Code::TokenRevoked
            | Code::TokenReused => Challenge::Error("invalid_token"),
            _ => Challenge::None,
        };
        let close = matches!(
            code,
            Code::UriTooLong
                | Code::HeadersTooLarge
                | Code::PayloadTooLarge
                | Code::UnsupportedTransferCoding
                | Code::RequestTimeout
        );
        Rejection {
            code,
            status: code.status(),
            detail: detail.into(),
            challenge,
            retry_after: None,
            allow: None,
            close,
        }
    }

    /// Says when to come back. Parts of a second are rounded up.
    pub fn retry_after(mut self, wait: Duration) -> Rejection {
        self.retry_after = Some(wait);
        self
    }

    /// Says which methods are allowed (RFC 9110 section 15.5.6).
    pub fn allow(mut self, methods: impl Into<String>) -> Rejection {
        self.allow = Some(methods.into());
        self
    }

    /// Sends another status than the code's own.
    pub fn with_status(mut self, status: StatusCode) -> Rejection {
        self.status = status;
        self
    }

    /// Ends the connection after the answer: what follows on it cannot be trusted.
    pub fn close(mut self) -> Rejection {
        self.close = true;
        self
    }

    /// What went wrong.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The status it is sent with.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What was wrong with this request.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// Whether the connection ends.
    pub fn closes(&self) -> bool {
        self.close
    }

    /// The response that tells the client: problem details (RFC 9457) with the fields that belong to the refusal.
    pub(crate) fn to_response(&self, request_id: &str) -> http::Response<Bytes> {
        let mut response = http::Response::new(self.body(request_id).into());
        *response.status_mut() = self.status;
        for (name, value) in self.fields() {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }

    /// The fields of the response, beside those every response has.
    fn fields(&self) -> Vec<(HeaderName, String)> {
        let mut fields = vec![
            (CONTENT_TYPE, "application/problem+json".to_owned()),
            (CACHE_CONTROL, "no-store".to_owned()),
        ];
        match self.challenge {
            Challenge::None => {}
            Challenge::Bare => fields.push((WWW_AUTHENTICATE, "Bearer".to_owned())),
            Challenge::Error(error) => {
                // The description is in the grammar of RFC 6750 section 3: ASCII without `"` and `\`.
                let description = self.detail.replace(['"', '\\'], "'");
                fields.push((
                    WWW_AUTHENTICATE,
                    format!("Bearer error=\"{error}\", error_description=\"{description}\""),
                ));
            }
        }
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            fields.push((RETRY_AFTER, seconds.max(1).to_string()));
        }
        if let Some(methods) = &self.allow {
            fields.push((ALLOW, methods.clone()));
        }
        if self.code == Code::UnsupportedMediaType {
            fields.push((ACCEPT_POST, "application/json".to_owned()));
        }
        fields
    }

    /// The body of the answer.
    fn body(&self, request_id: &str) -> Vec<u8> {
        json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code.name(),
            "message": self.code.message(),
            "request_id": request_id,
        })
        .to_string()
        .into_bytes()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn challenge(code: Code) -> Option<String> {
        let fields = Rejection::new(code, "why").fields();
        fields.into_iter().find(|(name, _)| *name == "WWW-Authenticate").map(|(_, value)| value)
    }

    #[test]
    fn a_missing_token_gets_a_bare_challenge_and_a_bad_one_an_error() {
        assert_eq!(challenge(Code::MissingToken).as_deref(), Some("Bearer"));
        let bad = challenge(Code::TokenExpired);
        assert_eq!(bad.as_deref(), Some("Bearer error=\"invalid_token\", error_description=\"why\""));
        assert_eq!(challenge(Code::NotFound), None);
    }

    #[test]
    fn a_wait_is_told_in_whole_seconds_and_never_as_zero() {
        for (wait, expected) in [(1, "1"), (999, "1"), (1001, "2"), (0, "1")] {
            let fields =
                Rejection::new(Code::AccountLocked, "").retry_after(Duration::from_millis(wait)).fields();
            assert!(fields.contains(&(RETRY_AFTER, expected.to_owned())), "{wait} ms");
        }
    }
    #[test]
    fn an_answer_has_the_status_the_fields_and_the_problem() {
        let minute = Duration::from_secs(60);
        let bearer = "Bearer error=\"invalid_token\", error_description=\"it's 'old'\"";
        for (rejection, status, name, value) in [
            (Rejection::new(Code::MissingToken, "why"), 401, "www-authenticate", "Bearer"),
            (Rejection::new(Code::TokenExpired, "it's \"old\""), 401, "www-authenticate", bearer),
            (Rejection::new(Code::RateLimited, "why").retry_after(minute), 429, "retry-after", "60"),
            (Rejection::new(Code::MethodNotAllowed, "why").allow("GET, HEAD"), 405, "allow", "GET, HEAD"),
            (Rejection::new(Code::UnsupportedMediaType, "why"), 415, "accept-post", "application/json"),
            (Rejection::new(Code::UriTooLong, "why").close(), 414, "cache-control", "no-store"),
            (
                Rejection::new(Code::Misdirected, "why").with_status(StatusCode::FORBIDDEN),
                403,
                "content-type",
                "application/problem+json",
            ),
        ] {
            let response = rejection.to_response("id-1");
            let field = response.headers()[name].to_str().unwrap();
            assert_eq!((response.status().as_u16(), field), (status, value), "{name}");
            assert!(!response.headers().contains_key("connection"));
            assert_eq!(response.headers().len(), rejection.fields().len());
            let problem: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
            assert_eq!(problem["status"], status);
            assert_eq!(problem["code"], rejection.code().name());
            assert_eq!(problem["detail"], rejection.detail());
            assert_eq!(problem["request_id"], "id-1");
        }
    }

    #[test]
    fn a_detail_that_cannot_stand_in_a_field_stands_in_the_body_alone() {
        let response = Rejection::new(Code::InvalidToken, "two\nlines").to_response("id-1");
        assert!(!response.headers().contains_key("www-authenticate"));
        assert!(String::from_utf8_lossy(response.body()).contains("two\\nlines"));
    }
}
