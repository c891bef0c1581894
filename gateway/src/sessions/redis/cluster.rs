//! Redis Cluster topology: which master serves which shard, refreshed when it changes.
//!
//! Each master has a connection of its own and is subscribed to separately: messages need not pass from node
//! to node, and where one master is down, only its shards are affected.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use redis::Value;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::connect::Connection;
use super::connection_supervisor::{Shared, Supervised, Target};
use super::error::RedisError;
use super::keyspace::{SHARDS, Shard, tag};
use super::topology::CachedConnection;
use crate::config::RedisAddress;

/// Interval of refreshing the topology without a sign of change.
const TOPOLOGY_REFRESH_INTERVAL: Duration = Duration::from_secs(1);
/// Minimum interval between refreshes.
const MIN_REFRESH_INTERVAL: Duration = Duration::from_millis(50);

/// Hash slots of a cluster; fixed by Redis.
const SLOTS: u16 = 16384;

/// A cluster and the task that refreshes its topology.
pub(super) struct Cluster {
    seeds: Vec<RedisAddress>,
    shared: Arc<Shared>,
    runtime: Handle,
    shape: RwLock<Shape>,
    /// Notified whenever the topology has changed.
    changed: watch::Sender<()>,
    suspected: Notify,
}

struct Shape {
    owners: [Option<RedisAddress>; SHARDS],
    links: BTreeMap<RedisAddress, CachedConnection>,
    /// Why the topology is incomplete, and since when.
    last_error: String,
    since: Instant,
}

impl Cluster {
    pub(super) fn start(seeds: Vec<RedisAddress>, shared: Arc<Shared>, runtime: &Handle) -> Arc<Cluster> {
        let shape = Shape {
            owners: [const { None }; SHARDS],
            links: BTreeMap::new(),
            last_error: "not connected yet".to_owned(),
            since: Instant::now(),
        };
        let cluster = Cluster {
            seeds,
            shared,
            runtime: runtime.clone(),
            shape: RwLock::new(shape),
            changed: watch::Sender::new(()),
            suspected: Notify::new(),
        };
        let cluster = Arc::new(cluster);
        let weak = Arc::downgrade(&cluster);
        runtime.spawn(async move {
            while let Some(cluster) = weak.upgrade() {
                cluster.refresh_topology().await;
                let _ = timeout(TOPOLOGY_REFRESH_INTERVAL, cluster.suspected.notified()).await;
                drop(cluster);
                sleep(MIN_REFRESH_INTERVAL).await;
            }
        });
        cluster
    }

    /// The connection to the master of a shard. Where it is unknown, waits as for a connection (see
    /// [`Supervised::up`]).
    pub(super) async fn link(&self, shard: Shard, deadline: Instant) -> Result<Arc<Supervised>, RedisError> {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let (error, since) = match self.owner(shard) {
                Ok(link) => return Ok(link),
                Err(unserved) => unserved,
            };
            match timeout_at(deadline.min(since + self.shared.timeouts.operation), changed.changed()).await {
                Ok(Ok(())) => {}
                _ => return Err(error),
            }
        }
    }

    /// Since when all shards are reachable, or why one is not.
    pub(super) fn health(&self) -> Result<Instant, String> {
        let mut since = None;
        for shard in 0..SHARDS {
            let link = self.owner(shard).map_err(|(error, _)| error.text())?;
            since = since.max(Some(link.health()?));
        }
        since.ok_or_else(|| "it has no shards".to_owned())
    }

    fn owner(&self, shard: Shard) -> Result<Arc<Supervised>, (RedisError, Instant)> {
        let shape = self.shape.read().unwrap_or_else(PoisonError::into_inner);
        let owner = shape.owners[shard].as_ref().and_then(|owner| shape.links.get(owner));
        let link = owner.map(|connection| Arc::clone(connection.link()));
        link.ok_or_else(|| (RedisError::Unserved(shape.last_error.clone()), shape.since))
    }

    pub(super) fn links(&self) -> Vec<Arc<Supervised>> {
        let shape = self.shape.read().unwrap_or_else(PoisonError::into_inner);
        shape.links.values().map(|connection| Arc::clone(connection.link())).collect()
    }

    /// Requests a refresh of the topology.
    pub(super) fn mark_suspect(&self) {
        self.suspected.notify_one();
    }

    /// A shard was found on another node (MOVED); others probably moved as well.
    pub(super) fn record_moved(&self, shard: Shard, there: RedisAddress) {
        self.change(|owners| owners[shard] = Some(there));
        self.mark_suspect();
    }

    /// A connection to a node that serves no shard yet, or none any more. It lasts until the next refresh.
    pub(super) fn link_to(&self, address: &RedisAddress) -> Arc<Supervised> {
        let mut shape = self.shape.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(self.get_or_connect(&mut shape, address).link())
    }

    fn get_or_connect<'s>(&self, shape: &'s mut Shape, address: &RedisAddress) -> &'s CachedConnection {
        shape.links.entry(address.clone()).or_insert_with(|| {
            let target = Target::Server(address.clone());
            CachedConnection::start(
                Supervised::new(target, BTreeSet::new(), Arc::clone(&self.shared)),
                &self.runtime,
            )
        })
    }

    /// Changes the owners: connects to new ones and disconnects from nodes that own nothing any more.
    fn change(&self, change: impl FnOnce(&mut [Option<RedisAddress>; SHARDS])) {
        let mut shape = self.shape.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut shape.owners);
        let mut shards: BTreeMap<RedisAddress, BTreeSet<Shard>> = BTreeMap::new();
        for (shard, owner) in shape.owners.iter().enumerate() {
            if let Some(owner) = owner {
                shards.entry(owner.clone()).or_default().insert(shard);
            }
        }
        shape.links.retain(|address, _| shards.contains_key(address));
        for (address, shards) in shards {
            self.get_or_connect(&mut shape, &address).link().serve(shards);
        }
        if shape.owners.iter().all(Option::is_some) {
            shape.since = Instant::now();
        }
        drop(shape);
        self.changed.send_replace(());
    }

    /// Queries the known nodes and then the seeds, until one responds. A node that was partitioned may have
    /// stale data, so it comes last.
    async fn refresh_topology(&self) {
        let mut last_error = "no node of the cluster answers".to_owned();
        let mut links = self.links();
        links.sort_by_key(|link| !link.is_serving_all());
        for link in links {
            if let Some((address, connection)) = link.connection()
                && self.refresh_topology_from(&address, &connection).await.is_ok()
            {
                return;
            }
        }
        for seed in &self.seeds {
            let refreshed = match self.shared.connector.open(seed, |_| {}).await {
                Ok(connection) => self.refresh_topology_from(seed, &connection).await,
                Err(error) => Err(error),
            };
            match refreshed {
                Ok(()) => return,
                Err(error) => last_error = format!("{seed}: {}", error.text()),
            }
        }
        self.shape.write().unwrap_or_else(PoisonError::into_inner).last_error = last_error;
    }

    async fn refresh_topology_from(
        &self,
        address: &RedisAddress,
        connection: &Connection,
    ) -> Result<(), RedisError> {
        let slots: Vec<Vec<Value>> = connection.query(redis::cmd("CLUSTER").arg("SLOTS")).await?;
        let ranges: Vec<Range> = slots.iter().filter_map(|range| Range::parse(range, address)).collect();
        let owner = |shard: Shard| {
            let slot = slot_of(tag(shard).trim_matches(['{', '}']));
            ranges
                .iter()
                .find(|range| (range.first..=range.last).contains(&slot))
                .map(|range| range.master.clone())
        };
        self.change(|owners| *owners = std::array::from_fn(owner));
        self.shape.write().unwrap_or_else(PoisonError::into_inner).last_error =
            "some slots of the cluster have no master".to_owned();
        Ok(())
    }
}

/// Hash slots and their master.
#[derive(Debug, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
    master: RedisAddress,
}

impl Range {
    /// Parses an entry of CLUSTER SLOTS. A node without a host is the one that was `asked`.
    fn parse(entry: &[Value], asked: &RedisAddress) -> Option<Range> {
        let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = entry else { return None };
        let host = match master.first()? {
            Value::BulkString(host) if !host.is_empty() && host != b"?" => {
                String::from_utf8(host.clone()).ok()?
            }
            _ => asked.host.clone(),
        };
        let Some(Value::Int(port)) = master.get(1) else { return None };
        let master = RedisAddress { host, port: u16::try_from(*port).ok()? };
        Some(Range { first: u16::try_from(*first).ok()?, last: u16::try_from(*last).ok()?, master })
    }
}

/// The slot of a hash tag: CRC-16/XMODEM, as the cluster specification defines it.
fn slot_of(tag: &str) -> u16 {
    let step = |crc: u16, byte: u8| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    };
    tag.bytes().fold(0, step) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // As CLUSTER KEYSLOT returns.
        for (tag, slot) in [("123456789", 12739), ("foo", 12182), ("", 0)] {
            assert_eq!(slot_of(tag), slot, "{tag}");
        }
    }

    #[test]
    fn shards_spread_over_three_and_over_six_masters() {
        for masters in [3, 6] {
            let mut counts = vec![0; masters];
            for shard in 0..SHARDS {
                let slot = usize::from(slot_of(tag(shard).trim_matches(['{', '}'])));
                counts[slot * masters / usize::from(SLOTS)] += 1;
            }
            let fair = SHARDS / masters;
            assert!(counts.iter().all(|count| (fair / 2..=fair * 2).contains(count)), "{counts:?}");
        }
    }

    #[test]
    fn ranges_are_read_with_and_without_a_name() {
        let asked = RedisAddress { host: "10.0.0.9".into(), port: 7000 };
        let node =
            |host: Value| Value::Array(vec![host, Value::Int(7001), Value::BulkString(b"id".to_vec())]);
        let parse =
            |host| Range::parse(&[Value::Int(0), Value::Int(5460), node(host)], &asked).map(|r| r.master);
        let at = |host: &str| Some(RedisAddress { host: host.into(), port: 7001 });
        assert_eq!(parse(Value::BulkString(b"10.0.0.1".to_vec())), at("10.0.0.1"));
        assert_eq!(parse(Value::Nil), at("10.0.0.9"));
        assert_eq!(parse(Value::BulkString(Vec::new())), at("10.0.0.9"));
        assert_eq!(Range::parse(&[Value::Int(0)], &asked), None);
    }
}
