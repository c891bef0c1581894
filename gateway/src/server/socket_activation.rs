//! Socket activation (systemd): listening sockets that the service manager opened before the start. They stay
//! open between processes, so clients wait during a restart instead of being refused.

use std::io;
use std::net::TcpListener;

use listenfd::ListenFd;

/// Environment variable with the names of the sockets: `FileDescriptorName=` in the socket unit.
const NAMES: &str = "LISTEN_FDNAMES";

/// A socket from the service manager is not a usable listener.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot use a socket of the service manager: {0}; they have to be TCP sockets that listen (ListenStream= with a port)"
)]
pub struct SocketActivationError(pub(crate) io::Error);

/// The sockets by name.
#[derive(Debug)]
pub struct ActivatedSockets {
    sockets: Vec<(String, TcpListener)>,
}

impl ActivatedSockets {
    /// Takes the sockets that were passed to this process, mostly none. To be called before a second thread
    /// starts, for the environment is changed: child processes must not inherit the variables.
    pub fn take() -> Result<ActivatedSockets, SocketActivationError> {
        let names = std::env::var(NAMES).unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned);
        let mut given = ListenFd::from_env();
        let mut sockets = Vec::new();
        for place in 0..given.len() {
            let name = names.next().unwrap_or_default();
            if let Some(socket) = given.take_tcp_listener(place).map_err(SocketActivationError)? {
                socket.set_nonblocking(true).map_err(SocketActivationError)?;
                sockets.push((name, socket));
            }
        }
        Ok(ActivatedSockets { sockets })
    }

    /// The sockets for the admin listener.
    pub(crate) fn admin(&mut self) -> Vec<TcpListener> {
        self.sockets.extract_if(.., |(name, _)| name == "admin").map(|(_, socket)| socket).collect()
    }

    /// The sockets for the HTTPS redirect listener.
    pub(crate) fn redirect(&mut self) -> Vec<TcpListener> {
        self.sockets.extract_if(.., |(name, _)| name == "redirect").map(|(_, socket)| socket).collect()
    }

    /// All others, under any name: a socket unit without `FileDescriptorName=` uses its own name.
    pub(crate) fn public(self) -> Vec<TcpListener> {
        self.sockets.into_iter().map(|(_, socket)| socket).collect()
    }
}

/// Duplicates sockets until there is one per worker: several workers may accept from one socket.
pub(crate) fn shared_out(sockets: &[TcpListener], workers: usize) -> io::Result<Vec<TcpListener>> {
    (0..workers.max(1)).map(|worker| sockets[worker % sockets.len()].try_clone()).collect()
}
