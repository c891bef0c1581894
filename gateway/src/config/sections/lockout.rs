//! `[lockout]`: account lockout after failed logins.

use super::prelude::*;

section! {
    /// Account lockout after failed logins. `auth-gateway users unlock NAME` ends a lock.
    pub struct Lockout {
        /// Failed logins within the window that lock the user name.
        max_failures: u32 = integer(1..=1000).default("5");
        /// The window in which failures count.
        window: Duration = duration(up_to(DAY)).default("15m");
        /// Duration of a first lock.
        duration: Duration = duration(up_to(30 * DAY)).default("15m");
        /// Each further lock lasts this many times as long as the one before, up to max_duration; 1: all last
        /// equally long. A successful login, or max_duration without a lock, resets this.
        escalation: u32 = integer(1..=100).default("1");
        /// Maximum duration of a lock, where they escalate.
        max_duration: Duration =
            duration(up_to(30 * DAY)).or("24h, or duration where that is longer", || DAY).example("\"24h\"")
                .only_where(|lockout| lockout.entry("escalation").is_given(), "locks do not escalate");
    }
}

impl Lockout {
    pub(super) fn check(&mut self, table: &Table<'_>) {
        let longest = table.entry("max_duration");
        if !longest.is_given() {
            self.max_duration = DAY.max(self.duration);
        } else if self.max_duration < self.duration {
            longest.error(
                "is shorter than `lockout.duration`, how long a first lock lasts",
                "make it longer, or leave it out",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::MINUTE;
    use super::super::test_support::{load_diagnostics, minimal, settings};
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
            ("duration = \"31d\"", "must be at most 30d"),
            ("duration = 60", "expected a duration such as \"60s\", found integer 60"),
            ("duration = 2026-01-01", "found a date"),
            ("escalation = 0", "`lockout.escalation`: must be from 1 to 100"),
            ("max_duration = \"1m\"", "`lockout.max_duration`: is shorter than `lockout.duration`"),
        ] {
            load_diagnostics(minimal() + "[lockout]\n" + config).only(message, "");
        }
    }
}
