//! Configuration tables: access to values by key, and reports of unknown keys.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use figment::value::{Dict, Tag, Value};
use figment::{Figment, Source};

use super::declaration::{KeyInfo, Section, Shape};
use super::diagnostic::Diagnostic;
use super::did_you_mean::{nearest, suggest};
use super::entry::Entry;
use super::env_variable;
use super::other_names;
use super::report::Report;
use super::sections;
use super::source_span::{Part, SourceSpan};
use super::toml_file::{PathSegment, TomlFile};

/// The merged values, with their sources.
pub(super) struct MergedConfig<'a> {
    pub(super) figment: Figment,
    pub(super) files: &'a [TomlFile],
    pub(super) report: &'a Report,
    /// The root table.
    pub(super) root: &'a Value,
}

impl MergedConfig<'_> {
    /// The place of the value with this tag, at this path.
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

    /// The place of what is missing at this path: the header of the innermost table around it that is there, or the
    /// only file.
    pub(super) fn place_of_missing(&self, path: &[PathSegment]) -> SourceSpan {
        match path.split_last() {
            None => match self.files {
                [file] => SourceSpan::File(file.path().into()),
                _ => SourceSpan::Nowhere,
            },
            Some((_, above)) => match self.value_at(above).filter(|_| !above.is_empty()) {
                Some(value) => self.place(value.tag(), above, Part::Value),
                None => self.place_of_missing(above),
            },
        }
    }

    fn value_at(&self, path: &[PathSegment]) -> Option<&Value> {
        path.iter().try_fold(self.root, |value, segment| match (value, segment) {
            (Value::Dict(_, dict), PathSegment::Key(key)) => dict.get(key),
            (Value::Array(_, list), PathSegment::Index(index)) => list.get(*index),
            _ => None,
        })
    }

    /// Collects the places of all keys below a value, by name.
    pub(super) fn add_spans(
        &self,
        path: &mut Vec<PathSegment>,
        value: &Value,
        spans: &mut BTreeMap<String, SourceSpan>,
    ) {
        let mut below = |segment: PathSegment, inner: &Value| {
            path.push(segment);
            self.add_spans(path, inner, spans);
            path.pop();
        };
        match value {
            Value::Dict(_, dict) => {
                dict.iter().for_each(|(key, inner)| below(PathSegment::Key(key.clone()), inner))
            }
            Value::Array(_, list) => {
                list.iter().enumerate().for_each(|(i, inner)| below(PathSegment::Index(i), inner));
            }
            _ => {}
        }
        spans.insert(dotted(path), self.place(value.tag(), path, Part::Value));
    }

    /// Whether the value with this tag comes from the environment, where everything is text.
    pub(super) fn is_from_environment(&self, tag: Tag) -> bool {
        let source = self.figment.get_metadata(tag).and_then(|metadata| metadata.source.as_ref());
        matches!(source, Some(Source::Custom(_)))
    }
}

/// A table being read.
#[derive(Clone)]
pub(super) struct Table<'a> {
    merged: &'a MergedConfig<'a>,
    path: Vec<PathSegment>,
    values: Option<(Tag, &'a Dict)>,
    /// Whether other keys make it count: what is missing in it is reported only then.
    is_used: bool,
}

impl<'a> Table<'a> {
    pub(super) fn new(
        merged: &'a MergedConfig<'a>,
        path: Vec<PathSegment>,
        values: Option<(Tag, &'a Dict)>,
        is_used: bool,
    ) -> Table<'a> {
        Table { merged, path, values, is_used }
    }

    /// Reads a table with declared keys, and reports unknown ones.
    pub(super) fn read<S: Section>(&self) -> S {
        self.report_unknown_keys(&S::keys());
        S::read(self)
    }

    /// The entry of a key, present or not.
    pub(super) fn entry(&self, key: &str) -> Entry<'a> {
        let value = self.values.and_then(|(_, dict)| dict.get(key));
        let entry = Entry::new(self.merged, self.path_to(key), value);
        if self.is_used { entry } else { entry.unused() }
    }

    /// Whether the key is given. Warns otherwise that those of `others` that are given have no effect.
    pub(super) fn needs(&self, key: &str, others: &[KeyInfo]) -> bool {
        let is_given = self.entry(key).is_given();
        for other in others.iter().map(|other| self.entry(&other.name)).filter(|_| !is_given) {
            if other.is_given() {
                let why = format!("has no effect without `{key}`");
                other.warn("no-effect", why, format!("remove it, or set `{key}`"));
            }
        }
        is_given
    }

    /// The text of a key; empty where there is none. Reports nothing.
    pub(super) fn word(&self, key: &str) -> &'a str {
        self.entry(key).quiet_text().unwrap_or_default()
    }

    /// Whether no more than one of these keys is given; reports a second one.
    pub(super) fn at_most_one(&self, keys: &[&str], help: &str) -> bool {
        let given: Vec<_> = keys.iter().map(|key| self.entry(key)).filter(Entry::is_given).collect();
        if let [first, second, ..] = &given[..] {
            second.refuse_beside(first, help);
        }
        given.len() < 2
    }

    pub(super) fn is_used(&self) -> bool {
        self.is_used
    }

    /// The table under a key, for a second read: reports nothing.
    pub(super) fn quiet_table(&self, key: &str) -> Table<'a> {
        let entry = self.entry(key);
        if entry.is_table() {
            entry.table_or_empty()
        } else {
            Table::new(self.merged, self.path_to(key), None, self.is_used)
        }
    }

    /// The root table.
    pub(super) fn root(&self) -> Table<'a> {
        Table::new(self.merged, Vec::new(), self.merged.root.as_dict().map(|dict| (Tag::Default, dict)), true)
    }

    /// The files of the configuration.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.merged.files.iter().map(|file| file.path().to_owned()).collect()
    }

    /// All entries, for a table whose keys are chosen by the operator.
    pub(super) fn entries(&self) -> Vec<(String, Entry<'a>)> {
        let names = self.values.into_iter().flat_map(|(_, dict)| dict.keys());
        names.map(|name| (name.clone(), self.entry(name))).collect()
    }

    /// The place of its header, or of that of the table around it.
    pub(super) fn place(&self) -> SourceSpan {
        match self.values {
            Some((tag, _)) => self.merged.place(tag, &self.path, Part::Value),
            None => self.merged.place_of_missing(&self.path),
        }
    }

    /// Whether it has nothing but headers of tables.
    pub(super) fn is_blank(&self) -> bool {
        fn blank(value: &figment::value::Value) -> bool {
            matches!(value, figment::value::Value::Dict(_, dict) if dict.values().all(blank))
        }
        self.values.is_none_or(|(_, dict)| dict.values().all(blank))
    }

    pub(super) fn report(&self) -> &'a Report {
        self.merged.report
    }

    /// Its path as in the declarations: `routes`, `upstreams.NAME`.
    fn pattern(&self) -> String {
        let keys = self.path.iter().filter_map(|segment| match segment {
            PathSegment::Key(key) => Some(key.as_str()),
            PathSegment::Index(_) => None,
        });
        let keys: Vec<&str> = keys.collect();
        match keys[..] {
            ["upstreams", _] => "upstreams.NAME".to_owned(),
            _ => keys.join("."),
        }
    }

    fn path_to(&self, key: &str) -> Vec<PathSegment> {
        let mut path = self.path.clone();
        path.push(PathSegment::Key(key.to_owned()));
        path
    }

    pub(super) fn report_unknown_keys(&self, known: &[KeyInfo]) {
        let Some((_, dict)) = self.values else { return };
        let names: Vec<&str> = known.iter().map(|key| key.name.as_str()).collect();
        for (key, value) in dict.iter().filter(|(key, _)| !names.contains(&key.as_str())) {
            let name = if key.is_empty() { "\"\"" } else { key };
            let within = match self.path.as_slice() {
                [] => String::new(),
                [PathSegment::Key(list), PathSegment::Index(_)] => format!(" in [[{list}]]"),
                path => format!(" in [{}]", dotted(path)),
            };
            let meaning = other_names::meaning(&self.pattern(), key);
            let own = meaning.filter(|meaning| names.contains(meaning));
            let meant =
                own.or_else(|| meaning.is_none().then(|| nearest(key, names.iter().copied())).flatten());
            if let Some(meant) = meant {
                self.report().record_misspelt(dotted(&self.path_to(meant)));
            }
            let is_top_table = self.path.is_empty() && value.as_str().is_none();
            let help = meant
                .map(|meant| match known.iter().find(|key| key.name == meant && is_top_table) {
                    Some(table) => format!("did you mean {}?", header(meant, &table.shape)),
                    None => format!("did you mean `{meant}`?"),
                })
                .or_else(|| meaning.map(explained))
                .or_else(|| elsewhere(key, value, !self.path.is_empty()))
                .or_else(|| suggest("known keys here", key, &names));
            let mut tags = BTreeSet::new();
            collect_tags(value, &mut tags);
            for tag in tags {
                let place = self.merged.place(tag, &self.path_to(key), Part::Key);
                let message = format!("unknown key `{}`{within}", name.escape_debug());
                let variable = match &place {
                    SourceSpan::Variable(name) if meant.is_none() => env_variable::nearest(name),
                    _ => None,
                };
                let help = variable.or_else(|| help.clone());
                self.report().push(Diagnostic::error(message).at(place).maybe_help(help));
            }
        }
    }
}

/// The help for a key that is meant elsewhere: a path, or a sentence.
fn explained(meaning: &str) -> String {
    let key_of = |(table, key): (&str, &str)| {
        let declared = sections::paths();
        let shape = declared.iter().find(|(path, _)| path == table).map(|(_, info)| &info.shape);
        let table = shape.map_or_else(|| format!("[{table}]"), |shape| header(table, shape));
        format!("`{key}` is a key of {table}")
    };
    match meaning.rsplit_once('.').filter(|_| !meaning.contains(' ')) {
        Some(path) => key_of(path),
        None => meaning.to_owned(),
    }
}

/// The help for a key that exists in another table, or is the name of a table.
fn elsewhere(key: &str, value: &Value, is_below: bool) -> Option<String> {
    // Names that are too common to suggest another table.
    const COMMON: [&str; 11] =
        ["body", "file", "host", "hosts", "kind", "name", "path", "prefix", "status", "timeout", "window"];
    let folded = key.to_ascii_lowercase().replace('-', "_");
    let declared = sections::paths();
    if let Some((path, info)) = declared.iter().find(|(path, _)| is_below && *path == folded) {
        let header = header(path, &info.shape);
        return Some(format!(
            "{header} is a table of its own: write its header, or put the line above all headers"
        ));
    }
    let same = declared.iter().find(|(path, info)| {
        let is_table = matches!(info.shape, Shape::Table(_) | Shape::Map(_));
        let is_same = path.contains('.') && info.name == folded && !COMMON.contains(&key);
        is_same && is_table == value.as_dict().is_some()
    });
    same.map(|(path, _)| explained(path))
}

/// The line that begins a table.
fn header(path: &str, shape: &Shape) -> String {
    match shape {
        Shape::List(_) => format!("[[{path}]]"),
        Shape::Map(_) => format!("[{path}.NAME]"),
        _ => format!("[{path}]"),
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

/// The sources of a value: for a table all sources of its parts.
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
