//! Routing, and header edits of requests and responses.

use crate::fixture::{Gateway, PASSWORD, Upstream, exchange, get, request, tokens, users_file, wait_until};

/// Users with claims of their own.
fn users() -> String {
    let everybody = users_file(&[
        ("1", "alice", PASSWORD, &["user"]),
        ("2", "bob", PASSWORD, &["user", "b,c"]),
        ("3", "root", PASSWORD, &["admin"]),
    ]);
    // Each user ends with the roles, so tables of the claims fit in behind them.
    everybody
        .replace(
            "roles = [\"user\"]\n",
            "roles = [\"user\"]\n[users.claims]\ntenant = \"Bücher\\r\\nX-Evil: 1\"\nlevel = 3\nteams = [\"it\", \"ops\"]\nstaff = true\n",
        )
}

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
    let config = format!("[upstreams.app]\nurls = [\"http://{}\"]\n{routes}", upstream.address);
    Gateway::start_with(&config, &users(), &[("page/index.html", b"<p>page"), ("page/app.js", b"1")])
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[test]
fn the_closest_host_decides_before_the_longest_path_and_no_method_leads_past_a_route() {
    let upstream = Upstream::start();
    // Each route is send apart by what is put before the path.
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

#[test]
fn fields_are_edited_with_what_was_verified_and_never_with_what_a_client_says() {
    let upstream = Upstream::start();
    let edits = "request_headers.set = { X-Tenant = \"t={claims.tenant}\", X-Teams = \"{claims.teams}\", X-Fixed = \"yes\", \
        X-From = \"{client_address} {host}\", X-Rid = \"{request_id}\" }\n\
        request_headers.add = { X-More = \"ours\" }\nrequest_headers.remove = [\"Cookie\"]\n\
        response_headers = { set = { X-Upstream = \"no\", X-Who = \"{claims.username}\" }, add = { X-Twice = \"2\" }, \
        remove = [\"Content-Type\"] }\n";
    let routes = [
        ("/api", edits),
        ("/open", &format!("{edits}access = \"optional\"")),
        ("/else", "access = \"public\""),
    ];
    let gateway = start(&upstream, &routes);
    let (alice, _) = tokens(gateway.address, "alice", PASSWORD);
    let (bob, _) = tokens(gateway.address, "bob", PASSWORD);
    let ask = |path: &str, token: Option<&str>| {
        let bearer = token.map(bearer).unwrap_or_default();
        let mut fields = vec![
            ("X-Tenant", "forged"),
            ("x_tenant", "forged"),
            ("X.Teams", "forged"),
            ("x-fixed", "forged"),
            ("X-More", "theirs"),
            ("Cookie", "a=b"),
        ];
        if !bearer.is_empty() {
            fields.push(("Authorization", &bearer));
        }
        let reply = get(gateway.address, path, &fields).unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
        (reply, upstream.last())
    };
    let (reply, seen) = ask("/api", Some(&alice));
    assert_eq!(seen.values("x-tenant"), ["t=B%C3%BCcher%0D%0AX-Evil:%201"]);
    assert_eq!(seen.values("x-teams"), ["it,ops"]);
    assert_eq!(seen.values("x-more"), ["theirs", "ours"]);
    assert_eq!(seen.values("x-from"), [format!("127.0.0.1 {}", gateway.address)]);
    assert_eq!(seen.values("x-rid"), seen.values("x-request-id"));
    assert_eq!(seen.values("cookie"), [] as [&str; 0]);
    assert_eq!((reply.field("x-upstream"), reply.field("x-who")), (Some("no"), Some("alice")));
    assert_eq!((reply.field("x-twice"), reply.field("content-type")), (Some("2"), None));

    for (path, token) in [("/api", Some(bob.as_str())), ("/open", None)] {
        let (reply, seen) = ask(path, token);
        assert_eq!(seen.values("x-tenant"), [] as [&str; 0], "an absent claim leaves no field");
        assert_eq!(seen.values("x-fixed"), ["yes"]);
        assert!(!String::from_utf8_lossy(&seen.raw).contains("forged"));
        assert_eq!(reply.field("x-who"), token.map(|_| "bob"));
    }
    let (_, seen) = ask("/else", None);
    assert_eq!(
        seen.values("x-tenant"),
        [] as [&str; 0],
        "a header that carries a claim on one route is reserved on all"
    );
    assert_eq!(seen.values("x-fixed"), ["forged"]);
}

#[test]
fn claims_that_a_route_asks_for_are_needed_all() {
    let upstream = Upstream::start();
    let routes = [
        ("/staff", "claims = { staff = true, level = [2, 3] }"),
        ("/ops", "claims = { teams = \"ops\" }\nroles = [\"user\"]"),
        ("/boss", "claims = { level = 4 }"),
        ("/sub", "claims = { sub = [\"2\", \"3\"] }"),
    ];
    let gateway = start(&upstream, &routes);
    for (user, statuses) in [("alice", [200, 200, 403, 403]), ("root", [403, 403, 403, 200])] {
        let (token, _) = tokens(gateway.address, user, PASSWORD);
        for ((path, _), status) in routes.iter().zip(statuses) {
            let reply = get(gateway.address, path, &[("Authorization", &bearer(&token))]).unwrap();
            assert_eq!(reply.status, status, "{user} {path}");
            if status == 403 {
                assert_eq!(reply.code(), "insufficient_scope");
            }
        }
    }
}

#[test]
fn bodies_beyond_a_routes_limit_are_refused_at_once_or_cut_off_while_they_come() {
    let upstream = Upstream::start();
    let routes =
        [("/small", "access = \"public\"\nmax_body = 1000"), ("/any", "access = \"public\"\nmax_body = 0")];
    let gateway = start(&upstream, &routes);
    let send = |path: &str, length: usize, body: &[u8]| {
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        exchange(gateway.address, &[head.as_bytes(), body].concat())
    };
    let fits = send("/small/mirror", 1000, &[b'x'; 1000]);
    assert_eq!((fits.replies[0].status, fits.replies[0].body.len()), (200, 1000));
    assert_eq!(send("/any/mirror", 2000, &[b'x'; 2000]).replies[0].status, 200);
    upstream.clear();
    let refused = send("/small", 1001, b"");
    assert_eq!((refused.replies[0].status, refused.replies[0].code().as_str()), (413, "payload_too_large"));
    assert!(refused.closed && upstream.requests().is_empty());

    let chunked = |path: &str, pieces: usize| {
        let mut text = format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..pieces {
            text.push_str(&format!("64\r\n{}\r\n", "y".repeat(100)));
        }
        exchange(gateway.address, format!("{text}0\r\n\r\n").as_bytes())
    };
    assert_eq!(chunked("/small/mirror", 10).replies[0].body.len(), 1000);
    upstream.clear();
    let cut = chunked("/small/mirror", 11);
    assert_eq!((cut.replies[0].status, cut.replies[0].code().as_str()), (413, "payload_too_large"));
    assert!(cut.closed && cut.replies.len() == 1);
    assert!(upstream.requests().is_empty(), "the upstream never takes half a body for a whole one");
    assert!(upstream.violations().is_empty(), "{:?}", upstream.violations());
}

#[test]
fn an_app_with_addresses_of_its_own_gets_its_page_and_scripts_get_a_404() {
    let upstream = Upstream::start();
    let gateway = start(
        &upstream,
        &[
            ("/", "static = \"page\"\naccess = \"public\"\nindex_fallback = true"),
            ("/plain", "static = \"page\"\naccess = \"public\""),
            ("/api", "access = \"public\"\nmethods = [\"GET\"]"),
        ],
    );
    let html = ("Accept", "application/xhtml+xml, Text/HTML;q=0.9, */*;q=0.8");
    for (path, accept, status) in [
        ("/", ("Accept", "*/*"), 200),
        ("/app.js", ("Accept", "*/*"), 200),
        ("/settings/profile", html, 200),
        ("/settings/", html, 200),
        ("/settings/profile", ("Accept", "*/*"), 404),
        ("/settings/profile", ("Accept", "application/json"), 404),
        ("/settings/profile", ("X-Nothing", "1"), 404),
        ("/missing.js", html, 404),
        ("/.git/config", html, 404),
        ("/node_modules/x", html, 404),
        ("/plain/settings", html, 404),
    ] {
        let reply = get(gateway.address, path, &[accept]).unwrap();
        assert_eq!(reply.status, status, "{path} {accept:?}");
        if status == 200 && path != "/app.js" {
            assert_eq!(reply.text(), "<p>page", "{path}");
        }
    }
    let page = get(gateway.address, "/settings", &[html]).unwrap();
    assert_eq!(page.field("vary"), Some("Accept"));
    assert!(page.field("content-security-policy").is_some());
    let unchanged = [html, ("If-None-Match", page.field("etag").unwrap())];
    assert_eq!(get(gateway.address, "/other", &unchanged).unwrap().status, 304);
    let head = b"HEAD /settings HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\nConnection: close\r\n\r\n";
    let send = exchange(gateway.address, head);
    assert!(String::from_utf8_lossy(&send.rest).contains("Content-Length: 7\r\n"), "{send:?}");
    assert_eq!(request(gateway.address, "POST", "/settings", &[html], b"").unwrap().status, 405);
    assert!(get(gateway.address, "/api/x", &[html]).unwrap().text().contains("\"target\":\"/api/x\""));
}

#[test]
fn routes_send_clients_elsewhere_and_nowhere_else() {
    let upstream = Upstream::start();
    let gateway = start(
        &upstream,
        &[
            ("/old", "access = \"public\"\nredirect = { to = \"https://new.example/v2{below}{query}\" }"),
            ("/moved", "access = \"public\"\nredirect = { to = \"http://new.example{path}\", status = 302 }"),
            (
                "/",
                "access = \"public\"\nhosts = [\"*.example\"]\nredirect = { to = \"https://{host}{path}{query}\" }",
            ),
            ("/secret", "redirect = { to = \"/elsewhere\" }"),
        ],
    );
    for (host, path, status, location) in [
        ("a", "/old/x%20y/z?q=//evil&r", 308, "https://new.example/v2/x%20y/z?q=//evil&r"),
        ("a", "/old", 308, "https://new.example/v2"),
        ("a", "/old?x", 308, "https://new.example/v2?x"),
        ("a", "/%6fld/@evil.test", 308, "https://new.example/v2/@evil.test"),
        ("a", "/moved/x?y", 302, "http://new.example/moved/x"),
        ("A.example:8080", "/x?y", 308, "https://A.example/x?y"),
        ("a", "/old//evil.test", 400, ""),
        ("a", "/secret", 401, ""),
        ("evil.test", "/", 404, ""),
    ] {
        let text = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n\r\nhi");
        let reply = exchange(gateway.address, text.as_bytes()).replies.remove(0);
        assert_eq!(reply.status, status, "{host} {path}");
        assert_eq!(reply.field("location").unwrap_or_default(), location, "{host} {path}");
    }
    assert!(upstream.requests().is_empty());
}

#[test]
fn routes_answer_by_themselves() {
    let upstream = Upstream::start();
    let gateway = start(
        &upstream,
        &[
            (
                "/down",
                "access = \"public\"\nrespond = { status = 503, body = \"Back at noon.\" }\n\
                 response_headers.set.Retry-After = \"60\"",
            ),
            (
                "/page",
                "respond = { status = 200, body_file = \"page/index.html\", content_type = \"text/html\" }",
            ),
            ("/none", "access = \"public\"\nrespond = { status = 204 }"),
        ],
    );
    let down = request(gateway.address, "POST", "/down/x", &[], b"hi").unwrap();
    assert_eq!((down.status, down.text().as_str()), (503, "Back at noon."));
    assert_eq!(
        (down.field("retry-after"), down.field("x-content-type-options")),
        (Some("60"), Some("nosniff"))
    );
    assert_eq!(down.field("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(get(gateway.address, "/none", &[]).unwrap().status, 204);
    assert_eq!(get(gateway.address, "/page", &[]).unwrap().status, 401);
    let (alice, _) = tokens(gateway.address, "alice", PASSWORD);
    let page = get(gateway.address, "/page", &[("Authorization", &bearer(&alice))]).unwrap();
    assert_eq!((page.text().as_str(), page.field("content-type")), ("<p>page", Some("text/html")));
}

#[test]
fn a_gateway_that_leads_to_itself_stops_the_circle() {
    let upstream = Upstream::start();
    let mut gateway = start(&upstream, &[("/", "access = \"public\"")]);
    let passed = |times: usize| vec!["1.1 auth-gateway"; times].join(", ");
    let four = get(gateway.address, "/", &[("Via", &passed(4))]).unwrap();
    let seen = upstream.last();
    assert_eq!((four.status, seen.values("via")), (200, vec![passed(4).as_str()]));
    assert_eq!(seen.values("cdn-loop"), ["auth-gateway"]);
    gateway.kill();
    let config = std::fs::read_to_string(gateway.path("gateway.toml")).unwrap();
    let itself = config.replace(&upstream.address.to_string(), &gateway.address.to_string());
    std::fs::write(gateway.path("gateway.toml"), itself).unwrap();
    gateway.run();
    let reply = get(gateway.address, "/round", &[]).unwrap();
    assert_eq!((reply.status, reply.code().as_str()), (508, "loop_detected"));
    wait_until("all passes are logged", || gateway.log().matches("\"path\":\"/round\"").count() == 6);
}
