//! Turns files and environment into [`Settings`], or into everything that is wrong with them.

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

/// Settings that may be served, and what looks odd about them.
#[derive(Debug)]
pub struct Loaded {
    /// Every value checked, every default filled in.
    pub settings: Settings,
    /// What does not stop the start.
    pub warnings: Diagnostics,
    /// The same as it was given.
    pub(crate) given: ConfigValues,
}

/// Reads `files` in order, then those of the `env` variables that begin with `AUTH_GATEWAY__`; the later wins.
///
/// Tables merge key by key. Every other value replaces the earlier one whole: a later file with `[[routes]]`
/// drops all routes of the earlier files. Relative paths, those of `files` and those inside them, are relative to
/// the current working directory. Besides `files`, only what the configuration names is looked at: secrets are
/// read, and the users file, a private key and the folders of static routes must be there.
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

/// Like [`load`], but for who wants to look further: `warnings` has the errors too, and a default stands in the place of
/// what is wrong. Besides, where each key that was given stands.
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
    let settings = Settings::load(&Table::new(&merged, Vec::new(), None).root());
    let mut spans = BTreeMap::new();
    merged.add_spans(&mut Vec::new(), &all, &mut spans);
    let warnings = report.finish(&settings.warnings.silence);
    (Loaded { settings, warnings, given: ConfigValues::of(&all) }, spans)
}

#[cfg(test)]
mod tests;
