//! The default store: one redb file, written by one thread that lets many changes share one fsync.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use redb::{Builder, Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::oneshot;

use super::UnixMillis;
use super::store::{Key, Put, PutOutcome, Space, Store, StoreError, StoreFuture, Version, Versioned};

/// Keys are `space/id`; values start with [`Header`].
const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records");
/// (group, key of a record).
const GROUPS: TableDefinition<'_, (&str, &str), ()> = TableDefinition::new("groups");
/// One entry, so that a foreign file is told from ours.
const FORMAT: TableDefinition<'_, &str, &str> = TableDefinition::new("format");
const FORMAT_KEY: &str = "auth-gateway state";
const FORMAT_VERSION: &str = "1";

/// Changes that may wait for the writer; more are turned away.
const QUEUE: usize = 4096;
/// Changes that share one fsync at most.
const BATCH: usize = 512;
/// Records that one sweep forgets at most, so that it does not hold up logins.
const SWEEP: usize = 10_000;
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// Why a state file cannot be used. Nothing was changed in it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder or the file cannot be made or read.
    #[error("cannot use the state file {path}: {reason}; check store.path and its owner")]
    Inaccessible {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Another process has it.
    #[error(
        "the state file {0} is in use by another process: stop that one, or give this one its own store.path; several gateways cannot share one embedded store"
    )]
    InUse(PathBuf),
    /// It is damaged or was written by something else.
    #[error(
        "the state file {path} is damaged or not one of this program's: {reason}; restore it from a backup, or move it away to start anew, which ends all sessions and forgets all locks"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Records in a redb file.
pub struct EmbeddedStore {
    database: Arc<Database>,
    writer: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

enum Job {
    Put(Put, oneshot::Sender<Result<PutOutcome, StoreError>>),
    Sweep(UnixMillis, oneshot::Sender<Result<usize, StoreError>>),
}

impl EmbeddedStore {
    /// Opens the file (mode 0600), or makes it where there is none. Every page's checksum is checked: a damaged
    /// file is refused, never taken for an empty one, for that would forgive reuse and unlock accounts.
    pub fn open(path: &Path) -> Result<EmbeddedStore, OpenError> {
        let inaccessible =
            |e: std::io::Error| OpenError::Inaccessible { path: path.to_owned(), reason: e.to_string() };
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(inaccessible)?;
        }
        match fs::metadata(path) {
            Ok(file) if file.len() == 0 => {
                return Err(OpenError::Foreign { path: path.to_owned(), reason: "it is empty".into() });
            }
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => create(path)?,
            Err(e) => return Err(inaccessible(e)),
        }
        // redb may panic over bytes that it did not write.
        let database = catch_unwind(AssertUnwindSafe(|| open_checked(path)));
        let database = database.unwrap_or_else(|_| {
            Err(OpenError::Foreign { path: path.to_owned(), reason: "its structure is broken".into() })
        })?;
        let database = Arc::new(database);
        let (writer, jobs) = sync_channel(QUEUE);
        let thread = {
            let database = Arc::clone(&database);
            thread::Builder::new()
                .name("state-writer".into())
                .spawn(move || Writer::new(&database).run(&jobs))
        };
        let thread = thread.map_err(inaccessible)?;
        Ok(EmbeddedStore { database, writer: Some(writer), thread: Some(thread) })
    }

    fn submit(&self, job: Job) -> Result<(), StoreError> {
        let writer = self.writer.as_ref().ok_or_else(|| StoreError::Unavailable("it is closed".into()))?;
        writer.try_send(job).map_err(|e| match e {
            TrySendError::Full(_) => StoreError::Unavailable("too many changes are waiting".into()),
            TrySendError::Disconnected(_) => StoreError::Unavailable("its writer has stopped".into()),
        })
    }

    /// Looks at the tables of the last commit. Reads take microseconds and mostly hit redb's cache, so they run where
    /// they are asked for.
    fn read<T>(
        &self,
        look: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let transaction = self.database.begin_read().map_err(unavailable)?;
        look(&transaction).map_err(unavailable)
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

fn unavailable(e: impl Into<redb::Error>) -> StoreError {
    StoreError::Unavailable(e.into().to_string())
}

/// Makes a file under another name first: a crash in between leaves no half-made file under the real one.
fn create(path: &Path) -> Result<(), OpenError> {
    let inaccessible =
        |e: &dyn std::fmt::Display| OpenError::Inaccessible { path: path.to_owned(), reason: e.to_string() };
    let unfinished = path.with_extension("new");
    OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)
        .map_err(|e| inaccessible(&e))?;
    let make = || -> Result<(), redb::Error> {
        let database = Builder::new().create(&unfinished)?;
        let transaction = database.begin_write()?;
        transaction.open_table(FORMAT)?.insert(FORMAT_KEY, FORMAT_VERSION)?;
        transaction.open_table(RECORDS)?;
        transaction.open_table(GROUPS)?;
        transaction.commit()?;
        Ok(())
    };
    make().map_err(|e| inaccessible(&e))?;
    fs::rename(&unfinished, path).map_err(|e| inaccessible(&e))
}

fn open_checked(path: &Path) -> Result<Database, OpenError> {
    let foreign =
        |e: &dyn std::fmt::Display| OpenError::Foreign { path: path.to_owned(), reason: e.to_string() };
    let mut builder = Builder::new();
    let database = builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true).open(path);
    let database = database.map_err(|e| match e {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse(path.to_owned()),
        e => foreign(&e),
    })?;
    let format = || -> Result<Option<String>, redb::Error> {
        let transaction = database.begin_read()?;
        transaction.open_table(RECORDS)?;
        transaction.open_table(GROUPS)?;
        Ok(transaction.open_table(FORMAT)?.get(FORMAT_KEY)?.map(|v| v.value().to_owned()))
    };
    match format().map_err(|e| foreign(&e))? {
        Some(version) if version == FORMAT_VERSION => Ok(database),
        Some(version) => {
            Err(foreign(&format!("its format is {version}, this program writes {FORMAT_VERSION}")))
        }
        None => Err(foreign(&"it has no format mark")),
    }
}

/// What stands before a record's bytes.
struct Header {
    version: Version,
    expires_at: UnixMillis,
}

const HEADER_LEN: usize = 16;

impl Header {
    fn encode(&self, value: &[u8]) -> Vec<u8> {
        [&self.version.0.to_be_bytes()[..], &self.expires_at.to_be_bytes(), value].concat()
    }

    fn decode(bytes: &[u8]) -> Option<(Header, &[u8])> {
        let (header, value) = bytes.split_at_checked(HEADER_LEN)?;
        let number = |at: usize| header[at..at + 8].try_into().ok().map(u64::from_be_bytes);
        Some((Header { version: Version(number(0)?), expires_at: number(8)? }, value))
    }
}

fn versioned(key: &str, bytes: &[u8]) -> Result<Versioned, StoreError> {
    let (header, value) = Header::decode(bytes).ok_or_else(|| StoreError::Corrupt(key.to_owned()))?;
    Ok(Versioned { value: value.to_vec(), version: header.version })
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
        Box::pin(async move {
            let (answer, outcome) = oneshot::channel();
            self.submit(Job::Put(put, answer))?;
            outcome.await.map_err(|_| StoreError::Unavailable("its writer has stopped".into()))?
        })
    }

    fn group<'a>(&'a self, group: &'a str) -> StoreFuture<'a, Vec<Key>> {
        Box::pin(async move {
            self.read(|tx| {
                let mut keys = Vec::new();
                for entry in tx.open_table(GROUPS)?.range((group, "")..)? {
                    let (found, ()) = entry.map(|(k, v)| (k, v.value()))?;
                    let (of, key) = found.value();
                    if of != group {
                        break;
                    }
                    keys.extend(parse_key(key));
                }
                Ok(keys)
            })
        })
    }

    fn scan(&self, space: Space) -> StoreFuture<'_, Vec<(Key, Versioned)>> {
        Box::pin(async move {
            let prefix = format!("{}/", space.name());
            let found = self.read(|tx| {
                let mut found = Vec::new();
                for entry in tx.open_table(RECORDS)?.range(prefix.as_str()..)? {
                    let (key, value) = entry?;
                    let Some(id) = key.value().strip_prefix(&prefix) else { break };
                    found.push((Key { space, id: id.to_owned() }, value.value().to_vec()));
                }
                Ok(found)
            })?;
            found
                .into_iter()
                .map(|(key, bytes)| Ok((key.clone(), versioned(&key.to_string(), &bytes)?)))
                .collect()
        })
    }

    fn sweep(&self, now: UnixMillis) -> StoreFuture<'_, usize> {
        Box::pin(async move {
            let (answer, outcome) = oneshot::channel();
            self.submit(Job::Sweep(now, answer))?;
            outcome.await.map_err(|_| StoreError::Unavailable("its writer has stopped".into()))?
        })
    }
}

fn parse_key(text: &str) -> Option<Key> {
    let (space, id) = text.split_once('/')?;
    let space = [Space::Session, Space::Attempts].into_iter().find(|s| s.name() == space)?;
    Some(Key { space, id: id.to_owned() })
}

/// Everything that waits with `first`, up to a batch: while one fsync runs, the changes for the next one gather.
fn gather(first: Job, jobs: &Receiver<Job>) -> Vec<Job> {
    std::iter::once(first).chain(jobs.try_iter()).take(BATCH).collect()
}

/// The one who changes the file.
struct Writer<'d> {
    database: &'d Database,
    last_version: u64,
    /// After a commit that failed, what is on disk is unknown: trying again could lose what was promised. Opening the
    /// file anew finds out.
    broken: Option<String>,
}

impl<'d> Writer<'d> {
    fn new(database: &'d Database) -> Writer<'d> {
        // Versions only need to differ from all earlier ones of a record: the clock's nanoseconds start higher than
        // any count of changes an earlier process can have reached.
        let since_1970 =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Writer { database, last_version: since_1970.as_nanos() as u64, broken: None }
    }

    fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            self.work(gather(first, jobs));
        }
    }

    /// Does what was gathered: all changes in one commit.
    fn work(&mut self, batch: Vec<Job>) {
        let (mut changes, mut answers) = (Vec::new(), Vec::new());
        for job in batch {
            match job {
                Job::Put(put, answer) => {
                    changes.push(put);
                    answers.push(answer);
                }
                // Who asked may have gone, here and below; what was done stands all the same.
                Job::Sweep(now, answer) => drop(answer.send(self.guarded(|writer| writer.forget(now)))),
            }
        }
        if changes.is_empty() {
            return;
        }
        let result = self.guarded(|writer| writer.commit(&changes));
        for (place, answer) in answers.into_iter().enumerate() {
            let _ = answer.send(result.as_ref().map(|outcomes| outcomes[place]).map_err(StoreError::clone));
        }
    }

    fn guarded<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        if let Some(reason) = &self.broken {
            return Err(StoreError::Unavailable(reason.clone()));
        }
        let result = catch_unwind(AssertUnwindSafe(|| work(self)));
        let error = match result {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the file's structure is broken".to_owned(),
        };
        tracing::error!(error, "the state file cannot be written; restart when the cause is gone");
        self.broken = Some(error.clone());
        Err(StoreError::Unavailable(error))
    }

    /// Makes all changes whose records are as expected, in one transaction.
    fn commit(&mut self, puts: &[Put]) -> Result<Vec<PutOutcome>, redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate).map_err(redb::Error::from)?;
        let mut outcomes = Vec::with_capacity(puts.len());
        {
            let mut records = transaction.open_table(RECORDS)?;
            let mut groups = transaction.open_table(GROUPS)?;
            for put in puts {
                let key = put.key.to_string();
                let current = records
                    .get(key.as_str())?
                    .and_then(|v| Header::decode(v.value()).map(|(h, _)| h.version));
                if current != put.expected {
                    outcomes.push(PutOutcome::Conflict);
                    continue;
                }
                self.last_version += 1;
                let header = Header { version: Version(self.last_version), expires_at: put.expires_at };
                records.insert(key.as_str(), header.encode(&put.value).as_slice())?;
                if let (None, Some(group)) = (put.expected, &put.group) {
                    groups.insert((group.as_str(), key.as_str()), ())?;
                }
                outcomes.push(PutOutcome::Stored);
            }
        }
        transaction.commit()?;
        Ok(outcomes)
    }

    /// Forgets expired records and the places of their groups.
    fn forget(&mut self, now: UnixMillis) -> Result<usize, redb::Error> {
        let expired = self.expired(now)?;
        if expired.is_empty() {
            return Ok(0);
        }
        let transaction = self.database.begin_write()?;
        {
            let mut records = transaction.open_table(RECORDS)?;
            for key in &expired {
                records.remove(key.as_str())?;
            }
            let gone: HashSet<&str> = expired.iter().map(String::as_str).collect();
            transaction.open_table(GROUPS)?.retain(|(_, key), ()| !gone.contains(key))?;
        }
        transaction.commit()?;
        Ok(expired.len())
    }

    fn expired(&self, now: UnixMillis) -> Result<Vec<String>, redb::Error> {
        let transaction = self.database.begin_read()?;
        let mut expired = Vec::new();
        for entry in transaction.open_table(RECORDS)?.range::<&str>(..)? {
            let (key, value) = entry?;
            if Header::decode(value.value()).is_none_or(|(header, _)| header.expires_at <= now) {
                expired.push(key.value().to_owned());
                if expired.len() == SWEEP {
                    break;
                }
            }
        }
        Ok(expired)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn put(id: usize) -> Put {
        let key = Key { space: Space::Session, id: id.to_string() };
        Put { key, expected: None, value: vec![b'x'; 200], expires_at: u64::MAX, group: Some("1".into()) }
    }

    fn fill(path: &Path, records: usize) {
        let store = EmbeddedStore::open(path).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store = Arc::new(store);
            let puts: Vec<_> = (0..records)
                .map(|id| {
                    let store = Arc::clone(&store);
                    tokio::spawn(async move { store.put_if(put(id)).await.unwrap() })
                })
                .collect();
            for put in puts {
                assert_eq!(put.await.unwrap(), PutOutcome::Stored);
            }
        });
    }

    #[test]
    fn the_file_is_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/state.redb");
        drop(EmbeddedStore::open(&path).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_second_process_is_refused_and_the_first_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        let first = EmbeddedStore::open(&path).unwrap();
        assert!(matches!(EmbeddedStore::open(&path), Err(OpenError::InUse(_))));
        drop(first);
        assert!(EmbeddedStore::open(&path).is_ok());
    }

    #[test]
    fn a_file_that_is_empty_foreign_or_cut_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        fill(&path, 100);
        let whole = fs::read(&path).unwrap();
        for content in [&b""[..], b"SQLite format 3\0 and so on", &whole[..whole.len() / 2], &whole[..100]] {
            fs::write(&path, content).unwrap();
            let error = EmbeddedStore::open(&path).err().unwrap();
            assert!(matches!(error, OpenError::Foreign { .. }), "{} bytes: {error}", content.len());
            assert!(!error.to_string().contains('\n'), "{error}");
        }
        let foreign = dir.path().join("foreign.redb");
        drop(Database::create(&foreign).unwrap());
        assert!(matches!(EmbeddedStore::open(&foreign), Err(OpenError::Foreign { .. })));
    }

    #[test]
    fn a_flipped_byte_is_refused_or_harmless_and_never_an_empty_store() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        fill(&path, 200);
        let whole = fs::read(&path).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for step in 0..60 {
            let at = (step * 7919 + 13) * 131 % whole.len();
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (step % 8);
            fs::write(&path, &damaged).unwrap();
            if let Ok(store) = EmbeddedStore::open(&path) {
                let records = runtime.block_on(store.scan(Space::Session)).unwrap();
                assert_eq!(records.len(), 200, "byte {at}");
            }
        }
    }

    #[test]
    fn changes_that_wait_together_share_one_commit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        drop(EmbeddedStore::open(&path).unwrap());
        let database = open_checked(&path).unwrap();
        let (jobs, queue) = sync_channel(QUEUE);
        let answers: Vec<_> = (0..200)
            .map(|id| {
                let (answer, outcome) = oneshot::channel();
                jobs.send(Job::Put(put(id), answer)).unwrap();
                outcome
            })
            .collect();
        let batch = gather(queue.recv().unwrap(), &queue);
        assert_eq!(batch.len(), 200);
        Writer::new(&database).work(batch);
        for answer in answers {
            assert_eq!(answer.blocking_recv().unwrap().unwrap(), PutOutcome::Stored);
        }
    }
}
