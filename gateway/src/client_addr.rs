//! Whom a connection comes from, and what upstreams are told about that.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::http1::{HeaderField, HeaderKind, RequestHead};

/// The peer of a connection.
#[derive(Debug)]
pub(crate) struct ClientAddr {
    address: IpAddr,
    /// The address, written out once for all requests.
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

    /// Whether it speaks TLS to the gateway.
    pub(crate) fn is_secure(&self) -> bool {
        self.secure
    }

    /// Whether what the peer says of other hops is believed.
    pub(crate) fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// The client's address, as far as trusted proxies tell: the right-most hop that is not one of them.
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

    /// Appends `X-Forwarded-*` and `Forwarded`, ready for the wire, for a request that arrived with this `Host`. What an
    /// untrusted peer sent under these names is not looked at.
    /// An HTTP/1.0 request may have come without a host; then none is told.
    pub(crate) fn push_forwarding_lines(&self, head: &RequestHead, host: &str, lines: &mut Vec<u8>) {
        let before = if self.trusted { forwarded_for(head) } else { Vec::new() };
        let believed = |kind| head.headers().only(kind).filter(|_| self.trusted);
        let proto = match believed(HeaderKind::XForwardedProto) {
            Some(HeaderField { value: b"https", .. }) => "https",
            Some(_) => "http",
            None if self.secure => "https",
            None => "http",
        };
        let host = believed(HeaderKind::XForwardedHost)
            .and_then(|field| crate::http1::Host::parse(field.value).ok())
            .map_or(host, |host| host.as_str());
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
        // The last element carries what is known of this hop (RFC 7239 section 4).
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

/// The addresses of `X-Forwarded-For`, from the right up to the first thing that is none.
fn forwarded_for(head: &RequestHead) -> Vec<IpAddr> {
    let members: Vec<_> = head
        .headers()
        .of_kind(HeaderKind::XForwardedFor)
        .flat_map(|f| f.value.split(|&b| b == b',').map(<[u8]>::trim_ascii))
        .collect();
    let address =
        |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<IpAddr>().ok().map(|a| a.to_canonical());
    let mut hops: Vec<_> = members.iter().rev().map_while(|member| address(member)).collect();
    hops.reverse();
    hops
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
}
