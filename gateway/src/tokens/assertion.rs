//! Assertions for upstreams: short JWTs by which an app knows that the gateway sent a request, and for whom.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::issuer::{SigningKey, encoded_header};
use super::signer::{Signer, SigningError};
use super::{UnixSeconds, VerifiedClaims};
use crate::config::Algorithm;

/// The `typ` of assertions: no verifier of access tokens takes one, and none of assertions an access token.
const TYPE: &str = "assertion+jwt";

/// What an assertion is about.
#[derive(Debug, Clone, Copy)]
pub struct AssertionRequest<'a> {
    /// The upstream's name.
    pub audience: &'a str,
    /// The user of the request, if there is one.
    pub claims: Option<&'a VerifiedClaims>,
    /// The method that the upstream gets.
    pub method: &'a str,
    /// The path that the upstream gets, decoded, or one above it.
    pub path: &'a str,
    /// Issued at.
    pub now: UnixSeconds,
}

#[derive(Serialize)]
struct AssertionClaims<'a> {
    iss: &'a str,
    aud: &'a str,
    iat: UnixSeconds,
    exp: UnixSeconds,
    htm: &'a str,
    path: &'a str,
    #[serde(flatten)]
    identity: Option<IdentityClaims<'a>>,
}

#[derive(Serialize)]
struct IdentityClaims<'a> {
    sub: &'a str,
    username: &'a str,
    roles: &'a [String],
    sid: &'a str,
}

/// Signs assertions.
pub struct AssertionIssuer {
    /// From when each signs, its encoded header, and its signer; in the order in which they take over.
    keys: Vec<(UnixSeconds, String, Arc<dyn Signer>)>,
    iss: String,
    ttl: Duration,
}

impl std::fmt::Debug for AssertionIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AssertionIssuer({} keys)", self.keys.len())
    }
}

impl AssertionIssuer {
    pub(super) fn new(keys: Vec<SigningKey>, iss: &str, ttl: Duration) -> AssertionIssuer {
        let ready = |key: SigningKey| {
            (key.from, encoded_header(Algorithm::EdDSA, TYPE, key.kid.as_deref()), key.signer)
        };
        AssertionIssuer { keys: keys.into_iter().map(ready).collect(), iss: iss.to_owned(), ttl }
    }

    /// Until when an assertion that is issued at `now` may be used again: it then has half of its time left.
    pub fn reusable_until(&self, now: UnixSeconds) -> UnixSeconds {
        now.saturating_add(self.ttl / 2)
    }

    /// Signs an assertion, which is valid for seconds.
    ///
    /// # Errors
    ///
    /// The key does not sign.
    pub fn issue(&self, request: AssertionRequest<'_>) -> Result<String, SigningError> {
        let ready = self.keys.iter().rfind(|(from, ..)| *from <= request.now).or(self.keys.first());
        let (_, header, signer) = ready.ok_or_else(|| SigningError("there is no key".into()))?;
        let claims = AssertionClaims {
            iss: &self.iss,
            aud: request.audience,
            iat: request.now,
            exp: request.now.saturating_add(self.ttl),
            htm: request.method,
            path: request.path,
            identity: request.claims.map(|claims| IdentityClaims {
                sub: claims.subject(),
                username: claims.username(),
                roles: claims.roles(),
                sid: claims.sid(),
            }),
        };
        signer.sign_claims(header, &claims)
    }
}
