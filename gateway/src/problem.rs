//! Every answer that says no: one code, one status, one shape (RFC 9457 problem details).

use std::borrow::Cow;
use std::time::Duration;

use http::StatusCode;
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
    MethodNotAllowed,
    AmbiguousTarget,
    RequestTimeout,
    BadGateway,
    GatewayTimeout,
    NoHealthyUpstream,
    Overloaded,
    StoreUnavailable,
    Draining,
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
            Code::Draining => ("draining", 503, "The service is restarting. Please try again in a moment."),
            Code::Internal => ("internal", 500, "Something went wrong."),
        }
    }
}

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
                | Code::Draining
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

    /// The fields of the answer, beside those every answer has.
    pub(crate) fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![
            ("Content-Type", "application/problem+json".to_owned()),
            ("Cache-Control", "no-store".to_owned()),
        ];
        match self.challenge {
            Challenge::None => {}
            Challenge::Bare => fields.push(("WWW-Authenticate", "Bearer".to_owned())),
            Challenge::Error(error) => {
                // The description is in the grammar of RFC 6750 section 3: ASCII without `"` and `\`.
                let description = self.detail.replace(['"', '\\'], "'");
                fields.push((
                    "WWW-Authenticate",
                    format!("Bearer error=\"{error}\", error_description=\"{description}\""),
                ));
            }
        }
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            fields.push(("Retry-After", seconds.max(1).to_string()));
        }
        if let Some(methods) = &self.allow {
            fields.push(("Allow", methods.clone()));
        }
        if self.code == Code::UnsupportedMediaType {
            fields.push(("Accept-Post", "application/json".to_owned()));
        }
        fields
    }

    /// The body of the answer.
    pub(crate) fn body(&self, request_id: &str) -> Vec<u8> {
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
        for (wait, told) in [(1, "1"), (999, "1"), (1001, "2"), (0, "1")] {
            let fields =
                Rejection::new(Code::AccountLocked, "").retry_after(Duration::from_millis(wait)).fields();
            assert!(fields.contains(&("Retry-After", told.to_owned())), "{wait} ms");
        }
    }
}
