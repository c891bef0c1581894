//! `[upstreams.NAME]`: servers, load balancing, timeouts, health and TLS.

use http::Method;
use std::net::Ipv6Addr;

use super::prelude::*;
use crate::http1::{CanonicalTarget, Host};

section! {
    /// The upstreams: [upstreams.NAME], with a name of lower-case letters, digits, - and _.
    pub struct Upstream {
        /// http://host:port or https://host:port without path, or unix:/path/to.sock; at least one. Load
        /// balancing: of two random healthy servers, the one with fewer requests gets the next. All addresses
        /// of a name take part.
        urls: Vec<UpstreamUrl> = texts(url)
            .required(URLS)
            .not_empty("an upstream needs at least one URL", URLS)
            .or_empty()
            .example("[\"http://127.0.0.1:9000\"]");
        /// "http1" or "http2" (gRPC): HTTP/2 by ALPN under https://, else with prior knowledge.
        protocol: UpstreamProtocol = choice().default("http1");
        /// The Host that the servers get: "client" (that of the request), "upstream" (that of the URL), or a
        /// name.
        host: HostHeader = text(host_header).named("host_header").default("client");
        /// Timeout of connecting, TLS included; then another server is tried, at last 502.
        connect_timeout: Duration = duration(up_to(5 * MINUTE)).default("5s");
        /// Keys that a route may have too.
        timeouts: Timeouts = inline();
        /// Bytes of a response's status line and all fields; larger is 502, and the log names the largest field.
        response_header_block: usize = size(4096..=1 << 20).default("64KiB");
        /// Fields of a response; more is 502.
        response_header_fields: usize = integer(10..=1000).default("100");
        /// How long an idle connection is kept, or a second less than the server's `Keep-Alive: timeout=` says, if that is shorter.
        idle_timeout: Duration = duration(up_to(HOUR)).default("30s");
        /// Idle connections that each worker keeps for each URL.
        pool_size: usize = integer(0..=10_000).default("64");
        /// Connections to one server, shared among the workers; 0: no limit.
        max_connections: Option<usize> = integer(0..=1_000_000).default("0").into(|most, _| (most > 0).then_some(most));
        /// Requests that may wait for a connection, shared among the workers; more get 503.
        max_pending: usize = integer(0..=100_000).default("100");
        /// How long they may wait; then 503.
        pending_timeout: Duration = duration(up_to(MINUTE)).default("1s");
        /// Maximum number of retries per hundred requests.
        retry_budget: u32 = integer(0..=100).default("20");
        /// Whether it gets a signed assertion with each request (`[upstream_assertion]`).
        assertion: Option<bool> = boolean().fallback("`upstream_assertion.enabled`").example("true");
        /// Interval of DNS resolution of names.
        resolve_interval: Duration = duration(seconds(1)..=DAY).default("30s");
        /// Outlier ejection: a server that cannot be reached this many times in a row is ejected; 0: never.
        max_failures: u32 = integer(0..=1000).default("3");
        /// Duration of an ejection, doubled each time up to a minute.
        eject_for: Duration = duration(up_to(MINUTE)).default("1s");
        /// Slow start: the time until a server that recovered gets its full share.
        slow_start: Duration = duration(Duration::ZERO..=HOUR).default("0s");
        /// Active health checks.
        health: Option<HealthCheck> = group::<HealthCheck>();
        /// TLS to servers.
        tls: UpstreamTls = flat(tls);
    }
}

section! {
    /// Timeouts and retries.
    #[derive(Copy)]
    pub struct Timeouts {
        /// From the end of the request to the head of the response; then 504.
        response: Duration = duration(up_to(HOUR)).default("60s").named("response_timeout");
        /// Between two reads of a response's body; then the client's response is aborted.
        body: Duration = duration(up_to(HOUR)).default("60s").named("body_timeout");
        /// From the request to the end of its response; "0s": no limit.
        total: Option<Duration> =
            duration(Duration::ZERO..=DAY).default("0s").named("total_timeout").into(|total, _| unless_zero(total));
        /// Retries on another server of a request that was not processed.
        retries: u32 = integer(0..=10).default("1");
    }
}

section! {
    /// Active health checks.
    pub struct HealthCheck {
        /// Probe every server with GET: 2xx and 3xx are healthy. Unhealthy servers get no requests.
        path: String =
            text(health_path).or("no health checks", String::new).named("health_path").example("\"/healthz\"");
        /// Interval of health checks.
        interval: Duration = duration(Duration::from_millis(100)..=HOUR).default("5s").named("health_interval");
        /// Timeout of a health check.
        timeout: Duration = duration(up_to(5 * MINUTE)).default("2s").named("health_timeout");
        /// Failed checks in a row after which a server is unhealthy.
        unhealthy_after: u32 = integer(1..=1000).default("3");
        /// Passed checks in a row after which it is healthy again.
        healthy_after: u32 = integer(1..=1000).default("2");
    }
}

section! {
    /// TLS to servers. Their certificates are always verified, including their names.
    #[derive(Default)]
    pub struct UpstreamTls {
        /// For https://: what is trusted instead of the system's certificates: authorities, or the very certificate of a server, also
        /// a self-signed one as `openssl req -x509` makes it.
        ca_file: Option<PathBuf> = text(existing_file).named("tls_ca_file").example("\"tls/upstream-ca.pem\"");
        /// For https://: SNI and verified name, instead of the URL's host.
        server_name: Option<String> = text(server_name).named("tls_server_name").example("\"app.internal\"");
        /// For https://: a client certificate, where servers require one (mTLS).
        client_certificate_file: Option<PathBuf> = text(existing_file).named("tls_client_certificate_file").example("\"tls/gateway.pem\"");
        /// Its key.
        client_key_file: Option<PathBuf> = text(existing_file).secret_file().named("tls_client_key_file").example("\"tls/gateway.key\"");
    }
}

const URLS: &str = "write it like urls = [\"http://127.0.0.1:9000\"]";

/// All upstreams, including invalid ones.
pub(super) fn upstreams(table: &Table<'_>) -> BTreeMap<String, Upstream> {
    let mut named = BTreeMap::new();
    for (name, entry) in table.entries() {
        if !is_name(&name) {
            entry.report(
                Diagnostic::error(format!("{} is not a name for an upstream", quoted(&name)))
                    .at(entry.key_place())
                    .help("use lower-case letters, digits, hyphens and underscores"),
            );
        }
        let Some(table) = entry.table() else { continue };
        let upstream: Upstream = table.read();
        let differ = upstream.urls.windows(2).any(|pair| pair[0].authority() != pair[1].authority());
        if upstream.host == HostHeader::Upstream && differ {
            table.entry("host_header").error(
                "the URLs have different hosts",
                "name the one that the servers shall see, such as host_header = \"app.internal\"",
            );
        }
        named.insert(name, upstream);
    }
    named
}

/// Warns of upstreams without a route.
pub(super) fn check_use(table: &Table<'_>, routes: &[Route]) {
    let leads_to = |route: &Route, wanted: &str| matches!(&route.target, RouteTarget::Upstream { name, .. } if name == wanted);
    for (name, entry) in table.entries() {
        if !routes.iter().any(|route| leads_to(route, &name)) {
            let message = format!("no route leads to the upstream {}", quoted(&name));
            let help = "add a [[routes]] table with it as `upstream`, or remove it";
            entry.report(Diagnostic::warning("unused-upstream", message).at(entry.key_place()).help(help));
        }
    }
}

fn host_header(text: &str) -> Result<HostHeader, InvalidValue> {
    match text {
        "client" => Ok(HostHeader::Client),
        "upstream" => Ok(HostHeader::Upstream),
        name if Host::parse(name.as_bytes()).is_ok() => Ok(HostHeader::Fixed(name.to_owned())),
        other => refused(
            format!("{} is not a host", quoted(other)),
            "write \"client\", \"upstream\", or a name such as \"app.internal\"",
        ),
    }
}

impl UpstreamTls {
    /// The client certificate and its key.
    pub fn client(&self) -> Option<(PathBuf, PathBuf)> {
        self.client_certificate_file.clone().zip(self.client_key_file.clone())
    }
}

/// A limit, where zero is unlimited.
pub(super) fn unless_zero(limit: Duration) -> Option<Duration> {
    (!limit.is_zero()).then_some(limit)
}

fn health_path(text: &str) -> Result<String, InvalidValue> {
    match CanonicalTarget::parse(&Method::GET, text.as_bytes()).and_then(CanonicalTarget::without_oddities) {
        Ok(target) if target.authority().is_none() => Ok(text.to_owned()),
        _ => refused(format!("{} is not a path", quoted(text)), "write it like \"/healthz\""),
    }
}

fn tls(tls: UpstreamTls, table: &Table<'_>) -> UpstreamTls {
    let urls = table.entry("urls").texts();
    let is_secure = urls.iter().any(|url| url.to_ascii_lowercase().starts_with("https:"));
    let without = "begin a URL with https://";
    let name = table.entry("tls_server_name");
    if !is_secure && name.is_given() {
        name.error("has no effect without TLS", without);
    }
    let files = ["tls_ca_file", "tls_client_certificate_file", "tls_client_key_file"];
    check_tls_files(table, (!is_secure).then_some(without), files);
    tls
}

/// Reports files that have no effect without TLS (`without` says how to enable it), and a certificate without
/// its key.
pub(super) fn check_tls_files(table: &Table<'_>, without: Option<&str>, files: [&str; 3]) {
    let [ca, certificate, key] = files.map(|key| table.entry(key));
    if let Some(help) = without {
        for entry in [&ca, &certificate, &key].into_iter().filter(|entry| entry.is_given()) {
            entry.error("has no effect without TLS", help);
        }
        return;
    }
    for (entry, other) in [(&certificate, &key), (&key, &certificate)] {
        if entry.is_given() && !other.is_given() {
            entry.error(
                format!("is given without `{}`", other.name()),
                "a client certificate needs its private key beside it",
            );
        }
    }
}

fn server_name(text: &str) -> Result<String, InvalidValue> {
    match is_host(text) {
        true => Ok(text.to_ascii_lowercase()),
        false => {
            refused(format!("{} is not the name of a server", quoted(text)), "write it like \"app.internal\"")
        }
    }
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
            false => refused(format!("{} is not the whole path of a socket", quoted(text)), example),
        };
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return refused(format!("{} is not a URL", quoted(text)), example);
    };
    // First, so that a password is never part of a message.
    if rest.contains('@') {
        return refused("an upstream's URL may not contain a user name or a password", example);
    }
    let secure = scheme.eq_ignore_ascii_case("https");
    if !secure && !scheme.eq_ignore_ascii_case("http") {
        let help = match scheme.to_ascii_lowercase().as_str() {
            "ws" | "wss" => {
                "write http:// or https://: WebSockets go over them, to a route with upgrade = [\"websocket\"]"
            }
            "h2c" | "grpc" => "write http://, and protocol = \"http2\"",
            _ => example,
        };
        return refused(format!("unknown scheme {}", quoted(scheme)), help);
    }
    if let Some(end) = rest.find(['/', '?', '#']) {
        let scheme = scheme.to_ascii_lowercase();
        return refused(
            format!("{} goes on after host and port", quoted(text)),
            format!("write \"{scheme}://{}\"; the path is the request's own", &rest[..end]),
        );
    }
    let (host, port) = authority(rest);
    let port = port.map(|port| port.unwrap_or(if secure { 443 } else { 80 }));
    let help = match (&host, port) {
        (Some(_), None) => "a port is a number from 1 to 65535",
        _ if rest.matches(':').count() > 1 => "an IPv6 address goes in brackets: \"http://[::1]:9000\"",
        _ if !rest.is_ascii() => "write an international name in its xn-- form",
        _ => example,
    };
    match (host, port) {
        (Some(host), Some(port)) => Ok(UpstreamUrl::Tcp { secure, host, port }),
        _ => refused(format!("{} is not host and port", quoted(text)), help),
    }
}

/// Host and port of a URL, where they are valid: the host in lower case and without brackets, the port if there is one.
pub(super) fn authority(text: &str) -> (Option<String>, Option<Option<u16>>) {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            (host, port.parse().ok().filter(|port| *port != 0).map(Some))
        }
        _ => (text, Some(None)),
    };
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().ok().map(|address| address.to_string()),
        None => is_host(host).then(|| host.to_ascii_lowercase()),
    };
    (host, port)
}

/// A DNS name or an IPv4 address: labels of at most 63 letters, digits, hyphens and, as in Docker,
/// underscores.
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
    use super::super::test_support::{load_diagnostics, load_text, minimal, settings};
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
            let complaints = load_diagnostics(config);
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
            load_diagnostics(minimal() + config).only(message, "");
        }
    }

    #[test]
    fn keys_without_effect_are_reported() {
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
            load_diagnostics(with(more)).only(message, help);
        }
        let warned = load_text(with("health_interval = \"1s\"")).unwrap().warnings.to_string();
        assert!(warned.contains("`upstreams.demo.health_interval`: has no effect without"), "{warned}");
    }

    #[test]
    fn an_upstream_without_a_route_is_warned_about() {
        let loaded = load_text(minimal() + "[upstreams.spare]\nurls = [\"http://a\"]").unwrap();
        assert_eq!(loaded.warnings.len(), 1);
        assert!(loaded.warnings.to_string().contains("no route leads to the upstream `spare`"));
        assert_eq!(settings(minimal()).upstreams.len(), 1);
    }
}
