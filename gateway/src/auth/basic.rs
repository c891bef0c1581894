//! HTTP Basic credentials (RFC 7617), for clients that know nothing else: WebDAV, CalDAV, git, curl, Prometheus.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use crate::http1::{HeaderKind, RequestHead};
use crate::rejection::Rejection;
use crate::users::Password;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A user name and a password, not yet checked.
#[derive(Debug, Clone)]
pub(crate) struct BasicCredentials {
    pub(crate) username: String,
    pub(crate) password: Password,
}

impl BasicCredentials {
    /// The Basic credentials of a request, or `None` where it has none, or more than one `Authorization`.
    ///
    /// # Errors
    ///
    /// They are malformed, or the password is too long to be one.
    pub(crate) fn of(head: &RequestHead) -> Result<Option<BasicCredentials>, Rejection> {
        let Some(field) = head.headers().only(HeaderKind::Authorization) else { return Ok(None) };
        encoded(field.value).map(decode).transpose()
    }
}

/// Whether a field's value is Basic, good or not.
pub(crate) fn is_basic(value: &[u8]) -> bool {
    encoded(value).is_some()
}

/// What follows the scheme, where it is Basic.
fn encoded(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(5)?;
    let is_basic =
        scheme.eq_ignore_ascii_case(b"basic") && rest.first().is_none_or(|byte| b" \t".contains(byte));
    is_basic.then(|| rest.trim_ascii())
}

fn decode(encoded: &[u8]) -> Result<BasicCredentials, Rejection> {
    let bytes = BASE64.decode(encoded).map(Zeroizing::new).map_err(|_| Rejection::MalformedBasic)?;
    let text = text(&bytes);
    let (username, password) = text.split_once(':').ok_or(Rejection::MalformedBasic)?;
    let password = Password::new(password).map_err(|_| Rejection::PasswordTooLong)?;
    Ok(BasicCredentials { username: username.to_owned(), password })
}

/// UTF-8, as the challenge asks for; what is not is what older clients send, ISO 8859-1.
fn text(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect(),
    })
}

/// The password of a field's value, where that is Basic.
pub(crate) fn password_in(value: &[u8]) -> Option<Password> {
    Some(decode(encoded(value)?).ok()?.password)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::http1::HeadLimits;

    fn basic(fields: &str) -> Result<Option<(String, String)>, Rejection> {
        let mut head = RequestHead::default();
        head.parse(format!("GET / HTTP/1.1\r\n{fields}\r\n").as_bytes(), &HeadLimits::default())
            .unwrap()
            .unwrap();
        let password = |p: Password| String::from_utf8(p.as_bytes().to_vec()).unwrap();
        BasicCredentials::of(&head).map(|found| found.map(|basic| (basic.username, password(basic.password))))
    }

    #[test]
    fn name_and_password_are_what_stands_around_the_first_colon() {
        for (value, name, password) in [
            ("Basic YWxpY2U6c2VjcmV0", "alice", "secret"),
            ("basic   YWxpY2U6c2VjcmV0", "alice", "secret"),
            ("BASIC YTpiOmM=", "a", "b:c"),
            ("Basic YTpiOmM", "a", "b:c"),
            ("Basic OnA=", "", "p"),
            ("Basic YWxpY2U6", "alice", ""),
            ("Basic dGVzdDoxMjPCow==", "test", "123£"),
            ("Basic dGVzdDoxMjOj", "test", "123£"),
        ] {
            let found = basic(&format!("Authorization: {value}\r\n"));
            assert_eq!(found, Ok(Some((name.to_owned(), password.to_owned()))), "{value}");
        }
    }

    #[test]
    fn other_schemes_are_left_to_others_and_malformed_credentials_are_refused() {
        for fields in [
            "",
            "Authorization: Bearer a\r\n",
            "Authorization: Basics YTpi\r\n",
            "Authorization: Basic YTpi\r\nAuthorization: Basic YTpi\r\n",
        ] {
            assert_eq!(basic(fields), Ok(None), "{fields}");
        }
        for value in ["Basic", "Basic YWxpY2U=", "Basic !", "Basic a:b", "Basic YTpi YTpi"] {
            assert_eq!(
                basic(&format!("Authorization: {value}\r\n")),
                Err(Rejection::MalformedBasic),
                "{value}"
            );
        }
        let long = base64::engine::general_purpose::STANDARD.encode(format!("a:{}", "p".repeat(1025)));
        assert_eq!(basic(&format!("Authorization: Basic {long}\r\n")), Err(Rejection::PasswordTooLong));
    }
}
