//! `[throttle]`: how many failures one network may send.

use super::{DAY, MINUTE, seconds};
use crate::config::settings::Throttle;
use crate::config::table::Table;

pub(super) fn throttle(table: &mut Table<'_>) -> Throttle {
    Throttle {
        max_failures: table.take("max_failures").integer(0..=10_000).unwrap_or(100),
        window: table.take("window").duration(seconds(1)..=DAY).unwrap_or(15 * MINUTE),
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{complaints, minimal, settings};
    use super::*;

    #[test]
    fn a_network_may_fail_a_hundred_times_and_no_limit_can_be_asked_for() {
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
            complaints(minimal() + "[throttle]\n" + config).only(message, "");
        }
    }
}
