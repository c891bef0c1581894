//! The client's address, and the forwarding headers for upstreams (`X-Forwarded-*`, RFC 7239 `Forwarded`).

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::http1::{CanonicalTarget, HeaderField, HeaderKind, Host, RequestHead};

/// The peer of a connection.
#[derive(Debug)]
pub(crate) struct ClientAddr {
    address: IpAddr,
    /// The formatted address, for all requests.
    text: Box<str>,
    trusted: bool,
    /// Whether the connection is TLS.
    secure: bool,
    /// Whether a PROXY protocol header has named the address.
    relayed: bool,
}

impl ClientAddr {
    pub(crate) fn new(peer: SocketAddr, trusted_proxies: &[IpNet], secure: bool) -> ClientAddr {
        let address = peer.ip().to_canonical();
        let text = text_of(address).into();
        ClientAddr { address, text, trusted: contains(trusted_proxies, address), secure, relayed: false }
    }

    /// The peer of a connection that began with a PROXY protocol header of this client. Whether forwarding headers are used is
    /// a matter of who has sent them, which is `peer`, not of the address that it names.
    pub(crate) fn relayed(
        peer: SocketAddr,
        client: SocketAddr,
        trusted_proxies: &[IpNet],
        secure: bool,
    ) -> ClientAddr {
        let trusted = contains(trusted_proxies, peer.ip().to_canonical());
        ClientAddr { trusted, relayed: true, ..ClientAddr::new(client, &[], secure) }
    }

    /// Whether the peer's connection to the gateway is TLS.
    pub(crate) fn is_secure(&self) -> bool {
        self.secure
    }

    /// Whether the peer is a trusted proxy, whose forwarding headers are used.
    pub(crate) fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// Whether the address of the connection is that of a trusted proxy, whose clients share its connections.
    pub(crate) fn is_proxy(&self, trusted_proxies: &[IpNet]) -> bool {
        contains(trusted_proxies, self.address)
    }

    /// The client's address: the right-most hop that is not a trusted proxy.
    pub(crate) fn address(&self, head: &RequestHead, trusted_proxies: &[IpNet]) -> IpAddr {
        if !self.trusted || (self.relayed && !contains(trusted_proxies, self.address)) {
            return self.address;
        }
        let hops = forwarded_for(head);
        let first_untrusted = hops.iter().rev().find(|hop| !contains(trusted_proxies, **hop));
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
            return RequestOrigin { scheme: own, host, port: None };
        }
        let forwarded = ForwardedElement::of(head);
        // The scheme and the port that the client used: each proxy of a chain adds those of its own connection at the end.
        let protos = head.headers().of_kind(HeaderKind::XForwardedProto).next();
        let proto = protos.and_then(|field| field.members().next());
        let scheme = proto.or(forwarded.proto).and_then(Scheme::of_proxy);
        let scheme = scheme.or_else(|| Scheme::of_ssl(named(head, "X-Forwarded-Ssl")?)).unwrap_or(own);
        let port =
            named(head, "X-Forwarded-Port").and_then(|port| std::str::from_utf8(port).ok()?.parse().ok());
        let port = port.filter(|port| *port != 0);
        // The host only of the nearest proxy: a client may have written those before.
        let hosts = head.headers().of_kind(HeaderKind::XForwardedHost).last();
        let known_as = hosts.and_then(|field| field.members().next_back()).or(forwarded.host);
        let known_as = known_as.and_then(|host| Host::parse(host).ok()).map(|host| host.as_str());
        RequestOrigin { scheme, host: known_as.unwrap_or(host), port }
    }

    /// Where the client sent a request, by its `Host`.
    pub(crate) fn own_origin<'r>(&self, head: &'r RequestHead) -> RequestOrigin<'r> {
        let host = head.headers().only(HeaderKind::Host).map_or(&b""[..], |field| field.value);
        self.origin(head, std::str::from_utf8(host).unwrap_or_default())
    }

    /// What trusted proxies have taken off the front of the path (`X-Forwarded-Prefix`): empty, or whole segments. Each proxy of a
    /// chain adds what it took off.
    pub(crate) fn prefix(&self, head: &RequestHead) -> String {
        if !self.trusted {
            return String::new();
        }
        let members = all_named(head, "X-Forwarded-Prefix").flat_map(|field| field.members());
        let members: Option<Vec<&str>> = members.map(plain_prefix).collect();
        members.unwrap_or_default().concat()
    }

    /// Appends `X-Forwarded-*` and `Forwarded` lines in wire format for a request with this `Host` (none in
    /// HTTP/1.0), of whose path `stripped` is taken off. What an untrusted peer sent under these names is ignored.
    pub(crate) fn push_forwarding_lines(
        &self,
        head: &RequestHead,
        host: &str,
        stripped: &str,
        lines: &mut Vec<u8>,
    ) {
        let mut before = if self.trusted { forwarded_for(head) } else { Vec::new() };
        if self.relayed && before.last() == Some(&self.address) {
            // The balancer has named the client twice.
            before.pop();
        }
        let RequestOrigin { scheme, host, port } = self.origin(head, host);
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
        let prefix = self.prefix(head) + stripped;
        if !prefix.is_empty() {
            ["X-Forwarded-Prefix: ", &prefix, "\r\n"].into_iter().for_each(&mut put);
        }
        if let Some(port) = port {
            put(&format!("X-Forwarded-Port: {port}\r\n"));
        }
        if self.trusted && named(head, "X-Forwarded-Ssl").is_some() {
            let ssl = if scheme == Scheme::Https { "on" } else { "off" };
            ["X-Forwarded-Ssl: ", ssl, "\r\n"].into_iter().for_each(&mut put);
        }
    }
}

/// An address as text, as `Display` has it. That takes a tenth of what a connection's set-up takes; most addresses are of IPv4.
fn text_of(address: IpAddr) -> String {
    let IpAddr::V4(v4) = address else { return address.to_string() };
    let mut text = String::with_capacity("255.255.255.255".len());
    for (place, octet) in v4.octets().into_iter().enumerate() {
        if place > 0 {
            text.push('.');
        }
        text.push_str(itoa::Buffer::new().format(octet));
    }
    text
}

fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// The fields of exactly that name, which is one of those that are removed from requests.
fn all_named<'r>(head: &'r RequestHead, name: &'static str) -> impl Iterator<Item = HeaderField<'r>> {
    let fields = head.headers().of_kind(HeaderKind::RoutingOverride);
    fields.filter(move |field| field.name.eq_ignore_ascii_case(name.as_bytes()))
}

/// What proxies say of the client under that name: the first member.
fn named<'r>(head: &'r RequestHead, name: &'static str) -> Option<&'r [u8]> {
    all_named(head, name).next().and_then(|field| field.members().next())
}

/// A prefix that can be put before a path: segments of plain characters, without the slash at their end.
fn plain_prefix(member: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(member).ok()?.trim_end_matches('/');
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~!$&'()*+=:@%".contains(&b);
    if text.is_empty() {
        return Some(text);
    }
    let path = CanonicalTarget::parse(&http::Method::GET, text.as_bytes()).ok()?;
    let is_prefix = text.starts_with('/') && text.len() <= MAX_PREFIX_LEN && text.bytes().all(is_plain);
    (is_prefix && path.without_oddities().is_ok()).then_some(text)
}

/// In bytes.
const MAX_PREFIX_LEN: usize = 256;

/// The scheme of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    /// The scheme as proxies write it, including WebSocket's.
    pub(crate) fn of_proxy(proto: &[u8]) -> Option<Scheme> {
        let is_one_of = |names: [&[u8]; 2]| names.iter().any(|name| proto.eq_ignore_ascii_case(name));
        match proto {
            _ if is_one_of([b"https", b"wss"]) => Some(Scheme::Https),
            _ if is_one_of([b"http", b"ws"]) => Some(Scheme::Http),
            _ => None,
        }
    }

    /// `X-Forwarded-Ssl`: `on` or `off`.
    fn of_ssl(value: &[u8]) -> Option<Scheme> {
        match value {
            _ if value.eq_ignore_ascii_case(b"on") => Some(Scheme::Https),
            _ if value.eq_ignore_ascii_case(b"off") => Some(Scheme::Http),
            _ => None,
        }
    }

    /// The port of a host that names none.
    pub(crate) fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }

    /// As in a URL.
    pub(crate) fn name(self) -> &'static str {
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
    /// What `X-Forwarded-Port` says: the port of a host that names none.
    pub(crate) port: Option<u16>,
}

impl RequestOrigin<'_> {
    /// The host with its port, if that is not the scheme's own.
    pub(crate) fn host_with_port(&self) -> String {
        match (Host::parse(self.host.as_bytes()), self.unusual_port()) {
            (Ok(host), Some(port)) if host.port().is_none() => {
                format!("{}:{port}", self.host)
            }
            _ => self.host.to_owned(),
        }
    }

    /// What `X-Forwarded-Port` says, unless it is a default port: behind two proxies it is often that of the connection
    /// between them.
    fn unusual_port(&self) -> Option<u16> {
        self.port.filter(|port| ![80, 443].contains(port))
    }

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
                    && origin.port().unwrap_or(default_port)
                        == own.port().or(self.unusual_port()).unwrap_or(default_port)
            }
            _ => false,
        }
    }
}

/// The parts of a value between separators outside of quoted strings (RFC 9110 section 5.6.4). Where a quote stays open, every
/// separator counts: what a client began must not hide what proxies have appended.
fn split_unquoted(value: &[u8], separator: u8) -> Vec<&[u8]> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, &byte) in value.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if byte == separator && !quoted => {
                parts.push(&value[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if quoted {
        return value.split(|&byte| byte == separator).collect();
    }
    parts.push(&value[start..]);
    parts
}

/// The elements of `Forwarded` (RFC 7239 section 4).
fn forwarded_elements(head: &RequestHead) -> impl Iterator<Item = &[u8]> {
    let fields = head.headers().of_kind(HeaderKind::Forwarded);
    let elements = fields.flat_map(|field| split_unquoted(field.value, b','));
    elements.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// What `Forwarded` says of the host, by the nearest proxy, and of the scheme that the client used.
#[derive(Debug, Default)]
struct ForwardedElement<'r> {
    host: Option<&'r [u8]>,
    proto: Option<&'r [u8]>,
}

impl<'r> ForwardedElement<'r> {
    fn of(head: &'r RequestHead) -> ForwardedElement<'r> {
        if !head.headers().has(HeaderKind::Forwarded) {
            return ForwardedElement::default();
        }
        let host = forwarded_elements(head).last().and_then(|element| parameter(element, b"host"));
        let proto = forwarded_elements(head).find_map(|element| parameter(element, b"proto"));
        ForwardedElement { host, proto }
    }
}

/// A parameter of an element of `Forwarded`, unquoted.
fn parameter<'r>(element: &'r [u8], name: &[u8]) -> Option<&'r [u8]> {
    split_unquoted(element, b';').into_iter().find_map(|pair| {
        let equals = pair.iter().position(|&byte| byte == b'=')?;
        let value = pair[equals + 1..].trim_ascii();
        let value = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
        pair[..equals].trim_ascii().eq_ignore_ascii_case(name).then_some(value)
    })
}

/// The hops of `X-Forwarded-For` or, where there is none, of `Forwarded`: from the right up to the first that
/// is no address.
fn forwarded_for(head: &RequestHead) -> Vec<IpAddr> {
    let fields = head.headers().of_kind(HeaderKind::XForwardedFor);
    let mut values: Vec<&[u8]> = fields.flat_map(|field| field.members()).collect();
    if values.is_empty() {
        let elements = forwarded_elements(head);
        values = elements.map(|element| parameter(element, b"for").unwrap_or_default()).collect();
    }
    let mut hops: Vec<_> = values.iter().rev().map_while(|member| hop_address(member)).collect();
    hops.reverse();
    hops
}

/// The address of a hop as proxies write it: bare, quoted, in brackets, with a zone, with a port.
fn hop_address(member: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(member).ok()?.trim_matches('"').trim();
    if text.contains('\\') {
        // Quoted pairs (RFC 9110 section 5.6.4).
        return hop_address(text.replace('\\', "").as_bytes());
    }
    let (address, port) = match text.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?,
        None => match text.find(':') {
            // Only an IPv4 address has a port without brackets.
            Some(colon) if !text[colon + 1..].contains(':') => text.split_at(colon),
            _ => (text, ""),
        },
    };
    if !port.is_empty() && !is_node_port(port.strip_prefix(':')?) {
        return None;
    }
    match address.split_once('%') {
        // The zone is an interface of the proxy's (RFC 4007 section 11).
        Some((address, zone)) if !zone.is_empty() => {
            address.parse::<std::net::Ipv6Addr>().ok().map(IpAddr::V6)
        }
        _ => address.parse::<IpAddr>().ok().map(|address| address.to_canonical()),
    }
}

/// A port as proxies write it: digits, an obfuscated one (RFC 7239 section 6.3), or nothing.
fn is_node_port(port: &str) -> bool {
    match port.strip_prefix('_') {
        Some(hidden) => hidden.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)),
        None => port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::http1::HeadLimits;

    #[test]
    fn an_address_is_written_as_the_standard_library_writes_it() {
        for text in ["0.0.0.0", "255.255.255.255", "10.2.30.199", "2001:db8::1", "::1"] {
            assert_eq!(text_of(text.parse().unwrap()), text);
        }
    }

    fn seen(peer: &str, fields: &str) -> (IpAddr, String) {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let mut head = RequestHead::default();
        head.parse(format!("GET / HTTP/1.1\r\n{fields}\r\n").as_bytes(), &HeadLimits::default())
            .unwrap()
            .unwrap();
        let client = ClientAddr::new(peer.parse().unwrap(), &trusted, false);
        let mut lines = Vec::new();
        client.push_forwarding_lines(&head, "gw.test", "", &mut lines);
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
            ("203.0.113.7:70000", "203.0.113.7"),
            ("203.0.113.7:", "203.0.113.7"),
            ("203.0.113.7:_a.b-c", "203.0.113.7"),
            ("[2001:db8::1]:_hidden", "2001:db8::1"),
            ("[::ffff:203.0.113.7]:80", "203.0.113.7"),
            ("fe80::1%eth0", "fe80::1"),
            ("[fe80::1%25eth0]:443", "fe80::1"),
            ("203.0.113.7%eth0", "10.0.0.1"),
            ("203.0.113.7:x", "10.0.0.1"),
            ("203.0.113.7x", "10.0.0.1"),
            ("[2001:db8::1]443", "10.0.0.1"),
            ("[2001:db8::1", "10.0.0.1"),
            (":443", "10.0.0.1"),
            ("unknown", "10.0.0.1"),
            ("unknown, 203.0.113.7", "203.0.113.7"),
            ("203.0.113.7, _hidden, 10.0.0.7", "10.0.0.7"),
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
            ("for=203.0.113.7;proto=https, for=10.0.0.7;proto=http", "203.0.113.7", "https"),
            ("for=\"203.0.113.7:_x\";ext=\"a,b;proto=ftp\";proto=https", "203.0.113.7", "https"),
            ("for=\"\\2\\03.0.113.7\"", "203.0.113.7", "http"),
            ("for=192.0.2.1;x=\", for=203.0.113.7;proto=https", "203.0.113.7", "https"),
            ("for=192.0.2.1;x=\", for=\"[2001:db8::1]:443\";proto=https", "2001:db8::1", "https"),
            ("for=192.0.2.1;x=\"\\, for=\"203.0.113.7\";proto=https", "203.0.113.7", "https"),
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
            ("https, http", "https"),
            ("https,http,http", "https"),
            ("http, https", "http"),
            (", wss", "https"),
            ("https\r\nX-Forwarded-Proto: http", "https"),
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
            let own = RequestOrigin { scheme: Scheme::Https, host, port: None };
            assert_eq!(own.is(origin.as_bytes()), is_own, "{host} {origin}");
        }
    }

    #[test]
    fn a_trusted_proxy_states_port_prefix_and_tls_too() {
        for (fields, lines, absent) in [
            ("X-Forwarded-Ssl: on\r\n", "Proto: https\r\n|X-Forwarded-Ssl: on\r\n", "Port"),
            (
                "X-Forwarded-Ssl: on\r\nX-Forwarded-Proto: http\r\n",
                "Proto: http\r\n|X-Forwarded-Ssl: off\r\n",
                "",
            ),
            ("X-Forwarded-Ssl: off\r\n", "Proto: http\r\n|X-Forwarded-Ssl: off\r\n", "https"),
            ("X-Forwarded-Port: 8443\r\n", "X-Forwarded-Port: 8443\r\n", "Ssl"),
            ("X-Forwarded-Port: 70000\r\n", "", "X-Forwarded-Port"),
            ("X-Forwarded-Port: 0\r\n", "", "X-Forwarded-Port"),
            ("X-Forwarded-Port: 443, 80\r\n", "X-Forwarded-Port: 443\r\n", ""),
            ("X-Forwarded-Host: evil.test, app.example\r\n", "X-Forwarded-Host: app.example\r\n", "evil"),
            ("X-Forwarded-Prefix: /shop/\r\n", "X-Forwarded-Prefix: /shop\r\n", ""),
            (
                "X-Forwarded-Prefix: /a, /b\r\nx-forwarded-prefix: /c\r\n",
                "X-Forwarded-Prefix: /a/b/c\r\n",
                "",
            ),
            ("X-Forwarded-Prefix: /\r\n", "", "X-Forwarded-Prefix"),
            ("X-Forwarded-Prefix: //evil.test\r\n", "", "X-Forwarded-Prefix"),
            ("X-Forwarded-Prefix: /a/../b\r\n", "", "X-Forwarded-Prefix"),
            ("X-Forwarded-Prefix: https://evil.test\r\n", "", "X-Forwarded-Prefix"),
            ("X-Forwarded-Prefix: /a\"b\r\n", "", "X-Forwarded-Prefix"),
            ("X_Forwarded_Prefix: /a\r\nX_Forwarded_Port: 1\r\n", "", "X-Forwarded-P[r]efix"),
        ] {
            let (_, written) = seen("10.0.0.1:5", fields);
            assert!(lines.split('|').all(|line| written.contains(line)), "{fields}: {written}");
            assert!(absent.is_empty() || !written.contains(absent), "{fields}: {written}");
            let (_, untrusted) = seen("192.0.2.1:5", fields);
            assert!(
                !["Port", "Prefix", "Ssl", "https"].iter().any(|name| untrusted.contains(name)),
                "{untrusted}"
            );
        }
    }

    #[test]
    fn a_port_that_a_trusted_proxy_states_is_part_of_the_own_origin() {
        let own = RequestOrigin { scheme: Scheme::Https, host: "app.example", port: Some(8443) };
        assert!(own.is(b"https://app.example:8443") && !own.is(b"https://app.example"));
        for port in [443, 80] {
            let own = RequestOrigin { scheme: Scheme::Https, host: "app.example", port: Some(port) };
            assert!(own.is(b"https://app.example") && own.host_with_port() == "app.example");
        }
    }

    #[test]
    fn with_the_proxy_protocol_trust_goes_by_the_peer() {
        let trusted: [IpNet; 1] = ["10.0.0.0/8".parse().unwrap()];
        let mut head = RequestHead::default();
        let fields = "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n";
        head.parse(format!("GET / HTTP/1.1\r\n{fields}\r\n").as_bytes(), &HeadLimits::default())
            .unwrap()
            .unwrap();
        for (peer, client, address, proto) in [
            // The balancer is no trusted proxy: a client behind it has written the fields, whatever its address.
            ("192.0.2.1:5", "10.0.0.7:1", "10.0.0.7", "http"),
            // It is one, and the client is not: the fields are its own, the address it has named.
            ("10.0.0.1:5", "198.51.100.4:1", "198.51.100.4", "https"),
            // Both are: the client is whom the proxy behind the balancer names.
            ("10.0.0.1:5", "10.0.0.7:1", "203.0.113.9", "https"),
        ] {
            let relayed =
                ClientAddr::relayed(peer.parse().unwrap(), client.parse().unwrap(), &trusted, false);
            assert_eq!(relayed.address(&head, &trusted).to_string(), address, "{peer} {client}");
            assert_eq!(relayed.origin(&head, "a").scheme.name(), proto, "{peer} {client}");
        }
    }
}
