//! Mistakes of operators: none is silent, and each error names its place and its remedy.
#![allow(clippy::unwrap_used)]

use super::test_support::load_files;
use super::{Diagnostic, Severity};

const GOOD: &str = r#"[server]
listen = "127.0.0.1:8080"
[admin]
listen = "127.0.0.1:9090"
[tokens]
issuer = "http://127.0.0.1:8080"
audience = "app"
[users]
file = "Cargo.toml"
[upstreams.app]
urls = ["http://127.0.0.1:3000"]
[[routes]]
path = "/api"
upstream = "app"
"#;

/// A line of [`GOOD`], what stands there by mistake, and a part of the remedy. An empty remedy is for messages
/// that have it in them, such as a range.
const MISTAKES: &[(&str, &str, &str)] = &[
    // Types and units.
    ("audience = \"app\"", "access_ttl = 60", "\"60s\" for seconds"),
    ("audience = \"app\"", "access_ttl = \"60\"", "\"60s\" for seconds"),
    ("audience = \"app\"", "access_ttl = 60.0", "\"60s\" for seconds"),
    ("audience = \"app\"", "access_ttl = \"-5s\"", "write it like \"500ms\""),
    ("audience = \"app\"", "access_ttl = \"500ms\"", "access_ttl = \"1s\""),
    ("audience = \"app\"", "access_ttl = \"0s\"", "access_ttl = \"1s\""),
    ("audience = \"app\"", "access_ttl = \"1M\"", "access_ttl = \"1m\""),
    ("audience = \"app\"", "access_ttl = \"PT1M\"", "write it like"),
    ("audience = \"app\"", "access_ttl = true", "write it like"),
    ("audience = \"app\"", "access_ttl = 00:01:00", "write it like"),
    ("audience = \"app\"", "access_ttl = [\"60s\"]", "write it like"),
    ("audience = \"app\"", "access_ttl = \"20m\"\nrefresh_ttl = \"10m\"", "make access_ttl shorter"),
    ("audience = \"app\"", "refresh_ttl = \"10y\"", "refresh_ttl = \"365d\""),
    ("audience = \"app\"", "audience = [\"app\"]", "without brackets: audience = \"…\""),
    ("audience = \"app\"", "audience = { name = \"app\" }", "audience = \"…\""),
    ("audience = \"app\"", "algorithm = \"eddsa\"", "`EdDSA`"),
    ("audience = \"app\"", "algorithm = \"none\"", "leave the key out"),
    ("audience = \"app\"", "algorithm = \"HS256\"", "openssl rand"),
    ("audience = \"app\"", "algorithm = \"HS256\"\nsecret = \"short\"", "openssl rand"),
    ("audience = \"app\"", "algorithm = \"HS256\"\nsecret_file = \"nowhere\"", "working directory"),
    ("audience = \"app\"", "algorithm = \"HS256\"\nsecret_file = \"src\"", "name a file"),
    ("audience = \"app\"", "rotation = \"on_use\"", "`on-use`"),
    ("audience = \"app\"", "rotation = true", "known values: \"on-use\""),
    ("[admin]", "workers = \"2\"\n[admin]", "workers = 2, without quotes"),
    ("[admin]", "workers = \"auto\"\n[admin]", "digits alone"),
    ("[admin]", "workers = 0\n[admin]", ""),
    ("[admin]", "trusted_proxies = [\"nginx\"]\n[admin]", "10.0.0.0/8"),
    ("[admin]", "trusted_proxies = \"10.0.0.0/8\"\n[admin]", "in brackets"),
    ("listen = \"127.0.0.1:8080\"", "listen = 8080", "in quotes"),
    ("listen = \"127.0.0.1:8080\"", "listen = \":8080\"", "\"[::]:8080\""),
    ("listen = \"127.0.0.1:8080\"", "listen = \"*:8080\"", "\"[::]:8080\""),
    ("listen = \"127.0.0.1:8080\"", "listen = \"localhost:8080\"", "\"127.0.0.1:8080\""),
    ("listen = \"127.0.0.1:8080\"", "listen = \"::1:8080\"", "\"[::1]:8080\""),
    ("listen = \"127.0.0.1:8080\"", "listen = \"127.0.0.1:99999\"", "65535"),
    ("listen = \"127.0.0.1:8080\"", "listen = \"127.0.0.1\"", "\"127.0.0.1:8080\""),
    ("listen = \"127.0.0.1:8080\"", "listen = \"http://127.0.0.1:8080\"", "write \"127.0.0.1:8080\""),
    ("listen = \"127.0.0.1:8080\"", "listen = \"127.0.0.1:9090\"", "port of its own"),
    // Tables and keys.
    ("[[routes]]", "[route]", "did you mean [[routes]]?"),
    ("[[routes]]", "[[route]]", "did you mean [[routes]]?"),
    ("[[routes]]", "[route.api]", "did you mean [[routes]]?"),
    ("[[routes]]", "[routes]", "write [[routes]]"),
    ("[[routes]]", "[routes.api]", "write [[routes]]"),
    ("[upstreams.app]", "[upstream.app]", "did you mean [upstreams.NAME]?"),
    ("[upstreams.app]", "[upstreams]", "write [upstreams.NAME]"),
    ("[upstreams.app]", "[[upstreams]]", "write [upstreams.NAME]"),
    ("[tokens]", "[[tokens]]", "write [tokens]"),
    ("[tokens]", "[token]", "did you mean [tokens]?"),
    ("[tokens]", "[Tokens]", "did you mean [tokens]?"),
    ("[tokens]", "[jwt]", "did you mean `tokens`?"),
    ("[server]", "listen_address = \"x\"\n[server]", "known keys here"),
    ("[server]", "access_ttl = \"60s\"\n[server]", "is a key of [tokens]"),
    ("[admin]", "access_ttl = \"60s\"\n[admin]", "is a key of [tokens]"),
    ("[admin]", "[server.tls]\ncertificate_file = \"x\"\n[admin]", "is a key of [[server.tls.certificates]]"),
    ("audience = \"app\"", "access-ttl = \"60s\"", "`access_ttl`"),
    ("audience = \"app\"", "audience = \"app\"\naudience = \"b\"", "line 7 sets the same key"),
    ("[[routes]]", "[tokens]\n[[routes]]", "line 5 begins the same table"),
    ("path = \"/api\"", "pth = \"/api\"", "`path`"),
    ("path = \"/api\"", "path = \"api\"", "\"/api\""),
    ("path = \"/api\"", "path = \"/api/*\"", "write \"/api\""),
    ("path = \"/api\"", "path = \"/users/{id}\"", "write \"/users\""),
    ("path = \"/api\"", "path = \"/api/\"", "leave it out"),
    ("path = \"/api\"", "path = \"//api\"", "one slash"),
    ("upstream = \"app\"", "upstream = \"ap\"", "`app`"),
    ("upstream = \"app\"", "", "upstream = \"app\""),
    ("upstream = \"app\"", "static = \"nowhere\"", "working directory"),
    ("upstream = \"app\"", "static = \"Cargo.toml\"", "name a folder"),
    ("upstream = \"app\"", "upstream = \"app\"\nstatic = \"src\"", "remove one"),
    ("upstream = \"app\"", "upstream = \"app\"\naccess = \"private\"", "known values"),
    ("upstream = \"app\"", "upstream = \"app\"\naccess = true", "known values"),
    ("upstream = \"app\"", "upstream = \"app\"\nmethods = [\"get\"]", "\"GET\""),
    ("upstream = \"app\"", "upstream = \"app\"\nroles = \"admin\"", "in brackets"),
    ("upstream = \"app\"", "upstream = \"app\"\nroles = []", "name a role"),
    ("upstream = \"app\"", "upstream = \"app\"\nhosts = [\"http://a.example\"]", "the name alone"),
    // Upstreams.
    ("urls = [\"http://127.0.0.1:3000\"]", "urls = \"http://127.0.0.1:3000\"", "in brackets"),
    ("urls = [\"http://127.0.0.1:3000\"]", "urls = []", "write it like"),
    ("urls = [\"http://127.0.0.1:3000\"]", "urls = [\"127.0.0.1:3000\"]", "http://127.0.0.1:9000"),
    ("urls = [\"http://127.0.0.1:3000\"]", "urls = [\"http://127.0.0.1:3000/api\"]", "the request's own"),
    ("urls = [\"http://127.0.0.1:3000\"]", "urls = [\"http://u:p@127.0.0.1:3000\"]", "write it like"),
    ("urls = [\"http://127.0.0.1:3000\"]", "urls = [\"http://::1:3000\"]", "in brackets"),
    ("urls = [\"http://127.0.0.1:3000\"]", "urls = [\"http://a:70000\"]", "65535"),
    ("urls = [\"http://127.0.0.1:3000\"]", "urls = [\"ws://a\"]", "WebSockets"),
    ("urls = [\"http://127.0.0.1:3000\"]", "urls = [\"http://bücher.example\"]", "xn--"),
    ("urls = [\"http://127.0.0.1:3000\"]", "urls = [\"http://127.0.0.1:8080\"]", "the app listens on"),
    // Syntax.
    ("audience = \"app\"", "audience = \"app", "closing quote"),
    ("audience = \"app\"", "audience: \"app\"", "equals sign"),
    ("audience = \"app\"", "audience = app", "in quotes"),
    ("audience = \"app\"", "audience = “app”", "straight quotes"),
    ("audience = \"app\"", "audience =", "behind the equals sign"),
    ("audience = \"app\"", "// audience", "begins with #"),
    ("[tokens]", "[tokens", "closing bracket"),
    ("file = \"Cargo.toml\"", "file = \"C:\\users.toml\"", "single quotes"),
    // Files.
    ("file = \"Cargo.toml\"", "file = \"nowhere.toml\"", "working directory"),
    ("file = \"Cargo.toml\"", "file = \"src\"", "name a users file"),
    ("audience = \"app\"", "private_key_file = \"nowhere.pem\"", "working directory"),
    // Other sections.
    ("[[routes]]", "[store]\nkind = \"sqlite\"\n[[routes]]", "known values"),
    ("[[routes]]", "[store]\nkind = \"redis\"\n[[routes]]", "redis://127.0.0.1:6379"),
    ("[[routes]]", "[store]\nkind = \"memory\"\npath = \"x\"\n[[routes]]", "remove it"),
    ("[[routes]]", "[log]\nlevel = \"verbose\"\n[[routes]]", "known levels"),
    ("[[routes]]", "[cors]\nallowed_origins = [\"*\"]\n[[routes]]", "full name"),
    ("[[routes]]", "[cors]\nallowed_origins = [\"a.example\"]\n[[routes]]", "https://app.example"),
    ("[server]", "identity_headers = [\"X-User\"]\n[server]", "write [identity_headers] on a line"),
    ("[[routes]]", "[endpoints]\nprefix = \"auth\"\n[[routes]]", "\"/auth\""),
    ("[[routes]]", "[limits]\nmax_body = \"10 megabytes\"\n[[routes]]", "units are"),
    ("[[routes]]", "[limits]\nmax_body = true\n[[routes]]", "\"8KiB\""),
    ("[[routes]]", "[tracing]\nsample_ratio = 50\n[[routes]]", "one in ten"),
    ("[[routes]]", "[tracing.otlp]\nendpoint = \"localhost:4317\"\n[[routes]]", "http://127.0.0.1:4318"),
    ("[[routes]]", "[lockout]\nmax_failures = 0\n[[routes]]", ""),
];

#[test]
fn no_mistake_is_silent_and_each_names_its_place_and_its_remedy() {
    let (good, _) = load_files(&[("gateway.toml", GOOD)], &[]);
    assert_eq!(good.unwrap_or_else(|errors| panic!("{errors}")).warnings.to_string(), "");
    let mut poor = Vec::new();
    for (line, mistake, remedy) in MISTAKES {
        assert_eq!(GOOD.matches(&format!("{line}\n")).count(), 1, "{line}");
        let text = GOOD.replace(&format!("{line}\n"), &format!("{mistake}\n"));
        let found = match load_files(&[("gateway.toml", &text)], &[]).0 {
            Ok(loaded) => loaded.warnings,
            Err(errors) => errors,
        };
        let is_good = |found: &Diagnostic| {
            // A key that is missing has no place, but is named.
            let is_placed = found.location().is_some_and(|place| place.contains("gateway.toml:"))
                || found.message().contains("is missing");
            let help = found.help_text().unwrap_or_default();
            let is_helped = !help.is_empty() || found.message().contains("must be from");
            is_placed && is_helped && help.contains(remedy)
        };
        if found.len() != 1 || !found.iter().all(is_good) {
            poor.push(format!("{mistake}\n{found}"));
        }
    }
    assert!(poor.is_empty(), "{} of {}:\n\n{}", poor.len(), MISTAKES.len(), poor.join("\n"));
}

#[test]
fn mistakes_in_the_environment_are_corrected_in_its_own_syntax() {
    for (name, value, remedy) in [
        ("AUTH_GATEWAY__ROUTES__0__PATH", "/", "AUTH_GATEWAY__ROUTES = [{"),
        ("AUTH_GATEWAY__TOKENS", "x", "AUTH_GATEWAY__TOKENS__KEY"),
        (
            "AUTH_GATEWAY__CORS__ALLOWED_ORIGINS",
            "https://a.example",
            "AUTH_GATEWAY__CORS__ALLOWED_ORIGINS='[\"…\"]'",
        ),
        ("AUTH_GATEWAY__TOKENS__ACCESS_TTL", "60", "\"60s\" for seconds"),
        ("AUTH_GATEWAY__SERVER_LISTEN", "x", "AUTH_GATEWAY__SERVER__LISTEN"),
        ("AUTHGATEWAY__SERVER__LISTEN", "x", "AUTH_GATEWAY__SERVER__LISTEN"),
        ("AUTH_GATEWAY_SERVER_LISTEN", "x", "AUTH_GATEWAY__SERVER__LISTEN"),
    ] {
        let found = match load_files(&[("gateway.toml", GOOD)], &[(name, value)]).0 {
            Ok(loaded) => loaded.warnings,
            Err(errors) => errors,
        };
        assert_eq!(found.len(), 1, "{name}\n{found}");
        let found = found.iter().next().unwrap();
        assert_eq!(found.location(), Some(format!("environment variable {name}")));
        assert!(found.help_text().unwrap_or_default().contains(remedy), "{found}");
        let is_ours = name.starts_with("AUTH_GATEWAY__");
        assert_eq!(found.severity() == Severity::Error, is_ours, "{found}");
    }
}
