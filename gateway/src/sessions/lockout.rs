//! When a user name is locked: the rule, without I/O and without a clock.
//!
//! An attempt is counted before its password is looked at, so that parallel guesses cannot pass the limit. The attempt
//! that reaches the limit locks the name at once; if its password turns out to be right, that is forgiven. A success
//! forgets everything, also a lock that others' failures set while its hash ran: the count begins anew, as it would have
//! had the success come first.

use serde::{Deserialize, Serialize};

use super::UnixMillis;

/// The limits.
#[derive(Debug, Clone, Copy)]
pub struct LockoutPolicy {
    /// So many failures within the window lock the name.
    pub max_failures: u32,
    /// In milliseconds.
    pub window: UnixMillis,
    /// How long a lock lasts, in milliseconds.
    pub duration: UnixMillis,
}

/// Whether an attempt may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// It may, and it counts as failed until it is told otherwise.
    Reserved,
    /// The name is locked for so many more milliseconds.
    Locked {
        /// How long.
        retry_after: UnixMillis,
    },
}

/// The attempts on one name, as they are stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Attempts {
    failures: Vec<UnixMillis>,
    locked_until: Option<UnixMillis>,
}

impl Attempts {
    /// Counts an attempt that is about to be made.
    pub(super) fn reserve(&mut self, policy: LockoutPolicy, now: UnixMillis) -> Attempt {
        match self.locked_until {
            Some(until) if now < until => return Attempt::Locked { retry_after: until - now },
            // A lock that is over takes the failures behind it along.
            Some(_) => *self = Attempts::default(),
            None => {}
        }
        self.failures.retain(|&at| now.saturating_sub(at) < policy.window);
        self.failures.push(now);
        if self.failures.len() >= policy.max_failures as usize {
            self.locked_until = Some(now.saturating_add(policy.duration));
        }
        Attempt::Reserved
    }

    /// Takes back an attempt whose password was never looked at. It takes the lock back that it set.
    pub(super) fn withdraw(&mut self, policy: LockoutPolicy, reserved_at: UnixMillis) {
        if let Some(place) = self.failures.iter().rposition(|&at| at == reserved_at) {
            self.failures.remove(place);
        }
        if self.failures.len() < policy.max_failures as usize {
            self.locked_until = None;
        }
    }

    /// When nothing in it counts any more.
    pub(super) fn expires_at(&self, policy: LockoutPolicy) -> UnixMillis {
        let last = self.failures.last().map_or(0, |at| at.saturating_add(policy.window));
        last.max(self.locked_until.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: LockoutPolicy = LockoutPolicy { max_failures: 3, window: 100, duration: 50 };

    #[test]
    fn the_attempt_that_reaches_the_limit_locks_and_the_lock_ends() {
        let mut attempts = Attempts::default();
        for now in [0, 10, 20] {
            assert_eq!(attempts.reserve(POLICY, now), Attempt::Reserved);
        }
        assert_eq!(attempts.reserve(POLICY, 21), Attempt::Locked { retry_after: 49 });
        assert_eq!(attempts.reserve(POLICY, 69), Attempt::Locked { retry_after: 1 });
        assert_eq!(attempts.reserve(POLICY, 70), Attempt::Reserved);
        assert_eq!(attempts.reserve(POLICY, 71), Attempt::Reserved, "the count starts anew after a lock");
    }

    #[test]
    fn failures_older_than_the_window_do_not_count() {
        let mut attempts = Attempts::default();
        for now in [0, 10, 101, 111, 212, 222] {
            assert_eq!(attempts.reserve(POLICY, now), Attempt::Reserved, "{now}");
        }
    }

    #[test]
    fn an_attempt_that_was_withdrawn_neither_counts_nor_locks() {
        let mut attempts = Attempts::default();
        attempts.reserve(POLICY, 1);
        attempts.reserve(POLICY, 2);
        attempts.reserve(POLICY, 3);
        attempts.withdraw(POLICY, 3);
        assert_eq!(attempts.reserve(POLICY, 4), Attempt::Reserved);
        assert!(matches!(attempts.reserve(POLICY, 5), Attempt::Locked { .. }));
    }
}
