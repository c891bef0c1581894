//! Canonical user names, shared by lookup, lockout and audit, so that look-alikes (homoglyphs) are the same
//! name everywhere or another name everywhere.
//!
//! The rule, close to PRECIS UsernameCaseMapped (RFC 8265 section 3.3) and a little stricter:
//!
//! 1. compatibility forms are folded (Unicode NFKC), so full-width `ａ` is `a`;
//! 2. capitals become small letters;
//! 3. what remains must be 1 to 128 bytes of letters, digits (0 to 9) and `. _ - @ + ' \`, and single spaces
//!    between them, beginning with no combining mark.
//!
//! Spaces at the ends, controls, zero-width and other invisible characters are therefore in no name:
//! `"alice "` is not trimmed to `alice`, it is invalid. Letters of other scripts stay what they are: a
//! Cyrillic `с` never becomes a Latin `c`.
//!
//! Whether a user may have a name with a space, `'` or `\` is the operator's choice (`[users]
//! name_characters`), which the sources heed; see [`crate::config::NameCharacters`].

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// Maximum length of a name in bytes, before and after the mapping.
const MAX_NAME_BYTES: usize = 128;

/// A user name in canonical form, or the lockout key of an invalid name (see [`CanonicalName::for_lockout`]).
/// Always 1 to 128 bytes of visible characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CanonicalName(String);

impl CanonicalName {
    /// The canonical form of `raw`, or `None` where `raw` is not a valid user name.
    pub fn parse(raw: &str) -> Option<Self> {
        if raw.len() > MAX_NAME_BYTES {
            return None;
        }
        let mapped = map(raw);
        let length_is_fine = (1..=MAX_NAME_BYTES).contains(&mapped.len());
        let is_name = length_is_fine
            && mapped.chars().all(is_name_char)
            && !mapped.starts_with(is_combining_mark)
            && !(mapped.starts_with(' ') || mapped.ends_with(' ') || mapped.contains("  "))
            // The mapping must be idempotent, or a form could be two names at once.
            && map(&mapped) == mapped;
        is_name.then_some(Self(mapped))
    }

    /// A lockout key for any text: the canonical form of a name, and `invalid:` with a hash for an invalid
    /// one.
    ///
    /// The key of an invalid name is bounded, deterministic, and equals no real name (no name contains a
    /// colon). So a login with it is looked up, locked and audited like any other.
    pub fn for_lockout(raw: &str) -> Self {
        Self::parse(raw).unwrap_or_else(|| {
            let hash = digest(&SHA256, raw.as_bytes());
            Self(format!("invalid:{}", hex(&hash.as_ref()[..16])))
        })
    }

    /// The canonical form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The rule for valid names, for error messages.
    pub(crate) const RULE: &'static str = "a user name has 1 to 128 bytes of letters, digits and the characters \
        . _ - @ +, and of single spaces, ' and \\ where users.name_characters has them";
}

impl fmt::Display for CanonicalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `bytes` in lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A text with compatibility forms and case folded, as names are compared.
pub(super) fn map(raw: &str) -> String {
    let folded: String = raw.nfkc().collect();
    folded.to_lowercase().nfkc().collect()
}

fn is_name_char(c: char) -> bool {
    match c {
        '.' | '_' | '-' | '@' | '+' | ' ' | '\'' | '\\' => true,
        // Letters in Unicode, yet invisible (DerivedCoreProperties: Default_Ignorable_Code_Point).
        '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' => false,
        _ => c.is_alphabetic() || c.is_ascii_digit(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    fn parsed(raw: &str) -> Option<String> {
        CanonicalName::parse(raw).map(|name| name.as_str().to_owned())
    }

    #[test]
    fn spellings_of_alice_are_alice() {
        let full_width_all = "\u{ff21}\u{ff2c}\u{ff29}\u{ff23}\u{ff25}";
        for raw in ["alice", "ALICE", "Alice", "\u{ff41}lice", full_width_all, "al\u{2170}ce"] {
            assert_eq!(parsed(raw).as_deref(), Some("alice"), "{raw:?}");
        }
    }

    #[test]
    fn look_alikes_are_another_name() {
        for (raw, canonical) in [
            ("al\u{131}ce", "al\u{131}ce"),
            ("ali\u{441}e", "ali\u{441}e"),
            ("\u{430}lice", "\u{430}lice"),
            ("alic\u{e9}", "alic\u{e9}"),
            ("alic\u{65}\u{301}", "alic\u{e9}"),
        ] {
            assert_eq!(parsed(raw).as_deref(), Some(canonical), "{raw:?}");
        }
    }

    #[test]
    fn what_cannot_be_seen_or_typed_is_no_name() {
        for raw in [
            "",
            " alice",
            "alice ",
            "al  ice",
            " ",
            "al\tice",
            "al\u{a0} ice",
            "al\u{2028}ice",
            "alice\u{a0}",
            "alice\u{200b}",
            "alice\u{200d}",
            "alice\u{2060}",
            "\u{feff}alice",
            "al\u{ad}ice",
            "alice\u{202e}",
            "alice\u{fe0f}",
            "alice\u{115f}",
            "alice\u{3164}",
            "alice\u{ffa0}",
            "alice\0",
            "alice\n",
            "alice\u{7f}",
            "AL\u{130}CE",
            "\u{301}alice",
            "*\r\nFLUSHALL\r\n",
            "alice/../bob",
            "alice:bob",
            "<alice>",
            "alice,bob",
            "\u{1f600}",
        ] {
            assert_eq!(parsed(raw), None, "{raw:?}");
        }
    }

    #[test]
    fn names_of_other_scripts_mail_addresses_and_of_other_systems_are_names() {
        for (raw, canonical) in [
            ("Alice.B_c-d+test@Example.org", "alice.b_c-d+test@example.org"),
            ("\u{39f}\u{394}\u{3a5}\u{3a3}", "\u{3bf}\u{3b4}\u{3c5}\u{3c2}"),
            ("Straße", "straße"),
            ("李雷", "李雷"),
            ("user-42", "user-42"),
            ("Alice Smith", "alice smith"),
            ("Alice\u{a0}Smith", "alice smith"),
            ("O'Brien", "o'brien"),
            ("DOMAIN\\Alice", "domain\\alice"),
        ] {
            assert_eq!(parsed(raw).as_deref(), Some(canonical), "{raw:?}");
        }
    }

    #[test]
    fn a_name_has_at_most_128_bytes() {
        assert!(CanonicalName::parse(&"a".repeat(128)).is_some());
        assert!(CanonicalName::parse(&"a".repeat(129)).is_none());
        assert!(CanonicalName::parse(&"\u{fdfa}".repeat(42)).is_none(), "grows beyond the bound when folded");
    }

    #[test]
    fn the_lockout_key_of_a_name_is_the_name() {
        assert_eq!(CanonicalName::for_lockout("ALICE"), CanonicalName::parse("alice").unwrap());
    }

    #[test]
    fn the_lockout_key_of_a_non_name_is_bounded_stable_and_no_name() {
        let long = "x/y".repeat(100_000);
        let key = CanonicalName::for_lockout(&long);
        assert_eq!(key, CanonicalName::for_lockout(&long));
        assert_ne!(key, CanonicalName::for_lockout(" alice"));
        assert!(key.as_str().starts_with("invalid:") && key.as_str().len() == 40, "{key}");
        assert_eq!(CanonicalName::parse(key.as_str()), None);
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_its_own_canonical_form(raw in "\\PC{0,40}") {
            if let Some(name) = CanonicalName::parse(&raw) {
                prop_assert_eq!(CanonicalName::parse(name.as_str()), Some(name));
            }
        }

        #[test]
        fn any_text_has_a_lockout_key(raw in any::<String>()) {
            let key = CanonicalName::for_lockout(&raw);
            prop_assert!((1..=MAX_NAME_BYTES).contains(&key.as_str().len()));
        }
    }
}
