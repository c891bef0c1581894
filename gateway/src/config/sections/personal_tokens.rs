//! `[personal_tokens]`: long-lived tokens for machines and scripts.

use super::prelude::*;

/// Ten years, as long as Redis keeps a record at most.
const MAX_TTL: Duration = Duration::from_secs(10 * 31_557_600);

section! {
    /// Personal access tokens, for machines and scripts: made by users at /tokens or by `auth-gateway tokens create`, and accepted
    /// as Bearer tokens and, on routes with `basic`, as passwords.
    #[derive(Copy)]
    pub struct PersonalTokens {
        /// Whether they are accepted. Then the gateway itself answers at /tokens, below endpoints.prefix.
        enabled: bool = boolean().default("false");
        /// Whether users make tokens of their own; "false" leaves that to the operator. Users list and revoke their tokens either
        /// way.
        self_service: bool = boolean().default("true");
        /// Lifetime of a token that is made without one.
        default_ttl: Duration = whole_seconds(seconds(60)..=MAX_TTL).default("90d");
        /// The longest lifetime that a token may be made with; without it also tokens that never expire.
        max_ttl: Option<Duration> = whole_seconds(seconds(60)..=MAX_TTL).fallback("there is none").example("\"365d\"");
        /// Maximum number of tokens per user.
        max_per_user: usize = integer(1..=1000).default("50");
    }
}

impl PersonalTokens {
    pub(super) fn check(&mut self, table: &Table<'_>) {
        let Some(max) = self.max_ttl.filter(|max| self.default_ttl > *max) else { return };
        let default = table.entry("default_ttl");
        if default.is_given() {
            let show = format_duration;
            default.error(
                format!("is longer than `personal_tokens.max_ttl` ({})", show(max)),
                "make it shorter",
            );
        }
        self.default_ttl = max;
    }
}

#[cfg(test)]
mod tests {
    use super::super::DAY;
    use super::super::test_support::{load_diagnostics, minimal, settings};

    #[test]
    fn tokens_are_off_and_the_usual_lifetime_is_never_longer_than_the_longest() {
        let tokens = |keys: &str| settings(minimal() + "[personal_tokens]\n" + keys).personal_tokens;
        assert!(!tokens("").enabled && tokens("").default_ttl == 90 * DAY && tokens("").max_ttl.is_none());
        assert_eq!(tokens("max_ttl = \"30d\"").default_ttl, 30 * DAY);
        load_diagnostics(minimal() + "[personal_tokens]\ndefault_ttl = \"8d\"\nmax_ttl = \"7d\"")
            .only("`personal_tokens.default_ttl`: is longer than `personal_tokens.max_ttl` (7d)", "shorter");
        load_diagnostics(minimal() + "[personal_tokens]\nmax_per_user = 0").only("max_per_user", "");
    }
}
