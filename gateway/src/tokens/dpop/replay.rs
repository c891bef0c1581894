//! The memory of used proofs in this process, shared by its workers: a proof is good for one request (RFC 9449 section 11.1). With
//! an embedded store it outlives the process.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;

use super::ProofId;
use super::journal::Journal;
use crate::tokens::UnixSeconds;

/// Enough that workers seldom wait for each other.
const SHARDS: usize = 16;

/// Proofs in one generation of a shard; all shards together have some 100 MB at most.
const MAX_PER_GENERATION: usize = 128 * 1024;

/// Proofs by their ids, each remembered until it could no longer be accepted: in two generations, of which the older is dropped
/// as a whole.
#[derive(Debug, Default)]
pub(crate) struct ReplayCache {
    shards: [Mutex<Shard>; SHARDS],
    journal: Option<Journal>,
}

#[derive(Debug, Default)]
struct Shard {
    young: HashSet<ProofId, RandomState>,
    old: HashSet<ProofId, RandomState>,
    /// Begin of the young generation.
    since: UnixSeconds,
}

/// What became of a proof that is to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claimed {
    /// It is used now for the first time.
    First,
    Replayed,
    /// There is no room to remember it.
    Full,
}

impl ReplayCache {
    /// A memory that is kept in a file as well, with what that has at `now`.
    pub(crate) fn kept_in(path: &Path, now: UnixSeconds) -> ReplayCache {
        let (journal, used) = Journal::open(path, now);
        let cache = ReplayCache { journal: Some(journal), ..ReplayCache::default() };
        for id in used {
            let mut shard = cache.shard(id);
            shard.since = now;
            shard.young.insert(id);
        }
        cache
    }

    fn shard(&self, id: ProofId) -> MutexGuard<'_, Shard> {
        // A set is consistent after a panic elsewhere.
        self.shards[usize::from(id.0[0]) % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Uses a proof at `now`; it could be accepted for `lifetime`.
    pub(crate) fn claim(&self, id: ProofId, now: UnixSeconds, lifetime: Duration) -> Claimed {
        let mut shard = self.shard(id);
        shard.rotate(now, lifetime.max(Duration::from_secs(1)));
        if shard.young.contains(&id) || shard.old.contains(&id) {
            return Claimed::Replayed;
        }
        if shard.young.len() >= MAX_PER_GENERATION {
            return Claimed::Full;
        }
        shard.young.insert(id);
        drop(shard);
        if let Some(journal) = &self.journal {
            journal.append(id, now, lifetime);
        }
        Claimed::First
    }
}

impl Shard {
    /// A generation is dropped when its youngest proof has been remembered for `lifetime`.
    fn rotate(&mut self, now: UnixSeconds, lifetime: Duration) {
        let age = now.since(self.since);
        if age <= lifetime {
            return;
        }
        let young = std::mem::take(&mut self.young);
        self.old = if age > 2 * lifetime { HashSet::default() } else { young };
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> ProofId {
        let mut id = ProofId([0; 16]);
        id.0[..8].copy_from_slice(&number.to_le_bytes());
        id
    }

    #[test]
    fn a_proof_is_used_once_for_as_long_as_it_could_be_accepted() {
        for first in 1_000..1_200 {
            let cache = ReplayCache::default();
            assert_eq!(cache.claim(id(16), UnixSeconds::new(1_000), Duration::from_secs(60)), Claimed::First);
            assert_eq!(cache.claim(id(0), UnixSeconds::new(first), Duration::from_secs(60)), Claimed::First);
            for later in first..=first + 60 {
                assert_eq!(
                    cache.claim(id(0), UnixSeconds::new(later), Duration::from_secs(60)),
                    Claimed::Replayed,
                    "{first} {later}"
                );
            }
            assert_eq!(
                cache.claim(id(0), UnixSeconds::new(first + 400), Duration::from_secs(60)),
                Claimed::First,
                "forgotten in the end"
            );
        }
    }

    #[test]
    fn a_proof_stays_used_through_generations_that_others_begin() {
        let cache = ReplayCache::default();
        for second in 0..500 {
            assert_eq!(
                cache.claim(id(16 * (second + 1)), UnixSeconds::new(second), Duration::from_secs(60)),
                Claimed::First
            );
            for earlier in second.saturating_sub(60)..second {
                assert_eq!(
                    cache.claim(id(16 * (earlier + 1)), UnixSeconds::new(second), Duration::from_secs(60)),
                    Claimed::Replayed
                );
            }
        }
        let shard = cache.shards[0].lock().unwrap_or_else(PoisonError::into_inner);
        assert!(shard.young.len() + shard.old.len() <= 125, "old ones are dropped");
    }

    #[test]
    fn the_memory_is_bounded() {
        let cache = ReplayCache::default();
        let first = (0..MAX_PER_GENERATION as u64).filter(|n| {
            cache.claim(id(n << 8), UnixSeconds::new(1), Duration::from_secs(60)) == Claimed::First
        });
        assert_eq!(first.count(), MAX_PER_GENERATION);
        assert_eq!(cache.claim(id(1 << 40), UnixSeconds::new(1), Duration::from_secs(60)), Claimed::Full);
        assert_eq!(cache.claim(id(0), UnixSeconds::new(1), Duration::from_secs(60)), Claimed::Replayed);
        assert_eq!(cache.claim(id(1 << 40), UnixSeconds::new(62), Duration::from_secs(60)), Claimed::First);
    }
}
