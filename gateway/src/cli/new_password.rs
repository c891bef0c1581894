//! Reading a new password: prompted for twice on a terminal, or one line of standard input. Never an
//! argument, which other processes and the shell's history could see.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use crate::config::PasswordPolicy;
use crate::users::{
    CanonicalName, HashFailed, MAX_PASSWORD_BYTES, NewPasswordRefusal, Password, PasswordHash,
    PasswordTooLong, check_new_password,
};

/// Maximum length of a token on standard input, in bytes.
const MAX_TOKEN_LINE: u64 = 16 * 1024;

/// Where a command reads passwords, and prints results and notes.
pub(super) struct Console<'a> {
    passwords: Passwords<'a>,
    /// The command's output.
    pub(super) output: Box<dyn Write + 'a>,
    /// Messages for people.
    pub(super) notes: Box<dyn Write + 'a>,
}

enum Passwords<'a> {
    Prompt,
    FirstLine(Box<dyn BufRead + 'a>),
}

impl<'a> Console<'a> {
    /// Standard input (or the terminal), standard output and standard error.
    pub(super) fn standard() -> Self {
        let passwords = match io::stdin().is_terminal() {
            true => Passwords::Prompt,
            false => Passwords::FirstLine(Box::new(io::stdin().lock())),
        };
        Self { passwords, output: Box::new(io::stdout()), notes: Box::new(io::stderr()) }
    }

    /// Not a terminal, for programs and tests.
    #[cfg(test)]
    pub(super) fn scripted(
        input: impl BufRead + 'a,
        output: impl Write + 'a,
        notes: impl Write + 'a,
    ) -> Self {
        Self {
            passwords: Passwords::FirstLine(Box::new(input)),
            output: Box::new(output),
            notes: Box::new(notes),
        }
    }

    /// Reads a new password, checks it and hashes it.
    pub(super) fn new_password(
        &mut self,
        policy: &PasswordPolicy,
        user: Option<&CanonicalName>,
    ) -> Result<PasswordHash, NewPasswordError> {
        let password = self.read_password()?;
        if let Some(advice) = check_new_password(policy, &password, user)? {
            writeln!(self.notes, "warning: {advice}")?;
        }
        Ok(PasswordHash::create(&password)?)
    }

    /// Reads a token, from a prompt or the first line of standard input.
    pub(super) fn token(&mut self) -> io::Result<String> {
        match &mut self.passwords {
            Passwords::Prompt => rpassword::prompt_password("Token: "),
            Passwords::FirstLine(input) => {
                let mut line = String::new();
                input.take(MAX_TOKEN_LINE).read_line(&mut line)?;
                Ok(line)
            }
        }
    }

    fn read_password(&mut self) -> Result<Password, NewPasswordError> {
        match &mut self.passwords {
            Passwords::Prompt => {
                let password = Password::new(rpassword::prompt_password("New password: ")?)?;
                let again = Password::new(rpassword::prompt_password("Again: ")?)?;
                match password.as_bytes() == again.as_bytes() {
                    true => Ok(password),
                    false => Err(NewPasswordError::Different),
                }
            }
            Passwords::FirstLine(input) => first_line(input),
        }
    }
}

/// The first line without its line break (LF or CR LF).
fn first_line(input: &mut dyn BufRead) -> Result<Password, NewPasswordError> {
    // One byte more than the longest password and its break shows that a line is too long, without reading
    // all of it. Reserved at once, as a growing buffer leaves copies of the password behind.
    let limit = MAX_PASSWORD_BYTES + 3;
    let mut line = Vec::with_capacity(limit);
    input.take(limit as u64).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(NewPasswordError::Missing);
    }
    if line.ends_with(b"\n") {
        line.pop();
        if line.ends_with(b"\r") {
            line.pop();
        }
    }
    Ok(Password::new(line)?)
}

/// Why there is no new password.
#[derive(Debug, thiserror::Error)]
pub(super) enum NewPasswordError {
    /// The two inputs at the prompt differ.
    #[error("the two passwords differ; try again")]
    Different,
    /// Standard input was empty.
    #[error("no password was given; type it at the prompt, or send it as the first line of standard input")]
    Missing,
    /// The password policy rejects it.
    #[error(transparent)]
    Refused(#[from] NewPasswordRefusal),
    /// It is too long to be ever sent.
    #[error(transparent)]
    TooLong(#[from] PasswordTooLong),
    /// The hash could not be computed.
    #[error("the password could not be hashed: {0}")]
    Hash(#[from] HashFailed),
    /// The terminal or a stream failed.
    #[error("cannot read the password or write the answer: {0}")]
    Io(#[from] io::Error),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn line(input: &[u8]) -> Result<Vec<u8>, NewPasswordError> {
        first_line(&mut { input }).map(|password| password.as_bytes().to_vec())
    }

    #[test]
    fn the_first_line_is_the_password_byte_for_byte() {
        for input in ["  two words \n", "  two words \r\n", "  two words ", "  two words \nsecond line\n"] {
            assert_eq!(line(input.as_bytes()).unwrap(), b"  two words ", "{input:?}");
        }
        assert_eq!(line(b"a\rb\r\r\n").unwrap(), b"a\rb\r");
    }

    #[test]
    fn no_input_is_no_password() {
        assert!(matches!(line(b""), Err(NewPasswordError::Missing)));
    }

    #[test]
    fn the_longest_password_is_read_and_a_longer_one_refused_without_reading_on() {
        let longest = [b'x'; MAX_PASSWORD_BYTES];
        assert_eq!(line(&[&longest[..], b"\r\n"].concat()).unwrap(), longest);
        assert!(matches!(line(&[&longest[..], b"x\n"].concat()), Err(NewPasswordError::TooLong(_))));
        let endless = &mut io::BufReader::new(io::repeat(b'x'));
        assert!(matches!(first_line(endless), Err(NewPasswordError::TooLong(_))));
    }
}
