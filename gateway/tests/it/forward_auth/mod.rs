//! Forward authentication: what the endpoint answers, and the examples with the real proxies that ask it.

mod fronts;

use std::net::SocketAddr;

use crate::fixture::{
    Gateway, HTML, PASSWORD, Reply, Upstream, exchange_to_end, get_from, request, tokens, until_not_busy,
};

fn start(upstream: &Upstream, more: &str) -> Gateway {
    Gateway::start(&format!(
        "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n\
         [browser]\nenabled = true\n[forward_auth]\nenabled = true\n\
         [store]\nkind = \"memory\"\n[upstreams.app]\nurls = [\"http://{}\"]\n\
         [[routes]]\npath = \"/\"\nupstream = \"app\"\nupgrade = [\"websocket\"]\n\
         [[routes]]\npath = \"/public\"\nupstream = \"app\"\naccess = \"public\"\n\
         [[routes]]\npath = \"/optional\"\nupstream = \"app\"\naccess = \"optional\"\n\
         [[routes]]\npath = \"/admin\"\nupstream = \"app\"\nroles = [\"admin\"]\n\
         [[routes]]\npath = \"/host\"\nupstream = \"app\"\nhosts = [\"other.example\"]\naccess = \"public\"\n\
         [[routes]]\npath = \"/read\"\nupstream = \"app\"\nmethods = [\"GET\"]\n\
         [[routes]]\npath = \"/slashes\"\nupstream = \"app\"\nencoded_slashes = true\n\
         [[routes]]\npath = \"/own-cors\"\nupstream = \"app\"\ncors = {{ pass_through = true }}\n\
         {more}\n[warnings]\nsilence = [\"shadowed-path\", \"route-bypass\"]\n",
        upstream.address
    ))
}

/// A question about `METHOD URL` as Traefik and Caddy ask it.
fn ask(gateway: &Gateway, method: &str, url: &str, fields: &[(&str, &str)]) -> Reply {
    let (proto, rest) = url.split_once("://").unwrap();
    let slash = rest.find('/').unwrap();
    let mut all = vec![
        ("X-Forwarded-Method", method),
        ("X-Forwarded-Proto", proto),
        ("X-Forwarded-Host", &rest[..slash]),
        ("X-Forwarded-Uri", &rest[slash..]),
    ];
    all.extend(fields);
    request(gateway.address, "GET", "/auth/verify", &all, b"").unwrap()
}

/// As nginx asks it.
fn ask_as_nginx(gateway: &Gateway, method: &str, url: &str, fields: &[(&str, &str)]) -> Reply {
    let mut all = vec![("X-Original-Method", method), ("X-Original-URL", url)];
    all.extend(fields);
    request(gateway.address, "GET", "/auth/verify", &all, b"").unwrap()
}

/// As Envoy asks it.
fn ask_as_envoy(gateway: &Gateway, method: &str, url: &str, fields: &[(&str, &str)]) -> Reply {
    let (proto, rest) = url.split_once("://").unwrap();
    let slash = rest.find('/').unwrap();
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!(
        "{method} /auth/verify{} HTTP/1.1\r\nHost: {}\r\nX-Forwarded-Proto: {proto}\r\nContent-Length: 0\r\n\
         Connection: close\r\n{fields}\r\n",
        &rest[slash..],
        &rest[..slash]
    );
    exchange_to_end(gateway.address, head.as_bytes()).replies.remove(0)
}

pub(crate) type Ask = fn(&Gateway, &str, &str, &[(&str, &str)]) -> Reply;

/// How proxies describe the request that they ask about.
pub(crate) const WAYS: [(&str, Ask); 3] =
    [("X-Forwarded-*", ask), ("X-Original-URL", ask_as_nginx), ("the path", ask_as_envoy)];

fn bearer(gateway: &Gateway, user: &str) -> String {
    format!("Bearer {}", tokens(gateway.address, user, PASSWORD).0)
}

/// The cookies of a sign-in at `https://app.example`, and only the one with the refresh token.
fn cookies(gateway: &Gateway, user: &str) -> (String, String) {
    let form = format!("username={user}&password={}", PASSWORD.replace(' ', "+"));
    let fields = [
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "app.example"),
        ("Origin", "https://app.example"),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let reply =
        until_not_busy(|| request(gateway.address, "POST", "/login", &fields, form.as_bytes()).unwrap());
    assert_eq!(reply.status, 303, "{reply:?}");
    let pairs: Vec<&str> =
        reply.values("set-cookie").iter().map(|set| set.split(';').next().unwrap()).collect();
    let refresh = pairs.iter().find(|pair| pair.contains("_refresh=")).unwrap();
    (pairs.join("; "), (*refresh).to_owned())
}

#[test]
fn the_routes_decide_on_the_original_request_however_it_is_described() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, "");
    let (alice, root) = (bearer(&gateway, "alice"), bearer(&gateway, "root"));
    let app = "https://app.example";
    for (way, ask) in WAYS {
        for (method, target, token, status, code) in [
            ("GET", "/x", "", 401, "missing_token"),
            ("GET", "/x", "Bearer forged", 401, "invalid_token"),
            ("GET", "/x", &*alice, 200, ""),
            ("DELETE", "/x?a=b", &*alice, 200, ""),
            ("GET", "/public/a", "", 200, ""),
            ("GET", "/public/a", "Bearer forged", 200, ""),
            ("GET", "/optional", "", 200, ""),
            ("GET", "/admin/a", &*alice, 403, "insufficient_scope"),
            ("GET", "/admin/a", &*root, 200, ""),
            ("GET", "/read", &*alice, 200, ""),
            ("POST", "/read", &*alice, 405, "method_not_allowed"),
            ("PROPFIND", "/x", &*alice, 405, "method_not_allowed"),
            // As on the way through.
            ("GET", "/public/../admin", &*alice, 400, "ambiguous_target"),
            ("GET", "/public/%2e%2e/admin", "", 400, "ambiguous_target"),
            ("GET", "/public/..;/admin", &*alice, 400, "ambiguous_target"),
            ("GET", "/x//y", &*alice, 400, "ambiguous_target"),
            ("GET", "/x%2Fy", &*alice, 400, "ambiguous_target"),
            ("GET", "/slashes/x%2Fy", &*alice, 200, ""),
            ("GET", "/x\\y", &*alice, 400, "ambiguous_target"),
            ("GET", "/login", &*alice, 400, "bad_request"),
            ("GET", "/auth/verify", &*alice, 400, "bad_request"),
        ] {
            let fields = [("Authorization", token)];
            let fields = if token.is_empty() { &[] } else { &fields[..] };
            let reply = ask(&gateway, method, &format!("{app}{target}"), fields);
            let found = if reply.status == 200 { String::new() } else { reply.code() };
            assert_eq!((reply.status, &*found), (status, code), "{way}: {method} {target} {token}");
            assert_eq!(reply.field("cache-control"), Some("no-store"), "{way}");
            // What the endpoint's own address is refused for does not depend on credentials.
            assert!(
                status == 400
                    || reply
                        .fields
                        .iter()
                        .any(|(name, value)| name.eq_ignore_ascii_case("vary")
                            && value == "Authorization, Cookie"),
                "{way}: {:?}",
                reply.fields
            );
            let challenge = reply.field("www-authenticate").map(|value| value.starts_with("Bearer"));
            assert_eq!(challenge, matches!(status, 401 | 403).then_some(true), "{way}: {target}");
        }
        let host = |host: &str| ask(&gateway, "GET", &format!("https://{host}/host"), &[]).status;
        assert_eq!((host("other.example"), host("OTHER.example:443"), host("app.example")), (200, 200, 401));
    }
    assert!(upstream.requests().is_empty(), "nothing is sent to the app");
    let metrics = gateway.metrics();
    assert!(metrics.contains("auth_gateway_requests_total{route=\"(verify)\",status=\"2xx\"}"), "{metrics}");
}

#[test]
fn a_good_verdict_has_what_the_app_is_to_get_and_nothing_that_the_client_made_up() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, "");
    let (cookies, _) = cookies(&gateway, "alice");
    let token = bearer(&gateway, "alice");
    for (way, ask) in WAYS {
        let forged = [("X-Auth-User", "root"), ("X-Auth-Roles", "admin"), ("x-auth-session", "1")];
        let with_cookies = format!("a=1; {cookies}; b=2");
        let fields = [&forged[..], &[("Cookie", &*with_cookies), ("Authorization", "Basic YTpi")]].concat();
        let reply = ask(&gateway, "GET", "https://app.example/x", &fields);
        let seen = |name: &str| reply.field(name).unwrap_or_else(|| panic!("{way}: {reply:?}")).to_owned();
        assert_eq!(reply.status, 200, "{way}");
        assert_eq!((seen("x-auth-user"), seen("x-auth-roles")), ("alice".into(), "user".into()), "{way}");
        assert_eq!(seen("cookie"), "a=1; b=2", "{way}: the session stays here");
        assert_eq!(seen("authorization"), "Basic YTpi", "{way}: it is the app's");
        assert!(reply.body.is_empty() && reply.values("set-cookie").is_empty(), "{way}");

        let reply = ask(&gateway, "GET", "https://app.example/x", &[("Authorization", &*token)]);
        assert_eq!((reply.status, reply.field("authorization")), (200, None), "{way}: the token stays here");
        let reply = ask(&gateway, "GET", "https://app.example/public", &forged);
        let identity = reply.fields.iter().any(|(name, _)| name.to_lowercase().starts_with("x-auth-"));
        assert_eq!((reply.status, identity), (200, false), "{way}");
        let removed = reply.field("x-envoy-auth-headers-to-remove").unwrap_or_default();
        let all = ["x-auth-user", "x-auth-subject", "x-auth-roles", "x-auth-session", "cookie"];
        assert_eq!(all.iter().all(|name| removed.contains(name)), way == "the path", "{removed}");

        for name in ["X_Auth_User", "X-Auth_Roles", "HTTP_X_AUTH_USER", "X_Forwarded_For"] {
            let reply = ask(&gateway, "GET", "https://app.example/public", &[(name, "root")]);
            assert_eq!((reply.status, &*reply.code()), (400, "bad_request"), "{way}: {name}");
        }
    }
}

#[test]
fn a_person_is_led_to_the_sign_in_page_and_nginx_gets_the_way_with_401() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, "");
    let url = "https://app.example/lab/a%20b?x=1";
    let to_sign_in = Some("/login?return=%2Flab%2Fa%2520b%3Fx%3D1");
    for fields in [&[("Accept", HTML)][..], &[("Sec-Fetch-Mode", "navigate")]] {
        for (way, ask) in WAYS {
            let reply = ask(&gateway, "GET", url, fields);
            assert_eq!(reply.status, if way == "X-Original-URL" { 401 } else { 303 }, "{way}");
            assert_eq!(reply.field("location"), to_sign_in, "{way}");
            assert_eq!(reply.field("www-authenticate").is_some(), way == "X-Original-URL");
        }
    }
    for (way, ask) in WAYS {
        for fields in [&[("Accept", "*/*")][..], &[("Accept", HTML), ("Sec-WebSocket-Version", "13")]] {
            let reply = ask(&gateway, "GET", url, fields);
            assert_eq!((reply.status, reply.field("location")), (401, None), "{way}");
        }
        let grpc = [("Content-Type", "application/grpc"), ("TE", "trailers"), ("Accept", HTML)];
        let reply = ask(&gateway, "POST", "https://app.example/svc/Call", &grpc);
        assert_eq!(
            (reply.status, &*reply.code()),
            (401, "missing_token"),
            "{way}: a proxy goes by the status"
        );
        let reply = ask(&gateway, "POST", url, &[("Accept", HTML)]);
        assert!(reply.status == 401 && reply.text().contains("What you sent was not processed"), "{way}");
        let token = bearer(&gateway, "alice");
        let reply = ask(&gateway, "GET", "https://app.example/admin", &[("Accept", HTML)]);
        assert_ne!(reply.status, 200);
        let reply = ask(&gateway, "GET", "https://app.example/admin", &[("Authorization", &token)]);
        assert_eq!((reply.status, &*reply.code()), (403, "insufficient_scope"), "{way}");
    }
}

#[test]
fn the_page_that_sends_a_request_is_checked_by_the_original_method_and_origin() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, "");
    let (cookies, _) = cookies(&gateway, "alice");
    for (way, ask) in WAYS {
        for (method, field, status) in [
            ("GET", ("Origin", "https://evil.example"), 200),
            ("POST", ("Origin", "https://app.example"), 200),
            ("POST", ("Sec-Fetch-Site", "same-origin"), 200),
            ("POST", ("Origin", "https://evil.example"), 403),
            ("POST", ("Origin", "http://app.example"), 403),
            ("POST", ("Sec-Fetch-Site", "same-site"), 403),
            ("DELETE", ("Accept", "*/*"), 403),
        ] {
            let reply = ask(&gateway, method, "https://app.example/x", &[("Cookie", &cookies), field]);
            assert_eq!(reply.status, status, "{way}: {method} {field:?}");
        }
        let socket = [
            ("Cookie", &*cookies),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        for (origin, status) in [("https://app.example", 200), ("https://evil.example", 403)] {
            let fields = [&socket[..], &[("Origin", origin)]].concat();
            let reply = ask(&gateway, "GET", "https://app.example/ws", &fields);
            assert_eq!(reply.status, status, "{way}: a WebSocket from {origin}");
        }
        // The cookies of a sign-in over TLS count over TLS only.
        let plain = ask(&gateway, "GET", "http://app.example/x", &[("Cookie", &cookies)]);
        assert_eq!(plain.status, 401, "{way}");
    }
}

#[test]
fn a_refreshed_session_comes_back_as_cookies_for_every_proxy() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, "");
    for (way, ask) in WAYS {
        let (_, refresh) = cookies(&gateway, "alice");
        let reply = ask(&gateway, "GET", "https://app.example/x", &[("Cookie", &refresh)]);
        assert_eq!((reply.status, reply.field("x-auth-user")), (200, Some("alice")), "{way}");
        let set = reply.values("set-cookie");
        assert!(set.len() == 2 && set.iter().all(|set| set.starts_with("__Host-")), "{way}: {set:?}");
        let numbered = ["x-set-cookie-1", "x-set-cookie-2"].map(|name| reply.field(name).unwrap());
        assert_eq!(set, numbered, "{way}: one field each, for proxies that know one value of a field");
        // What was emptied goes to the browser, too.
        let over = refresh.replace("refresh=", "refresh=x");
        let reply = ask(&gateway, "GET", "https://app.example/x", &[("Cookie", &*over), ("Accept", HTML)]);
        assert!(reply.values("set-cookie").iter().all(|set| set.contains("Max-Age=0")), "{way}: {reply:?}");
        let numbered = reply.field("x-set-cookie-2").is_some();
        assert_eq!(numbered, way == "X-Original-URL", "{way}: a page could read them in a refusal");
    }
}

#[test]
fn a_preflight_passes_where_the_route_leaves_cors_to_the_app_only() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, "[cors]\nallowed_origins = [\"https://page.example\"]\n");
    let preflight = [("Origin", "https://page.example"), ("Access-Control-Request-Method", "PUT")];
    for (way, ask) in WAYS {
        for (target, status) in [("/x", 401), ("/own-cors", 200), ("/public", 200)] {
            let reply = ask(&gateway, "OPTIONS", &format!("https://app.example{target}"), &preflight);
            assert_eq!(reply.status, status, "{way}: {target}");
        }
    }
}

#[test]
fn only_a_trusted_proxy_may_ask_and_has_to_name_the_request() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, "");
    let token = bearer(&gateway, "alice");
    let ask = |fields: &[(&str, &str)]| {
        let fields = [fields, &[("Authorization", &*token)]].concat();
        let reply = request(gateway.address, "GET", "/auth/verify", &fields, b"").unwrap();
        (reply.status, if reply.status == 200 { String::new() } else { reply.json()["detail"].to_string() })
    };
    let url = ("X-Original-URL", "https://app.example/public");
    assert_eq!(ask(&[url, ("X-Original-Method", "GET")]).0, 200);
    for (fields, problem) in [
        (&[][..], "the method is missing"),
        (&[url], "the method is missing"),
        (&[("X-Forwarded-Method", "GET"), ("X-Original-URI", "/x")], "the scheme is missing"),
        (
            &[("X-Forwarded-Method", "GET"), ("X-Original-URI", "/x"), ("X-Forwarded-Proto", "https")],
            "the host is missing",
        ),
        (&[url, ("X-Original-Method", "GET"), ("X-Forwarded-Uri", "/admin")], "contradict each other"),
        (&[url, ("X-Original-Method", "GET"), ("X-Forwarded-Host", "evil.example")], "contradict each other"),
        (&[url, ("X-Original-Method", "GET"), ("X-Forwarded-Proto", "http")], "contradict each other"),
        (&[url, ("X-Original-Method", "GET"), ("X-Forwarded-Method", "POST")], "contradict each other"),
        (&[("X-Original-URL", "https://a b/x"), ("X-Original-Method", "GET")], "Host"),
    ] {
        let (status, detail) = ask(fields);
        assert!(status == 400 && detail.contains(problem), "{fields:?}: {status} {detail}");
    }
    let other = SocketAddr::from(([127, 0, 0, 2], 0));
    let reply = get_from(
        other,
        gateway.address,
        "/auth/verify",
        &format!(
            "X-Original-URL: https://app.example/public\r\nX-Original-Method: GET\r\nAuthorization: {token}"
        ),
    );
    assert!(reply.starts_with("HTTP/1.1 403") && reply.contains("\"untrusted_proxy\""), "{reply}");
}
