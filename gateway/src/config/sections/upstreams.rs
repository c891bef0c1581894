//! `[upstreams.NAME]`: the servers behind the gateway.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::time::Duration;

use http::Method;

use super::redis::existing_file;
use super::{DAY, HOUR, MINUTE, seconds, up_to};
use crate::config::diagnostic::Diagnostic;
use crate::config::entry::{Entry, InvalidValue, quoted};
use crate::config::report::Report;
use crate::config::settings::{
    HealthCheck, HostHeader, Patience, Route, RoutePatience, RouteTarget, Upstream, UpstreamProtocol,
    UpstreamTls, UpstreamUrl,
};
use crate::config::source_span::SourceSpan;
use crate::config::table::Table;
use crate::http1::{CanonicalTarget, Host};

/// All upstreams that were named, those with mistakes too, so that routes to them are not mistakes as well.
pub(super) struct Upstreams<'a> {
    named: BTreeMap<String, (Option<Upstream>, SourceSpan)>,
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

const DEFAULT_PATIENCE: Patience = Patience { response: MINUTE, body: MINUTE, total: None, retries: 1 };

/// What an upstream says of its patience, and a route that knows better.
pub(super) struct PatienceEntries<'c> {
    response: Entry<'c>,
    body: Entry<'c>,
    total: Entry<'c>,
    retries: Entry<'c>,
}

impl<'c> PatienceEntries<'c> {
    pub(super) fn take(table: &mut Table<'c>) -> PatienceEntries<'c> {
        PatienceEntries {
            response: table.take("response_timeout"),
            body: table.take("body_timeout"),
            total: table.take("total_timeout"),
            retries: table.take("retries"),
        }
    }

    pub(super) fn all(&self) -> [&Entry<'c>; 4] {
        [&self.response, &self.body, &self.total, &self.retries]
    }

    pub(super) fn read(&self) -> RoutePatience {
        let some = |duration: Duration| (!duration.is_zero()).then_some(duration);
        RoutePatience {
            response: self.response.duration(up_to(HOUR)),
            body: self.body.duration(up_to(HOUR)),
            total: self.total.duration(Duration::ZERO..=DAY).map(some),
            retries: self.retries.integer(0..=10),
        }
    }
}

fn upstream(table: &mut Table<'_>) -> Upstream {
    let urls_entry = table.take("urls");
    let urls = urls_of(table, &urls_entry);
    let is_secure = |url: &UpstreamUrl| matches!(url, UpstreamUrl::Tcp { secure: true, .. });
    Upstream {
        protocol: table
            .take("protocol")
            .choice(&[("http1", UpstreamProtocol::Http1), ("http2", UpstreamProtocol::Http2)])
            .unwrap_or(UpstreamProtocol::Http1),
        host: host_header(&table.take("host_header"), &urls),
        connect_timeout: table.take("connect_timeout").duration(up_to(5 * MINUTE)).unwrap_or(seconds(5)),
        patience: PatienceEntries::take(table).read().with(DEFAULT_PATIENCE),
        idle_timeout: table.take("idle_timeout").duration(up_to(HOUR)).unwrap_or(seconds(30)),
        pool_size: table.take("pool_size").integer(0..=10_000).unwrap_or(64),
        max_connections: table.take("max_connections").integer(0..=1_000_000).filter(|n| *n > 0),
        max_pending: table.take("max_pending").integer(0..=100_000).unwrap_or(100),
        pending_timeout: table.take("pending_timeout").duration(up_to(MINUTE)).unwrap_or(seconds(1)),
        retry_budget: table.take("retry_budget").integer(0..=100).unwrap_or(20),
        resolve_interval: table.take("resolve_interval").duration(seconds(1)..=DAY).unwrap_or(seconds(30)),
        max_failures: table.take("max_failures").integer(0..=1000).unwrap_or(3),
        eject_for: table.take("eject_for").duration(up_to(MINUTE)).unwrap_or(seconds(1)),
        slow_start: table.take("slow_start").duration(Duration::ZERO..=HOUR).unwrap_or(Duration::ZERO),
        health: health(table),
        tls: tls(table, urls.iter().any(is_secure)),
        urls,
    }
}

fn host_header(entry: &Entry<'_>, urls: &[UpstreamUrl]) -> HostHeader {
    let parse = |text: &str| match text {
        "client" => Ok(HostHeader::Client),
        "upstream" if urls.windows(2).any(|pair| pair[0].authority() != pair[1].authority()) => {
            Err(InvalidValue::new("the URLs have different hosts")
                .help("name the one that the servers shall see, such as host_header = \"app.internal\""))
        }
        "upstream" => Ok(HostHeader::Upstream),
        name if Host::parse(name.as_bytes()).is_ok() => Ok(HostHeader::Fixed(name.to_owned())),
        other => Err(InvalidValue::new(format!("{} is not a host", quoted(other)))
            .help("write \"client\", \"upstream\", or a name such as \"app.internal\"")),
    };
    entry.parse(parse).unwrap_or(HostHeader::Client)
}

fn health(table: &mut Table<'_>) -> Option<HealthCheck> {
    let path = table.take("health_path");
    let options =
        ["health_interval", "health_timeout", "unhealthy_after", "healthy_after"].map(|key| table.take(key));
    let [interval, timeout, unhealthy_after, healthy_after] = &options;
    let check = HealthCheck {
        interval: interval.duration(Duration::from_millis(100)..=HOUR).unwrap_or(seconds(5)),
        timeout: timeout.duration(up_to(5 * MINUTE)).unwrap_or(seconds(2)),
        unhealthy_after: unhealthy_after.integer(1..=1000).unwrap_or(3),
        healthy_after: healthy_after.integer(1..=1000).unwrap_or(2),
        path: path.parse(health_path).unwrap_or_default(),
    };
    if !path.is_given() {
        for option in options.iter().filter(|option| option.is_given()) {
            let message = format!("has no effect without `{}`", path.name());
            option.warn(InvalidValue::new(message).help("servers are asked only where it is said what for"));
        }
        return None;
    }
    Some(check)
}

fn health_path(text: &str) -> Result<String, InvalidValue> {
    match CanonicalTarget::parse(&Method::GET, text.as_bytes()) {
        Ok(target) if target.authority().is_none() => Ok(text.to_owned()),
        _ => {
            Err(InvalidValue::new(format!("{} is not a path", quoted(text)))
                .help("write it like \"/healthz\""))
        }
    }
}

fn tls(table: &mut Table<'_>, is_secure: bool) -> UpstreamTls {
    let keys = ["tls_ca_file", "tls_server_name", "tls_client_certificate_file", "tls_client_key_file"];
    let entries = keys.map(|key| table.take(key));
    if !is_secure {
        for entry in entries.iter().filter(|entry| entry.is_given()) {
            entry.refuse(InvalidValue::new("has no effect without TLS").help("begin a URL with https://"));
        }
        return UpstreamTls::default();
    }
    let [ca, name, certificate, key] = &entries;
    for (entry, other) in [(certificate, key), (key, certificate)] {
        if entry.is_given() && !other.is_given() {
            entry.refuse(
                InvalidValue::new(format!("is given without `{}`", other.name()))
                    .help("a client certificate needs its private key beside it"),
            );
        }
    }
    UpstreamTls {
        ca_file: ca.parse(existing_file),
        server_name: name.parse(|text| match is_host(text) {
            true => Ok(text.to_ascii_lowercase()),
            false => Err(InvalidValue::new(format!("{} is not the name of a server", quoted(text)))),
        }),
        client: certificate.parse(existing_file).zip(key.parse(existing_file)),
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
        entry.refuse(InvalidValue::new("an upstream needs at least one URL").help(help));
    }
    elements.unwrap_or_default().iter().filter_map(|element| element.parse(url)).collect()
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
}

fn url(text: &str) -> Result<UpstreamUrl, InvalidValue> {
    let example =
        "write it like \"http://127.0.0.1:9000\", \"https://app.internal\" or \"unix:/run/app.sock\"";
    if let Some(path) = text.strip_prefix("unix:") {
        let path = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
        return match path.is_absolute() {
            true => Ok(UpstreamUrl::Unix(path)),
            false => Err(InvalidValue::new(format!("{} is not the whole path of a socket", quoted(text)))
                .help(example)),
        };
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(InvalidValue::new(format!("{} is not a URL", quoted(text))).help(example));
    };
    // First of all, so that a password is never part of a message.
    if rest.contains('@') {
        return Err(
            InvalidValue::new("an upstream's URL may not contain a user name or a password").help(example)
        );
    }
    let secure = scheme.eq_ignore_ascii_case("https");
    if !secure && !scheme.eq_ignore_ascii_case("http") {
        return Err(InvalidValue::new(format!("unknown scheme {}", quoted(scheme))).help(example));
    }
    if let Some(end) = rest.find(['/', '?', '#']) {
        let scheme = scheme.to_ascii_lowercase();
        return Err(InvalidValue::new(format!("{} goes on after host and port", quoted(text)))
            .help(format!("write \"{scheme}://{}\"; the path is the request's own", &rest[..end])));
    }
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok().filter(|p| *p != 0)),
        _ => (rest, Some(if secure { 443 } else { 80 })),
    };
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().ok().map(|address| address.to_string()),
        None => is_host(host).then(|| host.to_ascii_lowercase()),
    };
    match (host, port) {
        (Some(host), Some(port)) => Ok(UpstreamUrl::Tcp { secure, host, port }),
        _ => Err(InvalidValue::new(format!("{} is not host and port", quoted(text))).help(example)),
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
        for (text, secure, host, port) in [
            ("http://127.0.0.1:9000", false, "127.0.0.1", 9000),
            ("http://Demo.internal", false, "demo.internal", 80),
            ("HTTP://my_app:1", false, "my_app", 1),
            ("http://[::1]:9000", false, "::1", 9000),
            ("https://[FD00::1]", true, "fd00::1", 443),
        ] {
            assert_eq!(url(text), Ok(UpstreamUrl::Tcp { secure, host: host.into(), port }), "{text}");
        }
        assert_eq!(url("unix:/run/app.sock"), Ok(UpstreamUrl::Unix("/run/app.sock".into())));
        assert_eq!(url("unix:///run/app.sock"), Ok(UpstreamUrl::Unix("/run/app.sock".into())));
    }

    #[test]
    fn other_urls_are_refused() {
        for (text, message, help) in [
            ("127.0.0.1:9000", "is not a URL", "http://127.0.0.1:9000"),
            ("unix:app.sock", "is not the whole path of a socket", "unix:/run/app.sock"),
            ("ftp://a.example", "unknown scheme `ftp`", ""),
            ("http://u:hunter2@a.example", "a user name or a password", ""),
            ("http://a.example/x", "goes on after host and port", "write \"http://a.example\""),
            ("http://a.example:80/", "goes on after", "write \"http://a.example:80\""),
            ("http://a.example?x", "goes on after", ""),
            ("http://a.example:0", "is not host and port", ""),
            ("http://a.example:x", "is not host and port", ""),
            ("http://", "is not host and port", ""),
            ("http://a..b", "is not host and port", ""),
            ("http://::1:80", "is not host and port", ""),
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
    fn what_belongs_to_something_that_is_not_there_is_told() {
        let with = |more: &str| {
            let rest = if more.contains("urls =") { "# urls =" } else { "urls =" };
            minimal().replace("urls =", &format!("{more}\n{rest}"))
        };
        for (more, message, help) in [
            ("tls_server_name = \"a\"", "has no effect without TLS", "https://"),
            ("host_header = \"a b\"", "`a b` is not a host", "\"upstream\""),
            (
                "host_header = \"upstream\"\nurls = [\"http://a\", \"http://b\"]",
                "the URLs have different hosts",
                "",
            ),
            ("health_path = \"healthz\"", "`healthz` is not a path", "/healthz"),
            ("protocol = \"http3\"", "unknown value `http3`", ""),
            ("eject_for = \"2m\"", "must be at most 1m", ""),
        ] {
            complaints(with(more)).only(message, help);
        }
        let warned = load_text(with("health_interval = \"1s\"")).unwrap().warnings.to_string();
        assert!(warned.contains("`upstreams.demo.health_interval`: has no effect without"), "{warned}");
    }

    #[test]
    fn an_upstream_that_nothing_leads_to_is_warned_about() {
        let loaded = load_text(minimal() + "[upstreams.spare]\nurls = [\"http://a\"]").unwrap();
        assert_eq!(loaded.warnings.len(), 1);
        assert!(loaded.warnings.to_string().contains("no route leads to the upstream `spare`"));
        assert_eq!(settings(minimal()).upstreams.len(), 1);
    }
}
