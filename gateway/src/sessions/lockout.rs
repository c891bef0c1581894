//! Account lockout: the rule that locks a user name after failed logins, without I/O and without a clock.
//!
//! An attempt acquires a permit before its password is checked and settles it afterwards. Failures and
//! permits together never exceed the limit, so parallel guesses cannot pass it; but a permit is not a
//! failure: an attempt that finds all permits taken waits instead of being locked out. A permit that was
//! never settled, because a client or a store went away, expires after [`PERMIT_TTL`]. A success clears all
//! failures and locks: the count starts over, as it would have had the success come first.
//!
//! With escalation, each lock is longer than the one before, until a success or a long quiet time. Locks
//! always end by themselves, so no one can lock a user out for good.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::UnixMillis;
use super::rate_limit::{PERMIT_TTL, forget_permits, release_permit};
use super::session::MAX_CLOCK_SKEW;
use crate::clock::millis;

/// The limits of lockout.
#[derive(Debug, Clone, Copy)]
pub struct LockoutPolicy {
    /// Failures within the window that lock the name.
    pub max_failures: u32,
    /// Length of the window.
    pub window: Duration,
    /// Duration of a first lock.
    pub duration: Duration,
    /// Factor by which each further lock is longer than the one before; 1 makes all equal.
    pub escalation: u32,
    /// Maximum duration of a lock; after as long without a lock escalation starts over.
    pub max_duration: Duration,
}

impl LockoutPolicy {
    /// The duration of a lock that follows this many others.
    fn lock_after(self, locks: u32) -> Duration {
        let factor = u64::from(self.escalation).saturating_pow(locks);
        Duration::from_millis(millis(self.duration).saturating_mul(factor))
            .min(self.max_duration.max(self.duration))
    }
}

/// Whether an attempt may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoginAttempt {
    /// It may; its permit has to be settled.
    Permitted,
    /// As many attempts are in flight as may fail without a lock. Some will be settled soon.
    Busy,
    /// The name is locked.
    Locked {
        /// Remaining time.
        retry_after: Duration,
    },
}

/// The result of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginResult {
    /// The password was right.
    Succeeded,
    /// It was wrong.
    Failed,
    /// It was not checked.
    Unknown,
}

/// The attempts on one name, as they are stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LoginAttempts {
    failures: Vec<UnixMillis>,
    /// Times of the unsettled permits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    permits: Vec<UnixMillis>,
    locked_until: Option<UnixMillis>,
    /// Consecutive locks, where they escalate.
    #[serde(default, skip_serializing_if = "is_zero")]
    locks: u32,
    /// When the consecutive locks expire.
    #[serde(default, skip_serializing_if = "is_zero")]
    locks_forgotten_at: UnixMillis,
}

fn is_zero<T: PartialEq + Default>(number: &T) -> bool {
    *number == T::default()
}

impl LoginAttempts {
    /// Acquires a permit for an attempt.
    pub(super) fn acquire(&mut self, policy: LockoutPolicy, now: UnixMillis) -> LoginAttempt {
        self.refresh(policy, now);
        if let Some(retry_after) = self.locked_for(now) {
            return LoginAttempt::Locked { retry_after };
        }
        if self.failures.len() + self.permits.len() >= policy.max_failures as usize {
            return LoginAttempt::Busy;
        }
        self.permits.push(now);
        LoginAttempt::Permitted
    }

    /// Settles a permit. The failure that reaches the limit locks the name.
    pub(super) fn settle(
        &mut self,
        policy: LockoutPolicy,
        permitted_at: UnixMillis,
        result: LoginResult,
        now: UnixMillis,
    ) {
        self.refresh(policy, now);
        release_permit(&mut self.permits, permitted_at);
        match result {
            LoginResult::Unknown => {}
            LoginResult::Succeeded => {
                let permits = std::mem::take(&mut self.permits);
                *self = LoginAttempts { permits, ..LoginAttempts::default() };
            }
            LoginResult::Failed => {
                self.failures.push(now);
                if self.failures.len() >= policy.max_failures as usize && self.locked_until.is_none() {
                    self.lock(policy, now);
                }
            }
        }
    }

    fn lock(&mut self, policy: LockoutPolicy, now: UnixMillis) {
        let until = now.saturating_add(policy.lock_after(self.locks));
        self.locked_until = Some(until);
        if policy.escalation > 1 {
            self.locks = self.locks.saturating_add(1);
            self.locks_forgotten_at = until.saturating_add(policy.max_duration);
        }
    }

    /// Drops the permits of a process that has ended.
    pub(super) fn forget_permits_before(&mut self, start: UnixMillis) {
        self.permits.retain(|&at| at >= start);
    }

    /// Drops expired state, and caps times that were written by a wrong clock.
    pub(super) fn refresh(&mut self, policy: LockoutPolicy, now: UnixMillis) {
        let longest = policy.lock_after(self.locks.saturating_sub(1));
        if self.locked_until.is_some_and(|until| until > now.saturating_add(longest + MAX_CLOCK_SKEW)) {
            self.locked_until = Some(now.saturating_add(longest));
        }
        let row_end = now.saturating_add(longest).saturating_add(policy.max_duration);
        self.locks_forgotten_at = self.locks_forgotten_at.min(row_end.saturating_add(MAX_CLOCK_SKEW));
        // A lock that has ended clears the failures that led to it.
        if self.locked_until.is_some_and(|until| until <= now) {
            self.locked_until = None;
            self.failures.clear();
        }
        if now >= self.locks_forgotten_at {
            (self.locks, self.locks_forgotten_at) = (0, UnixMillis::default());
        }
        for at in &mut self.failures {
            if *at > now.saturating_add(MAX_CLOCK_SKEW) {
                *at = now;
            }
        }
        self.failures.retain(|&at| now.since(at) < policy.window);
        forget_permits(&mut self.permits, now);
    }

    /// The remaining lock, if the name is locked.
    pub(super) fn locked_for(&self, now: UnixMillis) -> Option<Duration> {
        self.locked_until.map(|until| until.since(now)).filter(|left| !left.is_zero())
    }

    /// When the whole record has expired.
    pub(super) fn expires_at(&self, policy: LockoutPolicy) -> UnixMillis {
        let failed = self.failures.iter().max().map(|at| at.saturating_add(policy.window));
        let permitted = self.permits.iter().max().map(|at| at.saturating_add(PERMIT_TTL));
        failed.max(permitted).max(self.locked_until).unwrap_or_default().max(self.locks_forgotten_at)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> UnixMillis {
        UnixMillis::new(millis)
    }

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    const POLICY: LockoutPolicy = LockoutPolicy {
        max_failures: 3,
        window: ms(100),
        duration: ms(50),
        escalation: 1,
        max_duration: ms(1000),
    };

    fn fail(attempts: &mut LoginAttempts, policy: LockoutPolicy, now: UnixMillis) {
        assert_eq!(attempts.acquire(policy, now), LoginAttempt::Permitted, "{now:?}");
        attempts.settle(policy, now, LoginResult::Failed, now);
    }

    /// Fails until the name is locked, from `now` on, and returns the lock's duration.
    fn lock(attempts: &mut LoginAttempts, policy: LockoutPolicy, now: UnixMillis) -> Duration {
        (0..policy.max_failures).for_each(|_| fail(attempts, policy, now));
        match attempts.acquire(policy, now) {
            LoginAttempt::Locked { retry_after } => retry_after,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_failure_that_reaches_the_limit_locks_and_the_lock_ends() {
        let mut attempts = LoginAttempts::default();
        [0, 10, 20].into_iter().for_each(|now| fail(&mut attempts, POLICY, at(now)));
        assert_eq!(attempts.acquire(POLICY, at(21)), LoginAttempt::Locked { retry_after: ms(49) });
        assert_eq!(attempts.acquire(POLICY, at(69)), LoginAttempt::Locked { retry_after: ms(1) });
        assert_eq!(attempts.acquire(POLICY, at(70)), LoginAttempt::Permitted);
        assert_eq!(
            attempts.acquire(POLICY, at(71)),
            LoginAttempt::Permitted,
            "the count starts anew after a lock"
        );
    }

    #[test]
    fn attempts_under_way_are_no_failures_and_with_the_failures_never_more_than_the_limit() {
        let mut attempts = LoginAttempts::default();
        fail(&mut attempts, POLICY, at(0));
        assert_eq!(attempts.acquire(POLICY, at(1)), LoginAttempt::Permitted);
        assert_eq!(attempts.acquire(POLICY, at(2)), LoginAttempt::Permitted);
        assert_eq!(attempts.acquire(POLICY, at(3)), LoginAttempt::Busy);
        attempts.settle(POLICY, at(1), LoginResult::Unknown, at(4));
        assert_eq!(attempts.acquire(POLICY, at(5)), LoginAttempt::Permitted);
        attempts.settle(POLICY, at(2), LoginResult::Succeeded, at(6));
        assert_eq!(
            attempts.acquire(POLICY, at(7)),
            LoginAttempt::Permitted,
            "a success forgets the failures"
        );
        assert_eq!(attempts.acquire(POLICY, at(8)), LoginAttempt::Permitted);
        assert_eq!(attempts.acquire(POLICY, at(9)), LoginAttempt::Busy, "but not what is under way");
    }

    #[test]
    fn permits_that_were_never_settled_are_forgotten_and_a_late_failure_counts_all_the_same() {
        let policy = LockoutPolicy { window: ms(1_000_000), duration: ms(1_000_000), ..POLICY };
        let mut attempts = LoginAttempts::default();
        for now in 1..=3 {
            assert_eq!(attempts.acquire(policy, at(now)), LoginAttempt::Permitted);
        }
        assert_eq!(attempts.acquire(policy, at(0).saturating_add(PERMIT_TTL)), LoginAttempt::Busy);
        assert_eq!(attempts.expires_at(policy), at(3).saturating_add(PERMIT_TTL));
        assert_eq!(attempts.acquire(policy, at(3).saturating_add(PERMIT_TTL)), LoginAttempt::Permitted);
        for late in 1..=3 {
            attempts.settle(policy, at(late), LoginResult::Failed, at(4).saturating_add(PERMIT_TTL));
        }
        assert!(attempts.locked_for(at(5).saturating_add(PERMIT_TTL)).is_some());
    }

    #[test]
    fn failures_older_than_the_window_do_not_count() {
        let mut attempts = LoginAttempts::default();
        [0, 10, 101, 111, 212, 222].into_iter().for_each(|now| fail(&mut attempts, POLICY, at(now)));
    }

    #[test]
    fn a_lock_of_a_clock_that_was_ahead_lasts_no_longer_than_locks_do() {
        const DAY: u64 = 86_400_000;
        let mut attempts = LoginAttempts::default();
        assert_eq!(lock(&mut attempts, POLICY, at(1_000 + DAY)), ms(50));
        assert_eq!(attempts.acquire(POLICY, at(1_000)), LoginAttempt::Locked { retry_after: ms(50) });
        assert_eq!(attempts.acquire(POLICY, at(1_050)), LoginAttempt::Permitted);
        let policy = LockoutPolicy { escalation: 4, ..POLICY };
        for (locks, duration) in [(0, 50), (1, 200)] {
            let mut attempts = LoginAttempts { locks, ..LoginAttempts::default() };
            attempts.locks_forgotten_at = at(2 * DAY);
            assert_eq!(lock(&mut attempts, policy, at(1_000 + DAY)), ms(duration));
            assert_eq!(
                attempts.acquire(policy, at(1_000)),
                LoginAttempt::Locked { retry_after: ms(duration) }
            );
        }
    }

    #[test]
    fn locks_escalate_up_to_their_maximum_and_start_over_after_a_quiet_time_or_a_success() {
        let policy = LockoutPolicy { escalation: 4, ..POLICY };
        let mut attempts = LoginAttempts::default();
        let mut now = 0;
        for duration in [50, 200, 800, 1000, 1000] {
            assert_eq!(lock(&mut attempts, policy, at(now)), ms(duration));
            now += duration;
        }
        assert_eq!(
            attempts.expires_at(policy),
            at(now + 1000),
            "the row of locks is remembered as long as it counts"
        );
        assert_eq!(lock(&mut attempts.clone(), policy, at(now + 999)), ms(1000));
        assert_eq!(lock(&mut attempts, policy, at(now + 1000)), ms(50));
        attempts.settle(policy, at(0), LoginResult::Succeeded, at(now + 1000));
        assert_eq!(lock(&mut attempts, policy, at(now + 1000)), ms(50));
    }

    #[test]
    fn without_escalation_all_locks_are_alike_and_a_record_of_an_earlier_version_is_read() {
        let mut attempts: LoginAttempts =
            serde_json::from_str(r#"{"failures":[1],"locked_until":null}"#).unwrap();
        attempts.failures.clear();
        for now in [0, 50, 100] {
            assert_eq!(lock(&mut attempts, POLICY, at(now)), ms(50));
        }
        assert_eq!((attempts.locked_for(at(149)), attempts.locked_for(at(150))), (Some(ms(1)), None));
    }
}
