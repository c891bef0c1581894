//! The control socket: operator commands (`users unlock`, `sessions revoke`, …) to the running gateway over a
//! Unix socket beside the state file.
//!
//! Only the gateway has the state file open, so a command that changes it has to go through the gateway. The
//! socket has mode 0600 and accepts the gateway's own account and root, who could write the state file as
//! well. It is not reachable over a network, so server-side request forgery cannot reach it.

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
use crate::file_owner::with_suffix;
use crate::runtime::Gateway;
use crate::runtime_config::RuntimeConfigError;
use crate::server::lifecycle::{ServeError, open_store, policy};
use crate::services::personal_tokens::TokenRequest;
use crate::sessions::{
    CreateTokenError, MemoryStore, PersonalTokenInfo, RevocationReason, SessionId, SessionInfo, Sessions,
    Store, StoreError, Ticket, TicketPurpose, TokenText, UnixMillis,
};
use crate::telemetry::AuditEvent;
use crate::users::{CanonicalName, UserSources};

/// Timeout of reading or writing, on either side, and of most commands.
const IO_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of a backup: a state file of a gigabyte on a slow disk.
const BACKUP_TIMEOUT: Duration = Duration::from_secs(600);
/// Maximum length of a command, in bytes; the longest user name fits.
const MAX_LINE: u64 = 4096;

/// The path of the socket, for a store that belongs to one process.
fn socket_path(store: &StoreSettings) -> Option<PathBuf> {
    match store {
        StoreSettings::Embedded { path } => Some(with_suffix(path, ".sock")),
        StoreSettings::Memory | StoreSettings::Redis(_) => None,
    }
}

/// The bound socket; its file is removed on drop.
pub(crate) struct ControlSocket {
    listener: std::os::unix::net::UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Binds the socket. The caller has the store open, so a socket file that already exists is stale. The
    /// gateway works without it: a failure is logged and does not prevent the start.
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

    /// Serves until the process ends, one command per connection.
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
                if exchange(stream, &gateway).await.is_err() {
                    tracing::debug!("a command went away");
                }
            });
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // A file that cannot be removed is removed by the next start.
        let _ = fs::remove_file(&self.path);
    }
}

async fn exchange(stream: UnixStream, gateway: &Gateway) -> io::Result<()> {
    let mut stream = BufStream::new(stream);
    let mut line = String::new();
    timeout(IO_TIMEOUT, (&mut stream).take(MAX_LINE).read_line(&mut line)).await??;
    let answer = match serde_json::from_str::<ControlCommand>(&line) {
        Ok(command) => {
            let current = gateway.configuration.current();
            let limit = command.timeout();
            match timeout(
                limit,
                command.execute_command(&gateway.sessions, &current.users, &current.settings),
            )
            .await
            {
                Ok(result) => result.unwrap_or_else(|error| ControlResponse::Error(error.to_string())),
                Err(_) => ControlResponse::Error(format!("it took longer than {} s", limit.as_secs())),
            }
        }
        Err(_) => {
            let why = "it does not know this command; it may be of another version";
            ControlResponse::Error(why.to_owned())
        }
    };
    let mut answer = serde_json::to_vec(&answer)?;
    answer.push(b'\n');
    timeout(IO_TIMEOUT, async {
        stream.write_all(&answer).await?;
        stream.flush().await
    })
    .await?
}

/// An operator's command, one line of JSON on the socket.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ControlCommand {
    /// Unlock this user name.
    Unlock(String),
    /// End all sessions of the user with this name.
    Logout(String),
    /// Make a ticket by which the user with this name sets a new password, for so many milliseconds.
    Reset(String, u64),
    /// Remove the second factors of the user with this name.
    ResetMfa(String),
    /// List the sessions of the user with this name, or of all users.
    Sessions(Option<String>),
    /// End this session.
    Revoke(SessionId),
    /// Make a personal access token for the user with this name.
    CreateToken { user: String, request: TokenRequest },
    /// List the personal access tokens of the user with this name, or of all users.
    Tokens(Option<String>),
    /// Revoke this personal access token.
    RevokeToken(SessionId),
    /// Revoke all personal access tokens of the user with this name.
    RevokeTokens(String),
    /// Write a copy of the state file into its folder.
    Backup,
}

/// The response to a command.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ControlResponse {
    /// Whether the name was locked.
    Unlocked(bool),
    /// The number of sessions or tokens that were ended.
    Ended(usize),
    /// Whether there was a second factor.
    Removed(bool),
    /// The secret of a ticket.
    Ticket(String),
    /// The live sessions.
    Sessions(Vec<SessionInfo>),
    /// The new token.
    TokenCreated { token: TokenText, info: PersonalTokenInfo },
    /// The live tokens.
    Tokens(Vec<PersonalTokenInfo>),
    /// The name of the copy, in the folder of the state file.
    BackedUp(String),
    /// The command failed.
    Error(String),
}

impl ControlCommand {
    /// How long the gateway may take.
    fn timeout(&self) -> Duration {
        if let ControlCommand::Backup = self { BACKUP_TIMEOUT } else { IO_TIMEOUT }
    }

    async fn execute_command(
        self,
        sessions: &Sessions,
        users: &UserSources,
        settings: &Settings,
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
            ControlCommand::Reset(name, ttl) => {
                let name = CanonicalName::for_lockout(&name);
                let Some(found) = users.by_name(&name).await? else {
                    return Ok(ControlResponse::Error(format!("no source has a user {name}")));
                };
                if found.user.disabled || !users.is_writable(&found) {
                    let why = match found.user.disabled {
                        true => "is disabled: enable the user first".to_owned(),
                        false => {
                            format!("is kept in {}, which is read-only: set the password there", found.source)
                        }
                    };
                    return Ok(ControlResponse::Error(format!("{name} {why}")));
                }
                let ticket = Ticket {
                    purpose: TicketPurpose::PasswordReset,
                    subject: found.user.id.clone(),
                    credential: found.user.credential_fingerprint(),
                    expires_at: now.saturating_add(Duration::from_millis(ttl)),
                    used_at: None,
                };
                let secret = sessions.issue_ticket(ticket).await?;
                audit_command("password-reset-link", name.as_str(), "-", 1);
                ControlResponse::Ticket(secret)
            }
            ControlCommand::ResetMfa(name) => {
                let name = CanonicalName::for_lockout(&name);
                let Some(found) = users.by_name(&name).await? else {
                    return Ok(ControlResponse::Error(format!("no source has a user {name}")));
                };
                let removed = match sessions.remove_factors(&found.user.id).await {
                    Ok(removed) => removed,
                    Err(error) => return Ok(ControlResponse::Error(error.to_string())),
                };
                audit_command("mfa-reset", name.as_str(), "-", usize::from(removed));
                ControlResponse::Removed(removed)
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
            ControlCommand::CreateToken { user, request } => {
                create_token(sessions, users, settings, &user, request).await?
            }
            ControlCommand::Tokens(None) => ControlResponse::Tokens(sessions.list_tokens(None, now).await?),
            ControlCommand::Tokens(Some(name)) => {
                let mut listed = Vec::new();
                for subject in subjects(sessions, users, &name, now).await? {
                    listed.extend(sessions.list_tokens(Some(&subject), now).await?);
                }
                ControlResponse::Tokens(listed)
            }
            ControlCommand::RevokeToken(id) => {
                let revoked = sessions.revoke_token(None, id, now).await?;
                let owner = revoked.as_ref().map_or("-", |token| &token.username);
                audit_command("token-revoke", owner, &id.to_string(), usize::from(revoked.is_some()));
                ControlResponse::Ended(usize::from(revoked.is_some()))
            }
            ControlCommand::RevokeTokens(name) => {
                let mut ended = 0;
                for subject in subjects(sessions, users, &name, now).await? {
                    for token in sessions.list_tokens(Some(&subject), now).await? {
                        ended += usize::from(sessions.revoke_token(None, token.id, now).await?.is_some());
                    }
                }
                audit_command("token-revoke", &name, "-", ended);
                ControlResponse::Ended(ended)
            }
            ControlCommand::Backup => {
                let StoreSettings::Embedded { path } = &settings.store else {
                    return Err(StoreError::Unavailable("it is not a file, and has no backup".into()).into());
                };
                // The client chooses no path: this process may write where the client may not.
                let name = format!("{}.backup-{}", file_name(path), now.get());
                sessions.backup(&path.with_file_name(&name)).await?;
                audit_command("state-backup", "-", "-", 1);
                ControlResponse::BackedUp(name)
            }
        })
    }
}

async fn create_token(
    sessions: &Sessions,
    users: &UserSources,
    settings: &Settings,
    name: &str,
    request: TokenRequest,
) -> Result<ControlResponse, ServeError> {
    let now = now_millis();
    let refused = |why: String| Ok(ControlResponse::Error(why));
    let limits = &settings.personal_tokens;
    if !limits.enabled {
        return refused("personal access tokens are off: write [personal_tokens] enabled = true".to_owned());
    }
    let Some(found) = users.by_name(&CanonicalName::for_lockout(name)).await? else {
        return refused(format!("there is no user {name:?}"));
    };
    if found.user.disabled {
        return refused(format!("the user {name:?} is disabled"));
    }
    let new = match request.grant(&found.user, settings, now) {
        Ok(new) => new,
        Err(why) => return refused(why),
    };
    match sessions.create_token(new, limits.max_per_user, now).await {
        Ok((token, info)) => {
            audit_command("token-create", &info.username, &info.id.to_string(), 1);
            Ok(ControlResponse::TokenCreated { token, info })
        }
        Err(CreateTokenError::TooMany) => refused(CreateTokenError::TooMany.to_string()),
        Err(CreateTokenError::Store(error)) => Err(error.into()),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The user ids behind a name: of the user who has it now, or of those who had it at login where no user has
/// it any more.
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
    let of_sessions =
        sessions.list(None, now).await?.into_iter().map(|session| (session.username, session.subject));
    let of_tokens =
        sessions.list_tokens(None, now).await?.into_iter().map(|token| (token.username, token.subject));
    let all = of_sessions.chain(of_tokens);
    let mut ids: Vec<String> =
        all.filter(|(username, _)| username == name.as_str()).map(|(_, subject)| subject).collect();
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// Writes an audit event for an operator's command, with the number of affected sessions.
fn audit_command(event: &'static str, subject: &str, session: &str, count: usize) {
    AuditEvent {
        session: Some(session),
        client: "command",
        count: Some(count as u64),
        ..AuditEvent::new(event, "success", subject)
    }
    .write();
}

/// Why a command was not executed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    /// The store is in the gateway's memory.
    #[error(
        "store.kind is \"memory\", which no command can reach: its locks and sessions end with the gateway's process"
    )]
    OutOfReach,
    /// The running gateway reported an error.
    #[error("the running gateway answered: {0}")]
    Refused(String),
    /// This process could not execute it.
    #[error("{0}")]
    Failed(String),
    /// The socket exists and does not work.
    #[error(
        "cannot speak with the running gateway over {path}: {source}; run this as the gateway's account or as root"
    )]
    Socket {
        /// The socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// No gateway is running, and the store cannot be opened either.
    #[error(transparent)]
    Store(Box<ServeError>),
}

/// Executes a command: through the running gateway or, where none is running, in this process.
pub(crate) fn control(settings: &Settings, command: ControlCommand) -> Result<ControlResponse, ControlError> {
    if let StoreSettings::Memory = settings.store {
        return Err(ControlError::OutOfReach);
    }
    if let Some(path) = socket_path(&settings.store) {
        match BlockingStream::connect(&path) {
            Ok(stream) => {
                let answer = send(stream, &command, command.timeout() + IO_TIMEOUT);
                return match answer.map_err(|source| ControlError::Socket { path, source })? {
                    ControlResponse::Error(answer) => Err(ControlError::Refused(answer)),
                    answer => Ok(answer),
                };
            }
            // Nothing listens on the socket: no gateway is running.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {}
            Err(source) => return Err(ControlError::Socket { path, source }),
        }
    }
    match in_store(settings, command).map_err(|error| ControlError::Store(Box::new(error)))? {
        ControlResponse::Error(answer) => Err(ControlError::Failed(answer)),
        answer => Ok(answer),
    }
}

fn send(
    mut stream: BlockingStream,
    command: &ControlCommand,
    limit: Duration,
) -> io::Result<ControlResponse> {
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(IO_TIMEOUT))?;
    let mut line = serde_json::to_vec(command)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    // A gateway of an earlier version reports errors as plain text.
    Ok(serde_json::from_str(&answer).unwrap_or_else(|_| {
        ControlResponse::Error(answer.trim_end().trim_start_matches("error: ").to_owned())
    }))
}

/// Executes a command in a shared store; other gateways are notified through it.
fn in_store(settings: &Settings, command: ControlCommand) -> Result<ControlResponse, ServeError> {
    let (users, _) = UserSources::load(&settings.users).map_err(RuntimeConfigError::Users)?;
    let store = match &settings.store {
        // Opening would create an empty store, which has neither locks nor sessions.
        StoreSettings::Embedded { path }
            if !path.exists() && !matches!(command, ControlCommand::Reset(..)) =>
        {
            Arc::new(MemoryStore::new()) as Arc<dyn Store>
        }
        store => open_store(store)?,
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServeError::Thread)?;
    runtime.block_on(async {
        let sessions = Sessions::start(store, policy(settings), now_millis()).await?;
        command.execute_command(&sessions, &users, settings).await
    })
}
