//! MD5-crypt of crypt(5) and htpasswd (`$1$` and `$apr1$`), which no maintained crate offers: for verifying
//! existing hashes only.

use md5::{Digest, Md5};

const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The 22 characters behind the salt; `magic` is `$1$` or `$apr1$`.
pub(super) fn md5_crypt(password: &[u8], salt: &[u8], magic: &[u8]) -> Vec<u8> {
    let alternate = Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize();
    let mut first = Md5::new().chain_update(password).chain_update(magic).chain_update(salt);
    for chunk in password.chunks(alternate.len()) {
        first.update(&alternate[..chunk.len()]);
    }
    let mut bits = password.len();
    while bits > 0 {
        // A set bit adds a zero byte, a clear one the first byte of the password, as in the implementation of
        // 1994.
        if bits & 1 == 1 {
            first.update([0])
        } else {
            first.update(&password[..1])
        }
        bits >>= 1;
    }
    let mut digest = first.finalize();
    for round in 0..1000 {
        let mut next = Md5::new();
        if round % 2 == 1 {
            next.update(password)
        } else {
            next.update(digest)
        }
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        if round % 2 == 1 {
            next.update(digest)
        } else {
            next.update(password)
        }
        digest = next.finalize();
    }
    let mut encoded = Vec::with_capacity(22);
    let mut encode = |high: u8, middle: u8, low: u8, count: usize| {
        let mut word = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        for _ in 0..count {
            encoded.push(ALPHABET[word & 0x3f]);
            word >>= 6;
        }
    };
    for [a, b, c] in [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]] {
        encode(digest[a], digest[b], digest[c], 4);
    }
    encode(0, 0, digest[11], 2);
    encoded
}
