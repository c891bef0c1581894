//! One declaration for each key: its type with unit and range, its default, what it does, an example, and whether it is a
//! secret or needs a restart.
//!
//! [`section!`] makes of the declarations of a table the struct that holds its values, the function that reads them, and the
//! list of [`KeyInfo`] that everything else is made of: errors for unknown keys, the JSON schema, the reference, the names
//! of environment variables, and what needs a restart.

use std::ops::RangeInclusive;
use std::time::Duration;

use figment::value::{Tag, Value};
use serde::de::DeserializeOwned;

use super::diagnostic::Diagnostic;
use super::entry::{Entry, InvalidValue};
use super::env_variable;
use super::table::Table;

/// What is known of a key.
#[derive(Debug, Clone)]
pub(crate) struct KeyInfo {
    pub(crate) name: String,
    /// What it does, in sentences; the lines of the declaration's comment.
    pub(crate) about: String,
    pub(crate) shape: Shape,
    pub(crate) default: Fallback,
    /// How it could look where the default says too little: TOML.
    pub(crate) example: Option<&'static str>,
    /// Whether its value is never printed.
    pub(crate) secret: bool,
    /// Whether a change is in force after a restart only.
    pub(crate) restart: bool,
    /// Whether it has to be given.
    pub(crate) required: bool,
}

/// What stands in for a key that is not given.
#[derive(Debug, Clone)]
pub(crate) enum Fallback {
    /// Nothing, or what the key's sentences say.
    None,
    /// This text, read as if it had been given in the environment.
    Text(&'static str),
    /// A value that is found out, in words.
    Computed(&'static str),
}

/// What a key takes.
#[derive(Debug, Clone)]
pub(crate) enum Shape {
    Text,
    Boolean,
    /// One of these words.
    Choice(&'static [&'static str]),
    Integer(RangeInclusive<u64>),
    /// Bytes.
    Size(RangeInclusive<u64>),
    Duration(RangeInclusive<Duration>),
    List(Box<Shape>),
    /// A table with these keys.
    Table(TableShape),
    /// A table whose keys are the operator's, with values of this shape.
    Map(Box<Shape>),
    /// A table with these keys, and more of the operator's with values of this shape.
    Names(TableShape, Box<Shape>),
    /// Text, a table with these keys, or a list of either.
    TextOrTable(TableShape),
    /// Text, a whole number, a boolean or a list of them.
    Any,
}

/// A table whose keys are declared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TableShape {
    pub(crate) about: &'static str,
    pub(crate) keys: fn() -> Vec<KeyInfo>,
}

impl TableShape {
    pub(super) fn of<S: Section>() -> TableShape {
        TableShape { about: S::ABOUT, keys: S::keys }
    }
}

impl Shape {
    /// The table that this is, or has below it.
    pub(crate) fn table(&self) -> Option<TableShape> {
        match self {
            Shape::Table(table) | Shape::Names(table, _) => Some(*table),
            Shape::List(inner) | Shape::Map(inner) => inner.table(),
            _ => None,
        }
    }
}

/// A table with keys that are known.
pub(crate) trait Section: Sized {
    /// What the table is about.
    const ABOUT: &'static str;

    /// Its keys.
    fn keys() -> Vec<KeyInfo>;

    /// Its values; what is wrong is reported, and the default stands in its place.
    fn read(table: &Table<'_>) -> Self;
}

/// Declares the keys of a table: `NAME: TYPE = KEY;`, where the comment above says what the key does.
macro_rules! section {
    ($(#[doc = $about:literal])+ $(#[derive($derive:ident)])? $visibility:vis struct $section:ident {
        $($(#[doc = $doc:literal])+ $key:ident: $type:ty = $declared:expr;)*
    }) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq, Eq $(, $derive)?)]
        $visibility struct $section {
            $($(#[doc = $doc])+ $visibility $key: $type,)*
        }

        impl $crate::config::declaration::Section for $section {
            const ABOUT: &'static str = concat!($($about, "\n"),+);

            fn keys() -> Vec<$crate::config::declaration::KeyInfo> {
                use $crate::config::declaration::{Declared, declared};
                [$(declared::<$type, _>($declared).infos(stringify!($key), concat!($($doc, "\n"),+))),*].concat()
            }

            fn read(table: &$crate::config::table::Table<'_>) -> Self {
                use $crate::config::declaration::{Declared, declared};
                Self { $($key: declared::<$type, _>($declared).take(table, stringify!($key)),)* }
            }
        }
    };
}
pub(super) use section;

/// What stands behind a field: one key, or several.
pub(super) trait Declared<T> {
    /// The keys, for a field of this name with this comment.
    fn infos(&self, field: &str, about: &str) -> Vec<KeyInfo>;

    /// The value that they have in a table.
    fn take(&self, table: &Table<'_>, field: &str) -> T;
}

/// Tells the compiler which type is declared.
pub(super) fn declared<T, D: Declared<T>>(declared: D) -> D {
    declared
}

/// A key: what it takes, and how that is read.
pub(super) struct Key<T> {
    shape: Shape,
    default: Fallback,
    example: Option<&'static str>,
    secret: bool,
    restart: bool,
    /// What helps where the key is not given, although it has to be.
    required: Option<&'static str>,
    /// Where it is not called like the field.
    name: Option<&'static str>,
    read: Box<dyn Fn(&Entry<'_>) -> T>,
}

impl<T: 'static> Key<T> {
    pub(super) fn new(shape: Shape, read: impl Fn(&Entry<'_>) -> T + 'static) -> Key<T> {
        let (default, read) = (Fallback::None, Box::new(read));
        Key { shape, default, example: None, secret: false, restart: false, required: None, name: None, read }
    }

    /// How it could look, as TOML.
    pub(super) fn example(self, example: &'static str) -> Key<T> {
        Key { example: Some(example), ..self }
    }

    /// Its value is never printed.
    pub(super) fn secret(self) -> Key<T> {
        Key { secret: true, ..self }
    }

    /// A change is in force after a restart.
    pub(super) fn restart(self) -> Key<T> {
        Key { restart: true, ..self }
    }

    /// Tells the default of a key that is read elsewhere.
    pub(super) fn standard(self, text: &'static str) -> Key<T> {
        Key { default: Fallback::Text(text), ..self }
    }

    /// Tells more about what it takes than how it is read does.
    pub(super) fn shape(self, shape: Shape) -> Key<T> {
        Key { shape, ..self }
    }

    /// Says in words what stands in for the key.
    pub(super) fn fallback(self, words: &'static str) -> Key<T> {
        Key { default: Fallback::Computed(words), ..self }
    }

    fn then<U>(self, read: impl Fn(Box<dyn Fn(&Entry<'_>) -> T>) -> Box<dyn Fn(&Entry<'_>) -> U>) -> Key<U> {
        let Key { shape, default, example, secret, restart, required, name, read: inner } = self;
        Key { shape, default, example, secret, restart, required, name, read: read(inner) }
    }

    /// What it is called where a field is called otherwise.
    pub(super) fn named(self, name: &'static str) -> Key<T> {
        Key { name: Some(name), ..self }
    }

    /// `static` cannot be the name of a field; `r#static` can.
    fn key_name<'n>(&self, field: &'n str) -> &'n str {
        self.name.unwrap_or(field.strip_prefix("r#").unwrap_or(field))
    }

    /// It has to be given; `help` says how.
    pub(super) fn required(self, help: &'static str) -> Key<T> {
        Key { required: Some(help), ..self }
    }

    /// What the value, and where it stands, come to.
    pub(super) fn into<U: 'static>(self, change: fn(T, &Entry<'_>) -> U) -> Key<U> {
        self.then(|read| Box::new(move |entry| change(read(entry), entry)))
    }
}

impl<T: 'static> Declared<T> for Key<T> {
    fn infos(&self, name: &str, about: &str) -> Vec<KeyInfo> {
        vec![KeyInfo {
            name: self.key_name(name).to_owned(),
            about: about.to_owned(),
            shape: self.shape.clone(),
            default: self.default.clone(),
            example: self.example,
            secret: self.secret,
            restart: self.restart,
            required: self.required.is_some(),
        }]
    }

    fn take(&self, table: &Table<'_>, name: &str) -> T {
        let entry = table.entry(self.key_name(name));
        if let Some(help) = self.required.filter(|_| !entry.is_given()) {
            let missing = Diagnostic::error(format!("`{}` is missing", entry.name()));
            table.report().push_missing(missing.at(table.place()).help(help));
        }
        (self.read)(&entry)
    }
}

impl<T: 'static> Key<Option<T>> {
    /// What stands in for a value that is absent or wrong.
    pub(super) fn default(self, text: &'static str) -> Key<T> {
        let key = self.then(|read| {
            Box::new(move |entry| {
                read(entry)
                    .or_else(|| read_text(&read, entry, text))
                    .unwrap_or_else(|| unreachable!("the default of `{}` is not one: {text}", entry.name()))
            })
        });
        Key { default: Fallback::Text(text), ..key }
    }

    /// What stands in is found out, and told in `words`.
    pub(super) fn or(self, words: &'static str, find: fn() -> T) -> Key<T> {
        self.then(|read| Box::new(move |entry| read(entry).unwrap_or_else(find))).fallback(words)
    }

    pub(super) fn map<U: 'static>(self, change: fn(T) -> U) -> Key<Option<U>> {
        self.then(|read| Box::new(move |entry| read(entry).map(change)))
    }

    /// The same, with what `check` has to say about it.
    pub(super) fn check(self, check: fn(&T, &Entry<'_>)) -> Key<Option<T>> {
        self.then(|read| Box::new(move |entry| read(entry).inspect(|value| check(value, entry))))
    }
}

impl<T: Default + 'static> Key<Option<T>> {
    /// Nothing stands in: an empty list, an empty text.
    pub(super) fn or_empty(self) -> Key<T> {
        let text = if matches!(self.shape, Shape::List(_)) { "[]" } else { "" };
        let key = self.then(|read| Box::new(move |entry| read(entry).unwrap_or_default()));
        Key { default: Fallback::Text(text), ..key }
    }
}

fn read_text<T>(read: &dyn Fn(&Entry<'_>) -> Option<T>, entry: &Entry<'_>, text: &str) -> Option<T> {
    let value: Value = env_variable::value(text.to_owned());
    read(&entry.with_default(&value))
}

/// Text that `parse` understands.
pub(super) fn text<T: 'static>(parse: fn(&str) -> Result<T, InvalidValue>) -> Key<Option<T>> {
    Key::new(Shape::Text, move |entry| entry.parse(parse))
}

/// A list of texts that `parse` understands.
pub(super) fn texts<T: 'static>(parse: fn(&str) -> Result<T, InvalidValue>) -> Key<Option<Vec<T>>> {
    Key::new(Shape::List(Box::new(Shape::Text)), move |entry| entry.list_of(parse))
}

pub(super) fn boolean() -> Key<Option<bool>> {
    Key::new(Shape::Boolean, |entry| entry.boolean())
}

/// A whole number.
pub(super) fn integer<T: TryFrom<i128> + 'static>(range: RangeInclusive<u64>) -> Key<Option<T>> {
    Key::new(Shape::Integer(range.clone()), move |entry| entry.integer(range.clone()))
}

/// A number of bytes.
pub(super) fn size<T: TryFrom<i128> + 'static>(range: RangeInclusive<u64>) -> Key<Option<T>> {
    Key::new(Shape::Size(range.clone()), move |entry| entry.size(range.clone()))
}

/// A length of time.
pub(super) fn duration(range: RangeInclusive<Duration>) -> Key<Option<Duration>> {
    Key::new(Shape::Duration(range.clone()), move |entry| entry.duration(range.clone()))
}

/// A length of time in whole seconds, in which tokens count.
pub(super) fn whole_seconds(range: RangeInclusive<Duration>) -> Key<Option<Duration>> {
    Key::new(Shape::Duration(range.clone()), move |entry| entry.whole_seconds(range.clone()))
}

/// One of the words that the enum's `Deserialize` names.
pub(super) fn choice<T: DeserializeOwned + 'static>() -> Key<Option<T>> {
    Key::new(Shape::Choice(variants::<T>()), |entry| entry.choice())
}

/// The words of an enum: serde tells them where it is given none of them.
fn variants<T: DeserializeOwned>() -> &'static [&'static str] {
    match Value::String(Tag::Default, String::new()).deserialize::<T>().map_err(|error| error.kind) {
        Err(figment::error::Kind::UnknownVariant(_, known)) => known,
        _ => &[],
    }
}

/// A table of its own; one that is absent reads as an empty one.
pub(super) fn table<S: Section + 'static>() -> Key<S> {
    Key::new(Shape::Table(TableShape::of::<S>()), |entry| entry.table_or_empty().read())
}

/// A list of tables.
pub(super) fn tables<S: Section + 'static>() -> Key<Option<Vec<S>>> {
    let shape = Shape::List(Box::new(Shape::Table(TableShape::of::<S>())));
    Key::new(shape, |entry| {
        Some(entry.list()?.iter().filter_map(Entry::table).map(|table| table.read()).collect())
    })
}

/// Several keys of a table that come to one value.
pub(super) struct Flat<S, T>(fn(S, &Table<'_>) -> T);

/// The keys of `S`, standing in another table, and what they come to.
pub(super) fn flat<S: Section, T>(change: fn(S, &Table<'_>) -> T) -> Flat<S, T> {
    Flat(change)
}

impl<S: Section, T> Declared<T> for Flat<S, T> {
    fn infos(&self, _: &str, _: &str) -> Vec<KeyInfo> {
        S::keys()
    }

    fn take(&self, table: &Table<'_>, _: &str) -> T {
        (self.0)(S::read(table), table)
    }
}
