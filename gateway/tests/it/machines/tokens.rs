//! Personal access tokens: made, limited, listed, used and revoked.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{ask, bearer, config, make, with};
use crate::fixture::{
    Gateway, PASSWORD, RedisServer, Upstream, get, post, request, tokens, users_file, wait_until,
};

#[test]
fn a_token_acts_for_its_user_until_it_is_revoked_and_is_shown_once() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, ""));
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    let reply = ask(&gateway, &access, &json!({"name": "backup"}));
    assert_eq!((reply.status, reply.field("cache-control")), (201, Some("no-store")));
    let made = reply.json();
    let (token, id) = (made["token"].as_str().unwrap(), made["id"].as_str().unwrap());
    assert_eq!(token.strip_prefix("agp_").map(|rest| &rest[..22]), Some(id));
    assert_eq!(made["expires_at"].as_u64().unwrap() - made["created_at"].as_u64().unwrap(), 90 * 24 * 3600);

    for _ in 0..3 {
        assert_eq!(with(&gateway, "/app", &bearer(token)).status, 200);
    }
    let seen = upstream.last();
    for (field, value) in
        [("x-auth-user", "alice"), ("x-auth-subject", "1"), ("x-auth-roles", "user"), ("x-auth-session", id)]
    {
        assert_eq!(seen.values(field), [value], "{field}");
    }
    assert!(seen.values("authorization").is_empty());
    assert_eq!(with(&gateway, "/admin", &bearer(token)).code(), "insufficient_scope");

    let listed = || get(gateway.address, "/tokens", &[("Authorization", &bearer(&access))]).unwrap().json();
    wait_until("the use is recorded", || listed()["tokens"][0]["last_used_at"].is_u64());
    let entry = &listed()["tokens"][0];
    assert_eq!((&entry["name"], &entry["last_used_from"]), (&json!("backup"), &json!("127.0.0.1")));
    assert!(!listed().to_string().contains(token) && !gateway.log().contains(token));
    let state = std::fs::read(gateway.path("var/state.redb")).unwrap();
    assert!(
        !state.windows(20).any(|bytes| bytes == &token.as_bytes()[30..50]),
        "the store has its hash alone"
    );

    let delete = |who: &str| {
        request(gateway.address, "DELETE", &format!("/tokens/{id}"), &[("Authorization", &bearer(who))], b"")
            .unwrap()
    };
    let (bob, _) = tokens(gateway.address, "bob", PASSWORD);
    assert_eq!(delete(&bob).code(), "not_found");
    assert_eq!(with(&gateway, "/app", &bearer(token)).status, 200);
    assert_eq!(delete(&access).status, 204);
    let refused = with(&gateway, "/app", &bearer(token));
    assert_eq!(refused.code(), "token_revoked");
    assert!(refused.field("www-authenticate").unwrap().contains("invalid_token"), "{refused:?}");
    assert_eq!(delete(&access).code(), "not_found");
    assert_eq!(listed(), json!({"tokens": []}));
    wait_until("both are in the log", || {
        let log = gateway.log();
        log.contains("token-create") && log.contains("token-revoke")
    });
}

#[test]
fn limits_of_roles_routes_and_time_hold_and_are_within_what_the_user_has() {
    let upstream = Upstream::start();
    let users = users_file(&[("1", "alice", PASSWORD, &["user", "admin"])]);
    let gateway = Gateway::start_with(&config(&upstream, ""), &users, &[]);
    let (plain, _) = make(&gateway, "alice", &json!({}));
    assert_eq!(with(&gateway, "/admin", &bearer(&plain)).status, 200);
    let (as_user, _) = make(&gateway, "alice", &json!({"roles": ["user"]}));
    assert_eq!(with(&gateway, "/admin", &bearer(&as_user)).code(), "insufficient_scope");
    assert_eq!(with(&gateway, "/app", &bearer(&as_user)).status, 200);
    assert_eq!(upstream.last().values("x-auth-roles"), ["user"]);
    let (for_admin, _) = make(&gateway, "alice", &json!({"routes": ["/admin"]}));
    for _ in 0..2 {
        assert_eq!(with(&gateway, "/admin/x", &bearer(&for_admin)).status, 200);
        assert_eq!(with(&gateway, "/app", &bearer(&for_admin)).code(), "insufficient_scope");
    }
    let (short, _) = make(&gateway, "alice", &json!({"expires_in": 1}));
    wait_until("it has expired", || with(&gateway, "/app", &bearer(&short)).status == 401);
    assert_eq!(with(&gateway, "/app", &bearer(&short)).code(), "token_expired");
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    for body in [
        json!({}),
        json!({"name": ""}),
        json!({"name": "x", "roles": ["root"]}),
        json!({"name": "x", "routes": ["/open"]}),
        json!({"name": "x", "scope": "admin"}),
    ] {
        assert_eq!(ask(&gateway, &access, &body).code(), "bad_request", "{body}");
    }

    std::fs::write(gateway.path("config/users.toml"), users.replace("\"admin\"", "\"other\"")).unwrap();
    wait_until("the role is lost", || with(&gateway, "/admin", &bearer(&plain)).status == 403);
    assert_eq!(with(&gateway, "/app", &bearer(&as_user)).status, 200);
}

#[test]
fn a_token_is_for_routes_and_neither_for_sessions_nor_for_other_tokens() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, ""));
    let (token, id) = make(&gateway, "alice", &json!({}));
    for target in ["/refresh", "/logout", "/logout-all"] {
        assert_eq!(post(gateway.address, target, &token).code(), "invalid_token", "{target}");
    }
    assert_eq!(ask(&gateway, &token, &json!({"name": "x"})).code(), "invalid_token");
    for (method, target) in [("GET", "/sessions"), ("GET", "/tokens"), ("DELETE", &*format!("/tokens/{id}"))]
    {
        let reply =
            request(gateway.address, method, target, &[("Authorization", &bearer(&token))], b"").unwrap();
        assert_eq!(reply.code(), "invalid_token", "{method} {target}");
    }
    // As on every route the app does not see the gateway's own tokens.
    let open = |value: &str| {
        assert_eq!(with(&gateway, "/open", value).status, 200);
        upstream.last().values("authorization").first().map(|value| (*value).to_owned())
    };
    assert_eq!(open(&bearer(&token)), None);
    assert_eq!(open(&super::basic("alice", &token)), None);
    assert_eq!(open("Bearer agp_of_some_other_program").as_deref(), Some("Bearer agp_of_some_other_program"));
    let forged = format!("{}{}", &token[..token.len() - 1], if token.ends_with('A') { 'B' } else { 'A' });
    for bad in [forged.as_str(), "agp_", "agp_x", &token[4..]] {
        assert_eq!(with(&gateway, "/app", &bearer(bad)).code(), "invalid_token", "{bad}");
    }
    // Logging out everywhere ends sessions; what scripts use stays.
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    assert_eq!(post(gateway.address, "/logout-all", &access).status, 204);
    assert_eq!(with(&gateway, "/app", &bearer(&token)).status, 200);
}

#[test]
fn the_tokens_of_a_user_who_is_disabled_or_removed_stop_and_their_streams_end() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, ""));
    let (token, _) = make(&gateway, "alice", &json!({}));
    let mut stream = open_stream(&gateway, &token);
    let command = |args: &[&str]| {
        let (code, _, why) = gateway.run_command(args, "");
        assert_eq!(code, 0, "{why}");
    };
    command(&["users", "disable", "alice"]);
    wait_until("the token is refused", || with(&gateway, "/app", &bearer(&token)).status == 401);
    assert_eq!(with(&gateway, "/app", &bearer(&token)).code(), "token_revoked");
    ends(&mut stream);
    command(&["users", "enable", "alice"]);
    wait_until("the token is good again", || with(&gateway, "/app", &bearer(&token)).status == 200);
    command(&["users", "remove", "alice"]);
    wait_until("the token is refused", || with(&gateway, "/app", &bearer(&token)).status == 401);
}

/// A request whose response goes on for long.
fn open_stream(gateway: &Gateway, token: &str) -> TcpStream {
    use std::io::{Read, Write};
    let mut socket = TcpStream::connect(gateway.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let head = format!("GET /stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
    socket.write_all(head.as_bytes()).unwrap();
    let mut first = [0; 64];
    assert!(socket.read(&mut first).unwrap() > 0);
    assert!(first.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&first));
    socket
}

/// Whether a stream ends within a moment.
fn ends(stream: &mut TcpStream) {
    use std::io::Read;
    let end = Instant::now() + Duration::from_secs(30);
    let mut buffer = [0; 4096];
    while !matches!(stream.read(&mut buffer), Ok(0) | Err(_)) {
        assert!(Instant::now() < end, "the stream goes on");
    }
}

#[test]
fn operators_make_list_and_revoke_tokens_and_open_streams_end_with_them() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, ""));
    let command = |args: &[&str]| gateway.run_command(&[&["tokens"], args].concat(), "");
    let (code, token, notes) = command(&[
        "create",
        "alice",
        "--name",
        "prometheus",
        "--expires-in",
        "never",
        "--route",
        "/app,/stream",
    ]);
    assert_eq!(code, 0, "{notes}");
    let token = token.trim_end();
    assert_eq!(with(&gateway, "/app", &bearer(token)).status, 200);
    assert_eq!(with(&gateway, "/dav", &bearer(token)).code(), "insufficient_scope");
    let (_, listed, _) = command(&["list"]);
    let row = listed.lines().nth(1).unwrap();
    assert!(row.contains("alice") && row.ends_with("prometheus") && row.contains("never"), "{listed}");
    assert_eq!(command(&["list", "bob"]).1.lines().count(), 1);
    let mut stream = open_stream(&gateway, token);
    let id = &token[4..26];
    assert_eq!(command(&["revoke", id]).0, 0);
    assert_eq!(with(&gateway, "/app", &bearer(token)).code(), "token_revoked");
    ends(&mut stream);
    let (code, _, why) = command(&["revoke", id]);
    assert!(code == 1 && why.contains("none any more"), "{why}");
    for name in ["one", "two"] {
        assert_eq!(command(&["create", "bob", "--name", name]).0, 0);
    }
    assert!(command(&["revoke", "--all-of", "bob"]).2.contains("2 tokens are revoked"));
    for (args, why) in [
        (&["create", "nobody", "--name", "x"][..], "no user \"nobody\""),
        (&["create", "alice", "--name", "x", "--role", "admin"], "does not have the role"),
        (&["create", "alice", "--name", "x", "--route", "/nowhere"], "/nowhere"),
    ] {
        let (code, out, complaint) = command(args);
        assert!(code == 1 && out.is_empty() && complaint.contains(why), "{complaint}");
    }
}

#[test]
fn a_token_outlives_a_restart_and_so_does_its_revocation() {
    let upstream = Upstream::start();
    let mut gateway = Gateway::start(&config(&upstream, ""));
    let (kept, _) = make(&gateway, "alice", &json!({}));
    let (revoked, id) = make(&gateway, "alice", &json!({}));
    assert_eq!(gateway.run_command(&["tokens", "revoke", &id], "").0, 0);
    gateway.kill();
    gateway.run();
    assert_eq!(with(&gateway, "/app", &bearer(&kept)).status, 200);
    assert_eq!(with(&gateway, "/app", &bearer(&revoked)).code(), "token_revoked");
}

#[test]
fn instances_that_share_redis_share_tokens_and_a_revocation_reaches_all_of_them() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let more = format!(
        "[tokens]\nissuer = \"https://login.test\"\nalgorithm = \"HS256\"\n\
         secret = \"Wm8qT1xJz0vKc4RyN7uPb2eLh6sDf9gA\"\n[store]\nkind = \"redis\"\n[store.redis]\nurl = \"{}\"",
        redis.url()
    );
    let [one, two] = [0, 1].map(|_| Gateway::start(&config(&upstream, &more)));
    let (token, id) = make(&one, "alice", &json!({}));
    for gateway in [&one, &two] {
        assert_eq!(with(gateway, "/app", &bearer(&token)).status, 200);
    }
    let mut stream = open_stream(&two, &token);
    let (access, _) = tokens(one.address, "alice", PASSWORD);
    let target = format!("/tokens/{id}");
    let begin = Instant::now();
    let revoked =
        request(one.address, "DELETE", &target, &[("Authorization", &bearer(&access))], b"").unwrap();
    assert_eq!(revoked.status, 204);
    wait_until("the other instance refuses it", || with(&two, "/app", &bearer(&token)).status == 401);
    assert!(begin.elapsed() < Duration::from_secs(5), "it took {:?}", begin.elapsed());
    ends(&mut stream);

    // A token that is in use goes on while the store is away.
    let (token, _) = make(&one, "bob", &json!({}));
    assert_eq!(with(&one, "/app", &bearer(&token)).status, 200);
    drop(redis);
    assert_eq!(with(&one, "/app", &bearer(&token)).status, 200);
    let unknown = get(two.address, "/app", &[("Authorization", &bearer(&token))]).unwrap();
    assert_eq!(unknown.code(), "store_unavailable", "which is never reported as a 401");
}

#[test]
fn without_personal_tokens_the_path_is_the_apps_and_a_token_is_none() {
    let upstream = Upstream::start();
    let plain = config(&upstream, "").replace("enabled = true", "enabled = false");
    let gateway = Gateway::start(&plain.replace("\"/open\"", "\"/tokens\""));
    assert_eq!(get(gateway.address, "/tokens", &[]).unwrap().status, 200);
    assert!(upstream.last().target.starts_with("/tokens"));
    assert_eq!(with(&gateway, "/app", &bearer("agp_x")).code(), "invalid_token");
}
