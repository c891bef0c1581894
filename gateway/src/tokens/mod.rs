//! Access and refresh tokens (JWT): keys, signing, verification. Pure except for loading keys; the time is a
//! parameter.

mod assertion;
mod claims;
mod compact_jws;
pub(crate) mod dpop;
mod issuer;
mod key_record;
mod key_ring;
mod key_schedule;
mod key_store;
mod payload;
mod previous_keys;
mod public_key;
mod required_claim;
mod signer;
mod verifier;

use std::time::Duration;

pub use crate::clock::UnixSeconds;
pub use assertion::{AssertionIssuer, AssertionRequest};
pub use claims::{AuthenticationClaims, Claims, Confirmation, TokenType};
pub(crate) use compact_jws::CompactJws;
pub use dpop::{KeyThumbprint, NoThumbprint};
pub use issuer::{Issuer, TokenRequest};
pub use key_record::{KeyRecord, KeyRole, LoadedKey};
pub use key_ring::{Access, KeyError, KeyRing, assertion_keys_dir};
pub use key_schedule::{Rules, Schedule, Step};
pub use key_store::{KeyState, KeyStore, StoredKey};
pub(crate) use public_key::{backend, check_strength};
pub(crate) use required_claim::satisfies;
pub use signer::SigningError;
pub(crate) use verifier::ClaimsOfUser;
pub use verifier::{ClaimValue, TokenError, VerifiedClaims, Verifier};
pub(crate) use verifier::{OtherClaims, WRONG_ALGORITHM, WRONG_SIGNATURE};

/// Cache lifetime (`max-age`) of the JWK set. A new key is published at least this long before it
/// signs.
pub const JWKS_MAX_AGE: Duration = Duration::from_secs(300);

/// How long after its issue a token may be accepted at the longest.
pub(crate) fn verifies_for(tokens: &crate::config::Tokens) -> Duration {
    tokens.refresh_ttl.max(tokens.access_ttl) + tokens.leeway
}
