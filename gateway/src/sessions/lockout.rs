//! When a user name is locked: the rule, without I/O and without a clock.
//!
//! An attempt is counted before its password is looked at, so that parallel guesses cannot pass the limit. The attempt
//! that reaches the limit locks the name at once; if its password turns out to be right, that is forgiven. A success
//! forgets everything, also a lock that others' failures set while its hash ran: the count begins anew, as it would have
//! had the success come first.
//!
//! Where locks escalate, each lasts a multiple of the one before, until a success or a long quiet time. They always end
//! by themselves: nobody can shut a user out for good.

use serde::{Deserialize, Serialize};

use super::UnixMillis;

/// The limits.
#[derive(Debug, Clone, Copy)]
pub struct LockoutPolicy {
    /// So many failures within the window lock the name.
    pub max_failures: u32,
    /// In milliseconds.
    pub window: UnixMillis,
    /// How long a first lock lasts, in milliseconds.
    pub duration: UnixMillis,
    /// Each further lock lasts so many times as long as the one before; 1 makes all alike.
    pub escalation: u32,
    /// No lock lasts longer, in milliseconds; a name that was not locked for as long starts over.
    pub max_duration: UnixMillis,
}

impl LockoutPolicy {
    /// How long a lock lasts that follows so many others.
    fn lock_after(self, locks: u32) -> UnixMillis {
        let factor = UnixMillis::from(self.escalation).saturating_pow(locks);
        self.duration.saturating_mul(factor).min(self.max_duration.max(self.duration))
    }
}

/// Whether an attempt may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginAttempt {
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
pub(super) struct LoginAttempts {
    failures: Vec<UnixMillis>,
    locked_until: Option<UnixMillis>,
    /// Locks in a row, where they escalate.
    #[serde(default, skip_serializing_if = "is_zero")]
    locks: u32,
    /// When the row is forgotten.
    #[serde(default, skip_serializing_if = "is_zero")]
    locks_forgotten_at: UnixMillis,
}

fn is_zero<T: PartialEq + Default>(number: &T) -> bool {
    *number == T::default()
}

impl LoginAttempts {
    /// Counts an attempt that is about to be made.
    pub(super) fn reserve(&mut self, policy: LockoutPolicy, now: UnixMillis) -> LoginAttempt {
        if let Some(retry_after) = self.locked_for(now) {
            return LoginAttempt::Locked { retry_after };
        }
        // A lock that is over takes the failures behind it along.
        if self.locked_until.take().is_some() {
            self.failures.clear();
        }
        if now >= self.locks_forgotten_at {
            (self.locks, self.locks_forgotten_at) = (0, 0);
        }
        self.failures.retain(|&at| now.saturating_sub(at) < policy.window);
        self.failures.push(now);
        if self.failures.len() >= policy.max_failures as usize {
            let until = now.saturating_add(policy.lock_after(self.locks));
            self.locked_until = Some(until);
            if policy.escalation > 1 {
                self.locks = self.locks.saturating_add(1);
                self.locks_forgotten_at = until.saturating_add(policy.max_duration);
            }
        }
        LoginAttempt::Reserved
    }

    /// Takes back an attempt whose password was never looked at. It takes the lock back that it set.
    pub(super) fn refund(&mut self, policy: LockoutPolicy, reserved_at: UnixMillis) {
        if let Some(place) = self.failures.iter().rposition(|&at| at == reserved_at) {
            self.failures.remove(place);
        }
        if self.failures.len() < policy.max_failures as usize && self.locked_until.take().is_some() {
            self.locks = self.locks.saturating_sub(1);
        }
    }

    /// For how many milliseconds the name is still locked, if it is.
    pub(super) fn locked_for(&self, now: UnixMillis) -> Option<UnixMillis> {
        self.locked_until.and_then(|until| until.checked_sub(now)).filter(|left| *left > 0)
    }

    /// When nothing in it counts any more.
    pub(super) fn expires_at(&self, policy: LockoutPolicy) -> UnixMillis {
        let last = self.failures.last().map_or(0, |at| at.saturating_add(policy.window));
        last.max(self.locked_until.unwrap_or(0)).max(self.locks_forgotten_at)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const POLICY: LockoutPolicy =
        LockoutPolicy { max_failures: 3, window: 100, duration: 50, escalation: 1, max_duration: 1000 };

    /// Fails until the name is locked, from `now` on, and gives how long the lock lasts.
    fn lock(attempts: &mut LoginAttempts, policy: LockoutPolicy, now: UnixMillis) -> UnixMillis {
        for _ in 0..policy.max_failures {
            assert_eq!(attempts.reserve(policy, now), LoginAttempt::Reserved);
        }
        match attempts.reserve(policy, now) {
            LoginAttempt::Locked { retry_after } => retry_after,
            LoginAttempt::Reserved => panic!("not locked"),
        }
    }

    #[test]
    fn the_attempt_that_reaches_the_limit_locks_and_the_lock_ends() {
        let mut attempts = LoginAttempts::default();
        for now in [0, 10, 20] {
            assert_eq!(attempts.reserve(POLICY, now), LoginAttempt::Reserved);
        }
        assert_eq!(attempts.reserve(POLICY, 21), LoginAttempt::Locked { retry_after: 49 });
        assert_eq!(attempts.reserve(POLICY, 69), LoginAttempt::Locked { retry_after: 1 });
        assert_eq!(attempts.reserve(POLICY, 70), LoginAttempt::Reserved);
        assert_eq!(
            attempts.reserve(POLICY, 71),
            LoginAttempt::Reserved,
            "the count starts anew after a lock"
        );
    }

    #[test]
    fn failures_older_than_the_window_do_not_count() {
        let mut attempts = LoginAttempts::default();
        for now in [0, 10, 101, 111, 212, 222] {
            assert_eq!(attempts.reserve(POLICY, now), LoginAttempt::Reserved, "{now}");
        }
    }

    #[test]
    fn an_attempt_that_was_withdrawn_neither_counts_nor_locks() {
        let mut attempts = LoginAttempts::default();
        attempts.reserve(POLICY, 1);
        attempts.reserve(POLICY, 2);
        attempts.reserve(POLICY, 3);
        attempts.refund(POLICY, 3);
        assert_eq!(attempts.reserve(POLICY, 4), LoginAttempt::Reserved);
        assert!(matches!(attempts.reserve(POLICY, 5), LoginAttempt::Locked { .. }));
    }
    #[test]
    fn locks_escalate_up_to_their_maximum_and_start_over_after_a_quiet_time_or_a_success() {
        let policy = LockoutPolicy { escalation: 4, ..POLICY };
        let mut attempts = LoginAttempts::default();
        let mut now = 0;
        for duration in [50, 200, 800, 1000, 1000] {
            assert_eq!(lock(&mut attempts, policy, now), duration);
            now += duration;
        }
        assert_eq!(
            attempts.expires_at(policy),
            now + 1000,
            "the row of locks is remembered as long as it counts"
        );
        assert_eq!(lock(&mut attempts.clone(), policy, now + 999), 1000);
        assert_eq!(lock(&mut attempts, policy, now + 1000), 50);
        attempts = LoginAttempts::default();
        assert_eq!(lock(&mut attempts, policy, now), 50);
    }

    #[test]
    fn without_escalation_all_locks_are_alike_and_a_record_of_an_earlier_version_is_read() {
        let mut attempts: LoginAttempts =
            serde_json::from_str(r#"{"failures":[1],"locked_until":null}"#).unwrap();
        attempts.failures.clear();
        for now in [0, 50, 100] {
            assert_eq!(lock(&mut attempts, POLICY, now), 50);
        }
        assert_eq!((attempts.locked_for(149), attempts.locked_for(150)), (Some(1), None));
    }

    #[test]
    fn a_lock_that_was_withdrawn_does_not_escalate_the_next() {
        let policy = LockoutPolicy { escalation: 4, ..POLICY };
        let mut attempts = LoginAttempts::default();
        for now in 1..=3 {
            attempts.reserve(policy, now);
        }
        attempts.refund(policy, 3);
        assert_eq!(attempts.reserve(policy, 4), LoginAttempt::Reserved);
        assert_eq!(attempts.reserve(policy, 4), LoginAttempt::Locked { retry_after: 50 });
    }
}
