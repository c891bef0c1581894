//! HTTP Basic: challenges, locks, and passwords that are remembered.

use std::thread;

use serde_json::json;

use super::{basic, config, make, with};
use crate::fixture::{
    Gateway, PASSWORD, RedisServer, Reply, Upstream, get, login, request, tokens, users_file, wait_until,
};

fn hashes(gateway: &Gateway) -> u64 {
    let metrics = gateway.metrics();
    let line = metrics.lines().find(|line| line.starts_with("auth_gateway_password_hashes_total")).unwrap();
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

fn challenges(reply: &Reply) -> Vec<&str> {
    reply.values("www-authenticate")
}

#[test]
fn a_right_password_passes_at_the_cost_of_one_hash_and_parallel_requests_share_it() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, ""));
    let before = hashes(&gateway);
    let password = basic("alice", PASSWORD);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(with(&gateway, "/dav", &password).status, 200));
        }
    });
    for _ in 0..20 {
        assert_eq!(with(&gateway, "/dav/x", &password).status, 200);
    }
    assert_eq!(hashes(&gateway) - before, 1);
    let seen = upstream.last();
    assert_eq!((seen.values("x-auth-user"), seen.values("x-auth-roles")), (vec!["alice"], vec!["user"]));
    assert_eq!(seen.values("x-auth-session")[0].len(), 22);
    assert!(seen.values("authorization").is_empty());
    let metrics = gateway.metrics();
    assert!(metrics.contains("auth_gateway_basic_passwords_total{outcome=\"verified\"} 1\n"), "{metrics}");
    gateway.wait_for_log("basic success");
    assert!(gateway.log().matches("basic success").count() == 1 && !gateway.log().contains(PASSWORD));
}

#[test]
fn the_challenge_names_basic_where_a_route_takes_it_and_nowhere_else() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, ""));
    let missing = get(gateway.address, "/dav", &[]).unwrap();
    let asks = "Basic realm=\"auth-gateway\", charset=\"UTF-8\"";
    assert_eq!((missing.status, challenges(&missing)), (401, vec!["Bearer", asks]));
    let wrong = with(&gateway, "/dav", &basic("alice", "wrong"));
    assert_eq!((wrong.code(), challenges(&wrong)), ("invalid_credentials".into(), vec!["Bearer", asks]));
    assert_eq!(with(&gateway, "/dav", "Basic !").code(), "invalid_request");
    // As ever: other schemes are no credentials.
    let elsewhere = with(&gateway, "/app", &basic("alice", PASSWORD));
    assert_eq!((elsewhere.code(), challenges(&elsewhere)), ("missing_token".into(), vec!["Bearer"]));
    let open = with(&gateway, "/open", &basic("alice", "an app's own"));
    assert_eq!(open.status, 200);
    assert_eq!(upstream.last().values("authorization"), [basic("alice", "an app's own")]);
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    assert_eq!(with(&gateway, "/dav", &format!("Bearer {access}")).status, 200);
}

#[test]
fn a_token_in_place_of_the_user_name_counts_too_and_is_in_no_log() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, "[browser]\nenabled = true"));
    let (token, id) = make(&gateway, "alice", &json!({}));
    for password in ["", "x-oauth-basic", PASSWORD] {
        assert_eq!(with(&gateway, "/dav", &basic(&token, password)).status, 200, "{password}");
        assert_eq!(upstream.last().values("x-auth-session"), [&*id]);
    }
    let other = format!("{}x", &token[..token.len() - 1]);
    assert_eq!(with(&gateway, "/dav", &basic(&other, "")).status, 401);
    assert_eq!(with(&gateway, "/app", &basic(&token, "")).status, 401);
    let secret = token[26..60].to_lowercase();
    let ends = || with(&gateway, "/dav", &basic("root", "wrong")).status == 401;
    wait_until("the log has the last request", || ends() && gateway.log().contains("root"));
    assert!(!gateway.log().to_lowercase().contains(&secret), "{}", gateway.log());
}

#[test]
fn wrong_passwords_lock_the_account_for_basic_and_login_alike_and_a_remembered_one_does_not_help() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, "[lockout]\nmax_failures = 3\nduration = \"4s\""));
    let right = basic("alice", PASSWORD);
    assert_eq!(with(&gateway, "/dav", &right).status, 200);
    for guess in ["a", "b", "c"] {
        assert_eq!(with(&gateway, "/dav", &basic("alice", guess)).status, 401);
    }
    let locked = with(&gateway, "/dav", &right);
    assert_eq!((locked.status, locked.code()), (403, "account_locked".into()));
    assert!(locked.field("retry-after").is_some());
    assert_eq!(login(gateway.address, "alice", PASSWORD).status, 403);
    assert_eq!(with(&gateway, "/dav", &basic("bob", PASSWORD)).status, 200);
    wait_until("the lock ends", || with(&gateway, "/dav", &right).status == 200);
    // And what fails at the login page locks Basic.
    for _ in 0..3 {
        login(gateway.address, "bob", "wrong");
    }
    assert_eq!(with(&gateway, "/dav", &basic("bob", PASSWORD)).status, 403);
}

#[test]
fn a_lock_of_one_instance_counts_at_another_that_remembers_the_password() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let more = format!(
        "[lockout]\nmax_failures = 2\n[store]\nkind = \"redis\"\n[store.redis]\nurl = \"{}\"",
        redis.url()
    );
    let [one, two] = [0, 1].map(|_| Gateway::start(&config(&upstream, &more)));
    let right = basic("alice", PASSWORD);
    assert_eq!(with(&one, "/dav", &right).status, 200);
    for _ in 0..2 {
        assert_eq!(login(two.address, "alice", "wrong").status, 401);
    }
    assert_eq!(with(&one, "/dav", &right).status, 403);
}

#[test]
fn a_remembered_password_is_forgotten_with_every_change_of_its_user() {
    let upstream = Upstream::start();
    let entry = |password: &str, roles: &[&str]| users_file(&[("1", "alice", password, roles)]);
    let gateway = Gateway::start_with(&config(&upstream, ""), &entry(PASSWORD, &["user"]), &[]);
    let change = |content: &str| std::fs::write(gateway.path("config/users.toml"), content).unwrap();
    let right = basic("alice", PASSWORD);
    assert_eq!(with(&gateway, "/dav", &right).status, 200);

    change(&entry(PASSWORD, &["user", "admin"]));
    wait_until("the new role is there", || {
        assert_eq!(with(&gateway, "/dav", &right).status, 200);
        upstream.last().values("x-auth-roles") == ["user,admin"]
    });
    change(&entry("another password", &["user"]));
    wait_until("the old password is refused", || with(&gateway, "/dav", &right).status == 401);
    let other = basic("alice", "another password");
    assert_eq!(with(&gateway, "/dav", &other).status, 200);
    change(&format!("{}disabled = true\n", entry("another password", &["user"])));
    wait_until("the user is disabled", || with(&gateway, "/dav", &other).status == 401);
}

#[test]
fn a_personal_token_is_a_password_of_its_own_user_only() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, ""));
    let (token, id) = make(&gateway, "alice", &json!({}));
    let before = hashes(&gateway);
    for name in ["alice", "ALICE", ""] {
        assert_eq!(with(&gateway, "/dav", &basic(name, &token)).status, 200, "{name}");
        assert_eq!(upstream.last().values("x-auth-session"), [&*id]);
    }
    assert_eq!(with(&gateway, "/dav", &basic("bob", &token)).code(), "invalid_credentials");
    assert_eq!(with(&gateway, "/app", &basic("alice", &token)).code(), "missing_token");
    assert_eq!(hashes(&gateway), before);
    assert_eq!(gateway.run_command(&["tokens", "revoke", &id], "").0, 0);
    let revoked = with(&gateway, "/dav", &basic("alice", &token));
    assert_eq!((revoked.code(), challenges(&revoked).len()), ("token_revoked".into(), 2));
}

#[test]
fn a_page_of_another_origin_cannot_use_the_password_that_a_browser_sends_by_itself() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, "[browser]\nenabled = true"));
    let (password, own) = (basic("alice", PASSWORD), format!("http://{}", gateway.address));
    let send = |method: &str, fields: &[(&str, &str)]| {
        let fields = [&[("Authorization", &*password)], fields].concat();
        request(gateway.address, method, "/dav", &fields, b"").unwrap().status
    };
    for (method, fields, status) in [
        ("POST", &[][..], 200),
        ("POST", &[("Origin", &*own)], 200),
        ("POST", &[("Sec-Fetch-Site", "same-origin")], 200),
        ("POST", &[("Sec-Fetch-Site", "cross-site"), ("Origin", "https://evil.example")], 403),
        ("DELETE", &[("Origin", "https://evil.example")], 403),
        ("POST", &[("Origin", "null")], 403),
        ("GET", &[("Sec-Fetch-Site", "cross-site")], 200),
    ] {
        assert_eq!(send(method, fields), status, "{method} {fields:?}");
    }
    // No dialog of the browser's own behind a sign-in page.
    let script =
        get(gateway.address, "/dav", &[("Sec-Fetch-Mode", "cors"), ("Sec-Fetch-Site", "same-origin")]);
    assert_eq!(challenges(&script.unwrap()), ["Bearer"]);
    let curl = get(gateway.address, "/dav", &[("Accept", "*/*")]).unwrap();
    assert_eq!((curl.status, challenges(&curl).len()), (401, 2));
}
