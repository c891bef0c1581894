//! One round of a digest, as applications stored passwords long ago: for verifying existing hashes only.

use ::hmac::{Hmac, KeyInit, Mac};
use aws_lc_rs::{digest, hmac};
use md5::{Digest, Md5};

use super::scheme::RoundDigest;

/// The digest of a text.
pub(super) fn plain(digest: RoundDigest, text: &[u8]) -> Vec<u8> {
    let algorithm = match digest {
        RoundDigest::Md5 => return Md5::digest(text).to_vec(),
        RoundDigest::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        RoundDigest::Sha256 => &digest::SHA256,
        RoundDigest::Sha512 => &digest::SHA512,
    };
    digest::digest(algorithm, text).as_ref().to_vec()
}

/// The HMAC of a text.
pub(super) fn keyed(digest: RoundDigest, key: &[u8], text: &[u8]) -> Vec<u8> {
    let algorithm = match digest {
        RoundDigest::Md5 => return hmac_md5(key, text),
        RoundDigest::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        RoundDigest::Sha256 => hmac::HMAC_SHA256,
        RoundDigest::Sha512 => hmac::HMAC_SHA512,
    };
    hmac::sign(&hmac::Key::new(algorithm, key), text).as_ref().to_vec()
}

/// HMAC with MD5, which aws-lc-rs does not offer.
fn hmac_md5(key: &[u8], text: &[u8]) -> Vec<u8> {
    // Keys of all lengths are accepted.
    let mac = Hmac::<Md5>::new_from_slice(key);
    mac.map(|mac| mac.chain_update(text).finalize().into_bytes().to_vec()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_md5_is_that_of_rfc_2202() {
        let hex = |bytes: Vec<u8>| crate::users::name::hex(&bytes);
        assert_eq!(hex(hmac_md5(&[0x0b; 16], b"Hi There")), "9294727a3638bb1c13f48ef8158bfc9d");
        let long = b"Test Using Larger Than Block-Size Key - Hash Key First";
        assert_eq!(hex(hmac_md5(&[0xaa; 80], long)), "6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd");
    }
}
