//! The examples of forward authentication, each with the real proxy between a browser and the app.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::dpop::Client;
use crate::fixture::{
    self, Front, Gateway, HTML, PASSWORD, Reply, Upstream, example, get, get_from, keep_cookies, request,
    until_not_busy, users_file, wait_until,
};

/// A browser at the proxy, with one person's cookies.
struct Visitor<'f> {
    front: &'f Front,
    cookies: BTreeMap<String, String>,
}

impl<'f> Visitor<'f> {
    fn new(front: &'f Front) -> Visitor<'f> {
        Visitor { front, cookies: BTreeMap::new() }
    }

    fn signed_in(front: &'f Front, user: &str) -> Visitor<'f> {
        let mut visitor = Visitor::new(front);
        let form = format!("username={user}&password={}&return=%2Fback", PASSWORD.replace(' ', "+"));
        let fields =
            [("Origin", visitor.origin()), ("Content-Type", "application/x-www-form-urlencoded".to_owned())];
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let reply = until_not_busy(|| visitor.send("POST", "/gateway/login", &fields, form.as_bytes()));
        assert_eq!((reply.status, reply.field("location")), (303, Some("/back")), "{reply:?}");
        assert_eq!(visitor.cookies.len(), 2, "{reply:?}");
        visitor
    }

    fn origin(&self) -> String {
        format!("http://{}", self.front.address)
    }

    fn cookie_field(&self) -> String {
        let own = self.cookies.iter().map(|(name, value)| format!("{name}={value}; "));
        own.collect::<String>() + "app=1"
    }

    fn send(&mut self, method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Reply {
        let cookies = self.cookie_field();
        let fields = [fields, &[("Cookie", &*cookies)]].concat();
        let reply = request(self.front.address, method, target, &fields, body).unwrap();
        keep_cookies(&mut self.cookies, &reply);
        reply
    }

    fn get(&mut self, target: &str) -> Reply {
        self.send("GET", target, &[("Accept", "*/*")], b"")
    }
}

/// Asks for a WebSocket and gives the beginning of the status line.
fn websocket(visitor: &Visitor<'_>, origin: &str) -> String {
    let fields = format!("Origin: {origin}\r\nCookie: {}\r\n", visitor.cookie_field());
    fixture::websocket(visitor.front.address, &fields)
}

/// What every proxy has to do alike with its example.
fn check(name: &str, file: &str) {
    let upstream = Upstream::start();
    let text = example("forward-auth.toml", &[("3000", upstream.address)])
        .replace("[tokens]\n", "[tokens]\ndpop = \"optional\"\ndpop_nonce = true\n");
    let users = users_file(&[("1", "alice", PASSWORD, &["user"]), ("2", "root", PASSWORD, &["admin"])]);
    let gateway = Gateway::start_with(&text, "", &[("users.toml", users.as_bytes())]);
    let front = Front::start(name, file, &[("8080", gateway.address), ("3000", upstream.address)]);
    upstream.clear();

    // Without a session.
    let mut stranger = Visitor::new(&front);
    // Traefik writes what needs no escape without one.
    let tilde = if name == "traefik" { "~" } else { "%7E" };
    let page = stranger.send("GET", &format!("/lab/{tilde}a?b=1"), &[("Accept", HTML)], b"");
    let to_sign_in =
        format!("/gateway/login?return=%2Flab%2F{}a%3Fb%3D1", tilde.replace('%', "%25").replace('~', "%7E"));
    let to_sign_in = Some(to_sign_in.as_str());
    assert_eq!((page.status, page.field("location")), (303, to_sign_in), "{name}: {page:?}\n{}", front.log());
    let call = stranger.get("/lab");
    let challenge = call.field("www-authenticate").unwrap_or_default();
    assert!(call.status == 401 && challenge.starts_with("Bearer, DPoP "), "{name}: {call:?}");
    assert_eq!(stranger.send("GET", "/gateway/login", &[("Accept", HTML)], b"").status, 200, "{name}");
    for method in ["GET", "POST"] {
        let fields = [("X-Original-URL", "http://a/public"), ("X-Original-Method", "GET")];
        let asked = stranger.send(method, "/gateway/auth/verify", &fields, b"");
        // Traefik asks about it, and it is none of the app's.
        assert!(matches!(asked.status, 404 | 400), "{name}: no client may ask: {asked:?}");
    }
    assert!(upstream.requests().is_empty(), "{name}");

    // No client can state an identity by itself.
    for field in ["X-Auth-User", "x-auth-roles", "X_Auth_User", "X-Auth_Roles"] {
        for connection in ["close", "close, X-Auth-User"] {
            upstream.clear();
            let raw = format!("{field}: root\r\nConnection: {connection}");
            let source = ([127, 0, 0, 2], 0).into();
            let reply = get_from(source, front.address, "/public", &raw);
            let seen = upstream.requests();
            let forged = seen
                .iter()
                .flat_map(|request| &request.fields)
                .filter(|(name, _)| name.to_lowercase().replace('_', "-").starts_with("x-auth-"));
            assert_eq!(forged.count(), 0, "{name}: {field}, {reply}");
        }
    }

    // A person with a session, who tries the same.
    let mut alice = Visitor::signed_in(&front, "alice");
    let forged = [
        ("X-Auth-User", "root"),
        ("X-Auth-Roles", "admin"),
        ("X-Auth-Session", "1"),
        ("X-Forwarded-Method", "GET"),
        ("X-Forwarded-Uri", "/public"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Prefix", "/evil"),
        ("X-Original-URI", "/public"),
        ("X-Original-URL", "https://evil.example/public"),
        ("X-Original-Method", "HEAD"),
        ("Forwarded", "host=evil.example;proto=https"),
    ];
    let hello = format!("/hello/{tilde}a?b=c");
    let reply = alice.send("GET", &hello, &forged, b"");
    assert_eq!(reply.status, 200, "{name}: {reply:?}\n{}\n{}", front.log(), gateway.log());
    let seen = upstream.last();
    assert_eq!(seen.target, hello, "{name}");
    assert_eq!(
        (seen.values("x-auth-user"), seen.values("x-auth-roles")),
        (vec!["alice"], vec!["user"]),
        "{name}"
    );
    assert!(seen.values("x-auth-session").len() == 1 && seen.values("x-auth-session") != ["1"], "{name}");
    assert_eq!(seen.values("cookie"), ["app=1"], "{name}: the app's cookies and no others");
    assert!(seen.values("forwarded").is_empty(), "{name}");
    assert_eq!(alice.send("GET", "/admin", &forged, b"").status, 403, "{name}");
    assert_eq!(Visitor::signed_in(&front, "root").get("/admin").status, 200, "{name}");

    // Bodies pass, and only pages of the host itself may send them.
    upstream.clear();
    let origin = alice.origin();
    let body = [b'x'; 10_000];
    for (origin, status) in [(&*origin, 200), ("https://evil.example", 403)] {
        assert_eq!(alice.send("POST", "/upload", &[("Origin", origin)], &body).status, status, "{name}");
    }
    let seen = upstream.requests();
    assert_eq!((seen.len(), seen[0].method.as_str(), seen[0].body.len()), (1, "POST", body.len()), "{name}");
    assert_eq!(websocket(&alice, &origin), "HTTP/1.1 101", "{name}");
    assert_eq!(websocket(&alice, "https://evil.example"), "HTTP/1.1 403", "{name}");

    // A program with a token, which the app does not get.
    let body = format!("{{\"username\":\"alice\",\"password\":{PASSWORD:?}}}");
    let fields = [("Content-Type", "application/json")];
    let reply = until_not_busy(|| {
        request(front.address, "POST", "/gateway/login", &fields, body.as_bytes()).unwrap()
    });
    let token = format!("Bearer {}", reply.json()["access_token"].as_str().unwrap());
    upstream.clear();
    let reply = get(front.address, "/hello", &[("Authorization", &token)]).unwrap();
    let seen = upstream.last();
    assert_eq!((reply.status, seen.values("x-auth-user")), (200, vec!["alice"]), "{name}");
    assert!(seen.values("authorization").concat().is_empty(), "{name}: {seen:?}");

    bound_to_a_key(name, &front, &upstream);

    // Addresses that the gateway and the app could read in different ways.
    upstream.clear();
    for target in ["/public/../admin", "/public/%2e%2e/admin", "/public/..%2fadmin", "/hello//x", "/a%5Cb"] {
        let reply = alice.get(target);
        // Traefik makes one address of them before it asks.
        let cleaned = name == "traefik" && matches!(reply.status, 403 | 200);
        assert!(reply.status == 400 || cleaned, "{name}: {target}: {reply:?}");
        let reached = upstream.requests().pop().map(|request| request.target);
        assert!(reached.is_none_or(|target| cleaned && !target.contains("..")), "{name}: {target}");
        upstream.clear();
    }

    // The access token is gone: the gateway refreshes the session, and the browser gets the new one.
    let before = alice.cookies.clone();
    alice.cookies.retain(|name, _| name.ends_with("_refresh"));
    let reply = alice.get("/hello");
    assert_eq!(reply.status, 200, "{name}: {reply:?}");
    assert!(
        reply.fields.iter().any(|(n, v)| n.eq_ignore_ascii_case("cache-control") && v.contains("no-store"))
            || name == "traefik",
        "{name}: {reply:?}"
    );
    assert_eq!(
        alice.cookies.keys().collect::<Vec<_>>(),
        before.keys().collect::<Vec<_>>(),
        "{name}: {reply:?}"
    );
    assert_ne!(alice.cookies, before, "{name}");
    upstream.clear();
    assert_eq!(alice.get("/hello").status, 200, "{name}");
    assert_eq!(upstream.last().values("cookie"), ["app=1"], "{name}");

    // The session ends.
    let origin = alice.origin();
    let fields =
        [("Origin", &*origin), ("Accept", HTML), ("Content-Type", "application/x-www-form-urlencoded")];
    let old = alice.cookies.clone();
    assert_eq!(alice.send("POST", "/gateway/logout", &fields, b"").status, 303, "{name}");
    assert!(alice.cookies.is_empty(), "{name}");
    alice.cookies = old;
    wait_until("the session is over", || alice.get("/hello").status == 401);
    let reply = alice.send("GET", "/hello", &[("Accept", HTML)], b"");
    assert_eq!((reply.status, alice.cookies.len()), (303, 0), "{name}: the old cookies go: {reply:?}");
}

/// A program whose token is bound to its key: its proofs name the address of the proxy, and stay there.
fn bound_to_a_key(name: &str, front: &Front, upstream: &Upstream) {
    let client = Client::new();
    let nonce = RefCell::new(String::new());
    let proof = |method: &str, path: &str, token: Option<&str>| {
        let mut claims = client.claims(method, &format!("http://{}{path}", front.address), token);
        claims["nonce"] = nonce.borrow().clone().into();
        client.sign(&claims)
    };
    let keep_nonce = |reply: &Reply| {
        if let Some(newer) = reply.field("dpop-nonce") {
            nonce.replace(newer.to_owned());
        }
    };
    let login = || {
        let proof = proof("POST", "/gateway/login", None);
        let fields = [("Content-Type", "application/json"), ("DPoP", &*proof)];
        let body = format!("{{\"username\":\"alice\",\"password\":{PASSWORD:?}}}");
        let reply = request(front.address, "POST", "/gateway/login", &fields, body.as_bytes()).unwrap();
        keep_nonce(&reply);
        reply
    };
    login();
    let reply = until_not_busy(login);
    assert_eq!(reply.status, 200, "{name}: {reply:?}");
    let access = reply.json()["access_token"].as_str().unwrap().to_owned();
    let authorization = format!("DPoP {access}");
    let send = |fields: &[(&str, &str)]| {
        let reply = get(front.address, "/hello?a=b", fields).unwrap();
        keep_nonce(&reply);
        (reply.status, reply)
    };
    upstream.clear();
    nonce.take();
    let stale = proof("GET", "/hello", Some(&access));
    let (status, reply) = send(&[("Authorization", &*authorization), ("DPoP", &*stale)]);
    assert!(status == 401 && reply.field("dpop-nonce").is_some(), "{name}: {reply:?}");
    let good = proof("GET", "/hello", Some(&access));
    let fields = [("Authorization", &*authorization), ("DPoP", &*good)];
    let (status, reply) = send(&fields);
    assert_eq!(status, 200, "{name}: {reply:?}");
    let seen = upstream.last();
    assert_eq!(seen.values("x-auth-user"), ["alice"], "{name}");
    assert!(seen.values("dpop").concat().is_empty(), "{name}: {seen:?}");
    assert!(seen.values("authorization").concat().is_empty(), "{name}: {seen:?}");
    assert_eq!(send(&fields).0, 401, "{name}: a replay");
    let as_bearer = format!("Bearer {access}");
    assert_eq!(send(&[("Authorization", &*as_bearer)]).0, 401, "{name}: without its proof");
    assert_eq!(upstream.requests().len(), 1, "{name}");
}

#[test]
fn nginx_asks_the_gateway_with_auth_request() {
    check("nginx", "nginx/forward-auth.conf");
}

#[test]
fn haproxy_asks_the_gateway_with_lua() {
    check("haproxy", "haproxy/forward-auth.cfg");
}

#[test]
fn caddy_asks_the_gateway() {
    check("caddy", "caddy/forward-auth.Caddyfile");
}

#[test]
fn envoy_asks_the_gateway_with_ext_authz() {
    check("envoy", "envoy/forward-auth.yaml");
}

#[test]
fn traefik_asks_the_gateway_with_forward_auth() {
    check("traefik", "traefik/forward-auth.yml");
}
