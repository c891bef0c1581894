//! Data loss detection by generation ids: a Redis that has lost its records, or was replaced by another, has
//! new ones.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::error::RedisError;
use super::keyspace::{LAYOUT, SHARDS, Shard};
use crate::sessions::TokenId;

/// The last known generation id of each shard.
#[derive(Debug)]
pub(super) struct GenerationIds {
    seen: Mutex<[Option<String>; SHARDS]>,
    losses: AtomicU64,
}

impl Default for GenerationIds {
    fn default() -> GenerationIds {
        GenerationIds { seen: Mutex::new([const { None }; SHARDS]), losses: AtomicU64::new(0) }
    }
}

impl GenerationIds {
    /// A new generation id for a shard that has none.
    pub(super) fn fresh(&self) -> String {
        format!("{LAYOUT} {}", TokenId::random())
    }

    /// Records a shard's generation id and returns whether it has changed.
    pub(super) fn is_new(&self, shard: Shard, mark: String) -> Result<bool, RedisError> {
        if mark.split(' ').next() != Some(LAYOUT) {
            return Err(RedisError::Refused(format!(
                "its keys are laid out in another way than this version knows (mark {mark:?}); upgrade this gateway, or set another store.redis.key_prefix"
            )));
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen[shard].replace(mark);
        Ok(before.is_some() && before != seen[shard])
    }

    /// Counts shards that were found to be new.
    pub(super) fn count_loss(&self, shards: usize) {
        self.losses.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            shards,
            of = SHARDS,
            "Redis has lost its data: users have to log in again, and locks of user names are gone"
        );
    }

    /// How often data loss was detected.
    pub(super) fn losses(&self) -> u64 {
        self.losses.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_was_emptied_is_noticed_and_a_new_layout_refused() {
        let generations = GenerationIds::default();
        let first = generations.fresh();
        let is_new =
            |shard, mark: &str| generations.is_new(shard, mark.to_owned()).map_err(|error| error.text());
        assert_eq!(is_new(3, &first), Ok(false), "the first sight is no news");
        assert_eq!(is_new(3, &first), Ok(false));
        assert_eq!(is_new(3, &generations.fresh()), Ok(true));
        assert!(is_new(4, "3 x").is_err_and(|why| why.contains("upgrade")));
    }
}
