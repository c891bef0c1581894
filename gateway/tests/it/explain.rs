//! `auth-gateway explain` and `check`: their output matches what the gateway does.

use std::path::Path;

use crate::fixture::{Gateway, PASSWORD, Upstream, get, tokens, users_file, wait_until};

const CONFIG: &str = r#"
[tokens]
issuer = "https://gw.test"
access_ttl = "60s"

[[routes]]
path = "/api"
upstream = "app"
strip_prefix = true
request_headers = { set = { X-Name = "{claims.username}", X-Api-Key = "hush" } }

[[routes]]
path = "/api/admin"
upstream = "app"
roles = ["admin"]

[[routes]]
path = "/api"
hosts = ["*.example"]
methods = ["POST"]
upstream = "app"

[[routes]]
path = "/old"
access = "public"
redirect = { to = "https://new.example{below}{query}" }

[[routes]]
path = "/"
static = "page"
access = "public"
index_fallback = true
"#;

fn start(upstream: &Upstream) -> Gateway {
    start_with(CONFIG, upstream)
}

fn start_with(config: &str, upstream: &Upstream) -> Gateway {
    let config = format!("{config}\n[upstreams.app]\nurls = [\"http://{}\"]\n", upstream.address);
    let users = users_file(&[("1", "alice", PASSWORD, &["user"])]);
    Gateway::start_with(&config, &users, &[("page/index.html", b"<p>page")])
}

fn explain(dir: &Path, args: &[&str], input: &str) -> (i32, String, String) {
    let all = [&["explain", "--config", "gateway.toml"], args].concat();
    Gateway::command(dir, &all, input)
}

#[test]
fn what_is_explained_is_what_the_upstream_gets() {
    let upstream = Upstream::start();
    let gateway = start(&upstream);
    let (alice, refresh) = tokens(gateway.address, "alice", PASSWORD);
    let host = gateway.address.to_string();
    let url = format!("http://{host}/api/x%20y?z");
    std::fs::write(gateway.path("token"), format!("{alice}\n")).unwrap();
    let fields = ["-H", "X-Auth-User: root", "-H", "Cookie: a=b", "-H", "X-Custom: \"kept\""];
    let args = [&["GET", &url, "--token-file", "token"][..], &fields[..]].concat();
    let (code, said, notes) = explain(gateway.dir.path(), &args, "");
    assert_eq!(code, 0, "{said}\n{notes}");
    for line in [
        "route     *.example /api (routes[2]) has another host",
        "route     any host /api/admin (routes[1]) has another path",
        "route     any host /api (routes[0]) takes it",
        "asks for  a good access token",
        "route     any host / (routes[4]) would fit, but comes later",
        "identity  alice (sub 1), roles user, session ",
        "outcome   forwarded to upstream app:",
        "          X-Api-Key: (redacted)",
        "          Cookie: (redacted)",
        "          X-Name: alice",
    ] {
        assert!(said.contains(line), "{line} is not in\n{said}");
    }
    assert!(!said.contains("root") && !said.contains(&alice) && !said.contains("hush"), "{said}");
    assert!(upstream.requests().is_empty(), "nobody was asked");

    let bearer = format!("Bearer {alice}");
    let sent = [
        ("Authorization", bearer.as_str()),
        ("X-Auth-User", "root"),
        ("Cookie", "a=b"),
        ("X-Custom", "\"kept\""),
    ];
    assert_eq!(get(gateway.address, "/api/x%20y?z", &sent).unwrap().status, 200);
    let seen = String::from_utf8(upstream.last().raw).unwrap();
    let printed: Vec<&str> = said.split("upstream app:\n").nth(1).unwrap().lines().map(str::trim).collect();
    for line in seen.split("\r\n").filter(|line| !line.is_empty()) {
        let (name, _) = line.split_once(':').unwrap_or((line, ""));
        let is_printed = printed.iter().any(|t| {
            *t == line
                || (t.starts_with(&format!("{name}:"))
                    && (name == "X-Request-Id" || t.contains("(redacted)")))
        });
        assert!(is_printed, "{line} is not printed in\n{said}");
    }
    assert_eq!(printed.len(), seen.split("\r\n").filter(|line| !line.is_empty()).count(), "{said}\n{seen}");

    let (code, said, why) = explain(gateway.dir.path(), &["GET", &url, "--token-file", "-"], &refresh);
    assert!(
        code == 1 && said.contains("is a refresh token") && why.contains("401 wrong_token_type"),
        "{said}"
    );
}

#[test]
fn explain_reports_how_long_ago_a_token_expired() {
    let upstream = Upstream::start();
    let gateway = start_with(&CONFIG.replace("60s", "1s"), &upstream);
    let (alice, _) = tokens(gateway.address, "alice", PASSWORD);
    wait_until("the token has expired", || {
        let (code, said, _) = explain(gateway.dir.path(), &["GET", "/api", "--token-file", "-"], &alice);
        code == 1 && said.contains("token     expired ") && said.contains("identity  alice")
    });
}

#[test]
fn every_way_a_request_can_end_is_explained() {
    let upstream = Upstream::start();
    let gateway = start(&upstream);
    for (args, input, code, parts) in [
        (&["GET", "/api/x"][..], "", 1, &["token     there is none", "401 missing_token"][..]),
        (
            &["GET", "/api/x", "--token-file", "-"],
            "a.b.c",
            1,
            &["token     is not good", "401 invalid_token"],
        ),
        (
            &["GET", "/api/x", "--token-file", "-"],
            "a b",
            1,
            &["token     cannot be read", "400 invalid_request"],
        ),
        (&["GET", "http://a.example/api"], "", 1, &["does not take the method", "405 method_not_allowed"]),
        (&["GET", "/a/../b"], "", 1, &["before any route", "400 ambiguous_target"]),
        (&["TRACE", "/"], "", 1, &["405 method_not_allowed"]),
        (&["GET", "http://a@b/"], "", 1, &["400 bad_request"]),
        (&["POST", "/login"], "", 0, &["one of the gateway's own endpoints"]),
        (
            &["GET", "http://a/old/x?y"],
            "",
            0,
            &["308 Permanent Redirect", "Location: https://new.example/x?y"],
        ),
        (&["GET", "http://a"], "", 0, &["answered by the gateway: 200 OK", "Content-Security-Policy"]),
        (&["GET", "/page"], "", 1, &["404 not_found"]),
        (&["GET", "/page", "-H", "Accept: text/html"], "", 0, &["200 OK"]),
        (&["GET", "/page", "-H", "authorization: Bearer x"], "", 2, &["--token-file"]),
        (&["GET", "/page", "-H", "nonsense"], "", 2, &["one line"]),
        (&["GET", "/x", "--token-file", "no/such"], "", 1, &["cannot read the token file no/such"]),
    ] {
        let (got, said, notes) = explain(gateway.dir.path(), args, input);
        assert_eq!(got, code, "{args:?}\n{said}\n{notes}");
        for part in parts {
            assert!(
                said.contains(part) || notes.contains(part),
                "{args:?}: {part} is not in\n{said}\n{notes}"
            );
        }
    }
}

#[test]
fn nothing_is_made_or_changed_by_explaining() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("config")).unwrap();
    std::fs::create_dir_all(dir.path().join("page")).unwrap();
    std::fs::write(dir.path().join("config/users.toml"), users_file(&[])).unwrap();
    let config = format!("{CONFIG}\n[upstreams.app]\nurls = [\"http://127.0.0.1:1\"]\n");
    std::fs::write(dir.path().join("gateway.toml"), config).unwrap();
    let (code, said, notes) = explain(dir.path(), &["GET", "/api", "--token-file", "-"], "a.b.c");
    assert!(code == 1 && said.contains("is not good"), "{said}\n{notes}");
    assert!(notes.contains("has not made its key yet"), "{notes}");
    assert!(!dir.path().join("var").exists());
}

#[test]
fn check_prints_the_routes_in_the_order_in_which_they_match() {
    let upstream = Upstream::start();
    let gateway = start(&upstream);
    let (code, table, _) = Gateway::command(gateway.dir.path(), &["check", "--config", "gateway.toml"], "");
    assert_eq!(code, 0);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split("  ").map(str::trim).collect()).collect();
    let cells: Vec<Vec<&str>> =
        rows.into_iter().map(|row| row.into_iter().filter(|cell| !cell.is_empty()).collect()).collect();
    assert_eq!(cells[0], ["HOSTS", "PATH", "METHODS", "ACCESS", "ROLES AND CLAIMS", "TO"]);
    assert_eq!(cells[1], ["*.example", "/api", "POST", "authenticated", "any", "upstream app"]);
    let usual = "GET,HEAD,POST,PUT,PATCH,DELETE,OPTIONS";
    assert_eq!(cells[2], ["any", "/api/admin", usual, "authenticated", "admin", "upstream app"]);
    assert_eq!(
        cells[4],
        ["any", "/old", usual, "public", "any", "redirect 308 to https://new.example{below}{query}"]
    );
    assert_eq!(cells.len(), 6);
}

#[test]
fn the_client_its_origin_and_what_a_route_does_to_bodies_are_named() {
    let upstream = Upstream::start();
    let config = "[server]\ntrusted_proxies = [\"192.0.2.1\"]\n[[routes]]\npath = \"/\"\nupstream = \"app\"\naccess = \"public\"\n\
                  compress = true\nrequest_buffering = true\nupgrade = [\"websocket\", \"SPDY/3.1\"]\n";
    let gateway = start_with(config, &upstream);
    for (from, fields, client) in [
        ("198.51.100.7", &[][..], "198.51.100.7 to http://app.example:8080"),
        ("198.51.100.7", &["X-Forwarded-For: 203.0.113.7"], "198.51.100.7 to http://app.example:8080"),
        (
            "192.0.2.1",
            &[
                "X-Forwarded-For: 203.0.113.7:51234",
                "X-Forwarded-Proto: wss",
                "X-Forwarded-Host: shop.example",
            ],
            "203.0.113.7 to https://shop.example, its forwarding fields are read",
        ),
        (
            "192.0.2.1",
            &["Forwarded: for=\"[2001:db8::1]:443\";proto=https;host=shop.example"],
            "2001:db8::1 to https://shop.example, its forwarding fields are read",
        ),
    ] {
        let fields: Vec<&str> = fields.iter().flat_map(|field| ["-H", field]).collect();
        let args = [&["GET", "http://app.example:8080/x", "--from", from], &fields[..]].concat();
        let (code, output, notes) = explain(gateway.dir.path(), &args, "");
        assert_eq!(code, 0, "{notes}");
        for line in [
            &format!("client    {client}")[..],
            "buffers   the body of a request whole, and sends it with Content-Length",
            "compress  responses, where the client accepts zstd, br or gzip",
            "upgrades  connections to websocket, SPDY/3.1",
        ] {
            assert!(output.lines().any(|found| found == line), "{line} is not in\n{output}");
        }
    }
}
