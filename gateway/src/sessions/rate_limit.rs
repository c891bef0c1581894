//! Rate limit of failures per network: a leaky bucket, without I/O and without a clock.
//!
//! A bucket accepts a burst of failures and drains steadily: the same number again per window. Its state is
//! one number, from which the time of the next attempt follows. An attempt acquires a permit before it is
//! judged, and counts only if it fails: parallel guesses cannot pass the limit, and users who share an
//! address do not use it up by logging in. A permit that was never settled expires after [`PERMIT_TTL`].

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::UnixMillis;
use super::session::MAX_CLOCK_SKEW;

/// Lifetime of a permit. A permit that was not settled by then expires, so its attempt must
/// not respond after [`MAX_CHECK_TIME`].
pub(super) const PERMIT_TTL: Duration = Duration::from_secs(10);

/// Maximum time of a password check, queueing included: less than [`PERMIT_TTL`] by the time for settling it
/// and the clock skew between instances.
pub(crate) const MAX_CHECK_TIME: Duration = Duration::from_secs(6);

/// Drops permits that were not settled in time, or were given by a clock that was ahead.
pub(super) fn forget_permits(permits: &mut Vec<UnixMillis>, now: UnixMillis) {
    permits.retain(|&at| now.since(at) < PERMIT_TTL && at < now.saturating_add(PERMIT_TTL));
}

/// Releases one of the permits that were given at that time, if it still exists.
pub(super) fn release_permit(permits: &mut Vec<UnixMillis>, permitted_at: UnixMillis) {
    if let Some(place) = permits.iter().position(|&at| at == permitted_at) {
        permits.swap_remove(place);
    }
}

/// The rate limit of one network.
#[derive(Debug, Clone, Copy)]
pub struct RateLimitPolicy {
    /// Size of a burst, and failures per window. At least one.
    pub max_failures: u32,
    /// Length of the window.
    pub window: Duration,
}

impl RateLimitPolicy {
    fn window_micros(self) -> u64 {
        u64::try_from(self.window.as_micros()).unwrap_or(u64::MAX)
    }

    /// How long one failure takes to drain, in microseconds.
    fn cost_micros(self) -> u64 {
        self.window_micros() / u64::from(self.max_failures.max(1))
    }
}

/// What is rate limited. Each scope has its own count, so that failed logins do not block refreshes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLimitScope {
    /// Wrong passwords.
    Login,
    /// Unknown refresh tokens.
    Refresh,
    /// Unknown personal access tokens.
    PersonalToken,
}

impl RateLimitScope {
    /// Its name in keys.
    pub(super) fn name(self) -> &'static str {
        match self {
            RateLimitScope::Login => "login",
            RateLimitScope::Refresh => "refresh",
            RateLimitScope::PersonalToken => "personal-token",
        }
    }
}

/// Whether an attempt may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLimitDecision {
    /// It may.
    Allowed,
    /// As many attempts are in flight as may fail. Some will be settled soon.
    Busy,
    /// The limit is reached.
    Limited {
        /// Time until the next attempt is allowed.
        retry_after: Duration,
    },
}

/// The network of one subscriber: an IPv4 address, or the /64 of an IPv6 address, within which a subscriber
/// can choose among 2^64 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SourceNetwork(IpAddr);

/// The NAT64 prefix, which maps all of IPv4 (RFC 6052 section 2.1) into one /64.
const NAT64: [u16; 6] = [0x64, 0xff9b, 0, 0, 0, 0];

impl SourceNetwork {
    /// The network of an address.
    pub fn of(address: IpAddr) -> SourceNetwork {
        let IpAddr::V6(v6) = address.to_canonical() else { return SourceNetwork(address.to_canonical()) };
        let segments = v6.segments();
        if segments[..6] == NAT64 {
            let [.., a, b, c, d] = v6.octets();
            return SourceNetwork(Ipv4Addr::new(a, b, c, d).into());
        }
        let [a, b, c, d, ..] = segments;
        SourceNetwork(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
    }
}

impl fmt::Display for SourceNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}"),
            IpAddr::V6(network) => write!(f, "{network}/64"),
        }
    }
}

/// The bucket of a network, as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bucket {
    /// When the bucket will be empty, in microseconds since 1970.
    empty_at_micros: u64,
    /// Times of the unsettled permits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    permits: Vec<UnixMillis>,
}

impl Bucket {
    /// Drops the permits of a process that has ended.
    pub(super) fn forget_permits_before(&mut self, start: UnixMillis) {
        self.permits.retain(|&at| at >= start);
    }

    /// Drops expired permits, and resets an impossible level: it was written by a clock that was ahead, and
    /// must not block anyone.
    fn refresh(&mut self, policy: RateLimitPolicy, now: UnixMillis) {
        forget_permits(&mut self.permits, now);
        let highest = now.saturating_add(policy.window).saturating_add(MAX_CLOCK_SKEW);
        if self.empty_at_micros / 1000 > highest.get() {
            self.empty_at_micros = 0;
        }
    }

    /// Acquires a permit for an attempt.
    pub(super) fn acquire(&mut self, policy: RateLimitPolicy, now: UnixMillis) -> RateLimitDecision {
        self.refresh(policy, now);
        if let Err(retry_after) = self.room(policy, now, 1) {
            return RateLimitDecision::Limited { retry_after };
        }
        if self.room(policy, now, 1 + self.permits.len() as u64).is_err() {
            return RateLimitDecision::Busy;
        }
        self.permits.push(now);
        RateLimitDecision::Allowed
    }

    /// Settles a permit; a failure is counted.
    pub(super) fn settle(
        &mut self,
        policy: RateLimitPolicy,
        permitted_at: UnixMillis,
        failed: bool,
        now: UnixMillis,
    ) {
        self.refresh(policy, now);
        release_permit(&mut self.permits, permitted_at);
        if failed {
            self.count(policy, now);
        }
    }

    /// Counts an attempt that is known to have failed, or reports that the limit is reached.
    pub(super) fn count(&mut self, policy: RateLimitPolicy, now: UnixMillis) -> RateLimitDecision {
        self.refresh(policy, now);
        match self.room(policy, now, 1) {
            Ok(filled) => {
                self.empty_at_micros = filled;
                RateLimitDecision::Allowed
            }
            Err(retry_after) => RateLimitDecision::Limited { retry_after },
        }
    }

    /// The level after this many more, or the time until they fit.
    fn room(&self, policy: RateLimitPolicy, now: UnixMillis, more: u64) -> Result<u64, Duration> {
        let now = now.get().saturating_mul(1000);
        let full = now.saturating_add(policy.window_micros());
        // Never more than full: instances' clocks may differ.
        let level = self.empty_at_micros.clamp(now, full);
        let filled = level.saturating_add(policy.cost_micros().saturating_mul(more));
        if filled > full { Err(Duration::from_millis((filled - full).div_ceil(1000))) } else { Ok(filled) }
    }

    /// When the whole record has expired.
    pub(super) fn expires_at(&self) -> UnixMillis {
        let permitted = self.permits.iter().max().map(|at| at.saturating_add(PERMIT_TTL));
        UnixMillis::new(self.empty_at_micros.div_ceil(1000)).max(permitted.unwrap_or_default())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::millis;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn after(time: Duration) -> UnixMillis {
        START.saturating_add(time)
    }

    const POLICY: RateLimitPolicy = RateLimitPolicy { max_failures: 4, window: ms(1000) };
    const START: UnixMillis = UnixMillis::new(1_790_000_000_000);

    #[test]
    fn a_burst_passes_then_one_after_the_other_as_the_bucket_drains() {
        let mut bucket = Bucket::default();
        for _ in 0..4 {
            assert_eq!(bucket.count(POLICY, START), RateLimitDecision::Allowed);
        }
        assert_eq!(bucket.count(POLICY, START), RateLimitDecision::Limited { retry_after: ms(250) });
        assert_eq!(bucket.count(POLICY, after(ms(249))), RateLimitDecision::Limited { retry_after: ms(1) });
        assert_eq!(bucket.count(POLICY, after(ms(250))), RateLimitDecision::Allowed);
        assert_eq!(bucket.count(POLICY, after(ms(251))), RateLimitDecision::Limited { retry_after: ms(249) });
        assert_eq!(bucket.expires_at(), after(ms(1250)));
    }

    #[test]
    fn attempts_under_way_use_nothing_up_and_with_the_failures_never_more_than_the_limit() {
        let mut bucket = Bucket::default();
        for _ in 0..100 {
            assert_eq!(bucket.acquire(POLICY, START), RateLimitDecision::Allowed);
            bucket.settle(POLICY, START, false, START);
        }
        assert_eq!(bucket.acquire(POLICY, START), RateLimitDecision::Allowed);
        bucket.settle(POLICY, START, true, START);
        for _ in 0..3 {
            assert_eq!(bucket.acquire(POLICY, START), RateLimitDecision::Allowed);
        }
        assert_eq!(bucket.acquire(POLICY, START), RateLimitDecision::Busy);
        for _ in 0..3 {
            bucket.settle(POLICY, START, true, START);
        }
        assert_eq!(bucket.acquire(POLICY, START), RateLimitDecision::Limited { retry_after: ms(250) });
    }

    #[test]
    fn permits_that_were_never_settled_are_forgotten() {
        let mut bucket = Bucket::default();
        (0..4).for_each(|_| assert_eq!(bucket.acquire(POLICY, START), RateLimitDecision::Allowed));
        assert_eq!(bucket.expires_at(), after(PERMIT_TTL));
        assert_eq!(bucket.acquire(POLICY, after(PERMIT_TTL - ms(1))), RateLimitDecision::Busy);
        assert_eq!(bucket.acquire(POLICY, after(PERMIT_TTL)), RateLimitDecision::Allowed);
    }

    #[test]
    fn a_clock_that_was_set_back_blocks_no_one() {
        let mut bucket = Bucket::default();
        for _ in 0..4 {
            assert_eq!(bucket.count(POLICY, after(ms(86_400_000))), RateLimitDecision::Allowed);
        }
        assert_eq!(bucket.count(POLICY, START), RateLimitDecision::Allowed);
        assert_eq!(bucket.expires_at(), after(ms(250)));
        let mut bucket = Bucket::default();
        for _ in 0..4 {
            assert_eq!(bucket.count(POLICY, after(ms(500))), RateLimitDecision::Allowed);
        }
        assert_eq!(
            bucket.count(POLICY, START),
            RateLimitDecision::Limited { retry_after: ms(250) },
            "by a little"
        );
    }

    #[test]
    fn a_network_is_an_ipv4_address_or_an_ipv6_subnet() {
        for (address, network) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("64:ff9b::192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:2::", "2001:db8:1:2::/64"),
            ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
            ("::1", "::/64"),
        ] {
            assert_eq!(SourceNetwork::of(address.parse().unwrap()).to_string(), network, "{address}");
        }
    }

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_what_has_drained_since(
            max_failures in 1..50_u32,
            window in 1000..100_000_u64,
            waits in proptest::collection::vec(0..5_000_u64, 1..300),
        ) {
            let policy = RateLimitPolicy { max_failures, window: ms(window) };
            let (mut bucket, mut now, mut passed) = (Bucket::default(), START, 0_u64);
            for wait in waits {
                now = now.saturating_add(ms(wait));
                match bucket.count(policy, now) {
                    RateLimitDecision::Allowed => passed += 1,
                    RateLimitDecision::Busy => unreachable!("nothing is under way"),
                    RateLimitDecision::Limited { retry_after } => {
                        prop_assert!(!retry_after.is_zero());
                        let mut later = bucket.clone();
                        prop_assert_eq!(later.count(policy, now.saturating_add(retry_after)), RateLimitDecision::Allowed);
                        prop_assert_ne!(later.count(policy, now.saturating_add(retry_after)), RateLimitDecision::Allowed);
                    }
                }
                let drained = millis(now.since(START)) * 1000 / policy.cost_micros();
                prop_assert!(passed <= u64::from(max_failures) + 1 + drained);
            }
        }
    }
}
