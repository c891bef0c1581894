//! The sessions whose access tokens must not pass any more: known to every instance, so that no request asks a store.

use std::collections::HashMap;
use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{SessionId, UnixMillis};

/// The revoked sessions that still have access tokens about.
///
/// The epoch changes with every addition. Whoever looked a session up at one epoch needs not look again while it
/// lasts: on the hot path a revocation check is one atomic load.
#[derive(Debug, Default)]
pub struct Revocations {
    epoch: AtomicU64,
    sessions: RwLock<HashMap<SessionId, UnixMillis>>,
}

impl Revocations {
    /// The state of the set.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether that session was revoked.
    pub fn is_revoked(&self, session: &SessionId) -> bool {
        self.read(|sessions| sessions.contains_key(session))
    }

    /// Adds a session until `until`, when its last access token has expired.
    pub(super) fn insert(&self, session: SessionId, until: UnixMillis) {
        let mut sessions = self.sessions.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        let kept = sessions.entry(session).or_insert(until);
        *kept = until.max(*kept);
        // While the lock is held: whoever sees the new epoch sees the session too.
        self.epoch.fetch_add(1, Ordering::Release);
    }

    /// Forgets sessions whose tokens have all expired.
    pub(super) fn forget_expired(&self, now: UnixMillis) {
        let mut sessions = self.sessions.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        sessions.retain(|_, until| *until > now);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.read(HashMap::len)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn read<T>(&self, look: impl FnOnce(&HashMap<SessionId, UnixMillis>) -> T) -> T {
        // A map of plain values is whole even if a thread panicked beside it.
        look(&self.sessions.read().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }
}
