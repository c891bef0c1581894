//! Topology: routes commands to the master of a shard, with retries and redirections.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, FromRedisValue};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::cluster::Cluster;
use super::connection_supervisor::{Shared, Supervised, Target};
use super::error::RedisError;
use super::keyspace::{SHARDS, Shard};
use crate::config::{RedisServers, RedisTimeouts};

/// Delay before a command for a slot under migration is retried.
const RETRY_DELAY: Duration = Duration::from_millis(20);

/// Maximum number of redirections of a command.
const MAX_REDIRECTIONS: usize = 5;

/// A supervised connection; its task ends on drop.
pub(super) struct CachedConnection {
    link: Arc<Supervised>,
    task: AbortHandle,
}

impl CachedConnection {
    pub(super) fn start(link: Supervised, runtime: &Handle) -> CachedConnection {
        let link = Arc::new(link);
        let task = runtime.spawn(Arc::clone(&link).run()).abort_handle();
        CachedConnection { link, task }
    }

    pub(super) fn link(&self) -> &Arc<Supervised> {
        &self.link
    }
}

impl Drop for CachedConnection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The configured servers.
pub(super) enum Topology {
    /// One master; with Sentinel it may change.
    One(CachedConnection),
    /// Several masters.
    Cluster(Arc<Cluster>),
}

impl Topology {
    /// Starts connecting.
    pub(super) fn start(servers: &RedisServers, shared: &Arc<Shared>, runtime: &Handle) -> Topology {
        let one = |target| {
            let link = Supervised::new(target, (0..SHARDS).collect(), Arc::clone(shared));
            Topology::One(CachedConnection::start(link, runtime))
        };
        match servers.clone() {
            RedisServers::Single { server, .. } => one(Target::Server(server)),
            RedisServers::Sentinel { sentinels, master_name, login } => {
                one(Target::Master { sentinels, master_name, login })
            }
            RedisServers::Cluster(nodes) => {
                Topology::Cluster(Cluster::start(nodes, Arc::clone(shared), runtime))
            }
        }
    }

    /// Sends a command to the master of a shard, within `store.redis.operation_timeout`. It is retried where
    /// its response was lost, so it has to be idempotent.
    pub(super) async fn query<T: FromRedisValue>(
        &self,
        timeouts: RedisTimeouts,
        shard: Shard,
        command: &Cmd,
    ) -> Result<T, RedisError> {
        let RedisTimeouts { command: command_timeout, operation, .. } = timeouts;
        let deadline = Instant::now() + operation;
        let (mut retried, mut redirections) = (false, 0);
        let mut redirected: Option<Arc<Supervised>> = None;
        loop {
            // A command started later could not complete in time.
            let begun = deadline - command_timeout;
            let (link, asking) = match (redirected.take(), self) {
                (Some(link), _) => (link, true),
                (None, Topology::One(kept)) => (Arc::clone(kept.link()), false),
                (None, Topology::Cluster(cluster)) => (cluster.link(shard, begun).await?, false),
            };
            let up = link.up(begun).await.map_err(RedisError::Lost)?;
            let answer = match asking {
                true => up.connection.query_asking(command).await,
                false => up.connection.query(command).await,
            };
            let error = match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            redirections += usize::from(matches!(error, RedisError::Moved(_) | RedisError::Ask(_)));
            if redirections > MAX_REDIRECTIONS {
                return Err(error);
            }
            match (error, self) {
                (RedisError::Lost(why), _) => {
                    link.mark_failed(&up, &why);
                    self.mark_suspect();
                    if retried {
                        return Err(RedisError::Lost(why));
                    }
                    retried = true;
                }
                (RedisError::Moved(there), Topology::Cluster(cluster)) => cluster.record_moved(shard, there),
                (RedisError::Ask(there), Topology::Cluster(cluster)) => {
                    redirected = Some(cluster.link_to(&there))
                }
                (RedisError::TryAgain, Topology::Cluster(_)) => sleep(RETRY_DELAY).await,
                (RedisError::Moved(_) | RedisError::Ask(_), Topology::One(_)) => {
                    return Err(RedisError::Refused(
                        "it is a node of a cluster; list its nodes in store.redis.cluster".to_owned(),
                    ));
                }
                (error, _) => {
                    self.mark_suspect();
                    return Err(error);
                }
            }
            if Instant::now() + command_timeout > deadline {
                return Err(RedisError::Lost(format!("no answer within {} ms", operation.as_millis())));
            }
        }
    }

    /// After an error: the cluster's topology may have changed.
    fn mark_suspect(&self) {
        if let Topology::Cluster(cluster) = self {
            cluster.mark_suspect();
        }
    }

    /// All masters.
    pub(super) fn links(&self) -> Vec<Arc<Supervised>> {
        match self {
            Topology::One(kept) => vec![Arc::clone(kept.link())],
            Topology::Cluster(cluster) => cluster.links(),
        }
    }

    /// Since when all shards are reachable, or why one is not.
    pub(super) fn health(&self) -> Result<Instant, String> {
        match self {
            Topology::One(kept) => kept.link().health(),
            Topology::Cluster(cluster) => cluster.health(),
        }
    }
}
