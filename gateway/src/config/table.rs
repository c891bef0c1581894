//! Hands out the values of one table by name, and reports every name that nobody asked for.

use std::collections::BTreeSet;

use figment::value::{Dict, Tag, Value};
use figment::{Figment, Source};

use super::diagnostic::Diagnostic;
use super::did_you_mean::suggest;
use super::entry::Entry;
use super::report::Report;
use super::source_span::{Part, SourceSpan};
use super::toml_file::{PathSegment, TomlFile};

/// Everything that was given, merged, with who gave what.
pub(super) struct MergedConfig<'a> {
    pub(super) figment: Figment,
    pub(super) files: &'a [TomlFile],
    pub(super) report: &'a Report,
}

impl MergedConfig<'_> {
    /// Where the value with this tag, at this path, was given.
    pub(super) fn place(&self, tag: Tag, path: &[PathSegment], part: Part) -> SourceSpan {
        match self.figment.get_metadata(tag).and_then(|metadata| metadata.source.as_ref()) {
            Some(Source::File(source)) => self
                .files
                .iter()
                .find(|file| file.path() == source)
                .map_or_else(|| SourceSpan::File(source.clone()), |file| file.place(path, part)),
            Some(Source::Custom(variable)) => SourceSpan::Variable(variable.clone()),
            _ => SourceSpan::Nowhere,
        }
    }

    /// Whether the value with this tag comes from the environment, where everything is text.
    pub(super) fn is_from_environment(&self, tag: Tag) -> bool {
        let source = self.figment.get_metadata(tag).and_then(|metadata| metadata.source.as_ref());
        matches!(source, Some(Source::Custom(_)))
    }
}

/// A table being read.
pub(super) struct Table<'a> {
    merged: &'a MergedConfig<'a>,
    path: Vec<PathSegment>,
    values: Option<(Tag, &'a Dict)>,
    asked: Vec<String>,
}

impl<'a> Table<'a> {
    /// Reads a table, then reports the keys that `read` did not ask for.
    pub(super) fn read<T>(
        merged: &'a MergedConfig<'a>,
        path: Vec<PathSegment>,
        values: Option<(Tag, &'a Dict)>,
        read: impl FnOnce(&mut Table<'a>) -> T,
    ) -> T {
        let mut table = Table { merged, path, values, asked: Vec::new() };
        let result = read(&mut table);
        table.report_unknown_keys();
        result
    }

    /// The value of a key, given or not.
    pub(super) fn take(&mut self, key: &str) -> Entry<'a> {
        self.asked.push(key.to_owned());
        let value = self.values.and_then(|(_, dict)| dict.get(key));
        Entry::new(self.merged, self.path_to(key), value)
    }

    /// Reads the table under a key; one that is absent reads as an empty one.
    pub(super) fn section<T>(&mut self, key: &str, read: impl FnOnce(&mut Table<'a>) -> T) -> T {
        let entry = self.take(key);
        let values = entry.dict();
        Table::read(self.merged, self.path_to(key), values, read)
    }

    /// All keys with their values, for a table whose keys are names of the operator's.
    pub(super) fn take_all(&mut self) -> Vec<(String, Entry<'a>)> {
        let names: Vec<String> =
            self.values.map(|(_, dict)| dict.keys().cloned().collect()).unwrap_or_default();
        names.into_iter().map(|name| (name.clone(), self.take(&name))).collect()
    }

    /// Where the table itself begins.
    pub(super) fn place(&self) -> SourceSpan {
        self.values.map_or(SourceSpan::Nowhere, |(tag, _)| self.merged.place(tag, &self.path, Part::Value))
    }

    /// Whether nobody gave anything in it.
    pub(super) fn is_empty(&self) -> bool {
        self.values.is_none_or(|(_, dict)| dict.is_empty())
    }

    pub(super) fn report(&self) -> &'a Report {
        self.merged.report
    }

    fn path_to(&self, key: &str) -> Vec<PathSegment> {
        let mut path = self.path.clone();
        path.push(PathSegment::Key(key.to_owned()));
        path
    }

    fn report_unknown_keys(&self) {
        let Some((_, dict)) = self.values else { return };
        for (key, value) in dict.iter().filter(|(key, _)| !self.asked.contains(key)) {
            let known: Vec<&str> = self.asked.iter().map(String::as_str).collect();
            let name = if key.is_empty() { "\"\"" } else { key };
            let within = match self.path.as_slice() {
                [] => String::new(),
                [PathSegment::Key(list), PathSegment::Index(_)] => format!(" in [[{list}]]"),
                path => format!(" in [{}]", dotted(path)),
            };
            let mut tags = BTreeSet::new();
            collect_tags(value, &mut tags);
            for tag in tags {
                let place = self.merged.place(tag, &self.path_to(key), Part::Key);
                let message = format!("unknown key `{}`{within}", name.escape_debug());
                self.report().push(Diagnostic::error(message).at(place).maybe_help(suggest(
                    "known keys here",
                    key,
                    &known,
                )));
            }
        }
    }
}

/// A path as it is written in TOML and in messages: `routes[1].path`.
pub(super) fn dotted(path: &[PathSegment]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            PathSegment::Key(key) if text.is_empty() => text.extend(key.escape_debug()),
            PathSegment::Key(key) => {
                text.push('.');
                text.extend(key.escape_debug());
            }
            PathSegment::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

/// Who gave a value: for a table everyone who gave a part of it.
fn collect_tags(value: &Value, tags: &mut BTreeSet<Tag>) {
    match value {
        Value::Dict(_, dict) if !dict.is_empty() => {
            dict.values().for_each(|value| collect_tags(value, tags));
        }
        other => {
            tags.insert(other.tag());
        }
    }
}
