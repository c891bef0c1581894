#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::super::test_support::{ROUTE, USERS, load_files, minimal};
use super::*;

/// All output, with file names without their folder.
fn errors(files: &[(&str, &str)], env: &[(&str, &str)]) -> String {
    let (loaded, folder) = load_files(files, env);
    loaded.map(|_| ()).unwrap_err().to_string().replace(&folder, "")
}

fn settings(files: &[(&str, &str)], env: &[(&str, &str)]) -> Settings {
    load_files(files, env).0.unwrap_or_else(|errors| panic!("{errors}")).settings
}

#[test]
fn environment_wins_over_later_files_over_earlier_files_over_defaults() {
    let base = minimal() + "[tokens]\naccess_ttl = \"1s\"\nleeway = \"1s\"\naudience = \"base\"";
    let over = "[tokens]\naccess_ttl = \"2s\"\nleeway = \"2s\"";
    let env = [("AUTH_GATEWAY__TOKENS__ACCESS_TTL", "3s")];
    let tokens = settings(&[("a.toml", &base), ("b.toml", over)], &env).tokens;
    assert_eq!(tokens.access_ttl, Duration::from_secs(3));
    assert_eq!(tokens.leeway, Duration::from_secs(2));
    assert_eq!((tokens.audience.as_str(), tokens.refresh_ttl), ("base", Duration::from_secs(600)));
}

#[test]
fn the_environment_speaks_every_type() {
    let settings = settings(
        &[("a.toml", &minimal())],
        &[
            ("AUTH_GATEWAY__SERVER__LISTEN", "127.0.0.1:8081"),
            ("AUTH_GATEWAY__SERVER__WORKERS", "3"),
            ("AUTH_GATEWAY__TOKENS__AUDIENCE", "42"),
            ("auth_gateway__log__access", "false"),
            ("AUTH_GATEWAY__LIMITS__REQUEST_LINE", "4KiB"),
            ("AUTH_GATEWAY__LIMITS__HEADER_BLOCK", "9000"),
            ("AUTH_GATEWAY__CORS__ALLOWED_ORIGINS", "[\"http://localhost:5173\"]"),
            ("AUTH_GATEWAY__UPSTREAMS__DEMO__URLS", "[\"http://127.0.0.1:9\"]"),
            ("AUTH_GATEWAY__IDENTITY_HEADERS__SUB", "X-Id"),
            ("AUTH_GATEWAY__ROUTES", "[{ path = \"/env\", upstream = \"demo\", strip_prefix = true }]"),
            ("AUTH_GATEWAY_SERVICE_HOST", "10.0.0.1"),
        ],
    );
    assert_eq!((settings.server.listen.port(), settings.server.workers), (8081, 3));
    assert_eq!((settings.tokens.audience.as_str(), settings.log.access), ("42", false));
    assert_eq!((settings.limits.request_line, settings.limits.header_block), (4096, 9000));
    assert_eq!(settings.cors.allowed_origins, ["http://localhost:5173"]);
    assert_eq!(settings.upstreams["demo"].urls[0].to_string(), "http://127.0.0.1:9");
    assert!(settings.identity_headers.iter().any(|h| h.header == "X-Id"));
    assert_eq!((settings.routes.len(), settings.routes[0].path.as_str()), (1, "/env"));
}

#[test]
fn a_later_file_replaces_the_whole_list_of_routes() {
    let later = "[[routes]]\npath = \"/later\"\nupstream = \"demo\"";
    let routes = settings(&[("a.toml", &minimal()), ("b.toml", later)], &[]).routes;
    assert_eq!(routes.iter().map(|r| r.path.as_str()).collect::<Vec<_>>(), ["/later"]);
}

#[test]
fn errors_of_all_sources_come_out_together_in_order() {
    let a = minimal() + "[tokens]\nacess_ttl = \"60s\"\nrefresh_ttl = 60\n";
    let b = "[log]\nformat = \"xml\"\n";
    let env = [("AUTH_GATEWAY__TOKENS__ACCES_TTL", "hunter2")];
    assert_eq!(
        errors(&[("a.toml", &a), ("b.toml", b)], &env),
        "\
error: unknown key `acess_ttl` in [tokens]
  --> a.toml:10:1
   |
10 | acess_ttl…
   | ^^^^^^^^^
   |
   = help: did you mean `access_ttl`?

error: `tokens.refresh_ttl`: expected a duration such as \"60s\", found integer 60
  --> a.toml:11:15
   |
11 | refresh_ttl = 60
   |               ^^
   |
   = help: add a unit: \"60s\" for seconds, \"60ms\", \"60m\" or \"60h\"

error: `log.format`: unknown value `xml`
 --> b.toml:2:10
  |
2 | format = \"xml\"
  |          ^^^^^
  |
  = help: known values: auto, human, json

error: unknown key `acces_ttl` in [tokens]
--> environment variable AUTH_GATEWAY__TOKENS__ACCES_TTL
 = help: did you mean `access_ttl`?
"
    );
}

#[test]
fn a_bad_value_in_the_environment_names_its_variable() {
    for (name, value, message) in [
        ("AUTH_GATEWAY__SERVER__WORKERS", "many", "expected a whole number, found string `many`"),
        ("AUTH_GATEWAY__LOG__ACCESS", "no", "expected true or false, found string `no`"),
        ("AUTH_GATEWAY__TOKENS__ACCESS_TTL", "60", "expected a duration such as \"60s\", found string `60`"),
        ("AUTH_GATEWAY__CORS__ALLOWED_ORIGINS", "http://a", "expected a list such as"),
        (
            "AUTH_GATEWAY__CORS__ALLOWED_ORIGINS",
            "[\"*\"]",
            "`cors.allowed_origins[0]`: the origin may not be",
        ),
        ("AUTH_GATEWAY__TOKENS", "x", "`tokens`: expected a table, found a string"),
        ("AUTH_GATEWAY__SERVER__LISTEN__IP", "x", "`server.listen`: expected a string, found a table"),
        ("AUTH_GATEWAY__ROUTES__0__PATH", "/", "`routes`: expected a list"),
        ("AUTH_GATEWAY__TOKEN__X", "1", "unknown key `token`"),
        ("AUTH_GATEWAY__", "1", "the variable names no key"),
    ] {
        let text = errors(&[("a.toml", &minimal())], &[(name, value)]);
        assert!(text.contains(message), "{text}");
        assert!(text.contains(&format!("--> environment variable {name}\n")), "{text}");
        assert_eq!(text.matches("error: ").count(), 1, "{text}");
    }
}

#[test]
fn an_unknown_table_names_everyone_who_gave_a_part_of_it() {
    let file = minimal() + "[serverr]\nlisten = \"x\"";
    let text = errors(&[("a.toml", &file)], &[("AUTH_GATEWAY__SERVERR__WORKERS", "1")]);
    assert_eq!(text.matches("unknown key `serverr`").count(), 2, "{text}");
    assert!(text.contains("--> a.toml:9:2") && text.contains("did you mean [server]?"), "{text}");
    assert!(text.contains("environment variable AUTH_GATEWAY__SERVERR__WORKERS"), "{text}");
}

#[test]
fn a_file_that_cannot_be_read_is_reported_without_what_it_may_have_said() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("gateway.toml");
    let text = load(std::slice::from_ref(&missing), []).unwrap_err().to_string();
    assert_eq!(
        text,
        format!(
            "error: the configuration file does not exist\n--> {}\n = help: name an existing file with `--config FILE`\n",
            missing.display()
        )
    );
    let relative = load(&["no/such.toml".into()], []).unwrap_err().to_string();
    let folder = std::env::current_dir().unwrap().display().to_string();
    assert!(relative.contains("relative names start at the working directory") && relative.contains(&folder));
    let text = load(&[dir.path().into()], []).unwrap_err().to_string();
    assert!(text.contains("is a folder"), "{text}");
    std::fs::write(&missing, b"a = 1\n# \xff").unwrap();
    let text = load(&[missing], []).unwrap_err().to_string();
    assert!(text.contains("not UTF-8 text (line 2)"), "{text}");
}

#[test]
fn a_file_that_does_not_parse_does_not_hide_the_errors_of_others() {
    let text = errors(&[("a.toml", "[server\nlisten = 1"), ("b.toml", "[log]\nlevle = \"info\"")], &[]);
    assert!(text.contains("error: not valid TOML: ") && text.contains("a.toml:1:"), "{text}");
    assert!(text.contains("unknown key `levle`") && text.contains("did you mean `level`?"), "{text}");
    assert_eq!(text.matches("error: ").count(), 2, "{text}");
}

#[test]
fn a_key_given_twice_is_an_error_at_the_second() {
    let text = errors(&[("a.toml", "[log]\nlevel = \"info\"\nlevel = \"debug\"\n")], &[]);
    assert!(text.contains("not valid TOML: duplicate key") && text.contains("a.toml:3:1"), "{text}");
}

#[test]
fn without_any_source_the_missing_parts_are_named() {
    let text = load(&[], []).unwrap_err().to_string();
    assert!(text.contains("there is no route") && text.contains("`users.file`"), "{text}");
}

#[test]
fn a_secret_from_the_environment_is_taken_as_it_is_and_never_shown() {
    let digits = "73850194627385091746283950174628301957";
    let env =
        |secret| [("AUTH_GATEWAY__TOKENS__ALGORITHM", "HS256"), ("AUTH_GATEWAY__TOKENS__SECRET", secret)];
    let loaded = settings(&[("a.toml", &minimal())], &env(digits));
    assert!(!format!("{loaded:?}").contains(digits));

    let text = errors(&[("a.toml", &minimal())], &env("hunter2"));
    assert!(text.contains("environment variable AUTH_GATEWAY__TOKENS__SECRET"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn a_secret_and_its_file_from_two_sources_are_both_named() {
    let file = format!("{USERS}{ROUTE}[tokens]\nalgorithm = \"HS256\"\nsecret = \"hunter2\"\n");
    let text = errors(&[("a.toml", &file)], &[("AUTH_GATEWAY__TOKENS__SECRET_FILE", "x")]);
    assert!(text.contains("a.toml:11:1") && text.contains("AUTH_GATEWAY__TOKENS__SECRET_FILE"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn a_table_in_the_environment_that_is_not_toml_is_not_shown() {
    let text = errors(
        &[("a.toml", &minimal())],
        &[
            ("AUTH_GATEWAY__TOKENS", "{ secret = hunter2 }"),
            ("AUTH_GATEWAY__UPSTREAMS__DEMO__URLS", "http://u:hunter2@a"),
        ],
    );
    assert!(text.contains("found a string") && !text.contains("hunter2"), "{text}");
}

#[test]
fn other_programs_keys_are_answered_with_ours() {
    for (text, message, help) in [
        (
            "[routes]\npath = \"/\"",
            "`routes`: expected a list, found a table",
            "write [[routes]], with two brackets",
        ),
        ("[[upstreams]]\nurls = []", "`upstreams`: expected a table, found a list", "write [upstreams.NAME]"),
        (
            "[[log]]\nlevel = \"info\"",
            "`log`: expected a table, found a list",
            "write [log] in place of [[log]]",
        ),
        ("log = \"info\"", "`log`: expected a table, found a string", "write [log] on a line of its own"),
        ("[server]\nmax_body = 1", "unknown key `max_body` in [server]", "`max_body` is a key of [limits]"),
        ("[tls]\nhsts = \"1d\"", "unknown key `tls`", "`tls` is a key of [server]"),
        ("[server]\nport = 80", "unknown key `port` in [server]", "did you mean `listen`?"),
        ("[jwt]\nsecret = \"x\"", "unknown key `jwt`", "did you mean [tokens]?"),
        ("[cors]\nallowed_origins = \"x\"", "expected a list", "allowed_origins = [\"…\"]"),
        ("[tokens]\naccess_ttl = \"90\"", "expected a duration", "\"90s\" for seconds"),
        ("[tokens]\naccess_ttl = \"1m30\"", "expected a duration", "\"1h 30m\""),
        ("[limits]\nmax_body = \"10M\"", "expected a size", "KiB, MiB, GiB (1024 each)"),
        ("[limits]\nconnections = \"10\"", "expected a whole number", "without quotes"),
        ("[log]\naccess = \"yes\"", "expected true or false", "without quotes"),
        ("[server]\ntls = true", "`server.tls`: expected a table", "write [server.tls]"),
        ("[log]\nfile = \"x\"", "unknown key `file` in [log]", "standard error"),
        ("[warnings]\nsilence = [\"plain-htp\"]", "there is no warning `plain-htp`", "`plain-http`"),
    ] {
        // A table at the end of the file, so that what precedes it is not part of it.
        let top = !text.starts_with('[');
        let file = if top { format!("{text}\n{}", minimal()) } else { minimal() + text };
        let file = if text.starts_with("[routes]") { format!("{USERS}{text}") } else { file };
        let file = if text.starts_with("[[upstreams]]") {
            format!("{USERS}{text}\n[[routes]]\npath = \"/\"\nstatic = \"src\"")
        } else {
            file
        };
        let printed = errors(&[("a.toml", &file)], &[]);
        assert_eq!(printed.matches("error: ").count(), 1, "{printed}");
        assert!(printed.contains(message) && printed.contains(help), "{text}: {printed}");
    }
}

#[test]
fn what_cannot_be_read_again_is_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for (path, why) in [("/dev/zero", "is a device"), (socket.to_str().unwrap(), "is a socket")] {
        let text = load(&[path.into()], []).unwrap_err().to_string();
        assert!(text.contains(why), "{text}");
        let secret = minimal() + &format!("[tokens]\nalgorithm = \"HS256\"\nsecret_file = \"{path}\"");
        let text = errors(&[("a.toml", &secret)], &[]);
        assert!(text.contains(why), "{text}");
    }
}

#[test]
fn a_key_that_is_not_given_is_placed_at_the_innermost_table_that_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.toml");
    std::fs::write(&path, format!("{}[tokens]\naudience = \"a\"\n", minimal())).unwrap();
    let (_, spans) = inspect(&[path], []);
    for (key, place) in [
        ("tokens.audience", "a.toml:10:12"),
        ("tokens.keys_dir", "a.toml:9:1"),
        ("routes[0].cache_dir", "a.toml:6:1"),
        ("upstreams.demo.tls_ca_file", "a.toml:4:1"),
        ("store.path", "a.toml"),
    ] {
        let found = nearest_span(&spans, key).unwrap().to_string();
        assert!(found.ends_with(place), "{key}: {found}");
    }
}
