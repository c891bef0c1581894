//! How many failures one network may send: the rule, without I/O and without a clock.
//!
//! A bucket takes a number of failures at once and drains steadily: that many again over each window. It is one number
//! however much is in it, and it knows when the next attempt fits. An attempt is counted before it is judged and taken
//! back when it turns out to be good, so that parallel guesses cannot pass the limit and people who share an address
//! do not use it up by coming to work.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::UnixMillis;

/// The limit for one network.
#[derive(Debug, Clone, Copy)]
pub struct RateLimitPolicy {
    /// So many failures at once, and so many again over each window. At least one.
    pub max_failures: u32,
    /// In milliseconds.
    pub window: UnixMillis,
}

impl RateLimitPolicy {
    fn window_micros(self) -> u64 {
        self.window.saturating_mul(1000)
    }

    /// How long one failure takes to drain, in microseconds.
    fn cost_micros(self) -> u64 {
        self.window_micros() / u64::from(self.max_failures.max(1))
    }
}

/// What a network is limited in. Each has a count of its own, so that failed logins do not keep anybody from refreshing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLimitScope {
    /// Passwords that are not right.
    Login,
    /// Refresh tokens that are none of ours.
    Refresh,
}

impl RateLimitScope {
    /// Its name in keys.
    pub(super) fn name(self) -> &'static str {
        match self {
            RateLimitScope::Login => "login",
            RateLimitScope::Refresh => "refresh",
        }
    }
}

/// Whether an attempt may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLimitDecision {
    /// It may, and counts as failed until it is taken back.
    Allowed,
    /// The next one fits in so many milliseconds.
    Limited {
        /// How long.
        retry_after: UnixMillis,
    },
}

/// What one subscriber usually has to himself: an IPv4 address, or the /64 of an IPv6 address, in which everybody can
/// choose among 2^64 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SourceNetwork(IpAddr);

/// The prefix behind which NAT64 shows all of IPv4 (RFC 6052 section 2.1): one /64 for everybody.
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

/// What a network has used up, as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bucket {
    /// When the last drop will have drained, in microseconds since 1970.
    empty_at_micros: u64,
}

impl Bucket {
    /// Counts an attempt that is about to be made.
    pub(super) fn acquire(&mut self, policy: RateLimitPolicy, now: UnixMillis) -> RateLimitDecision {
        let now = now.saturating_mul(1000);
        let full = now.saturating_add(policy.window_micros());
        // Never more than full: a clock that was set back shuts nobody out for longer than a window.
        let filled = self.empty_at_micros.clamp(now, full).saturating_add(policy.cost_micros());
        if filled > full {
            return RateLimitDecision::Limited { retry_after: (filled - full).div_ceil(1000) };
        }
        self.empty_at_micros = filled;
        RateLimitDecision::Allowed
    }

    /// Takes an attempt back.
    pub(super) fn refund(&mut self, policy: RateLimitPolicy) {
        self.empty_at_micros = self.empty_at_micros.saturating_sub(policy.cost_micros());
    }

    /// When nothing in it counts any more.
    pub(super) fn expires_at(&self) -> UnixMillis {
        self.empty_at_micros.div_ceil(1000)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: RateLimitPolicy = RateLimitPolicy { max_failures: 4, window: 1000 };
    const START: UnixMillis = 1_790_000_000_000;

    #[test]
    fn a_burst_passes_then_one_after_the_other_as_the_bucket_drains() {
        let mut bucket = Bucket::default();
        for _ in 0..4 {
            assert_eq!(bucket.acquire(POLICY, START), RateLimitDecision::Allowed);
        }
        assert_eq!(bucket.acquire(POLICY, START), RateLimitDecision::Limited { retry_after: 250 });
        assert_eq!(bucket.acquire(POLICY, START + 249), RateLimitDecision::Limited { retry_after: 1 });
        assert_eq!(bucket.acquire(POLICY, START + 250), RateLimitDecision::Allowed);
        assert_eq!(bucket.acquire(POLICY, START + 251), RateLimitDecision::Limited { retry_after: 249 });
        assert_eq!(bucket.expires_at(), START + 1250);
    }

    #[test]
    fn good_attempts_that_are_taken_back_use_nothing_up() {
        let mut bucket = Bucket::default();
        for _ in 0..100 {
            assert_eq!(bucket.acquire(POLICY, START), RateLimitDecision::Allowed);
            bucket.refund(POLICY);
        }
        // And they do not give back what others have used up.
        for _ in 0..3 {
            bucket.acquire(POLICY, START);
        }
        assert_eq!(bucket.acquire(POLICY, START), RateLimitDecision::Allowed);
        bucket.refund(POLICY);
        assert_eq!(bucket.acquire(POLICY, START), RateLimitDecision::Allowed);
        assert!(matches!(bucket.acquire(POLICY, START), RateLimitDecision::Limited { .. }));
    }

    #[test]
    fn a_clock_that_was_set_back_shuts_nobody_out_for_longer_than_a_window() {
        let mut bucket = Bucket::default();
        bucket.acquire(POLICY, START + 86_400_000);
        assert_eq!(bucket.acquire(POLICY, START), RateLimitDecision::Limited { retry_after: 250 });
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
            let policy = RateLimitPolicy { max_failures, window };
            let (mut bucket, mut now, mut passed) = (Bucket::default(), START, 0_u64);
            for wait in waits {
                now += wait;
                match bucket.acquire(policy, now) {
                    RateLimitDecision::Allowed => passed += 1,
                    RateLimitDecision::Limited { retry_after } => {
                        prop_assert!(retry_after >= 1);
                        let mut later = bucket.clone();
                        prop_assert_eq!(later.acquire(policy, now + retry_after), RateLimitDecision::Allowed);
                        prop_assert_ne!(later.acquire(policy, now), RateLimitDecision::Allowed);
                    }
                }
                let drained = (now - START) * 1000 / policy.cost_micros();
                prop_assert!(passed <= u64::from(max_failures) + 1 + drained);
            }
        }
    }
}
