//! Where records live: a small key-value store that swaps atomically and answers only when a change is durable.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use super::{Revocations, UnixMillis};

/// What a record is about; the first part of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Space {
    /// Sessions, by session id.
    Session,
    /// Login attempts, by canonical user name.
    Attempts,
    /// What networks have used up of their failures, by [`super::RateLimitScope`] and network.
    Network,
}

impl Space {
    /// All of them.
    pub const ALL: [Space; 3] = [Space::Session, Space::Attempts, Space::Network];

    /// Its name in keys.
    pub fn name(self) -> &'static str {
        match self {
            Space::Session => "session",
            Space::Attempts => "attempts",
            Space::Network => "network",
        }
    }
}

/// Names a record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// What it is about.
    pub space: Space,
    /// Which one.
    pub id: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.space.name(), self.id)
    }
}

/// Tells one state of a record from every other state it was or will be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version(pub u64);

/// A record as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// The record.
    pub value: Vec<u8>,
    /// Its state.
    pub version: Version,
}

/// A change to one record.
#[derive(Debug, Clone)]
pub struct Put {
    /// Which record.
    pub key: Key,
    /// The state it must be in; `None` if there must be none.
    pub expected: Option<Version>,
    /// What it becomes.
    pub value: Vec<u8>,
    /// When it may be forgotten.
    pub expires_at: UnixMillis,
    /// The group it can be found by, such as a user's id. The same for all changes of a record.
    pub group: Option<String>,
    /// For a change that ends a session: until when its access tokens could pass. A store that several processes share
    /// tells all of them; others have nobody to tell.
    pub revoked_until: Option<UnixMillis>,
}

/// How a change went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// It is made, and durable.
    Stored,
    /// The record is in another state than expected. Nothing was changed.
    Conflict,
}

/// Why a store does not answer. Whether a change was made is then unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, is full, or is broken.
    #[error("the session store is unavailable: {0}")]
    Unavailable(String),
    /// It holds something that this program did not write.
    #[error("the session store holds a record that cannot be read: {0}")]
    Corrupt(String),
    /// It holds something that a later version of this program wrote. It is left alone.
    #[error(
        "the session store holds what a newer version of this program wrote: {0}; upgrade this one as well"
    )]
    Newer(String),
}

/// What a store knows of its own health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Nothing but how each operation went.
    Unwatched,
    /// It has been in reach since then.
    Up(Instant),
    /// It is out of reach, and why.
    Down(String),
}

/// What a store operation gives.
pub(super) type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// A durable key-value store with compare-and-swap.
///
/// Rules never run inside it: they read a record, decide, and swap. A swap may therefore be sent twice without harm:
/// the second one conflicts, and reading again shows what the first one did.
pub trait Store: Send + Sync + 'static {
    /// Reads a record. Expired ones may or may not be found.
    fn get<'a>(&'a self, key: &'a Key) -> StoreFuture<'a, Option<Versioned>>;

    /// Makes a change if the record is in the expected state. `Stored` is said only once the change is durable.
    fn put_if(&self, put: Put) -> StoreFuture<'_, PutOutcome>;

    /// The keys of a group's records.
    fn group<'a>(&'a self, group: &'a str) -> StoreFuture<'a, Vec<Key>>;

    /// The revoked sessions, where the store keeps the set up to date itself because other processes revoke too. It
    /// then waits a moment for what was revoked so far, but does not insist: a start must not depend on it.
    fn revocations(&self) -> StoreFuture<'_, Option<Arc<Revocations>>> {
        Box::pin(async { Ok(None) })
    }

    /// How the store is, as far as it knows without being asked for anything.
    fn health(&self) -> Health {
        Health::Unwatched
    }

    /// How often it was found to have lost what it held, since the process began. One that would not open then has never.
    fn losses(&self) -> u64 {
        0
    }

    /// All records of a space; for start-up, where the store does not keep the revoked sessions itself.
    fn scan(&self, space: Space) -> StoreFuture<'_, Vec<(Key, Versioned)>>;

    /// Forgets some of the records that expired before `now`, and tells how many. One that forgets by itself has none.
    fn sweep(&self, now: UnixMillis) -> StoreFuture<'_, usize>;
}
