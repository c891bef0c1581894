//! The store interface: a small key-value store with compare-and-swap that acknowledges only durable changes.

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use super::{Revocations, UnixMillis};

/// The kind of a record; the first part of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Space {
    /// Sessions, by session id.
    Session,
    /// Login attempts, by canonical user name.
    Attempts,
    /// Rate limit buckets, by [`super::RateLimitScope`] and network.
    Network,
    /// Used proofs of possession, in stores that processes share.
    Proof,
    /// Second factors, by user id.
    Factors,
    /// Personal access tokens, by id.
    PersonalToken,
    /// Tickets, by the hash of their secret.
    Ticket,
}

impl Space {
    /// All kinds.
    pub const ALL: [Space; 7] = [
        Space::Session,
        Space::Attempts,
        Space::Network,
        Space::Proof,
        Space::PersonalToken,
        Space::Ticket,
        Space::Factors,
    ];

    /// Its name in keys.
    pub fn name(self) -> &'static str {
        match self {
            Space::Session => "session",
            Space::Attempts => "attempts",
            Space::Network => "network",
            Space::Proof => "proof",
            Space::Factors => "factors",
            Space::PersonalToken => "personal-token",
            Space::Ticket => "ticket",
        }
    }
}

/// The key of a record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The kind.
    pub space: Space,
    /// The id within the kind.
    pub id: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.space.name(), self.id)
    }
}

/// Identifies one state of a record among all its states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version(pub u64);

/// A record as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// The content.
    pub value: Vec<u8>,
    /// Its version.
    pub version: Version,
}

/// A change to one record.
#[derive(Debug, Clone)]
pub struct Put {
    /// The record.
    pub key: Key,
    /// The version it must have; `None` if it must not exist.
    pub expected: Option<Version>,
    /// The new content.
    pub value: Vec<u8>,
    /// When it may be evicted.
    pub expires_at: UnixMillis,
    /// The group it can be found by, such as a user's id. The same for all changes of a record.
    pub group: Option<String>,
    /// For a revocation: until when the session's access tokens could be valid. A shared store publishes it
    /// to all processes.
    pub revoked_until: Option<UnixMillis>,
}

/// The result of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// Made, and durable.
    Stored,
    /// The record has another version than expected. Nothing was changed.
    Conflict,
}

/// Why a store operation failed. Whether a change was made is then unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store is unreachable, full, or broken.
    #[error("the session store is unavailable: {0}")]
    Unavailable(String),
    /// A record was not written by this program.
    #[error("the session store holds a record that cannot be read: {0}")]
    Corrupt(String),
    /// A record was written by a later version of this program. It is left alone.
    #[error(
        "the session store holds what a newer version of this program wrote: {0}; upgrade this one as well"
    )]
    Newer(String),
}

/// The store's own view of its health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Known only from the outcome of each operation.
    Unwatched,
    /// Up since then.
    Up(Instant),
    /// Down, and why.
    Down(String),
}

/// The future of a store operation.
pub(super) type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Gets a record and its key; an error ends the visit.
pub(super) type Visit<'a> = dyn FnMut(Key, Versioned) -> Result<(), StoreError> + Send + 'a;

/// A durable key-value store with compare-and-swap.
///
/// Rules never run inside it: they read a record, decide, and swap. A swap may therefore be retried without
/// harm: the second one conflicts, and reading again shows what the first one did.
pub trait Store: Send + Sync + 'static {
    /// Reads a record. Expired ones may or may not be found.
    fn get<'a>(&'a self, key: &'a Key) -> StoreFuture<'a, Option<Versioned>>;

    /// Makes a change if the record has the expected version. Returns `Stored` only once the change is
    /// durable.
    fn put_if(&self, put: Put) -> StoreFuture<'_, PutOutcome>;

    /// The keys of a group's records of a space.
    fn group<'a>(&'a self, space: Space, group: &'a str) -> StoreFuture<'a, Vec<Key>>;

    /// The revocation set, where the store keeps it up to date because other processes revoke too. Waits a
    /// moment for existing revocations to be read, without insisting: a start must not depend on it.
    fn revocations(&self) -> StoreFuture<'_, Option<Arc<Revocations>>> {
        Box::pin(async { Ok(None) })
    }

    /// Whether other processes share it.
    fn is_shared(&self) -> bool {
        false
    }

    /// The current health, without an operation.
    fn health(&self) -> Health {
        Health::Unwatched
    }

    /// How often data loss was detected since the process started. A store that then fails to open detects
    /// none.
    fn losses(&self) -> u64 {
        0
    }

    /// All records of a space; for start-up, where the store does not maintain the revocation set itself.
    fn scan(&self, space: Space) -> StoreFuture<'_, Vec<(Key, Versioned)>>;

    /// Calls `visit` with each record of a space, without reading all of them first where the
    /// store can.
    fn visit<'a>(&'a self, space: Space, visit: &'a mut Visit<'a>) -> StoreFuture<'a, ()> {
        Box::pin(
            async move { self.scan(space).await?.into_iter().try_for_each(|(key, found)| visit(key, found)) },
        )
    }

    /// Writes a consistent copy of all records to a new file, while changes go on. Only a store that is a file
    /// can.
    fn backup<'a>(&'a self, _to: &'a Path) -> StoreFuture<'a, ()> {
        Box::pin(async { Err(StoreError::Unavailable("it is not a file, and has no backup".into())) })
    }

    /// Evicts some of the records that expired before `now`, and returns how many. A store with TTLs evicts
    /// none.
    fn sweep(&self, now: UnixMillis) -> StoreFuture<'_, usize>;
}
