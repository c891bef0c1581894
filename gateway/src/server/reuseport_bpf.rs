//! Where the kernel deals new connections out while one gateway takes over from another (SO_REUSEPORT).
//!
//! Without a word from us it deals them to the sockets of both by a hash, so some are half open at the older one's when that
//! closes them, and are reset. A filter (classic BPF, socket(7) under `SO_ATTACH_REUSEPORT_CBPF`) names a socket by its place
//! among all of the address: those of the older one come first, for they were there first. A place that is not there means
//! the hash again.

use std::net::TcpListener;
use std::sync::Arc;
use std::thread::{sleep, spawn};
use std::time::Duration;

use nix::libc::{BPF_K, BPF_RET, sock_filter, sock_fprog};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::AttachReusePortCbpf;

/// How long the older one still accepts what was half open.
const ACCEPT_QUEUE_GRACE: Duration = Duration::from_millis(250);
/// After so long the older one has closed its sockets.
const OLD_SOCKET_CLOSE_DELAY: Duration = Duration::from_secs(1);
/// No address has so many sockets.
const HASH_FALLBACK: u32 = u32::MAX;

/// Hands an address over: whoever connects from now on gets a socket that came after our `own`; returns when those who
/// had begun to connect to ours are connected. Where nobody has come, nothing changes.
pub(crate) fn transfer_connections(listener: &TcpListener, own: usize) {
    route_new_connections_to(listener, own as u32);
    sleep(ACCEPT_QUEUE_GRACE);
}

/// Has the kernel deal connections out evenly again when the older one's sockets are gone, if the listener still is there.
pub(crate) fn rebalance_after_takeover(listener: &Arc<TcpListener>) {
    let listener = Arc::downgrade(listener);
    spawn(move || {
        sleep(OLD_SOCKET_CLOSE_DELAY);
        if let Some(listener) = listener.upgrade() {
            route_new_connections_to(&listener, HASH_FALLBACK);
        }
    });
}

fn route_new_connections_to(listener: &TcpListener, place: u32) {
    let mut program = [sock_filter { code: (BPF_RET | BPF_K) as u16, jt: 0, jf: 0, k: place }];
    let program = sock_fprog { len: 1, filter: program.as_mut_ptr() };
    if let Err(error) = setsockopt(listener, AttachReusePortCbpf, &program) {
        // The hash goes on; a connection that is half open at the wrong moment is reset.
        tracing::debug!(%error, "new connections cannot be steered");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::server::listener::bind;
    use std::net::{SocketAddr, TcpStream};

    /// How many of 40 connections each gets.
    fn accepted_counts(listeners: &[TcpListener], address: SocketAddr) -> Vec<usize> {
        let clients: Vec<_> = (0..40).map(|_| TcpStream::connect(address).unwrap()).collect();
        let counts = listeners.iter().map(|l| std::iter::from_fn(|| l.accept().ok()).count()).collect();
        drop(clients);
        counts
    }

    #[test]
    fn new_connections_go_to_those_who_came_later_and_are_dealt_evenly_when_the_older_are_gone() {
        let first = bind("127.0.0.1:0".parse().unwrap(), true).unwrap();
        let address = first.local_addr().unwrap();
        let mut all = vec![first];
        all.extend((0..4).map(|_| bind(address, true).unwrap()));
        transfer_connections(&all[0], 2);
        let counts = accepted_counts(&all, address);
        assert!(counts[2] > 0 && counts.iter().sum::<usize>() == counts[2], "{counts:?}");
        all.drain(..2);
        route_new_connections_to(&all[0], HASH_FALLBACK);
        assert!(accepted_counts(&all, address).iter().all(|&count| count > 0));
        // Nobody came after these.
        transfer_connections(&all[0], 3);
        assert!(accepted_counts(&all, address).iter().all(|&count| count > 0));
    }
}
