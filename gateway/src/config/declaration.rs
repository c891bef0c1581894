//! Declarations of configuration keys: type with unit and range, default, description, example, and whether
//! it is a secret or needs a restart.
//!
//! [`section!`] generates from the declarations of a table the struct with its values, the function that
//! reads them, and the list of [`KeyInfo`] that everything else derives from: errors for unknown keys, the
//! JSON schema, the reference, the names of environment variables, and what needs a restart.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use figment::value::{Tag, Value};
use serde::de::DeserializeOwned;

use super::entry::{Entry, InvalidValue};
use super::env_variable;
use super::sections::warn_of_readers;
use super::table::Table;

/// The declaration of a key.
#[derive(Debug, Clone)]
pub(crate) struct KeyInfo {
    pub(crate) name: String,
    /// Its description; the lines of the declaration's comment.
    pub(crate) about: String,
    pub(crate) shape: Shape,
    pub(crate) default: Fallback,
    /// An example where the default says too little, in TOML.
    pub(crate) example: Option<&'static str>,
    /// Whether its value is a secret, and never printed.
    pub(crate) secret: bool,
    /// Whether a change takes effect only after a restart.
    pub(crate) restart: bool,
    /// How to set it, if it is required.
    pub(crate) required: Option<&'static str>,
}

/// The default of a key.
#[derive(Debug, Clone)]
pub(crate) enum Fallback {
    /// None, or as its description explains.
    None,
    /// This text, parsed like a value from the environment.
    Text(&'static str),
    /// A computed value, described in words.
    Computed(&'static str),
}

/// The type of a key's value.
#[derive(Debug, Clone)]
pub(crate) enum Shape {
    Text,
    Boolean,
    /// One of these words.
    Choice(&'static [&'static str]),
    Integer(RangeInclusive<u64>),
    /// A number from 0 to 1.
    Ratio,
    /// A size in bytes.
    Size(RangeInclusive<u64>),
    Duration(RangeInclusive<Duration>),
    List(Box<Shape>),
    /// A table with these keys.
    Table(TableShape),
    /// A table whose keys are chosen by the operator, with values of this shape.
    Map(Box<Shape>),
    /// A table with these keys, and others chosen by the operator with values of this shape.
    Names(TableShape, Box<Shape>),
    /// Text, a table with these keys, or a list of either; the name is that of its definition in the schema.
    TextOrTable(&'static str, TableShape),
    /// Text, a whole number, a boolean or a list of them.
    Any,
    /// Any value.
    Json,
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
    /// The table that this is, or contains.
    pub(crate) fn table(&self) -> Option<TableShape> {
        match self {
            Shape::Table(table) | Shape::Names(table, _) => Some(*table),
            Shape::List(inner) | Shape::Map(inner) => inner.table(),
            _ => None,
        }
    }
}

/// A table with declared keys.
pub(crate) trait Section: Sized {
    /// The table's description.
    const ABOUT: &'static str;

    /// Its keys.
    fn keys() -> Vec<KeyInfo>;

    /// Reads its values; invalid ones are reported and replaced by their default.
    fn read(table: &Table<'_>) -> Self;
}

/// Declares the keys of a table: `NAME: TYPE = KEY;`, where the comment above describes the key.
macro_rules! section {
    ($(#[doc = $about:literal])+ $(#[derive($($derive:ident),+)])? $visibility:vis struct $section:ident {
        $($(#[doc = $doc:literal])+ $key:ident: $type:ty = $declared:expr;)*
    }) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq, Eq $($(, $derive)+)?)]
        $visibility struct $section {
            $($(#[doc = $doc])+ $visibility $key: $type,)*
        }

        impl $crate::config::declaration::Section for $section {
            const ABOUT: &'static str = concat!($($about, "\n"),+);

            fn keys() -> Vec<$crate::config::declaration::KeyInfo> {
                use $crate::config::declaration::{Declared, declared};
                [$(Declared::<$type>::infos(&declared::<$type, _>($declared), stringify!($key), concat!($($doc, "\n"),+))),*].concat()
            }

            fn read(table: &$crate::config::table::Table<'_>) -> Self {
                use $crate::config::declaration::{Declared, declared};
                Self { $($key: Declared::<$type>::take(&declared::<$type, _>($declared), table, stringify!($key)),)* }
            }
        }
    };
}
pub(super) use section;

/// The declaration of a field: one key, or several.
pub(super) trait Declared<T> {
    /// The keys, for a field of this name with this comment.
    fn infos(&self, field: &str, about: &str) -> Vec<KeyInfo>;

    /// Reads the field's value from a table.
    fn take(&self, table: &Table<'_>, field: &str) -> T;
}

/// Helps type inference.
pub(super) fn declared<T, D: Declared<T>>(declared: D) -> D {
    declared
}

/// Where a key counts, by the other keys of its table, and why it has no effect elsewhere.
type Condition = (fn(&Table<'_>) -> bool, &'static str);

/// A key: its declaration, and how it is read.
pub(super) struct Key<T> {
    info: KeyInfo,
    condition: Option<Condition>,
    read: Box<dyn Fn(&Entry<'_>) -> T>,
}

impl<T: 'static> Key<T> {
    pub(super) fn new(shape: Shape, read: impl Fn(&Entry<'_>) -> T + 'static) -> Key<T> {
        let (name, about) = (String::new(), String::new());
        let info = KeyInfo {
            name,
            about,
            shape,
            default: Fallback::None,
            example: None,
            secret: false,
            restart: false,
            required: None,
        };
        Key { info, condition: None, read: Box::new(read) }
    }

    fn with(mut self, change: impl FnOnce(&mut KeyInfo)) -> Key<T> {
        change(&mut self.info);
        self
    }

    /// Sets an example, in TOML.
    pub(super) fn example(self, example: &'static str) -> Key<T> {
        self.with(|info| info.example = Some(example))
    }

    /// Marks a secret, whose value is never printed.
    pub(super) fn secret(self) -> Key<T> {
        self.with(|info| info.secret = true)
    }

    /// Marks the name of a file with a secret, or a list of them: a file that others may read is warned about.
    pub(super) fn secret_file(self) -> Key<T> {
        self.then(|read| {
            Box::new(move |entry| {
                warn_of_readers(entry);
                read(entry)
            })
        })
    }

    /// Marks a key whose change takes effect only after a restart.
    pub(super) fn restart(self) -> Key<T> {
        self.with(|info| info.restart = true)
    }

    /// Sets the default of a key that is read elsewhere.
    pub(super) fn standard(self, text: &'static str) -> Key<T> {
        self.with(|info| info.default = Fallback::Text(text))
    }

    /// Sets a more precise shape than the reader implies.
    pub(super) fn shape(self, shape: Shape) -> Key<T> {
        self.with(|info| info.shape = shape)
    }

    /// Describes the fallback in words.
    pub(super) fn fallback(self, words: &'static str) -> Key<T> {
        self.with(|info| info.default = Fallback::Computed(words))
    }

    /// Sets the key's name where it differs from the field's.
    pub(super) fn named(self, name: &str) -> Key<T> {
        self.with(|info| info.name = name.to_owned())
    }

    /// Makes the key required; `help` explains how to set it.
    pub(super) fn required(self, help: &'static str) -> Key<T> {
        self.with(|info| info.required = Some(help))
    }

    /// Warns that the key has no effect, because of `why`, where the other keys of its table do not make it count.
    pub(super) fn only_where(self, counts: fn(&Table<'_>) -> bool, why: &'static str) -> Key<T> {
        Key { condition: Some((counts, why)), ..self }
    }

    /// Warns of a table without this key that it has no effect.
    pub(super) fn only_with(self, key: &'static str) -> Key<T> {
        self.then(|read| {
            Box::new(move |entry| {
                if entry.is_set() && !entry.table_or_empty().entry(key).is_given() {
                    entry.no_effect(format!("`{key}` is missing in it"));
                }
                read(entry)
            })
        })
    }

    /// Converts the value, given its place.
    pub(super) fn into<U: 'static>(self, change: fn(T, &Entry<'_>) -> U) -> Key<U> {
        self.then(|read| Box::new(move |entry| change(read(entry), entry)))
    }

    fn then<U>(self, read: impl Fn(Box<dyn Fn(&Entry<'_>) -> T>) -> Box<dyn Fn(&Entry<'_>) -> U>) -> Key<U> {
        Key { info: self.info, condition: self.condition, read: read(self.read) }
    }

    /// `static` cannot be the name of a field; `r#static` can.
    fn key_name<'n>(&'n self, field: &'n str) -> &'n str {
        let field = field.strip_prefix("r#").unwrap_or(field);
        if self.info.name.is_empty() { field } else { &self.info.name }
    }
}

impl<T: 'static> Declared<T> for Key<T> {
    fn infos(&self, field: &str, about: &str) -> Vec<KeyInfo> {
        let (name, about) = (self.key_name(field).to_owned(), about.to_owned());
        vec![KeyInfo { name, about, ..self.info.clone() }]
    }

    fn take(&self, table: &Table<'_>, field: &str) -> T {
        let entry = table.entry(self.key_name(field));
        let unmet = self.condition.filter(|(counts, _)| !counts(table));
        let entry = if unmet.is_some() { entry.unused() } else { entry };
        let is_off = matches!(self.info.default, Fallback::Text("false")) && !entry.is_on();
        if let Some((_, why)) = unmet
            && entry.is_set()
            && !is_off
        {
            entry.no_effect(why);
        }
        if let Some(help) = self.info.required {
            entry.require(help);
        }
        (self.read)(&entry)
    }
}

impl<T: 'static> Key<Option<Vec<T>>> {
    /// Refuses a list without elements.
    pub(super) fn not_empty(self, why: &'static str, help: &'static str) -> Key<Option<Vec<T>>> {
        self.then(|read| {
            Box::new(move |entry| {
                if entry.list_is_empty() {
                    entry.error(why, help);
                }
                read(entry)
            })
        })
    }
}

impl<T: 'static> Key<Option<T>> {
    /// Sets the default of a value that is absent or invalid.
    pub(super) fn default(self, text: &'static str) -> Key<T> {
        let key = self.then(|read| {
            Box::new(move |entry| {
                read(entry)
                    .or_else(|| read_text(&read, entry, text))
                    .unwrap_or_else(|| unreachable!("the default of `{}` is not one: {text}", entry.name()))
            })
        });
        key.standard(text)
    }

    /// Sets a computed default, described in `words`.
    pub(super) fn or(self, words: &'static str, find: fn() -> T) -> Key<T> {
        self.then(|read| Box::new(move |entry| read(entry).unwrap_or_else(find))).fallback(words)
    }

    pub(super) fn map<U: 'static>(self, change: fn(T) -> U) -> Key<Option<U>> {
        self.then(|read| Box::new(move |entry| read(entry).map(change)))
    }

    /// Adds a check of the value.
    pub(super) fn check(self, check: fn(&T, &Entry<'_>)) -> Key<Option<T>> {
        self.then(|read| Box::new(move |entry| read(entry).inspect(|value| check(value, entry))))
    }
}

impl<T: Default + 'static> Key<Option<T>> {
    /// Defaults to an empty list or text.
    pub(super) fn or_empty(self) -> Key<T> {
        let text = if matches!(self.info.shape, Shape::List(_)) { "[]" } else { "" };
        self.then(|read| Box::new(move |entry| read(entry).unwrap_or_default())).standard(text)
    }
}

fn read_text<T>(read: &dyn Fn(&Entry<'_>) -> Option<T>, entry: &Entry<'_>, text: &str) -> Option<T> {
    let value: Value = env_variable::value(text.to_owned());
    read(&entry.with_default(&value))
}

/// Text that `parse` accepts.
pub(super) fn text<T: 'static>(parse: fn(&str) -> Result<T, InvalidValue>) -> Key<Option<T>> {
    Key::new(Shape::Text, move |entry| entry.parse(parse))
}

/// A list of texts that `parse` accepts.
pub(super) fn texts<T: 'static>(parse: fn(&str) -> Result<T, InvalidValue>) -> Key<Option<Vec<T>>> {
    Key::new(Shape::List(Box::new(Shape::Text)), move |entry| entry.list_of(parse))
}

pub(super) fn boolean() -> Key<Option<bool>> {
    Key::new(Shape::Boolean, |entry| entry.boolean())
}

/// An integer.
pub(super) fn integer<T: TryFrom<i128> + 'static>(range: RangeInclusive<u64>) -> Key<Option<T>> {
    Key::new(Shape::Integer(range.clone()), move |entry| entry.integer(range.clone()))
}

/// A number from 0 to 1, as a share of `u64::MAX`.
pub(super) fn ratio() -> Key<Option<u64>> {
    Key::new(Shape::Ratio, |entry| entry.ratio())
}

/// A size in bytes.
pub(super) fn size<T: TryFrom<i128> + 'static>(range: RangeInclusive<u64>) -> Key<Option<T>> {
    Key::new(Shape::Size(range.clone()), move |entry| entry.size(range.clone()))
}

/// A duration.
pub(super) fn duration(range: RangeInclusive<Duration>) -> Key<Option<Duration>> {
    Key::new(Shape::Duration(range.clone()), move |entry| entry.duration(range.clone()))
}

/// A duration in whole seconds, the unit of tokens.
pub(super) fn whole_seconds(range: RangeInclusive<Duration>) -> Key<Option<Duration>> {
    Key::new(Shape::Duration(range.clone()), move |entry| entry.whole_seconds(range.clone()))
}

/// One of the words that the enum's `Deserialize` accepts.
pub(super) fn choice<T: DeserializeOwned + 'static>() -> Key<Option<T>> {
    Key::new(Shape::Choice(variants::<T>()), |entry| entry.choice())
}

/// The words of an enum, from serde's error for an unknown one.
pub(super) fn variants<T: DeserializeOwned>() -> &'static [&'static str] {
    match Value::String(Tag::Default, String::new()).deserialize::<T>().map_err(|error| error.kind) {
        Err(figment::error::Kind::UnknownVariant(_, known)) => known,
        _ => &[],
    }
}

/// What a table without keys reads as.
pub(super) fn defaults<S: Section>() -> S {
    let (figment, report) = (figment::Figment::new(), super::report::Report::default());
    let root = Value::Dict(Tag::Default, figment::value::Dict::new());
    let merged = super::table::MergedConfig { figment, files: &[], report: &report, root: &root };
    S::read(&Table::new(&merged, Vec::new(), None, true))
}

/// A sub-table; an absent one reads as empty.
pub(super) fn table<S: Section + 'static>() -> Key<S> {
    Key::new(Shape::Table(TableShape::of::<S>()), |entry| entry.table_or_empty().read())
}

/// A sub-table whose keys count only beside the first of them; `None` where that is not given.
pub(super) fn group_table<S: Section + 'static>() -> Key<Option<S>> {
    Key::new(Shape::Table(TableShape::of::<S>()), |entry| {
        let (keys, table) = (S::keys(), entry.table_or_empty());
        let section = table.read();
        table.needs(&keys[0].name, &keys[1..]).then_some(section)
    })
}

/// A sub-table, `None` where it is absent. The error for another type shows the `example`.
pub(super) fn optional_table<S: Section + 'static>(example: &'static str) -> Key<Option<S>> {
    Key::new(Shape::Table(TableShape::of::<S>()), move |entry| {
        let table = entry.is_given().then(|| entry.table_like(example)).flatten()?;
        Some(table.read())
    })
}

/// A table whose keys are chosen by the operator; `read` reads each value by its key, and reports an invalid one. The error for
/// another type shows the `example`.
pub(super) fn map<T: 'static>(
    shape: Shape,
    example: &'static str,
    read: fn(&str, &Entry<'_>) -> Option<T>,
) -> Key<Option<BTreeMap<String, T>>> {
    Key::new(Shape::Map(Box::new(shape)), move |entry| {
        let table = entry.is_given().then(|| entry.table_like(example)).flatten()?;
        let entries = table.entries().into_iter();
        Some(entries.filter_map(|(name, entry)| read(&name, &entry).map(|value| (name, value))).collect())
    })
    .example(example)
}

/// A list of tables.
pub(super) fn tables<S: Section + 'static>() -> Key<Option<Vec<S>>> {
    let shape = Shape::List(Box::new(Shape::Table(TableShape::of::<S>())));
    Key::new(shape, |entry| {
        Some(entry.list()?.iter().filter_map(Entry::table).map(|table| table.read()).collect())
    })
}

/// Several keys of a table that form one value.
pub(super) struct Flat<S, T>(fn(S, &Table<'_>) -> T);

/// The keys of `S`, inlined in another table, and the value they form.
pub(super) fn flat<S: Section, T>(change: fn(S, &Table<'_>) -> T) -> Flat<S, T> {
    Flat(change)
}

/// The keys of `S`, inlined in another table.
pub(super) fn inline<S: Section>() -> Flat<S, S> {
    Flat(|keys, _| keys)
}

impl<S: Section, T> Declared<T> for Flat<S, T> {
    fn infos(&self, _: &str, _: &str) -> Vec<KeyInfo> {
        S::keys()
    }

    fn take(&self, table: &Table<'_>, _: &str) -> T {
        (self.0)(S::read(table), table)
    }
}

/// A value that may be absent or invalid.
pub(super) struct OrDefault<D>(D);

/// The default of its type stands for a value that is absent or invalid; what makes it required is up to it.
pub(super) fn or_default<D>(declared: D) -> OrDefault<D> {
    OrDefault(declared)
}

impl<T: Default, D: Declared<Option<T>>> Declared<T> for OrDefault<D> {
    fn infos(&self, field: &str, about: &str) -> Vec<KeyInfo> {
        Declared::<Option<T>>::infos(&self.0, field, about)
    }

    fn take(&self, table: &Table<'_>, field: &str) -> T {
        Declared::<Option<T>>::take(&self.0, table, field).unwrap_or_default()
    }
}

/// Keys of a table that count only beside the first of them.
pub(super) struct Group<S>(std::marker::PhantomData<S>);

/// The keys of `S`, inlined in another table; `None` where the first of them is not given.
pub(super) fn group<S: Section>() -> Group<S> {
    Group(std::marker::PhantomData)
}

impl<S: Section> Declared<Option<S>> for Group<S> {
    fn infos(&self, _: &str, _: &str) -> Vec<KeyInfo> {
        S::keys()
    }

    fn take(&self, table: &Table<'_>, _: &str) -> Option<S> {
        let keys = S::keys();
        table.needs(&keys[0].name, &keys[1..]).then(|| S::read(table))
    }
}
