//! Making tokens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use serde_json::{Map, Value, json};

use super::{Claims, TokenType, UnixSeconds};
use crate::config::{Algorithm, Tokens};

/// What a token is to say beyond what every token says.
#[derive(Debug, Clone, Copy)]
pub struct TokenRequest<'a> {
    /// Access or refresh.
    pub token_type: TokenType,
    /// The token's id.
    pub jti: &'a str,
    /// The session's id.
    pub sid: &'a str,
    /// The user's id.
    pub subject: &'a str,
    /// The user's name.
    pub username: &'a str,
    /// The user's roles.
    pub roles: &'a [String],
    /// Further claims; they stand in access tokens only.
    pub further: &'a Map<String, Value>,
    /// When it is issued.
    pub issued_at: UnixSeconds,
    /// When it ends.
    pub expires_at: UnixSeconds,
}

/// Signs tokens with the one signing key.
pub struct Issuer {
    key: EncodingKey,
    algorithm: jsonwebtoken::Algorithm,
    // The encoded headers never change.
    access_header: String,
    refresh_header: String,
    iss: String,
    aud: String,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Issuer({:?})", self.algorithm)
    }
}

/// The header of every token of one type that one key signs.
pub(super) fn encoded_header(algorithm: Algorithm, token_type: TokenType, kid: Option<&str>) -> String {
    let mut header = json!({"alg": algorithm.name(), "typ": token_type.header()});
    if let Some(kid) = kid {
        header["kid"] = kid.into();
    }
    URL_SAFE_NO_PAD.encode(header.to_string())
}

/// A signature could not be made; the key was checked at start, so this is a bug or a broken machine.
#[derive(Debug, thiserror::Error)]
#[error("cannot sign a token: {0}")]
pub struct SigningError(String);

impl Issuer {
    pub(super) fn new(
        key: EncodingKey,
        algorithm: jsonwebtoken::Algorithm,
        name: Algorithm,
        kid: Option<String>,
        tokens: &Tokens,
    ) -> Issuer {
        Issuer {
            key,
            algorithm,
            access_header: encoded_header(name, TokenType::Access, kid.as_deref()),
            refresh_header: encoded_header(name, TokenType::Refresh, kid.as_deref()),
            iss: tokens.issuer.clone(),
            aud: tokens.audience.clone(),
        }
    }

    /// Signs a token.
    pub fn issue(&self, request: TokenRequest<'_>) -> Result<String, SigningError> {
        let (header, further) = match request.token_type {
            TokenType::Access => (&self.access_header, request.further.clone()),
            TokenType::Refresh => (&self.refresh_header, Map::new()),
        };
        let claims = Claims {
            iss: self.iss.clone(),
            aud: self.aud.clone(),
            sub: request.subject.to_owned(),
            iat: request.issued_at,
            nbf: request.issued_at,
            exp: request.expires_at,
            jti: request.jti.to_owned(),
            sid: request.sid.to_owned(),
            token_type: request.token_type.claim(),
            username: request.username.to_owned(),
            roles: request.roles.to_vec(),
            further,
        };
        let payload = serde_json::to_vec(&claims).map_err(|e| SigningError(e.to_string()))?;
        let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm)
            .map_err(|e| SigningError(e.to_string()))?;
        Ok(format!("{message}.{signature}"))
    }
}
