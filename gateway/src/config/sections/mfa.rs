//! `[mfa]`: second factors.

use super::prelude::*;
use super::routes::role;
use super::users::plain_text;

/// The least length of the secret, in bytes.
const MIN_SECRET: usize = 32;

section! {
    /// Second factors: codes of an authenticator app (TOTP), and recovery codes. They are kept in the session store, so they work
    /// for users of every source.
    pub struct Mfa {
        /// Whether users may enrol a second factor. A user who has one is asked for it at each login.
        enabled: bool = boolean().default("false");
        /// Users with one of these roles need a second factor on every route that needs a token.
        required_roles: Vec<String> = texts(role).or_empty().example("[\"admin\"]");
        /// The name that apps show beside the user's.
        issuer: Option<String> = plain_text().fallback("tokens.issuer").example("\"App of Example Inc.\"");
        /// Encrypts the secrets of the factors in the store. Required with Redis, and the same on all instances; without it, they
        /// are in the state file, which has mode 0600.
        secret: Option<Secret<Vec<u8>>> = secret("\"secrets/mfa\"", "\"openssl rand -base64 48\"").parse(|bytes| {
            if bytes.len() < MIN_SECRET {
                let why = format!("the secret is shorter than {MIN_SECRET} bytes");
                return refused(why, "make one with `openssl rand -base64 48`");
            }
            Ok(Secret(bytes))
        });
    }
}

impl Mfa {
    pub(super) fn check(&self, table: &Table<'_>, store: &Store) {
        if !self.enabled && !self.required_roles.is_empty() {
            table
                .entry("required_roles")
                .error("could be satisfied by no user, for `mfa.enabled` is off", "set enabled = true");
        }
        if !self.enabled {
            return;
        }
        match store {
            Store::Redis(_) if self.secret.is_none() => table.entry("enabled").error(
                "needs `mfa.secret_file`: the secrets of factors are in Redis, which others may read",
                "make one with `openssl rand -base64 48`, the same for all instances",
            ),
            Store::Memory => table.entry("enabled").warn(
                "mfa-in-memory",
                "second factors are forgotten at the next start: store.kind is \"memory\"",
                "use the embedded store or Redis",
            ),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{load_diagnostics, load_text, minimal, settings};

    #[test]
    #[allow(clippy::unwrap_used)]
    fn it_is_off_and_on_redis_it_needs_a_secret() {
        assert!(!settings(minimal()).mfa.enabled);
        let on = |more: &str| minimal() + "[mfa]\nenabled = true\n" + more;
        let secret = "secret = \"0123456789abcdef0123456789abcdef\"\n";
        assert!(settings(on(secret)).mfa.secret.is_some());
        let warnings = load_text(on("[store]\nkind = \"memory\"\n")).unwrap().warnings;
        assert!(warnings.to_string().contains("forgotten at the next start"), "{warnings}");
        load_diagnostics(on("secret = \"short\"")).only("shorter than 32 bytes", "openssl");
        load_diagnostics(minimal() + "[mfa]\nrequired_roles = [\"admin\"]")
            .only("`mfa.enabled` is off", "enabled = true");
    }
}
