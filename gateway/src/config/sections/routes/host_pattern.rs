//! A pattern in a route's `hosts`: a name as in a `Host` field, or `*.` before one.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::super::prelude::*;
use super::super::upstreams::is_host;

/// The name without port, in lower case; an IPv6 address keeps its brackets.
pub(super) fn parse(text: &str) -> Result<HostPattern, InvalidValue> {
    let refuse = |why: &str, help: &str| refused(format!("the host {} {why}", quoted(text)), help);
    let lower = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if let Some(address) = lower.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return match address.parse::<Ipv6Addr>() {
            // As clients send it: RFC 5952 has one spelling for each address.
            Ok(address) => Ok(HostPattern::Exact(format!("[{address}]"))),
            Err(_) => refuse("is not an IPv6 address", "write it like \"[::1]\""),
        };
    }
    let (is_pattern, name) = match lower.strip_prefix("*.") {
        Some(name) => (true, name),
        None => (false, lower.as_str()),
    };
    // nginx's name for what no other server has.
    if ["*", "_"].contains(&name) && !is_pattern {
        return refuse("means every host", "leave `hosts` out for that");
    }
    if name.contains('*') {
        return refuse(
            "has a * that is not its first label",
            "write \"*.app.example\" for every name below app.example, or list the names",
        );
    }
    if lower.contains("://") || lower.contains('/') {
        return refuse("is a URL", "write the name alone, such as \"app.example\"");
    }
    if lower.contains(':') {
        return refuse(
            "has a port",
            "leave it out: a route applies to every port; an IPv6 address goes in brackets",
        );
    }
    if !lower.is_ascii() {
        return refuse("is not ASCII", "write an international name in its xn-- form");
    }
    if !is_host(name) {
        return refuse("is not a host name", "write it like \"app.example\" or \"*.app.example\"");
    }
    if !is_pattern {
        return Ok(HostPattern::Exact(lower));
    }
    if name.parse::<Ipv4Addr>().is_ok() || name.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return refuse("is a pattern of addresses", "patterns are for names: list the addresses");
    }
    Ok(HostPattern::Below(name.to_owned()))
}
