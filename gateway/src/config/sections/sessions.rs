//! `[sessions]`: how many sessions a user may have.

use crate::config::settings::SessionLimits;
use crate::config::table::Table;

pub(super) fn sessions(table: &mut Table<'_>) -> SessionLimits {
    let when_full = table.take("when_full");
    SessionLimits {
        max_per_user: table.take("max_per_user").integer(0..=10_000).unwrap_or(0),
        refuse_when_full: when_full.choice(&[("end-oldest", false), ("refuse", true)]).unwrap_or(false),
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{complaints, minimal, settings};
    use super::*;

    #[test]
    fn any_number_is_the_default_and_a_limit_ends_the_oldest_unless_it_is_to_refuse() {
        let limits = |config: &str| settings(minimal() + config).sessions;
        assert_eq!(limits(""), SessionLimits { max_per_user: 0, refuse_when_full: false });
        let of_three = SessionLimits { max_per_user: 3, refuse_when_full: false };
        assert_eq!(limits("[sessions]\nmax_per_user = 3"), of_three);
        let refusing = SessionLimits { refuse_when_full: true, ..of_three };
        assert_eq!(limits("[sessions]\nmax_per_user = 3\nwhen_full = \"refuse\""), refusing);
        complaints(minimal() + "[sessions]\nmax_per_user = -1").only("`sessions.max_per_user`", "");
        complaints(minimal() + "[sessions]\nwhen_full = \"oldest\"").only("unknown value `oldest`", "");
    }
}
