//! The claims of a token (RFC 7519 section 4.1, RFC 9068 section 2.2).

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::clock::UnixSeconds;

/// The two types of token. Neither is accepted for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenType {
    /// Authorizes requests to routes.
    Access,
    /// Is exchanged for new access tokens.
    Refresh,
}

impl TokenType {
    /// The `type` claim.
    pub fn claim(self) -> &'static str {
        match self {
            TokenType::Access => "access",
            TokenType::Refresh => "refresh",
        }
    }

    /// The `typ` header parameter (RFC 9068 section 2.1 for access tokens).
    pub fn header(self) -> &'static str {
        match self {
            TokenType::Access => "at+jwt",
            TokenType::Refresh => "rt+jwt",
        }
    }

    /// The type named by a `typ` header parameter: a media type, compared without case (RFC 7515 section
    /// 4.1.9).
    pub(super) fn from_header(typ: &str) -> Option<TokenType> {
        let subtype = match typ.split_once('/') {
            Some((application, subtype)) if application.eq_ignore_ascii_case("application") => subtype,
            Some(_) => return None,
            None => typ,
        };
        [TokenType::Access, TokenType::Refresh].into_iter().find(|t| subtype.eq_ignore_ascii_case(t.header()))
    }
}

/// The `cnf` claim of a token that is bound to a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Confirmation {
    /// The key's thumbprint.
    pub jkt: String,
}

/// How the user of a token proved the identity (OpenID Connect Core section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct AuthenticationClaims {
    /// When, the last time.
    pub auth_time: UnixSeconds,
    /// The level: `aal1` by a password, `aal2` by a second factor as well.
    pub acr: &'static str,
    /// The methods (RFC 8176).
    pub amr: &'static [&'static str],
}

impl AuthenticationClaims {
    /// The names of the claims.
    pub(super) const NAMES: [&'static str; 3] = ["auth_time", "acr", "amr"];

    /// By a password, and by a `second_factor` as well.
    pub fn new(auth_time: UnixSeconds, second_factor: bool) -> AuthenticationClaims {
        match second_factor {
            true => AuthenticationClaims { auth_time, acr: "aal2", amr: &["pwd", "otp", "mfa"] },
            false => AuthenticationClaims { auth_time, acr: "aal1", amr: &["pwd"] },
        }
    }
}

/// The name of [`Claims::cookie_session`].
pub(super) const COOKIE_SESSION: &str = "cookie_session";

/// The claims of a token as they are signed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Claims {
    /// Issuer; empty for none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub iss: String,
    /// Audiences; one is written as text, several as a list.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "audience")]
    pub aud: Vec<String>,
    /// Subject: the user's id.
    pub sub: String,
    /// Issued at.
    pub iat: UnixSeconds,
    /// Not valid before.
    pub nbf: UnixSeconds,
    /// Expires: not valid at or after.
    pub exp: UnixSeconds,
    /// The token's id.
    pub jti: String,
    /// The session's id.
    pub sid: String,
    /// The absolute end of the session; in access tokens only, for resources that end streams with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_exp: Option<UnixSeconds>,
    /// `access` or `refresh`.
    #[serde(rename = "type")]
    pub token_type: &'static str,
    /// The key that the token is bound to (RFC 7800 section 3.1, RFC 9449 section 6.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Confirmation>,
    /// Whether it was issued into a browser's cookies, by the sign-in pages; absent otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cookie_session: bool,
    /// Whether the password was given for this token; in the compatible profile only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fresh: Option<bool>,
    /// A double-submit value against CSRF; in the compatible profile only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub csrf: Option<String>,
    /// When the user last proved the identity, and by which methods (RFC 8176); in access tokens only, where routes may ask for
    /// it.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<AuthenticationClaims>,
    /// The user's name.
    pub username: String,
    /// The user's roles.
    pub roles: Vec<String>,
    /// Further claims from the users source.
    #[serde(flatten)]
    pub further: Map<String, Value>,
}

fn audience<S: Serializer>(names: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    match names {
        [one] => one.serialize(serializer),
        several => several.serialize(serializer),
    }
}
