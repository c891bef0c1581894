//! DPoP (RFC 9449), tokens that only the holder of a private key can use: verification of proofs, nonces, and the memory of used
//! proofs. The time is a parameter. Which requests need a proof is decided in `auth/dpop.rs`.

mod htu;
mod journal;
mod nonce;
mod proof;
mod replay;

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

pub(crate) use htu::HttpUri;
pub(crate) use nonce::{NonceState, Nonces};
pub(crate) use proof::{ALGORITHMS, ExpectedProof, ProofId, verify};
pub(crate) use replay::{Claimed, ReplayCache};

/// The SHA-256 thumbprint of a public key (RFC 7638), `cnf.jkt` of tokens that are bound to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyThumbprint(pub [u8; 32]);

impl fmt::Display for KeyThumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

/// The text is no thumbprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoThumbprint;

impl FromStr for KeyThumbprint {
    type Err = NoThumbprint;

    fn from_str(text: &str) -> Result<KeyThumbprint, NoThumbprint> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| NoThumbprint)?;
        bytes.try_into().map(KeyThumbprint).map_err(|_| NoThumbprint)
    }
}
