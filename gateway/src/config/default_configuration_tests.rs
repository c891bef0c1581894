//! Tests of `config/gateway.toml`: it loads as it is, and its comments are the reference of all keys.
#![allow(clippy::unwrap_used)]

use super::sections::{needs_restart, paths};
use super::test_support::{load_files, minimal, pages};
use super::toml_file::{TomlFile, parse_value};
use super::{
    Algorithm, Diagnostics, RouteTarget, Settings, Signing, default_configuration, reference, schema,
};
use figment::Provider as _;

/// The file, with the folder and the users file that it names replaced by ones that exist where the tests
/// run.
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

/// A line with a commented-out key: the key, and whether its value differs from the default.
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

/// The generated files, and their paths.
fn kept() -> [(&'static str, &'static str, String); 3] {
    [
        ("config/gateway.toml", "default", default_configuration()),
        ("config/gateway.schema.json", "schema", format!("{:#}\n", schema())),
        ("docs/reference/configuration.md", "reference", reference()),
    ]
}

#[test]
fn the_files_made_of_the_declarations_are_as_the_declarations_make_them() {
    for (path, command, expected) in kept() {
        let kept =
            std::fs::read_to_string(format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap_or_default();
        assert!(kept == expected, "write it anew: cargo run -p auth-gateway -- config {command} > {path}");
    }
}

#[test]
fn every_key_is_described_in_the_generated_files() {
    let [(.., file), _, (.., page)] = kept();
    for (path, key) in paths() {
        let name = path.rsplit('.').next().unwrap();
        assert!(key.sentences().len() > 5, "{path} is not explained");
        let in_page =
            [format!("`{name}`"), format!("{name}]`"), format!("{name}]]`"), format!("{name}.NAME]`")];
        assert!(in_page.iter().any(|text| page.contains(text)), "{path} is not in the reference");
        // The keys of an inline table are shown by the example of the table.
        let is_inline = ["certificates.", "redirect.", "respond.", "_headers.", "users.sources."]
            .iter()
            .any(|t| path.contains(t));
        let in_file =
            [format!("{name} = "), format!("[{path}"), format!("{name}.demo]"), format!("{name}]]")];
        assert!(
            is_inline || in_file.iter().any(|text| file.contains(text)),
            "{path} is not in config/gateway.toml"
        );
        for value in key.default_toml().as_deref().into_iter().chain(key.example) {
            assert!(parse_value(value).is_some(), "{path}: {value} is not TOML");
        }
    }
}

#[test]
fn the_schema_takes_the_default_configuration_and_knows_every_table() {
    let schema = schema();
    let hsts = &schema["properties"]["server"]["properties"]["tls"]["properties"]["hsts"];
    assert_eq!((hsts["type"].as_str(), hsts["default"].as_str()), (Some("string"), Some("0s")));
    let upstream = &schema["properties"]["upstreams"]["additionalProperties"];
    assert_eq!(
        (&upstream["required"][0], &upstream["additionalProperties"]),
        (&"urls".into(), &false.into())
    );
    let route = &schema["properties"]["routes"]["items"]["properties"];
    assert_eq!(route["access"]["enum"].as_array().unwrap().len(), 3);
    assert_eq!(schema["properties"]["tokens"]["properties"]["secret"]["writeOnly"], true);
}

/// Whether the schema refuses a value for its keys or its types.
fn refuses(schema: &serde_json::Value, value: &serde_json::Value) -> bool {
    use serde_json::Value;
    let lacks = |required: &Value| {
        required
            .as_array()
            .is_some_and(|keys| keys.iter().filter_map(Value::as_str).any(|key| value.get(key).is_none()))
    };
    let dependent = schema["dependentRequired"].as_object().into_iter().flatten();
    let lacks_more = dependent.filter(|(key, _)| value.get(key).is_some()).any(|(_, keys)| lacks(keys));
    let below = |(key, inner): (&String, &Value)| match schema["properties"].get(key) {
        Some(known) => refuses(known, inner),
        None => schema["additionalProperties"] == false || refuses(&schema["additionalProperties"], inner),
    };
    lacks(&schema["required"])
        || lacks_more
        || value.as_object().is_some_and(|object| object.iter().any(below))
        || value.as_array().is_some_and(|list| list.iter().any(|element| refuses(&schema["items"], element)))
}

#[test]
fn the_schema_takes_what_is_printed_and_refuses_what_lacks_a_key() {
    let schema = schema();
    let json = |toml: &str| serde_json::to_value(parse_value(&format!("{{ {toml} }}")).unwrap()).unwrap();
    let printed = TomlFile::parse("a.toml".into(), default_configuration(), 0).unwrap().data().unwrap();
    let printed = serde_json::to_value(&printed[&figment::Profile::Default]).unwrap();
    assert!(!refuses(&schema, &printed));
    for (toml, is_refused) in [
        ("tokens = { migrate_from = {} }", false),
        ("tokens = { migrate_from = { algorithm = \"HS256\" } }", false),
        ("tokens = { migrate_from = { secret_file = \"a\" } }", true),
        ("upstreams = { a = {} }", true),
        ("routes = [{ upstream = \"a\" }]", true),
        ("issuers = [{ name = \"a\" }]", true),
        ("users = { ldap = { url = \"ldaps://a\" } }", true),
        ("users = { ldap = { url = \"ldaps://a\", base = \"dc=a\" } }", false),
        ("server = { lisen = \"a\" }", true),
    ] {
        assert_eq!(refuses(&schema, &json(toml)), is_refused, "{toml}");
    }
}

/// What stands in a page may leave out a route or name files of the reader's; keys and values have to be right.
#[test]
fn every_configuration_in_the_pages_has_known_keys_and_good_values() {
    let (mut count, mut found) = (0, Vec::new());
    for (name, page) in pages() {
        let blocks = page.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix("toml\n"));
        // Without users files, files for branding, and keys alone.
        let has_table = |block: &&str| {
            block.lines().find(|line| !line.starts_with('#')).is_some_and(|line| line.starts_with('['))
        };
        for block in blocks.filter(|block| has_table(block) && !block.contains("[[users]]")) {
            count += 1;
            let base = minimal() + "[tokens]\ndpop = \"optional\"\n";
            let Err(errors) = load_files(&[("a.toml", &base), ("b.toml", block)], &[]).0 else { continue };
            for error in &errors {
                let wrong =
                    ["unknown key", "not valid TOML", "expected ", "unknown value", "must be ", "is not "];
                let is_wrong = wrong.iter().any(|wrong| error.message().contains(wrong));
                found.extend(is_wrong.then(|| format!("{name}:\n{error}\n{block}")));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(count > 40, "only {count} configurations found");
}

/// The text below `key: |` in YAML, without its indent.
fn block_of_yaml(text: &str, key: &str) -> String {
    let (_, below) = text.split_once(&format!("{key}: |\n")).unwrap();
    let indent = below.len() - below.trim_start().len();
    let is_inside = |line: &&str| line.trim().is_empty() || line.len() - line.trim_start().len() >= indent;
    let lines = below.lines().take_while(is_inside).map(|line| line.get(indent..).unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// Those of `config/examples` are started by the integration tests, each with its proxy.
#[test]
fn the_configurations_of_packages_and_containers_load_without_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    for (file, content) in [("users.toml", ""), ("signing-key.pem", "key"), ("redis", "secret")] {
        std::fs::write(dir.path().join(file), content).unwrap();
    }
    let read = |path: &str| {
        std::fs::read_to_string(format!("{}/../config/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    };
    for (name, text) in [
        ("package", read("packaging/gateway.toml")),
        ("compose", read("compose/gateway.toml")),
        ("kubernetes", block_of_yaml(&read("kubernetes/auth-gateway.yaml"), "gateway.toml")),
        ("helm", block_of_yaml(&read("helm/auth-gateway/values.yaml"), "configuration")),
    ] {
        let folder = format!("\"{}/", dir.path().display());
        let folders = ["\"/run/secrets/auth-gateway/", "\"/run/secrets/", "\"/var/lib/auth-gateway/"];
        let text = folders.iter().fold(text, |text, there| text.replace(there, &folder));
        let loaded = load_files(&[("gateway.toml", &text)], &[]).0;
        let loaded = loaded.unwrap_or_else(|errors| panic!("{name}: {errors}"));
        assert!(loaded.warnings.is_empty(), "{name}: {}", loaded.warnings);
    }
}

#[test]
fn what_needs_a_restart_is_what_is_opened_once() {
    let top: Vec<String> = paths().into_iter().filter(|(_, key)| key.restart).map(|(path, _)| path).collect();
    let known = ["admin", "store", "throttle", "log", "reload"];
    let others: Vec<&String> =
        top.iter().filter(|path| !known.iter().any(|t| path.split('.').next() == Some(t))).collect();
    assert_eq!(
        others,
        [
            "server.listen",
            "server.workers",
            "server.redirect_listen",
            "limits.hash_queue",
            "limits.hash_threads",
            "audit.target",
            "audit.file",
            "audit.syslog_socket",
            "audit.journald_socket",
            "tracing.otlp",
            "tracing.otlp.endpoint",
            "tracing.otlp.headers_file",
            "tracing.otlp.headers",
            "tracing.otlp.ca_file",
            "tracing.otlp.service_name",
            "tracing.otlp.queue",
        ]
    );
    assert!(needs_restart("store.redis.url") && !needs_restart("tokens.access_ttl"));
}
