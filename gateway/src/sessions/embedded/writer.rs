//! The writer thread of the state file: one thread makes all changes, and commits those that are queued
//! together with one fsync (group commit).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use redb::{Database, Durability, ReadableTable};
use tokio::sync::oneshot;

use super::database_handle::DatabaseHandle;
use super::layout::{EXPIRIES, GROUPS, Header, RECORDS};
use crate::sessions::UnixMillis;
use crate::sessions::store::{Put, PutOutcome, StoreError, Version};

/// Maximum number of changes per fsync.
const MAX_BATCH: usize = 512;
/// Maximum number of records evicted at once, which bounds how long a login waits.
pub(super) const SWEEP_BATCH: usize = 1000;
/// Interval of reopening a failed file.
const REOPEN_INTERVAL: Duration = Duration::from_secs(1);

/// A job for the writer, with the channel for its result.
pub(super) enum Job {
    Put(Put, oneshot::Sender<Result<PutOutcome, StoreError>>),
    /// Evicts up to [`SWEEP_BATCH`] records.
    Sweep(UnixMillis, oneshot::Sender<Result<usize, StoreError>>),
}

/// Collects `first` and everything queued behind it, up to a batch: while one fsync runs, the changes for the
/// next one queue up.
fn collect_batch(first: Job, jobs: &Receiver<Job>) -> Vec<Job> {
    std::iter::once(first).chain(jobs.try_iter()).take(MAX_BATCH).collect()
}

pub(super) struct Writer {
    database: Arc<DatabaseHandle>,
    last_version: u64,
    reopened_at: Instant,
}

impl Writer {
    pub(super) fn new(database: Arc<DatabaseHandle>) -> Writer {
        // Versions only need to differ from all earlier ones of a record: the clock's nanoseconds start
        // higher than any number of changes an earlier process can have made.
        let since_1970 =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Writer { database, last_version: since_1970.as_nanos() as u64, reopened_at: Instant::now() }
    }

    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            let first = match self.database.is_failed() {
                false => jobs.recv().map_err(RecvTimeoutError::from),
                true => jobs.recv_timeout(REOPEN_INTERVAL),
            };
            if let Err(RecvTimeoutError::Disconnected) = first {
                return;
            }
            self.reopen();
            if let Ok(first) = first {
                self.work(collect_batch(first, jobs));
            }
        }
    }

    /// Tries to reopen a failed file, at intervals.
    fn reopen(&mut self) {
        if self.database.is_failed() && self.reopened_at.elapsed() >= REOPEN_INTERVAL {
            if self.database.reopen() {
                tracing::info!("the state file can be used again");
            }
            self.reopened_at = Instant::now();
        }
    }

    /// Executes a batch: all changes in one commit.
    fn work(&mut self, batch: Vec<Job>) {
        let (mut changes, mut answers) = (Vec::new(), Vec::new());
        for job in batch {
            match job {
                Job::Put(put, answer) => {
                    changes.push(put);
                    answers.push(answer);
                }
                // The receiver may be gone, here and below; the change is made all the same.
                Job::Sweep(now, answer) => {
                    drop(answer.send(self.guarded(|_, database| evict(database, now))))
                }
            }
        }
        if changes.is_empty() {
            return;
        }
        let result = self.guarded(|last_version, database| commit(last_version, database, &changes));
        for (place, answer) in answers.into_iter().enumerate() {
            let _ = answer.send(result.as_ref().map(|outcomes| outcomes[place]).map_err(StoreError::clone));
        }
    }

    fn guarded<T>(
        &mut self,
        work: impl FnOnce(&mut u64, &Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let Writer { database, last_version, .. } = self;
        let error =
            match catch_unwind(AssertUnwindSafe(|| database.with(|database| work(last_version, database)))) {
                Ok(Ok(Ok(done))) => return Ok(done),
                Ok(Err(refused)) => return Err(refused),
                Ok(Ok(Err(error))) => error.to_string(),
                Err(_) => "its structure is broken".to_owned(),
            };
        let refusal = database.mark_failed(error);
        self.reopened_at = Instant::now();
        tracing::error!(error = %refusal, "the state file cannot be written");
        Err(refusal)
    }
}

/// Makes all changes whose records have the expected version, in one transaction.
fn commit(last_version: &mut u64, database: &Database, puts: &[Put]) -> Result<Vec<PutOutcome>, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    let mut outcomes = Vec::with_capacity(puts.len());
    {
        let mut records = transaction.open_table(RECORDS)?;
        let mut groups = transaction.open_table(GROUPS)?;
        let mut expiries = transaction.open_table(EXPIRIES)?;
        for put in puts {
            let key = put.key.to_string();
            let current =
                records.get(key.as_str())?.and_then(|v| Header::decode(v.value()).map(|(header, _)| header));
            if current.as_ref().map(|header| header.version) != put.expected {
                outcomes.push(PutOutcome::Conflict);
                continue;
            }
            *last_version += 1;
            let header = Header { version: Version(*last_version), expires_at: put.expires_at };
            records.insert(key.as_str(), header.encode(&put.value).as_slice())?;
            let group = put.group.as_deref().unwrap_or_default();
            let expired_at = current.map(|header| header.expires_at);
            if expired_at.is_none() && !group.is_empty() {
                groups.insert((group, key.as_str()), ())?;
            }
            if expired_at != Some(put.expires_at) {
                if let Some(before) = expired_at {
                    expiries.remove((before.get(), key.as_str()))?;
                }
                expiries.insert((put.expires_at.get(), key.as_str()), group)?;
            }
            outcomes.push(PutOutcome::Stored);
        }
    }
    transaction.commit()?;
    Ok(outcomes)
}

/// Evicts expired records, the longest expired first.
fn evict(database: &Database, now: UnixMillis) -> Result<usize, redb::Error> {
    let transaction = database.begin_write()?;
    let mut evicted = 0;
    {
        let mut records = transaction.open_table(RECORDS)?;
        let mut groups = transaction.open_table(GROUPS)?;
        let mut expiries = transaction.open_table(EXPIRIES)?;
        let expired = expiries.extract_from_if(..(now.get().saturating_add(1), ""), |_, _| true)?;
        for entry in expired.take(SWEEP_BATCH) {
            let (place, group) = entry?;
            let (_, key) = place.value();
            records.remove(key)?;
            groups.remove((group.value(), key))?;
            evicted += 1;
        }
    }
    if evicted == 0 {
        transaction.abort()?;
    } else {
        transaction.commit()?;
    }
    Ok(evicted)
}
