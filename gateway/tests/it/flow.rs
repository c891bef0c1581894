//! Users, sessions and tokens, as a client sees them.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;

use crate::fixture::{
    Gateway, PASSWORD, Reply, Upstream, claims, get, login, post, request, tokens, users_file, wait_until,
};

/// A gateway in front of a recording upstream, with more configuration.
fn start(upstream: &Upstream, more: &str) -> Gateway {
    Gateway::start(&config(upstream, more))
}

fn config(upstream: &Upstream, more: &str) -> String {
    format!(
        "{more}\n[upstreams.app]\nurls = [\"http://{}\"]\n[[routes]]\npath = \"/protected\"\nupstream = \"app\"\n",
        upstream.address
    )
}

fn call(gateway: &Gateway, token: &str) -> Reply {
    get(gateway.address, "/protected", &[("Authorization", &format!("Bearer {token}"))]).unwrap()
}

fn refresh(gateway: &Gateway, token: &str) -> Reply {
    post(gateway.address, "/refresh", token)
}

/// The tokens of a good answer to a refresh.
fn refreshed(reply: &Reply) -> (String, String) {
    assert_eq!(reply.status, 200, "{reply:?}");
    let token = |name: &str| reply.json()[name].as_str().unwrap_or_default().to_owned();
    (token("access_token"), token("refresh_token"))
}

fn json_login(address: SocketAddr, content_type: &str, body: &[u8]) -> Reply {
    request(address, "POST", "/login", &[("Content-Type", content_type)], body).unwrap()
}

#[test]
fn login_answers_as_the_contract_says() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, "");
    let good = login(gateway.address, "alice", PASSWORD);
    assert_eq!(good.status, 200);
    assert_eq!((good.field("cache-control"), good.field("pragma")), (Some("no-store"), Some("no-cache")));
    let body = good.json();
    assert_eq!((&body["message"], &body["token_type"]), (&json!("Login successful"), &json!("Bearer")));
    assert_eq!((&body["expires_in"], &body["refresh_expires_in"]), (&json!(60), &json!(600)));
    let access = claims(body["access_token"].as_str().unwrap());
    assert_eq!(
        (&access["type"], &access["sub"], &access["username"], &access["roles"]),
        (&json!("access"), &json!("1"), &json!("alice"), &json!(["user"]))
    );
    assert_eq!(access["exp"].as_u64().unwrap() - access["iat"].as_u64().unwrap(), 60);
    assert_eq!(claims(body["refresh_token"].as_str().unwrap())["type"], "refresh");

    for (body, code) in [
        (&b"not json"[..], "bad_request"),
        (b"{}", "bad_request"),
        (br#"{"username":"alice"}"#, "bad_request"),
        (br#"{"username":"alice","password":""}"#, "bad_request"),
        (br#"{"username":"alice","password":1}"#, "bad_request"),
        (b"[\"alice\"]", "bad_request"),
    ] {
        let reply = json_login(gateway.address, "application/json", body);
        assert_eq!((reply.status, reply.code().as_str()), (400, code), "{}", String::from_utf8_lossy(body));
    }
    let reply = json_login(gateway.address, "text/plain", b"{}");
    assert_eq!((reply.status, reply.code().as_str()), (415, "unsupported_media_type"));
    assert_eq!(reply.field("accept-post"), Some("application/json"));
    let reply = json_login(gateway.address, "application/json; charset=utf-8", &vec![b' '; 9000]);
    assert_eq!((reply.status, reply.code().as_str()), (413, "payload_too_large"));
    let reply = get(gateway.address, "/login", &[]).unwrap();
    assert_eq!((reply.status, reply.field("allow")), (405, Some("POST")));
}

#[test]
fn a_wrong_password_an_unknown_name_and_a_disabled_user_are_answered_alike() {
    let upstream = Upstream::start();
    let users =
        users_file(&[("1", "alice", PASSWORD, &[]), ("2", "mallory", PASSWORD, &[])]) + "disabled = true\n";
    let gateway = Gateway::start_with(&config(&upstream, ""), &users, &[]);
    let attempt = |username: &str, password: &str| {
        let reply = login(gateway.address, username, password);
        assert_eq!((reply.status, reply.field("www-authenticate")), (401, Some("Bearer")));
        let mut body = reply.json();
        body.as_object_mut().unwrap().remove("request_id");
        body
    };
    let wrong = attempt("alice", "wrong");
    assert_eq!(wrong["code"], "invalid_credentials");
    assert_eq!(attempt("nobody", PASSWORD), wrong);
    assert_eq!(attempt("mallory", PASSWORD), wrong);
    assert!(gateway.metrics().contains("auth_gateway_password_hashes_total 3"), "each costs one hash");
}

#[test]
fn a_name_is_locked_after_its_failures_known_or_not_and_over_a_kill() {
    let upstream = Upstream::start();
    let mut gateway = start(&upstream, "[lockout]\nmax_failures = 3\nduration = \"10m\"\n");
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    // Spellings of one name share its count.
    for name in ["alice", "ALICE", "\u{ff41}lice"] {
        assert_eq!(login(gateway.address, name, "wrong").status, 401);
    }
    for _ in 0..3 {
        assert_eq!(login(gateway.address, "nobody", "wrong").status, 401);
    }
    let locked = |gateway: &Gateway| {
        for (name, password) in [("alice", PASSWORD), ("alice", "wrong"), ("nobody", PASSWORD)] {
            let reply = login(gateway.address, name, password);
            assert_eq!((reply.status, reply.code().as_str()), (403, "account_locked"), "{name}");
            let wait: u64 = reply.field("retry-after").unwrap().parse().unwrap();
            assert!((500..=600).contains(&wait), "{wait}");
        }
    };
    let hashes = |gateway: &Gateway| {
        let metrics = gateway.metrics();
        metrics.lines().find(|l| l.starts_with("auth_gateway_password_hashes_total")).unwrap().to_owned()
    };
    let before = hashes(&gateway);
    locked(&gateway);
    assert_eq!(hashes(&gateway), before, "a locked answer runs no hash");
    assert_eq!(call(&gateway, &access).status, 200, "sessions go on while the name is locked");
    assert_eq!(login(gateway.address, "bob", PASSWORD).status, 200);
    gateway.kill();
    gateway.run();
    locked(&gateway);
}

#[test]
fn a_locked_name_is_unlocked_by_a_command_whether_the_gateway_runs_or_not() {
    let upstream = Upstream::start();
    let mut gateway = start(&upstream, "[lockout]\nmax_failures = 2\nduration = \"10m\"\n");
    let (_, token) = tokens(gateway.address, "alice", PASSWORD);
    let lock = |gateway: &Gateway| {
        for _ in 0..2 {
            assert_eq!(login(gateway.address, "alice", "wrong").status, 401);
        }
        assert_eq!(login(gateway.address, "alice", PASSWORD).status, 403);
    };
    let unlock = |gateway: &Gateway, name: &str| {
        let args = ["users", "unlock", name, "--config", "gateway.toml"];
        let (code, _, said) = Gateway::command(gateway.dir.path(), &args, "");
        assert_eq!(code, 0, "{said}");
        said
    };
    lock(&gateway);
    let (_, token) = refreshed(&refresh(&gateway, &token));
    assert_eq!(unlock(&gateway, "ALICE"), "alice is unlocked\n");
    assert_eq!(login(gateway.address, "alice", PASSWORD).status, 200);
    assert!(unlock(&gateway, "alice").starts_with("alice was not locked"));
    let socket = std::fs::metadata(gateway.path("var/state.redb.sock")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&socket) & 0o777, 0o600);

    // A stale control socket of a killed gateway is no obstacle.
    lock(&gateway);
    gateway.kill();
    assert_eq!(unlock(&gateway, "alice"), "alice is unlocked\n");
    gateway.run();
    assert_eq!(login(gateway.address, "alice", PASSWORD).status, 200);
    refreshed(&refresh(&gateway, &token));
    gateway.terminate();
    gateway.wait();
    assert!(!gateway.path("var/state.redb.sock").exists());
}

#[test]
fn locks_escalate_where_configured() {
    let upstream = Upstream::start();
    let lockout = "[lockout]\nmax_failures = 1\nduration = \"1s\"\nescalation = 60\nmax_duration = \"1m\"\n";
    let gateway = start(&upstream, lockout);
    assert_eq!(login(gateway.address, "alice", "wrong").status, 401);
    let first = login(gateway.address, "alice", "wrong");
    assert_eq!((first.status, first.field("retry-after")), (403, Some("1")));
    wait_until("the first lock is over", || login(gateway.address, "alice", "wrong").status == 401);
    let second = login(gateway.address, "alice", PASSWORD);
    assert!(second.field("retry-after").unwrap().parse::<u64>().unwrap() > 50, "{second:?}");
}

/// A login through the proxy at the other end of the connection, for a client of its own.
fn login_for(gateway: &Gateway, client: &str, username: &str, password: &str) -> Reply {
    let body = json!({"username": username, "password": password}).to_string();
    let fields = [("Content-Type", "application/json"), ("X-Forwarded-For", client)];
    request(gateway.address, "POST", "/login", &fields, body.as_bytes()).unwrap()
}

#[test]
fn a_rate_limited_network_runs_no_hash_even_after_a_kill() {
    let upstream = Upstream::start();
    let mut gateway = start(
        &upstream,
        "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n[throttle]\nmax_failures = 4\nwindow = \"20m\"\n",
    );
    let (_, token) = tokens(gateway.address, "alice", PASSWORD);
    // Good logins use nothing up.
    for _ in 0..6 {
        assert_eq!(login_for(&gateway, "192.0.2.1", "alice", PASSWORD).status, 200);
    }
    // One password each for many names, from one subnet (password spraying): no name is locked.
    for (i, name) in ["alice", "bob", "root", "nobody"].iter().enumerate() {
        assert_eq!(login_for(&gateway, &format!("2001:db8::{i}"), name, "wrong").status, 401);
    }
    let hashes = |gateway: &Gateway| {
        let metrics = gateway.metrics();
        metrics.lines().find(|l| l.starts_with("auth_gateway_password_hashes_total")).unwrap().to_owned()
    };
    let before = hashes(&gateway);
    let refused = |gateway: &Gateway| {
        let reply = login_for(gateway, "2001:db8::ffff", "alice", PASSWORD);
        assert_eq!((reply.status, reply.code().as_str()), (429, "rate_limited"));
        let wait: u64 = reply.field("retry-after").unwrap().parse().unwrap();
        assert!((1..=300).contains(&wait), "{wait}");
    };
    refused(&gateway);
    assert_eq!(hashes(&gateway), before, "who is attempt to wait costs no hash");
    assert!(gateway.metrics().contains("auth_gateway_logins_total{outcome=\"rate_limited\"} 1"));
    assert_eq!(login_for(&gateway, "2001:db8:0:1::1", "alice", PASSWORD).status, 200, "the subnet next door");
    let untrusted_hop = "2001:db8::ffff, 192.0.2.1";
    assert_eq!(login_for(&gateway, untrusted_hop, "alice", PASSWORD).status, 200, "the right-most counts");
    refreshed(&refresh(&gateway, &token));
    gateway.kill();
    gateway.run();
    refused(&gateway);
}

/// The status codes of parallel wrong passwords. Where the machine is too busy to check a guess (503), it is repeated.
fn parallel_guesses(address: SocketAddr, names: impl Iterator<Item = String>) -> Vec<u16> {
    let guess = move |name: String| {
        loop {
            let status = login(address, &name, "wrong").status;
            if status != 503 {
                return status;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    let guesses: Vec<_> = names.map(|name| std::thread::spawn(move || guess(name))).collect();
    guesses.into_iter().map(|guess| guess.join().unwrap()).collect()
}

#[test]
fn parallel_guesses_from_one_network_never_pass_its_limit() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, "[throttle]\nmax_failures = 5\n[limits]\nhash_queue = 200\n");
    let statuses = parallel_guesses(gateway.address, (0..30).map(|i| format!("name{i}")));
    assert_eq!(statuses.iter().filter(|s| **s == 401).count(), 5, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|s| **s == 429).count(), 25, "{statuses:?}");
}

#[test]
fn forged_refresh_tokens_are_slowed_down_and_real_ones_go_on() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, "[throttle]\nmax_failures = 3\n");
    let (_, token) = tokens(gateway.address, "alice", PASSWORD);
    let forged = format!("{}x", &token[..token.len() - 1]);
    for _ in 0..3 {
        assert_eq!(refresh(&gateway, &forged).code(), "invalid_token");
    }
    let slowed = refresh(&gateway, &forged);
    assert_eq!((slowed.status, slowed.code().as_str()), (429, "rate_limited"));
    assert!(slowed.field("retry-after").is_some());
    refreshed(&refresh(&gateway, &token));
    assert_eq!(login(gateway.address, "alice", PASSWORD).status, 200, "logins are counted apart");
    assert!(gateway.metrics().contains("auth_gateway_refreshes_total{outcome=\"rate_limited\"} 1"));
}

#[test]
fn a_success_forgets_the_failures_and_a_lock_ends_by_itself() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, "[lockout]\nmax_failures = 2\nduration = \"1s\"\n");
    for _ in 0..3 {
        assert_eq!(login(gateway.address, "alice", "wrong").status, 401);
        assert_eq!(login(gateway.address, "alice", PASSWORD).status, 200);
    }
    assert_eq!(login(gateway.address, "alice", "wrong").status, 401);
    assert_eq!(login(gateway.address, "alice", "wrong").status, 401);
    assert_eq!(login(gateway.address, "alice", PASSWORD).status, 403);
    wait_until("the lock has ended", || login(gateway.address, "alice", PASSWORD).status == 200);
}

#[test]
fn parallel_guesses_never_pass_the_limit() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, "[lockout]\nmax_failures = 5\n[limits]\nhash_queue = 200\n");
    let statuses = parallel_guesses(gateway.address, std::iter::repeat_n("alice".to_owned(), 30));
    assert_eq!(statuses.iter().filter(|s| **s == 401).count(), 5, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|s| **s == 403).count(), 25, "{statuses:?}");
}

#[test]
fn login_overload_gets_retry_after_and_locks_no_one() {
    let upstream = Upstream::start();
    let gateway =
        start(&upstream, "[lockout]\nmax_failures = 3\n[limits]\nhash_threads = 1\nhash_queue = 1\n");
    let address = gateway.address;
    let crowd: Vec<_> =
        (0..20).map(|_| std::thread::spawn(move || login(address, "alice", PASSWORD))).collect();
    let replies: Vec<Reply> = crowd.into_iter().map(|login| login.join().unwrap()).collect();
    let busy: Vec<_> = replies.iter().filter(|r| r.status == 503).collect();
    assert!(busy.iter().all(|r| r.code() == "overloaded" && r.field("retry-after").is_some()));
    assert!(replies.iter().all(|r| matches!(r.status, 200 | 403 | 503)), "{replies:?}");
    wait_until("alice can log in", || login(address, "alice", PASSWORD).status == 200);
}

#[test]
fn by_default_a_successor_is_chosen_once_and_its_use_ends_its_predecessor() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, "[tokens]\nreuse_grace = \"0s\"\n");
    let (_, first) = tokens(gateway.address, "alice", PASSWORD);
    let (access, second) = refreshed(&refresh(&gateway, &first));
    assert_eq!(call(&gateway, &access).status, 200);
    let (_, again) = refreshed(&refresh(&gateway, &first));
    assert_eq!(claims(&again), claims(&second), "a lost answer can be asked for again");
    assert_eq!(claims(&second)["exp"], claims(&first)["exp"], "the session's end does not move");
    let (access, _) = refreshed(&refresh(&gateway, &second));
    let (other_access, _) = tokens(gateway.address, "alice", PASSWORD);
    let reused = refresh(&gateway, &first);
    assert_eq!((reused.status, reused.code().as_str()), (401, "token_reused"));
    let after = refresh(&gateway, &second);
    assert_eq!((after.status, after.code().as_str()), (401, "token_revoked"), "the family is over");
    assert_eq!(call(&gateway, &access).code(), "token_revoked");
    assert_eq!(call(&gateway, &other_access).status, 200, "and no other");
    let metrics = gateway.metrics();
    assert!(metrics.contains("auth_gateway_refreshes_total{outcome=\"reused\"} 1"), "{metrics}");
    wait_until("the reuse is in the log", || gateway.log().contains("\"outcome\":\"reused\""));
}

#[test]
fn strict_rotation_forgives_only_within_the_grace() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, "[tokens]\nrotation = \"strict\"\nreuse_grace = \"2s\"\n");
    let (_, first) = tokens(gateway.address, "alice", PASSWORD);
    let (_, second) = refreshed(&refresh(&gateway, &first));
    let (_, again) = refreshed(&refresh(&gateway, &first));
    assert_eq!(claims(&again)["jti"], claims(&second)["jti"]);
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!(refresh(&gateway, &first).code(), "token_reused");
    assert_eq!(refresh(&gateway, &second).code(), "token_revoked");
}

#[test]
fn without_rotation_one_refresh_token_serves_until_its_end() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, "[tokens]\nrotation = \"off\"\n");
    let (_, first) = tokens(gateway.address, "alice", PASSWORD);
    for _ in 0..3 {
        let reply = refresh(&gateway, &first);
        assert_eq!(reply.status, 200);
        assert!(reply.json().get("refresh_token").is_none());
    }
}

#[test]
fn racing_refreshes_get_one_successor() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, "");
    let (_, first) = tokens(gateway.address, "alice", PASSWORD);
    let address = gateway.address;
    let tabs: Vec<_> = (0..16)
        .map(|_| {
            let token = first.clone();
            std::thread::spawn(move || refreshed(&post(address, "/refresh", &token)).1)
        })
        .collect();
    let successors: Vec<String> = tabs.into_iter().map(|tab| tab.join().unwrap()).collect();
    let ids: std::collections::HashSet<_> = successors.iter().map(|t| claims(t)["jti"].clone()).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
}

#[test]
fn expired_tokens_are_distinguished_from_forged_ones() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, "[tokens]\naccess_ttl = \"5s\"\nrefresh_ttl = \"7s\"\n");
    let (access, first) = tokens(gateway.address, "alice", PASSWORD);
    assert_eq!(call(&gateway, &access).status, 200);
    wait_until("the access token has expired", || call(&gateway, &access).status == 401);
    let expired = call(&gateway, &access);
    assert_eq!(expired.code(), "token_expired");
    assert!(expired.field("www-authenticate").unwrap().starts_with("Bearer error=\"invalid_token\""));
    wait_until("the session has ended", || refresh(&gateway, &first).status == 401);
    assert_eq!(refresh(&gateway, &first).code(), "token_expired");
    let forged = format!("{}x", &access[..access.len() - 1]);
    assert_eq!(call(&gateway, &forged).code(), "invalid_token");
}

#[test]
fn an_idle_session_ends_before_its_absolute_lifetime() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, "[tokens]\naccess_ttl = \"1s\"\nidle_ttl = \"5s\"\n");
    let (_, idle) = tokens(gateway.address, "alice", PASSWORD);
    let (_, first) = tokens(gateway.address, "alice", PASSWORD);
    let mut token = first;
    // Refreshed now and then, it lives on.
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(1200));
        let reply = refresh(&gateway, &token);
        assert_eq!(reply.json()["refresh_expires_in"], 5, "how long a client may wait");
        token = refreshed(&reply).1;
    }
    let ended = refresh(&gateway, &idle);
    assert_eq!((ended.status, ended.code().as_str()), (401, "token_expired"));
    assert_eq!(refresh(&gateway, &idle).code(), "token_revoked", "for good");
    assert!(gateway.metrics().contains("auth_gateway_refreshes_total{outcome=\"idle\"} 1"));
}

#[test]
fn a_shorter_lifetime_does_not_end_the_sessions_that_are_there() {
    let upstream = Upstream::start();
    let mut gateway = start(&upstream, "");
    let (access, first) = tokens(gateway.address, "alice", PASSWORD);
    gateway.kill();
    let shorter = config(&upstream, "[tokens]\naccess_ttl = \"5s\"\nrefresh_ttl = \"60s\"\n");
    std::fs::write(gateway.path("gateway.toml"), shorter).unwrap();
    gateway.run();
    assert_eq!(call(&gateway, &access).status, 200);
    assert_eq!(refresh(&gateway, &first).json()["expires_in"], 5);
}

#[test]
fn neither_token_passes_for_the_other() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, "");
    let (access, first) = tokens(gateway.address, "alice", PASSWORD);
    for reply in [call(&gateway, &first), refresh(&gateway, &access)] {
        assert_eq!((reply.status, reply.code().as_str()), (401, "wrong_token_type"));
    }
    assert_eq!(request(gateway.address, "POST", "/refresh", &[], b"").unwrap().code(), "missing_token");
}

#[test]
fn a_logout_ends_the_session_at_once_also_over_a_kill() {
    let upstream = Upstream::start();
    let mut gateway = start(&upstream, "");
    let (access, first) = tokens(gateway.address, "alice", PASSWORD);
    let (other_access, _) = tokens(gateway.address, "alice", PASSWORD);
    assert_eq!(call(&gateway, &access).status, 200, "the token is in the cache now");
    for token in [&access, &access, &first] {
        assert_eq!(post(gateway.address, "/logout", token).status, 204, "leaving twice is leaving");
    }
    assert_eq!(call(&gateway, &access).code(), "token_revoked");
    assert_eq!(refresh(&gateway, &first).code(), "token_revoked");
    assert_eq!(call(&gateway, &other_access).status, 200);
    gateway.kill();
    gateway.run();
    assert_eq!(call(&gateway, &access).code(), "token_revoked");
    assert_eq!(call(&gateway, &other_access).status, 200);
    assert_eq!(post(gateway.address, "/logout", "a.b.c").code(), "invalid_token");
}

#[test]
fn logging_out_everywhere_ends_every_session_of_the_user_and_no_other() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, "");
    let mine: Vec<_> = (0..3).map(|_| tokens(gateway.address, "alice", PASSWORD)).collect();
    let (bob, _) = tokens(gateway.address, "bob", PASSWORD);
    assert_eq!(post(gateway.address, "/logout-all", &mine[0].1).code(), "wrong_token_type");
    assert_eq!(post(gateway.address, "/logout-all", &mine[0].0).status, 204);
    for (access, first) in &mine {
        assert_eq!(call(&gateway, access).code(), "token_revoked");
        assert_eq!(refresh(&gateway, first).code(), "token_revoked");
    }
    assert_eq!(call(&gateway, &bob).status, 200);
    assert_eq!(login(gateway.address, "alice", PASSWORD).status, 200, "and the user may come back");
}

#[test]
fn sessions_survive_a_kill_and_follow_the_users_file() {
    let upstream = Upstream::start();
    let mut gateway = start(&upstream, "");
    let (_, alice) = tokens(gateway.address, "alice", PASSWORD);
    let (_, bob) = tokens(gateway.address, "bob", PASSWORD);
    gateway.kill();
    let file = gateway.path("config/users.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text
        .replace("roles = [\"user\"]\n[[users]]\nid = \"2\"", "roles = [\"boss\"]\n[[users]]\nid = \"2\"");
    let bob_entry = text.find("id = \"2\"").unwrap();
    let text = format!("{}disabled = true\n{}", &text[..bob_entry], &text[bob_entry..]);
    std::fs::write(&file, text).unwrap();
    gateway.run();
    let (access, _) = refreshed(&refresh(&gateway, &alice));
    assert_eq!(claims(&access)["roles"], json!(["boss"]), "new roles take effect");
    assert_eq!(refresh(&gateway, &bob).code(), "token_revoked");
}

/// How many users the running gateway knows of, and whether they are those of the file.
fn active_users(gateway: &Gateway) -> (usize, bool) {
    let metrics = gateway.metrics();
    let value = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse::<usize>().unwrap()
    };
    (value("auth_gateway_users "), value("auth_gateway_users_up_to_date ") == 1)
}

#[test]
fn changed_users_take_effect_without_a_restart_and_a_broken_file_changes_nothing() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, "");
    let sessions = ["alice", "bob", "root"].map(|name| tokens(gateway.address, name, PASSWORD).1);
    let file = gateway.path("config/users.toml");
    let original = std::fs::read_to_string(&file).unwrap();
    let entries: Vec<&str> = original.split_inclusive("]\n[[").collect();
    assert_eq!(entries.len(), 3);

    // An invalid file: the active users stay, and the log has the place and the remedy.
    std::fs::write(&file, original.replace("id = \"2\"", "id = 2")).unwrap();
    wait_until("the mistake is noticed", || !active_users(&gateway).1);
    assert_eq!(active_users(&gateway).0, 3);
    let ready = get(gateway.admin, "/readyz", &[]).unwrap();
    assert_eq!((ready.status, &ready.json()["status"]), (200, &json!("degraded")));
    wait_until("the mistake is in the log", || {
        gateway
            .log()
            .contains("config/users.toml:7: users[1].id: expected a string, found an integer; write id")
    });
    let [alice, bob, root] = sessions.map(|token| refreshed(&refresh(&gateway, &token)).1);
    assert_eq!(login(gateway.address, "bob", PASSWORD).status, 200);

    // Alice gets another role, bob is disabled, root is gone, and carol is new.
    let carol = users_file(&[("4", "carol", PASSWORD, &[])]);
    let changed = original.replacen("roles = [\"user\"]", "roles = [\"boss\"]", 1);
    let changed = changed.replacen("id = \"2\"", "disabled = true\nid = \"2\"", 1);
    let changed = format!("{}{carol}", &changed[..changed.rfind("[[users]]").unwrap()]);
    std::fs::write(&file, changed).unwrap();
    wait_until("the change is active", || active_users(&gateway).1);
    assert_eq!(claims(&refreshed(&refresh(&gateway, &alice)).0)["roles"], json!(["boss"]));
    assert_eq!(refresh(&gateway, &bob).code(), "token_revoked");
    assert_eq!(refresh(&gateway, &root).code(), "token_revoked");
    assert_eq!(login(gateway.address, "bob", PASSWORD).status, 401);
    assert_eq!(login(gateway.address, "root", PASSWORD).status, 401);
    let (_, carol) = tokens(gateway.address, "carol", PASSWORD);

    // A new password by the command, and SIGHUP for who does not want to wait.
    let args = ["users", "passwd", "carol", "--config", "gateway.toml"];
    let (code, _, said) = Gateway::command(gateway.dir.path(), &args, "another password for tests\n");
    assert!(code == 0 && said.contains("within a second"), "{said}");
    gateway.signal("HUP");
    wait_until("the new password is active", || refresh(&gateway, &carol).status == 401);
    assert_eq!(refresh(&gateway, &carol).code(), "token_revoked");
    assert_eq!(login(gateway.address, "carol", PASSWORD).status, 401);
    assert_eq!(login(gateway.address, "carol", "another password for tests").status, 200);
    let metrics = gateway.metrics();
    assert!(metrics.contains("auth_gateway_users_reloads_total{outcome=\"failure\"} 1"), "{metrics}");
    assert!(metrics.contains("auth_gateway_users_reloads_total{outcome=\"success\"} 2"), "{metrics}");
}

#[test]
fn the_key_set_has_public_keys_only() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, "");
    let reply = get(gateway.address, "/.well-known/jwks.json", &[]).unwrap();
    assert_eq!(reply.field("cache-control"), Some("public, max-age=300"));
    let key = &reply.json()["keys"][0];
    assert_eq!((&key["kty"], &key["alg"], &key["use"]), (&json!("OKP"), &json!("EdDSA"), &json!("sig")));
    assert!(key.get("d").is_none());
    let secret = "[tokens]\nalgorithm = \"HS256\"\nsecret = \"pM3kz1v8Qw7rT5yX2bN9cL4dF6gH0jKs\"\n";
    let gateway = start(&upstream, secret);
    assert_eq!(get(gateway.address, "/.well-known/jwks.json", &[]).unwrap().json(), json!({"keys": []}));
}

#[test]
fn endpoints_move_below_their_prefix() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, "[endpoints]\nprefix = \"/auth\"\n");
    assert_eq!(login(gateway.address, "alice", PASSWORD).status, 404);
    let body = json!({"username": "alice", "password": PASSWORD}).to_string();
    let json = [("Content-Type", "application/json")];
    assert_eq!(request(gateway.address, "POST", "/auth/login", &json, body.as_bytes()).unwrap().status, 200);
    assert_eq!(get(gateway.address, "/.well-known/jwks.json", &[]).unwrap().status, 200);
}
