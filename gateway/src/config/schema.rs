//! Generates the configuration's JSON schema (draft 2020-12), for editors, from the declarations.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::declaration::{Fallback, KeyInfo, Section, Shape};
use super::entry::format_duration;
use super::sections::Settings;
use super::toml_file::parse_value;

/// The syntax of humantime: numbers with units, one after the other.
const DURATION: &str = r"^\s*(\d+\s*(ns|nsec|us|usec|ms|msec|millis|s|sec|secs|second|seconds|m|min|mins|minute|minutes|h|hr|hrs|hour|hours|d|day|days|w|wk|wks|week|weeks|M|month|months|y|yr|yrs|year|years)\s*)+$";
const SIZE: &str = r"^\s*\d+\s*(B|kB|KB|KiB|MB|MiB|GB|GiB)\s*$";

/// The schema of a configuration file.
pub fn schema() -> Value {
    let mut schema = table(&Settings::keys());
    let head = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The configuration of auth-gateway",
    });
    let mut definitions = Map::new();
    Settings::keys().iter().for_each(|key| define(&key.shape, &mut definitions));
    schema.insert("$defs".to_owned(), Value::Object(definitions));
    for (key, value) in head.as_object().into_iter().flatten() {
        schema.insert(key.clone(), value.clone());
    }
    Value::Object(schema)
}

/// Adds what a shape, and the shapes below it, refer to.
fn define(shape: &Shape, definitions: &mut Map<String, Value>) {
    if let Shape::TextOrTable(name, inner) = shape
        && !definitions.contains_key(*name)
    {
        let one = json!([{"type": "string"}, table(&(inner.keys)())]);
        let list = json!({"type": "array", "items": {"anyOf": one}, "minItems": 1});
        definitions.insert((*name).to_owned(), json!({"anyOf": [one[0], one[1], list]}));
    }
    match shape {
        Shape::List(inner) | Shape::Map(inner) => define(inner, definitions),
        Shape::Table(inner) => (inner.keys)().iter().for_each(|key| define(&key.shape, definitions)),
        Shape::Names(inner, more) => {
            (inner.keys)().iter().for_each(|key| define(&key.shape, definitions));
            define(more, definitions);
        }
        _ => {}
    }
}

fn table(keys: &[KeyInfo]) -> Map<String, Value> {
    let properties: Map<String, Value> =
        keys.iter().map(|key| (key.name.clone(), Value::Object(property(key)))).collect();
    let required: Vec<&str> =
        keys.iter().filter(|key| key.required.is_some()).map(|key| key.name.as_str()).collect();
    let mut schema = object(json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    }));
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    schema
}

fn property(key: &KeyInfo) -> Map<String, Value> {
    let mut schema = of_shape(&key.shape);
    let mut about = key.sentences();
    if let Fallback::Computed(words) = key.default {
        about.push_str(&format!(" Default: {words}."));
    }
    if key.restart {
        about.push_str(" A change takes effect after a restart.");
    }
    schema.insert("description".to_owned(), json!(about));
    if let Some(default) = key.default_toml().and_then(|text| in_json(&text)) {
        schema.insert("default".to_owned(), default);
    }
    if let Some(example) = key.example.filter(|_| !key.secret).and_then(in_json) {
        schema.insert("examples".to_owned(), json!([example]));
    }
    if key.secret {
        schema.insert("writeOnly".to_owned(), json!(true));
    }
    schema
}

/// A TOML value as JSON.
fn in_json(toml: &str) -> Option<Value> {
    serde_json::to_value(parse_value(toml)?).ok()
}

fn of_shape(shape: &Shape) -> Map<String, Value> {
    let text = |pattern: &str| json!({"type": "string", "pattern": pattern});
    let whole = |range: &std::ops::RangeInclusive<u64>| json!({"type": "integer", "minimum": range.start(), "maximum": range.end()});
    match shape {
        Shape::Text => object(json!({"type": "string"})),
        Shape::Boolean => object(json!({"type": "boolean"})),
        Shape::Choice(words) => object(json!({"type": "string", "enum": words})),
        Shape::Integer(range) => object(whole(range)),
        Shape::Ratio => object(json!({"type": "number", "minimum": 0, "maximum": 1})),
        Shape::Size(range) => object(json!({"anyOf": [whole(range), text(SIZE)]})),
        Shape::Duration(_) => object(text(DURATION)),
        Shape::List(inner) => object(json!({"type": "array", "items": of_element(inner)})),
        Shape::Table(shape) => {
            let keys = (shape.keys)();
            let mut schema = table(&keys);
            // Headers without keys, as in the printed configuration, say nothing.
            if let Some(required) = schema.remove("required") {
                let plain = keys.iter().filter(|key| !matches!(key.shape, Shape::Table(_)));
                let dependent: Map<_, _> = plain.map(|key| (key.name.clone(), required.clone())).collect();
                schema.insert("dependentRequired".to_owned(), Value::Object(dependent));
            }
            schema
        }
        Shape::Map(inner) => object(json!({"type": "object", "additionalProperties": of_element(inner)})),
        Shape::Names(shape, inner) => {
            let mut schema = table(&(shape.keys)());
            schema.insert("additionalProperties".to_owned(), Value::Object(of_shape(inner)));
            schema
        }
        Shape::TextOrTable(name, _) => object(json!({"$ref": format!("#/$defs/{name}")})),
        Shape::Json => Map::new(),
        Shape::Any => {
            let one = json!([{"type": "string"}, {"type": "integer"}, {"type": "boolean"}]);
            object(
                json!({"anyOf": [{"type": "array", "items": {"anyOf": one}, "minItems": 1}, one[0], one[1], one[2]]}),
            )
        }
    }
}

/// An element of a list, or of a table of names.
fn of_element(shape: &Shape) -> Map<String, Value> {
    match shape {
        Shape::Table(shape) => table(&(shape.keys)()),
        _ => of_shape(shape),
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

/// A range of durations in words, where it has an upper bound that can be written.
pub(super) fn duration_range(range: &std::ops::RangeInclusive<Duration>) -> String {
    let most = format_duration(*range.end());
    match *range.start() {
        start if start <= Duration::from_nanos(1) => format!("up to {most}"),
        start => format!("{} to {most}", format_duration(start)),
    }
}
