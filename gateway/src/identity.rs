//! A verified identity, the identity headers for upstreams, and what a worker remembers of identities.

pub(crate) mod assertion_cache;
pub(crate) mod claim_format;
pub(crate) mod password_memory;
pub(crate) mod session_expiry;
pub(crate) mod token_cache;

use std::sync::Arc;
use std::time::Duration;

use crate::config::IdentityHeader;
use crate::http1::HeaderNameSet;
use crate::identity::assertion_cache::AssertionCache;
use crate::identity::claim_format::push_claim;
use crate::issuers::OtherIssuer;
use crate::rejection::Rejection;
use crate::sessions::{SessionId, UnixMillis};
use crate::tokens::{KeyThumbprint, TokenError, UnixSeconds, VerifiedClaims};

/// Maximum length of a claim's value in a header field, in bytes.
pub(crate) const MAX_VALUE_LEN: usize = 4 * 1024;

/// The identity behind a request. Made from verified claims only.
#[derive(Debug)]
pub(crate) struct Identity {
    claims: VerifiedClaims,
    session: SessionId,
    key: Option<KeyThumbprint>,
    header_lines: Box<[u8]>,
    /// Assertions for upstreams that were signed for this token.
    pub(crate) assertions: AssertionCache,
    machine: Option<Machine>,
    /// `None` where the gateway itself issued the token.
    origin: Option<Box<OtherOrigin>>,
}

/// What limits an identity that was read from the store and the users, and not from a signed token.
#[derive(Debug)]
pub(crate) struct Machine {
    /// [`UserSources::changes`](crate::users::UserSources::changes) when the user was read.
    pub(crate) users: u64,
    /// When both have to be read again.
    pub(crate) recheck_at: UnixMillis,
    /// The paths of the only routes that it is for; empty for all.
    pub(crate) routes: Box<[String]>,
}

impl Machine {
    /// Whether nothing has to be read again.
    pub(crate) fn is_current(&self, users: u64, now: UnixMillis) -> bool {
        self.users == users && now < self.recheck_at
    }
}

/// The other issuer of a token, and how long what is known of it counts.
#[derive(Debug)]
pub(crate) struct OtherOrigin {
    pub(crate) issuer: Arc<OtherIssuer>,
    /// The issuer's index in the configuration.
    pub(crate) index: usize,
    /// The generation of the keys that the token was verified with.
    pub(crate) generation: u64,
    /// The token's expiry, leeway included.
    pub(crate) valid_until: UnixSeconds,
    /// Until when an introspection counts.
    pub(crate) recheck_at: UnixSeconds,
}

impl OtherOrigin {
    /// Whether the token need not be verified anew at `now`.
    pub(crate) fn is_current(&self, now: UnixSeconds) -> bool {
        self.generation == self.issuer.generation() && now < self.recheck_at
    }
}

impl Identity {
    pub(crate) fn new(claims: VerifiedClaims, headers: &IdentityHeaders) -> Result<Identity, Rejection> {
        let session = claims.sid().parse().map_err(|_| Rejection::TokenWithoutSession)?;
        let key = claims.bound_key().map_err(refusal)?;
        Identity::of(claims, session, key, headers)
    }

    fn of(
        claims: VerifiedClaims,
        session: SessionId,
        key: Option<KeyThumbprint>,
        headers: &IdentityHeaders,
    ) -> Result<Identity, Rejection> {
        let header_lines = headers.lines(&claims)?;
        let assertions = AssertionCache::default();
        Ok(Identity { claims, session, key, header_lines, assertions, machine: None, origin: None })
    }

    pub(crate) fn of_machine(
        claims: VerifiedClaims,
        session: SessionId,
        headers: &IdentityHeaders,
        machine: Machine,
    ) -> Result<Identity, Rejection> {
        Ok(Identity { machine: Some(machine), ..Identity::of(claims, session, None, headers)? })
    }

    /// Set where it comes from a personal access token or a password.
    pub(crate) fn machine(&self) -> Option<&Machine> {
        self.machine.as_ref()
    }

    /// Whether it may be used on the route with this path: a personal access token may be limited to some.
    pub(crate) fn is_for_route(&self, path: &str) -> bool {
        self.machine.as_ref().is_none_or(|machine| {
            machine.routes.is_empty() || machine.routes.iter().any(|route| route == path)
        })
    }

    /// The identity of a token of another issuer. It has no session here; `session` is never revoked.
    pub(crate) fn of_other_issuer(
        claims: VerifiedClaims,
        headers: &IdentityHeaders,
        session: SessionId,
        origin: OtherOrigin,
    ) -> Result<Identity, Rejection> {
        let key = claims.bound_key().map_err(refusal)?;
        Ok(Identity { origin: Some(Box::new(origin)), ..Identity::of(claims, session, key, headers)? })
    }

    /// The other issuer of its token, unless the gateway itself issued it.
    pub(crate) fn origin(&self) -> Option<&OtherOrigin> {
        self.origin.as_deref()
    }

    /// When its token expires; `leeway` is that of the gateway's own tokens.
    pub(crate) fn valid_until(&self, leeway: Duration) -> UnixSeconds {
        match &self.origin {
            None => self.claims.expires_at().saturating_add(leeway),
            Some(origin) => origin.valid_until,
        }
    }

    pub(crate) fn claims(&self) -> &VerifiedClaims {
        &self.claims
    }

    pub(crate) fn session(&self) -> &SessionId {
        &self.session
    }

    /// The key that the token is bound to: only its holder may use it.
    pub(crate) fn key(&self) -> Option<KeyThumbprint> {
        self.key
    }

    /// `Name: value` lines in wire format.
    pub(crate) fn header_lines(&self) -> &[u8] {
        &self.header_lines
    }

    pub(crate) fn has_one_of(&self, roles: &[String]) -> bool {
        roles.iter().any(|role| self.claims.roles().contains(role))
    }
}

fn refusal(error: TokenError) -> Rejection {
    match error {
        TokenError::Invalid(reason) => Rejection::TokenInvalid(reason),
        _ => Rejection::TokenInvalid("it cannot be used"),
    }
}

/// Which claims are sent in which headers, and which header names are therefore reserved.
#[derive(Debug)]
pub(crate) struct IdentityHeaders {
    injected: Vec<IdentityHeader>,
    reserved: HeaderNameSet,
}

/// Reserved even where they are not injected: an upstream may still trust them.
const ALWAYS_RESERVED: [&str; 4] = ["X-Auth-User", "X-Auth-Subject", "X-Auth-Roles", "X-Auth-Session"];

impl IdentityHeaders {
    /// `of_routes` are further names under which a route sends a claim: an upstream may trust them on every
    /// route.
    pub(crate) fn new<'n>(
        injected: &'n [IdentityHeader],
        of_routes: impl Iterator<Item = &'n str>,
    ) -> IdentityHeaders {
        let names = injected.iter().map(|h| h.header.as_str()).chain(ALWAYS_RESERVED).chain(of_routes);
        IdentityHeaders { injected: injected.to_vec(), reserved: HeaderNameSet::new(names) }
    }

    /// Whether an upstream could take a field of that name for an identity header.
    pub(crate) fn reserves(&self, name: &[u8]) -> bool {
        self.reserved.contains(name)
    }

    /// The names of all of them, in lower case.
    pub(crate) fn reserved_names(&self) -> impl Iterator<Item = &[u8]> {
        self.reserved.names()
    }

    /// The header lines for a token's claims. A claim that is absent or an object has no header.
    fn lines(&self, claims: &VerifiedClaims) -> Result<Box<[u8]>, Rejection> {
        let mut lines = Vec::with_capacity(256);
        for IdentityHeader { claim, header, format } in &self.injected {
            let Some(value) = claims.get(claim) else { continue };
            let start = lines.len();
            lines.extend_from_slice(header.as_bytes());
            lines.extend_from_slice(b": ");
            let value_start = lines.len();
            if !push_claim(value, format, &mut lines) {
                lines.truncate(start);
                continue;
            }
            if lines.len() - value_start > MAX_VALUE_LEN {
                return Err(Rejection::ClaimTooLarge);
            }
            lines.extend_from_slice(b"\r\n");
        }
        Ok(lines.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_that_folds_to_an_identity_header_is_reserved() {
        let own =
            IdentityHeader { claim: "email".into(), header: "X-Mail".into(), ..IdentityHeader::default() };
        let headers = IdentityHeaders::new(std::slice::from_ref(&own), ["X-Tenant"].into_iter());
        for name in [
            "X-Auth-User",
            "x-auth-user",
            "X_Auth_User",
            "X.Auth!User",
            "x-auth-roles",
            "X-MAIL",
            "x_mail",
            "x_tenant",
        ] {
            assert!(headers.reserves(name.as_bytes()), "{name}");
        }
        for name in ["X-Auth-Users", "X-Mai", "Accept", "XAuthUser"] {
            assert!(!headers.reserves(name.as_bytes()), "{name}");
        }
    }
}

/// Identities for tests, each from a token that was signed and verified.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod test_support {
    use std::rc::Rc;

    use serde_json::{Map, Value, json};

    use super::{Identity, IdentityHeaders};
    use crate::config::test_support::{minimal, settings};
    use crate::sessions::SessionId;
    use crate::tokens::{Access, KeyRing, TokenRequest, TokenType, UnixSeconds};

    /// The time at which the tokens are issued.
    pub(crate) const NOW: u64 = 1_800_000_000;

    /// An identity with these roles and the members of a JSON object as further claims.
    pub(crate) fn identity(
        roles: &[&str],
        further: Value,
        expires_at: u64,
        session_expires_at: u64,
    ) -> Rc<Identity> {
        let secret = "[tokens]\nalgorithm = \"HS256\"\nsecret = \"quite long, quite secret, 7f3a9c15e0\"\n";
        let tokens = settings(minimal() + secret).tokens;
        let (issuer, verifier) = KeyRing::load(&tokens, UnixSeconds::new(NOW), &[], Access::Examine)
            .unwrap()
            .into_parts(&tokens, None);
        let further: Map<String, Value> = serde_json::from_value(further).unwrap();
        let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
        let request = TokenRequest {
            token_type: TokenType::Access,
            jti: "j",
            sid: &SessionId::random().to_string(),
            subject: "1",
            username: "alice",
            roles: &roles,
            further: &further,
            fresh: false,
            csrf: None,
            authentication: None,
            issued_at: UnixSeconds::new(NOW),
            expires_at: UnixSeconds::new(expires_at),
            session_expires_at: UnixSeconds::new(session_expires_at),
            key: None,
            cookie_session: false,
        };
        let claims = verifier
            .verify(&issuer.issue(request).unwrap(), TokenType::Access, UnixSeconds::new(NOW))
            .unwrap();
        Rc::new(Identity::new(claims, &IdentityHeaders::new(&[], std::iter::empty())).unwrap())
    }

    /// One without roles and further claims, whose session outlives it.
    pub(crate) fn plain_identity(expires_at: u64) -> Rc<Identity> {
        identity(&[], json!({}), expires_at, expires_at + 600)
    }
}
