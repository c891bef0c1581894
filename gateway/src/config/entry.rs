//! One value of the configuration, given or not, that knows its key and its place and turns into what is asked for.
//!
//! Each method gives `None` when there is no value, and also, having reported why, when the value is wrong.

use std::ops::RangeInclusive;
use std::time::Duration;

use figment::value::{Dict, Tag, Value};

use super::diagnostic::Diagnostic;
use super::did_you_mean::suggest;
use super::source_span::{Part, SourceSpan};
use super::table::{MergedConfig, Table, dotted};
use super::toml_file::{PathSegment, parse_value};

/// Why a value is not accepted, and what to do.
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
}

/// A value, or its absence.
#[derive(Clone)]
pub(super) struct Entry<'a> {
    merged: &'a MergedConfig<'a>,
    path: Vec<PathSegment>,
    value: Option<&'a Value>,
}

impl<'a> Entry<'a> {
    pub(super) fn new(
        merged: &'a MergedConfig<'a>,
        path: Vec<PathSegment>,
        value: Option<&'a Value>,
    ) -> Self {
        Self { merged, path, value }
    }

    pub(super) fn is_given(&self) -> bool {
        self.value.is_some()
    }

    /// The key with all keys above it.
    pub(super) fn name(&self) -> String {
        dotted(&self.path)
    }

    pub(super) fn place(&self) -> SourceSpan {
        self.value.map_or(SourceSpan::Nowhere, |v| self.merged.place(v.tag(), &self.path, Part::Value))
    }

    /// Like [`Entry::place`], pointing at the key.
    pub(super) fn key_place(&self) -> SourceSpan {
        self.value.map_or(SourceSpan::Nowhere, |v| self.merged.place(v.tag(), &self.path, Part::Key))
    }

    /// Reports what is wrong with the value.
    pub(super) fn refuse(&self, invalid: InvalidValue) {
        let message = format!("`{}`: {}", self.name(), invalid.message);
        self.report(Diagnostic::error(message).at(self.place()).maybe_help(invalid.help));
    }

    /// Reports what looks wrong with the value.
    pub(super) fn warn(&self, invalid: InvalidValue) {
        let message = format!("`{}`: {}", self.name(), invalid.message);
        self.report(Diagnostic::warning(message).at(self.place()).maybe_help(invalid.help));
    }

    pub(super) fn report(&self, diagnostic: Diagnostic) {
        self.merged.report.push(diagnostic);
    }

    /// Text of any kind.
    pub(super) fn string(&self) -> Option<&'a str> {
        match self.value? {
            Value::String(_, text) => Some(text),
            other => self.expected("a string", other),
        }
    }

    /// Text whose value may not be named in an error.
    pub(super) fn secret_string(&self) -> Option<&'a str> {
        match self.value? {
            Value::String(_, text) => Some(text),
            _ => {
                self.refuse(InvalidValue::new("expected a string").help("put the value in quotes"));
                None
            }
        }
    }

    /// Text that `parse` understands.
    pub(super) fn parse<T>(&self, parse: impl FnOnce(&'a str) -> Result<T, InvalidValue>) -> Option<T> {
        parse(self.string()?).map_err(|invalid| self.refuse(invalid)).ok()
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        self.parse(|text| {
            let known: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            let found = choices.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice);
            found.ok_or_else(|| InvalidValue {
                message: format!("unknown value {}", quoted(text)),
                help: suggest("known values", text, &known),
            })
        })
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        match self.value_or_number()? {
            Value::Bool(_, boolean) => Some(boolean),
            other => self.expected("true or false", &other),
        }
    }

    /// A whole number in a range.
    pub(super) fn integer<T: TryFrom<i128>>(&self, range: RangeInclusive<u64>) -> Option<T> {
        let number = match self.value_or_number()? {
            Value::Num(_, number) if number.to_i128().is_some() => number.to_i128()?,
            other => return self.expected("a whole number", &other),
        };
        self.in_range(number, range)
    }

    /// A number of bytes: a whole number, or text such as `8KiB` or `8kB`.
    pub(super) fn size<T: TryFrom<i128>>(&self, range: RangeInclusive<u64>) -> Option<T> {
        match self.value_or_number()? {
            Value::Num(_, number) if number.to_i128().is_some() => self.in_range(number.to_i128()?, range),
            Value::String(_, text) => match bytes(&text) {
                Some(number) => self.in_range(i128::from(number), range),
                None => self.expected("a size such as \"8KiB\" or \"8kB\"", self.value?),
            },
            other => self.expected("a size such as \"8KiB\" or a number of bytes", &other),
        }
    }

    /// A length of time, in the syntax of the humantime crate.
    pub(super) fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let value = self.value?;
        let parsed = value.as_str().and_then(|text| humantime::parse_duration(text.trim()).ok());
        let Some(duration) = parsed else { return self.expected("a duration such as \"60s\"", value) };
        if range.contains(&duration) {
            return Some(duration);
        }
        let message = if duration.is_zero() {
            "must be longer than nothing".to_owned()
        } else {
            let bound =
                if duration > *range.end() { ("most", range.end()) } else { ("least", range.start()) };
            format!("must be at {} {}", bound.0, humantime::format_duration(*bound.1))
        };
        self.refuse(InvalidValue::new(message));
        None
    }

    /// The elements of a list.
    pub(super) fn list(&self) -> Option<Vec<Entry<'a>>> {
        match self.value? {
            Value::Array(_, elements) => {
                let entry = |(i, value)| {
                    let mut path = self.path.clone();
                    path.push(PathSegment::Index(i));
                    Entry::new(self.merged, path, Some(value))
                };
                Some(elements.iter().enumerate().map(entry).collect())
            }
            other => self.expected_many("a list such as [\"a\", \"b\"]", other),
        }
    }

    /// The elements of a list of texts that `parse` understands; those it does not are reported and left out.
    pub(super) fn list_of<T>(&self, parse: impl Fn(&'a str) -> Result<T, InvalidValue>) -> Option<Vec<T>> {
        Some(self.list()?.iter().filter_map(|element| element.parse(&parse)).collect())
    }

    /// Reads the table that this value is.
    pub(super) fn table<T>(&self, read: impl FnOnce(&mut Table<'a>) -> T) -> Option<T> {
        let dict = self.dict()?;
        Some(Table::read(self.merged, self.path.clone(), Some(dict), read))
    }

    /// Reads the table that this value is; whoever wrote something else is shown the `example`.
    pub(super) fn table_like<T>(&self, example: &str, read: impl FnOnce(&mut Table<'a>) -> T) -> Option<T> {
        match self.value? {
            Value::Dict(..) => self.table(read),
            other => {
                let found = if other.as_str().is_some() { "a string".to_owned() } else { describe(other) };
                self.refuse(
                    InvalidValue::new(format!("expected a table, found {found}")).help(like(example)),
                );
                None
            }
        }
    }

    pub(super) fn dict(&self) -> Option<(Tag, &'a Dict)> {
        match self.value? {
            Value::Dict(tag, dict) => Some((*tag, dict)),
            other => self.expected_many("a table", other),
        }
    }

    /// The value; text from the environment is read as a number or a boolean where it looks like one.
    pub(super) fn value_or_number(&self) -> Option<Value> {
        let value = self.value?;
        if let Value::String(tag, text) = value
            && self.merged.is_from_environment(*tag)
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

    fn expected<T>(&self, what: &str, found: &Value) -> Option<T> {
        self.refuse(InvalidValue::new(format!("expected {what}, found {}", describe(found))));
        None
    }

    /// Like [`Entry::expected`], but text is not shown: it may be a whole table, secrets and all, that is not TOML.
    fn expected_many<T>(&self, what: &str, found: &Value) -> Option<T> {
        if found.as_str().is_none() {
            return self.expected(what, found);
        }
        self.refuse(InvalidValue::new(format!("expected {what}, found a string")));
        None
    }
}

/// The help that shows how a value is written.
pub(super) fn like(example: &str) -> String {
    format!("write it like {example}")
}

/// Text for a message: in backquotes, without anything that could steer a terminal, and not endless.
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

/// A number of bytes with a unit; `k`, `M`, `G` alone are refused, because people mean both thousands by them.
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
