//! The address in a proof (`htu`), in the form in which it is compared: normalised by syntax and scheme (RFC 3986 sections 6.2.2
//! and 6.2.3), without query and fragment (RFC 9449 section 4.3).

use crate::http1::Host;

/// A normalised `http` or `https` address without query and fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpUri(String);

impl HttpUri {
    /// The address that a proof names; `None` where it is none, or has user information.
    pub(crate) fn parse(text: &str) -> Option<HttpUri> {
        let (scheme, rest) = text.split_once("://")?;
        let scheme = ["http", "https"].into_iter().find(|known| scheme.eq_ignore_ascii_case(known))?;
        let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(authority_end);
        HttpUri::new(scheme, authority, path)
    }

    /// The address with these parts; `scheme` is in lower case, and `path` may have a query behind it.
    pub(crate) fn new(scheme: &str, authority: &str, path: &str) -> Option<HttpUri> {
        if authority.is_empty() || !path.bytes().all(|b| b.is_ascii_graphic()) {
            return None;
        }
        let authority = authority.to_ascii_lowercase();
        Host::parse(authority.as_bytes()).ok()?;
        let default_port = if scheme == "https" { ":443" } else { ":80" };
        let authority = authority.strip_suffix(default_port).unwrap_or(&authority);
        let authority = authority.strip_suffix(':').unwrap_or(authority);
        let path = path.split(['?', '#']).next().unwrap_or_default();
        Some(HttpUri(format!("{scheme}://{authority}{}", without_dot_segments(&normalised_escapes(path)))))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Escapes in upper case, and none of a character that needs none.
fn normalised_escapes(path: &str) -> String {
    let mut normalised = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        normalised.push_str(&rest[..at]);
        let escaped = rest.get(at + 1..at + 3).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(byte) = escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
            normalised.push('%');
            rest = &rest[at + 1..];
            continue;
        };
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                normalised.push(char::from(byte));
            }
            _ => normalised.push_str(&format!("%{byte:02X}")),
        }
        rest = &rest[at + 3..];
    }
    normalised.push_str(rest);
    normalised
}

/// RFC 3986 section 5.2.4; an empty path is `/`.
fn without_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
    for (place, segment) in segments.iter().enumerate() {
        let is_last = place + 1 == segments.len();
        match *segment {
            "." | ".." => {
                if *segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_compared_as_rfc_3986_normalises_them() {
        for (text, normalised) in [
            ("https://server.example.com/token", Some("https://server.example.com/token")),
            ("HTTPS://Server.Example.COM/token", Some("https://server.example.com/token")),
            ("https://server.example.com:443/token", Some("https://server.example.com/token")),
            ("https://server.example.com:/token", Some("https://server.example.com/token")),
            ("http://server.example.com:80/token", Some("http://server.example.com/token")),
            ("http://server.example.com:443/token", Some("http://server.example.com:443/token")),
            ("https://a.example", Some("https://a.example/")),
            ("https://a.example?x=1", Some("https://a.example/")),
            ("https://a.example/x?y=/../z#f", Some("https://a.example/x")),
            ("https://a.example/x#f?y", Some("https://a.example/x")),
            ("https://a.example/%7euser/%2f%41", Some("https://a.example/~user/%2FA")),
            ("https://a.example/100%", Some("https://a.example/100%")),
            ("https://a.example/%zz%4", Some("https://a.example/%zz%4")),
            ("https://a.example/a/./b/../c", Some("https://a.example/a/c")),
            ("https://a.example/a/%2e%2e/c/..", Some("https://a.example/")),
            ("https://a.example/../../c", Some("https://a.example/c")),
            ("https://a.example//x", Some("https://a.example//x")),
            ("https://[2001:DB8::1]:8443/x", Some("https://[2001:db8::1]:8443/x")),
            ("https://user@a.example/x", None),
            ("https://user:password@a.example/x", None),
            ("ftp://a.example/x", None),
            ("wss://a.example/x", None),
            ("//a.example/x", None),
            ("/x", None),
            ("https:///x", None),
            ("https:/a.example/x", None),
            ("https://a.example/x y", None),
            ("https://a.example/\u{e9}", None),
            ("", None),
        ] {
            assert_eq!(HttpUri::parse(text).as_ref().map(HttpUri::as_str), normalised, "{text}");
        }
    }

    #[test]
    fn a_request_has_the_address_that_its_client_used() {
        let of = |scheme, host, path| HttpUri::new(scheme, host, path);
        assert_eq!(of("https", "A.example", "/x?y"), HttpUri::parse("https://a.example/x"));
        assert_eq!(of("http", "a.example:8080", "/"), HttpUri::parse("http://a.example:8080"));
        assert_ne!(of("http", "a.example", "/x"), HttpUri::parse("https://a.example/x"));
        assert_ne!(of("https", "a.example", "/x"), HttpUri::parse("https://a.example/X"));
        assert_eq!(of("https", "", "/x"), None);
    }
}
