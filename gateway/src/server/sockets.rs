//! Listening sockets of a gateway: bound by itself, or passed by the service manager.

use std::io;
use std::net::{SocketAddr, TcpListener};

use crate::config::Settings;
use crate::server::listener::bind;
use crate::server::socket_activation::{ActivatedSockets, SocketActivationError, shared_out};

/// Why a listener cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// An address cannot be bound.
    #[error("cannot listen on {address} ({key}): {source}; {remedy}", remedy = remedy(source, *address))]
    Address {
        /// The address.
        address: SocketAddr,
        /// The configuration key.
        key: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// A socket from the service manager is unusable.
    #[error(transparent)]
    ActivatedSockets(#[from] SocketActivationError),
}

impl ListenError {
    /// Whether another process has the address.
    pub(crate) fn is_in_use(&self) -> bool {
        matches!(self, ListenError::Address { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
    }
}

fn remedy(error: &io::Error, address: SocketAddr) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let port = address.port();
            format!(
                "another process has it: find it with `ss -ltnp 'sport = :{port}'` and stop it, or choose another address"
            )
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need the capability CAP_NET_BIND_SERVICE: choose a higher one, or grant it"
                .to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address: choose one that `ip addr` shows".to_owned()
        }
        _ => "choose another address".to_owned(),
    }
}

/// The listening sockets by purpose.
pub(crate) struct Sockets {
    /// One per worker.
    pub(crate) public: Vec<TcpListener>,
    pub(crate) public_address: SocketAddr,
    /// The public sockets outlive this process (socket activation): their accept queues belong to the next
    /// one.
    pub(crate) outlive: bool,
    pub(crate) admin: TcpListener,
    pub(crate) admin_address: SocketAddr,
    pub(crate) redirect: Option<TcpListener>,
}

impl Sockets {
    /// Binds the addresses. With `beside_another`, a gateway of the same account may have them bound as well
    /// (takeover).
    pub(crate) fn take(
        settings: &Settings,
        mut inherited: ActivatedSockets,
        beside_another: bool,
    ) -> Result<Sockets, ListenError> {
        let server = &settings.server;
        let (admin, redirect) = (inherited.admin(), inherited.redirect());
        let (mut admin, admin_address) =
            listen(settings.admin.listen, "admin.listen", 1, beside_another, admin)?;
        let given = redirect.first().and_then(|socket| socket.local_addr().ok());
        let redirect = match server.redirect_listen.or(given) {
            Some(address) => {
                Some(listen(address, "server.redirect_listen", 1, beside_another, redirect)?.0.remove(0))
            }
            None => None,
        };
        let public = inherited.public();
        let outlive = !public.is_empty();
        let (public, public_address) =
            listen(server.listen, "server.listen", server.workers, beside_another, public)?;
        Ok(Sockets { public, public_address, outlive, admin: admin.remove(0), admin_address, redirect })
    }
}

/// The addresses that a start could not bind, with their keys. A gateway of the same account may have them.
pub(crate) fn unusable_addresses(settings: &Settings) -> Vec<(&'static str, ListenError)> {
    let server = &settings.server;
    let wanted = [
        (Some(server.listen), "server.listen"),
        (server.redirect_listen, "server.redirect_listen"),
        (Some(settings.admin.listen), "admin.listen"),
    ];
    let bound = wanted.into_iter().filter_map(|(address, key)| {
        let address = address?;
        let error = bind(address, true).err()?;
        Some((key, ListenError::Address { address, key, source: error }))
    });
    bound.collect()
}

/// One socket per worker on an address, or the activated ones; port 0 is resolved once, by the first.
fn listen(
    address: SocketAddr,
    key: &'static str,
    sockets: usize,
    beside_another: bool,
    inherited: Vec<TcpListener>,
) -> Result<(Vec<TcpListener>, SocketAddr), ListenError> {
    let failed = |source| ListenError::Address { address, key, source };
    if let [first, ..] = &inherited[..] {
        let address = first.local_addr().map_err(SocketActivationError)?;
        tracing::info!(key, %address, "listening on a socket of the service manager's");
        return Ok((shared_out(&inherited, sockets).map_err(SocketActivationError)?, address));
    }
    // `SO_REUSEPORT` would let a second gateway bind the same address unnoticed: the first socket is bound
    // without it as a probe.
    let look = bind(address, beside_another).map_err(failed)?;
    let address = look.local_addr().map_err(failed)?;
    drop(look);
    let bound: io::Result<Vec<_>> = (0..sockets).map(|_| bind(address, true)).collect();
    Ok((bound.map_err(failed)?, address))
}
