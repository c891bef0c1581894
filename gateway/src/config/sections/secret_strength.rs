//! Detects weak secrets that are long enough: examples, words, patterns.

use std::collections::BTreeSet;

/// Minimum number of characters that remain after words are removed; of a random secret nearly all remain.
const MIN_ENTROPY_CHARS: usize = 16;

/// Minimum number of distinct characters; even 32 random decimal digits have more.
const MIN_DISTINCT_CHARS: usize = 6;

/// Maximum length of a repeated pattern.
const MAX_PERIOD: usize = 16;

/// Words of at least four letters that examples and keyboard patterns consist of.
const WORDS: &str = "changeme change secret super password passphrase example insecure default signing private token replace \
    please production development placeholder generate random string really very long least bytes bits \
    characters should must this your here with gateway authentication flask qwertyuiop asdfghjkl zxcvbnm \
    value";

/// Keys printed in tutorials, documentation and standards, and found in production ever since: RFC 7515 A.1,
/// RFC 7520 3.5, FastAPI, Flask, Spring, Baeldung.
const PUBLISHED: &str = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow \
    hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg \
    09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7 \
    192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf \
    404E635266556A586E3272357538782F413F4428472B4B6250645367566B5970 \
    5367566B59703373367639792F423F4528482B4D6251655468576D5A71347437 \
    3cfa76ef14937c1c0ea519f8fc057a80fcd04a7420f8e8bcd0a7567c272e007b";

/// Prefixes that no secret has: keys in PEM, JWK and SSH form, and Django's mark.
const FORMS: [(&str, &str); 5] = [
    (
        "-----BEGIN PRIVATE",
        "is a private key, which signs with RS256, ES256 or EdDSA: name it in `private_key_file`",
    ),
    ("-----BEGIN", "is a public key or a certificate in PEM, and who has read it could sign"),
    ("{\"", "is JSON, as a public key in JWK form is: a secret is random bytes"),
    ("ssh-", "is a public key of SSH, and who has read it could sign"),
    ("django-insecure-", "is marked as insecure"),
];

/// Why this secret can be guessed, as the end of a sentence, or `None`.
pub(super) fn weakness(secret: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(secret);
    if PUBLISHED.split(' ').any(|known| known.eq_ignore_ascii_case(text.trim())) {
        return Some("is printed in public documentation");
    }
    if let Some((_, why)) = FORMS.iter().find(|(begin, _)| text.trim_start().starts_with(begin)) {
        return Some(why);
    }
    if is_settings(&text) {
        return Some("is a file of settings, and no secret");
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

/// Whether it is a file such as this program's own.
fn is_settings(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    text.contains('\n') && lines.next().is_some_and(|line| line.starts_with('[') || line.contains(" = "))
}

fn repeats(secret: &[u8]) -> bool {
    (1..=MAX_PERIOD.min(secret.len() / 2))
        .any(|period| secret.iter().zip(&secret[period..]).all(|(a, b)| a == b))
}

/// Whether most bytes are the successor of the byte before, as in `abcdefgh…` and `0123…`.
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
    for word in WORDS.split(' ') {
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
            "09D25E094FAA6CA2556C818166B7A9563B93F7099F6F0F4CAA6CF63B88E8D3E7",
            "hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg",
            "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n",
            "\n-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUQ3VzdG9tIHNlcmlhbCBudW1iZXI=",
            "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}",
            "# Users\n[[users]]\nid = \"1\"\nusername = \"alice\"\n",
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE",
            "django-insecure-9f8s7df98s7df9s8d7f9s8d7f9s8d7f9s8d7f",
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
