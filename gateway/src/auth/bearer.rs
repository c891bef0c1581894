//! Token extraction: the schemes `Bearer` (RFC 6750 section 2.1) and `DPoP` (RFC 9449 section 7.1) of `Authorization` or, on routes
//! that allow it, a browser WebSocket's subprotocols.

use crate::http1::{HeaderKind, RequestHead};
use crate::rejection::Rejection;
use crate::sessions::personal_token::PresentedToken;

/// Bearer credentials of a request, not yet checked for the syntax of a token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bearer<'h> {
    token: &'h [u8],
    scheme: Scheme<'h>,
}

/// How a token was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme<'h> {
    Bearer,
    /// As one that is bound to a key.
    Dpop {
        /// The proof, where it did not come in the field `DPoP`.
        proof: Option<&'h [u8]>,
    },
}

impl<'h> Bearer<'h> {
    /// Credentials from elsewhere than `Authorization`.
    pub(crate) fn new(token: &'h [u8]) -> Bearer<'h> {
        Bearer { token, scheme: Scheme::Bearer }
    }

    /// Credentials from elsewhere than `Authorization`, with their proof.
    pub(crate) fn with_proof(token: &'h [u8], proof: &'h [u8]) -> Bearer<'h> {
        Bearer { token, scheme: Scheme::Dpop { proof: Some(proof) } }
    }

    pub(crate) fn scheme(self) -> Scheme<'h> {
        self.scheme
    }

    /// The credentials of a request by the scheme `Bearer` or, with `dpop`, `DPoP`; `None` where there are none.
    pub(crate) fn of_either(head: &'h RequestHead, dpop: bool) -> Result<Option<Bearer<'h>>, Rejection> {
        let mut fields = head.headers().of_kind(HeaderKind::Authorization);
        let Some(field) = fields.next() else { return Ok(None) };
        if fields.next().is_some() {
            return Err(Rejection::RepeatedAuthorization);
        }
        let value = field.value;
        // As nearly all clients write it.
        if let Some(token @ [first, ..]) = value.strip_prefix(b"Bearer ")
            && *first != b' '
        {
            return Ok(Some(Bearer::new(token)));
        }
        let scheme_end = value.iter().position(|b| b" \t".contains(b)).unwrap_or(value.len());
        let (scheme, rest) = value.split_at(scheme_end);
        let scheme = if scheme.eq_ignore_ascii_case(b"bearer") {
            Scheme::Bearer
        } else if dpop && scheme.eq_ignore_ascii_case(b"dpop") {
            Scheme::Dpop { proof: None }
        } else {
            // `Bearer,x` or `Bearer=x` is a malformed bearer, not another scheme.
            let token_like = scheme.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-');
            return if token_like { Ok(None) } else { Err(Rejection::MalformedAuthorization) };
        };
        // One space or several (RFC 6750 section 2.1).
        match rest.iter().position(|&byte| byte != b' ') {
            None | Some(0) => Err(Rejection::BearerWithoutSpace),
            Some(start) => Ok(Some(Bearer { token: &rest[start..], scheme })),
        }
    }

    /// The raw bytes, for lookup in the token cache.
    pub(crate) fn as_bytes(self) -> &'h [u8] {
        self.token
    }

    /// The token, if the credentials are a single well-formed one.
    pub(crate) fn token(self) -> Result<&'h str, Rejection> {
        let token = std::str::from_utf8(self.token).ok().filter(|token| token.is_ascii());
        match token.ok_or(Rejection::AuthorizationNotAscii)? {
            "" => Err(Rejection::BearerEmpty),
            _ if has_separator(self.token) => Err(Rejection::BearerNotOneToken),
            token => Ok(token),
        }
    }
}

/// The signed token of a request, or `None` where there is none; with `dpop`, it may be one that is bound to a key.
pub(crate) fn signed_token(head: &RequestHead, dpop: bool) -> Result<Option<Bearer<'_>>, Rejection> {
    let bearer = Bearer::of_either(head, dpop)?;
    match bearer {
        Some(bearer) if PresentedToken::is_meant_by(bearer.token()?.as_bytes()) => {
            Err(Rejection::PersonalTokenNotHere)
        }
        bearer => Ok(bearer),
    }
}

/// Whether it contains a separator between tokens.
fn has_separator(bytes: &[u8]) -> bool {
    memchr::memchr3(b' ', b'\t', b',', bytes).or_else(|| memchr::memchr(b'"', bytes)).is_some()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::http1::HeadLimits;

    fn token(fields: &str) -> Result<Option<String>, Rejection> {
        let mut head = RequestHead::default();
        let text = format!("GET / HTTP/1.1\r\n{fields}\r\n");
        head.parse(text.as_bytes(), &HeadLimits::default()).unwrap().unwrap();
        signed_token(&head, false)?.map(|bearer| bearer.token().map(str::to_owned)).transpose()
    }

    #[test]
    fn one_bearer_token_is_found_whatever_the_case_of_its_scheme() {
        for scheme in ["Bearer", "bearer", "BEARER"] {
            for spaces in [" ", "  ", "     "] {
                let field = format!("Authorization: {scheme}{spaces}a.b.c\r\n");
                assert_eq!(token(&field), Ok(Some("a.b.c".into())));
            }
        }
    }

    #[test]
    fn other_places_and_schemes_are_no_token() {
        for fields in [
            "",
            "Cookie: access_token=a.b.c\r\n",
            "X-Authorization: Bearer a\r\n",
            "Authorization: Basic eA==\r\n",
            "Authorization_: Bearer a\r\n",
            "Proxy-Authorization: Bearer a\r\n",
        ] {
            assert_eq!(token(fields), Ok(None), "{fields}");
        }
    }

    #[test]
    fn the_scheme_of_bound_tokens_is_known_where_they_are_accepted() {
        let head = crate::admission::test_support::head("GET / HTTP/1.1\r\nAuthorization: dpop  a.b.c\r\n");
        assert!(
            matches!(Bearer::of_either(&head, false), Ok(None)),
            "it is another scheme, such as the app's"
        );
        let bearer = Bearer::of_either(&head, true).unwrap().unwrap();
        assert_eq!((bearer.as_bytes(), bearer.scheme()), (&b"a.b.c"[..], Scheme::Dpop { proof: None }));
        let head = crate::admission::test_support::head("GET / HTTP/1.1\r\nAuthorization: DPoP\r\n");
        assert_eq!(Bearer::of_either(&head, true).unwrap_err(), Rejection::BearerWithoutSpace);
    }

    #[test]
    fn malformed_credentials_are_distinguished_from_missing_ones() {
        for (value, rejection) in [
            ("Bearer", Rejection::BearerWithoutSpace),
            ("Bearer ", Rejection::BearerWithoutSpace),
            ("Bearer\ta", Rejection::BearerWithoutSpace),
            ("Bearer \ta", Rejection::BearerNotOneToken),
            ("Bearer  a  b", Rejection::BearerNotOneToken),
            ("Bearer a b", Rejection::BearerNotOneToken),
            ("Bearer a,b", Rejection::BearerNotOneToken),
            ("Bearer \"a\"", Rejection::BearerNotOneToken),
            ("Bearer \u{e9}", Rejection::AuthorizationNotAscii),
            ("Bearer=a", Rejection::MalformedAuthorization),
            ("\u{e9} a", Rejection::MalformedAuthorization),
        ] {
            assert_eq!(token(&format!("Authorization: {value}\r\n")), Err(rejection), "{value:?}");
        }
        assert_eq!(
            token("Authorization: Bearer a\r\nAuthorization: Bearer a\r\n"),
            Err(Rejection::RepeatedAuthorization)
        );
    }
}
