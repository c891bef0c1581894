//! Sockets that the service manager opened before the start (systemd's socket activation). They stay open from one
//! process to the next, so that clients wait while the gateway restarts instead of being refused.

use std::io;
use std::net::TcpListener;

use listenfd::ListenFd;

/// What systemd calls them: `FileDescriptorName=` in the socket's unit.
const NAMES: &str = "LISTEN_FDNAMES";

/// A socket of the service manager's is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot use a socket of the service manager: {0}; they have to be TCP sockets that listen (ListenStream= with a port)"
)]
pub struct SocketActivationError(pub(crate) io::Error);

/// The sockets by their names.
#[derive(Debug)]
pub struct ActivatedSockets {
    sockets: Vec<(String, TcpListener)>,
}

impl ActivatedSockets {
    /// Those that were given to this process; mostly none. To be called before there is a second thread, for the
    /// environment is changed: children must not take them for theirs.
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

    /// Those for the admin listener.
    pub(crate) fn admin(&mut self) -> Vec<TcpListener> {
        self.sockets.extract_if(.., |(name, _)| name == "admin").map(|(_, socket)| socket).collect()
    }

    /// Those for the plain listener beside TLS.
    pub(crate) fn redirect(&mut self) -> Vec<TcpListener> {
        self.sockets.extract_if(.., |(name, _)| name == "redirect").map(|(_, socket)| socket).collect()
    }

    /// All others, whatever their names: a socket's unit that says nothing gives it its own.
    pub(crate) fn public(self) -> Vec<TcpListener> {
        self.sockets.into_iter().map(|(_, socket)| socket).collect()
    }
}

/// So many sockets out of fewer: workers may accept from one.
pub(crate) fn shared_out(sockets: &[TcpListener], workers: usize) -> io::Result<Vec<TcpListener>> {
    (0..workers.max(1)).map(|worker| sockets[worker % sockets.len()].try_clone()).collect()
}
