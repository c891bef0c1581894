//! Nonces for proofs (RFC 9449 section 8) without state: an instance recognises those of every other one that has the same key.
//!
//! Time is divided into slots. The nonce of a slot is its number and a MAC of it; it is accepted in its own slot and in the two
//! beside it, so that a client has time to use it, and the clocks of instances may differ.

use std::fs;
use std::io;
use std::path::Path;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::config::{Dpop, Signing, Tokens};
use crate::tokens::key_ring::read_key_file;
use crate::tokens::{Access, KeyError, KeyStore, UnixSeconds};

/// The file of the secret in `tokens.keys_dir`.
const FILE: &str = "dpop-nonce.key";
/// In bytes.
const SECRET_LEN: usize = 32;

/// Length of the MAC, in bytes.
const TAG_LEN: usize = 16;

/// Makes and checks nonces.
pub(crate) struct Nonces {
    key: hmac::Key,
    /// Length of a slot, in seconds.
    slot: u64,
}

impl std::fmt::Debug for Nonces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Nonces({} s)", self.slot)
    }
}

/// What a nonce is at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NonceState {
    /// The one that clients are given at the moment.
    Current,
    /// Accepted, but clients are given another one.
    Neighbour,
    /// Too old, or not from here.
    Unknown,
}

impl Nonces {
    /// The nonces of a configuration that requires them. The secret is that of the tokens' signatures, the private key of the
    /// operator's, or one that is kept beside the keys that the gateway manages: so instances that accept each other's tokens
    /// accept each other's nonces.
    ///
    /// # Errors
    ///
    /// It cannot be read or kept.
    pub(crate) fn load(tokens: &Tokens, access: Access) -> Result<Option<Nonces>, KeyError> {
        if tokens.dpop == Dpop::Off || !tokens.dpop_nonce {
            return Ok(None);
        }
        let secret = match &tokens.signing {
            Signing::Secret { secret, .. } => secret.to_vec(),
            Signing::PrivateKeyFile { path, .. } => read_key_file(path)?,
            Signing::Kept { dir, .. } => kept_secret(dir, access)?,
        };
        Ok(Some(Nonces::new(&secret, tokens.dpop_nonce_ttl.as_secs())))
    }

    /// `secret` is shared by all instances; a slot takes `slot` seconds.
    pub(crate) fn new(secret: &[u8], slot: u64) -> Nonces {
        // A key of its own: the secret also signs tokens.
        let master = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let derived = hmac::sign(&master, b"auth-gateway: nonces for DPoP");
        Nonces { key: hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()), slot: slot.max(1) }
    }

    /// The nonce for clients at `now`.
    pub(crate) fn current(&self, now: UnixSeconds) -> String {
        URL_SAFE_NO_PAD.encode(self.bytes(now.get() / self.slot))
    }

    /// What `nonce` is at `now`.
    pub(crate) fn state(&self, nonce: &str, now: UnixSeconds) -> NonceState {
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(nonce) else { return NonceState::Unknown };
        let Some(number) = bytes.first_chunk().copied().map(u64::from_be_bytes) else {
            return NonceState::Unknown;
        };
        let current = now.get() / self.slot;
        if number.abs_diff(current) > 1 || verify_slices_are_equal(&bytes, &self.bytes(number)).is_err() {
            return NonceState::Unknown;
        }
        if number == current { NonceState::Current } else { NonceState::Neighbour }
    }

    fn bytes(&self, number: u64) -> Vec<u8> {
        let number = number.to_be_bytes();
        let tag = hmac::sign(&self.key, &number);
        [&number[..], &tag.as_ref()[..TAG_LEN]].concat()
    }
}

/// The secret in the folder of the keys, which is made where there is none.
fn kept_secret(dir: &Path, access: Access) -> Result<Vec<u8>, KeyError> {
    // Locked: of several processes that start at once, one makes the file.
    let store = KeyStore::open_for(dir, access)?;
    let path = dir.join(FILE);
    match fs::read(&path) {
        Ok(secret) if secret.len() == SECRET_LEN => return Ok(secret),
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(KeyError::Store { dir: dir.to_owned(), source });
        }
        _ => {}
    }
    let mut secret = vec![0; SECRET_LEN];
    rand::fill(&mut secret).map_err(|_| KeyError::NoRandomness)?;
    if access == Access::Use {
        store.write(&path, &secret)?;
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_accepted_in_its_slot_and_in_the_two_beside_it() {
        let nonces = Nonces::new(b"secret", 100);
        let nonce = nonces.current(UnixSeconds::new(1_050));
        for (now, state) in [
            (899, NonceState::Unknown),
            (900, NonceState::Neighbour),
            (1_000, NonceState::Current),
            (1_099, NonceState::Current),
            (1_100, NonceState::Neighbour),
            (1_199, NonceState::Neighbour),
            (1_200, NonceState::Unknown),
        ] {
            assert_eq!(nonces.state(&nonce, UnixSeconds::new(now)), state, "{now}");
        }
    }

    #[test]
    fn an_instance_knows_the_nonces_of_those_with_the_same_secret_only() {
        let nonce = Nonces::new(b"secret", 100).current(UnixSeconds::new(1_000));
        assert_eq!(Nonces::new(b"secret", 100).state(&nonce, UnixSeconds::new(1_000)), NonceState::Current);
        assert_eq!(Nonces::new(b"another", 100).state(&nonce, UnixSeconds::new(1_000)), NonceState::Unknown);
    }

    #[test]
    fn a_forged_nonce_is_unknown() {
        let nonces = Nonces::new(b"secret", 100);
        let good = nonces.bytes(10);
        for (place, forged) in [(7, 11), (7, 9), (8, good[8] ^ 1), (23, good[23] ^ 1)] {
            let mut bytes = good.clone();
            bytes[place] = forged;
            assert_eq!(
                nonces.state(&URL_SAFE_NO_PAD.encode(&bytes), UnixSeconds::new(1_000)),
                NonceState::Unknown,
                "{place}"
            );
        }
        let encoded = URL_SAFE_NO_PAD.encode(&good);
        for text in ["", "x", "AAAA", &encoded[1..], &format!("{encoded}A"), &format!("{encoded}=")] {
            assert_eq!(nonces.state(text, UnixSeconds::new(1_000)), NonceState::Unknown, "{text}");
        }
    }
}
