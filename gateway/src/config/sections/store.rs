//! `[store]`: the session store.

use super::prelude::*;
use super::redis::{Redis, RedisKeys};

section! {
    /// Where sessions, locks and revocations are stored.
    pub(super) struct StoreKeys {
        /// "embedded" stores them in one file, "redis" where several gateways share them, "memory" until the
        /// process ends.
        kind: Kind = choice().default("embedded");
        /// The embedded store's file.
        path: PathBuf = text(file_name)
            .default("var/state.redb")
            .only_where(|store| ["", "embedded"].contains(&store.word("kind")), "only the embedded store has a file");
        /// For kind = "redis" only.
        redis: Redis = table::<RedisKeys>()
            .into(|keys, entry| keys.settings(&entry.table_or_empty()))
            .only_where(|store| store.word("kind") == "redis", "`store.kind` is not \"redis\"");
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Memory,
    Embedded,
    Redis,
}

/// `[store]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// `kind = "memory"`: lost at the end of the process.
    Memory,
    /// `kind = "embedded"`: one redb file.
    Embedded {
        /// `path`, default `var/state.redb`.
        path: PathBuf,
    },
    /// `kind = "redis"`: shared by several gateways.
    Redis(Box<Redis>),
}

impl StoreKeys {
    pub(super) fn settings(self) -> Store {
        match self.kind {
            Kind::Memory => Store::Memory,
            Kind::Embedded => Store::Embedded { path: self.path },
            Kind::Redis => Store::Redis(Box::new(self.redis)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::test_support::{load_diagnostics, load_text, minimal, settings};
    use super::*;

    #[test]
    fn one_file_is_the_default_and_memory_a_choice() {
        let path_of = |config: String| match settings(config).store {
            Store::Embedded { path } => path,
            other => panic!("{other:?}"),
        };
        assert_eq!(path_of(minimal()), PathBuf::from("var/state.redb"));
        assert_eq!(path_of(minimal() + "[store]\npath = \"/x\""), PathBuf::from("/x"));
        assert!(matches!(settings(minimal() + "[store]\nkind = \"memory\"").store, Store::Memory));
    }

    #[test]
    fn what_is_unknown_is_refused() {
        for (config, message, help) in [
            ("[store]\nkind = \"Memory\"", "unknown value `Memory`", "did you mean `memory`?"),
            ("[store]\nkind = \"sql\"", "unknown value `sql`", "memory, embedded, redis"),
            ("[store]\npath = \"\"", "`store.path`: expected the name of a file", ""),
        ] {
            load_diagnostics(minimal() + config).only(message, help);
        }
    }

    #[test]
    fn a_file_for_memory_is_warned_about() {
        let loaded = load_text(minimal() + "[store]\nkind = \"memory\"\npath = \"x\"").unwrap();
        assert!(loaded.warnings.to_string().contains("`store.path`: has no effect"));
    }
}
