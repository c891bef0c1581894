//! Configuration: TOML files and environment variables, merged, validated as a whole, with all errors
//! reported together.
//!
//! [`load()`] merges, in rising precedence, the defaults, the files in the order given, and the environment
//! (`AUTH_GATEWAY__SECTION__KEY=value`). Tables merge key by key; every other value, `[[routes]]` and other
//! lists included, replaces the earlier one whole. Relative paths are relative to the current working
//! directory.
//!
//! Data flow: a `toml_file` or an `env_variable` gives values to figment, which merges them and records their
//! source; a `table` returns each once as an `entry`, with its key and its place; the file of its section in
//! `sections` validates it. Errors go to the `report` and reading goes on.

mod declaration;
mod diagnostic;
mod did_you_mean;
mod diff;
mod entry;
mod env_variable;
mod file_watcher;
mod fingerprint;
mod load;
mod other_names;
mod reference;
mod report;
mod schema;
mod sections;
mod settings;
mod source_span;
mod table;
mod toml_file;
mod toml_syntax;

#[cfg(test)]
mod default_configuration_tests;
#[cfg(test)]
mod mistakes_tests;
#[cfg(test)]
pub(crate) mod test_support;

pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub(crate) use diff::ConfigValues;
pub use file_watcher::{FileSnapshot, Source};
pub(crate) use fingerprint::{Fingerprint, fingerprint};
pub use load::{Loaded, load};
pub(crate) use load::{inspect, nearest_span};
pub use reference::{default_configuration, reference};
pub use schema::schema;
pub(crate) use sections::needs_restart;
pub use settings::*;
pub(crate) use toml_syntax::remedy as toml_remedy;
