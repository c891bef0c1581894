//! What fronts, clients and apps send that is a little different: taken as it is meant, and never more than that.

use std::io::Write as _;
use std::net::TcpStream;

use http::Request;

use crate::fixture::http2::{ask, http2};
use crate::fixture::{
    Gateway, PASSWORD, Reply, Upstream, exchange, get, login, request, tokens, users_file, wait_until,
};

const ROUTES: &str = "[[routes]]\npath = \"/open\"\nupstream = \"app\"\naccess = \"public\"\n\
                      [[routes]]\npath = \"/api\"\nupstream = \"app\"\n";

fn config(upstream: &Upstream, more: &str) -> String {
    format!(
        "{more}\n[tokens]\nissuer = \"https://gw.test\"\n[store]\nkind = \"memory\"\n[upstreams.app]\nurls = [\"http://{}\"]\n{ROUTES}",
        upstream.address
    )
}

/// Sends a head of HTTP/1 as it is.
fn send(gateway: &Gateway, head: &str) -> Reply {
    exchange(gateway.address, head.as_bytes()).replies.remove(0)
}

#[test]
fn bearer_may_be_followed_by_several_spaces_and_a_hosts_port_may_be_empty() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, "[server]\nh2c = true"));
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    for (field, status) in [
        (format!("Bearer {access}"), 200),
        (format!("Bearer  {access}"), 200),
        (format!("bearer      {access}"), 200),
        (format!("Bearer\t{access}"), 400),
        (format!("Bearer \t{access}"), 400),
        (format!("Bearer {access} x"), 400),
    ] {
        assert_eq!(
            get(gateway.address, "/api", &[("Authorization", &field)]).unwrap().status,
            status,
            "{field}"
        );
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let over_http2 = runtime.block_on(async {
            let client = http2(tokio::net::TcpStream::connect(gateway.address).await.unwrap()).await;
            let request = Request::get("http://gw.test/api").header("authorization", &field);
            ask(&client, request.body(()).unwrap(), b"").await.unwrap().status.as_u16()
        });
        assert_eq!(over_http2, status, "{field} over HTTP/2");
    }
    for (host, seen) in
        [("app.example:", "app.example"), ("[::1]:", "[::1]"), ("app.example:80", "app.example:80")]
    {
        let reply =
            send(&gateway, &format!("GET /open HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
        assert_eq!((reply.status, upstream.last().values("host")), (200, vec![seen]), "{host}");
        assert_eq!(upstream.last().values("x-forwarded-host"), [seen]);
    }
    let absolute = "GET http://app.example:/open HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n";
    assert_eq!(send(&gateway, absolute).status, 200);
    for host in ["a::", ":", "a:b", "a: 80"] {
        assert_eq!(
            send(&gateway, &format!("GET /open HTTP/1.1\r\nHost: {host}\r\n\r\n")).status,
            400,
            "{host}"
        );
    }
}

#[test]
fn a_refresh_token_may_come_as_a_json_member_and_a_login_with_more_members() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, ""));
    let post = |path: &str, content_type: &str, body: &str| {
        request(gateway.address, "POST", path, &[("Content-Type", content_type)], body.as_bytes()).unwrap()
    };
    let credentials =
        format!("{{\"username\":\"alice\",\"password\":{PASSWORD:?},\"remember_me\":true,\"otp\":null}}");
    let reply = post("/login", "application/json", &credentials);
    assert_eq!(reply.status, 200, "{reply:?}");
    let first = reply.json()["refresh_token"].as_str().unwrap().to_owned();
    let body = serde_json::json!({"refresh_token": first, "grant_type": "refresh_token"}).to_string();
    let reply = post("/refresh", "application/json; charset=utf-8", &body);
    assert_eq!(reply.status, 200, "{reply:?}");
    let second = reply.json()["refresh_token"].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {second}");
    let both = [("Content-Type", "application/json"), ("Authorization", &*bearer)];
    let reply = request(gateway.address, "POST", "/refresh", &both, b"{\"refresh_token\":\"x\"}").unwrap();
    assert_eq!(reply.status, 200, "what Authorization has comes first: {reply:?}");
    for (content_type, body, status, code) in [
        ("text/plain", body.as_str(), 401, "missing_token"),
        ("application/json", "{}", 401, "missing_token"),
        ("application/json", "", 401, "missing_token"),
        ("application/json", "{\"refresh_token\":\"x.y.z\"}", 401, "invalid_token"),
        ("application/json", "{\"refresh_token\":7}", 400, "bad_request"),
        ("application/json", "{\"refresh_token\":\"a\",\"refresh_token\":\"b\"}", 400, "bad_request"),
        ("application/json", "refresh_token=x", 400, "bad_request"),
    ] {
        let reply = post("/refresh", content_type, body);
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{content_type} {body}");
    }
    let huge = format!("{{\"refresh_token\":\"{}\"}}", "x".repeat(20_000));
    assert_eq!(post("/refresh", "application/json", &huge).status, 413);
}

#[test]
fn a_health_path_answers_load_balancers_on_the_public_listener() {
    let upstream = Upstream::start();
    let gateway =
        Gateway::start(&config(&upstream, "[endpoints]\nprefix = \"/auth\"\nhealth_path = \"/healthz\""));
    for (head, status) in [
        ("GET /healthz HTTP/1.0\r\n\r\n", 200),
        ("OPTIONS /healthz HTTP/1.0\r\n\r\n", 200),
        ("GET /healthz HTTP/1.1\r\nHost: 10.0.0.1\r\nConnection: close\r\n\r\n", 200),
        ("GET /healthz?x HTTP/1.1\r\nHost: any.example\r\nConnection: close\r\n\r\n", 200),
        ("POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 405),
        ("GET /healthz/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 404),
        ("GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
    ] {
        let reply = send(&gateway, head);
        assert_eq!(reply.status, status, "{head}");
        if status == 200 {
            assert_eq!(
                (reply.text().as_str(), reply.field("cache-control")),
                ("ok\n", Some("no-store")),
                "{head}"
            );
        }
    }
    assert!(upstream.requests().is_empty());
}

#[test]
fn http_1_0_may_name_its_host_in_the_target_or_not_at_all() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, ""));
    for (head, status, host) in [
        ("GET http://app.example/open HTTP/1.0\r\n\r\n", 200, Some("app.example")),
        ("GET http://app.example:8080/open HTTP/1.0\r\nHost:\r\n\r\n", 200, Some("app.example:8080")),
        ("GET http://app.example/open HTTP/1.0\r\nHost: app.example\r\n\r\n", 200, Some("app.example")),
        ("GET /open HTTP/1.0\r\nHost:\r\n\r\n", 200, None),
        ("GET http://app.example/open HTTP/1.0\r\nHost: other.example\r\n\r\n", 400, None),
        ("GET /open HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400, None),
        ("GET /open HTTP/1.0\r\nHost: a b\r\n\r\n", 400, None),
        ("GET http://app.example/open HTTP/1.1\r\n\r\n", 400, None),
        ("GET /open HTTP/1.1\r\nHost:\r\n\r\n", 400, None),
    ] {
        let before = upstream.requests().len();
        assert_eq!(send(&gateway, head).status, status, "{head}");
        let passed = upstream.requests().len() - before;
        assert_eq!(passed, usize::from(status == 200), "{head}");
        if status == 200 {
            let (seen, own) = (upstream.last(), upstream.address.to_string());
            assert_eq!(seen.values("host"), [host.unwrap_or(&own)], "{head}");
            assert_eq!(seen.values("x-forwarded-host"), host.as_slice(), "{head}");
        }
    }
}

#[test]
fn a_front_may_write_schemes_addresses_and_ports_as_fronts_do() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(
        &upstream,
        "[server]\nh2c = true\ntrusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]",
    ));
    for (fields, client, proto) in [
        (&[("x-forwarded-proto", "https, http")][..], "127.0.0.1", "https"),
        (&[("x-forwarded-proto", "wss,http"), ("x-forwarded-port", "443, 80")], "127.0.0.1", "https"),
        (&[("forwarded", "for=203.0.113.7;proto=HTTPS, for=10.0.0.2;proto=http")], "203.0.113.7", "https"),
        (&[("forwarded", "for=\"203.0.113.7:_x\";ext=\"a,b\"")], "203.0.113.7", "http"),
        (&[("x-forwarded-for", "fe80::1%eth0, 10.0.0.2:80")], "fe80::1", "http"),
        (
            &[("x-forwarded-for", "203.0.113.7:"), ("x-forwarded-for", "[::ffff:10.0.0.2]:1")],
            "203.0.113.7",
            "http",
        ),
    ] {
        assert_eq!(get(gateway.address, "/open", fields).unwrap().status, 200);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let http2 = http2(tokio::net::TcpStream::connect(gateway.address).await.unwrap()).await;
            let request = Request::get("http://gw.test/open");
            let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
            assert_eq!(ask(&http2, request.body(()).unwrap(), b"").await.unwrap().status, 200);
        });
        let seen = upstream.requests();
        for seen in &seen[seen.len() - 2..] {
            assert_eq!(seen.values("x-forwarded-proto"), [proto], "{fields:?}");
            let hops = seen.values("x-forwarded-for")[0];
            assert_eq!(hops.split(", ").next(), Some(client), "{fields:?}");
        }
    }
}

#[test]
fn load_balancers_learn_that_a_gateway_stops_before_it_refuses_connections() {
    let upstream = Upstream::start();
    let mut gateway = Gateway::start(&config(
        &upstream,
        "[server]\nshutdown_delay = \"4s\"\n[endpoints]\nhealth_path = \"/healthz\"",
    ));
    let health = "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert_eq!(send(&gateway, health).status, 200);
    let stopped = std::time::Instant::now();
    gateway.terminate();
    wait_until("the health path turns", || send(&gateway, health).status == 503);
    assert_eq!(send(&gateway, health).text(), "draining\n");
    assert_eq!(get(gateway.admin, "/readyz", &[]).unwrap().json()["status"], "draining");
    assert_eq!(get(gateway.address, "/open", &[]).unwrap().status, 200, "new connections are served");
    assert!(gateway.wait().success());
    assert!(stopped.elapsed() >= std::time::Duration::from_secs(4), "{:?}", stopped.elapsed());
}

#[test]
fn a_balancer_states_by_the_proxy_protocol_that_a_client_came_over_tls() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, "[server]\nproxy_protocol_from = [\"127.0.0.1\"]"));
    let header = |extension: &[u8]| {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
        header.extend((12 + extension.len() as u16).to_be_bytes());
        header.extend(b"\xc0\x00\x02\x07\x0a\x00\x00\x01\x00\x01\x01\xbb");
        header.extend(extension);
        header
    };
    let forged = "X-Forwarded-Proto: https\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Prefix: /x\r\n";
    for (extension, proto) in
        [(&b"\x20\0\x05\x01\0\0\0\0"[..], "https"), (b"\x20\0\x05\0\0\0\0\0", "http"), (b"", "http")]
    {
        let request = format!("GET /open HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n{forged}\r\n");
        let sent = exchange(gateway.address, &[&header(extension), request.as_bytes()].concat());
        assert_eq!(sent.replies[0].status, 200);
        let seen = upstream.last();
        assert_eq!(seen.values("x-forwarded-proto"), [proto]);
        assert_eq!(seen.values("x-forwarded-for"), ["192.0.2.7"]);
        assert!(seen.values("x-forwarded-prefix").is_empty());
    }
}

#[test]
fn an_app_gets_the_identity_in_the_encoding_and_the_roles_that_it_reads() {
    let upstream = Upstream::start();
    let users =
        users_file(&[("1", "jürgen", PASSWORD, &["user", "admin"]), ("2", "bob", PASSWORD, &["user"])]);
    let users = users.replacen(
        "]\n[[users]]",
        "]\n[users.claims]\nstaff = true\nname = \"Jürgen Müller\"\n[[users]]",
        1,
    );
    let identity = "[identity_headers]\n\
        username = [\"X-Auth-User\", { header = \"X-User-Raw\", encoding = \"utf-8\" }, { header = \"X-User-Base64\", encoding = \"base64\" }]\n\
        name = { header = \"X-Name\", encoding = \"rfc2047\" }\n\
        staff = { header = \"X-Staff\", present = \"true\" }\n\
        roles = { header = \"X-WEBAUTH-ROLE\", map = { admin = \"Admin\", user = \"Viewer\" }, one_of = [\"Admin\", \"Viewer\"] }\n\
        [warnings]\nsilence = [\"unknown-claim\"]\n";
    let route = "[[routes]]\npath = \"/wiki\"\nupstream = \"app\"\n\
        request_headers.claims = { name = { header = \"X-Wiki-Name\", encoding = \"rfc8187\" }, roles = { header = \"X-Wiki\", map = { admin = \"sysop\" } } }\n";
    let gateway = Gateway::start_with(
        &(config(&upstream, &format!("[server]\nh2c = true\n{identity}")) + route),
        &users,
        &[],
    );
    let forged = [
        "X-User-Raw",
        "x_user_base64",
        "X-Staff",
        "X-WEBAUTH-ROLE",
        "HTTP_X_WEBAUTH_ROLE",
        "Http-X-Auth-User",
        "HTTP_HTTP_X_WIKI",
        "http_x_real_ip",
        "X-Wiki",
    ];
    for (user, path, expected) in [
        (
            "jürgen",
            "/wiki",
            &[
                ("x-auth-user", "j%C3%BCrgen"),
                ("x-user-base64", "asO8cmdlbg=="),
                ("x-name", "=?UTF-8?B?SsO8cmdlbiBNw7xsbGVy?="),
                ("x-staff", "true"),
                ("x-webauth-role", "Admin"),
                ("x-wiki-name", "UTF-8''J%C3%BCrgen%20M%C3%BCller"),
                ("x-wiki", "sysop"),
            ][..],
        ),
        ("bob", "/wiki", &[("x-auth-user", "bob"), ("x-user-base64", "Ym9i"), ("x-webauth-role", "Viewer")]),
        ("bob", "/api", &[("x-user-raw", "bob")]),
    ] {
        let (access, _) = tokens(gateway.address, user, PASSWORD);
        let bearer = format!("Bearer {access}");
        let mut fields: Vec<(&str, &str)> = forged.iter().map(|name| (*name, "forged")).collect();
        fields.push(("Authorization", &bearer));
        assert_eq!(get(gateway.address, path, &fields).unwrap().status, 200);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = http2(tokio::net::TcpStream::connect(gateway.address).await.unwrap()).await;
            let request = Request::get(format!("http://gw.test{path}"));
            let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
            assert_eq!(ask(&client, request.body(()).unwrap(), b"").await.unwrap().status, 200);
        });
        let seen = upstream.requests();
        for seen in &seen[seen.len() - 2..] {
            for (name, value) in expected {
                assert_eq!(seen.values(name), [*value], "{user} {path} {name}");
            }
            assert!(!String::from_utf8_lossy(&seen.raw).contains("forged"), "{:?}", seen.fields);
        }
        if user == "jürgen" {
            let raw = "X-User-Raw: jürgen\r\n".as_bytes();
            assert!(seen.last().unwrap().raw.windows(raw.len()).any(|window| window == raw));
        }
    }
    assert!(!upstream.requests().last().unwrap().fields.iter().any(|(name, _)| name.starts_with("X-Wiki")));
    std::fs::write(gateway.path("token"), tokens(gateway.address, "bob", PASSWORD).0).unwrap();
    let args = ["explain", "--config", "gateway.toml", "GET", "/api", "--token-file", "token"];
    let (code, said, _) = Gateway::command(gateway.dir.path(), &args, "");
    assert!(code == 0 && said.contains("X-WEBAUTH-ROLE: Viewer"), "{said}");
}

#[test]
fn a_token_in_a_path_parameter_does_not_stand_in_the_access_log() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, ""));
    let mut socket = TcpStream::connect(gateway.address).unwrap();
    for path in ["/open/x;access_token=hush1;v=hush2/y", "/open/x%3Baccess_token%3Dhush3", "/open/;hush4"] {
        write!(socket, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    wait_until("it is written down", || gateway.log().matches("\"path\":\"/open").count() == 3);
    let log = gateway.log();
    assert!(log.contains("\"path\":\"/open/x;access_token=***;v=***/y\"") && !log.contains("hush1"), "{log}");
    assert!(!log.contains("hush2") && !log.contains("hush3"), "{log}");
    assert_eq!(login(gateway.address, "alice", PASSWORD).status, 200);
}
