//! `auth-gateway hash-password`: prints the argon2id PHC string of a password, for users files written by
//! other tools.

use std::io::Write;

use crate::config::PasswordPolicy;

pub(super) use super::new_password::{Console, NewPasswordError};

/// Prompts for a password and prints its hash, one line on standard output.
pub(super) fn run(console: &mut Console<'_>) -> Result<(), NewPasswordError> {
    let hash = console.new_password(&PasswordPolicy::DEFAULT, None)?;
    writeln!(console.output, "{}", hash.as_str())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::users::PasswordHash;

    #[test]
    fn prints_one_line_that_is_a_strong_hash_and_not_the_password() {
        let (mut output, mut notes) = (Vec::new(), Vec::new());
        let input = &b"a password of good length\n"[..];
        run(&mut Console::scripted(input, &mut output, &mut notes)).unwrap();
        let output = String::from_utf8(output).unwrap();
        let hash = PasswordHash::parse(output.strip_suffix('\n').unwrap()).unwrap();
        assert_eq!(hash.weakness(), None);
        assert!(notes.is_empty());
    }

    #[test]
    fn a_common_password_is_refused_and_nothing_printed() {
        let (mut output, mut notes) = (Vec::new(), Vec::new());
        let refused = run(&mut Console::scripted(&b"password123\n"[..], &mut output, &mut notes));
        assert!(matches!(refused, Err(NewPasswordError::Refused(_))));
        assert!(output.is_empty());
    }
}
