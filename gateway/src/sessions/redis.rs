//! The Redis store, shared by several gateways: a single server, Sentinel, or Cluster.
//!
//! A swap is one Lua script ([`keyspace`] lists its keys). The new version is chosen before the first
//! attempt, so a swap that is retried because its response was lost finds out that it was made. Records have
//! TTLs by the gateway's clock, so Redis expires them by itself.
//!
//! The script that revokes a session also publishes the revocation, over the connection that every gateway
//! already subscribes on ([`connection_supervisor`]); a gateway that was not subscribed reads the revoked
//! sessions before it goes on. So no request has to query Redis.

mod cluster;
mod connect;
mod connection_supervisor;
mod data_loss_detector;
mod error;
mod keyspace;
mod revocation_subscriber;
mod server_settings_check;
mod topology;

#[cfg(test)]
#[allow(clippy::unwrap_used, dead_code)]
#[path = "../../tests/it/fixture/redis.rs"]
mod redis_servers;
#[cfg(test)]
pub(super) mod test_support;
#[cfg(test)]
mod tests;

use std::time::Duration;

use std::sync::Arc;

use redis::{Cmd, FromRedisValue, Script};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use self::connect::Connector;
pub use self::connect::TlsError;
use self::connection_supervisor::Shared;
use self::data_loss_detector::GenerationIds;
use self::error::RedisError;
use self::keyspace::{Keyspace, SHARDS, Shard, shard_of};
use self::revocation_subscriber::RevocationFreshness;
use self::server_settings_check::SettingsCheck;
use self::topology::Topology;
use super::secret::random_bytes;
use super::store::{Health, Key, Put, PutOutcome, Space, Store, StoreError, StoreFuture, Version, Versioned};
use super::{Revocations, UnixMillis};
use crate::clock::now_millis as now;
use crate::config::Redis as Settings;

/// Tolerated clock skew between gateways: revocations are kept for this much longer.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(60);

/// The longest TTL, ten years: Redis must not overflow when it multiplies it.
const MAX_TTL: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Reads the revocation log of a shard from a position.
const SYNC_SCRIPT: &str = include_str!("redis/sync.lua");
/// Compares and swaps a record.
const SWAP_SCRIPT: &str = include_str!("redis/swap.lua");

/// A store in Redis.
pub struct RedisStore {
    client: Arc<Client>,
    required_at_start: bool,
    /// The runtime of the connections; taken on drop.
    runtime: Option<Runtime>,
}

struct Client {
    topology: Topology,
    shared: Arc<Shared>,
    swap: Script,
}

impl RedisStore {
    /// Starts connecting, on a thread of its own. Redis need not be up yet.
    ///
    /// # Errors
    ///
    /// A certificate cannot be used, or the thread cannot be started.
    pub fn open(settings: &Settings) -> Result<RedisStore, RedisOpenError> {
        let keyspace = Keyspace::new(settings.key_prefix.clone());
        let freshness = RevocationFreshness::new(settings.revocation, keyspace.channel(), now());
        let connector = Connector::new(settings)?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("redis")
            .enable_all()
            .build()
            .map_err(RedisOpenError::Thread)?;
        let (generations, settings_check) = (GenerationIds::default(), SettingsCheck::default());
        let shared = Arc::new(Shared {
            connector,
            keyspace,
            freshness,
            generations,
            settings_check,
            timeouts: settings.timeouts,
        });
        let topology = Topology::start(&settings.servers, &shared, runtime.handle());
        let client = Client { topology, shared, swap: Script::new(SWAP_SCRIPT) };
        Ok(RedisStore {
            client: Arc::new(client),
            required_at_start: settings.required_at_start,
            runtime: Some(runtime),
        })
    }
}

/// Why the store cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum RedisOpenError {
    /// A certificate or a key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The thread for its connections.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Nothing there needs to finish, and blocking may not be allowed here.
            runtime.shutdown_background();
        }
    }
}

impl Client {
    async fn query<T: FromRedisValue>(&self, shard: Shard, command: &Cmd) -> Result<T, StoreError> {
        self.topology.query(self.shared.timeouts, shard, command).await.map_err(|error| unavailable(&error))
    }

    /// Runs the swap script by its hash where the server has it (EVALSHA).
    async fn swap(&self, shard: Shard, keys: &[String], arguments: &[Vec<u8>]) -> Result<bool, StoreError> {
        let command = |how: &str, script: &str| {
            let mut command = redis::cmd(how);
            command.arg(script).arg(keys.len()).arg(keys).arg(arguments);
            command
        };
        let known =
            self.topology.query(self.shared.timeouts, shard, &command("EVALSHA", self.swap.get_hash())).await;
        match known {
            Err(RedisError::NoScript) => self.query(shard, &command("EVAL", SWAP_SCRIPT)).await,
            swapped => swapped.map_err(|error| unavailable(&error)),
        }
    }

    async fn group_in(
        self: Arc<Client>,
        shard: Shard,
        space: Space,
        group: String,
    ) -> Result<Vec<String>, StoreError> {
        // Including those that have expired by this clock: it may be ahead.
        let mut question = redis::cmd("ZRANGE");
        question.arg(self.shared.keyspace.group(shard, space, &group)).arg(0).arg(-1);
        self.query(shard, &question).await
    }

    async fn record(&self, key: &Key) -> Result<Option<Versioned>, StoreError> {
        let mut question = redis::cmd("GET");
        question.arg(self.shared.keyspace.record(key));
        let found: Option<Vec<u8>> = self.query(shard_of(&key.id), &question).await?;
        found.map(|bytes| versioned(key, &bytes)).transpose()
    }
}

fn unavailable(error: &RedisError) -> StoreError {
    StoreError::Unavailable(format!("Redis: {}", error.text()))
}

/// A record as it is encoded in Redis.
fn versioned(key: &Key, bytes: &[u8]) -> Result<Versioned, StoreError> {
    let parts = bytes.split_at_checked(16).and_then(|(version, value)| {
        let version = u64::from_str_radix(std::str::from_utf8(version).ok()?, 16).ok()?;
        Some(Versioned { value: value.to_vec(), version: Version(version) })
    });
    parts.ok_or_else(|| StoreError::Corrupt(key.to_string()))
}

/// A version as it is encoded in Redis; empty for no record.
fn written(version: Option<Version>) -> String {
    version.map(|Version(number)| format!("{number:016x}")).unwrap_or_default()
}

/// A version that no record ever had: 64 random bits.
fn fresh_version() -> Version {
    Version(u64::from_be_bytes(random_bytes()))
}

impl Store for RedisStore {
    fn get<'a>(&'a self, key: &'a Key) -> StoreFuture<'a, Option<Versioned>> {
        Box::pin(self.client.record(key))
    }

    fn put_if(&self, put: Put) -> StoreFuture<'_, PutOutcome> {
        Box::pin(async move {
            let shard = shard_of(&put.key.id);
            let keyspace = &self.client.shared.keyspace;
            let mut keys = vec![keyspace.record(&put.key), keyspace.revocations(shard)];
            keys.extend(put.group.as_ref().map(|group| keyspace.group(shard, put.key.space, group)));
            let (now, revoked_until) =
                (now(), put.revoked_until.map(|until| until.saturating_add(MAX_CLOCK_SKEW)));
            let arguments = [
                written(put.expected).into_bytes(),
                written(Some(fresh_version())).into_bytes(),
                put.value,
                now.get().to_string().into_bytes(),
                put.expires_at.min(now.saturating_add(MAX_TTL)).get().to_string().into_bytes(),
                put.key.id.into_bytes(),
                revoked_until.map(|until| until.get().to_string()).unwrap_or_default().into_bytes(),
                keyspace.channel().into_bytes(),
            ];
            let swapped = self.client.swap(shard, &keys, &arguments).await?;
            Ok(if swapped { PutOutcome::Stored } else { PutOutcome::Conflict })
        })
    }

    fn group<'a>(&'a self, space: Space, group: &'a str) -> StoreFuture<'a, Vec<Key>> {
        Box::pin(async move {
            let mut questions = JoinSet::new();
            for shard in 0..SHARDS {
                questions.spawn(Arc::clone(&self.client).group_in(shard, space, group.to_owned()));
            }
            let mut keys = Vec::new();
            for ids in questions.join_all().await {
                keys.extend(ids?.into_iter().map(|id| Key { space, id }));
            }
            keys.sort_unstable();
            Ok(keys)
        })
    }

    fn revocations(&self) -> StoreFuture<'_, Option<Arc<Revocations>>> {
        Box::pin(async move {
            let freshness = &self.client.shared.freshness;
            // As long as pages arrive, waiting goes on.
            let mut pages = None;
            while pages != Some(freshness.pages()) {
                pages = Some(freshness.pages());
                if timeout(self.client.shared.timeouts.start, freshness.whole()).await.is_ok() {
                    return Ok(Some(Arc::clone(freshness.revocations())));
                }
            }
            let why = self.client.topology.health().err().unwrap_or_else(|| "it is slow".to_owned());
            if self.required_at_start {
                let why = format!("Redis: {why}; start it, or leave store.redis.required_at_start out");
                return Err(StoreError::Unavailable(why));
            }
            tracing::warn!(why, "starting without Redis: logins fail until it is up");
            Ok(Some(Arc::clone(freshness.revocations())))
        })
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn health(&self) -> Health {
        match self.client.topology.health() {
            Ok(since) => Health::Up(since.into_std()),
            Err(why) => Health::Down(format!("Redis: {why}")),
        }
    }

    fn losses(&self) -> u64 {
        self.client.shared.generations.losses()
    }

    fn scan(&self, space: Space) -> StoreFuture<'_, Vec<(Key, Versioned)>> {
        Box::pin(async move {
            let keyspace = &self.client.shared.keyspace;
            let mut found = Vec::new();
            for link in self.client.topology.links() {
                let up = link
                    .up(Instant::now() + self.client.shared.timeouts.operation)
                    .await
                    .map_err(StoreError::Unavailable)?;
                let mut cursor = "0".to_owned();
                loop {
                    let mut question = redis::cmd("SCAN");
                    question.arg(&cursor).arg("MATCH").arg(keyspace.pattern(space)).arg("COUNT").arg(1000);
                    let (next, names): (String, Vec<String>) =
                        up.connection.query(&question).await.map_err(|error| unavailable(&error))?;
                    if !names.is_empty() {
                        let mut records = redis::Pipeline::with_capacity(names.len());
                        for name in &names {
                            records.get(name);
                        }
                        let records: Vec<redis::RedisResult<Option<Vec<u8>>>> = up
                            .connection
                            .query_all(records.ignore_errors(), self.client.shared.timeouts.operation)
                            .await
                            .map_err(|error| unavailable(&error))?;
                        for (name, record) in names.iter().zip(records) {
                            let Some(id) = keyspace.id_of(space, name) else { continue };
                            let key = Key { space, id: id.to_owned() };
                            let record = match record {
                                Ok(bytes) => bytes.map(|bytes| versioned(&key, &bytes)).transpose()?,
                                // The slot is being migrated.
                                Err(_) => self.client.record(&key).await?,
                            };
                            // It may have expired meanwhile.
                            found.extend(record.map(|record| (key, record)));
                        }
                    }
                    cursor = next;
                    if cursor == "0" {
                        break;
                    }
                }
            }
            // SCAN may return a key twice.
            found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            found.dedup_by(|(a, _), (b, _)| a == b);
            Ok(found)
        })
    }

    fn sweep(&self, _now: UnixMillis) -> StoreFuture<'_, usize> {
        Box::pin(async { Ok(0) })
    }
}
