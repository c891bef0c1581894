//! The embedded store (default): one redb file with a single writer thread that batches changes into one
//! fsync (group commit).

mod backup;
mod database_handle;
mod disk;
mod layout;
mod state_file;
mod writer;

#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use redb::ReadableDatabase;
use tokio::sync::oneshot;

pub use self::backup::{examine, restore};
use self::database_handle::DatabaseHandle;
use self::layout::{GROUPS, RECORDS, parse_key, versioned};
pub use self::state_file::OpenError;
use self::writer::{Job, SWEEP_BATCH, Writer};
use super::UnixMillis;
use super::store::{Key, Put, PutOutcome, Space, Store, StoreError, StoreFuture, Versioned, Visit};

/// Length of the writer's queue; changes beyond it are rejected.
const WRITER_QUEUE_LEN: usize = 4096;

/// A store in a redb file.
pub struct EmbeddedStore {
    database: Arc<DatabaseHandle>,
    writer: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl EmbeddedStore {
    /// Opens the file, or creates it (mode 0600) if missing. Every page's checksum is verified: a damaged
    /// file is rejected, never taken for an empty one.
    ///
    /// # Errors
    ///
    /// The file cannot be used; it was not changed.
    pub fn open(path: &Path) -> Result<EmbeddedStore, OpenError> {
        let (database, watch) = state_file::open_or_create(path)?;
        EmbeddedStore::over(DatabaseHandle::new(database, Some(watch)))
            .map_err(|e| OpenError::inaccessible(path, &e))
    }

    /// Starts the writer of an open database.
    fn over(database: DatabaseHandle) -> std::io::Result<EmbeddedStore> {
        let database = Arc::new(database);
        let writer = Writer::new(Arc::clone(&database));
        let (jobs, queue) = sync_channel(WRITER_QUEUE_LEN);
        let thread = thread::Builder::new().name("state-writer".into()).spawn(move || writer.run(&queue))?;
        Ok(EmbeddedStore { database, writer: Some(jobs), thread: Some(thread) })
    }

    /// Submits a job to the writer. It is executed even if the caller stops waiting for the result.
    async fn submit<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Job,
    ) -> Result<T, StoreError> {
        let writer = self.writer.as_ref().ok_or_else(|| StoreError::Unavailable("it is closed".into()))?;
        let (answer, outcome) = oneshot::channel();
        writer.try_send(job(answer)).map_err(|e| match e {
            TrySendError::Full(_) => StoreError::Unavailable("too many changes are waiting".into()),
            TrySendError::Disconnected(_) => StoreError::Unavailable("its writer has stopped".into()),
        })?;
        outcome.await.map_err(|_| StoreError::Unavailable("its writer has stopped".into()))?
    }

    /// Reads the tables of the last commit. Reads take microseconds and mostly hit redb's cache, so they run
    /// on the caller's thread.
    fn read<T>(
        &self,
        look: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        self.database.with(|database| look(&database.begin_read()?))?.map_err(unavailable)
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.writer = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the state file's writer had panicked");
        }
    }
}

fn unavailable(error: redb::Error) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

impl Store for EmbeddedStore {
    fn get<'a>(&'a self, key: &'a Key) -> StoreFuture<'a, Option<Versioned>> {
        Box::pin(async move {
            let key = key.to_string();
            let found = self.read(|tx| {
                Ok(tx.open_table(RECORDS)?.get(key.as_str())?.map(|value| value.value().to_vec()))
            })?;
            found.map(|bytes| versioned(&key, &bytes)).transpose()
        })
    }

    fn put_if(&self, put: Put) -> StoreFuture<'_, PutOutcome> {
        Box::pin(self.submit(|answer| Job::Put(put, answer)))
    }

    fn group<'a>(&'a self, space: Space, group: &'a str) -> StoreFuture<'a, Vec<Key>> {
        Box::pin(async move {
            self.read(|tx| {
                let mut keys = Vec::new();
                for entry in tx.open_table(GROUPS)?.range((group, "")..)? {
                    let (found, ()) = entry.map(|(k, v)| (k, v.value()))?;
                    let (of, key) = found.value();
                    if of != group {
                        break;
                    }
                    keys.extend(parse_key(key).filter(|key| key.space == space));
                }
                Ok(keys)
            })
        })
    }

    fn scan(&self, space: Space) -> StoreFuture<'_, Vec<(Key, Versioned)>> {
        Box::pin(async move {
            let mut found = Vec::new();
            let mut collect = |key: Key, record: Versioned| -> Result<(), StoreError> {
                found.push((key, record));
                Ok(())
            };
            self.visit(space, &mut collect).await?;
            Ok(found)
        })
    }

    fn visit<'a>(&'a self, space: Space, visit: &'a mut Visit<'a>) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let prefix = format!("{}/", space.name());
            self.read(|tx| {
                for entry in tx.open_table(RECORDS)?.range(prefix.as_str()..)? {
                    let (key, value) = entry?;
                    let Some(id) = key.value().strip_prefix(&prefix) else { break };
                    let visited = versioned(key.value(), value.value())
                        .and_then(|found| visit(Key { space, id: id.to_owned() }, found));
                    if let Err(error) = visited {
                        return Ok(Err(error));
                    }
                }
                Ok(Ok(()))
            })?
        })
    }

    fn backup<'a>(&'a self, to: &'a Path) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let begin = self.database.with(|database| Ok(database.begin_read()?))?;
            let (transaction, to) = (begin.map_err(unavailable)?, to.to_owned());
            let copied = tokio::task::spawn_blocking(move || backup::copy(&transaction, &to)).await;
            copied
                .map_err(io::Error::other)
                .flatten()
                .map_err(|e| StoreError::Unavailable(format!("the copy cannot be written: {e}")))
        })
    }

    fn sweep(&self, now: UnixMillis) -> StoreFuture<'_, usize> {
        Box::pin(async move {
            let mut evicted = 0;
            loop {
                let some = self.submit(|answer| Job::Sweep(now, answer)).await?;
                evicted += some;
                if some < SWEEP_BATCH {
                    return Ok(evicted);
                }
            }
        })
    }
}
