//! Configuration tables: access to values by key, and reports of unknown keys.

use std::collections::{BTreeMap, BTreeSet};

use figment::value::{Dict, Tag, Value};
use figment::{Figment, Source};

use super::declaration::{KeyInfo, Section, Shape};
use super::diagnostic::Diagnostic;
use super::did_you_mean::{nearest, suggest};
use super::entry::Entry;
use super::env_variable;
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
}

impl<'a> Table<'a> {
    pub(super) fn new(
        merged: &'a MergedConfig<'a>,
        path: Vec<PathSegment>,
        values: Option<(Tag, &'a Dict)>,
    ) -> Table<'a> {
        Table { merged, path, values }
    }

    /// Reads a table with declared keys, and reports unknown ones.
    pub(super) fn read<S: Section>(&self) -> S {
        self.report_unknown_keys(&S::keys());
        S::read(self)
    }

    /// The entry of a key, present or not.
    pub(super) fn entry(&self, key: &str) -> Entry<'a> {
        let value = self.values.and_then(|(_, dict)| dict.get(key));
        Entry::new(self.merged, self.path_to(key), value)
    }

    /// The table under a key, for a second read: reports nothing.
    pub(super) fn quiet_table(&self, key: &str) -> Table<'a> {
        let entry = self.entry(key);
        if entry.is_table() {
            entry.table_or_empty()
        } else {
            Table::new(self.merged, self.path_to(key), None)
        }
    }

    /// The root table.
    pub(super) fn root(&self) -> Table<'a> {
        Table::new(self.merged, Vec::new(), self.merged.root.as_dict().map(|dict| (Tag::Default, dict)))
    }

    /// All entries, for a table whose keys are chosen by the operator.
    pub(super) fn entries(&self) -> Vec<(String, Entry<'a>)> {
        let names = self.values.into_iter().flat_map(|(_, dict)| dict.keys());
        names.map(|name| (name.clone(), self.entry(name))).collect()
    }

    /// All values of keys with this name, in this table and below it.
    pub(super) fn below(&self, key: &str) -> Vec<Entry<'a>> {
        let mut found = Vec::new();
        for (name, entry) in self.entries() {
            for inner in entry.tables() {
                found.extend(inner.below(key));
            }
            if name == key {
                found.push(entry);
            }
        }
        found
    }

    /// The place of the table's beginning.
    pub(super) fn place(&self) -> SourceSpan {
        self.values.map_or(SourceSpan::Nowhere, |(tag, _)| self.merged.place(tag, &self.path, Part::Value))
    }

    /// Whether it has no keys.
    pub(super) fn is_empty(&self) -> bool {
        self.values.is_none_or(|(_, dict)| dict.is_empty())
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
            let meant = nearest(key, names.iter().copied());
            if let Some(meant) = meant {
                self.report().record_misspelt(dotted(&self.path_to(meant)));
            }
            let is_top_table = self.path.is_empty() && value.as_str().is_none();
            let help = meant
                .map(|meant| match known.iter().find(|key| key.name == meant && is_top_table) {
                    Some(table) => format!("did you mean {}?", header(meant, &table.shape)),
                    None => format!("did you mean `{meant}`?"),
                })
                .or_else(|| elsewhere(key, value, &names))
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

/// The help for a key that exists in another table, or is another program's name of one. `here` are the keys
/// of this table.
fn elsewhere(key: &str, value: &Value, here: &[&str]) -> Option<String> {
    // Names in nginx, Caddy, Traefik, Envoy and Flask for keys declared here.
    const CALLED_OTHERWISE: [(&str, &str); 17] = [
        ("server", "http listener"),
        ("tokens", "jwt token session"),
        ("upstreams", "backend backends services cluster clusters"),
        ("routes", "location locations rules"),
        ("server.listen", "address bind host port"),
        ("server.workers", "threads"),
        (
            "server.tls.certificates",
            "ssl cert cert_file certificate key_file ssl_certificate ssl_certificate_key",
        ),
        ("tokens.secret", "jwt_secret secret_key jwt_secret_key"),
        ("tokens.access_ttl", "expires token_ttl"),
        ("upstreams.NAME.response_timeout", "timeout proxy_read_timeout"),
        ("routes.upstream", "proxy_pass backend service"),
        ("routes.path", "location prefix match"),
        ("routes.access", "auth public protected"),
        ("routes.static", "root folder dir"),
        ("routes.upgrade", "websocket websockets ws"),
        ("cors.allowed_origins", "origins"),
        ("limits.max_body", "client_max_body_size"),
    ];
    // Names that are too common to suggest another table.
    const COMMON: [&str; 8] = ["body", "file", "kind", "name", "path", "prefix", "status", "window"];
    let folded = key.to_ascii_lowercase().replace('-', "_");
    let declared = sections::paths();
    let same = declared.iter().find(|(path, info)| {
        let is_table = matches!(info.shape, Shape::Table(_) | Shape::Map(_));
        let is_same = path.contains('.') && info.name == folded && !COMMON.contains(&key);
        is_same && is_table == value.as_dict().is_some()
    });
    let theirs = |names: &str| names.split(' ').any(|name| name == folded);
    let otherwise = || {
        CALLED_OTHERWISE
            .iter()
            .filter(|(path, names)| path.contains('.') != here.contains(path) && theirs(names))
    };
    let path = match same {
        Some((path, _)) => path.as_str(),
        None => otherwise().map(|(path, _)| *path).next()?,
    };
    let shape_of = |path: &str| declared.iter().find(|(other, _)| other == path).map(|(_, info)| &info.shape);
    Some(match path.rsplit_once('.') {
        None => format!("did you mean `{path}`?"),
        Some((_, key)) if here.contains(&key) => format!("did you mean `{key}`?"),
        Some((table, key)) => {
            let table = shape_of(table).map_or_else(|| format!("[{table}]"), |shape| header(table, shape));
            format!("`{key}` is a key of {table}")
        }
    })
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
