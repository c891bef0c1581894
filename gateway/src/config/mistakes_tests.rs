//! Mistakes of operators: none is silent, and each error names its place and its remedy.
#![allow(clippy::unwrap_used)]

use super::sections::paths;
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
    ("[tokens]", "[jwt]", "did you mean [tokens]?"),
    ("[admin]", "listen_address = \"x\"\n[admin]", "did you mean `listen`?"),
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
    // Words of nginx, HAProxy, Caddy, Traefik, Envoy, oauth2-proxy and Flask.
    ("upstream = \"app\"", "upstream = \"app\"\nproxy_pass = \"http://a\"", "`upstream`"),
    ("upstream = \"app\"", "upstream = \"app\"\nreverse_proxy = \"a:1\"", "`upstream`"),
    ("upstream = \"app\"", "upstream = \"app\"\nrule = \"PathPrefix(`/api`)\"", "`path`"),
    ("upstream = \"app\"", "upstream = \"app\"\nauth_request = \"/auth\"", "`access`"),
    ("upstream = \"app\"", "upstream = \"app\"\nserver_name = \"a.example\"", "`hosts`"),
    ("upstream = \"app\"", "upstream = \"app\"\ndomains = [\"a\"]", "`hosts`"),
    ("upstream = \"app\"", "upstream = \"app\"\nallowed_groups = [\"a\"]", "`roles`"),
    ("upstream = \"app\"", "upstream = \"app\"\nstrip_path = true", "`strip_prefix`"),
    ("upstream = \"app\"", "upstream = \"app\"\nprefix_rewrite = \"/b\"", "`rewrite_prefix`"),
    ("upstream = \"app\"", "upstream = \"app\"\nreturn = 301", "`redirect`"),
    ("upstream = \"app\"", "upstream = \"app\"\ntimeout = \"5s\"", "`response_timeout`"),
    ("upstream = \"app\"", "upstream = \"app\"\nconnect_timeout = \"5s\"", "[upstreams.NAME]"),
    ("upstream = \"app\"", "upstream = \"app\"\nproxy_set_header = \"A b\"", "`request_headers`"),
    ("upstream = \"app\"", "upstream = \"app\"\nadd_header = \"A b\"", "`response_headers`"),
    ("upstream = \"app\"", "upstream = \"app\"\npass_authorization_header = true", "`forward_authorization`"),
    ("upstream = \"app\"", "upstream = \"app\"\nset_xauthrequest = true", "[identity_headers]"),
    ("upstream = \"app\"", "upstream = \"app\"\nbasic_auth = true", "`basic`"),
    ("upstream = \"app\"", "upstream = \"app\"\nskip_auth_routes = [\"/x\"]", "access = \"public\""),
    ("upstream = \"app\"", "upstream = \"app\"\nmiddlewares = [\"a\"]", "keys of the route"),
    ("upstream = \"app\"", "upstream = \"app\"\npriority = 10", "leave it out"),
    ("upstream = \"app\"", "upstream = \"app\"\nentryPoints = [\"web\"]", "leave it out"),
    ("upstream = \"app\"", "upstream = \"app\"\nallow = [\"10.0.0.0/8\"]", "firewall"),
    ("upstream = \"app\"", "upstream = \"app\"\nretry_policy = \"5xx\"", "`retries`"),
    ("upstream = \"app\"", "upstream = \"app\"\nfile_server = true", "`static`"),
    ("upstream = \"app\"", "upstream = \"app\"\ngzip = true", "`compress`"),
    ("urls = [\"http://127.0.0.1:3000\"]", "servers = [\"http://a\"]", "`urls`"),
    ("urls = [\"http://127.0.0.1:3000\"]", "targets = [\"http://a\"]", "`urls`"),
    (
        "urls = [\"http://127.0.0.1:3000\"]",
        "urls = [\"http://127.0.0.1:3000\"]\nlb_policy = \"random\"",
        "leave it out",
    ),
    (
        "urls = [\"http://127.0.0.1:3000\"]",
        "urls = [\"http://127.0.0.1:3000\"]\nhealth_check = \"/h\"",
        "`health_path`",
    ),
    (
        "urls = [\"http://127.0.0.1:3000\"]",
        "urls = [\"http://127.0.0.1:3000\"]\nkeepalive = 16",
        "`pool_size`",
    ),
    (
        "urls = [\"http://127.0.0.1:3000\"]",
        "urls = [\"http://127.0.0.1:3000\"]\nfail_timeout = \"10s\"",
        "`eject_for`",
    ),
    ("urls = [\"http://127.0.0.1:3000\"]", "urls = [\"http://127.0.0.1:3000\"]\nweight = 2", "same share"),
    (
        "urls = [\"http://127.0.0.1:3000\"]",
        "urls = [\"http://127.0.0.1:3000\"]\ninsecure_skip_verify = true",
        "tls_ca_file",
    ),
    (
        "urls = [\"http://127.0.0.1:3000\"]",
        "urls = [\"http://127.0.0.1:3000\"]\nread_timeout = \"5s\"",
        "`response_timeout`",
    ),
    (
        "urls = [\"http://127.0.0.1:3000\"]",
        "urls = [\"http://127.0.0.1:3000\"]\nsni = \"a\"",
        "`tls_server_name`",
    ),
    ("urls = [\"http://127.0.0.1:3000\"]", "urls = [\"http://127.0.0.1:3000\"]\nhttp2 = true", "`protocol`"),
    ("[admin]", "listen_port = 80\n[admin]", "`listen`"),
    ("[admin]", "worker_processes = 4\n[admin]", "`workers`"),
    ("[admin]", "keepalive_timeout = \"65s\"\n[admin]", "[limits]"),
    ("[admin]", "read_timeout = \"5s\"\n[admin]", "[limits]"),
    ("[admin]", "ssl_certificate = \"c.pem\"\n[admin]", "[server.tls]"),
    ("[admin]", "tls_cert = \"c.pem\"\n[admin]", "[server.tls]"),
    ("[admin]", "access_log = \"/x\"\n[admin]", "[log]"),
    ("[admin]", "set_real_ip_from = [\"10.0.0.0/8\"]\n[admin]", "`trusted_proxies`"),
    ("[admin]", "redirect_http = true\n[admin]", "`redirect_listen`"),
    ("[admin]", "user = \"www\"\n[admin]", "User="),
    ("audience = \"app\"", "audience = \"app\"\nexpires_in = 3600", "`access_ttl`"),
    ("audience = \"app\"", "audience = \"app\"\nttl = \"1h\"", "`access_ttl`"),
    ("audience = \"app\"", "audience = \"app\"\nrefresh_token_ttl = \"1h\"", "`refresh_ttl`"),
    ("audience = \"app\"", "audience = \"app\"\nsigning_key = \"k.pem\"", "`private_key_file`"),
    ("audience = \"app\"", "audience = \"app\"\nkey_file = \"k.pem\"", "`private_key_file`"),
    ("audience = \"app\"", "audience = \"app\"\nalg = \"RS256\"", "`algorithm`"),
    ("audience = \"app\"", "audience = \"app\"\ncookie_secret = \"x\"", "`secret`"),
    ("file = \"Cargo.toml\"", "file = \"Cargo.toml\"\ntype = \"sql\"", "`kind`"),
    ("file = \"Cargo.toml\"", "file = \"Cargo.toml\"\ndatabase = \"x\"", "[users.sql]"),
    ("[[routes]]", "[clusters]\nx = 1\n[[routes]]", "[upstreams.NAME]"),
    ("[[routes]]", "[listeners]\nx = 1\n[[routes]]", "[server]"),
    ("[[routes]]", "[oidc]\nx = 1\n[[routes]]", "[[issuers]]"),
    ("[[routes]]", "[oauth2_proxy]\nx = 1\n[[routes]]", "[forward_auth]"),
    ("[[routes]]", "[cookie]\nx = 1\n[[routes]]", "[browser]"),
    ("[[routes]]", "[logging]\nx = 1\n[[routes]]", "[log]"),
    ("[[routes]]", "[metrics]\nx = 1\n[[routes]]", "[admin]"),
    ("[[routes]]", "[rate_limit]\nx = 1\n[[routes]]", "[lockout]"),
    ("[[routes]]", "[database]\nx = 1\n[[routes]]", "[users.sql]"),
    ("[[routes]]", "[timeouts]\nx = 1\n[[routes]]", "[limits]"),
    ("[[routes]]", "[auth]\nx = 1\n[[routes]]", "[[routes]]"),
    ("[[routes]]", "[acme]\nx = 1\n[[routes]]", "[[server.tls.certificates]]"),
    ("[[routes]]", "[ssl]\nx = 1\n[[routes]]", "[server.tls]"),
    ("[[routes]]", "[static]\nx = 1\n[[routes]]", "[[routes]]"),
    ("[[routes]]", "[headers]\nx = 1\n[[routes]]", "request_headers"),
    ("[[routes]]", "[global]\nx = 1\n[[routes]]", "[server]"),
    // Traps of TOML.
    ("[[routes]]", "[[upstreams.app.routes]]\npath = \"/x\"\n[[routes]]", "[[routes]] is a table of its own"),
    (
        "upstream = \"app\"",
        "upstream = \"app\"\ntokens.access_ttl = \"5s\"",
        "[tokens] is a table of its own",
    ),
    ("upstream = \"app\"", "upstream = \"app\"\n[routes]\npath = \"/b\"", "with two brackets: line 12"),
    ("audience = \"app\"", "audience =\u{a0}\"app\"", "U+00A0"),
    ("audience = \"app\"", "audi\u{200b}ence = \"app\"", "U+200B"),
    ("audience = \"app\"", "\u{430}udience = \"app\"", "U+0430"),
    ("audience = \"app\"", "\"audience\": \"app\",", "equals sign"),
    ("audience = \"app\"", "audience = \"app\";", "semicolon"),
    ("urls = [\"http://127.0.0.1:3000\"]", "urls = - http://a", "in brackets"),
    ("[admin]", "workers = 99999999999999999999\n[admin]", "larger than any"),
    ("upstream = \"app\"", "respond = { status = 0404 }", "without zeros"),
    ("file = \"Cargo.toml\"", "file = \"${USERS_FILE}\"", "set AUTH_GATEWAY__USERS__FILE"),
    ("file = \"Cargo.toml\"", "file = \"~/users.toml\"", "~ means nothing here"),
    (
        "urls = [\"http://127.0.0.1:3000\"]",
        "urls = [\"http://${HOST}:1\"]",
        "set AUTH_GATEWAY__UPSTREAMS__APP__URLS",
    ),
    // Settings that have no effect, or contradict each other.
    ("[[routes]]", "[browser]\nremember_me = \"ask\"\n[[routes]]", "remove it"),
    ("[[routes]]", "[personal_tokens]\nmax_ttl = \"30d\"\n[[routes]]", "remove it"),
    ("[[routes]]", "[compat]\ncsrf = false\n[[routes]]", "remove it"),
    ("[[routes]]", "[mfa]\nissuer = \"x\"\n[[routes]]", "remove it"),
    ("[[routes]]", "[tokens.key_rotation]\npublish_before = \"2h\"\n[[routes]]", "remove it"),
    ("[[routes]]", "[sessions]\nwhen_full = \"refuse\"\n[[routes]]", "remove it"),
    ("[[routes]]", "[lockout]\nmax_duration = \"2h\"\n[[routes]]", "remove it"),
    ("[[routes]]", "[audit]\nsyslog_socket = \"/dev/log\"\n[[routes]]", "remove it"),
    ("[[routes]]", "[audit]\ntarget = \"journald\"\nsyslog_socket = \"/dev/log\"\n[[routes]]", "remove it"),
    ("[[routes]]", "[tracing]\nsample_ratio = 0.5\n[[routes]]", "remove it"),
    (
        "[[routes]]",
        "[tracing]\nenabled = true\n[tracing.otlp]\nservice_name = \"x\"\n[[routes]]",
        "set `endpoint`",
    ),
    ("[[routes]]", "[upstream_assertion]\nttl = \"10s\"\n[[routes]]", "remove it"),
    ("[[routes]]", "[server.tls]\nmin_version = \"1.3\"\n[[routes]]", "remove it"),
    ("[[routes]]", "[users.sql]\ntable = \"user\"\n[[routes]]", "remove it"),
    ("[[routes]]", "[store.redis]\nkey_prefix = \"x\"\n[[routes]]", "remove it"),
    ("audience = \"app\"", "audience = \"app\"\ndpop_nonce = true", "remove it"),
    ("[admin]", "redirect_port = 443\n[admin]", "remove it"),
    ("file = \"Cargo.toml\"", "file = \"Cargo.toml\"\nreset_url = \"https://a.example/r\"", "remove it"),
    ("file = \"Cargo.toml\"", "file = \"Cargo.toml\"\nrehash_htpasswd = true", "remove it"),
    ("upstream = \"app\"", "upstream = \"app\"\nmfa = \"required\"", "[mfa] enabled = true"),
    ("[[routes]]", "[[routes]]\npath = \"/s\"\nstatic = \".\"\n[[routes]]", "nothing but the app"),
    (
        "audience = \"app\"",
        "audience = \"app\"\nalgorithm = \"HS256\"\nsecret_file = \"Cargo.toml\"",
        "openssl rand",
    ),
    (
        "[[routes]]",
        "[[issuers]]\nname = \"kc\"\nissuer = \"https://kc.example\"\naudience = \"api\"\n[[routes]]",
        "`audiences`",
    ),
    (
        "[[routes]]",
        "[[issuers]]\nname = \"kc\"\nissuer = \"https://kc.example\"\naudiences = [\"api\"]\nclient_id = \"x\"\n[[routes]]",
        "`introspection_client_id`",
    ),
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
            let is_placed = found.location().is_some_and(|place| place.contains("gateway.toml:"));
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

/// Tables that lack a required key, the key that is missing, and the line that has to be named: the header of the
/// innermost table that is there.
const MISSING: &[(&str, &str, &str)] = &[
    ("[[routes]]\nupstream = \"app\"", "routes[1].path", "[[routes]]"),
    ("[[routes]]\npath = \"/x\"\nredirect = { status = 301 }", "routes[1].redirect.to", "redirect = {"),
    (
        "[[routes]]\npath = \"/x\"\n[routes.redirect]\nstatus = 301",
        "routes[1].redirect.to",
        "[routes.redirect]",
    ),
    (
        "[[routes]]\npath = \"/x\"\n[routes.respond]\nbody = \"x\"",
        "routes[1].respond.status",
        "[routes.respond]",
    ),
    ("[[routes]]\npath = \"/x\"", "the route leads nowhere", "[[routes]]"),
    ("[upstreams.b]\nretries = 0", "upstreams.b.urls", "[upstreams.b]"),
    ("[upstreams.b]", "upstreams.b.urls", "[upstreams.b]"),
    (
        "[[server.tls.certificates]]\nprivate_key_file = \"Cargo.toml\"",
        "server.tls.certificates[0].certificate_file",
        "[[server.tls.certificates]]",
    ),
    (
        "[[server.tls.certificates]]\ncertificate_file = \"Cargo.toml\"",
        "server.tls.certificates[0].private_key_file",
        "[[server.tls.certificates]]",
    ),
    (
        "[tokens.migrate_from]\nkey_file = \"Cargo.toml\"",
        "tokens.migrate_from.algorithm",
        "[tokens.migrate_from]",
    ),
    ("[tokens.migrate_from]\nalgorithm = \"HS256\"", "tokens.migrate_from.secret", "[tokens.migrate_from]"),
    ("[[issuers]]\nissuer = \"https://a\"\naudiences = [\"b\"]", "issuers[0].name", "[[issuers]]"),
    ("[[issuers]]\nname = \"a\"\naudiences = [\"b\"]", "issuers[0].issuer", "[[issuers]]"),
    ("[[issuers]]\nname = \"a\"\nissuer = \"https://a\"", "issuers[0].audiences", "[[issuers]]"),
    ("[identity_headers]\nroles = { encoding = \"utf-8\" }", "identity_headers.roles.header", "roles = {"),
    (
        "[oauth.introspection_clients.app]",
        "oauth.introspection_clients.app",
        "[oauth.introspection_clients.app]",
    ),
    ("[store]\nkind = \"redis\"", "store.redis.url", "[store]"),
    ("[store]\nkind = \"redis\"\n[store.redis]\nusername = \"x\"", "store.redis.url", "[store.redis]"),
    ("[audit]\ntarget = \"file\"", "audit.file", "[audit]"),
    ("[users.sql]\ntable = \"user\"\n[users]\nkind = \"sql\"", "users.sql.url", "[users.sql]"),
    ("[users.sql]\nurl = \"sqlite://a\"\n[users]\nkind = \"sql\"", "users.sql.table", "[users.sql]"),
    ("[users.ldap]\nbase = \"dc=a\"\n[users]\nkind = \"ldap\"", "users.ldap.url", "[users.ldap]"),
    ("[users.ldap]\nurl = \"ldaps://a\"\n[users]\nkind = \"ldap\"", "users.ldap.base", "[users.ldap]"),
    ("[users]\nkind = \"htpasswd\"", "users.file", "[users]"),
    ("[[users.sources]]\nkind = \"htpasswd\"", "users.sources[0].file", "[[users.sources]]"),
    ("[[users.sources]]\nkind = \"sql\"\nsql = { table = \"user\" }", "users.sources[0].sql.url", "sql = {"),
    (
        "[[users.sources]]\nkind = \"ldap\"\n[users.sources.ldap]\nbase = \"dc=a\"",
        "users.sources[0].ldap.url",
        "[users.sources.ldap]",
    ),
];

#[test]
fn a_missing_key_points_to_the_header_of_its_table() {
    let mut wrong = Vec::new();
    for (tables, key, header) in MISSING {
        // A table of users takes the place of the one that is there.
        let good = match tables.contains("[users]") || tables.contains("users.sources") {
            true => GOOD.replace("[users]\nfile = \"Cargo.toml\"\n", ""),
            false => GOOD.to_owned(),
        };
        let text = good + tables;
        let line = text.rfind(header).map(|at| text[..at].matches('\n').count() + 1).unwrap();
        let found = load_files(&[("gateway.toml", &text)], &[]).0.err().unwrap_or_default();
        let is_right = |found: &Diagnostic| {
            let place = found.location().unwrap_or_default();
            found.message().contains(key) && place.contains(&format!("gateway.toml:{line}:"))
        };
        if !found.iter().any(is_right) {
            wrong.push(format!("{tables}\n{found}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n\n{}", wrong.len(), MISSING.len(), wrong.join("\n"));
    for (path, _) in paths().into_iter().filter(|(_, key)| key.required.is_some()) {
        let key = path.rsplit('.').next().unwrap();
        let is_tried = |(_, missing, _): &(&str, &str, &str)| missing.ends_with(&format!(".{key}"));
        assert!(MISSING.iter().any(is_tried), "{path} is required, and not tried");
    }
}

#[test]
fn what_lacks_a_table_altogether_points_to_the_file() {
    for text in ["", "[users]\nfile = \"Cargo.toml\"\n"] {
        let errors = load_files(&[("gateway.toml", text)], &[]).0.unwrap_err();
        let is_placed =
            |found: &Diagnostic| found.location().is_some_and(|place| place.contains("gateway.toml"));
        assert!(errors.iter().all(is_placed), "{errors}");
    }
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
        ("AUTH_GATEWAY.SERVER.LISTEN", "x", "AUTH_GATEWAY__SERVER__LISTEN"),
        ("AUTH_GATEWAY__UPSTREAMS_APP_URLS", "x", "AUTH_GATEWAY__UPSTREAMS__APP__URLS"),
        ("AUTH_GATEWAY__TOKENS__REFRESH_TTL", "\"1h\"", "leave the quotes out"),
        ("AUTH_GATEWAY__SERVER__WORKERS", "'2'", "leave the quotes out"),
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
