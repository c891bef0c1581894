//! The examples of config/examples, each with the real proxy in front of the gateway.

use std::net::SocketAddr;

use crate::fixture::{
    Front, Gateway, PASSWORD, Upstream, example, get, get_from, request, users_file, wait_until,
};

/// The gateway of `behind-a-proxy.toml`.
fn gateway(upstream: &Upstream) -> Gateway {
    let text = example("behind-a-proxy.toml", &[("3000", upstream.address)]);
    let users = users_file(&[("1", "alice", PASSWORD, &["user"])]);
    Gateway::start_with(&text, "", &[("users.toml", users.as_bytes())])
}

/// An address of a client that is no trusted proxy.
const ELSEWHERE: [u8; 4] = [127, 0, 0, 2];

#[test]
fn every_example_of_a_proxy_in_front_passes_tokens_identity_and_addresses() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    let fronts = [
        ("nginx", "nginx/auth-gateway.conf"),
        ("haproxy", "haproxy/haproxy.cfg"),
        ("caddy", "caddy/Caddyfile"),
        ("envoy", "envoy/envoy.yaml"),
        ("traefik", "traefik/dynamic.yml"),
    ];
    let mut seen_before = std::collections::HashMap::<&str, usize>::new();
    for (name, file) in fronts {
        let mut addresses = vec![("8080", gateway.address)];
        addresses.extend(matches!(name, "haproxy" | "traefik").then_some(("9090", gateway.admin)));
        let front = Front::start(name, file, &addresses);
        assert_eq!(get(front.address, "/hello", &[]).unwrap().status, 401, "{name}");
        let body = format!("{{\"username\":\"alice\",\"password\":{PASSWORD:?}}}");
        let fields = [("Content-Type", "application/json")];
        let reply = request(front.address, "POST", "/auth/login", &fields, body.as_bytes()).unwrap();
        assert_eq!(reply.status, 200, "{name}: {}", reply.text());
        let token = reply.json()["access_token"].as_str().unwrap().to_owned();

        let forged = format!(
            "Authorization: Bearer {token}\r\nX-Auth-User: root\r\nX-Forwarded-For: 203.0.113.9\r\n\
             X-Forwarded-Prefix: /forged\r\nX-Forwarded-Port: 6666\r\nX-Forwarded-Ssl: on\r\n\
             X-Forwarded-Host: forged.example\r\nX-Forwarded-Proto: https\r\n\
             Forwarded: for=203.0.113.9;host=forged.example;proto=https"
        );
        // Traefik writes what needs no escape without one.
        let path = if name == "traefik" { "/hello/~a" } else { "/hello/%7Ea" };
        let target = &format!("{path}?b=%2F");
        let reply = get_from((ELSEWHERE, 0).into(), front.address, target, &forged);
        assert!(reply.starts_with("HTTP/1.1 200"), "{name}: {reply}");
        let seen = upstream.last();
        assert_eq!(seen.values("x-auth-user"), ["alice"], "{name}");
        assert_eq!(&seen.target, target, "{name} forwards the target as it was sent");
        assert_eq!(seen.values("x-forwarded-proto"), ["http"], "{name}");
        assert_eq!(seen.values("x-forwarded-host"), [front.address.to_string()], "{name}");
        for field in ["x-forwarded-prefix", "x-forwarded-ssl"] {
            assert!(seen.values(field).is_empty(), "{name} passes on a client's own {field}");
        }
        let port = front.address.port().to_string();
        assert!(seen.values("x-forwarded-port").iter().all(|stated| *stated == port), "{name}");
        assert!(!seen.values("forwarded").concat().contains("forged"), "{name}");
        let lines = || {
            let lines: Vec<serde_json::Value> =
                gateway.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            lines.into_iter().filter(|line| line["path"] == path).collect::<Vec<_>>()
        };
        let before = seen_before.entry(path).or_default();
        let number = std::mem::replace(before, *before + 1);
        wait_until("the access line is written", || lines().len() > number);
        let client = SocketAddr::from((ELSEWHERE, 0)).ip().to_string();
        assert_eq!(lines()[number]["client"], client, "{name}: a client's own claim is not believed");
    }
}
