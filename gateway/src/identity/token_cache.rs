//! Cache of verified tokens, so that a repeated token costs a lookup instead of a signature check.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use foldhash::fast::RandomState;

use crate::identity::Identity;
use crate::sessions::Revocations;
use crate::tokens::UnixSeconds;

/// One worker's token cache: bounded, keyed by the whole token, with two generations. When the young one is
/// full it becomes the old one, and the previous old one is evicted, except for entries that were used
/// meanwhile.
#[derive(Debug)]
pub(crate) struct TokenCache {
    young: HashMap<Box<[u8]>, CacheEntry, RandomState>,
    old: HashMap<Box<[u8]>, CacheEntry, RandomState>,
    generation: usize,
}

#[derive(Debug)]
struct CacheEntry {
    identity: Rc<Identity>,
    /// The epoch of the revocation set at which the session was last known not to be revoked.
    epoch: Cell<u64>,
}

impl CacheEntry {
    fn lookup(&self, now: UnixSeconds, leeway: Duration, revocations: &Revocations) -> CacheLookup {
        if now >= self.identity.valid_until(leeway) {
            return CacheLookup::Expired;
        }
        let epoch = revocations.epoch();
        if self.epoch.get() != epoch {
            if revocations.is_revoked(self.identity.session()) {
                return CacheLookup::Revoked;
            }
            self.epoch.set(epoch);
        }
        CacheLookup::Good(Rc::clone(&self.identity))
    }
}

/// The result of a lookup.
#[derive(Debug)]
pub(crate) enum CacheLookup {
    Good(Rc<Identity>),
    Expired,
    Revoked,
    Unknown,
}

impl TokenCache {
    /// A cache of about `capacity` tokens.
    pub(crate) fn new(capacity: usize) -> TokenCache {
        TokenCache {
            young: HashMap::default(),
            old: HashMap::default(),
            generation: capacity.div_ceil(2).max(1),
        }
    }

    /// The number of entries.
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Looks a token up. Expiry and revocation are checked each time; the lookup in the revocation set is
    /// skipped while its epoch is the same.
    pub(crate) fn get(
        &mut self,
        token: &[u8],
        now: UnixSeconds,
        leeway: Duration,
        revocations: &Revocations,
    ) -> CacheLookup {
        if let Some(entry) = self.young.get(token) {
            return entry.lookup(now, leeway, revocations);
        }
        let Some((token, entry)) = self.old.remove_entry(token) else { return CacheLookup::Unknown };
        let known = entry.lookup(now, leeway, revocations);
        self.store(token, entry);
        known
    }

    /// Inserts a verified token; `epoch` was read before its session was checked for revocation.
    pub(crate) fn insert(&mut self, token: &[u8], identity: Rc<Identity>, epoch: u64) {
        self.store(token.into(), CacheEntry { identity, epoch: Cell::new(epoch) });
    }

    fn store(&mut self, token: Box<[u8]>, entry: CacheEntry) {
        if self.young.len() >= self.generation {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(token, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMillis;
    use crate::identity::test_support::{NOW, plain_identity};

    fn word(found: &CacheLookup) -> &'static str {
        match found {
            CacheLookup::Good(_) => "good",
            CacheLookup::Expired => "expired",
            CacheLookup::Revoked => "revoked",
            CacheLookup::Unknown => "unknown",
        }
    }

    #[test]
    fn a_token_is_good_until_it_expires_or_its_session_is_revoked() {
        let revocations = Revocations::default();
        let (kept, ended) = (plain_identity(NOW + 60), plain_identity(NOW + 60));
        let mut cache = TokenCache::new(8);
        cache.insert(b"kept", Rc::clone(&kept), revocations.epoch());
        cache.insert(b"ended", Rc::clone(&ended), revocations.epoch());
        for (token, now, leeway, expected) in [
            (&b"kept"[..], NOW, 0, "good"),
            (b"kept", NOW + 59, 0, "good"),
            (b"kept", NOW + 60, 0, "expired"),
            (b"kept", NOW + 60, 5, "good"),
            (b"kept", NOW + 65, 5, "expired"),
            (b"kep", NOW, 0, "unknown"),
            (b"kept ", NOW, 0, "unknown"),
            (b"KEPT", NOW, 0, "unknown"),
        ] {
            assert_eq!(
                word(&cache.get(token, UnixSeconds::new(now), Duration::from_secs(leeway), &revocations)),
                expected,
                "{token:?} {now} {leeway}"
            );
        }
        revocations.insert(*ended.session(), UnixMillis::MAX);
        for (token, expected) in [(&b"kept"[..], "good"), (b"ended", "revoked"), (b"ended", "revoked")] {
            assert_eq!(
                word(&cache.get(token, UnixSeconds::new(NOW), Duration::ZERO, &revocations)),
                expected,
                "{token:?}"
            );
        }
    }

    #[test]
    fn a_session_that_was_revoked_while_its_token_was_verified_is_found_at_the_first_lookup() {
        let revocations = Revocations::default();
        let identity = plain_identity(NOW + 60);
        let before = revocations.epoch();
        revocations.insert(*identity.session(), UnixMillis::MAX);
        let mut cache = TokenCache::new(8);
        cache.insert(b"token", identity, before);
        assert_eq!(
            word(&cache.get(b"token", UnixSeconds::new(NOW), Duration::ZERO, &revocations)),
            "revoked"
        );
    }

    #[test]
    fn a_full_cache_evicts_what_was_not_used_and_stays_bounded() {
        let revocations = Revocations::default();
        let identity = plain_identity(NOW + 60);
        for capacity in [0, 1, 2, 7, 64] {
            let mut cache = TokenCache::new(capacity);
            cache.insert(b"used", Rc::clone(&identity), 0);
            for number in 0..200_u32 {
                cache.insert(&number.to_be_bytes(), Rc::clone(&identity), 0);
                assert!(cache.len() <= (capacity + 1).max(2), "{capacity}: {}", cache.len());
                if capacity >= 7 {
                    assert_eq!(
                        word(&cache.get(b"used", UnixSeconds::new(NOW), Duration::ZERO, &revocations)),
                        "good",
                        "{capacity} {number}"
                    );
                }
            }
            assert_eq!(
                word(&cache.get(&0_u32.to_be_bytes(), UnixSeconds::new(NOW), Duration::ZERO, &revocations)),
                "unknown",
                "{capacity}"
            );
        }
    }
}
