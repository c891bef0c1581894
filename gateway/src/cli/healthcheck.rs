//! `auth-gateway healthcheck`: asks the admin listener of the running gateway, for containers and scripts.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::CommandError;
use crate::config::Settings;

/// Timeout of connecting, and of each read and write.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Maximum length of an answer, in bytes.
const MAX_ANSWER: u64 = 16 * 1024 * 1024;

/// The options of `healthcheck`.
#[derive(Debug, clap::Args)]
pub(super) struct HealthcheckArguments {
    /// Ask whether it takes requests (/readyz, not while it drains) instead of whether it lives (/healthz)
    #[arg(long)]
    ready: bool,
}

/// Fails unless the gateway answers 200.
pub(super) fn run(arguments: &HealthcheckArguments, settings: &Settings) -> Result<(), CommandError> {
    fetch(settings, if arguments.ready { "/readyz" } else { "/healthz" }).map(drop)
}

/// The body with which the admin listener of the running gateway answers 200 at a path.
pub(super) fn fetch(settings: &Settings, path: &str) -> Result<String, CommandError> {
    let address = reachable(settings.admin.listen);
    match ask(address, path) {
        Ok((200, body)) => Ok(body),
        Ok((status, _)) => Err(CommandError::failed(format!("http://{address}{path} answers {status}"))),
        Err(error) => Err(CommandError::failed(format!(
            "http://{address}{path} does not answer (admin.listen): {error}"
        ))),
    }
}

/// Whether a gateway answers on the admin address.
pub(super) fn is_running(settings: &Settings) -> bool {
    fetch(settings, "/healthz").is_ok()
}

/// Where an address that means all interfaces is reached from here.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// The status and the body of the answer to a GET request.
fn ask(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut answer)?;
    let parts = answer.split_once("\r\n\r\n").and_then(|(head, body)| {
        Some((head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?, body.to_owned()))
    });
    parts.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not one of a gateway"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_address_is_asked_over_loopback() {
        for (listen, asked) in
            [("0.0.0.0:9090", "127.0.0.1:9090"), ("[::]:9090", "[::1]:9090"), ("192.0.2.1:1", "192.0.2.1:1")]
        {
            assert_eq!(listen.parse().map(reachable), asked.parse());
        }
    }
}
