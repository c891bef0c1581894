//! A loaded key: its id, what it is for, and how many tokens it has verified.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::UnixSeconds;
use crate::config::Algorithm;

/// The bytes of a shared secret's MAC that make its id.
const SECRET_ID_LEN: usize = 12;

/// A key as logs and metrics name it. Shared by all configurations that load it, so that it goes on counting.
#[derive(Debug)]
pub struct KeyRecord {
    id: String,
    algorithm: Algorithm,
    verified: AtomicU64,
    revoked: AtomicBool,
}

impl PartialEq for KeyRecord {
    fn eq(&self, other: &KeyRecord) -> bool {
        self.id == other.id
    }
}

impl KeyRecord {
    pub(super) fn new(id: String, algorithm: Algorithm) -> Arc<KeyRecord> {
        Arc::new(KeyRecord { id, algorithm, verified: AtomicU64::new(0), revoked: AtomicBool::new(false) })
    }

    /// The record of a shared secret. Its id helps in guessing the secret no more than a token does.
    pub(super) fn of_secret(algorithm: Algorithm, secret: &[u8]) -> Arc<KeyRecord> {
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"auth-gateway: id of a secret");
        let id = URL_SAFE_NO_PAD.encode(&mac.as_ref()[..SECRET_ID_LEN]);
        KeyRecord::new(format!("{}-{id}", algorithm.name()), algorithm)
    }

    /// The RFC 7638 thumbprint (`kid`) of a public key, or the algorithm and a MAC of a shared secret.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The only algorithm it verifies.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// How many signatures it has verified; a token in the token cache is not verified again.
    pub fn verified(&self) -> u64 {
        self.verified.load(Ordering::Relaxed)
    }

    pub(super) fn count(&self) {
        self.verified.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether it was revoked before it expired: what it signed ends, also streams under way.
    pub fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Relaxed)
    }

    pub(crate) fn revoke(&self) {
        self.revoked.store(true, Ordering::Relaxed);
    }
}

/// What a loaded key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRole {
    /// Published, so that others know it before it signs.
    Next,
    /// Signs from a time on, when it has been published for long enough.
    Signing {
        /// From when.
        from: UnixSeconds,
    },
    /// Verifies what it signed, until the last of its tokens has expired.
    Previous {
        /// From when it could sign, as far as that is known.
        from: UnixSeconds,
        /// When it stopped.
        stopped_at: UnixSeconds,
        /// From then on it verifies nothing.
        until: UnixSeconds,
    },
}

/// A key and what it is for.
#[derive(Debug, Clone)]
pub struct LoadedKey {
    /// Its record.
    pub record: Arc<KeyRecord>,
    /// What it is for.
    pub role: KeyRole,
}

impl LoadedKey {
    /// From when on it verifies nothing, if that is known.
    pub fn until(&self) -> Option<UnixSeconds> {
        match self.role {
            KeyRole::Previous { until, .. } => Some(until),
            KeyRole::Next | KeyRole::Signing { .. } => None,
        }
    }
}
