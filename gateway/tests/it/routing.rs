//! Which route a request takes, and what routes do to requests and answers.

use crate::fixture::{Gateway, Upstream, exchange};

/// A gateway with these routes, each a path and further keys; the upstream is called `app`.
fn start(upstream: &Upstream, routes: &[(&str, &str)]) -> Gateway {
    let route = |(path, more): &(&str, &str)| {
        let to = if more.contains("static =") || more.contains("redirect") || more.contains("respond") {
            ""
        } else {
            "upstream = \"app\"\n"
        };
        format!("[[routes]]\npath = \"{path}\"\n{to}{more}\n")
    };
    let routes: String = routes.iter().map(route).collect();
    Gateway::start(&format!("[upstreams.app]\nurls = [\"http://{}\"]\n{routes}", upstream.address))
}

#[test]
fn the_closest_host_decides_before_the_longest_path_and_no_method_leads_past_a_route() {
    let upstream = Upstream::start();
    // Each route is told apart by what is put before the path.
    let to = |name: &str, more: &str| format!("access = \"public\"\nrewrite_prefix = \"/{name}\"\n{more}");
    let routes = [
        ("/", to("any", "")),
        ("/api", to("any-api", "methods = [\"GET\"]")),
        ("/", to("app", "hosts = [\"app.example\", \"*.wide.example\"]")),
        ("/api", to("below", "hosts = [\"*.example\"]\nmethods = [\"POST\"]")),
        ("/api/x", "hosts = [\"*.example\"]\nmethods = [\"GET\"]".into()),
        ("/api/x", to("below-put", "hosts = [\"*.example\"]\nmethods = [\"PUT\"]")),
    ];
    let routes: Vec<(&str, &str)> = routes.iter().map(|(path, more)| (*path, more.as_str())).collect();
    let gateway = start(&upstream, &routes);
    for (method, host, path, status, seen) in [
        ("GET", "other.test", "/x", 200, "/any/x"),
        ("GET", "other.test", "/api/x", 200, "/any-api/x"),
        ("POST", "other.test", "/api", 405, "GET"),
        ("GET", "APP.example.:8080", "/api/x", 200, "/app/api/x"),
        ("GET", "a.b.wide.example", "/api/x", 200, "/app/api/x"),
        ("POST", "wide.example", "/api/y", 200, "/below/y"),
        ("GET", "a.example", "/api/y", 405, "POST"),
        ("GET", "a.b.example", "/api/x", 401, ""),
        ("PUT", "a.example", "/api/x", 200, "/below-put"),
        ("POST", "a.example", "/api/x", 405, "GET, PUT"),
        ("GET", "a.example", "/x", 200, "/any/x"),
        ("GET", "example", "/api", 200, "/any-api"),
    ] {
        let text = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n");
        let reply = exchange(gateway.address, text.as_bytes()).replies.remove(0);
        assert_eq!(reply.status, status, "{method} {host} {path}");
        match status {
            200 => assert_eq!(upstream.last().target, seen, "{method} {host} {path}"),
            405 => assert_eq!(reply.field("allow"), Some(seen), "{method} {host} {path}"),
            _ => {}
        }
    }
}
