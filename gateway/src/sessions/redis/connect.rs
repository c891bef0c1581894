//! Opening a Redis connection: TCP, TLS, AUTH, RESP3, and master discovery through Sentinel.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, FromRedisValue, ProtocolVersion, PushInfo, RedisConnectionInfo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::error::RedisError;
use crate::config::{Redis, RedisAddress, RedisLogin, RedisServers, RedisTimeouts, RedisTls};
use crate::tls::client_config;

/// Maximum number of commands in flight; more wait.
const MAX_IN_FLIGHT: usize = 1024;

/// Why connecting to Redis is impossible.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot use TLS to Redis: {0}; check ca_file, client_certificate_file and client_key_file in [store.redis]"
)]
pub struct TlsError(String);

/// An authenticated connection. It closes when the last clone is dropped.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    commands: MultiplexedConnection,
    command_timeout: Duration,
    _task: Arc<ConnectionTask>,
}

/// The task that reads and writes; without the abort on drop, the task of a server that hangs would never
/// end.
#[derive(Debug)]
struct ConnectionTask(AbortHandle);

impl Drop for ConnectionTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connection {
    /// Sends a command and waits for its response, for at most `store.redis.command_timeout`.
    pub(super) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        within(self.command_timeout, command.query_async(&mut self.commands.clone())).await
    }

    /// The same with ASKING, for a cluster node that is importing the slot.
    pub(super) async fn query_asking<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        let mut both = redis::Pipeline::with_capacity(2);
        both.cmd("ASKING").ignore().add_command(command.clone());
        let (answer,) = self.query_all(&both, self.command_timeout).await?;
        Ok(answer)
    }

    /// Sends commands in a pipeline; each has its own response.
    pub(super) async fn query_all<T: FromRedisValue>(
        &self,
        commands: &redis::Pipeline,
        timeout_after: Duration,
    ) -> Result<T, RedisError> {
        within(timeout_after, commands.query_async(&mut self.commands.clone())).await
    }

    /// Subscribes to a channel; its messages go to the callback given to [`Connector::open`].
    pub(super) async fn subscribe(&self, channel: &str) -> Result<(), RedisError> {
        within(self.command_timeout, self.commands.clone().subscribe(channel)).await
    }
}

async fn within<T>(
    timeout_after: Duration,
    answer: impl Future<Output = redis::RedisResult<T>>,
) -> Result<T, RedisError> {
    match timeout(timeout_after, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(RedisError::Lost(format!("no answer within {} ms", timeout_after.as_millis()))),
    }
}

/// Connects to the configured servers.
pub(super) struct Connector {
    login: RedisLogin,
    database: i64,
    tls: Option<TlsConnector>,
    timeouts: RedisTimeouts,
}

impl Connector {
    pub(super) fn new(settings: &Redis) -> Result<Connector, TlsError> {
        let database = match settings.servers {
            RedisServers::Single { database, .. } => database,
            _ => 0,
        };
        let tls = settings.tls.as_ref().map(connector).transpose()?;
        let timeouts = settings.timeouts;
        Ok(Connector { login: settings.login.clone(), database, tls, timeouts })
    }

    /// Connects to a server within `store.redis.connect_timeout`. Messages of subscribed channels go to
    /// `hear`, in order with the responses.
    pub(super) async fn open(
        &self,
        address: &RedisAddress,
        hear: impl Fn(&PushInfo) + Send + Sync + 'static,
    ) -> Result<Connection, RedisError> {
        self.connect(address, &self.login, self.database, hear).await
    }

    /// Queries the Sentinels in turn, beginning with index `first`, for the address of the master.
    pub(super) async fn master(
        &self,
        sentinels: &[RedisAddress],
        first: usize,
        master_name: &str,
        login: &RedisLogin,
    ) -> Result<RedisAddress, RedisError> {
        let mut complaints = Vec::new();
        for place in 0..sentinels.len() {
            let sentinel = &sentinels[(first + place) % sentinels.len()];
            match self.query_sentinel(sentinel, master_name, login).await {
                Ok(Some((host, port))) => return Ok(RedisAddress { host, port }),
                Ok(None) => complaints.push(format!("{sentinel} knows no master {master_name:?}")),
                Err(error) => complaints.push(format!("{sentinel}: {}", error.text())),
            }
        }
        // Sorted, or the same errors would look new each time.
        complaints.sort_unstable();
        Err(RedisError::Lost(format!("no Sentinel reports the master: {}", complaints.join("; "))))
    }

    async fn query_sentinel(
        &self,
        sentinel: &RedisAddress,
        master_name: &str,
        login: &RedisLogin,
    ) -> Result<Option<(String, u16)>, RedisError> {
        let connection = self.connect(sentinel, login, 0, |_| {}).await?;
        let mut question = redis::cmd("SENTINEL");
        connection.query(question.arg("GET-MASTER-ADDR-BY-NAME").arg(master_name)).await
    }

    async fn connect(
        &self,
        address: &RedisAddress,
        login: &RedisLogin,
        database: i64,
        hear: impl Fn(&PushInfo) + Send + Sync + 'static,
    ) -> Result<Connection, RedisError> {
        let connecting = async {
            let socket = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(lost)?;
            socket.set_nodelay(true).map_err(lost)?;
            let Some(tls) = &self.tls else {
                return set_up(socket, login, database, self.timeouts.command, hear).await;
            };
            let name = ServerName::try_from(address.host.clone()).map_err(lost)?;
            set_up(
                tls.connect(name, socket).await.map_err(lost)?,
                login,
                database,
                self.timeouts.command,
                hear,
            )
            .await
        };
        let late = |_| {
            Err(RedisError::Lost(format!("no connection within {} ms", self.timeouts.connect.as_millis())))
        };
        timeout(self.timeouts.connect, connecting).await.unwrap_or_else(late)
    }
}

fn lost(error: impl std::fmt::Display) -> RedisError {
    RedisError::Lost(error.to_string())
}

/// Authenticates and switches to RESP3, in which messages and responses share a connection.
async fn set_up(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    login: &RedisLogin,
    database: i64,
    command_timeout: Duration,
    hear: impl Fn(&PushInfo) + Send + Sync + 'static,
) -> Result<Connection, RedisError> {
    let mut who = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_db(database)
        .set_lib_name("auth-gateway", env!("CARGO_PKG_VERSION"));
    if let Some(username) = &login.username {
        who = who.set_username(username);
    }
    if let Some(password) = &login.password {
        who = who.set_password(password.as_str());
    }
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_pipeline_buffer_size(MAX_IN_FLIGHT)
        .set_push_sender(move |message: PushInfo| {
            hear(&message);
            Ok::<(), std::convert::Infallible>(())
        });
    let (commands, task) = MultiplexedConnection::new_with_config(&who, stream, config).await?;
    let task = tokio::spawn(task).abort_handle();
    Ok(Connection { commands, command_timeout, _task: Arc::new(ConnectionTask(task)) })
}

/// The TLS connector, built once: an unusable file prevents the start.
fn connector(settings: &RedisTls) -> Result<TlsConnector, TlsError> {
    let config = client_config(settings.ca_file.as_ref(), settings.client.as_ref()).map_err(TlsError)?;
    Ok(TlsConnector::from(Arc::new(config)))
}
