//! `[lockout]`: when a user name is locked, and for how long.

use super::{DAY, MINUTE, up_to};
use crate::config::settings::Lockout;
use crate::config::table::Table;

pub(super) fn lockout(table: &mut Table<'_>) -> Lockout {
    Lockout {
        max_failures: table.take("max_failures").integer(1..=1000).unwrap_or(5),
        window: table.take("window").duration(up_to(DAY)).unwrap_or(15 * MINUTE),
        duration: table.take("duration").duration(up_to(30 * DAY)).unwrap_or(15 * MINUTE),
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{complaints, minimal, settings};
    use super::*;

    #[test]
    fn five_failures_in_a_quarter_of_an_hour_lock() {
        let lockout = settings(minimal()).lockout;
        assert_eq!((lockout.max_failures, lockout.window), (5, 15 * MINUTE));
        assert_eq!(lockout.duration, 15 * MINUTE);
    }

    #[test]
    fn locks_need_a_number_and_a_time() {
        for (config, message) in [
            ("max_failures = 0", "`lockout.max_failures`: must be from 1 to 1000, found 0"),
            ("max_failures = -1", "found -1"),
            ("window = \"0s\"", "`lockout.window`: must be longer than nothing"),
            ("duration = \"31d\"", "must be at most 30days"),
            ("duration = 60", "expected a duration such as \"60s\", found integer 60"),
            ("duration = 2026-01-01", "found a date"),
        ] {
            complaints(minimal() + "[lockout]\n" + config).only(message, "");
        }
    }
}
