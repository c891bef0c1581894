//! Holds `config/gateway.toml` to its word: it loads as it is, and its comments are the reference of all keys.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use super::test_support::load_files;
use super::{Algorithm, Diagnostics, RouteTarget, Settings, Signing};

/// The file, with the folder and the users file that it names replaced by ones that exist where the tests run.
fn text() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/gateway.toml");
    let text = std::fs::read_to_string(path).unwrap();
    for named in ["static = \"spa\"", "file = \"config/users.toml\""] {
        assert_eq!(text.matches(named).count(), 1, "{named}");
    }
    text.replace("static = \"spa\"", "static = \"src\"")
        .replace("file = \"config/users.toml\"", "file = \"Cargo.toml\"")
}

fn load(text: &str) -> Result<Settings, Diagnostics> {
    load_files(&[("gateway.toml", text)], &[]).0.map(|loaded| loaded.settings)
}

/// A line that is a key which is commented out: the key, and whether its value is not the default.
fn commented_key(line: &str) -> Option<(&str, bool)> {
    let (key, value) = line.strip_prefix("# ")?.split_once(" = ")?;
    key.chars().all(|c| c.is_ascii_lowercase() || c == '_').then(|| (key, value.ends_with("# example")))
}

#[test]
fn the_default_configuration_runs_the_demo_without_a_warning() {
    let loaded = load_files(&[("gateway.toml", &text())], &[]).0.unwrap_or_else(|e| panic!("{e}"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let settings = loaded.settings;
    assert_eq!(settings.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(settings.tokens.audience, "demo");
    assert!(matches!(settings.tokens.signing, Signing::Kept { algorithm: Algorithm::EdDSA, .. }));
    assert_eq!(settings.upstreams["demo"].urls[0].to_string(), "http://127.0.0.1:9000");
    let paths: Vec<&str> = settings.routes.iter().map(|route| route.path.as_str()).collect();
    assert_eq!(paths, ["/protected", "/"]);
    assert!(matches!(settings.routes[1].target, RouteTarget::Static { .. }));
}

#[test]
fn every_commented_key_exists_and_shows_its_default() {
    let text = text();
    let before = format!("{:?}", load(&text).unwrap());
    let lines: Vec<&str> = text.lines().collect();
    let mut seen = 0;
    for (number, line) in lines.iter().enumerate() {
        let Some((key, is_example)) = commented_key(line) else { continue };
        seen += 1;
        let mut changed = lines.clone();
        changed[number] = &line[2..];
        match load(&changed.join("\n")) {
            Ok(settings) if !is_example => assert_eq!(format!("{settings:?}"), before, "{key}"),
            Ok(_) => {}
            Err(errors) => {
                assert!(is_example, "{key}:\n{errors}");
                assert!(!errors.to_string().contains("unknown key"), "{key}:\n{errors}");
            }
        }
    }
    assert!(seen > 30, "only {seen} commented keys found");
}

#[test]
fn every_key_that_is_known_stands_in_the_reference() {
    let text = text();
    let headers: BTreeSet<&str> = text.lines().filter(|line| line.starts_with('[')).collect();
    for header in &headers {
        let section: BTreeSet<&str> = text
            .split_once(&format!("\n{header}\n"))
            .map(|(_, rest)| rest)
            .unwrap()
            .lines()
            .take_while(|line| !line.starts_with('[') || line == header)
            .filter_map(|line| line.strip_prefix("# ").unwrap_or(line).split_once(" = "))
            .map(|(key, _)| key)
            .collect();
        if *header == "[identity_headers]" {
            continue; // Its keys are claims, every one is accepted.
        }
        let with_unknown =
            text.replacen(&format!("\n{header}\n"), &format!("\n{header}\nqqqqqqqqqqqq = 1\n"), 1);
        let errors = load(&with_unknown).unwrap_err();
        let help = errors.iter().next().and_then(|error| error.help_text()).unwrap().to_owned();
        let known = help.strip_prefix("known keys here: ").unwrap();
        for key in known.split(", ") {
            let section_of_its_own = format!("[{}.{key}]", header.trim_matches(['[', ']']));
            assert!(
                section.contains(key) || headers.contains(section_of_its_own.as_str()),
                "{key} is not in {header} of config/gateway.toml"
            );
        }
    }
    let errors = load(&format!("qqqqqqqqqqqq = 1\n{text}")).unwrap_err();
    let help = errors.iter().next().and_then(|error| error.help_text()).unwrap().to_owned();
    for section in help.strip_prefix("known keys here: ").unwrap().split(", ") {
        let is_documented =
            headers.iter().any(|h| h.trim_matches(['[', ']']).split('.').next() == Some(section));
        assert!(is_documented, "{section} is not in config/gateway.toml");
    }
}
