//! `[store]`: where sessions, locks and revocations are kept.

use std::path::PathBuf;

use super::redis::redis;
use crate::config::entry::InvalidValue;
use crate::config::settings::Store;
use crate::config::table::Table;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Memory,
    Embedded,
    Redis,
}

pub(super) fn store(table: &mut Table<'_>) -> Store {
    let kind = table
        .take("kind")
        .choice(&[("memory", Kind::Memory), ("embedded", Kind::Embedded), ("redis", Kind::Redis)])
        .unwrap_or(Kind::Embedded);
    let path = table.take("path");
    if kind != Kind::Embedded && path.is_given() {
        path.warn(InvalidValue::new("has no effect: only the embedded store has a file"));
    }
    let redis = table.section("redis", |table| redis(table, kind == Kind::Redis));
    match kind {
        Kind::Memory => Store::Memory,
        Kind::Embedded => {
            Store::Embedded { path: path.parse(file_name).unwrap_or_else(|| PathBuf::from("var/state.redb")) }
        }
        Kind::Redis => Store::Redis(Box::new(redis)),
    }
}

/// A file name, which has at least one character.
pub(super) fn file_name(text: &str) -> Result<PathBuf, InvalidValue> {
    if text.is_empty() || text.contains('\0') {
        return Err(InvalidValue::new("expected the name of a file, found an empty one")
            .help("relative names start at the working directory"));
    }
    Ok(PathBuf::from(text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::test_support::{complaints, load_text, minimal, settings};
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
            complaints(minimal() + config).only(message, help);
        }
    }

    #[test]
    fn a_file_for_memory_is_warned_about() {
        let loaded = load_text(minimal() + "[store]\nkind = \"memory\"\npath = \"x\"").unwrap();
        assert!(loaded.warnings.to_string().contains("`store.path`: has no effect"));
    }
}
