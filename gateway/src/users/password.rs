//! A password in memory: bounded, never displayed, overwritten on drop.

use std::fmt;

use zeroize::Zeroizing;

/// Maximum length of a password in bytes. Longer ones are rejected before any hash runs.
pub const MAX_PASSWORD_BYTES: usize = 1024;

/// The bytes of a password exactly as received: not trimmed, truncated or case-folded.
///
/// The bytes are overwritten on drop. That is best effort: earlier copies in network buffers or the JSON
/// parser are not reached.
#[derive(Clone)]
pub struct Password(Zeroizing<Vec<u8>>);

impl Password {
    /// A password of at most [`MAX_PASSWORD_BYTES`].
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, PasswordTooLong> {
        let bytes = Zeroizing::new(bytes.into());
        if bytes.len() > MAX_PASSWORD_BYTES {
            return Err(PasswordTooLong);
        }
        Ok(Self(bytes))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// The password is longer than [`MAX_PASSWORD_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a password has at most {MAX_PASSWORD_BYTES} bytes")]
pub struct PasswordTooLong;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn bytes_are_kept_as_received() {
        let bytes = b" p\xc3\xa4ss\0w\xffrd\r\n ".to_vec();
        assert_eq!(Password::new(bytes.clone()).unwrap().as_bytes(), bytes);
    }

    #[test]
    fn one_byte_above_the_cap_is_refused() {
        assert!(Password::new(vec![b'x'; 1024]).is_ok());
        assert_eq!(Password::new(vec![b'x'; 1025]).unwrap_err(), PasswordTooLong);
    }

    #[test]
    fn debug_output_keeps_the_secret() {
        let shown = format!("{:?}", Password::new("open sesame").unwrap());
        assert_eq!(shown, "Password(…)");
    }
}
