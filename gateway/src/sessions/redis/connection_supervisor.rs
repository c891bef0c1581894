//! Connection supervisor: connects to one master, checks it by heartbeats, and reconnects with backoff, in a
//! task of its own.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{FromRedisValue, PushKind, RedisResult, Value};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};

use super::connect::{Connection, Connector};
use super::data_loss_detector::GenerationIds;
use super::error::RedisError;
use super::keyspace::{Keyspace, SHARDS, Shard};
use super::revocation_subscriber::{LogPosition, RevocationFreshness};
use super::server_settings_check::SettingsCheck;
use super::{SYNC_SCRIPT, now};
use crate::config::{RedisAddress, RedisLogin, RedisTimeouts};

/// Heartbeat interval. A dead connection is noticed within this and `store.redis.command_timeout`.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);

/// Number of heartbeats between syncs of the revocation logs, although nothing should be missing: a message
/// between nodes of a cluster may get lost unnoticed.
const HEARTBEATS_PER_SYNC: u32 = 10;

/// Reconnect backoff, doubled after each failure, so that a server that comes back is not overloaded.
const INITIAL_BACKOFF: Duration = Duration::from_millis(10);
const MAX_BACKOFF: Duration = Duration::from_millis(500);

/// What all connections share.
pub(super) struct Shared {
    pub(super) connector: Connector,
    pub(super) keyspace: Keyspace,
    pub(super) freshness: RevocationFreshness,
    pub(super) generations: GenerationIds,
    pub(super) settings_check: SettingsCheck,
    pub(super) timeouts: RedisTimeouts,
}

/// A shard's generation id and a page of its log, as the sync script returns them.
type FirstPage = (String, Value);

/// Entries of each shard's log in the first page: mostly there are none.
const FIRST_PAGE_ENTRIES: usize = 100;
/// Entries of one shard's log in a further page.
const PAGE_ENTRIES: usize = 1000;
/// The time that one round trip for further pages should take: commands of requests wait behind it.
const ROUND_TRIP_TIME: Duration = Duration::from_millis(50);

/// The target of a supervised connection.
#[derive(Debug)]
pub(super) enum Target {
    /// That server.
    Server(RedisAddress),
    /// The master as reported by the Sentinels.
    Master { sentinels: Vec<RedisAddress>, master_name: String, login: RedisLogin },
}

/// A connection that works, as far as is known.
#[derive(Debug, Clone)]
pub(super) struct ActiveConnection {
    pub(super) connection: Connection,
    address: RedisAddress,
    since: Instant,
    /// Identifies it among all connections of the supervisor.
    number: u64,
}

#[derive(Debug, Clone)]
enum State {
    Down { since: Instant, why: String },
    Up(ActiveConnection),
}

/// The supervised connection to one master.
pub(super) struct Supervised {
    target: Target,
    shared: Arc<Shared>,
    /// The shards that it serves.
    shards: Mutex<BTreeSet<Shard>>,
    shards_changed: Notify,
    /// Whether it served all of them at the last sync.
    serving_all: AtomicBool,
    state: watch::Sender<State>,
    /// The number of the last failed connection, and its error.
    broken: watch::Sender<(u64, String)>,
    /// The Sentinel that is queried first: the next one after a failure.
    first_sentinel: AtomicUsize,
}

impl Supervised {
    pub(super) fn new(target: Target, shards: BTreeSet<Shard>, shared: Arc<Shared>) -> Supervised {
        let down = State::Down { since: Instant::now(), why: "not connected yet".to_owned() };
        Supervised {
            target,
            shared,
            shards: Mutex::new(shards),
            shards_changed: Notify::new(),
            serving_all: AtomicBool::new(false),
            state: watch::Sender::new(down),
            broken: watch::Sender::new((0, String::new())),
            first_sentinel: AtomicUsize::new(0),
        }
    }

    /// The connection. While it is down, waits until `deadline` at most, and not at all in an outage that has
    /// lasted for longer than an operation may take: waiting would only delay the failure.
    pub(super) async fn up(&self, deadline: Instant) -> Result<ActiveConnection, String> {
        let mut state = self.state.subscribe();
        loop {
            let (since, why) = match &*state.borrow_and_update() {
                State::Up(up) => {
                    let broken = self.broken.borrow();
                    if broken.0 < up.number {
                        return Ok(up.clone());
                    }
                    (Instant::now(), broken.1.clone())
                }
                State::Down { since, why } => (*since, why.clone()),
            };
            match timeout_at(deadline.min(since + self.shared.timeouts.operation), state.changed()).await {
                Ok(Ok(())) => {}
                _ => return Err(why),
            }
        }
    }

    /// Since when it is up, or why it is not.
    pub(super) fn health(&self) -> Result<Instant, String> {
        match &*self.state.borrow() {
            State::Up(up) => Ok(up.since),
            State::Down { why, .. } => Err(why.clone()),
        }
    }

    /// The connection and its address, if it is up.
    pub(super) fn connection(&self) -> Option<(RedisAddress, Connection)> {
        match &*self.state.borrow() {
            State::Up(up) => Some((up.address.clone(), up.connection.clone())),
            State::Down { .. } => None,
        }
    }

    /// Whether the server serves all shards it should.
    pub(super) fn is_serving_all(&self) -> bool {
        self.serving_all.load(Ordering::Relaxed)
    }

    /// Marks a connection as failed, unless that has been done already.
    pub(super) fn mark_failed(&self, up: &ActiveConnection, why: &str) {
        self.mark_failed_number(up.number, why);
    }

    fn mark_failed_number(&self, number: u64, why: &str) {
        self.broken.send_if_modified(|broken| {
            let is_new = broken.0 < number;
            if is_new {
                *broken = (number, why.to_owned());
            }
            is_new
        });
    }

    /// Sets the shards that it serves.
    pub(super) fn serve(&self, shards: BTreeSet<Shard>) {
        let mut served = self.shards();
        if *served != shards {
            *served = shards;
            self.shards_changed.notify_one();
        }
    }

    fn shards(&self) -> MutexGuard<'_, BTreeSet<Shard>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the connection up, for ever.
    pub(super) async fn run(self: Arc<Supervised>) {
        let mut number = 0;
        let mut backoff = INITIAL_BACKOFF;
        loop {
            number += 1;
            let why = match self.establish(number).await {
                Ok(up) => {
                    let address = &up.address;
                    tracing::info!(%address, "connected to Redis");
                    self.state.send_replace(State::Up(up.clone()));
                    self.shared.settings_check.check_settings(address, &up.connection).await;
                    let why = self.supervise(&up).await;
                    self.serving_all.store(false, Ordering::Relaxed);
                    tracing::warn!(%address, why, "the connection to Redis is lost");
                    self.state.send_replace(State::Down { since: Instant::now(), why: why.clone() });
                    if up.since.elapsed() > MAX_BACKOFF {
                        backoff = INITIAL_BACKOFF;
                    }
                    why
                }
                Err(error) => error.text(),
            };
            self.state.send_if_modified(|state| match state {
                State::Down { why: known, .. } if *known != why => {
                    tracing::warn!(why, "Redis is out of reach");
                    *known = why;
                    true
                }
                _ => false,
            });
            sleep(backoff).await;
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
    }

    /// Connects, and checks that the server is a master with a compatible store. Subscribes before reading
    /// the revocation logs, so that nothing is missed in between.
    async fn establish(self: &Arc<Supervised>, number: u64) -> Result<ActiveConnection, RedisError> {
        let address = self.address().await?;
        let with_address = |error: RedisError| RedisError::Lost(format!("{address}: {}", error.text()));
        let link = Arc::downgrade(self);
        let hear = move |message: &redis::PushInfo| {
            let Some(link) = link.upgrade() else { return };
            match message.kind {
                PushKind::Disconnection => link.mark_failed_number(number, "it was closed"),
                _ => link.shared.freshness.message(message),
            }
        };
        let connection = self.shared.connector.open(&address, hear).await.map_err(with_address)?;
        is_master(&connection).await.map_err(with_address)?;
        connection.subscribe(self.shared.freshness.channel()).await.map_err(with_address)?;
        // Compatibility is checked before anything is written; the logs are read while the connection is
        // already in use.
        self.check_marks(&connection).await.map_err(with_address)?;
        Ok(ActiveConnection { connection, address, since: Instant::now(), number })
    }

    async fn address(&self) -> Result<RedisAddress, RedisError> {
        match &self.target {
            Target::Server(address) => Ok(address.clone()),
            Target::Master { sentinels, master_name, login } => {
                let first = self.first_sentinel.fetch_add(1, Ordering::Relaxed);
                self.shared.connector.master(sentinels, first, master_name, login).await
            }
        }
    }

    /// Supervises a connection until it fails, and returns why.
    async fn supervise(&self, up: &ActiveConnection) -> String {
        // The shards whose logs have been read over it.
        let mut synced = Vec::new();
        let mut broken = self.broken.subscribe();
        let mut beat = interval(HEARTBEAT_INTERVAL);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut beats = 0;
        loop {
            let anew = tokio::select! {
                broken = broken.wait_for(|(number, _)| *number >= up.number) => {
                    return broken.map_or_else(|_| "it is not wanted any more".to_owned(), |broken| broken.1.clone());
                }
                () = self.shards_changed.notified() => true,
                _ = beat.tick() => {
                    beats += 1;
                    beats % HEARTBEATS_PER_SYNC == 0 || synced.len() < self.shards().len()
                }
            };
            let checked = match anew {
                true => self.sync(&up.connection, &synced).await.map(|shards| synced = shards),
                false => self.heartbeat(&up.connection, &synced).await,
            };
            if let Err(error) = checked {
                return error.text();
            }
        }
    }

    /// A response comes after every message that was published before it: with the response, all of them have
    /// been received. The query is about a key, because a node that has lost its cluster answers everything
    /// else as usual.
    async fn heartbeat(&self, connection: &Connection, synced: &[Shard]) -> Result<(), RedisError> {
        let asked_at = now();
        is_master(connection).await?;
        if let Some(shard) = synced.first() {
            let mut question = redis::cmd("GET");
            connection.query::<Value>(question.arg(self.shared.keyspace.mark(*shard))).await?;
        }
        self.shared.freshness.record_sync(synced.iter().copied(), asked_at);
        Ok(())
    }

    /// Checks that the store is the same as before. Fails for a layout of another version; that of an earlier
    /// one is converted.
    async fn check_marks(&self, connection: &Connection) -> Result<(), RedisError> {
        let shards = self.shards().iter().copied().collect();
        let pages = self.read_first_pages(connection, shards, 1).await?;
        let marks = pages.into_iter().filter_map(|(shard, page)| Some((shard, page?.0)));
        self.compare_marks(marks).map(drop)
    }

    /// The shards whose generation id has changed: their logs have to be read from the beginning.
    fn compare_marks(&self, marks: impl Iterator<Item = (Shard, String)>) -> Result<Vec<Shard>, RedisError> {
        let mut lost = Vec::new();
        for (shard, mark) in marks {
            if self.shared.generations.is_new(shard, mark)? {
                self.shared.freshness.set_position(shard, LogPosition::default());
                lost.push(shard);
            }
        }
        if !lost.is_empty() {
            self.shared.generations.count_loss(lost.len());
        }
        Ok(lost)
    }

    /// Reads the revocation logs page by page from the last position, several shards in a round trip, and
    /// returns the shards that were read.
    /// Shards that were not `known` over this connection start a little before it.
    async fn sync(&self, connection: &Connection, known: &[Shard]) -> Result<Vec<Shard>, RedisError> {
        let freshness = &self.shared.freshness;
        let shards: Vec<Shard> = self.shards().iter().copied().collect();
        for &shard in shards.iter().filter(|shard| !known.contains(shard)) {
            freshness.set_position(shard, freshness.position(shard).rewound());
        }
        let asked_at = now();
        let all = shards.len();
        let mut synced_now = Vec::with_capacity(all);
        let pages = self.read_first_pages(connection, shards, FIRST_PAGE_ENTRIES).await?;
        let marks = pages.iter().filter_map(|(shard, page)| Some((*shard, page.as_ref()?.0.clone())));
        let lost = self.compare_marks(marks)?;
        let mut unread = VecDeque::new();
        for (shard, page) in pages {
            let Some((_, page)) = page else { continue };
            // A lost log was read from a position that no longer means anything.
            match lost.contains(&shard) || freshness.page(shard, &page, asked_at) >= FIRST_PAGE_ENTRIES {
                true => unread.push_back(shard),
                false => synced_now.push(shard),
            }
        }
        let mut at_once = 1;
        while !unread.is_empty() {
            let began = Instant::now();
            let asked = unread.drain(..at_once.min(unread.len())).collect();
            let pages = self.read_further_pages(connection, asked).await?;
            at_once = next_shards_at_once(at_once, began.elapsed());
            for (shard, page) in pages {
                let Some(page) = page else { continue };
                match freshness.page(shard, &page, asked_at) >= PAGE_ENTRIES {
                    true => unread.push_back(shard),
                    false => synced_now.push(shard),
                }
            }
        }
        freshness.record_sync(synced_now.iter().copied(), asked_at);
        self.serving_all.store(synced_now.len() == all, Ordering::Relaxed);
        Ok(synced_now)
    }

    /// Reads each shard's generation id, and a page of its log from the last position.
    async fn read_first_pages(
        &self,
        connection: &Connection,
        shards: Vec<Shard>,
        count: usize,
    ) -> Result<Vec<(Shard, Option<FirstPage>)>, RedisError> {
        let shared = &self.shared;
        let mut questions = redis::Pipeline::with_capacity(shards.len());
        for &shard in &shards {
            let keyspace = &shared.keyspace;
            let keys =
                [keyspace.mark(shard), keyspace.revocations(shard), keyspace.revoked_of_layout_1(shard)];
            let (mark, first) = (shared.generations.fresh(), shared.freshness.position(shard).next());
            let question = questions.cmd("EVAL").arg(SYNC_SCRIPT).arg(keys.len()).arg(&keys);
            question.arg(mark).arg(now().get()).arg(first).arg(count);
        }
        self.query_shards(connection, shards, questions).await
    }

    /// Reads the next page of each shard's log. Without a script, which costs Redis ten times as much: the
    /// first page has compared the generation ids.
    async fn read_further_pages(
        &self,
        connection: &Connection,
        shards: Vec<Shard>,
    ) -> Result<Vec<(Shard, Option<Value>)>, RedisError> {
        let shared = &self.shared;
        let mut questions = redis::Pipeline::with_capacity(shards.len());
        for &shard in &shards {
            let question = questions.cmd("XRANGE").arg(shared.keyspace.revocations(shard));
            question.arg(shared.freshness.position(shard).next()).arg("+").arg("COUNT").arg(PAGE_ENTRIES);
        }
        self.query_shards(connection, shards, questions).await
    }

    /// Sends one command for each shard. A shard that is served elsewhere, or not at all, gets no response;
    /// the others are still read.
    async fn query_shards<T: FromRedisValue>(
        &self,
        connection: &Connection,
        shards: Vec<Shard>,
        mut questions: redis::Pipeline,
    ) -> Result<Vec<(Shard, Option<T>)>, RedisError> {
        if shards.is_empty() {
            return Ok(Vec::new());
        }
        let answers: Vec<RedisResult<T>> =
            connection.query_all(questions.ignore_errors(), self.shared.timeouts.operation).await?;
        let page = |(shard, answer): (Shard, RedisResult<T>)| match answer.map_err(RedisError::from) {
            Ok(page) => Ok((shard, Some(page))),
            Err(error @ (RedisError::Lost(_) | RedisError::Refused(_) | RedisError::NoScript)) => Err(error),
            Err(_) => Ok((shard, None)),
        };
        shards.into_iter().zip(answers).map(page).collect()
    }
}

/// The number of shards to read in the next round trip, after one with `last` shards took so long.
fn next_shards_at_once(last: usize, took: Duration) -> usize {
    match took {
        took if took < ROUND_TRIP_TIME => (last * 2).min(SHARDS),
        took if took > 2 * ROUND_TRIP_TIME => (last / 2).max(1),
        _ => last,
    }
}

/// Fails unless the server is a master: a replica would respond too, but swap nothing.
async fn is_master(connection: &Connection) -> Result<(), RedisError> {
    let role = match connection.query::<Vec<Value>>(&redis::cmd("ROLE")).await {
        Ok(role) => role,
        // ACLs may forbid the command.
        Err(RedisError::Refused(_)) => return connection.query::<Value>(&redis::cmd("PING")).await.map(drop),
        Err(error) => return Err(error),
    };
    match role.first() {
        Some(Value::BulkString(role)) if role != b"master" => {
            Err(RedisError::Lost(format!("it is a {}, not a master", String::from_utf8_lossy(role))))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quick_server_is_asked_for_more_shards_at_once_and_a_slow_one_for_fewer() {
        let table = [(1, 1, 2), (32, 49, 64), (64, 0, 64), (8, 50, 8), (8, 100, 8), (8, 101, 4), (1, 900, 1)];
        for (last, millis, next) in table {
            assert_eq!(next_shards_at_once(last, Duration::from_millis(millis)), next, "{last}, {millis} ms");
        }
    }
}
