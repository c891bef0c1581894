//! What routes let through and rewrite for apps: `Authorization`, upgrades, odd paths, addresses; over HTTP/1.1 and HTTP/2.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use http::Request;

use crate::fixture::http2::{ask, http2};
use crate::fixture::{Gateway, PASSWORD, Recorded, Reply, Upstream, exchange, tokens};

/// A gateway with these routes, each a path and further keys; the upstream is called `app`.
fn start(upstream: SocketAddr, server: &str, routes: &[(&str, &str)]) -> Gateway {
    let route =
        |(path, more): &(&str, &str)| format!("[[routes]]\npath = \"{path}\"\nupstream = \"app\"\n{more}\n");
    let routes: String = routes.iter().map(route).collect();
    Gateway::start(&format!(
        "[server]\nworkers = 1\nh2c = true\n{server}\n[tokens]\nissuer = \"https://gw.test\"\n[store]\nkind = \"memory\"\n\
         [upstreams.app]\nurls = [\"http://{upstream}\"]\n{routes}"
    ))
}

/// Asks over HTTP/1.1 and over HTTP/2.
fn ask_both(gateway: &Gateway, method: &str, target: &str, fields: &[(&str, &str)]) -> [Reply; 2] {
    let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let text = format!("{method} {target} HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n{lines}\r\n");
    let first = exchange(gateway.address, text.as_bytes()).replies.remove(0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let second = runtime.block_on(async {
        let client = http2(tokio::net::TcpStream::connect(gateway.address).await.unwrap()).await;
        let request = Request::builder().method(method).uri(format!("http://gw.test{target}"));
        let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let reply = ask(&client, request.body(()).unwrap(), b"").await.unwrap();
        let fields = reply.fields.iter().map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        });
        Reply { status: reply.status.as_u16(), fields: fields.collect(), body: reply.body }
    });
    [first, second]
}

/// What the upstream got of a request that passes over both protocols, and that is the same.
fn forwarded(
    gateway: &Gateway,
    upstream: &Upstream,
    method: &str,
    target: &str,
    fields: &[(&str, &str)],
) -> Recorded {
    upstream.clear();
    for reply in ask_both(gateway, method, target, fields) {
        assert_eq!(reply.status, 200, "{target}: {reply:?}");
    }
    let [first, second] = &upstream.requests()[..] else { panic!("{:?}", upstream.requests()) };
    assert_eq!(first.target, second.target);
    first.clone()
}

#[test]
fn an_apps_own_authorization_passes_where_it_is_the_apps() {
    let upstream = Upstream::start();
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("credential");
    std::fs::write(&secret, "Basic c2VydmljZTpodXNo\n").unwrap();
    let own = format!("upstream_authorization_file = {secret:?}");
    let public_own = format!("access = \"public\"\n{own}");
    let gateway = start(
        upstream.address,
        "",
        &[
            ("/open", "access = \"public\""),
            ("/shut", "access = \"public\"\nforward_authorization = false"),
            ("/all", "access = \"public\"\nforward_authorization = true"),
            ("/api", ""),
            ("/new", "forward_authorization = true"),
            ("/old", "forward_token = true"),
            ("/own", &own),
            ("/public-own", &public_own),
            ("/optional", "access = \"optional\""),
        ],
    );
    let (access, refresh) = tokens(gateway.address, "alice", PASSWORD);
    let (alice, renewal) = (format!("Bearer {access}"), format!("Bearer {refresh}"));
    let foreign = "Bearer eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL2FwcC5leGFtcGxlIn0.c2ln";
    for (path, sent, seen) in [
        ("/open", "Basic YXBwOmFwcA==", &["Basic YXBwOmFwcA=="][..]),
        ("/open", "Bearer app-token", &["Bearer app-token"]),
        ("/open", foreign, &[foreign]),
        ("/open", "Digest username=\"x\", realm=\"y\"", &["Digest username=\"x\", realm=\"y\""]),
        ("/open", &alice, &[]),
        ("/open", &renewal, &[]),
        ("/shut", "Basic YXBwOmFwcA==", &[]),
        ("/all", &alice, &[&alice]),
        ("/api", &alice, &[]),
        ("/new", &alice, &[&alice]),
        ("/old", &alice, &[&alice]),
        ("/own", &alice, &["Basic c2VydmljZTpodXNo"]),
        ("/public-own", "Basic YXBwOmFwcA==", &["Basic c2VydmljZTpodXNo"]),
        ("/optional", "Basic YXBwOmFwcA==", &[]),
    ] {
        let got = forwarded(&gateway, &upstream, "GET", path, &[("authorization", sent)]);
        assert_eq!(got.values("authorization"), seen, "{path} {sent}");
    }
    std::fs::write(gateway.path("token"), &access).unwrap();
    let args = ["explain", "--config", "gateway.toml", "GET", "/own", "--token-file", "token"];
    let (code, said, _) = Gateway::command(gateway.dir.path(), &args, "");
    assert!(
        code == 0 && said.contains("Authorization: (redacted)") && !said.contains("c2VydmljZTpodXNo"),
        "{said}"
    );
}

/// A server that agrees to every upgrade, writes down heads and bodies, and echoes what follows.
fn upgrading(seen: Arc<Mutex<Vec<String>>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let seen = Arc::clone(&seen);
            std::thread::spawn(move || -> std::io::Result<()> {
                let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
                let text = loop {
                    let n = socket.read(&mut buffer)?;
                    received.extend_from_slice(&buffer[..n]);
                    let text = String::from_utf8_lossy(&received).into_owned();
                    let length = text
                        .split("Content-Length: ")
                        .nth(1)
                        .and_then(|rest| rest.split("\r\n").next()?.parse().ok());
                    let end = text.find("\r\n\r\n").map(|end| end + 4 + length.unwrap_or(0));
                    if n == 0 || end.is_some_and(|end| received.len() >= end) {
                        break text;
                    }
                };
                seen.lock().unwrap().push(text.clone());
                let Some(protocol) =
                    text.split("\r\nUpgrade: ").nth(1).and_then(|rest| rest.split("\r\n").next())
                else {
                    return socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                };
                let head = format!(
                    "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\n\
                     Upgrade: {protocol}\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"
                );
                socket.write_all(head.as_bytes())?;
                while let Ok(n @ 1..) = socket.read(&mut buffer) {
                    socket.write_all(&buffer[..n])?;
                }
                Ok(())
            });
        }
    });
    address
}

fn read_until(socket: &mut TcpStream, end: &str) -> String {
    socket.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    let (mut received, mut byte) = (String::new(), [0; 1]);
    while !received.ends_with(end) {
        assert_eq!(socket.read(&mut byte).unwrap(), 1, "{received}");
        received.push(byte[0] as char);
    }
    received
}

#[test]
fn connections_switch_to_the_protocols_that_a_route_names() {
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let gateway = start(
        upgrading(Arc::clone(&seen)),
        "",
        &[
            ("/exec", "upgrade = [\"SPDY/3.1\", \"tcp\", \"websocket\"]"),
            ("/plain", "upgrade = [\"websocket\"]"),
        ],
    );
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    let bearer = format!("Authorization: Bearer {access}\r\n");
    let ask = |target: &str, fields: &str, body: &str| {
        let mut socket = TcpStream::connect(gateway.address).unwrap();
        let text =
            format!("POST {target} HTTP/1.1\r\nHost: gw.test\r\nConnection: Upgrade\r\n{fields}\r\n{body}");
        socket.write_all(text.as_bytes()).unwrap();
        let head = read_until(&mut socket, "\r\n\r\n");
        (socket, head)
    };
    let json = "{\"Detach\":false,\"Tty\":true}";
    let with_body =
        format!("Upgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: {}\r\n", json.len());
    for (fields, body, protocol) in [
        (
            "Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 0\r\n",
            "",
            "SPDY/3.1",
        ),
        ("Upgrade: spdy/3.1\r\n", "", "SPDY/3.1"),
        (&with_body, json, "tcp"),
        ("Upgrade: other, tcp\r\n", "", "tcp"),
    ] {
        let (mut socket, head) = ask("/exec/x", &format!("{fields}{bearer}"), body);
        assert!(head.starts_with("HTTP/1.1 101"), "{fields}: {head}");
        assert!(head.contains(&format!("\r\nUpgrade: {protocol}\r\n")), "{head}");
        assert!(head.contains("\r\nContent-Type: application/vnd.docker.raw-stream\r\n"), "{head}");
        assert!(head.contains("\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n"), "{head}");
        socket.write_all(b"ping.").unwrap();
        assert_eq!(read_until(&mut socket, "."), "ping.");
        let sent = seen.lock().unwrap().pop().unwrap();
        assert!(sent.contains(&format!("Connection: Upgrade\r\nUpgrade: {protocol}\r\n")), "{sent}");
        assert!(sent.contains("X-Auth-User: alice\r\n") && !sent.contains(&access), "{sent}");
        assert!(sent.ends_with(&format!("\r\n\r\n{body}")), "{sent}");
    }
    for (target, fields, status) in [
        ("/exec", "Upgrade: SPDY/3.1\r\n".to_owned(), "401"),
        ("/exec", format!("Upgrade: h2c\r\n{bearer}"), "200"),
        ("/plain", format!("Upgrade: SPDY/3.1\r\n{bearer}"), "200"),
        ("/exec", format!("Upgrade: tcp\r\nOrigin: https://evil.test\r\n{bearer}"), "403"),
        ("/exec", format!("Upgrade: websocket\r\n{bearer}"), "400"),
    ] {
        let (_, head) = ask(target, &fields, "");
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{target} {fields}: {head}");
    }
    assert!(seen.lock().unwrap().iter().all(|head| !head.contains("Upgrade")));
    let fields = ["-H", "Connection: Upgrade", "-H", "Upgrade: SPDY/3.1"];
    std::fs::write(gateway.path("token"), &access).unwrap();
    let args =
        [&["explain", "--config", "gateway.toml", "POST", "/exec", "--token-file", "token"], &fields[..]]
            .concat();
    let (code, said, _) = Gateway::command(gateway.dir.path(), &args, "");
    assert!(code == 0 && said.contains("Upgrade: SPDY/3.1"), "{said}");
}

#[test]
fn odd_paths_pass_where_a_route_takes_them_and_never_lead_past_protection() {
    let upstream = Upstream::start();
    let public = |more: &str| format!("access = \"public\"\n{more}");
    let (slashes, lenient) = (public("encoded_slashes = true"), public("lenient_path = true"));
    let both = public("encoded_slashes = true\nlenient_path = true");
    let gateway = start(
        upstream.address,
        "",
        &[
            ("/", &both),
            ("/strict", &public("")),
            ("/slashes", &slashes),
            ("/lenient", &lenient),
            ("/secret", ""),
            ("/lenient/secret", ""),
        ],
    );
    for target in [
        "/slashes/queues/%2F/orders",
        "/slashes/sites/https%3A%2F%2Fx%2F",
        "/slashes/%2f%2F",
        "/slashes/a%2Fb",
        "/slashes/%252F",
        "/lenient//a",
        "/lenient/a//",
        "/lenient/v1%2E0/x",
        "/lenient/a%5Cb",
        "/lenient/;x=1/a",
        "/lenient/caf%E9",
        "//a",
        "/a//%2Fb",
        "/x/secret%3F",
        "/strict/a%20b?x=//",
    ] {
        assert_eq!(forwarded(&gateway, &upstream, "GET", target, &[]).target, target);
    }
    for (target, status) in [
        // What a route does not take.
        ("/strict//a", 400),
        ("/strict/a%2Fb", 400),
        ("/strict/a%2Eb", 400),
        ("/slashes//a", 400),
        ("/lenient/a%2Fb", 400),
        // Dot segments in any spelling.
        ("/slashes/%2F..%2Fx", 400),
        ("/slashes/..%2Fx", 400),
        ("/slashes/a%2F..", 400),
        ("/slashes/%2F%2e%2e%2Fx", 400),
        ("/slashes/%2F.%2E%2Fx", 400),
        ("/slashes/%2F..;a%2Fx", 400),
        ("/slashes/%2F..%3Ba%2Fx", 400),
        ("/slashes/%252F..%252Fx", 400),
        ("/slashes/%2F%252e%252e%2Fx", 400),
        ("/lenient//../x", 400),
        ("/lenient/%2e%2e/x", 400),
        ("/lenient/a%5c..%5cx", 400),
        ("/lenient/%c0%ae%c0%ae/x", 400),
        ("/a%00b", 400),
        // What some upstream would read as a path of a protected route.
        ("//secret", 400),
        ("/%2Fsecret", 400),
        ("/secret%2Fx", 400),
        ("/lenient//secret", 400),
        ("/lenient/%5Csecret", 400),
        ("/secret;x", 401),
        ("/secret%3Bx", 401),
        ("/secret%3F", 401),
        ("/secret%3Fx=1", 401),
        ("/secret%23", 401),
        ("/secret%23x", 401),
        ("/secret%20", 401),
        ("/secret%20/x", 401),
        ("/secret%3F/x", 401),
        ("/secret%20%20", 401),
        ("/secret.", 401),
        ("/%20secret", 401),
        ("/secre%2574", 401),
        ("/x/%252e%252e/secret", 400),
        // An escape that is not UTF-8 hides nothing, nor do blanks.
        ("/%2573ecret/x;%25FF", 401),
        ("/%2573ecret/x%25FF", 401),
        ("/x/..%20/secret", 400),
        ("/x/%20..%20%3Bx/secret", 400),
    ] {
        upstream.clear();
        for reply in ask_both(&gateway, "GET", target, &[]) {
            assert_eq!(reply.status, status, "{target}: {reply:?}");
            assert_eq!(
                reply.code(),
                if status == 400 { "ambiguous_target" } else { "missing_token" },
                "{target}"
            );
        }
        assert!(upstream.requests().is_empty(), "{target}");
    }
    for (target, part) in [
        ("/slashes/queues/%2F/orders", "GET /slashes/queues/%2F/orders HTTP/1.1"),
        ("/strict//a", "400 ambiguous_target: the request target has an empty segment"),
        ("/secret%3F", "401 missing_token"),
    ] {
        let args = ["explain", "--config", "gateway.toml", "GET", target];
        let (_, said, _) = Gateway::command(gateway.dir.path(), &args, "");
        assert!(said.contains(part), "{said}");
    }
}

/// A server that answers with the fields that the query names, `;` between them.
fn answering() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            std::thread::spawn(move || -> std::io::Result<()> {
                let mut received = Vec::new();
                let mut buffer = [0; 4096];
                while !received.ends_with(b"\r\n\r\n") {
                    let n = socket.read(&mut buffer)?;
                    received.extend_from_slice(&buffer[..n]);
                }
                let text = String::from_utf8_lossy(&received).into_owned();
                let body = text
                    .split("\r\n")
                    .skip(1)
                    .filter(|line| line.to_lowercase().starts_with("x-forwarded-prefix"));
                let body: String = body.map(|line| format!("{line}\n")).collect();
                let fields = text.split("\r\nx-answer: ").nth(1).and_then(|rest| rest.split("\r\n").next());
                let fields =
                    fields.unwrap_or_default().replace("|", "\r\n").replace("{self}", &address.to_string());
                let end = if fields.is_empty() { "" } else { "\r\n" };
                let head = format!(
                    "HTTP/1.1 302 Found\r\nConnection: close\r\nContent-Length: {}\r\n{fields}{end}\r\n{body}",
                    body.len()
                );
                socket.write_all(head.as_bytes())
            });
        }
    });
    address
}

#[test]
fn an_app_below_a_path_learns_it_or_has_its_addresses_rewritten() {
    let gateway = start(
        answering(),
        "trusted_proxies = [\"127.0.0.1\"]",
        &[
            ("/knows", "access = \"public\"\nstrip_prefix = true"),
            ("/shop", "access = \"public\"\nstrip_prefix = true\nrewrite_locations = true"),
            ("/api", "access = \"public\"\nrewrite_prefix = \"/v2\"\nrewrite_locations = true"),
            ("/whole", "access = \"public\""),
        ],
    );
    let front = ("x-forwarded-prefix", "/front");
    for (path, fields, prefix) in [
        ("/knows/x", &[][..], "X-Forwarded-Prefix: /knows\n"),
        ("/knows", &[], "X-Forwarded-Prefix: /knows\n"),
        ("/knows/x", &[front], "X-Forwarded-Prefix: /front/knows\n"),
        ("/whole/x", &[front], "X-Forwarded-Prefix: /front\n"),
        ("/whole/x", &[], ""),
        ("/api/x", &[], ""),
    ] {
        for reply in ask_both(&gateway, "GET", path, fields) {
            assert_eq!(reply.text(), prefix, "{path}");
        }
    }
    let answer = "Location: /login?next=/|Content-Location: http://gw.test/x.en|Refresh: 5; url=/next|\
                  Set-Cookie: a=b; Path=/; HttpOnly";
    let elsewhere = "Location: https://other.example/x|Set-Cookie: a=b";
    for (path, answer, more, expected) in [
        (
            "/shop/x",
            answer,
            &[][..],
            &[
                "/shop/login?next=/",
                "http://gw.test/shop/x.en",
                "5; url=/shop/next",
                "a=b; Path=/shop; HttpOnly",
            ][..],
        ),
        ("/shop/x", answer, &[front], &["/front/shop/login?next=/", "http://gw.test/front/shop/x.en"]),
        ("/shop/x", "Location: http://{self}/y", &[], &["http://gw.test/shop/y"]),
        (
            "/shop/x",
            "Location: http://{self}/y",
            &[
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "app.example"),
                ("x-forwarded-port", "8443"),
            ],
            &["https://app.example:8443/shop/y"],
        ),
        ("/shop/x", "Location: /shop/login", &[], &["/shop/login"]),
        ("/shop/x", elsewhere, &[], &["https://other.example/x", "a=b"]),
        ("/api/x", "Location: /v2/login|Set-Cookie: a=b; Path=/v2", &[], &["/api/login", "a=b; Path=/api"]),
        ("/api/x", "Location: /else", &[], &["/else"]),
        ("/knows/x", answer, &[], &["/login?next=/"]),
    ] {
        let fields = [&[("x-answer", answer)], more].concat();
        for reply in ask_both(&gateway, "GET", path, &fields) {
            let got: Vec<&str> = ["location", "content-location", "refresh", "set-cookie"]
                .into_iter()
                .filter_map(|name| reply.field(name))
                .take(expected.len())
                .collect();
            assert_eq!(got, expected, "{path} {answer}");
        }
    }
}

#[test]
fn a_webdav_destination_leads_to_where_the_request_itself_may() {
    let upstream = Upstream::start();
    let more = "access = \"public\"\nmethods = [\"all\"]\nstrip_prefix = true\nrewrite_locations = true";
    let api = more.replace("strip_prefix = true", "rewrite_prefix = \"/v2\"");
    let gateway = start(
        upstream.address,
        "",
        &[
            ("/dav", more),
            ("/api", &api),
            ("/dav/admin", "methods = [\"all\"]"),
            ("/plain", "access = \"public\"\nmethods = [\"all\"]"),
        ],
    );
    for (path, sent, seen) in [
        ("/dav/a", "http://gw.test/dav/b%20c", "http://gw.test/b%20c"),
        ("/dav/a", "https://gw.test/dav/b", "http://gw.test/b"),
        ("/dav/a", "/dav/b/", "/b/"),
        ("/dav/a", "/dav", "/"),
        ("/api/a", "/api/b", "/v2/b"),
        ("/plain/a", "http://other.example/plain/b", "http://other.example/plain/b"),
    ] {
        let got = forwarded(&gateway, &upstream, "MOVE", path, &[("destination", sent)]);
        assert_eq!(got.values("destination"), [seen], "{path} {sent}");
    }
    for sent in [
        "http://other.example/dav/b",
        "/else/b",
        "/dav/../else",
        "/dav/%2e%2e/else",
        "/dav/admin/x",
        "/dav//admin/x",
        "/davx",
        "dav/b",
        "/dav%2Fb",
        "/dav/a%2Fb",
        "/dav/a%2f..%2fb",
        "/dav/a%2Eb",
        "/dav/..%20/else",
        "/dav/%252e%252e/dav/admin",
    ] {
        upstream.clear();
        for reply in ask_both(&gateway, "MOVE", "/dav/a", &[("destination", sent)]) {
            assert_eq!((reply.status, reply.code().as_str()), (400, "bad_request"), "{sent}");
        }
        assert!(upstream.requests().is_empty());
    }
    let args = ["explain", "--config", "gateway.toml", "MOVE", "/dav/a", "-H", "Destination: /dav/b"];
    let (code, said, _) = Gateway::command(gateway.dir.path(), &args, "");
    assert!(code == 0 && said.contains("Destination: /b\n"), "{said}");
    assert!(said.contains("X-Forwarded-Prefix: /dav"), "{said}");
    assert!(said.contains("rewrites  Location") && said.contains(": / becomes /dav/\n"), "{said}");
}
