//! Signing with a private key or a secret.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use serde::Serialize;

use super::public_key::backend;
use crate::config::Algorithm;

/// A signature could not be made; the key was checked at start, so this is a bug or a hardware fault.
#[derive(Debug, thiserror::Error)]
#[error("cannot sign a token: {0}")]
pub struct SigningError(pub(super) String);

/// Makes signatures with one key and one algorithm.
///
/// The seam for keys that never leave a device: a signer of PKCS#11 or of a key management service implements it, and gives
/// its public key to the key ring. Workers call it while they serve a login or a refresh, so one that waits for a network
/// belongs behind a thread of its own, with a bounded queue.
pub(super) trait Signer: Send + Sync {
    /// The JWS signature of `message` in base64url without padding (RFC 7515 section 5.1).
    ///
    /// # Errors
    ///
    /// The key does not sign.
    fn sign(&self, message: &[u8]) -> Result<String, SigningError>;
}

impl dyn Signer {
    /// The compact JWS of `claims` under an encoded header (RFC 7515 section 7.1).
    ///
    /// # Errors
    ///
    /// The key does not sign.
    pub(super) fn sign_claims(&self, header: &str, claims: &impl Serialize) -> Result<String, SigningError> {
        let payload = serde_json::to_vec(claims).map_err(|e| SigningError(e.to_string()))?;
        let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload));
        let signature = self.sign(message.as_bytes())?;
        Ok(format!("{message}.{signature}"))
    }
}

/// A key in this process's memory.
struct LocalSigner {
    key: EncodingKey,
    algorithm: jsonwebtoken::Algorithm,
}

impl Signer for LocalSigner {
    fn sign(&self, message: &[u8]) -> Result<String, SigningError> {
        jsonwebtoken::crypto::sign(message, &self.key, self.algorithm)
            .map_err(|e| SigningError(e.to_string()))
    }
}

/// The signer of a key in this process's memory.
pub(super) fn local(key: EncodingKey, algorithm: Algorithm) -> Arc<dyn Signer> {
    Arc::new(LocalSigner { key, algorithm: backend(algorithm) })
}
