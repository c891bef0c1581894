//! Which addresses may be fetched from (SSRF): an address that a document names may be no closer to the gateway than where the document
//! came from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How close an address is (IANA's registries of special-purpose addresses), farther ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// The public internet.
    Public,
    /// A private network, carrier-grade NAT among them.
    Private,
    /// This machine.
    Loopback,
    /// Link-local, where clouds have their metadata, multicast, reserved and the like.
    Special,
}

/// What a URL may lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Wherever the operator says.
    Anywhere,
    /// What a document names that came from an address of this scope.
    From(Scope),
}

impl Reach {
    pub(super) fn allows(self, address: IpAddr) -> bool {
        match self {
            Reach::Anywhere => true,
            Reach::From(from) => scope(address) <= from && scope(address) != Scope::Special,
        }
    }
}

/// The scope of an address.
pub(super) fn scope(address: IpAddr) -> Scope {
    match address {
        IpAddr::V4(v4) => scope_v4(v4),
        IpAddr::V6(v6) => match embedded(v6) {
            Some(v4) => scope_v4(v4),
            None => scope_v6(v6),
        },
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped, NAT64 and 6to4.
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = v6.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match segments {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

fn scope_v6(v6: Ipv6Addr) -> Scope {
    let segments = v6.segments();
    // The metadata service of AWS.
    let is_metadata = segments == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254];
    match segments[0] {
        _ if v6.is_loopback() => Scope::Loopback,
        _ if is_metadata || segments[..2] == [0x2001, 0xdb8] => Scope::Special,
        first if first & 0xe000 == 0x2000 => Scope::Public,
        first if first & 0xfe00 == 0xfc00 => Scope::Private,
        _ => Scope::Special,
    }
}

fn scope_v4(v4: Ipv4Addr) -> Scope {
    let [a, b, c, _] = v4.octets();
    if v4.is_loopback() {
        return Scope::Loopback;
    }
    // The metadata service of Alibaba Cloud, which is among the addresses of carrier-grade NAT.
    let is_metadata = v4.octets() == [100, 100, 100, 200];
    let is_shared = a == 100 && b & 0xc0 == 64;
    if v4.is_private() || is_shared && !is_metadata {
        return Scope::Private;
    }
    let is_special = v4.is_link_local()
        || v4.is_documentation()
        || is_metadata
        || a == 0
        // Multicast, reserved, broadcast.
        || a >= 224
        || (a == 192 && b == 0 && c == 0)
        // Benchmarks.
        || (a == 198 && b & 0xfe == 18);
    if is_special { Scope::Special } else { Scope::Public }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_as_close_as_the_registries_say() {
        for (address, expected) in [
            ("1.1.1.1", Scope::Public),
            ("8.8.8.8", Scope::Public),
            ("172.32.0.1", Scope::Public),
            ("100.128.0.1", Scope::Public),
            ("192.0.1.1", Scope::Public),
            ("127.0.0.1", Scope::Loopback),
            ("127.255.0.9", Scope::Loopback),
            ("10.1.2.3", Scope::Private),
            ("172.16.0.1", Scope::Private),
            ("192.168.1.1", Scope::Private),
            ("100.64.0.1", Scope::Private),
            ("0.0.0.0", Scope::Special),
            ("169.254.169.254", Scope::Special),
            ("100.100.100.200", Scope::Special),
            ("192.0.0.8", Scope::Special),
            ("198.18.0.1", Scope::Special),
            ("203.0.113.5", Scope::Special),
            ("224.0.0.1", Scope::Special),
            ("255.255.255.255", Scope::Special),
            ("2606:4700::1111", Scope::Public),
            ("::1", Scope::Loopback),
            ("::", Scope::Special),
            ("::ffff:10.0.0.1", Scope::Private),
            ("::ffff:169.254.169.254", Scope::Special),
            ("::ffff:8.8.8.8", Scope::Public),
            ("::127.0.0.1", Scope::Special),
            ("64:ff9b::a00:1", Scope::Private),
            ("64:ff9b::808:808", Scope::Public),
            ("2002:7f00:1::", Scope::Loopback),
            ("fd00::1", Scope::Private),
            ("fd00:ec2::254", Scope::Special),
            ("fe80::1", Scope::Special),
            ("fec0::1", Scope::Special),
            ("ff02::1", Scope::Special),
            ("2001:db8::1", Scope::Special),
        ] {
            assert_eq!(scope(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn a_document_leads_no_closer_than_where_it_came_from_and_never_to_metadata() {
        use Scope::{Loopback, Private, Public};
        for (from, address, allowed) in [
            (Public, "8.8.8.8", true),
            (Public, "10.0.0.1", false),
            (Public, "127.0.0.1", false),
            (Private, "8.8.8.8", true),
            (Private, "10.0.0.1", true),
            (Private, "127.0.0.1", false),
            (Loopback, "10.0.0.1", true),
            (Loopback, "::1", true),
            (Loopback, "169.254.169.254", false),
            (Scope::Special, "169.254.169.254", false),
        ] {
            assert_eq!(Reach::From(from).allows(address.parse().unwrap()), allowed, "{from:?} {address}");
        }
        assert!(Reach::Anywhere.allows("169.254.169.254".parse().unwrap()), "the operator named it");
    }
}
