//! The `Host` of a request (RFC 9110 section 7.2, RFC 9112 section 3.2): exactly one, and well formed.

use crate::http1::{HeaderKind, RequestHead, Version};

/// A missing, repeated or malformed host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HostError {
    #[error("exactly one Host field is needed")]
    NotOne,
    #[error("the Host is not a name or address with an optional port")]
    Malformed,
    #[error("the Host disagrees with the request target")]
    Disagrees,
}

/// A well-formed host as received, split for comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Host<'h> {
    text: &'h str,
    name: &'h str,
    port: Option<u16>,
}

/// The ranges of an admitted [`Host`], for a request that outlives the borrow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HostSpan {
    name_len: u16,
    port: Option<u16>,
}

impl<'h> Host<'h> {
    const UNKNOWN: Host<'static> = Host { text: "", name: "", port: None };

    /// The host again; `text` is the one that the span was taken from.
    pub(crate) fn of_admitted(text: &'h str, span: HostSpan) -> Host<'h> {
        Host { text, name: &text[..usize::from(span.name_len)], port: span.port }
    }

    /// The ranges of its parts.
    pub(crate) fn span(&self) -> HostSpan {
        HostSpan { name_len: self.name.len() as u16, port: self.port }
    }

    /// Whether the request has no host.
    pub(crate) fn is_unknown(&self) -> bool {
        self.text.is_empty()
    }

    /// The host of a request, from its `Host` field and its absolute-form target, if it has one. An HTTP/1.0
    /// request needs no `Host` (RFC 9112 section 3.2): without the other, too, it is [unknown](Host::is_unknown).
    pub(crate) fn of(head: &'h RequestHead, authority: Option<&'h [u8]>) -> Result<Host<'h>, HostError> {
        let field = head.headers().only(HeaderKind::Host);
        let is_absent =
            !head.headers().has(HeaderKind::Host) || field.is_some_and(|host| host.value.is_empty());
        if head.version() == Version::Http10 && is_absent {
            return authority.map_or(Ok(Host::UNKNOWN), Host::parse);
        }
        let field = field.ok_or(HostError::NotOne)?;
        let host = Host::parse(field.value)?;
        match authority.map(Host::parse).transpose()? {
            Some(authority) if !authority.same_as(&host) => Err(HostError::Disagrees),
            _ => Ok(host),
        }
    }

    /// `uri-host [ ":" port ]`, without userinfo.
    pub(crate) fn parse(value: &[u8]) -> Result<Host<'_>, HostError> {
        let text = std::str::from_utf8(value).map_err(|_| HostError::Malformed)?;
        let name_end = match text.starts_with('[') {
            true => memchr::memchr(b']', value).ok_or(HostError::Malformed)? + 1,
            false => memchr::memchr(b':', value).unwrap_or(value.len()),
        };
        let (name, rest) = text.split_at(name_end);
        let name_ok = match name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => is_reg_name(name),
        };
        let port = match rest.strip_prefix(':') {
            None if rest.is_empty() => None,
            // RFC 3986 section 3.2.3: a port may be empty, and is then the default. It is not passed on.
            Some("") => return Host::parse(&value[..name_end]),
            Some(digits) if digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit()) => {
                Some(digits.parse().map_err(|_| HostError::Malformed)?)
            }
            _ => return Err(HostError::Malformed),
        };
        if !name_ok {
            return Err(HostError::Malformed);
        }
        Ok(Host { text, name: name.strip_suffix('.').unwrap_or(name), port })
    }

    /// As received.
    pub(crate) fn as_str(&self) -> &'h str {
        self.text
    }

    /// Without port and trailing dot.
    pub(crate) fn name(&self) -> &'h str {
        self.name
    }

    /// Whether it equals `name`, which is in lower case and has neither port nor trailing dot.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// Whether it is a subdomain of `name`, which is in lower case.
    pub(crate) fn is_below(&self, name: &str) -> bool {
        let (host, name) = (self.name.as_bytes(), name.as_bytes());
        let Some(dot) = host.len().checked_sub(name.len() + 1) else { return false };
        dot > 0 && host[dot] == b'.' && host[dot + 1..].eq_ignore_ascii_case(name)
    }

    /// Whether it is an IP address or `localhost`, which DNS rebinding cannot imitate.
    pub(crate) fn is_address_or_localhost(&self) -> bool {
        self.name.starts_with('[') || self.name.parse::<std::net::Ipv4Addr>().is_ok() || self.is("localhost")
    }

    /// Whether it has the same name, ignoring case and one trailing dot.
    pub(crate) fn is_named_like(&self, other: &Host<'_>) -> bool {
        self.name.eq_ignore_ascii_case(other.name)
    }

    pub(crate) fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether they are equal, ignoring case, one trailing dot and the default port.
    pub(crate) fn same_as(&self, other: &Host<'_>) -> bool {
        self.name.eq_ignore_ascii_case(other.name) && self.port.unwrap_or(80) == other.port.unwrap_or(80)
    }
}

/// Letters, digits, `-`, `.` and `_`, as in names in use; no percent-encoding, which some parsers would
/// decode.
fn is_reg_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).as_bytes();
    // An empty label begins the name, ends it or is between two dots.
    let mut label_begins = true;
    let well_formed = name.iter().all(|&byte| {
        let fits = if byte == b'.' { !label_begins } else { REG_NAME[byte as usize] };
        label_begins = byte == b'.';
        fits
    });
    well_formed && !label_begins && name.len() <= 253
}

const REG_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric() || byte as u8 == b'-' || byte as u8 == b'_';
        byte += 1;
    }
    table
};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn well_formed_hosts_are_split() {
        for (text, name, port) in [
            ("a.example", "a.example", None),
            ("A.example.:8080", "A.example", Some(8080)),
            ("127.0.0.1:80", "127.0.0.1", Some(80)),
            ("[::1]:9", "[::1]", Some(9)),
            ("a.example:", "a.example", None),
            ("[::1]:", "[::1]", None),
        ] {
            let host = Host::parse(text.as_bytes()).unwrap();
            assert_eq!((host.name, host.port), (name, port));
        }
    }

    #[test]
    fn malformed_hosts_are_refused() {
        for bad in [
            "", "a@b", "a, b", "a:99999", "a::", "a:+8", "a:8a", "a b", "a/b", "[::1", "[x]", "a..b", "%61",
            ":80", "ä", "a?b", "[::1]x",
        ] {
            assert_eq!(Host::parse(bad.as_bytes()).unwrap_err(), HostError::Malformed, "{bad:?}");
        }
    }

    #[test]
    fn hosts_compare_without_case_dot_and_default_port() {
        let host = |text: &'static str| Host::parse(text.as_bytes()).unwrap();
        assert!(host("A.test").same_as(&host("a.test.:80")));
        assert!(!host("a.test").same_as(&host("a.test:8080")));
        assert!(host("GW.test:8080").is("gw.test"));
    }

    #[test]
    fn names_below_a_name_have_at_least_a_label_more() {
        let host = |text: &'static str| Host::parse(text.as_bytes()).unwrap();
        for (text, below) in [
            ("a.gw.test", true),
            ("A.B.GW.Test.:80", true),
            ("gw.test", false),
            ("xgw.test", false),
            ("test", false),
            ("a.gw.testx", false),
        ] {
            assert_eq!(host(text).is_below("gw.test"), below, "{text}");
        }
    }
}
