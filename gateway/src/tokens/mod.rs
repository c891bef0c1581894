//! Access and refresh tokens (JWT): keys, signing, verification. Pure except for loading keys; the time is a
//! parameter.

mod claims;
pub(crate) mod dpop;
mod issuer;
mod key_ring;
mod key_store;
mod payload;
mod public_key;
mod verifier;

pub use dpop::{KeyThumbprint, NoThumbprint};
pub use claims::{Claims, Confirmation, TokenType, UnixSeconds};
pub use issuer::{Issuer, SigningError, TokenRequest};
pub use key_ring::{KeyError, KeyRing};
pub use key_store::{KeyState, KeyStore, StoredKey};
pub use verifier::{ClaimValue, TokenError, VerifiedClaims, Verifier};

/// Cache lifetime (`max-age`) of the JWK set, in seconds. A new key is published at least this long before it
/// signs.
pub const JWKS_MAX_AGE_SECS: u64 = 300;
