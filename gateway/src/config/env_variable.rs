//! Environment variables `AUTH_GATEWAY__SECTION__KEY=value`, one figment source per variable.

use std::collections::BTreeMap;

use figment::value::{Dict, Map, Tag, Value};
use figment::{Metadata, Profile, Provider};

use super::diagnostic::Diagnostic;
use super::report::Report;
use super::sections;
use super::source_span::SourceSpan;
use super::toml_file::parse_value;

const PREFIX: &str = "auth_gateway__";
const HELP: &str = "write AUTH_GATEWAY__SECTION__KEY, such as AUTH_GATEWAY__SERVER__LISTEN";

/// One of our variables. As figment's [`Provider`] it names the variable as the source of its value.
pub(super) struct EnvVariable {
    name: String,
    keys: Vec<String>,
    value: Value,
}

impl EnvVariable {
    /// Selects our variables, in the order of their names. Names are case-insensitive, keys become
    /// lower-case. Variables that look like ours and are not valid are reported.
    pub(super) fn pick(env: impl IntoIterator<Item = (String, String)>, report: &Report) -> Vec<Self> {
        let mut picked: BTreeMap<String, Self> = BTreeMap::new();
        for (name, text) in env {
            let folded = name.to_ascii_lowercase();
            let place = SourceSpan::Variable(name.clone());
            let Some(path) = folded.strip_prefix(PREFIX) else {
                if is_nearly_ours(&folded) && !is_of_kubernetes(&folded, &text) {
                    let message =
                        "the variable is not taken: the gateway's are named AUTH_GATEWAY__SECTION__KEY";
                    let help = nearest(&name).unwrap_or_else(|| HELP.to_owned());
                    report.push(Diagnostic::warning("variable-not-taken", message).at(place).help(help));
                }
                continue;
            };
            let keys: Vec<String> = path.split("__").map(str::to_owned).collect();
            if keys.iter().any(String::is_empty) {
                report.push(Diagnostic::error("the variable names no key").at(place).help(HELP));
                continue;
            }
            // What is not UTF-8 was replaced by this character.
            if name.contains('\u{fffd}') || text.contains('\u{fffd}') {
                let help = "write it in UTF-8; a secret of other bytes can stand in a file";
                report.push(Diagnostic::error("the variable is not UTF-8 text").at(place).help(help));
                continue;
            }
            let variable = Self { name, keys, value: value(text) };
            if let Some(other) = picked.insert(folded, variable) {
                report.push(
                    Diagnostic::error("two variables differ in upper and lower case only")
                        .at(place)
                        .related("the other one", SourceSpan::Variable(other.name))
                        .help("unset one of them"),
                );
            }
        }
        picked.into_values().collect()
    }
}

/// Names that someone may have meant for the gateway: with one underscore, or with another spelling of the
/// program's name before two.
fn is_nearly_ours(folded: &str) -> bool {
    let folded = &folded.replace(['.', '-'], "_");
    let program = folded.split("__").next().unwrap_or_default();
    let is_nested = program.len() < folded.len();
    folded.starts_with("auth_gateway_")
        || (is_nested && matches!(program.replace('_', "").as_str(), "authgateway" | "gateway" | "authgw"))
}

/// Variables that Kubernetes sets for a service named auth-gateway.
fn is_of_kubernetes(folded: &str, value: &str) -> bool {
    let marks = ["_service_host", "_service_port", "_port_"];
    marks.iter().any(|mark| folded.contains(mark)) || value.starts_with("tcp://")
}

/// The variable of a key.
pub(super) fn variable_of(path: &str) -> String {
    format!("AUTH_GATEWAY__{}", path.replace('.', "__").to_ascii_uppercase())
}

/// The variable with the most similar name, if there is one.
pub(super) fn nearest(name: &str) -> Option<String> {
    let single = |name: &str| name.to_ascii_uppercase().replace("__", "_").replace(['.', '-'], "_");
    let paths = sections::paths();
    // The operator's own name stands between two parts.
    let of_operator = paths.iter().find_map(|(path, _)| {
        let known = variable_of(path);
        let (before, behind) = known.split_once("NAME__")?;
        let given = single(name);
        let own = given.strip_prefix(&single(before))?.strip_suffix(&format!("_{behind}"))?;
        Some(format!("did you mean {before}{own}__{behind}?"))
    });
    if of_operator.is_some() {
        return of_operator;
    }
    let keys = paths.into_iter().filter(|(path, _)| !path.contains("NAME"));
    let names: Vec<String> = keys.map(|(path, _)| variable_of(&path)).collect();
    let near = names.iter().map(|known| (strsim::damerau_levenshtein(&single(known), &single(name)), known));
    let (distance, best) = near.min_by_key(|(distance, _)| *distance)?;
    (distance <= 3).then(|| format!("did you mean {best}?"))
}

impl Provider for EnvVariable {
    fn metadata(&self) -> Metadata {
        Metadata::from("environment variable", self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let nested = self.keys.iter().rev().fold(self.value.clone(), |value, key| {
            Value::Dict(Tag::Default, Dict::from([(key.clone(), value)]))
        });
        let dict = nested.into_dict().unwrap_or_default();
        Ok(Map::from([(Profile::Default, dict)]))
    }
}

/// Lists and tables are parsed as TOML at once. Everything else stays text until a key needs a number or a
/// boolean, so that a secret of digits stays text.
pub(super) fn value(text: String) -> Value {
    let looks_nested = text.trim_start().starts_with(['[', '{']);
    match looks_nested.then(|| parse_value(&text)).flatten() {
        Some(nested) => nested,
        None => Value::String(Tag::Default, text),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pick(env: &[(&str, &str)]) -> (Vec<EnvVariable>, Report) {
        let report = Report::default();
        let env = env.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        (EnvVariable::pick(env, &report), report)
    }

    #[test]
    fn the_double_underscore_nests_and_case_does_not_matter() {
        let (picked, _) = pick(&[("Auth_Gateway__Tokens__ACCESS_TTL", "5s"), ("AUTH_GATEWAY_PORT", "1")]);
        assert_eq!(picked.len(), 1);
        let data = picked[0].data().unwrap();
        let tokens = data[&Profile::Default]["tokens"].as_dict().unwrap();
        assert_eq!(tokens["access_ttl"].as_str(), Some("5s"));
    }

    #[test]
    fn lists_are_toml_and_what_only_begins_like_one_is_text() {
        assert_eq!(value("[\"a\", \"b\"]".into()).into_array().unwrap().len(), 2);
        assert_eq!(value("[a".into()).as_str(), Some("[a"));
        assert_eq!(value("12".into()).as_str(), Some("12"));
    }

    #[test]
    fn what_looks_like_one_of_ours_and_is_none_is_reported() {
        for (name, value, expected_help) in [
            ("AUTH_GATEWAY_SERVER_LISTEN", "x", Some("did you mean AUTH_GATEWAY__SERVER__LISTEN?")),
            ("AUTH_GATEWAY_TOKENS__ACESS_TTL", "x", Some("did you mean AUTH_GATEWAY__TOKENS__ACCESS_TTL?")),
            ("AUTH_GATEWAY_COLOUR", "x", Some("write AUTH_GATEWAY__SECTION__KEY")),
            ("AUTHGATEWAY__SERVER__LISTEN", "x", Some("did you mean AUTH_GATEWAY__SERVER__LISTEN?")),
            ("AUTH-GATEWAY__SERVER__LISTEN", "x", Some("did you mean AUTH_GATEWAY__SERVER__LISTEN?")),
            ("GATEWAY__TOKENS__ACCESS_TTL", "x", Some("write AUTH_GATEWAY__SECTION__KEY")),
            ("AUTH_GATEWAY.SERVER.LISTEN", "x", Some("did you mean AUTH_GATEWAY__SERVER__LISTEN?")),
            (
                "AUTH_GATEWAY_UPSTREAMS_APP_URLS",
                "x",
                Some("did you mean AUTH_GATEWAY__UPSTREAMS__APP__URLS?"),
            ),
            ("AUTH_GATEWAY_SERVICE_HOST", "10.0.0.1", None),
            ("AUTHGATEWAY_SERVICE_HOST", "10.0.0.1", None),
            ("AUTH_GATEWAY_PORT_8080_TCP_ADDR", "10.0.0.1", None),
            ("AUTH_GATEWAY_PORT", "tcp://10.0.0.1:8080", None),
            ("OTHER_GATEWAY_X", "x", None),
        ] {
            let warnings = pick(&[(name, value)]).1.finish(&[]);
            let help = warnings.iter().next().and_then(|warning| warning.help_text());
            assert_eq!(
                help.map(|help| help.starts_with(expected_help.unwrap_or("?"))),
                expected_help.map(|_| true),
                "{name}: {help:?}"
            );
        }
        let errors = pick(&[("AUTH_GATEWAY__LOG__LEVEL", "in\u{fffd}o")]).1.finish(&[]);
        assert!(errors.to_string().contains("not UTF-8"), "{errors}");
    }

    #[test]
    fn two_spellings_of_one_name_and_a_name_without_a_key_are_errors() {
        let (_, report) =
            pick(&[("AUTH_GATEWAY__A__B", "1"), ("auth_gateway__a__b", "2"), ("AUTH_GATEWAY__", "")]);
        assert_eq!(report.finish(&[]).len(), 2);
    }
}
