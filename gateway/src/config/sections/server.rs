//! `[server]` and `[admin]`: where the gateway listens and whom it believes.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::redis::existing_file;
use super::{DAY, HOUR, cores, seconds};
use crate::config::diagnostic::Diagnostic;
use crate::config::entry::{Entry, InvalidValue, quoted};
use crate::config::settings::{Admin, CertificateFiles, Server, ServerTls, TlsVersion};
use crate::config::table::Table;

/// A name for `Via`: a token (RFC 9110 section 5.6.2) that is neither a version nor a comment.
fn name(text: &str) -> Result<String, InvalidValue> {
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    if !text.is_empty() && text.len() <= 64 && text.bytes().all(is_name) {
        return Ok(text.to_owned());
    }
    Err(InvalidValue::new(format!("{} is not a name for `Via`", quoted(text)))
        .help("use letters, digits, hyphens, dots and underscores, 64 at most, such as \"edge-1\""))
}

/// Both at once, because they must not meet.
pub(super) fn listeners(root: &mut Table<'_>) -> (Server, Admin) {
    let (server, public) = root.section("server", |table| {
        let listen = table.take("listen");
        let server = Server {
            listen: listen.parse(address).unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8080))),
            name: table.take("name").parse(name).unwrap_or_else(|| "auth-gateway".to_owned()),
            workers: table.take("workers").integer(1..=1024).unwrap_or_else(cores),
            trusted_proxies: trusted_proxies(&table.take("trusted_proxies")),
            drain_timeout: table.take("drain_timeout").duration(Duration::ZERO..=HOUR).unwrap_or(seconds(30)),
            proxy_protocol_from: trusted_proxies(&table.take("proxy_protocol_from")),
            h2c: table.take("h2c").boolean().unwrap_or(false),
            tls: table.section("tls", tls),
            redirect_listen: None,
        };
        let redirect_listen = redirect_listen(table, &server, &listen);
        (Server { redirect_listen, ..server }, listen)
    });
    root.section("admin", |table| {
        let entry = table.take("listen");
        let listen = entry.parse(address).unwrap_or(SocketAddr::from(([127, 0, 0, 1], 9090)));
        if meet(server.listen, listen) {
            let place = if entry.is_given() { entry.place() } else { public.place() };
            let related = if entry.is_given() { public.place() } else { entry.place() };
            table.report().push(
                Diagnostic::error(format!(
                    "`admin.listen` ({listen}) and `server.listen` ({}) are the same address",
                    server.listen
                ))
                .at(place)
                .related("`server.listen` is here", related)
                .help("give the admin listener a port of its own, such as \"127.0.0.1:9090\""),
            );
        }
        if let Some(redirect) = server.redirect_listen.filter(|redirect| meet(*redirect, listen)) {
            entry.refuse(InvalidValue::new(format!(
                "`admin.listen` ({listen}) and `server.redirect_listen` ({redirect}) are the same address"
            )));
        }
        if !listen.ip().is_loopback() {
            entry.warn(
                InvalidValue::new(
                    "the admin listener can be reached from other machines, and it asks no password",
                )
                .help("listen on 127.0.0.1 or [::1], or make sure that a firewall guards this port"),
            );
        }
        (server, Admin { listen })
    })
}

/// The plain listener that leads to the one with TLS.
fn redirect_listen(table: &mut Table<'_>, server: &Server, public: &Entry<'_>) -> Option<SocketAddr> {
    let entry = table.take("redirect_listen");
    let listen = entry.parse(address)?;
    if server.tls.is_none() {
        entry.refuse(
            InvalidValue::new("there is nothing to lead to: server.listen speaks plain HTTP")
                .help("give [server.tls] certificates, or remove it"),
        );
    }
    if meet(server.listen, listen) {
        table.report().push(
            Diagnostic::error(format!(
                "`server.redirect_listen` ({listen}) and `server.listen` ({}) are the same address",
                server.listen
            ))
            .at(entry.place())
            .related("`server.listen` is here", public.place())
            .help("plain HTTP has port 80 and HTTPS port 443, as a rule"),
        );
    }
    Some(listen)
}

/// `[server.tls]`
fn tls(table: &mut Table<'_>) -> Option<ServerTls> {
    let entry = table.take("certificates");
    let versions = [("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)];
    let min_version = table.take("min_version").choice(&versions).unwrap_or(TlsVersion::Tls12);
    let hsts = table.take("hsts").duration(Duration::ZERO..=DAY * 731).filter(|duration| !duration.is_zero());
    if !entry.is_given() {
        return None;
    }
    let elements = entry.list()?;
    if elements.is_empty() {
        entry.refuse(
            InvalidValue::new("TLS needs at least one certificate")
                .help("name one, or remove `certificates` for plain HTTP"),
        );
    }
    let certificates = elements.iter().filter_map(|element| element.table(certificate).flatten()).collect();
    Some(ServerTls { certificates, min_version, hsts })
}

fn certificate(table: &mut Table<'_>) -> Option<CertificateFiles> {
    let [certificate_file, private_key_file] = ["certificate_file", "private_key_file"].map(|key| {
        let entry = table.take(key);
        if !entry.is_given() {
            table.report().push(
                Diagnostic::error(format!("`{}` is missing", entry.name()))
                    .at(table.place())
                    .help("a certificate has both: certificate_file = \"…\" and private_key_file = \"…\""),
            );
        }
        entry.parse(existing_file)
    });
    Some(CertificateFiles { certificate_file: certificate_file?, private_key_file: private_key_file? })
}

/// Whether two listeners would want the same port of the same address. Port 0 lets the system choose.
fn meet(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port()
        && a.port() != 0
        && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

fn address(text: &str) -> Result<SocketAddr, InvalidValue> {
    text.parse().map_err(|_| {
        let help = match text.rsplit_once(':') {
            Some(("localhost", port)) => format!("write \"127.0.0.1:{port}\""),
            _ => "write an IP address and a port, such as \"127.0.0.1:8080\" or \"[::]:8080\"".to_owned(),
        };
        InvalidValue::new(format!("{} is not an address to listen on", quoted(text))).help(help)
    })
}

fn trusted_proxies(entry: &Entry<'_>) -> Vec<IpNet> {
    let networks = entry.list_of(network).unwrap_or_default();
    if networks.iter().any(|network| network.prefix_len() == 0) {
        entry.warn(
            InvalidValue::new("everyone is trusted, so every client can claim any address as its own")
                .help("name the addresses of your proxies only"),
        );
    }
    networks
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
        return Err(InvalidValue::new(format!("{} has bits set behind its prefix", quoted(text)))
            .help(format!("write \"{}\", or the address alone", network.trunc())));
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::test_support::{complaints, minimal, settings};
    use super::*;

    #[test]
    fn defaults_are_loopback() {
        let settings = settings(minimal());
        assert_eq!(settings.server.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(settings.admin.listen.to_string(), "127.0.0.1:9090");
        assert!(settings.server.workers >= 1 && settings.server.trusted_proxies.is_empty());
        assert_eq!(settings.server.drain_timeout, seconds(30));
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
            complaints(minimal() + config).only(message, help);
        }
    }

    #[test]
    fn listeners_that_meet_are_refused_and_both_places_named() {
        for (public, admin) in
            [("127.0.0.1:80", "127.0.0.1:80"), ("0.0.0.0:80", "127.0.0.1:80"), ("[::]:80", "127.0.0.1:80")]
        {
            let config = format!("[server]\nlisten = \"{public}\"\n[admin]\nlisten = \"{admin}\"\n");
            let complaints = complaints(config + &minimal());
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
