//! Verification of another issuer's JWT (RFC 7519) as RFC 8725 requires it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::claims::{Accepted, Origin, accept};
use super::jwks::KeySet;
use crate::config::{Algorithm, IssuerSettings};
use crate::strict_json;
use crate::tokens::{CompactJws, TokenError, UnixSeconds, backend};

/// Maximum length of a token, in bytes.
const MAX_TOKEN_LEN: usize = 16 * 1024;

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JwtError {
    Token(TokenError),
    /// It would be good if it were signed by a key that is not known here.
    UnknownKey,
}

const NOT_CANONICAL: TokenError = TokenError::Invalid("a segment is not canonical base64url");

/// `header.payload.signature`; nothing of it is verified.
pub(crate) struct Jws<'t> {
    header: Map<String, Value>,
    message: &'t str,
    signature: &'t str,
    payload: Map<String, Value>,
}

impl Jws<'_> {
    /// Takes a token apart. `None` is no JWT: it may be an opaque token, or an encrypted one.
    pub(crate) fn parse(token: &str) -> Option<Jws<'_>> {
        let CompactJws { header, payload, signature, message } = CompactJws::split(token)?;
        let object = |segment: &str| strict_json::object(&URL_SAFE_NO_PAD.decode(segment).ok()?);
        Some(Jws { header: object(header)?, payload: object(payload)?, message, signature })
    }

    /// The `iss` that it names.
    pub(crate) fn issuer(&self) -> Option<&str> {
        self.payload.get("iss")?.as_str()
    }

    /// The identity that it stands for at `now`. `keys` are those that are known; none where they are not known yet.
    ///
    /// # Errors
    ///
    /// Why it is not accepted. Times are judged of a token with a good signature only.
    pub(super) fn verify(
        &self,
        issuer: &IssuerSettings,
        keys: Option<&KeySet>,
        now: UnixSeconds,
    ) -> Result<Accepted, JwtError> {
        let (algorithm, kid, typ) = self.read_header(issuer).map_err(JwtError::Token)?;
        let accepted = accept(issuer, &self.payload, Origin::Jwt(typ), now);
        let candidates = keys.map(|keys| keys.candidates(kid, algorithm)).unwrap_or_default();
        if candidates.is_empty() {
            // A token that is no good by what it says itself needs no key.
            return Err(match accepted {
                Ok(_) => JwtError::UnknownKey,
                Err(_) => JwtError::Token(TokenError::Invalid("kid names no key of its issuer")),
            });
        }
        // jsonwebtoken decodes it too; that it is canonical is checked here.
        if URL_SAFE_NO_PAD.decode(self.signature).is_err() {
            return Err(JwtError::Token(NOT_CANONICAL));
        }
        let is_signed = candidates.iter().any(|candidate| {
            let message = self.message.as_bytes();
            let verified =
                jsonwebtoken::crypto::verify(self.signature, message, &candidate.key, backend(algorithm));
            matches!(verified, Ok(true))
        });
        match is_signed {
            true => accepted.map_err(JwtError::Token),
            false => Err(JwtError::Token(TokenError::Invalid("the signature does not match"))),
        }
    }

    /// Algorithm, key id and type. Addresses of keys and keys in the header (`jku`, `jwk`, `x5u`, `x5c`) are not looked at.
    fn read_header(&self, issuer: &IssuerSettings) -> Result<(Algorithm, Option<&str>, &str), TokenError> {
        let invalid = TokenError::Invalid;
        if self.message.len() + self.signature.len() > MAX_TOKEN_LEN {
            return Err(invalid("larger than 16 KiB"));
        }
        // Each of these would change what the signature covers or what the payload is; none is supported.
        if ["crit", "b64", "zip", "cty", "enc"].iter().any(|name| self.header.contains_key(*name)) {
            return Err(invalid("a header parameter that must be understood"));
        }
        let text = |name: &str| match self.header.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.as_str())),
            Some(_) => Err(invalid("alg, typ or kid is not a string")),
        };
        let algorithm = text("alg")?.and_then(Algorithm::from_name);
        let algorithm = algorithm
            .filter(|algorithm| issuer.algorithms.contains(algorithm))
            .ok_or(invalid("the algorithm is not one that is accepted of its issuer"))?;
        let typ = text("typ")?.unwrap_or("JWT");
        let bare = match typ.split_once('/') {
            Some((application, bare)) if application.eq_ignore_ascii_case("application") => bare,
            _ => typ,
        };
        if !issuer.types.iter().any(|accepted| accepted.eq_ignore_ascii_case(bare)) {
            return Err(invalid("typ is not one that is accepted of its issuer"));
        }
        Ok((algorithm, text("kid")?, bare))
    }
}

#[cfg(test)]
mod tests;
