//! Connecting to a server that has several addresses, as browsers do (RFC 8305): the next address is tried where one fails, and
//! beside it where that takes long; the first connection that stands is taken.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

/// How long an address has for itself before the next one is tried beside it (RFC 8305 section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Connects to the first of `addresses` that answers, beginning with the one at `first`; gives the connection and the place
/// of its address.
///
/// # Errors
///
/// No address can be connected to: what each of them came to, with the kind of the first failure.
pub(crate) async fn connect_any(addresses: &[SocketAddr], first: usize) -> io::Result<(TcpStream, usize)> {
    if let [only] = addresses {
        return Ok((TcpStream::connect(only).await?, 0));
    }
    let mut waiting = (0..addresses.len()).map(|n| (first + n) % addresses.len());
    let mut attempts = FuturesUnordered::new();
    let mut failures: Vec<(SocketAddr, io::Error)> = Vec::new();
    loop {
        let started = waiting.next();
        if let Some(place) = started {
            attempts.push(async move { (place, TcpStream::connect(addresses[place]).await) });
        }
        if attempts.is_empty() {
            return Err(all_failed(&failures));
        }
        tokio::select! {
            Some((place, connected)) = attempts.next() => match connected {
                Ok(tcp) => return Ok((tcp, place)),
                Err(error) => failures.push((addresses[place], error)),
            },
            () = sleep(ATTEMPT_DELAY), if started.is_some() => {}
        }
    }
}

fn all_failed(failures: &[(SocketAddr, io::Error)]) -> io::Error {
    let kind = failures.first().map_or(io::ErrorKind::AddrNotAvailable, |(_, error)| error.kind());
    let each: Vec<String> = failures.iter().map(|(address, error)| format!("{address}: {error}")).collect();
    io::Error::new(kind, each.join("; "))
}

/// The servers that a name stands for, each with all of its addresses, of what was looked up: as many as the family with more
/// addresses has, for a machine mostly has one of each. Within a server the family comes first that balances better, or else
/// the one that the system prefers (RFC 6724).
pub(crate) fn servers_of(
    name: &str,
    port: u16,
    found: impl Iterator<Item = SocketAddr>,
) -> Vec<Vec<SocketAddr>> {
    let mut found: Vec<SocketAddr> = found.collect();
    if is_localhost(name) {
        // Whatever the hosts file says, both are this machine (RFC 6761 section 6.3).
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        found.extend(loopback.map(|address| SocketAddr::new(address, port)));
    }
    let prefers_ipv4 = found.first().is_some_and(SocketAddr::is_ipv4);
    // Answers rotate; servers should stay what they are.
    found.sort_unstable();
    found.dedup();
    let (v4, v6): (Vec<_>, Vec<_>) = found.into_iter().partition(SocketAddr::is_ipv4);
    let v4_first = v4.len() > v6.len() || v4.len() == v6.len() && prefers_ipv4;
    let (first, second) = if v4_first { (v4, v6) } else { (v6, v4) };
    let server = |(place, address): (usize, &SocketAddr)| {
        let other = (!second.is_empty()).then(|| second[place % second.len()]);
        std::iter::once(*address).chain(other).collect()
    };
    first.iter().enumerate().map(server).collect()
}

/// `localhost` and all names below it, which need no look-up.
pub(crate) fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::TcpListener;
    use std::time::Instant;

    use super::*;

    fn servers(name: &str, found: &[&str]) -> Vec<String> {
        let found = found.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 80));
        let servers = servers_of(name, 80, found);
        servers
            .iter()
            .map(|server| server.iter().map(|a| a.ip().to_string()).collect::<Vec<_>>().join(" "))
            .collect()
    }

    #[test]
    fn each_server_of_a_name_has_an_address_of_each_family() {
        for (name, found, expected) in [
            ("localhost", &["127.0.0.1"][..], &["127.0.0.1 ::1"][..]),
            ("localhost", &["::1", "127.0.0.1"], &["::1 127.0.0.1"]),
            ("app.localhost", &[], &["127.0.0.1 ::1"]),
            ("app", &[], &[]),
            ("app", &["10.0.0.1"], &["10.0.0.1"]),
            ("app", &["10.0.0.2", "10.0.0.1", "10.0.0.2"], &["10.0.0.1", "10.0.0.2"]),
            ("app", &["fd00::1"], &["fd00::1"]),
            ("app", &["fd00::1", "10.0.0.1"], &["fd00::1 10.0.0.1"]),
            ("app", &["10.0.0.1", "fd00::1"], &["10.0.0.1 fd00::1"]),
            ("app", &["fd00::1", "10.0.0.1", "10.0.0.2"], &["10.0.0.1 fd00::1", "10.0.0.2 fd00::1"]),
            ("app", &["10.0.0.1", "fd00::2", "fd00::1"], &["fd00::1 10.0.0.1", "fd00::2 10.0.0.1"]),
        ] {
            assert_eq!(servers(name, found), expected, "{name} {found:?}");
        }
    }

    #[tokio::test]
    async fn the_address_that_answers_is_taken_whichever_it_is() {
        let listener = TcpListener::bind("[::1]:0").unwrap();
        let live = listener.local_addr().unwrap();
        let dead = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), live.port());
        for (addresses, first, place) in
            [([dead, live], 0, 1), ([dead, live], 1, 1), ([live, dead], 0, 0), ([live, dead], 1, 0)]
        {
            assert_eq!(connect_any(&addresses, first).await.unwrap().1, place, "{addresses:?} from {first}");
        }
        drop(listener);
        let error = connect_any(&[dead, live], 0).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(error.to_string().contains("127.0.0.1") && error.to_string().contains("[::1]"), "{error}");
    }

    /// A listener whose queue is full answers no SYN: to a client it looks like a network that drops packets.
    #[tokio::test]
    async fn an_address_that_says_nothing_costs_a_quarter_of_a_second() {
        let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        silent.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        silent.listen(0).unwrap();
        let address = silent.local_addr().unwrap().as_socket().unwrap();
        let mut held = Vec::new();
        while let Ok(Ok(tcp)) =
            tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(address)).await
        {
            held.push(tcp);
            if held.len() > 64 {
                // This kernel queues whatever comes.
                return;
            }
        }
        let listener = TcpListener::bind("[::1]:0").unwrap();
        let begun = Instant::now();
        let (_, place) = connect_any(&[address, listener.local_addr().unwrap()], 0).await.unwrap();
        assert_eq!(place, 1);
        assert!(begun.elapsed() >= ATTEMPT_DELAY && begun.elapsed() < Duration::from_secs(3));
    }
}
