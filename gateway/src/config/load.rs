//! Loads [`Settings`] from files and environment, or reports all errors in them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use figment::Figment;
use figment::value::{Dict, Tag, Value};

use super::diagnostic::{Diagnostic, Diagnostics};
use super::diff::ConfigValues;
use super::env_variable::EnvVariable;
use super::report::Report;
use super::settings::Settings;
use super::source_span::SourceSpan;
use super::table::{MergedConfig, Table};
use super::toml_file::TomlFile;

/// Valid settings, with warnings.
#[derive(Debug)]
pub struct Loaded {
    /// Every value validated, every default filled in.
    pub settings: Settings,
    /// Warnings.
    pub warnings: Diagnostics,
    /// The configured values.
    pub(crate) given: ConfigValues,
}

/// Reads `files` in order, then the `env` variables that begin with `AUTH_GATEWAY__`; the later wins.
///
/// Tables merge key by key. Every other value replaces the earlier one whole: a later file with `[[routes]]`
/// drops all routes of the earlier files. Relative paths, those of `files` and those inside them, are
/// relative to the current working directory. Besides `files`, only what the configuration names is accessed:
/// secrets are read, and the users file, a private key and the folders of static routes must exist.
///
/// # Errors
///
/// All errors of all sources together, never only the first. No secret is part of any of them.
pub fn load(
    files: &[PathBuf],
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, Diagnostics> {
    let (loaded, _) = inspect(files, env);
    let (errors, warnings) = loaded.warnings.split();
    if errors.is_empty() { Ok(Loaded { warnings, ..loaded }) } else { Err(errors) }
}

/// Like [`load`], for further checks: `warnings` has the errors too, and invalid values are replaced by
/// defaults. Also returns the place of each configured key.
pub(crate) fn inspect(
    files: &[PathBuf],
    env: impl IntoIterator<Item = (String, String)>,
) -> (Loaded, BTreeMap<String, SourceSpan>) {
    let report = Report::default();
    let mut parsed = Vec::new();
    for (number, path) in files.iter().enumerate() {
        match TomlFile::read(path, number) {
            Ok(file) => parsed.push(file),
            Err(diagnostic) => report.push_unreadable(diagnostic),
        }
    }

    let mut figment = Figment::new();
    for file in &parsed {
        figment = figment.merge(file);
    }
    for variable in EnvVariable::pick(env, &report) {
        figment = figment.merge(variable);
    }
    let all = figment.find_value("").unwrap_or_else(|error| {
        report.push_unreadable(Diagnostic::error(format!("the sources cannot be merged: {error}")));
        Value::Dict(Tag::Default, Dict::new())
    });

    let merged = MergedConfig { figment, files: &parsed, report: &report, root: &all };
    let settings = Settings::load(&Table::new(&merged, Vec::new(), None, true).root());
    let mut spans = BTreeMap::new();
    merged.add_spans(&mut Vec::new(), &all, &mut spans);
    spans.insert(String::new(), merged.place_of_missing(&[]));
    let warnings = report.finish(&settings.warnings.silence);
    (Loaded { settings, warnings, given: ConfigValues::of(&all) }, spans)
}

/// The place of a key, or of the innermost table around it that is there, or the file.
pub(crate) fn nearest_span<'s>(spans: &'s BTreeMap<String, SourceSpan>, key: &str) -> Option<&'s SourceSpan> {
    let mut path = key;
    loop {
        match spans.get(path) {
            None if !path.is_empty() => path = path.rfind(['.', '[']).map_or("", |end| &path[..end]),
            found => return found,
        }
    }
}

#[cfg(test)]
mod tests;
