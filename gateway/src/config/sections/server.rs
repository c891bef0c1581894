//! `[server]` and `[admin]`: listeners, trusted proxies and TLS.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::cores;
use super::prelude::*;
use crate::http1::Host;

section! {
    /// The public listener.
    pub struct Server {
        /// The public listener: an IP address and a port. With port 0 the system chooses.
        listen: SocketAddr = text(address).default("127.0.0.1:8080").restart();
        /// The gateway's name in CDN-Loop or Via. A request that has gone through a gateway of this name five times goes round in
        /// circles: 508.
        name: String = text(name).default("auth-gateway");
        /// Whether upstreams get Via instead of CDN-Loop. Many compress nothing for a request that has it (nginx: gzip_proxied).
        via: bool = boolean().default("false");
        /// Threads that serve requests.
        workers: usize = integer(1..=1024).or("one per core", cores).example("2").restart();
        /// Trusted proxies: addresses or networks whose X-Forwarded-*, Forwarded and X-Request-Id are used.
        trusted_proxies: Vec<IpNet> = networks();
        /// Graceful shutdown: how long the gateway goes on accepting connections after SIGTERM, while endpoints.health_path
        /// and /readyz of the admin listener answer 503, so that load balancers choose another one first. A few of
        /// their check intervals.
        shutdown_delay: Duration = duration(Duration::ZERO..=HOUR).default("0s").example("\"10s\"");
        /// Graceful shutdown: how long requests in flight may take after SIGTERM and shutdown_delay.
        drain_timeout: Duration = duration(Duration::ZERO..=HOUR).default("30s");
        /// Peers whose connections begin with a PROXY protocol header (version 1 or 2): addresses or
        /// networks. A connection of theirs without one is closed; from other peers the header is not
        /// accepted.
        proxy_protocol_from: Vec<IpNet> = networks();
        /// A second listener without TLS that redirects everything to https://. Needs [server.tls].
        redirect_listen: Option<SocketAddr> = text(address).example("\"0.0.0.0:80\"").restart();
        /// The port of redirects, where a load balancer or a port mapping is in front of this process.
        redirect_port: Option<u16> = integer(1..=65535).fallback("the port of server.listen").example("443")
            .only_where(|server| server.entry("redirect_listen").is_given(), "there is no `redirect_listen`");
        /// Whether connections without TLS may use HTTP/2 with prior knowledge (h2c). With TLS they always
        /// may.
        h2c: bool = boolean().default("false");
        /// With a certificate, server.listen uses TLS, and HTTP/2 by ALPN. A client gets the first
        /// certificate that covers the name it requests (SNI), or else the first of all.
        tls: Option<ServerTls> = table::<ServerTls>().into(|tls, entry| {
            let given = entry.is_table() && entry.table_or_empty().entry("certificates").is_given();
            given.then_some(tls)
        });
    }
}

section! {
    /// With a certificate, server.listen uses TLS, and HTTP/2 by ALPN. A client gets the first certificate
    /// that covers the name it requests (SNI), or else the first of all.
    pub struct ServerTls {
        /// PEM: the chain with the server's own certificate first, and its key, not encrypted.
        certificates: Vec<CertificateFiles> = tables()
            .not_empty(
                "TLS needs at least one certificate",
                "name one, or remove `certificates` for plain HTTP",
            )
            .or_empty()
            .example("[{ certificate_file = \"tls/app.pem\", private_key_file = \"tls/app.key\" }]");
        /// "1.2" or "1.3".
        min_version: TlsVersion = choice().default("1.2")
            .only_where(|tls| tls.entry("certificates").is_given(), "there are no `certificates`");
        /// Strict-Transport-Security: how long browsers use TLS only after a visit, such as "365d"; "0s": the
        /// header is not sent.
        hsts: Option<Duration> = duration(Duration::ZERO..=DAY * 731).default("0s").into(|hsts, _| (!hsts.is_zero()).then_some(hsts));
    }
}

const BOTH: &str = "a certificate has both: certificate_file = \"…\" and private_key_file = \"…\"";

section! {
    /// A certificate with its key, both PEM.
    pub struct CertificateFiles {
        /// The server's certificate, then those that signed it.
        certificate_file: PathBuf = text(existing_file).required(BOTH).or_empty().example("\"tls/app.pem\"");
        /// Its key, not encrypted.
        private_key_file: PathBuf = text(existing_file).secret_file().required(BOTH).or_empty().example("\"tls/app.key\"");
    }
}

/// A secure version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum TlsVersion {
    /// RFC 5246.
    #[serde(rename = "1.2")]
    Tls12,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    Tls13,
}

section! {
    /// The listener for health and metrics.
    pub struct Admin {
        /// /healthz, /readyz, /metrics and /status: keep it on loopback, it has no authentication.
        listen: SocketAddr = text(address).default("127.0.0.1:9090");
        /// Host names that are allowed besides addresses and localhost: such as those of a compose file or a
        /// service.
        hosts: Vec<String> = texts(admin_host).or_empty().example("[\"gateway\", \"gateway.monitoring.svc\"]");
    }
}

/// A host name without port, in lower case.
fn admin_host(text: &str) -> Result<String, InvalidValue> {
    match Host::parse(text.as_bytes()) {
        Ok(host) if host.port().is_none() && host.name() == text => Ok(text.to_ascii_lowercase()),
        _ => refused(
            format!("{} is no host name", quoted(text)),
            "write a name without a port, such as \"gateway\"",
        ),
    }
}

impl Server {
    pub(super) fn check(&self, table: &Table<'_>) {
        let Some(redirect) = self.redirect_listen else { return };
        let entry = table.entry("redirect_listen");
        if self.tls.is_none() {
            entry.error(
                "there is no TLS address to redirect to: server.listen speaks plain HTTP",
                "give [server.tls] certificates, or remove it",
            );
        }
        if meet(self.listen, redirect) {
            let help = "plain HTTP has port 80 and HTTPS port 443, as a rule";
            refuse_the_same((&entry, redirect), (&table.entry("listen"), self.listen), help);
        }
    }
}

impl Admin {
    pub(super) fn check(&self, table: &Table<'_>, server: &Server, server_table: &Table<'_>) {
        let (entry, public) = (table.entry("listen"), server_table.entry("listen"));
        let help = "give the admin listener a port of its own, such as \"127.0.0.1:9090\"";
        if meet(server.listen, self.listen) {
            refuse_the_same((&entry, self.listen), (&public, server.listen), help);
        }
        if let Some(redirect) = server.redirect_listen.filter(|redirect| meet(*redirect, self.listen)) {
            refuse_the_same((&entry, self.listen), (&server_table.entry("redirect_listen"), redirect), help);
        }
        if !self.listen.ip().is_loopback() {
            entry.warn(
                "admin-exposed",
                "the admin listener can be reached from other machines, and it asks no password",
                "listen on 127.0.0.1 or [::1], or make sure that a firewall guards this port",
            );
        }
    }
}

fn refuse_the_same(one: (&Entry<'_>, SocketAddr), other: (&Entry<'_>, SocketAddr), help: &str) {
    let (at, related) = if one.0.is_given() { (one.0, other.0) } else { (other.0, one.0) };
    let message =
        format!("`{}` ({}) and `{}` ({}) are the same address", one.0.name(), one.1, other.0.name(), other.1);
    let note = format!("`{}` is here", related.name());
    at.report(Diagnostic::error(message).at(at.place()).related(note, related.given_place()).help(help));
}

fn networks() -> Key<Vec<IpNet>> {
    texts(network)
        .check(|networks, entry| {
            if networks.iter().any(|network| network.prefix_len() == 0) {
                entry.warn(
                    "everyone-trusted",
                    "everyone is trusted, so every client can claim any address as its own",
                    "name the addresses of your proxies only",
                );
            }
        })
        .or_empty()
        .example("[\"10.0.0.0/8\"]")
}

/// A name for `CDN-Loop` and `Via`: a token (RFC 9110 section 5.6.2) that is neither a version nor a comment.
fn name(text: &str) -> Result<String, InvalidValue> {
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    accept(
        text,
        !text.is_empty() && text.len() <= 64 && text.bytes().all(is_name),
        "is not a name for `Via`",
        "use letters, digits, hyphens, dots and underscores, 64 at most, such as \"edge-1\"",
    )
}

/// Whether two listeners conflict in address and port. With port 0 the system chooses.
fn meet(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port()
        && a.port() != 0
        && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

fn address(text: &str) -> Result<SocketAddr, InvalidValue> {
    text.parse().map_err(|_| {
        let help = match text.trim_start_matches("http://").trim_start_matches("https://").rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_err() => {
                "a port is a number from 0 to 65535".to_owned()
            }
            Some(("localhost", port)) => format!("write \"127.0.0.1:{port}\""),
            Some(("" | "*", port)) => {
                format!("write \"[::]:{port}\" for every address, or \"127.0.0.1:{port}\"")
            }
            Some((host, port)) if host.parse::<IpAddr>().is_ok_and(|host| host.is_ipv4()) => {
                format!("write \"{host}:{port}\"")
            }
            Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() => format!("write \"[{host}]:{port}\""),
            None if text.parse::<IpAddr>().is_ok_and(|host| host.is_ipv4()) => {
                format!("write \"{text}:8080\", with a port")
            }
            _ => "write an IP address and a port, such as \"127.0.0.1:8080\" or \"[::]:8080\"".to_owned(),
        };
        InvalidValue::new(format!("{} is not an address to listen on", quoted(text))).help(help)
    })
}

fn network(text: &str) -> Result<IpNet, InvalidValue> {
    let network = match text.parse::<std::net::IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse().map_err(|_| {
            InvalidValue::new(format!("{} is not an IP address or network", quoted(text)))
                .help("write it like \"10.0.0.0/8\", \"192.0.2.7\" or \"fd00::/8\"")
        })?,
    };
    if network.addr() != network.network() {
        return refused(
            format!("{} has bits set behind its prefix", quoted(text)),
            format!("write \"{}\", or the address alone", network.trunc()),
        );
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::test_support::{load_diagnostics, minimal, settings};
    use super::*;

    #[test]
    fn defaults_are_loopback() {
        let settings = settings(minimal());
        assert_eq!(settings.server.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(settings.admin.listen.to_string(), "127.0.0.1:9090");
        assert!(settings.server.workers >= 1 && settings.server.trusted_proxies.is_empty());
        assert_eq!(settings.server.drain_timeout, Duration::from_secs(30));
    }

    #[test]
    fn networks_and_bare_addresses_are_trusted() {
        let config = minimal() + "[server]\ntrusted_proxies = [\"10.0.0.0/8\", \"192.0.2.7\", \"::1\"]\n";
        let nets: Vec<String> =
            settings(config).server.trusted_proxies.iter().map(IpNet::to_string).collect();
        assert_eq!(nets, ["10.0.0.0/8", "192.0.2.7/32", "::1/128"]);
    }

    #[test]
    fn what_cannot_be_listened_on_is_refused() {
        for (config, message, help) in [
            (
                "[server]\nlisten = \"localhost:80\"",
                "`server.listen`: `localhost:80` is not",
                "\"127.0.0.1:80\"",
            ),
            ("[server]\nlisten = 8080", "expected a string, found integer 8080", ""),
            ("[server]\nworkers = 0", "`server.workers`: must be from 1 to 1024, found 0", ""),
            ("[server]\nworkers = \"2\"", "expected a whole number, found string `2`", ""),
            ("[server]\nworkers = 1.5", "expected a whole number, found number 1.5", ""),
            ("[server]\ndrain_timeout = \"2h\"", "must be at most 1h", ""),
            ("[server]\ntrusted_proxies = [\"10.0.0.1/8\"]", "has bits set", "\"10.0.0.0/8\""),
            ("[server]\ntrusted_proxies = \"10.0.0.0/8\"", "expected a list such as", ""),
            ("[server]\ntrusted_proxies = [\"x\"]", "`server.trusted_proxies[0]`: `x` is not", "10.0.0.0/8"),
        ] {
            load_diagnostics(minimal() + config).only(message, help);
        }
    }

    #[test]
    fn listeners_that_meet_are_refused_and_both_places_named() {
        for (public, admin) in
            [("127.0.0.1:80", "127.0.0.1:80"), ("0.0.0.0:80", "127.0.0.1:80"), ("[::]:80", "127.0.0.1:80")]
        {
            let config = format!("[server]\nlisten = \"{public}\"\n[admin]\nlisten = \"{admin}\"\n");
            let complaints = load_diagnostics(config + &minimal());
            complaints.only("are the same address", "a port of its own");
            assert!(complaints.text().contains("a.toml:4:10") && complaints.text().contains("a.toml:2:10"));
        }
        let any_port = "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n";
        settings(any_port.to_owned() + &minimal());
    }

    #[test]
    fn an_open_admin_listener_and_trust_in_everyone_are_warned_about() {
        let config =
            minimal() + "[server]\ntrusted_proxies = [\"0.0.0.0/0\"]\n[admin]\nlisten = \"0.0.0.0:9\"";
        let warnings = super::super::test_support::load_text(config).unwrap().warnings.to_string();
        assert!(
            warnings.contains("everyone is trusted") && warnings.contains("other machines"),
            "{warnings}"
        );
    }
}
