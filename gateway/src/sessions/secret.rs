//! Secrets that are stored as hashes only: their random bytes, and the hashes.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Bytes from the system's random number generator.
pub(crate) fn random_bytes<const LEN: usize>() -> [u8; LEN] {
    let mut bytes = [0; LEN];
    // The generator is seeded at start; aws-lc aborts the process rather than return weak bytes.
    rand::fill(&mut bytes).unwrap_or_else(|_| panic!("the system gives no random bytes"));
    bytes
}

/// The SHA-256 of a secret. It has 80 random bits or more, so it needs neither a slow hash nor a salt.
pub(super) fn sha256(secret: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
    bytes
}

/// [`sha256`] as text, in base64url.
pub(super) fn hash_text(secret: &str) -> String {
    URL_SAFE_NO_PAD.encode(sha256(secret))
}
