//! The client's address, and the forwarding headers for upstreams (`X-Forwarded-*`, RFC 7239 `Forwarded`).

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::http1::{HeaderKind, Host, RequestHead};

/// The peer of a connection.
#[derive(Debug)]
pub(crate) struct ClientAddr {
    address: IpAddr,
    /// The formatted address, for all requests.
    text: Box<str>,
    trusted: bool,
    /// Whether the connection is TLS.
    secure: bool,
}

impl ClientAddr {
    pub(crate) fn new(peer: SocketAddr, trusted_proxies: &[IpNet], secure: bool) -> ClientAddr {
        let address = peer.ip().to_canonical();
        let text = address.to_string().into();
        ClientAddr {
            address,
            text,
            trusted: trusted_proxies.iter().any(|net| net.contains(&address)),
            secure,
        }
    }

    /// Whether the peer's connection to the gateway is TLS.
    pub(crate) fn is_secure(&self) -> bool {
        self.secure
    }

    /// Whether the peer is a trusted proxy, whose forwarding headers are used.
    pub(crate) fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// The client's address: the right-most hop that is not a trusted proxy.
    pub(crate) fn address(&self, head: &RequestHead, trusted_proxies: &[IpNet]) -> IpAddr {
        if !self.trusted {
            return self.address;
        }
        let hops = forwarded_for(head);
        let first_untrusted =
            hops.iter().rev().find(|hop| !trusted_proxies.iter().any(|net| net.contains(*hop)));
        first_untrusted.or(hops.first()).copied().unwrap_or(self.address)
    }

    /// The same address as text.
    pub(crate) fn address_text(&self, head: &RequestHead, trusted_proxies: &[IpNet]) -> Cow<'_, str> {
        match self.address(head, trusted_proxies) {
            address if address == self.address => Cow::Borrowed(&self.text),
            address => Cow::Owned(address.to_string()),
        }
    }

    /// The host and the scheme that the client used, from the headers of trusted proxies, or else `host` and
    /// the connection's own scheme.
    pub(crate) fn origin<'r>(&self, head: &'r RequestHead, host: &'r str) -> RequestOrigin<'r> {
        let own = if self.secure { Scheme::Https } else { Scheme::Http };
        if !self.trusted {
            return RequestOrigin { scheme: own, host };
        }
        let forwarded = ForwardedElement::last_of(head);
        let values = |kind| head.headers().of_kind(kind).last().and_then(|field| last_member(field.value));
        let scheme = values(HeaderKind::XForwardedProto).or(forwarded.proto).and_then(Scheme::of_proxy);
        let named = values(HeaderKind::XForwardedHost).or(forwarded.host);
        let named = named.and_then(|host| Host::parse(host).ok()).map(|host| host.as_str());
        RequestOrigin { scheme: scheme.unwrap_or(own), host: named.unwrap_or(host) }
    }

    /// Appends `X-Forwarded-*` and `Forwarded` lines in wire format for a request with this `Host` (none in
    /// HTTP/1.0). What an untrusted peer sent under these names is ignored.
    pub(crate) fn push_forwarding_lines(&self, head: &RequestHead, host: &str, lines: &mut Vec<u8>) {
        let before = if self.trusted { forwarded_for(head) } else { Vec::new() };
        let RequestOrigin { scheme, host } = self.origin(head, host);
        let proto = scheme.name();
        let mut put = |text: &str| lines.extend_from_slice(text.as_bytes());

        put("X-Forwarded-For: ");
        before.iter().for_each(|hop| put(&format!("{hop}, ")));
        put(&self.text);
        if !host.is_empty() {
            ["\r\nX-Forwarded-Host: ", host].into_iter().for_each(&mut put);
        }
        ["\r\nX-Forwarded-Proto: ", proto, "\r\nForwarded: "].into_iter().for_each(&mut put);
        before.iter().for_each(|hop| match hop {
            IpAddr::V4(hop) => put(&format!("for={hop}, ")),
            IpAddr::V6(hop) => put(&format!("for=\"[{hop}]\", ")),
        });
        // The last element describes this hop (RFC 7239 section 4).
        match self.address {
            IpAddr::V4(_) => ["for=", &self.text].into_iter().for_each(&mut put),
            IpAddr::V6(_) => [&format!("for=\"[{}]", self.text), "\""].into_iter().for_each(&mut put),
        };
        if !host.is_empty() {
            [";host=\"", host, "\""].into_iter().for_each(&mut put);
        }
        [";proto=", proto, "\r\n"].into_iter().for_each(&mut put);
    }
}

/// The scheme of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    /// The scheme as proxies write it, including WebSocket's.
    fn of_proxy(proto: &[u8]) -> Option<Scheme> {
        let is_one_of = |names: [&[u8]; 2]| names.iter().any(|name| proto.eq_ignore_ascii_case(name));
        match proto {
            _ if is_one_of([b"https", b"wss"]) => Some(Scheme::Https),
            _ if is_one_of([b"http", b"ws"]) => Some(Scheme::Http),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// The origin that a client sent its request to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestOrigin<'r> {
    pub(crate) scheme: Scheme,
    /// With its port, if there is one.
    pub(crate) host: &'r str,
}

impl RequestOrigin<'_> {
    /// Whether an `Origin` (RFC 6454 section 6.1) is this one. A default port equals none; where the scheme
    /// is unknown behind a proxy, the host decides.
    pub(crate) fn is(&self, origin: &[u8]) -> bool {
        let (default_port, host) = match origin {
            [b'h', b't', b't', b'p', b's', b':', b'/', b'/', host @ ..] => (443, host),
            [b'h', b't', b't', b'p', b':', b'/', b'/', host @ ..] => (80, host),
            _ => return false,
        };
        match (Host::parse(host), Host::parse(self.host.as_bytes())) {
            (Ok(origin), Ok(own)) => {
                origin.is_named_like(&own)
                    && origin.port().unwrap_or(default_port) == own.port().unwrap_or(default_port)
            }
            _ => false,
        }
    }
}

/// The last member of a comma-separated list, which the nearest proxy has appended.
fn last_member(value: &[u8]) -> Option<&[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).rfind(|member| !member.is_empty())
}

/// The last element of `Forwarded` (RFC 7239), which the nearest proxy has appended.
#[derive(Debug, Default)]
struct ForwardedElement<'r> {
    host: Option<&'r [u8]>,
    proto: Option<&'r [u8]>,
}

impl<'r> ForwardedElement<'r> {
    fn last_of(head: &'r RequestHead) -> ForwardedElement<'r> {
        let field = head.headers().of_kind(HeaderKind::Forwarded).last();
        let element = field.and_then(|field| last_member(field.value)).unwrap_or_default();
        ForwardedElement { host: parameter(element, b"host"), proto: parameter(element, b"proto") }
    }
}

/// A parameter of an element of `Forwarded`, unquoted.
fn parameter<'r>(element: &'r [u8], name: &[u8]) -> Option<&'r [u8]> {
    element.split(|&byte| byte == b';').find_map(|pair| {
        let equals = pair.iter().position(|&byte| byte == b'=')?;
        let value = pair[equals + 1..].trim_ascii();
        let value = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
        pair[..equals].trim_ascii().eq_ignore_ascii_case(name).then_some(value)
    })
}

/// The hops of `X-Forwarded-For` or, where there is none, of `Forwarded`: from the right up to the first that
/// is no address.
fn forwarded_for(head: &RequestHead) -> Vec<IpAddr> {
    let members = |kind| {
        let fields = head.headers().of_kind(kind);
        let members =
            fields.flat_map(|field| field.value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii));
        members.filter(|member| !member.is_empty()).collect::<Vec<_>>()
    };
    let values = members(HeaderKind::XForwardedFor);
    let values = match values.is_empty() {
        false => values,
        true => members(HeaderKind::Forwarded)
            .into_iter()
            .map(|element| parameter(element, b"for").unwrap_or_default())
            .collect(),
    };
    let mut hops: Vec<_> = values.iter().rev().map_while(|member| hop_address(member)).collect();
    hops.reverse();
    hops
}

/// The address of a hop as proxies write it: bare, quoted, in brackets, with or without a port.
fn hop_address(member: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(member).ok()?.trim_matches('"').trim();
    let address = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (address, rest) = bracketed.split_once(']')?;
            let is_port = |port: &str| port.parse::<u16>().is_ok();
            (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port)).then_some(address)?
        }
        None => match text.split_once(':') {
            // Only an IPv4 address has a port without brackets.
            Some((address, port)) if port.parse::<u16>().is_ok() && !port.contains(':') => address,
            _ => text,
        },
    };
    address.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::http1::HeadLimits;

    fn seen(peer: &str, fields: &str) -> (IpAddr, String) {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let mut head = RequestHead::default();
        head.parse(format!("GET / HTTP/1.1\r\n{fields}\r\n").as_bytes(), &HeadLimits::default())
            .unwrap()
            .unwrap();
        let client = ClientAddr::new(peer.parse().unwrap(), &trusted, false);
        let mut lines = Vec::new();
        client.push_forwarding_lines(&head, "gw.test", &mut lines);
        (client.address(&head, &trusted), String::from_utf8(lines).unwrap())
    }

    #[test]
    fn an_untrusted_peer_is_the_client_whatever_it_says() {
        let (address, lines) =
            seen("192.0.2.1:5", "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: https\r\n");
        assert_eq!(address.to_string(), "192.0.2.1");
        assert_eq!(
            lines,
            "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Host: gw.test\r\nX-Forwarded-Proto: http\r\n\
             Forwarded: for=192.0.2.1;host=\"gw.test\";proto=http\r\n"
        );
    }

    #[test]
    fn of_a_trusted_chain_the_right_most_untrusted_hop_is_the_client() {
        for (chain, client) in [
            ("127.0.0.1, 203.0.113.9", "203.0.113.9"),
            ("203.0.113.9, 10.0.0.7", "203.0.113.9"),
            ("evil, 203.0.113.9, 10.0.0.7", "203.0.113.9"),
            ("203.0.113.9, evil", "10.0.0.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("203.0.113.7:51234", "203.0.113.7"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("\"[2001:db8::1]:443\"", "2001:db8::1"),
            ("\"203.0.113.7\"", "203.0.113.7"),
            ("203.0.113.7, , 10.0.0.7,", "203.0.113.7"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("203.0.113.7:70000", "10.0.0.1"),
            ("unknown", "10.0.0.1"),
        ] {
            let (address, _) = seen("10.0.0.1:5", &format!("X-Forwarded-For: {chain}\r\n"));
            assert_eq!(address.to_string(), client, "{chain}");
        }
    }

    #[test]
    fn addresses_of_ipv6_are_quoted_in_forwarded() {
        let (_, lines) = seen("[2001:db8::1]:5", "");
        assert!(lines.contains("Forwarded: for=\"[2001:db8::1]\";"), "{lines}");
    }

    #[test]
    fn a_trusted_proxy_may_write_forwarded_instead() {
        for (value, client, proto) in [
            ("for=203.0.113.7;proto=https;host=app.example", "203.0.113.7", "https"),
            ("for=\"[2001:db8::1]:4711\"; proto=HTTPS", "2001:db8::1", "https"),
            ("for=192.0.2.1, for=203.0.113.7;by=10.0.0.2", "203.0.113.7", "http"),
            ("for=_hidden", "10.0.0.1", "http"),
        ] {
            let (address, lines) = seen("10.0.0.1:5", &format!("Forwarded: {value}\r\n"));
            assert_eq!(address.to_string(), client, "{value}");
            assert!(lines.contains(&format!("X-Forwarded-Proto: {proto}\r\n")), "{value}: {lines}");
        }
        let (_, lines) = seen("10.0.0.1:5", "Forwarded: for=203.0.113.7;host=\"app.example:444\"\r\n");
        assert!(lines.contains("X-Forwarded-Host: app.example:444\r\n"), "{lines}");
        let (address, lines) = seen("192.0.2.1:5", "Forwarded: for=203.0.113.7;proto=https\r\n");
        assert!(address.to_string() == "192.0.2.1" && lines.contains("Proto: http\r\n"), "{lines}");
    }

    #[test]
    fn the_scheme_that_proxies_write_is_taken_as_meant() {
        for (values, proto) in [
            ("https", "https"),
            ("HTTPS", "https"),
            ("wss", "https"),
            ("ws", "http"),
            ("https, http", "http"),
            ("http, https", "https"),
            ("gopher", "http"),
        ] {
            let (_, lines) = seen("10.0.0.1:5", &format!("X-Forwarded-Proto: {values}\r\n"));
            assert!(lines.contains(&format!("X-Forwarded-Proto: {proto}\r\n")), "{values}: {lines}");
        }
    }

    #[test]
    fn an_origin_is_the_hosts_own_with_or_without_a_default_port() {
        for (host, origin, is_own) in [
            ("app.example:443", "https://app.example", true),
            ("app.example", "https://app.example:443", true),
            ("app.example:80", "http://app.example", true),
            ("APP.example", "https://app.example", true),
            ("app.example:8443", "https://app.example:8443", true),
            ("app.example:8443", "https://app.example", false),
            ("app.example", "https://evil.example", false),
            ("app.example", "https://app.example.evil", false),
            ("app.example", "null", false),
            ("app.example", "https://user@app.example", false),
        ] {
            let own = RequestOrigin { scheme: Scheme::Https, host };
            assert_eq!(own.is(origin.as_bytes()), is_own, "{host} {origin}");
        }
    }
}
