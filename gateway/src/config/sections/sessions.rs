//! `[sessions]`: session limit per user.

use super::prelude::*;

section! {
    /// Sessions per user.
    #[derive(Copy)]
    pub struct SessionLimits {
        /// Maximum number of concurrent sessions per user; 0: no limit.
        max_per_user: u32 = integer(0..=10_000).default("0");
        /// A login beyond the limit ends the oldest session ("end-oldest") or is rejected ("refuse").
        refuse_when_full: bool = choice().named("when_full").default("end-oldest").into(|when: WhenFull, _| when == WhenFull::Refuse)
            .only_where(|sessions| sessions.entry("max_per_user").is_given(), "`max_per_user` is missing");
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WhenFull {
    EndOldest,
    Refuse,
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{load_diagnostics, minimal, settings};
    use super::*;

    #[test]
    fn any_number_is_the_default_and_a_limit_ends_the_oldest_unless_it_is_to_refuse() {
        let limits = |config: &str| settings(minimal() + config).sessions;
        assert_eq!(limits(""), SessionLimits { max_per_user: 0, refuse_when_full: false });
        let of_three = SessionLimits { max_per_user: 3, refuse_when_full: false };
        assert_eq!(limits("[sessions]\nmax_per_user = 3"), of_three);
        let refusing = SessionLimits { refuse_when_full: true, ..of_three };
        assert_eq!(limits("[sessions]\nmax_per_user = 3\nwhen_full = \"refuse\""), refusing);
        load_diagnostics(minimal() + "[sessions]\nmax_per_user = -1").only("`sessions.max_per_user`", "");
        load_diagnostics(minimal() + "[sessions]\nwhen_full = \"oldest\"").only("unknown value `oldest`", "");
    }
}
