//! The revocation set: sessions whose access tokens are no longer valid, in memory on every instance, so that
//! no request queries a store.

use std::collections::HashMap;
use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{SessionId, UnixMillis};

/// A set that is not fed from elsewhere is always fresh.
const ALWAYS: UnixMillis = UnixMillis::MAX;

/// Number of sessions pruned at once.
const PRUNE_BATCH: usize = 1000;

/// The revoked sessions that may still have valid access tokens.
///
/// The epoch changes with every session that is added. A lookup at one epoch holds while it lasts: on the hot
/// path a revocation check is one atomic load.
#[derive(Debug)]
pub struct Revocations {
    epoch: AtomicU64,
    sessions: RwLock<HashMap<SessionId, UnixMillis>>,
    /// When the set was last known to be complete; [`ALWAYS`] where only this process adds to it.
    heard_at: AtomicU64,
    trusted_until: AtomicU64,
}

impl Default for Revocations {
    fn default() -> Revocations {
        Revocations {
            epoch: AtomicU64::new(0),
            sessions: RwLock::default(),
            heard_at: AtomicU64::new(ALWAYS.get()),
            trusted_until: AtomicU64::new(ALWAYS.get()),
        }
    }
}

impl Revocations {
    /// Whether the set is fresh enough to be used.
    pub fn are_trusted(&self, now: UnixMillis) -> bool {
        now.get() <= self.trusted_until.load(Ordering::Relaxed)
    }

    /// Staleness: time since the set was last known to be complete; zero where only this process adds
    /// to it.
    pub fn age(&self, now: UnixMillis) -> Duration {
        now.since(UnixMillis::new(self.heard_at.load(Ordering::Relaxed)))
    }

    /// The set was complete at `at`, and may be used until `trusted_until`.
    pub(super) fn record_sync(&self, at: UnixMillis, trusted_until: UnixMillis) {
        self.heard_at.store(at.get(), Ordering::Relaxed);
        self.trusted_until.store(trusted_until.get(), Ordering::Relaxed);
    }

    /// The version of the set.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether that session was revoked.
    pub fn is_revoked(&self, session: &SessionId) -> bool {
        self.read(|sessions| sessions.contains_key(session))
    }

    /// Adds a session until `until`, when its last access token has expired.
    pub(crate) fn insert(&self, session: SessionId, until: UnixMillis) {
        self.extend([(session, until)]);
    }

    /// Adds sessions.
    pub(super) fn extend(&self, revoked: impl IntoIterator<Item = (SessionId, UnixMillis)>) {
        let mut sessions = self.sessions.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        let before = sessions.len();
        for (session, until) in revoked {
            let kept = sessions.entry(session).or_insert(until);
            *kept = until.max(*kept);
        }
        if sessions.len() > before {
            // While the lock is held: a reader of the new epoch sees the sessions too.
            self.epoch.fetch_add(1, Ordering::Release);
        }
    }

    /// Removes sessions whose tokens have all expired.
    pub(super) fn prune_expired(&self, now: UnixMillis) {
        // Collected under the read lock, and removed in small parts: there may be a million.
        let expired: Vec<SessionId> = self.read(|sessions| {
            sessions.iter().filter(|(_, until)| **until <= now).map(|(id, _)| *id).collect()
        });
        for part in expired.chunks(PRUNE_BATCH) {
            let mut sessions = self.sessions.write().unwrap_or_else(|poisoned| poisoned.into_inner());
            for session in part {
                if sessions.get(session).is_some_and(|until| *until <= now) {
                    sessions.remove(session);
                }
            }
        }
    }

    /// The number of sessions.
    pub fn len(&self) -> usize {
        self.read(HashMap::len)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn read<T>(&self, look: impl FnOnce(&HashMap<SessionId, UnixMillis>) -> T) -> T {
        // Each update is a single step, so a panic elsewhere leaves the map consistent.
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
            revocations.insert(session, UnixMillis::new(100));
            epochs.push(revocations.epoch());
        }
        epochs.dedup();
        assert_eq!(epochs.len(), 3);
        revocations.insert(one, UnixMillis::new(200));
        revocations.prune_expired(UnixMillis::new(150));
        assert_eq!(
            revocations.epoch(),
            epochs[2],
            "clients with tokens of ended sessions must not cause allocations"
        );
    }

    #[test]
    fn a_local_set_is_always_trusted_and_a_shared_one_while_it_is_fresh() {
        let revocations = Revocations::default();
        assert!(revocations.are_trusted(UnixMillis::MAX));
        assert_eq!(revocations.age(UnixMillis::new(1_000)), Duration::ZERO);
        revocations.record_sync(UnixMillis::new(1_000), UnixMillis::new(1_500));
        assert_eq!(
            (revocations.are_trusted(UnixMillis::new(1_500)), revocations.age(UnixMillis::new(1_500))),
            (true, Duration::from_millis(500))
        );
        assert!(!revocations.are_trusted(UnixMillis::new(1_501)));
    }

    #[test]
    fn a_session_is_kept_until_its_last_access_token_has_expired() {
        let revocations = Revocations::default();
        let session = SessionId::random();
        revocations.insert(session, UnixMillis::new(200));
        revocations.insert(session, UnixMillis::new(100));
        revocations.prune_expired(UnixMillis::new(199));
        assert!(revocations.is_revoked(&session));
        assert!(!revocations.is_revoked(&SessionId::random()));
        revocations.prune_expired(UnixMillis::new(200));
        assert!(!revocations.is_revoked(&session));
        assert!(revocations.is_empty());
    }
}
