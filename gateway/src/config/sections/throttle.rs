//! `[throttle]`: rate limit of failures per network.

use super::prelude::*;

section! {
    /// Rate limit of failures per network (an IPv4 address, or the /64 of an IPv6 address): wrong passwords,
    /// and separately unknown refresh tokens. Behind a proxy all clients share its address unless
    /// server.trusted_proxies names it.
    pub struct Throttle {
        /// Failures in a burst, and per window. More is 429. 0: no limit.
        max_failures: u32 = integer(0..=10_000).default("100");
        /// The window of the rate.
        window: Duration = duration(seconds(1)..=DAY).default("15m");
    }
}

#[cfg(test)]
mod tests {
    use super::super::MINUTE;
    use super::super::test_support::{load_diagnostics, minimal, settings};

    #[test]
    fn a_network_may_fail_a_hundred_times_and_the_limit_can_be_switched_off() {
        let throttle = settings(minimal()).throttle;
        assert_eq!((throttle.max_failures, throttle.window), (100, 15 * MINUTE));
        assert_eq!(settings(minimal() + "[throttle]\nmax_failures = 0").throttle.max_failures, 0);
    }

    #[test]
    fn limits_that_limit_nothing_are_refused() {
        for (config, message) in [
            ("max_failures = 10001", "`throttle.max_failures`: must be from 0 to 10000"),
            ("window = \"500ms\"", "`throttle.window`: must be at least 1s"),
            ("enabled = true", "unknown key `enabled` in [throttle]"),
        ] {
            load_diagnostics(minimal() + "[throttle]\n" + config).only(message, "");
        }
    }
}
