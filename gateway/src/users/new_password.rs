//! Password policy for new passwords: minimum length and a list of common passwords (NIST SP 800-63B-4
//! section 3.1.1.2, so no composition rules).
//!
//! Checked when a password is set, never at login.

use super::name::CanonicalName;
use super::password::Password;

/// Common passwords, one per line, in lower case: those of the well-known lists with at least [`MIN_LEN`]
/// characters.
const COMMON_PASSWORDS: &str = include_str!("common_passwords.txt");

/// Minimum length, in characters.
const MIN_LEN: usize = 8;

/// Shorter names are in many words, in characters.
const MIN_NAME_LEN: usize = 3;

/// Recommended length in characters, since the password is the only factor.
const RECOMMENDED_LEN: usize = 15;

/// Why a password is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NewPasswordRefusal {
    /// Logins carry JSON, which is UTF-8: other bytes could never be sent.
    #[error("the password is not UTF-8 text, so no login could send it; choose another one")]
    NotUtf8,
    /// Under 8 characters.
    #[error(
        "the password has {0} characters; choose one of at least {MIN_LEN}, better {RECOMMENDED_LEN} or more"
    )]
    TooShort(usize),
    /// On the list of common passwords, or one character repeated.
    #[error("the password is a common one that attackers try first; choose another one")]
    Common,
    /// The user's name, with fewer characters besides than a password needs.
    #[error("the password is the user name or little more; choose another one")]
    UserName,
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

/// Whether `password` may be set (for `user`, where that is known), with advice if there is any.
pub fn check_new_password(
    password: &Password,
    user: Option<&CanonicalName>,
) -> Result<Option<NewPasswordAdvice>, NewPasswordRefusal> {
    let text = std::str::from_utf8(password.as_bytes()).map_err(|_| NewPasswordRefusal::NotUtf8)?;
    let length = text.chars().count();
    if length < MIN_LEN {
        return Err(NewPasswordRefusal::TooShort(length));
    }
    if user.is_some_and(|user| CanonicalName::parse(text).as_ref() == Some(user) || is_made_of(text, user)) {
        return Err(NewPasswordRefusal::UserName);
    }
    let folded = text.to_lowercase();
    if COMMON_PASSWORDS.lines().any(|common| common == folded) || is_one_character(&folded) {
        return Err(NewPasswordRefusal::Common);
    }
    Ok((length < RECOMMENDED_LEN).then_some(NewPasswordAdvice::Short(length)))
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
        check_new_password(&Password::new(password).unwrap(), Some(&user))
    }

    #[test]
    fn length_counts_characters_not_bytes() {
        assert_eq!(check("ééééééà"), Err(NewPasswordRefusal::TooShort(7)));
        assert_eq!(check(""), Err(NewPasswordRefusal::TooShort(0)));
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
    fn the_list_holds_what_the_length_would_let_pass() {
        for common in COMMON_PASSWORDS.lines() {
            assert!(common.chars().count() >= MIN_LEN && common.to_lowercase() == common, "{common}");
        }
    }

    #[test]
    fn the_users_name_with_little_besides_is_refused() {
        let check = |password: &str, name: &str| {
            check_new_password(&Password::new(password).unwrap(), CanonicalName::parse(name).as_ref())
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
}
