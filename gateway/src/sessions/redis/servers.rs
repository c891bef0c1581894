//! Who keeps which shard, and asking them.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, FromRedisValue};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::cluster::Cluster;
use super::fault::Fault;
use super::keyspace::{SHARDS, Shard};
use super::link::{Common, Link, Whom};
use super::{COMMAND, TOTAL};
use crate::config::RedisServers;

/// Before a slot that is being moved is asked again.
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// How often a command is sent on to another node.
const REDIRECTIONS: usize = 5;

/// A link and the task that keeps it up.
pub(super) struct Kept {
    link: Arc<Link>,
    task: AbortHandle,
}

impl Kept {
    pub(super) fn start(link: Link, runtime: &Handle) -> Kept {
        let link = Arc::new(link);
        let task = runtime.spawn(Arc::clone(&link).keep()).abort_handle();
        Kept { link, task }
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The servers of the configuration.
pub(super) enum Servers {
    /// One master; with Sentinels it may change who that is.
    One(Kept),
    /// Several masters.
    Cluster(Arc<Cluster>),
}

impl Servers {
    /// Begins to connect.
    pub(super) fn start(servers: &RedisServers, common: &Arc<Common>, runtime: &Handle) -> Servers {
        let one = |whom| {
            let link = Link::new(whom, (0..SHARDS).collect(), Arc::clone(common));
            Servers::One(Kept::start(link, runtime))
        };
        match servers.clone() {
            RedisServers::Single { server, .. } => one(Whom::Server(server)),
            RedisServers::Sentinel { sentinels, master_name, login } => {
                one(Whom::Master { sentinels, master_name, login })
            }
            RedisServers::Cluster(nodes) => {
                Servers::Cluster(Cluster::start(nodes, Arc::clone(common), runtime))
            }
        }
    }

    /// Has a command carried out by whoever keeps the shard, within [`TOTAL`]. It is sent a second time where its answer
    /// was lost, so twice must be no different from once.
    pub(super) async fn ask<T: FromRedisValue>(&self, shard: Shard, command: &Cmd) -> Result<T, Fault> {
        let deadline = Instant::now() + TOTAL;
        let (mut retried, mut redirections) = (false, 0);
        let mut redirected: Option<Arc<Link>> = None;
        loop {
            // A command begun later could not be waited for.
            let begun = deadline - COMMAND;
            let (link, asking) = match (redirected.take(), self) {
                (Some(link), _) => (link, true),
                (None, Servers::One(kept)) => (Arc::clone(kept.link()), false),
                (None, Servers::Cluster(cluster)) => (cluster.link(shard, begun).await?, false),
            };
            let up = link.up(begun).await.map_err(Fault::Lost)?;
            let answer = match asking {
                true => up.connection.ask_redirected(command).await,
                false => up.connection.ask(command).await,
            };
            let fault = match answer {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            redirections += usize::from(matches!(fault, Fault::Moved(_) | Fault::Ask(_)));
            if redirections > REDIRECTIONS {
                return Err(fault);
            }
            match (fault, self) {
                (Fault::Lost(why), _) => {
                    link.give_up(&up, &why);
                    self.suspect();
                    if retried {
                        return Err(Fault::Lost(why));
                    }
                    retried = true;
                }
                (Fault::Moved(there), Servers::Cluster(cluster)) => cluster.moved(shard, there),
                (Fault::Ask(there), Servers::Cluster(cluster)) => redirected = Some(cluster.link_to(&there)),
                (Fault::TryAgain, Servers::Cluster(_)) => sleep(TRY_AGAIN).await,
                (Fault::Moved(_) | Fault::Ask(_), Servers::One(_)) => {
                    return Err(Fault::Refused(
                        "it is a node of a cluster; list its nodes in store.redis.cluster".to_owned(),
                    ));
                }
                (fault, _) => {
                    self.suspect();
                    return Err(fault);
                }
            }
            if Instant::now() + COMMAND > deadline {
                return Err(Fault::Lost(format!("no answer within {} ms", TOTAL.as_millis())));
            }
        }
    }

    /// Something went wrong: a cluster may have changed its shape.
    fn suspect(&self) {
        if let Servers::Cluster(cluster) = self {
            cluster.suspect();
        }
    }

    /// Every master.
    pub(super) fn links(&self) -> Vec<Arc<Link>> {
        match self {
            Servers::One(kept) => vec![Arc::clone(kept.link())],
            Servers::Cluster(cluster) => cluster.links(),
        }
    }

    /// Since when all shards are in reach, or why one is not.
    pub(super) fn health(&self) -> Result<Instant, String> {
        match self {
            Servers::One(kept) => kept.link().health(),
            Servers::Cluster(cluster) => cluster.health(),
        }
    }
}
