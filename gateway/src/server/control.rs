//! What the operator's commands ask of the running gateway, over a socket file beside the state file.
//!
//! The gateway alone has the state file open, so a command that changes what is in it must ask. The socket has mode
//! 0600 and answers the gateway's own account and root: whoever may use it could write the state file as well. No
//! network leads to it, so nothing that can be made to send requests can reach it.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use crate::config::{Settings, Store as StoreSettings};
use crate::runtime::Gateway;
use crate::server::lifecycle::{ServeError, open_store, policy, since_1970};
use crate::sessions::Sessions;
use crate::users::CanonicalName;

/// A whole exchange may take so long, on either side.
const PATIENCE: Duration = Duration::from_secs(5);
/// A command and the longest name fit into this, in bytes.
const MAX_LINE: u64 = 4096;

/// Where the socket is, for a store that one process has to itself.
fn socket_path(store: &StoreSettings) -> Option<PathBuf> {
    match store {
        StoreSettings::Embedded { path } => {
            let mut name = OsString::from(path);
            name.push(".sock");
            Some(name.into())
        }
        StoreSettings::Memory | StoreSettings::Redis(_) => None,
    }
}

/// The socket file; it is removed when this is dropped.
pub(crate) struct ControlSocket {
    listener: std::os::unix::net::UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Binds it. Whoever calls has the store open, so that a socket file which is there already was left by a process
    /// that is gone. A gateway without it does its work: what is wrong is told, and not a reason to stop.
    pub(crate) fn bind(store: &StoreSettings) -> Option<ControlSocket> {
        let path = socket_path(store)?;
        let bound = Self::bind_at(&path);
        if let Err(error) = &bound {
            let path = path.display();
            tracing::warn!(%error, %path, "no socket for commands: `users unlock` will not reach this gateway");
        }
        bound.ok()
    }

    fn bind_at(path: &Path) -> io::Result<ControlSocket> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = std::os::unix::net::UnixListener::bind(path)?;
        let socket = ControlSocket { listener, path: path.to_owned() };
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        socket.listener.set_nonblocking(true)?;
        Ok(socket)
    }

    /// Answers until the process ends, one command a connection.
    pub(crate) async fn serve(self, gateway: Arc<Gateway>) -> io::Result<()> {
        let owner = fs::metadata(&self.path)?.uid();
        let listener = UnixListener::from_std(self.listener.try_clone()?)?;
        loop {
            let (stream, _) = listener.accept().await?;
            let peer = stream.peer_cred()?.uid();
            if peer != owner && peer != 0 {
                tracing::warn!(uid = peer, "a command of another account was not listened to");
                continue;
            }
            let gateway = Arc::clone(&gateway);
            tokio::task::spawn_local(async move {
                if !matches!(timeout(PATIENCE, exchange(stream, &gateway)).await, Ok(Ok(()))) {
                    tracing::debug!("a command went away");
                }
            });
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // One that stays is removed by the next start.
        let _ = fs::remove_file(&self.path);
    }
}

async fn exchange(stream: UnixStream, gateway: &Gateway) -> io::Result<()> {
    let mut stream = BufStream::new(stream);
    let mut line = String::new();
    (&mut stream).take(MAX_LINE).read_line(&mut line).await?;
    let answer = match line.trim_end().split_once(' ') {
        Some(("unlock", name)) => {
            let now = since_1970().as_millis() as u64;
            let name = CanonicalName::for_lockout(name);
            match gateway.sessions.unlock(name.as_str(), now).await {
                Ok(was_locked) => {
                    tracing::info!(
                        target: "audit", event = "unlock", outcome = "success", subject = name.as_str(),
                        session = "-", client = "command", request_id = "-", was_locked, "unlock success"
                    );
                    format!("{}\n", if was_locked { WAS_LOCKED } else { WAS_NOT_LOCKED })
                }
                Err(error) => format!("error: {error}\n"),
            }
        }
        _ => {
            "error: the running gateway does not know this command; it may be of another version\n".to_owned()
        }
    };
    stream.write_all(answer.as_bytes()).await?;
    stream.flush().await
}

const WAS_LOCKED: &str = "was locked";
const WAS_NOT_LOCKED: &str = "was not locked";

/// Why a name could not be unlocked.
#[derive(Debug, thiserror::Error)]
pub enum UnlockError {
    /// The store lives in the gateway's memory.
    #[error("store.kind is \"memory\", which no command can reach: its locks end with the gateway's process")]
    OutOfReach,
    /// The running gateway said no.
    #[error("the running gateway answered: {0}")]
    Refused(String),
    /// The socket is there and does not work.
    #[error(
        "cannot speak with the running gateway over {path}: {source}; run this as the gateway's account or as root"
    )]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No gateway runs, and the store cannot be opened either.
    #[error(transparent)]
    Store(Box<ServeError>),
}

/// Takes the lock off a name: the running gateway does it, or, where none runs, this process. Tells whether the name was
/// locked.
pub fn unlock(settings: &Settings, name: &CanonicalName) -> Result<bool, UnlockError> {
    if let StoreSettings::Memory = settings.store {
        return Err(UnlockError::OutOfReach);
    }
    if let Some(path) = socket_path(&settings.store) {
        match BlockingStream::connect(&path) {
            Ok(stream) => return ask(stream, name).map_err(|error| error.at(&path)),
            // Nobody listens: no gateway runs.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {}
            Err(source) => return Err(UnlockError::Socket { path, source }),
        }
    }
    unlock_in_store(settings, name).map_err(|error| UnlockError::Store(Box::new(error)))
}

enum AskError {
    Io(io::Error),
    Refused(String),
}

impl AskError {
    fn at(self, path: &Path) -> UnlockError {
        match self {
            AskError::Io(source) => UnlockError::Socket { path: path.to_owned(), source },
            AskError::Refused(answer) => UnlockError::Refused(answer),
        }
    }
}

fn ask(mut stream: BlockingStream, name: &CanonicalName) -> Result<bool, AskError> {
    let talk = || {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(format!("unlock {name}\n").as_bytes())?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        Ok(answer)
    };
    match talk().map_err(AskError::Io)?.trim_end() {
        WAS_LOCKED => Ok(true),
        WAS_NOT_LOCKED => Ok(false),
        other => Err(AskError::Refused(other.trim_start_matches("error: ").to_owned())),
    }
}

fn unlock_in_store(settings: &Settings, name: &CanonicalName) -> Result<bool, ServeError> {
    if let StoreSettings::Embedded { path } = &settings.store
        && !path.exists()
    {
        // Nobody was ever locked, and opening would make an empty store.
        return Ok(false);
    }
    let store = open_store(&settings.store)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServeError::Thread)?;
    runtime.block_on(async {
        let now = since_1970().as_millis() as u64;
        let sessions = Sessions::start(store, policy(settings), now).await?;
        Ok(sessions.unlock(name.as_str(), now).await?)
    })
}
