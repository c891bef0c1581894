//! `[server]` and `[admin]`: where the gateway listens and whom it believes.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::{HOUR, cores, seconds};
use crate::config::diagnostic::Diagnostic;
use crate::config::entry::{Entry, Refusal, quoted};
use crate::config::settings::{Admin, Server};
use crate::config::table::Table;

/// Both at once, because they must not meet.
pub(super) fn listeners(root: &mut Table<'_>) -> (Server, Admin) {
    let (server, public) = root.section("server", |table| {
        let listen = table.take("listen");
        let server = Server {
            listen: listen.parse(address).unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8080))),
            workers: table.take("workers").integer(1..=1024).unwrap_or_else(cores),
            trusted_proxies: trusted_proxies(&table.take("trusted_proxies")),
            drain_timeout: table.take("drain_timeout").duration(Duration::ZERO..=HOUR).unwrap_or(seconds(30)),
        };
        (server, listen)
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
        if !listen.ip().is_loopback() {
            entry.warn(
                Refusal::new(
                    "the admin listener can be reached from other machines, and it asks no password",
                )
                .help("listen on 127.0.0.1 or [::1], or make sure that a firewall guards this port"),
            );
        }
        (server, Admin { listen })
    })
}

/// Whether two listeners would want the same port of the same address. Port 0 lets the system choose.
fn meet(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port()
        && a.port() != 0
        && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

fn address(text: &str) -> Result<SocketAddr, Refusal> {
    text.parse().map_err(|_| {
        let help = match text.rsplit_once(':') {
            Some(("localhost", port)) => format!("write \"127.0.0.1:{port}\""),
            _ => "write an IP address and a port, such as \"127.0.0.1:8080\" or \"[::]:8080\"".to_owned(),
        };
        Refusal::new(format!("{} is not an address to listen on", quoted(text))).help(help)
    })
}

fn trusted_proxies(entry: &Entry<'_>) -> Vec<IpNet> {
    let networks = entry.list_of(network).unwrap_or_default();
    if networks.iter().any(|network| network.prefix_len() == 0) {
        entry.warn(
            Refusal::new("everyone is trusted, so every client can claim any address as its own")
                .help("name the addresses of your proxies only"),
        );
    }
    networks
}

fn network(text: &str) -> Result<IpNet, Refusal> {
    let network = match text.parse::<std::net::IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse().map_err(|_| {
            Refusal::new(format!("{} is not an IP address or network", quoted(text)))
                .help("write it like \"10.0.0.0/8\", \"192.0.2.7\" or \"fd00::/8\"")
        })?,
    };
    if network.addr() != network.network() {
        return Err(Refusal::new(format!("{} has bits set behind its prefix", quoted(text)))
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
