//! The sessions whose access tokens must not pass any more: known to every instance, so that no request asks a store.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{SessionId, UnixMillis};

/// The revoked sessions that still have access tokens about.
///
/// The epoch changes with every session that is added. Whoever looked a session up at one epoch needs not look again while it
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
        match sessions.entry(session) {
            Entry::Occupied(mut kept) => {
                let until = until.max(*kept.get());
                kept.insert(until);
            }
            Entry::Vacant(place) => {
                place.insert(until);
                // While the lock is held: whoever sees the new epoch sees the session too.
                self.epoch.fetch_add(1, Ordering::Release);
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_changes_with_every_session_that_is_added_and_with_nothing_else() {
        let revocations = Revocations::default();
        let (one, two) = (SessionId::random(), SessionId::random());
        let mut epochs = vec![revocations.epoch()];
        for session in [one, two] {
            revocations.insert(session, 100);
            epochs.push(revocations.epoch());
        }
        epochs.dedup();
        assert_eq!(epochs.len(), 3);
        revocations.insert(one, 200);
        revocations.forget_expired(150);
        assert_eq!(
            revocations.epoch(),
            epochs[2],
            "whoever presents ended tokens must not cost others their memory"
        );
    }

    #[test]
    fn a_session_is_kept_until_its_last_access_token_has_expired() {
        let revocations = Revocations::default();
        let session = SessionId::random();
        revocations.insert(session, 200);
        revocations.insert(session, 100);
        revocations.forget_expired(199);
        assert!(revocations.is_revoked(&session));
        assert!(!revocations.is_revoked(&SessionId::random()));
        revocations.forget_expired(200);
        assert!(!revocations.is_revoked(&session));
        assert!(revocations.is_empty());
    }
}
