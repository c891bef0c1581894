//! Token verification: compact form, header, key, signature, and only then the claims (RFC 7515, RFC 7519,
//! RFC 8725).

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::claims::COOKIE_SESSION;
use super::issuer::encoded_header;
use super::key_record::{KeyRecord, KeyRole};
use super::payload::{Audience, Payload};
use super::public_key::{Check, VerificationKey, backend};
use super::{CompactJws, KeyThumbprint, TokenType, UnixSeconds};
use crate::config::{MAX_ACCESS_TTL, Tokens};
use crate::strict_json;

/// Maximum length of a token, in bytes.
const MAX_TOKEN_LEN: usize = 8 * 1024;
const MAX_SUBJECT_LEN: usize = 255;
/// The expiry of what never expires: the end of the year 9999, which every date format has.
const END_OF_TIME: UnixSeconds = UnixSeconds::new(253_402_300_799);
/// Upper bound of the length of a signature tag and of its estimate, in bytes.
const MAX_TAG_LEN: usize = 96;

/// Tolerated clock skew of other instances, whatever the leeway: a token that was issued a moment
/// ago must not be rejected.
const MIN_CLOCK_SKEW: Duration = Duration::from_secs(2);

/// The reason for an algorithm that is not configured.
pub(crate) const WRONG_ALGORITHM: &str = "alg is not that of the key";
/// The reason for a wrong signature.
pub(crate) const WRONG_SIGNATURE: &str = "the signature is wrong";

/// Why a token is rejected. All variants but [`TokenError::Invalid`] are reported only for a token with a
/// valid signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Form, algorithm, key, signature or claims; the reason is for logs.
    #[error("{0}")]
    Invalid(&'static str),
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` or `iat` is in the future.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// A refresh token in place of an access token, or the other way round.
    #[error("the token is of the wrong type")]
    WrongType,
}

/// The claims of a token that another issuer signed and that was verified with that issuer's keys, as an identity here.
#[derive(Debug)]
pub(crate) struct OtherClaims {
    pub(crate) iss: String,
    pub(crate) subject: String,
    pub(crate) username: String,
    pub(crate) roles: Vec<String>,
    pub(crate) jti: String,
    pub(crate) issued_at: UnixSeconds,
    pub(crate) not_before: UnixSeconds,
    pub(crate) expires_at: UnixSeconds,
    /// Claims by their names here; `aud` and `session_exp` among them.
    pub(crate) further: Map<String, Value>,
}

/// The claims of a verified token, or of a user who was found by something else. Only [`Verifier`] makes
/// them, and `issuers` those of other issuers.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedClaims {
    token_type: TokenType,
    subject: String,
    username: String,
    roles: Vec<String>,
    sid: String,
    is_foreign: bool,
    /// `None` for what was no token of the gateway.
    key: Option<Arc<KeyRecord>>,
    jti: String,
    issued_at: UnixSeconds,
    not_before: UnixSeconds,
    expires_at: UnixSeconds,
    names: Arc<Names>,
    further: Map<String, Value>,
}

/// What [`Verifier::claims_of_user`] makes claims of.
#[derive(Debug)]
pub(crate) struct ClaimsOfUser<'u> {
    /// `sub`.
    pub(crate) subject: &'u str,
    pub(crate) username: &'u str,
    pub(crate) roles: Vec<String>,
    pub(crate) further: Map<String, Value>,
    /// What stands in for a session (`sid`), and for a token's id.
    pub(crate) session: String,
    pub(crate) issued_at: UnixSeconds,
    /// `None` for never.
    pub(crate) expires_at: Option<UnixSeconds>,
}

/// The expected issuer and audience.
#[derive(Debug, PartialEq)]
struct Names {
    iss: String,
    aud: String,
    /// All that own tokens carry.
    all_audiences: Vec<String>,
}

/// The value of a claim.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ClaimValue<'c> {
    /// A string.
    Text(&'c str),
    /// A list of strings.
    Texts(&'c [String]),
    /// An integer.
    Number(u64),
    /// Any JSON value.
    Json(&'c Value),
}

impl VerifiedClaims {
    /// The claims of another issuer's token: it has no session here.
    pub(crate) fn of_other_issuer(claims: OtherClaims) -> VerifiedClaims {
        let OtherClaims { iss, subject, username, roles, jti, issued_at, not_before, expires_at, further } =
            claims;
        VerifiedClaims {
            token_type: TokenType::Access,
            subject,
            username,
            roles,
            sid: String::new(),
            is_foreign: true,
            key: None,
            jti,
            issued_at,
            not_before,
            expires_at,
            names: Arc::new(Names { iss, aud: String::new(), all_audiences: Vec::new() }),
            further,
        }
    }

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

    /// Whether another library issued it, which knows no sessions: the session's id is derived from the
    /// token's own.
    pub fn is_foreign(&self) -> bool {
        self.is_foreign
    }

    /// The gateway's key that has verified it, if it was a token of the gateway.
    pub fn key(&self) -> Option<&KeyRecord> {
        self.key.as_deref()
    }

    /// The token's id.
    pub fn jti(&self) -> &str {
        &self.jti
    }

    /// Issued at.
    pub fn issued_at(&self) -> UnixSeconds {
        self.issued_at
    }

    /// Expiry (`exp`), without leeway.
    pub fn expires_at(&self) -> UnixSeconds {
        self.expires_at
    }

    /// The absolute end of its session; `None` for tokens issued by an earlier version.
    pub fn session_expires_at(&self) -> Option<UnixSeconds> {
        self.further.get("session_exp").and_then(Value::as_u64).map(UnixSeconds::new)
    }

    /// The key that the token is bound to (`cnf.jkt`), if it is bound to one.
    ///
    /// # Errors
    ///
    /// It is bound to something that cannot be verified here, and must not be accepted (RFC 7800 section 3.1).
    pub fn bound_key(&self) -> Result<Option<KeyThumbprint>, TokenError> {
        let Some(confirmation) = self.further.get("cnf") else { return Ok(None) };
        let members = confirmation.as_object().filter(|members| members.len() == 1);
        let thumbprint = members.and_then(|members| members.get("jkt")?.as_str()?.parse().ok());
        thumbprint.map(Some).ok_or(TokenError::Invalid("cnf is not the thumbprint of a key"))
    }

    /// Whether it was issued into a browser's cookies, by the sign-in pages.
    pub fn is_of_cookie_session(&self) -> bool {
        !self.is_foreign && self.further.get(COOKIE_SESSION) == Some(&Value::Bool(true))
    }

    /// All claims.
    pub(crate) fn all(&self) -> Map<String, Value> {
        let mut all = self.further.clone();
        for name in ["iss", "aud", "sub", "iat", "nbf", "exp", "jti", "sid", "type", "username", "roles"] {
            let value = match self.get(name) {
                Some(ClaimValue::Text("")) | None => continue,
                Some(ClaimValue::Text(text)) => text.into(),
                Some(ClaimValue::Texts(texts)) => texts.into(),
                Some(ClaimValue::Number(number)) => number.into(),
                Some(ClaimValue::Json(value)) => value.clone(),
            };
            all.insert(name.to_owned(), value);
        }
        all
    }

    /// Any claim by its name.
    pub fn get(&self, claim: &str) -> Option<ClaimValue<'_>> {
        Some(match claim {
            "sub" => ClaimValue::Text(&self.subject),
            "username" => ClaimValue::Text(&self.username),
            "roles" => ClaimValue::Texts(&self.roles),
            // Tokens of other issuers have no session here.
            "sid" if self.sid.is_empty() => return None,
            "sid" => ClaimValue::Text(&self.sid),
            "jti" => ClaimValue::Text(&self.jti),
            "iat" => ClaimValue::Number(self.issued_at.get()),
            "nbf" => ClaimValue::Number(self.not_before.get()),
            "exp" => ClaimValue::Number(self.expires_at.get()),
            "type" => ClaimValue::Text(self.token_type.claim()),
            "iss" => ClaimValue::Text(&self.names.iss),
            _ => match self.further.get(claim) {
                Some(value) => ClaimValue::Json(value),
                None if claim == "aud" && !self.names.aud.is_empty() => ClaimValue::Text(&self.names.aud),
                None => return None,
            },
        })
    }
}

/// Verifies tokens with the keys and names of one configuration.
pub struct Verifier {
    keys: Vec<VerificationKey>,
    /// The encoded headers of our own tokens, parsed: nearly every valid token has one of them.
    own_headers: Vec<(String, Header)>,
    names: Arc<Names>,
    leeway: Duration,
    /// Whether tokens of flask-jwt-extended are accepted.
    compat: bool,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Verifier({} keys, {:?})", self.keys.len(), self.names.iss)
    }
}

impl Verifier {
    pub(super) fn new(keys: Vec<VerificationKey>, tokens: &Tokens, compat: bool) -> Verifier {
        let own_header = |(place, key): (usize, &VerificationKey)| {
            [Some(TokenType::Access), Some(TokenType::Refresh), None].map(|token_type| {
                let typ = token_type.map_or("JWT", TokenType::header);
                let encoded = encoded_header(key.algorithm, typ, key.kid.as_deref());
                (encoded, Header { key: place, token_type })
            })
        };
        Verifier {
            own_headers: (keys.iter().enumerate().flat_map(own_header))
                .filter(|(_, header)| compat || header.token_type.is_some())
                .collect(),
            keys,
            names: Arc::new(Names {
                iss: tokens.issuer.clone(),
                aud: tokens.audience.clone(),
                all_audiences: tokens.audiences(),
            }),
            leeway: tokens.leeway,
            compat,
        }
    }

    /// The tolerated clock difference, in seconds.
    pub fn leeway(&self) -> Duration {
        self.leeway
    }

    /// The claims of `token` if it is valid at `now` and of the `expected` type.
    ///
    /// # Errors
    ///
    /// Why it is rejected.
    pub fn verify(
        &self,
        token: &str,
        expected: TokenType,
        now: UnixSeconds,
    ) -> Result<VerifiedClaims, TokenError> {
        let claims = self.verify_signed(token, now)?;
        let wrong_type = claims.token_type != expected;
        // The other library looks at the type last.
        if wrong_type && !self.compat {
            return Err(TokenError::WrongType);
        }
        let lifetime = claims.expires_at.since(claims.issued_at);
        // Not the configured lifetime: tokens outlive the restart that shortened it. A refresh token's
        // lifetime is that of its session.
        let is_ours = !lifetime.is_zero() && (expected != TokenType::Access || lifetime <= MAX_ACCESS_TTL);
        if !is_ours && !self.compat {
            return Err(TokenError::Invalid("the lifetime is not one of ours"));
        }
        if now >= claims.expires_at.saturating_add(self.leeway) {
            return Err(TokenError::Expired);
        }
        if claims.not_before.max(claims.issued_at) > now.saturating_add(self.leeway.max(MIN_CLOCK_SKEW)) {
            return Err(TokenError::NotYetValid);
        }
        if wrong_type {
            return Err(TokenError::WrongType);
        }
        Ok(claims)
    }

    /// The claims of a token of either type with a valid signature, issuer and audience, though it may have
    /// expired: everything is checked but type and time.
    pub fn verify_signed(&self, token: &str, now: UnixSeconds) -> Result<VerifiedClaims, TokenError> {
        let parts = segments(token)?;
        let header = match self.own_headers.iter().find(|(own, _)| own == parts.header) {
            Some((_, header)) => *header,
            None => self.read_header(parts.header)?,
        };
        let key = self.verifying_key(&parts, header.key, now)?;

        let payload = decode(parts.payload)?;
        let Payload { iss, aud, sub, iat, nbf, exp, jti, sid, token_type, username, roles, mut further } =
            if header.token_type.is_some() {
                Payload::read(&payload)
            } else {
                Payload::read_foreign(&payload)
            }
            .ok_or(TokenError::Invalid("the payload is no object of claims of their types"))?;
        let claimed = match &*token_type {
            "refresh" => Some(TokenType::Refresh),
            "access" => Some(TokenType::Access),
            // What the library takes for an access token.
            "" if header.token_type.is_none() => Some(TokenType::Access),
            _ => None,
        };
        let token_type = header.token_type.or(claimed);
        let Some(token_type) = token_type.filter(|_| token_type == claimed) else {
            return Err(TokenError::Invalid("typ and type disagree"));
        };
        if iss != self.names.iss && !self.names.iss.is_empty() {
            return Err(TokenError::Invalid("iss is another"));
        }
        let for_us = match &aud {
            Audience::One(name) => *name == self.names.aud,
            Audience::Several(names) => names.contains(&self.names.aud),
        };
        if !for_us && !self.names.aud.is_empty() {
            return Err(TokenError::Invalid("aud is another"));
        }
        if let Audience::Several(names) = aud {
            further.insert("aud".to_owned(), names.into());
        }
        if sub.len() > MAX_SUBJECT_LEN {
            return Err(TokenError::Invalid("sub is too long"));
        }
        let is_foreign = sid.is_empty();
        Ok(VerifiedClaims {
            is_foreign,
            key: Some(Arc::clone(&key.record)),
            token_type,
            username: if username.is_empty() { sub.clone() } else { username }.into_owned(),
            subject: sub.into_owned(),
            roles: match roles {
                Some(Audience::Several(roles)) => roles,
                Some(Audience::One(role)) => vec![role.into_owned()],
                None => Vec::new(),
            },
            sid: if is_foreign { derived_session(&jti, parts.message) } else { sid.into_owned() },
            jti: jti.into_owned(),
            issued_at: iat,
            not_before: nbf.unwrap_or(iat),
            expires_at: exp,
            names: Arc::clone(&self.names),
            further,
        })
    }

    /// The claims that an access token of a user would have, for a user who needs none.
    pub(crate) fn claims_of_user(&self, user: ClaimsOfUser<'_>) -> VerifiedClaims {
        let ClaimsOfUser { subject, username, roles, mut further, session, issued_at, expires_at } = user;
        if self.names.all_audiences.len() > 1 {
            further.insert("aud".to_owned(), self.names.all_audiences.clone().into());
        }
        if let Some(end) = expires_at {
            further.insert("session_exp".to_owned(), end.get().into());
        }
        VerifiedClaims {
            key: None,
            token_type: TokenType::Access,
            subject: subject.to_owned(),
            username: username.to_owned(),
            roles,
            jti: session.clone(),
            sid: session,
            is_foreign: false,
            issued_at,
            not_before: issued_at,
            expires_at: expires_at.unwrap_or(END_OF_TIME),
            names: Arc::clone(&self.names),
            further,
        }
    }

    /// Whether a token was signed here, though it may have expired or been revoked.
    pub fn is_own(&self, token: &str, now: UnixSeconds) -> bool {
        !matches!(self.verify_signed(token, now), Err(TokenError::Invalid(_)))
    }

    /// Whether a token says that it was issued here, good or not. Where tokens name no issuer, their signature says it.
    pub fn names_this_issuer(&self, token: &str, now: UnixSeconds) -> bool {
        if self.names.iss.is_empty() {
            return self.is_own(token, now);
        }
        let Ok(parts) = segments(token) else { return false };
        let payload = decode(parts.payload).ok();
        let payload = payload.as_deref().and_then(strict_json::object);
        payload.is_some_and(|claims| claims.get("iss").is_some_and(|iss| iss == self.names.iss.as_str()))
    }

    /// The key and the token type named by a header.
    fn read_header(&self, encoded: &str) -> Result<Header, TokenError> {
        let bytes = decode(encoded)?;
        let members =
            strict_json::object(&bytes).ok_or(TokenError::Invalid("the header is no JSON object"))?;
        // Each of these would change what the signature covers or what the payload is; none is supported.
        // References to other keys (`jku`, `jwk`, `x5u`, `x5c`) are ignored.
        if ["crit", "b64", "zip", "cty"].iter().any(|name| members.contains_key(*name)) {
            return Err(TokenError::Invalid("a header parameter that must be understood"));
        }
        let text = |name: &str| match members.get(name) {
            Some(Value::String(text)) if !text.is_empty() => Ok(text.as_str()),
            _ => Err(TokenError::Invalid("alg, typ or kid is not a string")),
        };
        let kid = if members.contains_key("kid") { Some(text("kid")?) } else { None };
        let is_known = self.keys.iter().any(|key| key.kid.as_deref() == kid);
        // Apps may name their secret in a header of their own (`additional_headers`), which the library never reads.
        let kid = if self.compat && !is_known { None } else { kid };
        // A shared secret has no id; a key pair is found by its id only. Neither verifies another algorithm than its own
        // (RFC 8725 section 3.1).
        let alg = text("alg")?;
        let mut named = self.keys.iter().enumerate().filter(|(_, key)| key.kid.as_deref() == kid).peekable();
        if named.peek().is_none() {
            return Err(TokenError::Invalid("kid names no key of ours"));
        }
        let (key, _) =
            named.find(|(_, key)| key.algorithm.name() == alg).ok_or(TokenError::Invalid(WRONG_ALGORITHM))?;
        if self.compat
            && (!members.contains_key("typ") || text("typ").is_ok_and(|typ| typ.eq_ignore_ascii_case("jwt")))
        {
            return Ok(Header { key, token_type: None });
        }
        let token_type =
            TokenType::from_header(text("typ")?).ok_or(TokenError::Invalid("typ is neither of ours"))?;
        let token_type = Some(token_type);
        Ok(Header { key, token_type })
    }

    /// The key that a token was signed with: the one at `first`, or where that is a shared secret, another secret for its
    /// algorithm, as secrets have no ids.
    fn verifying_key(
        &self,
        parts: &CompactJws<'_>,
        first: usize,
        now: UnixSeconds,
    ) -> Result<&VerificationKey, TokenError> {
        let named = &self.keys[first];
        let mut refused = None;
        for key in &self.keys[first..] {
            if key.kid != named.kid || key.algorithm != named.algorithm {
                continue;
            }
            match check_signature(parts, key, now) {
                Ok(()) => {
                    key.record.count();
                    return Ok(key);
                }
                Err(error) => _ = refused.get_or_insert(error),
            }
        }
        Err(refused.unwrap_or(TokenError::Invalid(WRONG_SIGNATURE)))
    }
}

fn check_signature(
    parts: &CompactJws<'_>,
    key: &VerificationKey,
    now: UnixSeconds,
) -> Result<(), TokenError> {
    if matches!(key.role, KeyRole::Previous { until, .. } if now >= until) {
        return Err(TokenError::Invalid("the key has been retired"));
    }
    let message = parts.message.as_bytes();
    let good = match &key.check {
        Check::Secret(secret) => {
            let mut tag = [0; MAX_TAG_LEN];
            let length =
                URL_SAFE_NO_PAD.decode_slice(parts.signature, &mut tag).map_err(|_| NOT_CANONICAL)?;
            hmac::verify(secret, message, &tag[..length]).is_ok()
        }
        Check::Public(public) => {
            // jsonwebtoken decodes the signature too; that it is canonical is checked here.
            decode(parts.signature)?;
            let algorithm = backend(key.algorithm);
            matches!(jsonwebtoken::crypto::verify(parts.signature, message, public, algorithm), Ok(true))
        }
    };
    if good { Ok(()) } else { Err(TokenError::Invalid(WRONG_SIGNATURE)) }
}

/// The relevant parts of a header.
#[derive(Debug, Clone, Copy)]
struct Header {
    /// Index of the key.
    key: usize,
    /// `None` where only the payload says it, as in tokens of another library.
    token_type: Option<TokenType>,
}

/// The session id of a token that has none: the same for each use of the token, unlike that of any other.
fn derived_session(jti: &str, message: &str) -> String {
    let origin = if jti.is_empty() { message } else { jti };
    let id = digest(&SHA256, format!("session of a foreign token\0{origin}").as_bytes());
    URL_SAFE_NO_PAD.encode(&id.as_ref()[..16])
}

/// The segments of a token: three, none empty.
fn segments(token: &str) -> Result<CompactJws<'_>, TokenError> {
    if token.len() > MAX_TOKEN_LEN {
        return Err(TokenError::Invalid("larger than 8 KiB"));
    }
    let is_whole = |parts: &CompactJws<'_>| {
        [parts.header, parts.payload, parts.signature].iter().all(|part| !part.is_empty())
    };
    CompactJws::split(token).filter(is_whole).ok_or(TokenError::Invalid("no compact JWS"))
}

/// base64url without padding and without stray bits in the last character (RFC 4648 section 3.5).
fn decode(segment: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(segment).map_err(|_| NOT_CANONICAL)
}

const NOT_CANONICAL: TokenError = TokenError::Invalid("a segment is not canonical base64url");
