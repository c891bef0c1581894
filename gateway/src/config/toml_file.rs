//! Parses a TOML file for figment and records the place of each value.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use figment::value::{Dict, Empty, Map, Num, Tag, Value};
use figment::{Metadata, Profile, Provider};
use toml_edit::{Document, Item, TableLike};

use super::diagnostic::Diagnostic;
use super::sections::{readable, readable_help, working_directory};
use super::source_span::{Part, SourceSpan, SourceText};
use super::toml_syntax::remedy;

/// One step in the path from the root of a configuration to a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PathSegment {
    Key(String),
    Index(usize),
}

/// A parsed file. As figment's [`Provider`] it names the file as the source of its values.
#[derive(Debug)]
pub(super) struct TomlFile {
    source: Arc<SourceText>,
    values: Dict,
    spans: BTreeMap<Vec<PathSegment>, Spans>,
}

#[derive(Debug, Default, Clone)]
struct Spans {
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
}

impl TomlFile {
    /// Reads and parses a file; `number` is its index.
    pub(super) fn read(path: &Path, number: usize) -> Result<Self, Diagnostic> {
        readable(path).map_err(|why| unreadable(path, &why))?;
        let text =
            std::fs::read(path).map_err(|error| unreadable(path, &format!("cannot be read: {error}")))?;
        let text = String::from_utf8(text).map_err(|error| {
            let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count();
            let is_utf16 =
                [&[0xff, 0xfe], &[0xfe, 0xff]].iter().any(|mark| error.as_bytes().starts_with(&mark[..]));
            let kind = if is_utf16 {
                "is UTF-16 text".to_owned()
            } else {
                format!("is not UTF-8 text (line {line})")
            };
            Diagnostic::error(format!("the configuration file {kind}"))
                .at(SourceSpan::File(path.into()))
                .help("TOML files are UTF-8: save the file in that encoding")
        })?;
        Self::parse(path.into(), text, number)
    }

    /// Parses the text of a file.
    pub(super) fn parse(path: PathBuf, text: String, number: usize) -> Result<Self, Diagnostic> {
        let document = match Document::parse(text.as_str()) {
            Ok(document) => document,
            Err(error) => {
                let span = error.span().unwrap_or(0..0);
                let message = format!("not valid TOML: {}", error.message());
                let help = remedy(&text, &span, error.message());
                let hidden = secrets_in_text(&text);
                let source = Arc::new(SourceText { path, text, hidden, number });
                let place = SourceSpan::Text { source, span, part: Part::Value };
                return Err(Diagnostic::error(message).at(place).help(help));
            }
        };
        let mut walk = SpanVisitor::default();
        let values = walk.table(document.as_table());
        let SpanVisitor { spans, hidden, .. } = walk;
        drop(document);
        Ok(Self { source: Arc::new(SourceText { path, text, hidden, number }), values, spans })
    }

    pub(super) fn path(&self) -> &Path {
        &self.source.path
    }

    /// The place of the value or the key at `path`; of the nearest table around it if it has none.
    pub(super) fn place(&self, path: &[PathSegment], part: Part) -> SourceSpan {
        let Some(spans) = self.spans.get(path) else {
            return match path.split_last() {
                Some((_, parent)) => self.place(parent, Part::Key),
                None => SourceSpan::File(self.source.path.clone()),
            };
        };
        let (span, part) = match (part, &spans.key, &spans.value) {
            (Part::Key, Some(key), _) | (Part::Value, Some(key), None) => (key, Part::Key),
            (_, _, Some(value)) => (value, Part::Value),
            (_, None, None) => return SourceSpan::File(self.source.path.clone()),
        };
        SourceSpan::Text { source: self.source.clone(), span: span.clone(), part }
    }
}

impl Provider for TomlFile {
    fn metadata(&self) -> Metadata {
        Metadata::from("TOML file", self.path())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

/// Parses one TOML value, as it is written after an equals sign.
pub(super) fn parse_value(text: &str) -> Option<Value> {
    let value: toml_edit::Value = text.trim().parse().ok()?;
    Some(SpanVisitor::default().value(&value))
}

/// Whether the value of a key with this name must never be printed.
pub(super) fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    (key.contains("secret") || key.contains("password")) && !key.ends_with("_file")
}

/// Converts toml_edit's tree into figment's, recording places.
#[derive(Default)]
struct SpanVisitor {
    at: Vec<PathSegment>,
    spans: BTreeMap<Vec<PathSegment>, Spans>,
    hidden: Vec<Range<usize>>,
}

impl SpanVisitor {
    fn table(&mut self, table: &dyn TableLike) -> Dict {
        let mut dict = Dict::new();
        for (name, item) in table.iter() {
            let key = table.key(name).and_then(toml_edit::Key::span);
            let hidden = if is_secret(name) { item.span() } else { None };
            self.hidden.extend(hidden);
            let value = self.step(PathSegment::Key(name.into()), Spans { key, value: item.span() }, |walk| {
                walk.item(item)
            });
            dict.insert(name.into(), value);
        }
        dict
    }

    fn step(&mut self, step: PathSegment, spans: Spans, visit: impl FnOnce(&mut Self) -> Value) -> Value {
        self.at.push(step);
        self.spans.insert(self.at.clone(), spans);
        let value = visit(self);
        self.at.pop();
        value
    }

    fn item(&mut self, item: &Item) -> Value {
        match item {
            Item::None => Value::Dict(Tag::Default, Dict::new()),
            Item::Value(value) => self.value(value),
            Item::Table(table) => Value::Dict(Tag::Default, self.table(table)),
            Item::ArrayOfTables(tables) => {
                let tables = tables.iter().enumerate().map(|(i, table)| {
                    self.step(PathSegment::Index(i), Spans { key: None, value: table.span() }, |walk| {
                        Value::Dict(Tag::Default, walk.table(table))
                    })
                });
                Value::Array(Tag::Default, tables.collect())
            }
        }
    }

    fn value(&mut self, value: &toml_edit::Value) -> Value {
        use toml_edit::Value as Toml;
        match value {
            Toml::String(text) => {
                // `scheme://user:password@host` is rejected everywhere, and must not be shown either.
                if text.value().contains("://") && text.value().contains('@') {
                    self.hidden.extend(text.span());
                }
                Value::String(Tag::Default, text.value().clone())
            }
            Toml::Integer(number) => Value::Num(Tag::Default, Num::I64(*number.value())),
            Toml::Float(number) => Value::Num(Tag::Default, Num::F64(*number.value())),
            Toml::Boolean(boolean) => Value::Bool(Tag::Default, *boolean.value()),
            // Figment has no dates and no key takes one; TOML has no empty values, so one represents it.
            Toml::Datetime(_) => Value::Empty(Tag::Default, Empty::Unit),
            Toml::InlineTable(table) => Value::Dict(Tag::Default, self.table(table)),
            Toml::Array(array) => {
                let elements = array.iter().enumerate().map(|(i, element)| {
                    self.step(PathSegment::Index(i), Spans { key: None, value: element.span() }, |walk| {
                        walk.value(element)
                    })
                });
                Value::Array(Tag::Default, elements.collect())
            }
        }
    }
}

fn unreadable(path: &Path, why: &str) -> Diagnostic {
    let help = match why {
        "does not exist" => format!("name an existing file with `--config FILE`{}", working_directory(path)),
        _ => readable_help("file", path, why),
    };
    Diagnostic::error(format!("the configuration file {why}")).at(SourceSpan::File(path.into())).help(help)
}

/// Ranges of a malformed text that may contain secrets: what follows a secret key on its line, or, after an
/// opening `"""` or `'''`, all that follows.
pub(super) fn secrets_in_text(text: &str) -> Vec<Range<usize>> {
    let mut hidden = Vec::new();
    let mut line_start = 0;
    for line in text.split_inclusive('\n') {
        let lower = line.to_ascii_lowercase();
        for word in ["secret", "password"] {
            for (found, _) in lower.match_indices(word) {
                let name_end = line[found..]
                    .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))
                    .map_or(line.len(), |n| found + n);
                if is_secret(&line[found..name_end]) && !line.trim_start().starts_with('#') {
                    let multi_line = line[name_end..].contains("\"\"\"") || line[name_end..].contains("'''");
                    let end = if multi_line { text.len() } else { line_start + line.len() };
                    hidden.push(line_start + name_end..end);
                }
            }
        }
        line_start += line.len();
    }
    hidden
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key(name: &str) -> PathSegment {
        PathSegment::Key(name.into())
    }

    #[test]
    fn every_kind_of_value_knows_its_line() {
        let text = "top = 1\n[a]\nb = [1,\n 2]\n[a.c]\nd = {e = true}\n[[f]]\ng = 1\n[[f]]\ng = 2\n";
        let file = TomlFile::parse("x.toml".into(), text.into(), 0).unwrap();
        for (path, part, expected) in [
            (vec![key("top")], Part::Key, "x.toml:1:1"),
            (vec![key("top")], Part::Value, "x.toml:1:7"),
            (vec![key("a")], Part::Key, "x.toml:2:2"),
            (vec![key("a"), key("b"), PathSegment::Index(1)], Part::Value, "x.toml:4:2"),
            (vec![key("a"), key("c"), key("d"), key("e")], Part::Value, "x.toml:6:10"),
            (vec![key("f"), PathSegment::Index(1), key("g")], Part::Value, "x.toml:10:5"),
            (vec![key("f"), PathSegment::Index(1)], Part::Value, "x.toml:9:1"),
            (vec![key("f"), PathSegment::Index(1), key("missing")], Part::Value, "x.toml:9:1"),
        ] {
            assert_eq!(file.place(&path, part).to_string(), expected, "{path:?} {part:?}");
        }
    }

    #[test]
    fn broken_text_is_reported_at_its_line_without_its_secrets() {
        for text in [
            "[tokens]\nsecret = \"hunter2",
            "[tokens]\nsecret: hunter2",
            "[tokens]\nsecret = \"\"\"\nhunter2 \\q\n\"\"\"",
            "[tokens]\ntokens = { secret = \"hunter2\" oops }",
        ] {
            let error = TomlFile::parse("x.toml".into(), text.into(), 0).unwrap_err();
            assert!(error.message().starts_with("not valid TOML: "), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn broken_text_elsewhere_is_shown() {
        let text = "secret_file = \"x\"\n# secret\nlisten = 127.0.0.1:80\n";
        let error = TomlFile::parse("x.toml".into(), text.into(), 0).unwrap_err().to_string();
        assert!(error.contains("listen = 127.0.0.1:80") && error.contains("x.toml:3:"), "{error}");
    }
}
