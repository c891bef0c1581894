//! `[lockout]`: when a user name is locked, and for how long.

use super::{DAY, MINUTE, up_to};
use crate::config::entry::InvalidValue;
use crate::config::settings::Lockout;
use crate::config::table::Table;

pub(super) fn lockout(table: &mut Table<'_>) -> Lockout {
    let max_failures = table.take("max_failures").integer(1..=1000).unwrap_or(5);
    let window = table.take("window").duration(up_to(DAY)).unwrap_or(15 * MINUTE);
    let duration = table.take("duration").duration(up_to(30 * DAY)).unwrap_or(15 * MINUTE);
    let escalation = table.take("escalation").integer(1..=100).unwrap_or(1);
    let max_entry = table.take("max_duration");
    let max_duration = max_entry.duration(up_to(30 * DAY));
    if max_duration.is_some_and(|max| max < duration) {
        max_entry.refuse(
            InvalidValue::new("is shorter than `lockout.duration`, how long a first lock lasts")
                .help("make it longer, or leave it out"),
        );
    }
    Lockout {
        max_failures,
        window,
        duration,
        escalation,
        max_duration: max_duration.unwrap_or(duration.max(DAY)),
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
        assert_eq!((lockout.duration, lockout.escalation, lockout.max_duration), (15 * MINUTE, 1, DAY));
        let long = settings(minimal() + "[lockout]\nduration = \"2d\"").lockout;
        assert_eq!(long.max_duration, 2 * DAY);
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
            ("escalation = 0", "`lockout.escalation`: must be from 1 to 100"),
            ("max_duration = \"1m\"", "`lockout.max_duration`: is shorter than `lockout.duration`"),
        ] {
            complaints(minimal() + "[lockout]\n" + config).only(message, "");
        }
    }
}
