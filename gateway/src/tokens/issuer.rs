//! Issuing and signing tokens.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::claims::COOKIE_SESSION;
use super::key_record::KeyRecord;
use super::signer::{Signer, SigningError};
use super::{AuthenticationClaims, Claims, Confirmation, KeyThumbprint, TokenType, UnixSeconds};
use crate::config::{Algorithm, Compat, CompatIdentity, Tokens};

/// The claims of a token that differ between tokens.
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
    /// Further claims; in access tokens only.
    pub further: &'a Map<String, Value>,
    /// Whether the password was given for this token.
    pub fresh: bool,
    /// How the user proved the identity; in access tokens only.
    pub authentication: Option<AuthenticationClaims>,
    /// The `csrf` claim, of the compatible profile.
    pub csrf: Option<&'a str>,
    /// The key that the token is bound to.
    pub key: Option<KeyThumbprint>,
    /// Whether it goes into a browser's cookies.
    pub cookie_session: bool,
    /// Issued at.
    pub issued_at: UnixSeconds,
    /// Expiry. An access token never outlives its session.
    pub expires_at: UnixSeconds,
    /// The absolute end of its session.
    pub session_expires_at: UnixSeconds,
}

/// A key that may sign.
pub(super) struct SigningKey {
    /// From when it may sign: by then it has been published for long enough.
    pub(super) from: UnixSeconds,
    pub(super) kid: Option<String>,
    pub(super) record: Arc<KeyRecord>,
    pub(super) signer: Arc<dyn Signer>,
}

/// Signs tokens.
pub struct Issuer {
    /// In the order in which they take over; at least one.
    keys: Vec<ReadyKey>,
    algorithm: Algorithm,
    iss: String,
    aud: Vec<String>,
    compat: Option<Compat>,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Issuer({:?})", self.algorithm)
    }
}

struct ReadyKey {
    from: UnixSeconds,
    record: Arc<KeyRecord>,
    signer: Arc<dyn Signer>,
    // The encoded headers never change.
    access_header: String,
    refresh_header: String,
}

/// The encoded JWS header of all tokens of one type signed by one key.
pub(super) fn encoded_header(algorithm: Algorithm, typ: &str, kid: Option<&str>) -> String {
    let mut header = json!({"alg": algorithm.name(), "typ": typ});
    if let Some(kid) = kid {
        header["kid"] = kid.into();
    }
    URL_SAFE_NO_PAD.encode(header.to_string())
}

impl Issuer {
    /// `keys` in the order in which they take over.
    pub(super) fn new(
        keys: Vec<SigningKey>,
        algorithm: Algorithm,
        tokens: &Tokens,
        compat: Option<&Compat>,
    ) -> Issuer {
        let typ = |token_type: TokenType| if compat.is_some() { "JWT" } else { token_type.header() };
        let ready = |SigningKey { from, kid, record, signer }| ReadyKey {
            from,
            record,
            signer,
            access_header: encoded_header(algorithm, typ(TokenType::Access), kid.as_deref()),
            refresh_header: encoded_header(algorithm, typ(TokenType::Refresh), kid.as_deref()),
        };
        Issuer {
            keys: keys.into_iter().map(ready).collect(),
            algorithm,
            iss: tokens.issuer.clone(),
            aud: tokens.audiences(),
            compat: compat.cloned(),
        }
    }

    /// The last key that may sign at `now`, or else the first.
    fn key_at(&self, now: UnixSeconds) -> Option<&ReadyKey> {
        self.keys.iter().rfind(|key| key.from <= now).or(self.keys.first())
    }

    /// The key that signs at `now`.
    pub fn signs_with(&self, now: UnixSeconds) -> Option<&KeyRecord> {
        self.key_at(now).map(|key| &*key.record)
    }

    /// Signs a token.
    ///
    /// # Errors
    ///
    /// The key does not sign.
    pub fn issue(&self, request: TokenRequest<'_>) -> Result<String, SigningError> {
        let key = self.key_at(request.issued_at).ok_or_else(|| SigningError("there is no key".into()))?;
        let end = request.session_expires_at;
        let (header, mut further, session_exp) = match request.token_type {
            TokenType::Access => (&key.access_header, request.further.clone(), Some(end)),
            TokenType::Refresh => (&key.refresh_header, Map::new(), None),
        };
        // Who may use a token is not for a source of users to say.
        further.remove("cnf");
        further.remove(COOKIE_SESSION);
        let is_access = request.token_type == TokenType::Access;
        let authentication = request.authentication.filter(|_| is_access);
        if authentication.is_some() {
            further.retain(|claim, _| !AuthenticationClaims::NAMES.contains(&claim.as_str()));
        }
        let compat = self.compat.as_ref();
        if compat.is_some() {
            further.retain(|claim, _| !["fresh", "csrf"].contains(&claim.as_str()));
        }
        let by_name = compat.is_some_and(|compat| compat.identity == CompatIdentity::Username);
        let claims = Claims {
            iss: self.iss.clone(),
            aud: self.aud.clone(),
            sub: if by_name { request.username } else { request.subject }.to_owned(),
            iat: request.issued_at,
            nbf: request.issued_at,
            exp: request.expires_at.min(end),
            jti: request.jti.to_owned(),
            sid: request.sid.to_owned(),
            session_exp,
            token_type: request.token_type.claim(),
            cnf: request.key.map(|key| Confirmation { jkt: key.to_string() }),
            cookie_session: request.cookie_session,
            fresh: compat.map(|_| request.fresh),
            csrf: request.csrf.map(str::to_owned),
            authentication,
            username: request.username.to_owned(),
            roles: request.roles.to_vec(),
            further,
        };
        key.signer.sign_claims(header, &claims)
    }
}
