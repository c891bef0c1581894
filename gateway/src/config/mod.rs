//! What the operator said: read from TOML and the environment, checked as a whole, reported as a whole.
//!
//! [`load()`] merges, in rising precedence, the defaults, the files in the order given, and the environment
//! (`AUTH_GATEWAY__SECTION__KEY=value`). Tables merge key by key; every other value, `[[routes]]` and other lists
//! included, replaces the earlier one whole. Relative paths are relative to the current working directory.
//!
//! The way of a value: a `toml_file` or an `env_variable` gives it to figment, which merges and remembers who
//! gave it; a `table` hands it out once as an `entry`, which knows its key and its place; a file of
//! `sections` checks it. What is wrong goes to the `report` and reading goes on, so that all errors come out
//! together.

mod declaration;
mod diagnostic;
mod did_you_mean;
mod diff;
mod entry;
mod env_variable;
mod file_watcher;
mod fingerprint;
mod load;
mod reference;
mod report;
mod schema;
mod sections;
mod settings;
mod source_span;
mod table;
mod toml_file;

#[cfg(test)]
mod default_configuration_tests;
#[cfg(test)]
pub(crate) mod test_support;

pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub(crate) use diff::ConfigValues;
pub use file_watcher::{FileSnapshot, Source};
pub(crate) use fingerprint::{Fingerprint, fingerprint};
pub(crate) use load::inspect;
pub use load::{Loaded, load};
pub use reference::{default_configuration, reference};
pub use schema::schema;
pub(crate) use sections::needs_restart;
pub use settings::*;
