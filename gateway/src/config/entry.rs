//! A configuration entry: a value, present or not, with its key and place, and typed accessors.
//!
//! Each accessor returns `None` for an absent value, and also for an invalid one, which it reports.

use std::ops::RangeInclusive;
use std::time::Duration;

use figment::error::Kind;
use figment::value::{Dict, Tag, Value};
use serde::de::DeserializeOwned;

use super::declaration::{Section as _, variants};
use super::diagnostic::Diagnostic;
use super::did_you_mean::suggest;
use super::env_variable::variable_of;
use super::sections::Upstream;
use super::source_span::{Part, SourceSpan};
use super::table::{MergedConfig, Table, dotted};
use super::toml_file::{PathSegment, parse_value};

/// Why a value is invalid, and how to fix it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InvalidValue {
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl InvalidValue {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    pub(super) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// A word that is none of the known ones; the help names the most similar one, or all as `heading: a, b`.
    pub(super) fn unknown(message: String, heading: &str, given: &str, known: &[&str]) -> Self {
        Self { message, help: suggest(heading, given, known) }
    }

    /// The help; what has no effect can be removed.
    fn remedy(self) -> Option<String> {
        self.help.or_else(|| self.message.starts_with("has no ").then(|| "remove it".to_owned()))
    }
}

/// The error for text that is invalid, and how to correct it.
pub(super) fn refused<T>(message: impl Into<String>, help: impl Into<String>) -> Result<T, InvalidValue> {
    Err(InvalidValue::new(message).help(help))
}

/// The text as it is, if it is valid; `why` it is not, such as "is not a host", follows its quote.
pub(super) fn accept(text: &str, is_valid: bool, why: &str, help: &str) -> Result<String, InvalidValue> {
    if is_valid { Ok(text.to_owned()) } else { refused(format!("{} {why}", quoted(text)), help) }
}

/// A value, or its absence.
#[derive(Clone)]
pub(super) struct Entry<'a> {
    merged: &'a MergedConfig<'a>,
    path: Vec<PathSegment>,
    value: Option<&'a Value>,
    /// Whether all values in it are text, as in the environment.
    is_text: bool,
    /// Whether other keys make it count.
    is_used: bool,
}

impl<'a> Entry<'a> {
    pub(super) fn new(
        merged: &'a MergedConfig<'a>,
        path: Vec<PathSegment>,
        value: Option<&'a Value>,
    ) -> Self {
        let is_text = value.is_some_and(|value| merged.is_from_environment(value.tag()));
        Self { merged, path, value, is_text, is_used: true }
    }

    /// The same key with the default of its declaration.
    pub(super) fn with_default<'b>(&'b self, default: &'b Value) -> Entry<'b> {
        Entry { value: Some(default), is_text: true, ..self.clone() }
    }

    pub(super) fn is_given(&self) -> bool {
        self.value.is_some()
    }

    /// Whether it is given; a table of nothing but headers is not.
    pub(super) fn is_set(&self) -> bool {
        self.is_given() && !(self.is_table() && self.table_or_empty().is_blank())
    }

    /// Whether it is `true`, or another value that says so.
    pub(super) fn is_on(&self) -> bool {
        matches!(self.value, Some(Value::Bool(_, true)))
            || (self.is_text && self.quiet_text() == Some("true"))
    }

    /// The same, where other keys make it have no effect: what is missing in it is not reported.
    pub(super) fn unused(self) -> Self {
        Entry { is_used: false, ..self }
    }

    /// Reports that it is missing, with how to set it.
    pub(super) fn require(&self, help: &str) {
        if self.is_used && !self.is_given() && !self.is_misspelt() {
            let missing = Diagnostic::error(format!("`{}` is missing", self.name()));
            self.report_missing(missing.at(self.place()).help(help));
        }
    }

    pub(super) fn is_table(&self) -> bool {
        matches!(self.value, Some(Value::Dict(..)))
    }

    /// The tables that this is or contains; reports nothing.
    pub(super) fn tables(&self) -> Vec<Table<'a>> {
        let elements = if self.is_list() { self.list().unwrap_or_default() } else { vec![self.clone()] };
        elements.iter().filter(|element| element.is_table()).filter_map(Entry::table).collect()
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self.value, Some(Value::Array(..)))
    }

    /// Whether it is a list without elements; reports nothing.
    pub(super) fn list_is_empty(&self) -> bool {
        self.value.and_then(Value::as_array).is_some_and(<[Value]>::is_empty)
    }

    /// The value if it is text; reports nothing.
    pub(super) fn quiet_text(&self) -> Option<&'a str> {
        self.value.and_then(Value::as_str)
    }

    /// Reports that something is missing, unless it may be in a source that could not be read.
    pub(super) fn report_missing(&self, diagnostic: Diagnostic) {
        self.merged.report.push_missing(diagnostic);
    }

    /// Whether this is missing because its name is misspelt, which has been reported.
    pub(super) fn is_misspelt(&self) -> bool {
        self.value.is_none() && self.merged.report.is_misspelt(&self.name())
    }

    /// The full path of the key.
    pub(super) fn name(&self) -> String {
        dotted(&self.path)
    }

    /// The key alone.
    fn key(&self) -> &str {
        let last = self.path.iter().rev().find_map(|segment| match segment {
            PathSegment::Key(key) => Some(key.as_str()),
            PathSegment::Index(_) => None,
        });
        last.unwrap_or_default()
    }

    /// The place of the value, or of the table that it is missing in.
    pub(super) fn place(&self) -> SourceSpan {
        match self.value {
            Some(value) => self.merged.place(value.tag(), &self.path, Part::Value),
            None => self.merged.place_of_missing(&self.path),
        }
    }

    /// The place of a configured value; a default has none.
    pub(super) fn given_place(&self) -> SourceSpan {
        if self.is_given() { self.place() } else { SourceSpan::Nowhere }
    }

    /// Like [`Entry::place`], pointing at the key.
    pub(super) fn key_place(&self) -> SourceSpan {
        self.value.map_or(SourceSpan::Nowhere, |v| self.merged.place(v.tag(), &self.path, Part::Key))
    }

    /// Reports an error about the value.
    pub(super) fn refuse(&self, invalid: InvalidValue) {
        let message = format!("`{}`: {}", self.name(), invalid.message);
        let help = self.untaken_syntax().or_else(|| invalid.remedy());
        self.report(Diagnostic::error(message).at(self.place()).maybe_help(help));
    }

    /// How to correct a value that is written as for a shell or a template.
    fn untaken_syntax(&self) -> Option<String> {
        let text = self.quiet_text()?;
        let quotes = |quote: char| text.len() > 1 && text.starts_with(quote) && text.ends_with(quote);
        if self.is_text && (quotes('"') || quotes('\'')) {
            return Some("leave the quotes out: they are part of the variable's value".to_owned());
        }
        if text.starts_with("~/") {
            return Some("~ means nothing here: write the path of the folder".to_owned());
        }
        if !text.contains("${") && !text.starts_with('$') {
            return None;
        }
        let name = self.name();
        Some(match name.split_once('[').map_or(name.as_str(), |(list, _)| list) {
            "routes" | "issuers" => "variables are not replaced here: write the value".to_owned(),
            key => format!("variables are not replaced here: write the value, or set {}", variable_of(key)),
        })
    }

    /// Reports an error about the value, and how to correct it.
    pub(super) fn error(&self, message: impl Into<String>, help: impl Into<String>) {
        self.refuse(InvalidValue::new(message).help(help));
    }

    /// Reports a warning about the value, and how to correct it.
    pub(super) fn warn(&self, name: &'static str, message: impl Into<String>, help: impl Into<String>) {
        self.warn_of(name, InvalidValue::new(message).help(help));
    }

    /// Warns that the value has no effect, and why.
    pub(super) fn no_effect(&self, why: impl std::fmt::Display) {
        self.warn_of("no-effect", InvalidValue::new(format!("has no effect: {why}")));
    }

    /// Reports a warning about the value.
    pub(super) fn warn_of(&self, name: &'static str, invalid: InvalidValue) {
        let message = format!("`{}`: {}", self.name(), invalid.message);
        self.report(Diagnostic::warning(name, message).at(self.place()).maybe_help(invalid.remedy()));
    }

    pub(super) fn report(&self, diagnostic: Diagnostic) {
        self.merged.report.push(diagnostic);
    }

    /// Reports that this key and `other` are mutually exclusive.
    pub(super) fn refuse_beside(&self, other: &Entry<'_>, help: &str) {
        self.report(
            Diagnostic::error(format!("both `{}` and `{}` are given", other.name(), self.name()))
                .at(self.key_place())
                .related(format!("`{}` is here", other.name()), other.key_place())
                .help(help),
        );
    }

    /// Deserialises the value through figment; text from the environment is parsed as a number or a boolean
    /// where it is one.
    fn extract<T: DeserializeOwned>(&self) -> Result<T, figment::error::Kind> {
        let value = self.value_or_number().ok_or(figment::error::Kind::MissingField("value".into()))?;
        value.deserialize().map_err(|error| error.kind)
    }

    /// Any text.
    pub(super) fn string(&self) -> Option<&'a str> {
        match self.value? {
            Value::String(_, text) => Some(text),
            other => self.expected("a string", other, &self.as_text(other)),
        }
    }

    /// A secret text, whose value may not appear in an error.
    pub(super) fn secret_string(&self) -> Option<&'a str> {
        match self.value? {
            Value::String(_, text) => Some(text),
            _ => {
                self.error("expected a string", "put the value in quotes");
                None
            }
        }
    }

    /// Text that `parse` accepts.
    pub(super) fn parse<T>(&self, parse: impl FnOnce(&'a str) -> Result<T, InvalidValue>) -> Option<T> {
        parse(self.string()?).map_err(|invalid| self.refuse(invalid)).ok()
    }

    /// How a value that should be text is written.
    fn as_text(&self, found: &Value) -> String {
        let key = self.key();
        match found {
            Value::Array(_, elements) if !elements.iter().all(|element| element.as_str().is_some()) => {
                format!("write {key} = \"…\"")
            }
            Value::Array(..) => format!("write one text without brackets: {key} = \"…\""),
            Value::Dict(..) => format!("write {key} = \"…\""),
            _ => "put the value in quotes".to_owned(),
        }
    }

    /// One of the words of an enum.
    pub(super) fn choice<T: DeserializeOwned>(&self) -> Option<T> {
        if let Some(other) = self.value.filter(|value| value.as_str().is_none()) {
            let known =
                variants::<T>().iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
            return self.expected("a string", other, &format!("known values: {known}"));
        }
        self.parse(|text| match Value::from(text).deserialize::<T>().map_err(|error| error.kind) {
            Ok(word) => Ok(word),
            Err(Kind::UnknownVariant(_, known)) => Err(InvalidValue::unknown(
                format!("unknown value {}", quoted(text)),
                "known values",
                text,
                known,
            )),
            Err(other) => Err(InvalidValue::new(other.to_string())),
        })
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        let value = self.value?;
        let help = "write true or false, without quotes";
        self.extract().map_or_else(|_| self.expected("true or false", value, help), Some)
    }

    /// An integer in a range.
    pub(super) fn integer<T: TryFrom<i128>>(&self, range: RangeInclusive<u64>) -> Option<T> {
        let value = self.value?;
        let digits = value.as_str().filter(|text| text.parse::<i64>().is_ok());
        match (self.extract::<i64>(), digits) {
            (Ok(number), _) => self.in_range(number.into(), range),
            (_, Some(digits)) => self.expected(
                "a whole number",
                value,
                &format!("write {} = {digits}, without quotes", self.key()),
            ),
            _ => self.expected("a whole number", value, "write digits alone, without quotes and unit"),
        }
    }

    /// A number from 0 to 1, as a share of `u64::MAX`.
    pub(super) fn ratio(&self) -> Option<u64> {
        let value = self.value?;
        let Ok(number) = self.extract::<f64>() else {
            return self.expected("a number from 0 to 1", value, "write it like 0.1, without quotes");
        };
        if !(0.0..=1.0).contains(&number) {
            let help = "0.1 is one in ten, 1.0 is all";
            self.error(format!("must be from 0 to 1, found {number}"), help);
            return None;
        }
        // The cast saturates.
        Some((number * u64::MAX as f64) as u64)
    }

    /// A size in bytes: an integer, or text such as `8KiB` or `8kB`.
    pub(super) fn size<T: TryFrom<i128>>(&self, range: RangeInclusive<u64>) -> Option<T> {
        let value = self.value?;
        if let Ok(number) = self.extract::<i64>() {
            return self.in_range(number.into(), range);
        }
        let Some(text) = value.as_str() else {
            return self.expected("a size such as \"8KiB\" or a number of bytes", value, &like("\"8KiB\""));
        };
        match bytes(text) {
            Some(number) => self.in_range(i128::from(number), range),
            None => self.expected(
                "a size such as \"8KiB\" or \"8kB\"",
                value,
                "units are B, kB, MB, GB (thousands) and KiB, MiB, GiB (1024 each)",
            ),
        }
    }

    /// A duration, in the syntax of the humantime crate.
    pub(super) fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let value = self.value?;
        let parsed = value.as_str().and_then(|text| humantime::parse_duration(text.trim()).ok());
        let Some(duration) = parsed else {
            let digits = match value {
                Value::String(_, text) => text.trim().to_owned(),
                Value::Num(_, number) => match (number.to_i128(), number.to_f64()) {
                    (Some(number), _) => number.to_string(),
                    (_, Some(number)) if number.fract() == 0.0 => format!("{number:.0}"),
                    _ => String::new(),
                },
                _ => String::new(),
            };
            let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            let help = if is_number {
                format!(
                    "add a unit: \"{digits}s\" for seconds, \"{digits}ms\", \"{digits}m\" or \"{digits}h\""
                )
            } else {
                "write it like \"500ms\", \"60s\", \"10m\", \"1h 30m\" or \"7d\"".to_owned()
            };
            return self.expected("a duration such as \"60s\"", value, &help);
        };
        if range.contains(&duration) {
            return Some(duration);
        }
        let (end, bound) =
            if duration > *range.end() { ("most", range.end()) } else { ("least", range.start()) };
        let message = match bound.as_nanos() {
            1 => "must be longer than nothing".to_owned(),
            _ => format!("must be at {end} {}", format_duration(*bound)),
        };
        // In the syntax of durations, M is a month.
        let minutes = value.as_str().and_then(|text| text.trim().strip_suffix('M'));
        let key = self.key();
        let nearest = match bound.as_nanos() {
            1 => Duration::from_secs(60).min(*range.end()),
            _ => *bound,
        };
        let help = match minutes {
            Some(number) => format!("M is a month: minutes are written {key} = \"{number}m\""),
            None => format!("write it like {key} = \"{}\"", format_duration(nearest)),
        };
        self.error(message, help);
        None
    }

    /// A duration without fractions of a second.
    pub(super) fn whole_seconds(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let duration = self.duration(Duration::ZERO..=*range.end())?;
        if duration.subsec_nanos() != 0 {
            let seconds = duration.as_secs().max(1);
            self.error(
                "must be whole seconds, because tokens count in them",
                format!("write it like {} = \"{seconds}s\"", self.key()),
            );
            return None;
        }
        // Parsed again, to distinguish zero from a fraction of a second.
        self.duration(range)
    }

    /// The elements of a list.
    pub(super) fn list(&self) -> Option<Vec<Entry<'a>>> {
        match self.value? {
            Value::Array(_, elements) => {
                let entry = |(i, value)| {
                    let mut path = self.path.clone();
                    path.push(PathSegment::Index(i));
                    Entry { path, value: Some(value), ..self.clone() }
                };
                Some(elements.iter().enumerate().map(entry).collect())
            }
            found @ Value::Dict(..) => {
                let name = self.name();
                let help = match self.place() {
                    SourceSpan::Variable(_) => {
                        format!("write the whole list as TOML in {} = [{{ … }}]", variable_of(&name))
                    }
                    _ => format!("write [[{name}]], with two brackets, before each"),
                };
                self.expected("a list", found, &help)
            }
            other => {
                let help = match self.place() {
                    SourceSpan::Variable(name) => format!("write it as TOML: {name}='[\"…\"]'"),
                    _ => format!("put it in brackets: {} = [\"…\"]", self.key()),
                };
                self.expected("a list such as [\"a\", \"b\"]", other, &help)
            }
        }
    }

    /// The elements of a list of texts that `parse` accepts; invalid ones are reported and left out.
    pub(super) fn list_of<T>(&self, parse: impl Fn(&'a str) -> Result<T, InvalidValue>) -> Option<Vec<T>> {
        Some(self.list()?.iter().filter_map(|element| element.parse(&parse)).collect())
    }

    /// The texts of a list; reports nothing.
    pub(super) fn texts(&self) -> Vec<&'a str> {
        let elements = self.value.and_then(Value::as_array).unwrap_or_default();
        elements.iter().filter_map(Value::as_str).collect()
    }

    /// The value as a table.
    pub(super) fn table(&self) -> Option<Table<'a>> {
        match self.value? {
            Value::Dict(tag, dict) => Some(self.table_of(Some((*tag, dict)))),
            other => {
                let name = self.name();
                let help = match (other, &self.path[..], self.place()) {
                    (_, _, SourceSpan::Variable(variable)) => {
                        format!("write {variable}__KEY for each key of [{name}]")
                    }
                    (Value::Array(..), [PathSegment::Key(table)], _) if table == "upstreams" => {
                        "write [upstreams.NAME], with the upstream's name, in place of [[upstreams]]"
                            .to_owned()
                    }
                    // A key of an upstream below [upstreams].
                    (_, [PathSegment::Key(table), PathSegment::Key(key)], _)
                        if table == "upstreams" && upstream_keys().contains(key) =>
                    {
                        "write [upstreams.NAME], with the upstream's name, in place of [upstreams]".to_owned()
                    }
                    (Value::Array(_, elements), ..)
                        if elements.iter().all(|element| element.as_dict().is_some()) =>
                    {
                        format!("write [{name}] in place of [[{name}]]")
                    }
                    _ => format!("write [{name}] on a line of its own, and its keys below"),
                };
                self.expected("a table", other, &help)
            }
        }
    }

    /// The value as a table; empty if it is absent or invalid.
    pub(super) fn table_or_empty(&self) -> Table<'a> {
        self.table().unwrap_or_else(|| self.table_of(None))
    }

    fn table_of(&self, values: Option<(Tag, &'a Dict)>) -> Table<'a> {
        Table::new(self.merged, self.path.clone(), values, self.is_used)
    }

    /// The value as a table; the error for another type shows the `example`.
    pub(super) fn table_like(&self, example: &str) -> Option<Table<'a>> {
        match self.value? {
            Value::Dict(..) => self.table(),
            other => self.expected("a table", other, &like(example)),
        }
    }

    /// The value; text from the environment is parsed as a number or a boolean where it is one.
    pub(super) fn value_or_number(&self) -> Option<Value> {
        let value = self.value?;
        if let Value::String(_, text) = value
            && self.is_text
            && let Some(scalar @ (Value::Bool(..) | Value::Num(..))) = parse_value(text)
        {
            return Some(scalar);
        }
        Some(value.clone())
    }

    fn in_range<T: TryFrom<i128>>(&self, number: i128, range: RangeInclusive<u64>) -> Option<T> {
        let (least, most) = (i128::from(*range.start()), i128::from(*range.end()));
        if (least..=most).contains(&number)
            && let Ok(number) = T::try_from(number)
        {
            return Some(number);
        }
        self.refuse(InvalidValue::new(format!("must be from {least} to {most}, found {number}")));
        None
    }

    fn expected<T>(&self, what: &str, found: &Value, help: &str) -> Option<T> {
        // Text in place of a collection is not shown: it may be a whole table that is not valid TOML, secrets
        // included.
        let many = what.starts_with("a table") || what.starts_with("a list");
        let found = match found {
            Value::String(..) if many => "a string".to_owned(),
            found => describe(found),
        };
        let help = (!help.is_empty()).then(|| help.to_owned());
        self.refuse(InvalidValue { message: format!("expected {what}, found {found}"), help });
        None
    }
}

/// The help that shows how a value is written.
pub(super) fn like(example: &str) -> String {
    format!("write it like {example}")
}

/// A duration in the largest unit that it is a whole number of, as it is written in the configuration.
pub(super) fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match [(86_400, "d"), (3600, "h"), (60, "m")].into_iter().find(|(unit, _)| seconds.is_multiple_of(*unit))
    {
        _ if duration.subsec_nanos() != 0 || seconds == 0 => humantime::format_duration(duration).to_string(),
        Some((unit, name)) => format!("{}{name}", seconds / unit),
        None => format!("{seconds}s"),
    }
}

/// The keys of an upstream.
fn upstream_keys() -> Vec<String> {
    Upstream::keys().into_iter().map(|key| key.name).collect()
}

/// Text for a message: in backquotes, without control characters, and truncated.
pub(super) fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().count() > 80 {
        shown.push('…');
    }
    format!("`{shown}`")
}

fn describe(value: &Value) -> String {
    match value {
        Value::String(_, text) => format!("string {}", quoted(text)),
        Value::Char(_, c) => format!("string {}", quoted(&c.to_string())),
        Value::Bool(_, boolean) => format!("boolean {boolean}"),
        Value::Num(_, number) => match (number.to_i128(), number.to_u128(), number.to_f64()) {
            (Some(n), _, _) => format!("integer {n}"),
            (_, Some(n), _) => format!("integer {n}"),
            (_, _, n) => format!("number {}", n.unwrap_or(f64::NAN)),
        },
        Value::Empty(..) => "a date".to_owned(),
        Value::Dict(..) => "a table".to_owned(),
        Value::Array(..) => "a list".to_owned(),
    }
}

/// A number of bytes with a unit; `k`, `M`, `G` alone are rejected as ambiguous (1000 or 1024).
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim_start() {
        "B" => 1,
        "kB" | "KB" => 1000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_know_both_thousands_and_refuse_to_guess() {
        for (text, expected) in [
            ("8KiB", Some(8192)),
            ("8kB", Some(8000)),
            ("8 KB", Some(8000)),
            ("2MiB", Some(2 << 20)),
            ("1GB", Some(1_000_000_000)),
            ("7B", Some(7)),
            ("8K", None),
            ("8k", None),
            ("KiB", None),
            ("-8KiB", None),
            ("1.5KiB", None),
            ("", None),
            ("99999999999999999999GiB", None),
            ("18446744073709551615GiB", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn quoted_text_is_short_and_harmless() {
        assert_eq!(quoted("a\u{1b}[31m\n"), "`a\\u{1b}[31m\\n`");
        assert_eq!(quoted(&"x".repeat(500)).chars().count(), 83);
    }
}
