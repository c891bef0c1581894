//! Deciding whether a token is good: compact form, header, key, signature, and only then the claims.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::public_key::{VerificationKey, backend};
use super::{TokenType, UnixSeconds};
use crate::config::{MAX_ACCESS_TTL, Tokens};
use crate::strict_json;

/// A token larger than this is not looked at.
const MAX_TOKEN_LEN: usize = 8 * 1024;
const MAX_SUBJECT_LEN: usize = 255;
/// The largest integer every JSON parser keeps exact.
const MAX_NUMERIC_DATE: u64 = 1 << 53;

/// Why a token is refused. All but [`TokenError::Invalid`] are said only of a token whose signature is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Form, algorithm, key, signature or claims; the reason is for logs.
    #[error("{0}")]
    Invalid(&'static str),
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` or `iat` lies ahead.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// A refresh token where an access token belongs, or the other way round.
    #[error("the token is of the wrong type")]
    WrongType,
}

/// The claims of a token that was verified. Only [`Verifier::verify`] makes them.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedClaims {
    subject: String,
    username: String,
    roles: Vec<String>,
    sid: String,
    jti: String,
    issued_at: UnixSeconds,
    not_before: UnixSeconds,
    expires_at: UnixSeconds,
    all: Map<String, Value>,
}

impl VerifiedClaims {
    /// The user's id (`sub`).
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The user's name.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// The user's roles.
    pub fn roles(&self) -> &[String] {
        &self.roles
    }

    /// The session's id.
    pub fn sid(&self) -> &str {
        &self.sid
    }

    /// The token's id.
    pub fn jti(&self) -> &str {
        &self.jti
    }

    /// When it was issued.
    pub fn issued_at(&self) -> UnixSeconds {
        self.issued_at
    }

    /// When it ends (`exp`), without leeway.
    pub fn expires_at(&self) -> UnixSeconds {
        self.expires_at
    }

    /// Any claim by its name.
    pub fn get(&self, claim: &str) -> Option<&Value> {
        self.all.get(claim)
    }
}

/// Checks tokens against the keys and names of one configuration.
pub struct Verifier {
    keys: Vec<VerificationKey>,
    iss: String,
    aud: String,
    leeway: u64,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Verifier({} keys, {:?})", self.keys.len(), self.iss)
    }
}

impl Verifier {
    pub(super) fn new(keys: Vec<VerificationKey>, tokens: &Tokens) -> Verifier {
        Verifier {
            keys,
            iss: tokens.issuer.clone(),
            aud: tokens.audience.clone(),
            leeway: tokens.leeway.as_secs(),
        }
    }

    /// The clock difference that is forgiven, in seconds.
    pub fn leeway(&self) -> u64 {
        self.leeway
    }

    /// The claims of `token` if it is good at `now` and of the type that is expected.
    pub fn verify(
        &self,
        token: &str,
        expected: TokenType,
        now: UnixSeconds,
    ) -> Result<VerifiedClaims, TokenError> {
        let (claims, typ) = self.read(token, now)?;
        if typ != expected {
            return Err(TokenError::WrongType);
        }
        let lifetime = claims.expires_at.saturating_sub(claims.issued_at);
        // Not the configured lifetime: tokens outlive the restart that shortened it. A refresh token's session tells.
        if lifetime == 0 || (typ == TokenType::Access && lifetime > MAX_ACCESS_TTL.as_secs()) {
            return Err(TokenError::Invalid("the lifetime is not one of ours"));
        }
        if now >= claims.expires_at.saturating_add(self.leeway) {
            return Err(TokenError::Expired);
        }
        if claims.not_before.max(claims.issued_at) > now.saturating_add(self.leeway) {
            return Err(TokenError::NotYetValid);
        }
        Ok(claims)
    }

    /// The claims of a token of either type that was signed here and for here, though it may have expired.
    pub fn verify_signed(&self, token: &str, now: UnixSeconds) -> Result<VerifiedClaims, TokenError> {
        self.read(token, now).map(|(claims, _)| claims)
    }

    /// Everything but what is expected and when: form, header, key, signature, names, and the claims' JSON types.
    fn read(&self, token: &str, now: UnixSeconds) -> Result<(VerifiedClaims, TokenType), TokenError> {
        let parts = CompactJws::split(token)?;
        let header = Header::parse(parts.header)?;
        self.check_signature(&parts, &header, now)?;

        let typ = TokenType::from_header(&header.typ).ok_or(TokenError::Invalid("typ is neither of ours"))?;
        let payload = decode(parts.payload)?;
        let members =
            strict_json::object(&payload).ok_or(TokenError::Invalid("the payload is no JSON object"))?;
        let claims = Members(&members);
        if claims.text("type")? != typ.claim() {
            return Err(TokenError::Invalid("typ and type disagree"));
        }
        if claims.text("iss")? != self.iss {
            return Err(TokenError::Invalid("iss is another"));
        }
        if !claims.audience_has(&self.aud)? {
            return Err(TokenError::Invalid("aud is another"));
        }
        let subject = claims.text("sub")?.to_owned();
        if subject.len() > MAX_SUBJECT_LEN {
            return Err(TokenError::Invalid("sub is too long"));
        }
        let verified = VerifiedClaims {
            subject,
            username: claims.text("username")?.to_owned(),
            roles: claims.texts("roles")?,
            sid: claims.text("sid")?.to_owned(),
            jti: claims.text("jti")?.to_owned(),
            issued_at: claims.date("iat")?,
            not_before: claims.date("nbf")?,
            expires_at: claims.date("exp")?,
            all: members,
        };
        Ok((verified, typ))
    }

    fn check_signature(
        &self,
        parts: &CompactJws<'_>,
        header: &Header,
        now: UnixSeconds,
    ) -> Result<(), TokenError> {
        // A shared secret has no id; a key pair is found by its id only.
        let key = self
            .keys
            .iter()
            .find(|key| key.kid == header.kid)
            .ok_or(TokenError::Invalid("kid names no key of ours"))?;
        if key.algorithm.name() != header.alg {
            return Err(TokenError::Invalid("alg is not that of the key"));
        }
        if key.until.is_some_and(|until| now >= until) {
            return Err(TokenError::Invalid("the key has been retired"));
        }
        // jsonwebtoken decodes the signature too; that it is canonical is checked here.
        decode(parts.signature)?;
        match jsonwebtoken::crypto::verify(
            parts.signature,
            parts.message.as_bytes(),
            &key.decoding,
            backend(key.algorithm),
        ) {
            Ok(true) => Ok(()),
            _ => Err(TokenError::Invalid("the signature is wrong")),
        }
    }
}

/// `header.payload.signature` (RFC 7515 section 7.1): three segments, none empty.
struct CompactJws<'t> {
    header: &'t str,
    payload: &'t str,
    signature: &'t str,
    message: &'t str,
}

impl CompactJws<'_> {
    fn split(token: &str) -> Result<CompactJws<'_>, TokenError> {
        const MALFORMED: TokenError = TokenError::Invalid("no compact JWS");
        if token.len() > MAX_TOKEN_LEN {
            return Err(TokenError::Invalid("larger than 8 KiB"));
        }
        let (message, signature) = token.rsplit_once('.').ok_or(MALFORMED)?;
        let (header, payload) = message.split_once('.').ok_or(MALFORMED)?;
        if payload.contains('.') || [header, payload, signature].iter().any(|part| part.is_empty()) {
            return Err(MALFORMED);
        }
        Ok(CompactJws { header, payload, signature, message })
    }
}

/// The header parameters that count. Pointers to other keys (`jku`, `jwk`, `x5u`, `x5c`) are not looked at.
struct Header {
    alg: String,
    typ: String,
    kid: Option<String>,
}

impl Header {
    fn parse(encoded: &str) -> Result<Header, TokenError> {
        let bytes = decode(encoded)?;
        let members =
            strict_json::object(&bytes).ok_or(TokenError::Invalid("the header is no JSON object"))?;
        // Each of these would change what the signature covers or what the payload is; we understand none of them.
        if ["crit", "b64", "zip", "cty"].iter().any(|name| members.contains_key(*name)) {
            return Err(TokenError::Invalid("a header parameter that must be understood"));
        }
        let parameters = Members(&members);
        let kid = match members.get("kid") {
            None => None,
            Some(_) => Some(parameters.text("kid")?.to_owned()),
        };
        Ok(Header { alg: parameters.text("alg")?.to_owned(), typ: parameters.text("typ")?.to_owned(), kid })
    }
}

/// base64url without padding and without stray bits in the last character (RFC 4648 section 3.5).
fn decode(segment: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(segment).map_err(|_| TokenError::Invalid("a segment is not canonical base64url"))
}

/// Members of an object, read by the type they must have: a wrong type is invalid, never "absent".
struct Members<'m>(&'m Map<String, Value>);

impl<'m> Members<'m> {
    fn text(&self, name: &str) -> Result<&'m str, TokenError> {
        match self.0.get(name) {
            Some(Value::String(text)) if !text.is_empty() => Ok(text),
            _ => Err(TokenError::Invalid("a member that must be a non-empty string is not")),
        }
    }

    fn texts(&self, name: &str) -> Result<Vec<String>, TokenError> {
        const WRONG: TokenError = TokenError::Invalid("roles is not an array of strings");
        let Some(Value::Array(elements)) = self.0.get(name) else { return Err(WRONG) };
        elements.iter().map(|e| e.as_str().map(str::to_owned).ok_or(WRONG)).collect()
    }

    fn date(&self, name: &str) -> Result<UnixSeconds, TokenError> {
        self.0
            .get(name)
            .and_then(Value::as_u64)
            .filter(|&date| date <= MAX_NUMERIC_DATE)
            .ok_or(TokenError::Invalid("a date is not an integer of seconds"))
    }

    fn audience_has(&self, ours: &str) -> Result<bool, TokenError> {
        match self.0.get("aud") {
            Some(Value::String(one)) => Ok(one == ours),
            Some(Value::Array(several)) if several.iter().all(Value::is_string) => {
                Ok(several.iter().any(|a| a == ours))
            }
            _ => Err(TokenError::Invalid("aud is neither a string nor an array of strings")),
        }
    }
}
