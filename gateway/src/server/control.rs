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

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use crate::clock::now_millis;
use crate::config::{Settings, Store as StoreSettings};
use crate::runtime::Gateway;
use crate::runtime_config::RuntimeConfigError;
use crate::server::lifecycle::{ServeError, open_store, policy};
use crate::sessions::{MemoryStore, RevocationReason, SessionId, SessionInfo, Sessions, Store, UnixMillis};
use crate::users::{CanonicalName, UserSources};

/// A whole exchange may take so long, on either side.
const IO_TIMEOUT: Duration = Duration::from_secs(5);
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
            tracing::warn!(%error, %path, "no socket for commands: `users unlock`, `users logout` and `sessions` will not reach this gateway");
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
                if !matches!(timeout(IO_TIMEOUT, exchange(stream, &gateway)).await, Ok(Ok(()))) {
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
    let answer = match serde_json::from_str::<ControlCommand>(&line) {
        Ok(command) => {
            let users = Arc::clone(&gateway.configuration.current().users);
            let result = command.execute_command(&gateway.sessions, &users).await;
            result.unwrap_or_else(|error| ControlResponse::Error(error.to_string()))
        }
        Err(_) => {
            let why = "it does not know this command; it may be of another version";
            ControlResponse::Error(why.to_owned())
        }
    };
    let mut answer = serde_json::to_vec(&answer)?;
    answer.push(b'\n');
    stream.write_all(&answer).await?;
    stream.flush().await
}

/// What an operator can ask for, one line of JSON on the socket.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ControlCommand {
    /// Take the lock off this name.
    Unlock(String),
    /// End all sessions of the user of this name.
    Logout(String),
    /// List the sessions of the user of this name, or of all.
    Sessions(Option<String>),
    /// End this session.
    Revoke(SessionId),
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ControlResponse {
    /// Whether the name was locked.
    Unlocked(bool),
    /// So many sessions that were not over before.
    Ended(usize),
    /// The sessions that may go on.
    Sessions(Vec<SessionInfo>),
    /// It was not done.
    Error(String),
}

impl ControlCommand {
    async fn execute_command(
        self,
        sessions: &Sessions,
        users: &UserSources,
    ) -> Result<ControlResponse, ServeError> {
        let now = now_millis();
        Ok(match self {
            ControlCommand::Unlock(name) => {
                let name = CanonicalName::for_lockout(&name);
                let was_locked = sessions.unlock(name.as_str(), now).await?;
                audit_command("unlock", name.as_str(), "-", usize::from(was_locked));
                ControlResponse::Unlocked(was_locked)
            }
            ControlCommand::Logout(name) => {
                let mut ended = 0;
                for subject in subjects(sessions, users, &name, now).await? {
                    ended += sessions.revoke_all(&subject, RevocationReason::Revoked, now).await?;
                }
                audit_command("logout-all", &name, "-", ended);
                ControlResponse::Ended(ended)
            }
            ControlCommand::Sessions(None) => ControlResponse::Sessions(sessions.list(None, now).await?),
            ControlCommand::Sessions(Some(name)) => {
                let mut listed = Vec::new();
                for subject in subjects(sessions, users, &name, now).await? {
                    listed.extend(sessions.list(Some(&subject), now).await?);
                }
                ControlResponse::Sessions(listed)
            }
            ControlCommand::Revoke(id) => {
                let ended = usize::from(sessions.revoke_of(None, id, now).await?);
                audit_command("revoke", "-", &id.to_string(), ended);
                ControlResponse::Ended(ended)
            }
        })
    }
}

/// The ids behind a name: of the user who has it now, or of whoever had it at login where nobody has it any more.
async fn subjects(
    sessions: &Sessions,
    users: &UserSources,
    name: &str,
    now: UnixMillis,
) -> Result<Vec<String>, ServeError> {
    let name = CanonicalName::for_lockout(name);
    if let Some(found) = users.by_name(&name).await? {
        return Ok(vec![found.user.id.clone()]);
    }
    let all = sessions.list(None, now).await?.into_iter();
    let mut ids: Vec<String> =
        all.filter(|session| session.username == name.as_str()).map(|session| session.subject).collect();
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// Tells auditors what was done at an operator's word, and to how many.
pub(super) fn audit_command(event: &'static str, subject: &str, session: &str, count: usize) {
    tracing::info!(
        target: "audit", event, outcome = "success", subject, session, client = "command",
        request_id = "-", count, "{event} success"
    );
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    /// The store lives in the gateway's memory.
    #[error(
        "store.kind is \"memory\", which no command can reach: its locks and sessions end with the gateway's process"
    )]
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

/// Has a command carried out: by the running gateway or, where none runs, by this process.
pub(crate) fn control(settings: &Settings, command: ControlCommand) -> Result<ControlResponse, ControlError> {
    if let StoreSettings::Memory = settings.store {
        return Err(ControlError::OutOfReach);
    }
    if let Some(path) = socket_path(&settings.store) {
        match BlockingStream::connect(&path) {
            Ok(stream) => {
                let answer = send(stream, &command);
                return match answer.map_err(|source| ControlError::Socket { path, source })? {
                    ControlResponse::Error(answer) => Err(ControlError::Refused(answer)),
                    answer => Ok(answer),
                };
            }
            // Nobody listens: no gateway runs.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {}
            Err(source) => return Err(ControlError::Socket { path, source }),
        }
    }
    in_store(settings, command).map_err(|error| ControlError::Store(Box::new(error)))
}

fn send(mut stream: BlockingStream, command: &ControlCommand) -> io::Result<ControlResponse> {
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    stream.set_write_timeout(Some(IO_TIMEOUT))?;
    let mut line = serde_json::to_vec(command)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    // One of an earlier version says no in words.
    Ok(serde_json::from_str(&answer).unwrap_or_else(|_| {
        ControlResponse::Error(answer.trim_end().trim_start_matches("error: ").to_owned())
    }))
}

/// In a store that gateways share, they hear of it.
fn in_store(settings: &Settings, command: ControlCommand) -> Result<ControlResponse, ServeError> {
    let (users, _) = UserSources::load(&settings.users).map_err(RuntimeConfigError::Users)?;
    let store = match &settings.store {
        // Opening would make an empty store where there is none, which has neither locks nor sessions.
        StoreSettings::Embedded { path } if !path.exists() => Arc::new(MemoryStore::new()) as Arc<dyn Store>,
        store => open_store(store)?,
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServeError::Thread)?;
    runtime.block_on(async {
        let sessions = Sessions::start(store, policy(settings), now_millis()).await?;
        command.execute_command(&sessions, &users).await
    })
}
