//! `SO_REUSEPORT` steering by classic BPF: which sockets get new connections while a new process takes over
//! (hot restart).
//!
//! By default the kernel hashes connections over the sockets of both processes, so some are half open (SYN
//! received) at the old one when it closes its sockets, and are reset. A filter (socket(7),
//! `SO_ATTACH_REUSEPORT_CBPF`) selects a socket by its index in the group, in which those of the old process
//! come first. An index out of range falls back to the hash.

use std::net::TcpListener;
use std::sync::Arc;
use std::thread::{sleep, spawn};
use std::time::Duration;

use nix::libc::{BPF_K, BPF_RET, sock_filter, sock_fprog};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::AttachReusePortCbpf;

/// How long the old process still accepts connections that were half open.
const ACCEPT_QUEUE_GRACE: Duration = Duration::from_millis(250);
/// After this delay the old process has closed its sockets.
const OLD_SOCKET_CLOSE_DELAY: Duration = Duration::from_secs(1);
/// An index out of range: the kernel falls back to its hash.
const HASH_FALLBACK: u32 = u32::MAX;

/// Routes new connections to the sockets that were bound after our `own`; returns when those that were half
/// open at ours are established. Without a later socket nothing changes.
pub(crate) fn transfer_connections(listener: &TcpListener, own: usize) {
    route_new_connections_to(listener, own as u32);
    sleep(ACCEPT_QUEUE_GRACE);
}

/// Restores the kernel's hash distribution once the old process has closed its sockets, if the listener still
/// exists.
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
        // The hash stays in use; a connection that is half open at the wrong moment is reset.
        tracing::debug!(%error, "new connections cannot be steered");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::server::listener::bind;
    use std::net::{SocketAddr, TcpStream};

    /// How many of 40 connections each listener gets.
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
        // There is no later socket.
        transfer_connections(&all[0], 3);
        assert!(accepted_counts(&all, address).iter().all(|&count| count > 0));
    }
}
