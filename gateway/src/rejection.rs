//! Rejections: one variant for each reason for which the gateway refuses a request, and the one rendering of all of them
//! as problem details (RFC 9457).
//!
//! A variant carries the data of its refusal; code, status, detail, challenge, `Retry-After`, `Allow` and the gRPC status
//! are functions of it. A new reason is one entry in [`rejections!`] and one row in the table test.

pub(crate) mod flask;

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde_json::json;

use crate::http1::{FramingError, HeadError, HostError, TargetError};
use crate::sessions::StoreError;
use crate::tokens::dpop::ALGORITHMS;
use crate::users::SourceUnavailable;

/// The error code for programs. The names are part of the contract and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Code {
    BadRequest,
    InvalidRequest,
    UnsupportedMediaType,
    PayloadTooLarge,
    UriTooLong,
    HeadersTooLarge,
    UnsupportedTransferCoding,
    InvalidCredentials,
    InvalidClient,
    AccountLocked,
    TooManySessions,
    TooManyTokens,
    PasswordTooShort,
    PasswordTooCommon,
    PasswordTooWeak,
    PasswordBreached,
    PasswordIsUsername,
    PasswordUnchanged,
    PasswordNotChangeable,
    PasswordConflict,
    PasswordChangeRequired,
    MfaRequired,
    WrongSecondFactor,
    MfaTokenExpired,
    MfaNotEnrolled,
    MfaEnrolled,
    InsufficientUserAuthentication,
    LinkUsed,
    LinkExpired,
    RateLimited,
    MissingToken,
    InvalidToken,
    TokenExpired,
    TokenNotYetValid,
    WrongTokenType,
    TokenRevoked,
    TokenReused,
    InvalidDpopProof,
    UseDpopNonce,
    InsufficientScope,
    NotFound,
    Misdirected,
    OriginNotAllowed,
    CsrfRejected,
    UntrustedProxy,
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
    IssuerUnavailable,
    Internal,
}

impl Code {
    /// The name in the body's `code`.
    pub(crate) fn name(self) -> &'static str {
        self.entry().0
    }

    /// The default status.
    pub(crate) fn status(self) -> StatusCode {
        StatusCode::from_u16(self.entry().1).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The message for people.
    pub(crate) fn message(self) -> &'static str {
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
            Code::InvalidClient => ("invalid_client", 401, "The client may not ask here."),
            Code::AccountLocked => {
                ("account_locked", 403, "Account temporarily locked. Please try again later.")
            }
            Code::TooManySessions => (
                "too_many_sessions",
                403,
                "You are logged in too many times. Please log out somewhere else first.",
            ),
            Code::TooManyTokens => {
                ("too_many_tokens", 403, "You have as many tokens as one may have. Please revoke one first.")
            }
            Code::PasswordTooShort => ("password_too_short", 422, "The new password is too short."),
            Code::PasswordTooCommon => (
                "password_too_common",
                422,
                "The new password is a common one that attackers try first. Please choose another one.",
            ),
            Code::PasswordTooWeak => (
                "password_too_weak",
                422,
                "The new password is too easy to guess. Please choose a longer one, such as several unrelated words.",
            ),
            Code::PasswordBreached => (
                "password_breached",
                422,
                "The new password is in a list of passwords that were stolen elsewhere. Please choose another one.",
            ),
            Code::PasswordIsUsername => (
                "password_is_username",
                422,
                "The new password is your user name or little more. Please choose another one.",
            ),
            Code::PasswordUnchanged => {
                ("password_unchanged", 422, "The new password is the old one. Please choose another one.")
            }
            Code::PasswordNotChangeable => (
                "password_not_changeable",
                403,
                "This password cannot be changed here. Please change it where your account is managed.",
            ),
            Code::PasswordConflict => {
                ("password_conflict", 409, "The password was changed meanwhile. Please log in again.")
            }
            Code::PasswordChangeRequired => {
                ("password_change_required", 403, "Your password has to be changed before you can log in.")
            }
            Code::MfaRequired => ("mfa_required", 403, "Please enter the code of your authenticator app."),
            Code::WrongSecondFactor => ("invalid_code", 401, "The code is wrong, or was used before."),
            Code::MfaTokenExpired => {
                ("mfa_token_expired", 401, "The login took too long. Please log in again.")
            }
            Code::MfaNotEnrolled => ("mfa_not_enrolled", 404, "No second factor is set up."),
            Code::MfaEnrolled => ("mfa_enrolled", 409, "A second factor is set up already."),
            Code::InsufficientUserAuthentication => (
                "insufficient_user_authentication",
                401,
                "Please confirm that it is you: this needs a recent login or a second factor.",
            ),
            Code::LinkUsed => {
                ("link_used", 410, "This link was used before, or the password was changed since.")
            }
            Code::LinkExpired => {
                ("link_expired", 410, "This link is not valid any more. Please ask for another one.")
            }
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
            Code::InvalidDpopProof => {
                ("invalid_dpop_proof", 401, "The proof that this device holds its key is not valid.")
            }
            Code::UseDpopNonce => {
                ("use_dpop_nonce", 401, "The proof that this device holds its key needs a newer nonce.")
            }
            Code::InsufficientScope => {
                ("insufficient_scope", 403, "You do not have the role that is needed here.")
            }
            Code::NotFound => ("not_found", 404, "There is nothing at this address."),
            Code::Misdirected => ("misdirected", 421, "This host is not served here."),
            Code::OriginNotAllowed => {
                ("origin_not_allowed", 403, "Pages of this origin may not do that here.")
            }
            Code::CsrfRejected => {
                ("csrf_rejected", 403, "The request did not come from a page that may send it.")
            }
            Code::UntrustedProxy => ("untrusted_proxy", 403, "This is for the proxies of this service."),
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
            Code::IssuerUnavailable => (
                "issuer_unavailable",
                503,
                "The token cannot be checked at the moment. Please try again shortly.",
            ),
            Code::Internal => ("internal", 500, "Something went wrong."),
        }
    }
}

/// The media types that a POST may have (LDP section 7.1).
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");

/// How long a login waits for its second factor, in seconds.
pub(crate) const MFA_TOKEN_SECONDS: u64 = 300;

/// When a client may try again what another attempt can already solve.
const SHORT_RETRY: Duration = Duration::from_secs(1);
/// When a client may try again where a store or a source of users is out.
const OUTAGE_RETRY: Duration = Duration::from_secs(2);
/// By how many seconds more clients are spread, so that those that an outage stopped at one moment do not come
/// back at one moment.
const SHORT_RETRY_JITTER: u8 = 1;
const OUTAGE_RETRY_JITTER: u8 = 3;

/// Declares the rejections: what each of them carries, its code, and the detail that the client gets. A detail never
/// repeats the request.
macro_rules! rejections {
    ($($(#[$doc:meta])* $variant:ident $(($data:ident: $type:ty))? => $code:expr, $detail:expr;)*) => {
        /// A request refused, by reason.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub(crate) enum Rejection {
            $($(#[$doc])* $variant $(($type))?,)*
        }

        #[allow(unused_variables)]
        impl Rejection {
            /// What went wrong, for programs.
            pub(crate) fn code(&self) -> Code {
                match self { $(Rejection::$variant $(($data))? => $code,)* }
            }

            /// What was wrong with this request, for people.
            pub(crate) fn detail(&self) -> Cow<'static, str> {
                match self { $(Rejection::$variant $(($data))? => Cow::from($detail),)* }
            }

            /// The names of all variants.
            #[cfg(test)]
            pub(crate) const VARIANTS: &[&str] = &[$(stringify!($variant)),*];
        }
    };
}

rejections! {
    // The message itself. Two parsers could read such a message differently, so the connection ends.
    BadHead(error: HeadError) => match error {
        HeadError::LineTooLong(_) => Code::UriTooLong,
        HeadError::AuthorityDisagrees => Code::AmbiguousTarget,
        HeadError::BlockTooLarge(_) | HeadError::TooManyFields(_) => Code::HeadersTooLarge,
        _ => Code::BadRequest,
    }, error.to_string();
    IncompleteHead => Code::BadRequest, "the head is not complete";
    HeadTimeout => Code::RequestTimeout, "the request head did not arrive in time";
    BadFraming(error: FramingError) => match error {
        FramingError::UnknownCoding => Code::UnsupportedTransferCoding,
        _ => Code::BadRequest,
    }, error.to_string();
    BadTarget(error: TargetError) => match error {
        TargetError::Malformed => Code::BadRequest,
        TargetError::Ambiguous(_) => Code::AmbiguousTarget,
    }, error.to_string();
    BadHost(error: HostError) => match error {
        HostError::Disagrees => Code::AmbiguousTarget,
        _ => Code::BadRequest,
    }, error.to_string();
    UnknownExpectation => Code::BadRequest, "the only expectation known here is 100-continue";
    /// `CONNECT` and `TRACE`, with the methods that can be forwarded.
    MethodNeverForwarded(allow: String) => Code::MethodNotAllowed, "this method is never forwarded";
    MalformedBody => Code::BadRequest, "the body's framing is malformed";
    BodyTimeout => Code::RequestTimeout, "the body stopped arriving";
    BodyStorageFailed => Code::Internal, "the body could not be kept until it is whole";
    BodyTooLarge => Code::PayloadTooLarge, "the body is larger than is allowed here";

    // Routes.
    NoRoute => Code::NotFound, "no route leads here";
    HostNotServed => Code::Misdirected, "no route is for this host";
    EncodedSlash => Code::AmbiguousTarget, "the request target has an encoded slash";
    /// With the methods that the route takes.
    RouteMethod(allow: String) => Code::MethodNotAllowed, "the route does not take this method";
    LoopDetected => Code::LoopDetected, "the request goes round in circles: it comes from this gateway itself";

    // Credentials.
    RepeatedAuthorization => Code::InvalidRequest, "more than one Authorization field";
    MalformedAuthorization => Code::InvalidRequest, "Authorization is malformed";
    AuthorizationNotAscii => Code::InvalidRequest, "Authorization is not ASCII";
    BearerWithoutSpace => Code::InvalidRequest, "the scheme is not followed by a space and a token";
    MalformedBasic => Code::InvalidRequest, "Basic is not followed by a user name, a colon and a password in base64";
    BearerEmpty => Code::InvalidRequest, "the scheme has no token";
    BearerNotOneToken => Code::InvalidRequest, "something besides one token follows the scheme";
    TokenSubprotocols => Code::InvalidRequest,
        "one token follows one `bearer` among the subprotocols, or a token and a proof one `dpop`";
    TokenInTwoPlaces => Code::InvalidRequest, "a token in Authorization and one among the subprotocols";
    AccessTokenMissing => Code::MissingToken, "this route needs an access token";
    RefreshTokenMissing => Code::MissingToken, "a refresh token is needed";
    /// The exact fault is for the log: it would help who forges tokens.
    TokenInvalid(reason: &'static str) => Code::InvalidToken, "the token is malformed, forged or not from here";
    TokenWithoutSession => Code::InvalidToken, "the token names no session";
    TokenExpired => Code::TokenExpired, "the token has expired";
    TokenNotYetValid => Code::TokenNotYetValid, "the token is not valid yet";
    TokenOfWrongType => Code::WrongTokenType, "the token is of the wrong type";
    DpopProof(refusal: ProofRefusal) => match refusal.problem {
        ProofProblem::Nonce => Code::UseDpopNonce,
        ProofProblem::Invalid(_) => Code::InvalidDpopProof,
    }, refusal.problem.detail();
    DpopTokenAsBearer => Code::InvalidToken, "the token is bound to a key: it needs the scheme DPoP and a proof";
    DpopTokenUnbound => Code::InvalidToken, "the token is bound to no key, and this needs one that is";
    CookieOfClient => Code::InvalidToken, "the token in the cookie is bound to no key and was not issued by the sign-in page, and this needs one that is or was";
    DpopBasic => Code::InvalidToken, "HTTP Basic proves no possession of a key, and this needs a token that is bound to one";
    DpopKeyMismatch => Code::InvalidToken, "the token is bound to another key than the proof was made with";
    DpopReplaysFull => Code::Overloaded, "too many proofs at once";
    IssuerUnavailable(retry_after: Duration) => Code::IssuerUnavailable, "the token's issuer cannot be asked at the moment";
    ClaimTooLarge => Code::HeadersTooLarge, "a claim is too large for a header field";
    /// At the gateway's own endpoints.
    PersonalTokenNotHere => Code::InvalidToken, "a personal access token is for routes, not for the gateway's own endpoints";
    PersonalTokenRevoked => Code::TokenRevoked, "the personal access token was revoked";
    TokenUserGone => Code::TokenRevoked, "the user of the token is disabled or deleted";
    TokenNotForRoute => Code::InsufficientScope, "the personal access token is limited to other routes";
    AudienceMissing => Code::InsufficientScope, "the token is not for the route's audience";
    RoleMissing => Code::InsufficientScope, "none of the route's roles";
    FreshTokenMissing => Code::InsufficientScope, "the route needs a fresh token: log in again";
    ClaimMissing => Code::InsufficientScope, "a claim that the route asks for is another";

    // Sessions.
    SessionEnded => Code::TokenRevoked, "the session was ended";
    SessionUnknown => Code::TokenRevoked, "there is no such session any more";
    SessionExpired => Code::TokenExpired, "the session has expired";
    SessionIdle => Code::TokenExpired, "the session was not refreshed for too long; it is over";
    RefreshTokenReused => Code::TokenReused, "the refresh token had been replaced; the session is over";
    AccountChanged => Code::TokenRevoked, "the account has changed; the session is over";
    SessionNotFound => Code::NotFound, "you have no such session";

    // Login, and the other endpoints.
    /// With the methods that the endpoint takes.
    EndpointMethod(allow: String) => Code::MethodNotAllowed, "the endpoint does not take this method";
    ContentTypeNotJson => Code::UnsupportedMediaType, "Content-Type is not application/json";
    ContentEncoded => Code::UnsupportedMediaType, "Content-Encoding is not accepted here";
    BodyNotJson => Code::BadRequest, "the body is not a JSON object with unique members";
    CredentialsNotText => Code::BadRequest, "username and password must be non-empty strings";
    CredentialsMissing => Code::BadRequest, "username or password is missing";
    NewPasswordNotText => Code::BadRequest,
        "current_password and new_password must be non-empty strings, end_other_sessions true or false";
    NewPasswordMissing => Code::BadRequest, "current_password or new_password is missing";
    /// With the minimum length.
    PasswordTooShort(min: usize) => Code::PasswordTooShort, format!("a new password has at least {min} characters");
    PasswordTooCommon => Code::PasswordTooCommon, "the new password is a common one";
    PasswordTooWeak => Code::PasswordTooWeak, "the new password is too easy to guess";
    PasswordBreached => Code::PasswordBreached, "the new password is in a list of breached ones";
    PasswordIsUsername => Code::PasswordIsUsername, "the new password is the user name or little more";
    PasswordUnchanged => Code::PasswordUnchanged, "the new password is the old one";
    PasswordNotChangeable => Code::PasswordNotChangeable,
        "the user's source is read-only, so the password is changed where the users are kept";
    PasswordConflict => Code::PasswordConflict, "the password was changed meanwhile";
    /// Whether the change takes a code as well.
    PasswordChangeRequired(with_code: bool) => Code::PasswordChangeRequired, match with_code {
        false => "the password is right, and has to be changed: POST {prefix}/password with username, current_password and new_password",
        true => "the password is right, and has to be changed: POST {prefix}/password with username, current_password, new_password and a code",
    };
    /// With the token of the login's next step.
    SecondFactorRequired(token: MfaToken) => Code::MfaRequired,
        "the password is right, and a code is needed: POST {prefix}/login/totp with mfa_token and code";
    CodeRequired => Code::MfaRequired, "the password is right, and a code is needed as well: send it as `code`";
    CodeMissing => Code::BadRequest, "a member is missing: code, or current_password where no second factor is set up";
    CodeNotText => Code::BadRequest, "mfa_token, code and current_password must be non-empty strings, and end_other_sessions true or false";
    WrongCode => Code::WrongSecondFactor, "the code is wrong, or was used before";
    LoginStepOver => Code::MfaTokenExpired, "mfa_token is unknown, used or expired, or the account has changed";
    NoFactor => Code::MfaNotEnrolled, "no second factor is set up, and no enrolment was begun";
    FactorExists => Code::MfaEnrolled, "a second factor is set up; remove it first";
    FactorUnreadable => Code::Internal, "the second factor cannot be read";
    /// With what a route asks for.
    StepUpRequired(step_up: StepUp) => Code::InsufficientUserAuthentication,
        "the route needs a more recent or a stronger authentication: POST {prefix}/reauthenticate";
    ResetIncomplete => Code::BadRequest, "token and new_password must be non-empty strings";
    LinkUsed => Code::LinkUsed, "the link was used, or there is another password since";
    LinkExpired => Code::LinkExpired, "there is no such link, or it has expired";
    PasswordNotStored => Code::StoreUnavailable, "the new password could not be stored; the old one remains valid";
    PasswordNotChecked => Code::Internal, "the new password could not be checked";
    RefreshTokenNotText => Code::BadRequest, "refresh_token must be a string";
    PasswordTooLong => Code::BadRequest, "the password is longer than 1024 bytes";
    WrongCredentials => Code::InvalidCredentials, "wrong username or password";
    AccountLocked(retry_after: Duration) => Code::AccountLocked, "too many failed attempts";
    RateLimited(retry_after: Duration) => Code::RateLimited, "too many failures came from this network";
    TooManySessions => Code::TooManySessions, "the user has as many sessions as one may have; end one first";
    TooManyLogins => Code::Overloaded, "too many logins at once";
    StoreUnavailable => Code::StoreUnavailable, "the session store did not answer";
    UsersUnavailable => Code::StoreUnavailable, "the users cannot be looked up at the moment";
    RevocationsUnknown => Code::StoreUnavailable, "it is not known at the moment which sessions were ended";
    SigningFailed => Code::Internal, "no token could be made";

    // Revocation and introspection.
    ClientUnknown => Code::InvalidClient, "no such client, or a wrong secret";
    ContentTypeNotForm => Code::BadRequest, "Content-Type is not application/x-www-form-urlencoded";
    TokenNotInForm => Code::BadRequest, "the form has no token";

    // Personal access tokens.
    PersonalTokenNotFound => Code::NotFound, "you have no such token";
    /// What is wrong with the request for one.
    BadTokenRequest(why: String) => Code::BadRequest, why.clone();
    TooManyPersonalTokens => Code::TooManyTokens, "the user has as many tokens as one may have; revoke one first";
    TokensByOperator => Code::InsufficientScope, "only the operator makes tokens here";

    // Browsers.
    ForeignPage => Code::CsrfRejected, "Sec-Fetch-Site and Origin do not name a page of this host";
    FormFieldTwice => Code::BadRequest, "a field of the form is there twice";
    NoPagesHere => Code::NotFound, "there are no pages here";
    CookieTooLarge => Code::Internal, "the session does not fit into a cookie";
    RefreshFailed => Code::Internal, "the refresh ended without a result";

    // Verdicts for proxies.
    UntrustedProxy => Code::UntrustedProxy, "only a peer in server.trusted_proxies may ask for a verdict";
    /// What is wrong with the description of the request that a verdict is asked for.
    OriginalRequest(why: &'static str) => Code::BadRequest, *why;

    // Targets.
    FileMethod => Code::MethodNotAllowed, "files can only be read";
    FileNotFound => Code::NotFound, "no such file";
    FileChanged => Code::PreconditionFailed, "the file is not the one that was asked for";
    FileUnreadable => Code::Internal, "the file could not be read";
    UpgradeOrigin => Code::OriginNotAllowed, "pages of this origin may not open connections here";
    WebSocketNotGet => Code::BadRequest, "a WebSocket begins with a GET without a body";
    WebSocketNotAlone => Code::BadRequest, "a request for a WebSocket asks for nothing else";
    WebSocketKey => Code::BadRequest, "a request for a WebSocket has one Sec-WebSocket-Key of 16 bytes in base64";
    WebSocketVersion => Code::BadRequest, "only version 13 of WebSocket is spoken here";
    /// WebDAV's `Destination` cannot be rewritten: why.
    BadDestination(why: &'static str) => Code::BadRequest, *why;
    UpstreamUnreachable => Code::BadGateway, "the upstream cannot be reached";
    UpstreamBroken => Code::BadGateway, "the upstream's answer was broken";
    UpstreamConnectTimeout => Code::GatewayTimeout, "the upstream could not be connected to in time";
    UpstreamTimeout => Code::GatewayTimeout, "the upstream did not answer in time";
    UpstreamUnhealthy => Code::NoHealthyUpstream, "no server of the upstream is healthy";
    UpstreamFull => Code::Overloaded, "the upstream has all it can take";
    /// The target of a route is of another kind than the service that got the request.
    WrongTarget => Code::Internal, "the route has no such target";
    /// A panic.
    Panic => Code::Internal, "the gateway failed; its log says where";

    // The admin listener.
    AdminHost => Code::Misdirected,
        "the admin listener answers machines only, by its address or by a name in admin.hosts";
    AdminMethod => Code::MethodNotAllowed, "it can only be read";
    AdminPath => Code::NotFound, "there are /healthz, /readyz, /metrics and /status";
}

/// A proof of possession that is refused (RFC 9449).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProofRefusal {
    pub(crate) problem: ProofProblem,
    /// Whether tokens were asked for: then it is a 400 (RFC 6749 section 5.2), and else a 401.
    pub(crate) of_token_request: bool,
}

/// What is wrong with a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProofProblem {
    /// In words, for the developer of the client: the proof is the client's own.
    Invalid(&'static str),
    /// It has no nonce of the gateway's, or an old one.
    Nonce,
}

impl ProofProblem {
    fn detail(self) -> &'static str {
        match self {
            ProofProblem::Invalid(reason) => reason,
            ProofProblem::Nonce => "the proof needs the nonce of the field DPoP-Nonce",
        }
    }
}

/// The schemes that a request could have used, for its challenges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DpopChallenge {
    /// Whether `Bearer` is a way, too.
    pub(crate) bearer_too: bool,
    /// Whether the request used the scheme `DPoP`.
    pub(crate) used: bool,
}

/// The token of a login's next step. It is not shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct MfaToken(Box<str>);

impl MfaToken {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for MfaToken {
    fn from(token: String) -> MfaToken {
        MfaToken(token.into())
    }
}

impl std::fmt::Debug for MfaToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MfaToken(…)")
    }
}

/// What a route asks for besides a valid token (RFC 9470).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StepUp {
    /// How long ago the user may have proved the identity, in seconds.
    pub(crate) max_age: Option<Duration>,
    /// Whether a second factor is needed.
    pub(crate) second_factor: bool,
}

/// The error of a `WWW-Authenticate` (RFC 6750 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Challenge {
    /// No token was sent: only the scheme is named.
    Bare,
    /// The token was invalid.
    Error(&'static str),
    /// A client has to authenticate (RFC 6749 section 2.3.1).
    Client,
}

impl Rejection {
    /// The status.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Rejection::UnknownExpectation => StatusCode::EXPECTATION_FAILED,
            Rejection::AdminHost => StatusCode::FORBIDDEN,
            Rejection::DpopProof(ProofRefusal { of_token_request: true, .. }) => StatusCode::BAD_REQUEST,
            _ => self.code().status(),
        }
    }

    /// The message for people.
    pub(crate) fn message(&self) -> Cow<'static, str> {
        match self {
            Rejection::PasswordTooShort(min) => {
                format!("The new password is too short. Please choose one of at least {min} characters.")
                    .into()
            }
            _ => self.code().message().into(),
        }
    }

    /// The status in gRPC's terms, for clients that get `grpc-status` in place of the problem
    /// (<https://grpc.io/docs/guides/status-codes/>).
    pub(crate) fn grpc_status(&self) -> u8 {
        const INVALID_ARGUMENT: u8 = 3;
        const DEADLINE_EXCEEDED: u8 = 4;
        const PERMISSION_DENIED: u8 = 7;
        const RESOURCE_EXHAUSTED: u8 = 8;
        const FAILED_PRECONDITION: u8 = 9;
        const UNIMPLEMENTED: u8 = 12;
        const INTERNAL: u8 = 13;
        const UNAVAILABLE: u8 = 14;
        const UNAUTHENTICATED: u8 = 16;
        match (self.code(), self.status().as_u16()) {
            (Code::Overloaded, _) | (_, 413 | 429 | 431) => RESOURCE_EXHAUSTED,
            (_, 401) => UNAUTHENTICATED,
            (_, 403) => PERMISSION_DENIED,
            (_, 404 | 405 | 421 | 501) => UNIMPLEMENTED,
            (_, 408) => DEADLINE_EXCEEDED,
            (_, 412) => FAILED_PRECONDITION,
            (_, 400..=499) => INVALID_ARGUMENT,
            (_, 502..=504) => UNAVAILABLE,
            _ => INTERNAL,
        }
    }

    /// Whether the connection ends after the response: what follows on it cannot be trusted.
    pub(crate) fn closes(&self) -> bool {
        use Rejection::{
            BadFraming, BadHead, BadHost, BadTarget, IncompleteHead, MalformedBody, MethodNeverForwarded,
            Panic, UnknownExpectation,
        };
        let of_code = matches!(
            self.code(),
            Code::UriTooLong
                | Code::HeadersTooLarge
                | Code::PayloadTooLarge
                | Code::UnsupportedTransferCoding
                | Code::RequestTimeout
        );
        of_code
            || matches!(
                self,
                BadHead(_) | BadFraming(_) | BadTarget(_) | BadHost(_) | MethodNeverForwarded(_)
            )
            || matches!(self, IncompleteHead | UnknownExpectation | MalformedBody | Panic)
    }

    /// When the client may come back.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Rejection::AccountLocked(wait)
            | Rejection::RateLimited(wait)
            | Rejection::IssuerUnavailable(wait) => Some(*wait),
            Rejection::TooManyLogins
            | Rejection::DpopReplaysFull
            | Rejection::UpstreamFull
            | Rejection::UpstreamUnhealthy => Some(SHORT_RETRY),
            _ if self.code() == Code::StoreUnavailable => Some(OUTAGE_RETRY),
            _ => None,
        }
    }

    /// The value of `Retry-After`: whole seconds, at least one. Of outages it is spread by a random number; a
    /// lock and a rate limit end when they end.
    fn retry_after_seconds(&self, random: u8) -> Option<u64> {
        let wait = self.retry_after()?;
        let jitter = match wait {
            _ if matches!(self, Rejection::AccountLocked(_) | Rejection::RateLimited(_)) => 0,
            wait if wait >= OUTAGE_RETRY => OUTAGE_RETRY_JITTER,
            _ => SHORT_RETRY_JITTER,
        };
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Some(seconds.max(1) + u64::from(random % (jitter + 1)))
    }

    /// The methods that are allowed (RFC 9110 section 15.5.6).
    fn allow(&self) -> Option<&str> {
        match self {
            Rejection::MethodNeverForwarded(methods)
            | Rejection::RouteMethod(methods)
            | Rejection::EndpointMethod(methods) => Some(methods),
            Rejection::FileMethod => Some("GET, HEAD"),
            Rejection::AdminMethod => Some("GET, HEAD, OPTIONS"),
            _ => None,
        }
    }

    fn challenge(&self) -> Option<Challenge> {
        Some(match self.code() {
            Code::MissingToken
            | Code::InvalidCredentials
            | Code::WrongSecondFactor
            | Code::MfaTokenExpired => Challenge::Bare,
            Code::InsufficientUserAuthentication => Challenge::Error("insufficient_user_authentication"),
            Code::InvalidClient => Challenge::Client,
            Code::InvalidRequest => Challenge::Error("invalid_request"),
            Code::InsufficientScope => Challenge::Error("insufficient_scope"),
            code @ (Code::InvalidDpopProof | Code::UseDpopNonce) => Challenge::Error(code.name()),
            code if code.status() == StatusCode::UNAUTHORIZED => Challenge::Error("invalid_token"),
            _ => return None,
        })
    }

    /// The response: problem details (RFC 9457) with the fields that belong to the rejection.
    pub(crate) fn to_response(&self, request_id: &str) -> Response<Bytes> {
        self.to_response_of_type(request_id, None)
    }

    /// Like [`Self::to_response`]; its `type` is `type_base` followed by the code, or `about:blank`.
    pub(crate) fn to_response_of_type(&self, request_id: &str, type_base: Option<&str>) -> Response<Bytes> {
        let mut response = Response::new(self.problem(request_id, type_base).into());
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        self.insert_fields(headers);
        response
    }

    /// The fields that a response has of the rejection whatever its body is.
    pub(crate) fn insert_fields(&self, headers: &mut HeaderMap) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let challenge = self.challenge().map(|challenge| match challenge {
            _ if matches!(self, Rejection::DpopProof(_)) => {
                format!("DPoP {}", self.with_algorithms(challenge))
            }
            Challenge::Bare => "Bearer".to_owned(),
            Challenge::Client => "Basic realm=\"introspection\", charset=\"UTF-8\"".to_owned(),
            Challenge::Error(error) => format!("Bearer {}", self.error_parameters(error)),
        });
        // Most refusals have no such field, and need no random number.
        let retry_after = self.retry_after().and_then(|_| self.retry_after_seconds(random_byte()));
        let retry_after = retry_after.map(|seconds| seconds.to_string());
        let allow = self.allow().map(str::to_owned);
        let accept_post = (self.code() == Code::UnsupportedMediaType).then(|| "application/json".to_owned());
        for (name, value) in [
            (WWW_AUTHENTICATE, challenge),
            (RETRY_AFTER, retry_after),
            (ALLOW, allow),
            (ACCEPT_POST, accept_post),
        ] {
            if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
                headers.insert(name, value);
            }
        }
    }

    /// Replaces the challenge of a response where tokens may be bound to keys (RFC 9449 section 7.1). Returns whether there is one.
    pub(crate) fn insert_dpop_challenge(&self, how: DpopChallenge, headers: &mut HeaderMap) -> bool {
        let about_a_token = |challenge: &Challenge| {
            *challenge != Challenge::Client && self.code() != Code::InvalidCredentials
        };
        let Some(challenge) = self.challenge().filter(about_a_token) else { return false };
        let at_dpop = how.used || !how.bearer_too || matches!(self, Rejection::DpopProof(_));
        let dpop = self.with_algorithms(if at_dpop { challenge } else { Challenge::Bare });
        let bearer = match challenge {
            Challenge::Error(error) if !at_dpop => format!("Bearer {}", self.error_parameters(error)),
            _ => "Bearer".to_owned(),
        };
        let value = if how.bearer_too { format!("{bearer}, DPoP {dpop}") } else { format!("DPoP {dpop}") };
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(WWW_AUTHENTICATE, value);
        }
        true
    }

    /// The description is in the grammar of RFC 6750 section 3: ASCII without `"` and `\`.
    fn error_parameters(&self, error: &str) -> String {
        let description = self.detail().replace(['"', '\\'], "'");
        let step_up = match self {
            Rejection::StepUpRequired(StepUp { max_age, second_factor }) => {
                let max_age = max_age.map_or(String::new(), |age| format!(", max_age=\"{}\"", age.as_secs()));
                let acr = if *second_factor { ", acr_values=\"aal2\"" } else { "" };
                format!("{acr}{max_age}")
            }
            _ => String::new(),
        };
        format!("error=\"{error}\", error_description=\"{description}\"{step_up}")
    }

    fn with_algorithms(&self, challenge: Challenge) -> String {
        match challenge {
            Challenge::Bare | Challenge::Client => format!("algs=\"{ALGORITHMS}\""),
            Challenge::Error(error) => format!("{}, algs=\"{ALGORITHMS}\"", self.error_parameters(error)),
        }
    }

    /// What OAuth clients look at in errors of token endpoints (RFC 6749 section 5.2, RFC 7009 section 2.2.1, RFC 7662 section 2.3).
    fn oauth_error(&self) -> Option<&'static str> {
        match self {
            Rejection::DpopProof(_) | Rejection::ClientUnknown => Some(self.code().name()),
            Rejection::ContentTypeNotForm | Rejection::TokenNotInForm | Rejection::FormFieldTwice => {
                Some("invalid_request")
            }
            _ => None,
        }
    }

    fn problem(&self, request_id: &str, type_base: Option<&str>) -> Vec<u8> {
        let (code, status) = (self.code(), self.status());
        let kind = type_base.map_or_else(|| "about:blank".into(), |base| format!("{base}{}", code.name()));
        let mut problem = json!({
            "type": kind,
            "title": status.canonical_reason().unwrap_or("Error"),
            "status": status.as_u16(),
            "detail": self.detail(),
            "code": code.name(),
            "message": self.message(),
            "request_id": request_id,
        });
        if let Some(error) = self.oauth_error() {
            problem["error"] = error.into();
        }
        if let Rejection::SecondFactorRequired(token) = self {
            problem["mfa_token"] = token.as_str().into();
            problem["expires_in"] = MFA_TOKEN_SECONDS.into();
        }
        if matches!(self, Rejection::SecondFactorRequired(_) | Rejection::PasswordChangeRequired(true)) {
            problem["factors"] = json!(["totp", "recovery_code"]);
        }
        problem.to_string().into_bytes()
    }
}

fn random_byte() -> u8 {
    let mut random = [0];
    // Without random bytes there is no jitter, which does no harm.
    let _ = aws_lc_rs::rand::fill(&mut random);
    random[0]
}

/// 503 for a store outage, never 401: a client must be able to keep its session through it.
pub(crate) fn store_unavailable(error: &StoreError) -> Rejection {
    tracing::error!(%error, "the session store failed");
    Rejection::StoreUnavailable
}

/// 503 for an unavailable source of users; it was logged when that began.
pub(crate) fn users_unavailable(error: &SourceUnavailable) -> Rejection {
    tracing::debug!(%error, "a source of users did not answer");
    Rejection::UsersUnavailable
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
