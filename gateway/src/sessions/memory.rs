//! The in-memory store, lost with the process: for tests and for gateways that need no persistence.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use super::UnixMillis;
use super::store::{Key, Put, PutOutcome, Space, Store, StoreError, StoreFuture, Version, Versioned};

/// Records in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    records: Mutex<Records>,
}

#[derive(Debug, Default)]
struct Records {
    by_key: BTreeMap<Key, Record>,
    by_group: BTreeSet<(String, Key)>,
    last_version: u64,
}

#[derive(Debug)]
struct Record {
    value: Vec<u8>,
    version: Version,
    expires_at: UnixMillis,
    group: Option<String>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// Runs `work` on the records, under their lock.
    fn with<'a, T: Send + 'a>(
        &'a self,
        work: impl FnOnce(&mut Records) -> T + Send + 'a,
    ) -> StoreFuture<'a, T> {
        Box::pin(async move {
            let mut records =
                self.records.lock().map_err(|_| StoreError::Unavailable("a thread panicked in it".into()))?;
            Ok(work(&mut records))
        })
    }
}

impl Store for MemoryStore {
    fn get<'a>(&'a self, key: &'a Key) -> StoreFuture<'a, Option<Versioned>> {
        self.with(|records| {
            records.by_key.get(key).map(|r| Versioned { value: r.value.clone(), version: r.version })
        })
    }

    fn put_if(&self, put: Put) -> StoreFuture<'_, PutOutcome> {
        self.with(move |records| {
            if records.by_key.get(&put.key).map(|r| r.version) != put.expected {
                return PutOutcome::Conflict;
            }
            records.last_version += 1;
            let version = Version(records.last_version);
            if let Some(group) = &put.group {
                records.by_group.insert((group.clone(), put.key.clone()));
            }
            let record = Record { value: put.value, version, expires_at: put.expires_at, group: put.group };
            records.by_key.insert(put.key, record);
            PutOutcome::Stored
        })
    }

    fn group<'a>(&'a self, space: Space, group: &'a str) -> StoreFuture<'a, Vec<Key>> {
        self.with(move |records| {
            let first = (group.to_owned(), Key { space, id: String::new() });
            records
                .by_group
                .range(first..)
                .take_while(|(g, key)| g == group && key.space == space)
                .map(|(_, key)| key.clone())
                .collect()
        })
    }

    fn scan(&self, space: Space) -> StoreFuture<'_, Vec<(Key, Versioned)>> {
        self.with(move |records| {
            let of_space = records.by_key.iter().filter(|(key, _)| key.space == space);
            of_space
                .map(|(key, r)| (key.clone(), Versioned { value: r.value.clone(), version: r.version }))
                .collect()
        })
    }

    fn sweep(&self, now: UnixMillis) -> StoreFuture<'_, usize> {
        self.with(move |records| {
            let Records { by_key, by_group, .. } = records;
            let before = by_key.len();
            by_key.retain(|key, record| {
                let keep = record.expires_at > now;
                if let (false, Some(group)) = (keep, &record.group) {
                    by_group.remove(&(group.clone(), key.clone()));
                }
                keep
            });
            before - by_key.len()
        })
    }
}
