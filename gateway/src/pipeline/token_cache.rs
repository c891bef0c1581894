//! Tokens that were verified before, so that a warm token costs a look-up instead of a signature check.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use foldhash::fast::RandomState;

use super::identity::Identity;
use crate::sessions::Revocations;
use crate::tokens::UnixSeconds;

/// One worker's memory of verified tokens: bounded, keyed by the whole token, with two generations. When the young
/// one is full, it becomes the old one and what was in that is forgotten, unless it was used meanwhile.
#[derive(Debug)]
pub(crate) struct TokenCache {
    young: HashMap<Box<str>, Remembered, RandomState>,
    old: HashMap<Box<str>, Remembered, RandomState>,
    generation: usize,
}

#[derive(Debug)]
struct Remembered {
    identity: Rc<Identity>,
    /// The state of the revocations when this session was last seen not to be among them.
    epoch: Cell<u64>,
}

/// What the cache knows of a token.
#[derive(Debug)]
pub(crate) enum Known {
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

    /// How many tokens are remembered.
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Looks a token up. Expiry and revocation are checked each time; the look at the revoked sessions is spared
    /// while none was added.
    pub(crate) fn get(
        &mut self,
        token: &str,
        now: UnixSeconds,
        leeway: u64,
        revocations: &Revocations,
    ) -> Known {
        if !self.young.contains_key(token) {
            let Some((token, remembered)) = self.old.remove_entry(token) else { return Known::Unknown };
            self.store(token, remembered);
        }
        let Some(remembered) = self.young.get(token) else { return Known::Unknown };
        if now >= remembered.identity.claims().expires_at().saturating_add(leeway) {
            return Known::Expired;
        }
        let epoch = revocations.epoch();
        if remembered.epoch.get() != epoch {
            if revocations.is_revoked(remembered.identity.session()) {
                return Known::Revoked;
            }
            remembered.epoch.set(epoch);
        }
        Known::Good(Rc::clone(&remembered.identity))
    }

    /// Remembers a token that was verified; `epoch` was read before its session was looked up.
    pub(crate) fn insert(&mut self, token: &str, identity: Rc<Identity>, epoch: u64) {
        self.store(token.into(), Remembered { identity, epoch: Cell::new(epoch) });
    }

    fn store(&mut self, token: Box<str>, remembered: Remembered) {
        if self.young.len() >= self.generation {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(token, remembered);
    }
}
