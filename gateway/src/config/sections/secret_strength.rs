//! Recognises secrets that are long enough and still known to everybody: examples, words, patterns.

use std::collections::BTreeSet;

/// What is left of a good secret, random text, after the words are taken out is nearly all of it.
const MIN_ENTROPY_CHARS: usize = 16;

/// Even 32 random decimal digits have more different ones.
const MIN_DISTINCT_CHARS: usize = 6;

/// The longest piece whose repetition makes a pattern.
const MAX_PERIOD: usize = 16;

/// Words of at least four letters that examples and keyboards are made of.
const WORDS: [&str; 40] = [
    "changeme",
    "change",
    "secret",
    "super",
    "password",
    "passphrase",
    "example",
    "insecure",
    "default",
    "signing",
    "private",
    "token",
    "replace",
    "please",
    "production",
    "development",
    "placeholder",
    "generate",
    "random",
    "string",
    "really",
    "very",
    "long",
    "least",
    "bytes",
    "bits",
    "characters",
    "should",
    "must",
    "this",
    "your",
    "here",
    "with",
    "gateway",
    "authentication",
    "flask",
    "qwertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "value",
];

/// The key of RFC 7515 appendix A.1, which every JWT library's tests have.
const RFC_7515: &str =
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";

/// Why everybody can guess this secret, as the end of a sentence, or `None`.
pub(super) fn weakness(secret: &[u8]) -> Option<&'static str> {
    if secret == RFC_7515.as_bytes() {
        return Some("is the example of RFC 7515");
    }
    if secret.iter().collect::<BTreeSet<_>>().len() < MIN_DISTINCT_CHARS {
        return Some("is made of very few different bytes");
    }
    if repeats(secret) {
        return Some("is a short piece repeated");
    }
    if counts(secret) {
        return Some("counts up or down");
    }
    if std::str::from_utf8(secret).is_ok_and(is_made_of_words) {
        return Some("is made of words known from examples");
    }
    None
}

fn repeats(secret: &[u8]) -> bool {
    (1..=MAX_PERIOD.min(secret.len() / 2))
        .any(|period| secret.iter().zip(&secret[period..]).all(|(a, b)| a == b))
}

/// Whether most bytes are the neighbour of the byte before, as in `abcdefgh…` and `0123…`.
fn counts(secret: &[u8]) -> bool {
    let steps = secret.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) == 1).count();
    steps * 3 > secret.len() * 2
}

fn is_made_of_words(secret: &str) -> bool {
    let mut rest: String = secret.to_lowercase().chars().filter(char::is_ascii_alphanumeric).collect();
    if rest.len() < secret.len() / 2 {
        return false;
    }
    let before = rest.len();
    for word in WORDS {
        rest = rest.replace(word, "");
    }
    rest.len() < before && rest.len() < MIN_ENTROPY_CHARS
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use base64::Engine;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn examples_and_patterns_are_known() {
        for secret in [
            "changeme-changeme-changeme-changeme-",
            "changemechangemechangemechangeme1234",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "abababababababababababababababababab",
            "1111111111111111111111111111112222",
            "secretsecretsecretsecretsecretsecret",
            "super-secret-super-secret-super-secret",
            "Super_Secret_Key_That_Is_Very_Long_1234",
            "your-256-bit-secret-your-256-bit-secret",
            "a-string-secret-at-least-256-bits-long",
            "qwertyuiopasdfghjklzxcvbnm123456",
            "0123456789abcdef0123456789abcdef",
            "abcdefghijklmnopqrstuvwxyz0123456789",
            "please-change-this-secret-in-production",
            RFC_7515,
        ] {
            assert!(weakness(secret.as_bytes()).is_some(), "{secret}");
        }
        assert!(weakness(&[0; 64]).is_some());
    }

    proptest! {
        #[test]
        fn random_secrets_in_any_encoding_are_accepted(bytes: [u8; 32]) {
            prop_assume!(bytes.iter().collect::<BTreeSet<_>>().len() > 16);
            let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            let base64 = base64::engine::general_purpose::STANDARD.encode(bytes);
            for secret in [&bytes[..], hex.as_bytes(), base64.as_bytes()] {
                prop_assert_eq!(weakness(secret), None);
            }
        }
    }
}
