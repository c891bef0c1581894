//! Cache of verified tokens, so that a repeated token costs a lookup instead of a signature check.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use foldhash::fast::RandomState;

use crate::auth::identity::Identity;
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
    fn lookup(&self, now: UnixSeconds, leeway: u64, revocations: &Revocations) -> CacheLookup {
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
        leeway: u64,
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
