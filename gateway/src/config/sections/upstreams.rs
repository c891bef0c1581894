//! `[upstreams.NAME]`: the servers behind the gateway.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use super::{HOUR, MINUTE, seconds, up_to};
use crate::config::diagnostic::Diagnostic;
use crate::config::entry::{Entry, Refusal, quoted};
use crate::config::place::Place;
use crate::config::report::Report;
use crate::config::settings::{Route, RouteTarget, Upstream, UpstreamUrl};
use crate::config::table::Table;

/// All upstreams that were named, those with mistakes too, so that routes to them are not mistakes as well.
pub(super) struct Upstreams<'a> {
    named: BTreeMap<String, (Option<Upstream>, Place)>,
    report: &'a Report,
}

pub(super) fn upstreams<'a>(table: &mut Table<'a>) -> Upstreams<'a> {
    let mut named = BTreeMap::new();
    for (name, entry) in table.take_all() {
        if !is_name(&name) {
            entry.report(
                Diagnostic::error(format!("{} is not a name for an upstream", quoted(&name)))
                    .at(entry.key_place())
                    .help("use lower-case letters, digits, hyphens and underscores"),
            );
        }
        named.insert(name, (entry.table(upstream), entry.key_place()));
    }
    Upstreams { named, report: table.report() }
}

impl Upstreams<'_> {
    pub(super) fn names(&self) -> Vec<&str> {
        self.named.keys().map(String::as_str).collect()
    }

    /// What is served; warns of upstreams that no route leads to.
    pub(super) fn settings(self, routes: &[Route]) -> BTreeMap<String, Upstream> {
        let leads_to = |route: &Route, wanted: &str| matches!(&route.target, RouteTarget::Upstream { name, .. } if name == wanted);
        for (name, (_, place)) in &self.named {
            if !routes.iter().any(|route| leads_to(route, name)) {
                let message = format!("no route leads to the upstream {}", quoted(name));
                self.report.push(Diagnostic::warning(message).at(place.clone()));
            }
        }
        self.named.into_iter().filter_map(|(name, (upstream, _))| Some((name, upstream?))).collect()
    }
}

fn upstream(table: &mut Table<'_>) -> Upstream {
    let urls = table.take("urls");
    Upstream {
        urls: urls_of(table, &urls),
        connect_timeout: table.take("connect_timeout").duration(up_to(5 * MINUTE)).unwrap_or(seconds(5)),
        response_timeout: table.take("response_timeout").duration(up_to(HOUR)).unwrap_or(MINUTE),
        body_timeout: table.take("body_timeout").duration(up_to(HOUR)).unwrap_or(MINUTE),
        idle_timeout: table.take("idle_timeout").duration(up_to(HOUR)).unwrap_or(seconds(30)),
        pool_size: table.take("pool_size").integer(0..=10_000).unwrap_or(64),
    }
}

fn urls_of(table: &Table<'_>, entry: &Entry<'_>) -> Vec<UpstreamUrl> {
    let help = "write it like urls = [\"http://127.0.0.1:9000\"]";
    if !entry.is_given() {
        let message = format!("`{}` is missing", entry.name());
        table.report().push_missing(Diagnostic::error(message).at(table.place()).help(help));
        return Vec::new();
    }
    let elements = entry.list();
    if elements.as_ref().is_some_and(Vec::is_empty) {
        entry.refuse(Refusal::new("an upstream needs at least one URL").help(help));
    }
    elements.unwrap_or_default().iter().filter_map(|element| element.parse(url)).collect()
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
}

fn url(text: &str) -> Result<UpstreamUrl, Refusal> {
    let example = "write it like \"http://127.0.0.1:9000\"";
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(Refusal::new(format!("{} is not a URL", quoted(text))).help(example));
    };
    // First of all, so that a password is never part of a message.
    if rest.contains('@') {
        return Err(Refusal::new("an upstream's URL may not contain a user name or a password").help(example));
    }
    if scheme.eq_ignore_ascii_case("https") {
        return Err(Refusal::new("https:// to an upstream is not supported yet")
            .help("let the upstream listen on plain HTTP where only the gateway reaches it, or put a TLS proxy between"));
    }
    if !scheme.eq_ignore_ascii_case("http") {
        return Err(Refusal::new(format!("unknown scheme {}", quoted(scheme))).help(example));
    }
    if let Some(end) = rest.find(['/', '?', '#']) {
        return Err(Refusal::new(format!("{} goes on after host and port", quoted(text)))
            .help(format!("write \"http://{}\"; the path is the request's own", &rest[..end])));
    }
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok().filter(|p| *p != 0)),
        _ => (rest, Some(80)),
    };
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().ok().map(|address| address.to_string()),
        None => is_host(host).then(|| host.to_ascii_lowercase()),
    };
    match (host, port) {
        (Some(host), Some(port)) => Ok(UpstreamUrl { host, port }),
        _ => Err(Refusal::new(format!("{} is not http://host:port", quoted(text))).help(example)),
    }
}

/// A DNS name or an IPv4 address: labels of at most 63 letters, digits, hyphens and, as in Docker, underscores.
pub(super) fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    host.len() <= 253 && host.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::test_support::{complaints, load_text, minimal, settings};
    use super::*;

    #[test]
    fn urls_are_host_and_port() {
        for (text, host, port) in [
            ("http://127.0.0.1:9000", "127.0.0.1", 9000),
            ("http://Demo.internal", "demo.internal", 80),
            ("HTTP://my_app:1", "my_app", 1),
            ("http://[::1]:9000", "::1", 9000),
            ("http://[FD00::1]", "fd00::1", 80),
        ] {
            assert_eq!(url(text), Ok(UpstreamUrl { host: host.into(), port }), "{text}");
        }
    }

    #[test]
    fn other_urls_are_refused() {
        for (text, message, help) in [
            ("127.0.0.1:9000", "is not a URL", "http://127.0.0.1:9000"),
            ("https://a.example", "https:// to an upstream is not supported yet", "TLS proxy"),
            ("ftp://a.example", "unknown scheme `ftp`", ""),
            ("http://u:hunter2@a.example", "a user name or a password", ""),
            ("http://a.example/x", "goes on after host and port", "write \"http://a.example\""),
            ("http://a.example:80/", "goes on after", "write \"http://a.example:80\""),
            ("http://a.example?x", "goes on after", ""),
            ("http://a.example:0", "is not http://host:port", ""),
            ("http://a.example:x", "is not http://host:port", ""),
            ("http://", "is not http://host:port", ""),
            ("http://a..b", "is not http://host:port", ""),
            ("http://::1:80", "is not http://host:port", ""),
        ] {
            let config = minimal() + &format!("[upstreams.b]\nurls = [\"{text}\"]");
            let complaints = complaints(config);
            complaints.only(message, help);
            complaints.only("`upstreams.b.urls[0]`", "");
            assert!(!complaints.text().contains("hunter2"));
        }
    }

    #[test]
    fn an_upstream_needs_a_name_and_a_url() {
        for (config, message) in [
            ("[upstreams.b]", "`upstreams.b.urls` is missing"),
            ("[upstreams.b]\nurls = []", "`upstreams.b.urls`: an upstream needs at least one URL"),
            ("[upstreams.b]\nurls = \"http://a\"", "expected a list such as"),
            ("[upstreams]\nb = \"http://a\"", "`upstreams.b`: expected a table, found a string"),
            ("[upstreams.B]\nurls = [\"http://a\"]", "`B` is not a name for an upstream"),
        ] {
            complaints(minimal() + config).only(message, "");
        }
    }

    #[test]
    fn an_upstream_that_nothing_leads_to_is_warned_about() {
        let loaded = load_text(minimal() + "[upstreams.spare]\nurls = [\"http://a\"]").unwrap();
        assert_eq!(loaded.warnings.len(), 1);
        assert!(loaded.warnings.to_string().contains("no route leads to the upstream `spare`"));
        assert_eq!(settings(minimal()).upstreams.len(), 1);
    }
}
