//! The sockets that a gateway listens on: its own, or those of the service manager's.

use std::io;
use std::net::{SocketAddr, TcpListener};

use crate::config::Settings;
use crate::server::listener::bind;
use crate::server::socket_activation::{ActivatedSockets, SocketActivationError, shared_out};

/// Why nothing can be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// An address.
    #[error("cannot listen on {address} ({key}): {source}; {remedy}", remedy = remedy(source, *address))]
    Address {
        /// The address.
        address: SocketAddr,
        /// The key that says it.
        key: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A socket of the service manager's.
    #[error(transparent)]
    ActivatedSockets(#[from] SocketActivationError),
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

/// All of them, by what they are for.
pub(crate) struct Sockets {
    /// One for each worker.
    pub(crate) public: Vec<TcpListener>,
    pub(crate) public_address: SocketAddr,
    /// The public ones go on to listen without this process: what the next one will accept is none of this one's business.
    pub(crate) outlive: bool,
    pub(crate) admin: TcpListener,
    pub(crate) admin_address: SocketAddr,
    pub(crate) redirect: Option<TcpListener>,
}

impl Sockets {
    /// Takes the addresses. `beside_another` lets a gateway of the same account have them as well.
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

/// So many sockets on one address, or those that were inherited; port 0 is chosen once, by the first.
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
    // Sharing would let a second gateway bind the same address unnoticed: the first socket is taken alone for a look.
    let look = bind(address, beside_another).map_err(failed)?;
    let address = look.local_addr().map_err(failed)?;
    drop(look);
    let bound: io::Result<Vec<_>> = (0..sockets).map(|_| bind(address, true)).collect();
    Ok((bound.map_err(failed)?, address))
}
