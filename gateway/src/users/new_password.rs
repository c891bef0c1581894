//! Password policy for new passwords: minimum length, a list of common passwords, and where they are
//! configured a minimum strength and a file of breached passwords (NIST SP 800-63B-4 section 3.1.1.2, so no
//! composition rules).
//!
//! Checked when a password is set, never at login.

use super::breached_passwords::is_breached;
use super::name::CanonicalName;
use super::password::Password;
use crate::config::PasswordPolicy;

/// 10,000 common passwords, sorted, one per line, in lower case: the first of the well-known lists (of Django
/// and zxcvbn) that have at least [`MIN_LEN`] characters.
const COMMON_PASSWORDS: &str = include_str!("common_passwords.txt");

/// The lowest minimum length, in characters; also what a password needs besides the user's name.
const MIN_LEN: usize = 8;

/// Shorter names are in many words, in characters.
const MIN_NAME_LEN: usize = 3;

/// Recommended length in characters, since the password is the only factor.
const RECOMMENDED_LEN: usize = 15;

/// Why a password is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NewPasswordRefusal {
    /// Logins carry JSON, which is UTF-8: other bytes could never be sent.
    #[error("the password is not UTF-8 text, so no login could send it; choose another one")]
    NotUtf8,
    /// Under the minimum length.
    #[error(
        "the password has {length} characters; choose one of at least {min}, better {RECOMMENDED_LEN} or more"
    )]
    TooShort {
        /// Its length, in characters.
        length: usize,
        /// The minimum length, in characters.
        min: usize,
    },
    /// On the list of common passwords, or one character repeated.
    #[error("the password is a common one that attackers try first; choose another one")]
    Common,
    /// The user's name, with fewer characters besides than a password needs.
    #[error("the password is the user name or little more; choose another one")]
    UserName,
    /// Easier to guess than the configured strength.
    #[error("the password is too easy to guess; choose a longer one, such as several unrelated words")]
    TooWeak,
    /// In the file of breached passwords.
    #[error("the password is in a list of passwords that were stolen elsewhere; choose another one")]
    Breached,
    /// The file of breached passwords cannot be searched.
    #[error("users.password_policy.breached_file cannot be searched: {0}")]
    CannotSearch(String),
}

/// An accepted password that could be better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NewPasswordAdvice {
    /// Under 15 characters.
    #[error(
        "the password has {0} characters; {RECOMMENDED_LEN} or more are advised where it is the only factor"
    )]
    Short(usize),
}

/// Whether `password` may be set (for `user`, where that is known), with advice if there is any. Blocking
/// where breached passwords are looked up.
///
/// # Errors
///
/// Why it may not be set.
pub fn check_new_password(
    policy: &PasswordPolicy,
    password: &Password,
    user: Option<&CanonicalName>,
) -> Result<Option<NewPasswordAdvice>, NewPasswordRefusal> {
    let text = std::str::from_utf8(password.as_bytes()).map_err(|_| NewPasswordRefusal::NotUtf8)?;
    let length = text.chars().count();
    let min = policy.min_length as usize;
    if length < min {
        return Err(NewPasswordRefusal::TooShort { length, min });
    }
    if user.is_some_and(|user| CanonicalName::parse(text).as_ref() == Some(user) || is_made_of(text, user)) {
        return Err(NewPasswordRefusal::UserName);
    }
    let folded = text.to_lowercase();
    if COMMON_PASSWORDS.lines().any(|common| common == folded) || is_one_character(&folded) {
        return Err(NewPasswordRefusal::Common);
    }
    if policy.min_strength > 0 && strength(text, user) < policy.min_strength {
        return Err(NewPasswordRefusal::TooWeak);
    }
    if let Some(file) = &policy.breached_file {
        match is_breached(file, password.as_bytes()) {
            Ok(false) => {}
            Ok(true) => return Err(NewPasswordRefusal::Breached),
            Err(error) => return Err(NewPasswordRefusal::CannotSearch(error.to_string())),
        }
    }
    Ok((length < RECOMMENDED_LEN).then_some(NewPasswordAdvice::Short(length)))
}

/// The strength of a password as zxcvbn estimates it, from 0 to 4. The user's name counts as a known word.
fn strength(text: &str, user: Option<&CanonicalName>) -> u32 {
    let known: Vec<&str> = user.iter().flat_map(|user| user.as_str().split('@')).collect();
    u32::from(u8::from(zxcvbn::zxcvbn(text, &known).score()))
}

/// Whether a password is the user's name, or what stands in it before an `@`, again and again, or a short one once, and fewer than
/// [`MIN_LEN`] characters besides.
fn is_made_of(text: &str, user: &CanonicalName) -> bool {
    let (folded, name) = (text.to_lowercase(), user.as_str());
    let local_part = name.split('@').next().unwrap_or(name);
    [name, local_part].into_iter().any(|name| {
        let (times, length) = (folded.matches(name).count(), name.chars().count());
        let is_counted = times > 1 || (times == 1 && length < MIN_LEN);
        length >= MIN_NAME_LEN && is_counted && folded.replace(name, "").chars().count() < MIN_LEN
    })
}

fn is_one_character(text: &str) -> bool {
    let mut chars = text.chars();
    let first = chars.next();
    chars.all(|c| Some(c) == first)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn check(password: impl Into<Vec<u8>>) -> Result<Option<NewPasswordAdvice>, NewPasswordRefusal> {
        let user = CanonicalName::parse("alice.liddell").unwrap();
        check_new_password(&PasswordPolicy::DEFAULT, &Password::new(password).unwrap(), Some(&user))
    }

    #[test]
    fn length_counts_characters_not_bytes() {
        assert_eq!(check("ééééééà"), Err(NewPasswordRefusal::TooShort { length: 7, min: 8 }));
        assert_eq!(check(""), Err(NewPasswordRefusal::TooShort { length: 0, min: 8 }));
        assert_eq!(check("ksd8 jf2"), Ok(Some(NewPasswordAdvice::Short(8))));
        assert_eq!(check("fourteen chars"), Ok(Some(NewPasswordAdvice::Short(14))));
        assert_eq!(check("fifteen letters"), Ok(None));
    }

    #[test]
    fn common_passwords_are_refused_in_any_case() {
        for common in
            ["password", "PassWord123", "qwertyuiop", "correct horse battery staple", "zzzzzzzzzzzzzzzzzzz"]
        {
            assert_eq!(check(common), Err(NewPasswordRefusal::Common), "{common}");
        }
    }

    #[test]
    fn the_user_name_is_refused_in_any_spelling() {
        assert_eq!(check("alice.liddell"), Err(NewPasswordRefusal::UserName));
        assert_eq!(check("ALICE.Liddell"), Err(NewPasswordRefusal::UserName));
        assert_eq!(check("alice.liddell!!"), Ok(None));
    }

    #[test]
    fn what_no_login_could_send_is_refused() {
        assert_eq!(check(vec![0xff; 20]), Err(NewPasswordRefusal::NotUtf8));
    }

    #[test]
    fn no_composition_rules_are_enforced() {
        assert_eq!(check("only small letters here"), Ok(None));
        assert_eq!(check("  spaces count too  "), Ok(None));
    }

    #[test]
    fn the_list_holds_ten_thousand_that_the_length_would_let_pass() {
        assert_eq!(COMMON_PASSWORDS.lines().count(), 10_000);
        for common in COMMON_PASSWORDS.lines() {
            assert!(common.chars().count() >= MIN_LEN && common.to_lowercase() == common, "{common}");
        }
    }

    #[test]
    fn the_users_name_with_little_besides_is_refused() {
        let check = |password: &str, name: &str| {
            let password = Password::new(password).unwrap();
            check_new_password(&PasswordPolicy::DEFAULT, &password, CanonicalName::parse(name).as_ref())
        };
        for (password, name) in [
            ("zoe-zoe-zoe", "zoe"),
            ("ZoeZoeZoe", "zoe"),
            ("zoe12345", "zoe"),
            ("2024-Zoe!!", "zoe"),
            ("zoe.zoe.zoe", "zoe@mail.example"),
            ("zoe@mail.example-zoe@mail.example", "zoe@mail.example"),
        ] {
            assert_eq!(check(password, name), Err(NewPasswordRefusal::UserName), "{password} {name}");
        }
        for (password, name) in
            [("zoe likes blue cheese", "zoe"), ("banal-area", "al"), ("correct horse", "zoe")]
        {
            assert!(check(password, name).is_ok(), "{password} {name}");
        }
    }

    #[test]
    fn a_policy_asks_for_more_length_and_for_strength() {
        let check = |policy: &PasswordPolicy, password: &str| {
            let user = CanonicalName::parse("anneliese@mail.example");
            check_new_password(policy, &Password::new(password).unwrap(), user.as_ref())
        };
        let long = PasswordPolicy { min_length: 12, ..PasswordPolicy::DEFAULT };
        let short = NewPasswordRefusal::TooShort { length: 11, min: 12 };
        assert_eq!(check(&long, "eleven char"), Err(short));
        assert!(check(&long, "twelve chars").is_ok());
        for (min_strength, password, passes) in [
            (2, "anneliese1990", false),
            (1, "banana-anneliese", true),
            (3, "Summer2024!", false),
            (3, "correct-viola-muffin", true),
            (4, "qwertyuiopasdf", false),
            (4, "7#kQ mZ!2vTr9x", true),
        ] {
            let policy = PasswordPolicy { min_strength, ..PasswordPolicy::DEFAULT };
            let expected = if passes { Ok(()) } else { Err(NewPasswordRefusal::TooWeak) };
            assert_eq!(check(&policy, password).map(drop), expected, "{password} for {min_strength}");
        }
    }

    #[test]
    fn breached_passwords_are_refused_and_a_broken_file_lets_none_pass() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("breached.txt");
        let check = |password: &str| {
            let policy = PasswordPolicy { breached_file: Some(file.clone()), ..PasswordPolicy::DEFAULT };
            check_new_password(&policy, &Password::new(password).unwrap(), None).map(drop)
        };
        let hash =
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, b"violet armadillo");
        std::fs::write(&file, crate::users::name::hex(hash.as_ref()).to_uppercase() + ":3\r\n").unwrap();
        assert_eq!(check("violet armadillo"), Err(NewPasswordRefusal::Breached));
        assert_eq!(check("violet armadilla"), Ok(()));
        std::fs::write(&file, "no hashes here\n").unwrap();
        assert!(matches!(check("violet armadilla"), Err(NewPasswordRefusal::CannotSearch(_))));
    }
}
