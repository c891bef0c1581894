//! The configured values by key, for the diff of two configurations and for the files that one names.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use figment::value::{Dict, Value};

/// The merged, unvalidated values of all configured keys. A route's keys are under its path.
#[derive(Default)]
pub(crate) struct ConfigValues(BTreeMap<String, Value>);

impl ConfigValues {
    pub(super) fn of(root: &Value) -> ConfigValues {
        let mut given = ConfigValues::default();
        if let Some(dict) = root.as_dict() {
            given.add("", dict);
        }
        given
    }

    fn add(&mut self, table: &str, dict: &Dict) {
        for (key, value) in dict {
            let name = if table.is_empty() { key.clone() } else { format!("{table}.{key}") };
            match value {
                Value::Dict(_, inner) => self.add(&name, inner),
                Value::Array(_, elements) if elements.iter().any(|e| e.as_dict().is_some()) => {
                    for element in elements {
                        self.add_element(&name, element);
                    }
                }
                _ => {
                    self.0.insert(name, value.clone());
                }
            }
        }
    }

    /// Elements are named by what they are about, for their indices change when one is inserted before them.
    fn add_element(&mut self, list: &str, element: &Value) {
        let text = |key: &str| element.as_dict()?.get(key)?.as_str();
        let about =
            ["path", "name", "claim", "certificate_file"].into_iter().find_map(text).unwrap_or_default();
        let mut name = format!("{list}[{about}]");
        while self.0.keys().any(|key| key.starts_with(&name)) {
            name.push_str("[another]");
        }
        match element.as_dict() {
            Some(dict) => self.add(&name, dict),
            None => {
                self.0.insert(name, element.clone());
            }
        }
    }

    /// The keys that were added, removed or changed.
    pub(crate) fn differences(&self, other: &ConfigValues) -> Vec<String> {
        let here = self.0.iter().filter(|(key, value)| other.0.get(*key) != Some(value));
        let there = other.0.keys().filter(|key| !self.0.contains_key(*key));
        let mut keys: Vec<String> = here.map(|(key, _)| key).chain(there).cloned().collect();
        keys.sort();
        keys
    }

    /// The files that are named by keys `x_file`, in any table, and by `previous_keys`.
    pub(super) fn files(&self) -> impl Iterator<Item = PathBuf> {
        let names_files = |key: &str| key.ends_with("_file") || key.ends_with(".previous_keys");
        let texts = |value: &Value| match value {
            Value::Array(_, elements) => {
                elements.iter().filter_map(Value::as_str).map(PathBuf::from).collect()
            }
            _ => value.as_str().map(PathBuf::from).into_iter().collect::<Vec<_>>(),
        };
        self.0.iter().filter(move |(key, _)| names_files(key)).flat_map(move |(_, value)| texts(value))
    }
}

/// Without the values, which include secrets.
impl fmt::Debug for ConfigValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn given(values: serde_json::Value) -> ConfigValues {
        ConfigValues::of(&Value::serialize(values).unwrap())
    }

    #[test]
    fn differences_name_the_keys_and_no_values() {
        let routes = json!([{"path": "/one", "roles": ["r"]}]);
        let old = given(json!({"a": {"b": 1, "secret": "hunter2"}, "routes": routes}));
        let routes = json!([{"path": "/two"}, {"path": "/one", "roles": ["s"]}]);
        let new = given(json!({"a": {"b": 2, "secret": "hunter2"}, "routes": routes}));
        let named = ["a.b", "routes[/one].roles", "routes[/two].path"];
        assert_eq!(old.differences(&new), named);
        assert_eq!(new.differences(&old), named);
        assert!(!format!("{old:?}").contains("hunter2"));
        assert!(old.differences(&old).is_empty());
    }

    #[test]
    fn elements_about_the_same_thing_are_distinguished() {
        let old = given(json!({"routes": [{"path": "/", "host": "a"}, {"path": "/", "host": "b"}]}));
        let new = given(json!({"routes": [{"path": "/", "host": "a"}, {"path": "/", "host": "c"}]}));
        assert_eq!(old.differences(&new), ["routes[/][another].host"]);
    }

    #[test]
    fn files_are_found_wherever_they_are_named() {
        let certificates = json!([{"certificate_file": "c", "private_key_file": "k"}]);
        let given = given(json!({"tls": {"certificates": certificates}, "tokens": {
            "previous_keys": ["p"], "previous_secrets_file": ["q", "r"], "secret_file": "s"}}));
        let files: Vec<_> = given.files().collect();
        assert_eq!(files, ["c", "k", "p", "q", "r", "s"].map(PathBuf::from));
    }
}
