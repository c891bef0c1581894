//! A password that has to be changed, and a new one by a link of an operator.

use std::thread;

use serde_json::json;

use super::{app, config, outcome, refused, send};
use crate::fixture::{
    Gateway, PASSWORD, RedisServer, Upstream, get, login, request, tokens, until_not_busy, wait_until,
};

const NEW: &str = "another password";

fn users(gateway: &Gateway, line: &str, input: &str) -> (i32, String, String) {
    let words: Vec<&str> = ["users"].into_iter().chain(line.split(' ')).collect();
    gateway.run_command(&words, input)
}

/// The token of a link that was just made.
fn link(gateway: &Gateway, line: &str) -> String {
    let (code, output, notes) = users(gateway, line, "");
    assert_eq!(code, 0, "{notes}");
    output.trim().split_once("/password/reset?token=").unwrap().1.to_owned()
}

fn reset(gateway: &Gateway, token: &str, new: &str) -> (u16, String) {
    outcome(&send(gateway, "/password/reset", &[], &json!({ "token": token, "new_password": new })))
}

#[test]
fn a_required_change_keeps_from_logging_in_until_it_is_done() {
    let upstream = Upstream::start();
    // Logins until a change of the file takes effect fail.
    let gateway =
        Gateway::start(&config(&upstream, "[browser]\nenabled = true\n[lockout]\nmax_failures = 1000"));
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    assert_eq!(users(&gateway, "require-change alice", "").0, 0);
    wait_until("the change is required", || login(gateway.address, "alice", PASSWORD).status == 403);
    assert_eq!(login(gateway.address, "alice", PASSWORD).code(), "password_change_required");
    assert_eq!(login(gateway.address, "alice", "wrong").status, 401, "only who knows the password learns it");
    assert_eq!(app(&gateway, &access), 200, "sessions go on");

    // The front door shows the form, and its answer signs in.
    let origin = format!("http://{}", gateway.address);
    let fields = [
        ("Accept", "text/html"),
        ("Origin", origin.as_str()),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let form = format!("username=alice&password={}&return=/app", PASSWORD.replace(' ', "+"));
    let page =
        until_not_busy(|| request(gateway.address, "POST", "/login", &fields, form.as_bytes()).unwrap());
    assert_eq!(page.status, 403);
    let html = page.text();
    assert!(html.contains("has to be changed") && html.contains("value=\"alice\" readonly"), "{html}");
    let change = |current: &str, new: &str, again: &str| {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("username", "alice").append_pair("current_password", current);
        form.append_pair("new_password", new)
            .append_pair("repeat_password", again)
            .append_pair("return", "/app");
        let form = form.finish();
        until_not_busy(|| request(gateway.address, "POST", "/password", &fields, form.as_bytes()).unwrap())
    };
    for (current, new, again, status, text) in [
        ("wrong", NEW, NEW, 401, "The current password is wrong."),
        (PASSWORD, NEW, "another", 400, "repetition differ"),
        (PASSWORD, "short", "short", 422, "at least 8 characters"),
        (PASSWORD, PASSWORD, PASSWORD, 422, "is the old one"),
        ("", NEW, NEW, 400, "fill in all fields"),
    ] {
        let page = change(current, new, again);
        assert_eq!(page.status, status, "{page:?}");
        assert!(page.text().contains(text), "{text}: {}", page.text());
        assert!(!page.text().contains(PASSWORD), "no password is in a page");
    }
    let done = change(PASSWORD, NEW, NEW);
    assert_eq!((done.status, done.field("location")), (303, Some("/app")), "{done:?}");
    assert!(done.fields.iter().any(|(_, value)| value.starts_with("auth_gateway_access=")), "{done:?}");
    assert_eq!(login(gateway.address, "alice", NEW).status, 200);
    assert!(
        !std::fs::read_to_string(gateway.path("config/users.toml"))
            .unwrap()
            .contains("change_password = true")
    );

    // A client without a browser does the same.
    assert_eq!(users(&gateway, "passwd bob --must-change", "a first password\n").0, 0);
    wait_until("the change is required", || login(gateway.address, "bob", "a first password").status == 403);
    let body = json!({ "username": "bob", "current_password": "a first password", "new_password": NEW });
    assert_eq!(send(&gateway, "/password", &[], &body).status, 204);
    assert_eq!(login(gateway.address, "bob", NEW).status, 200);
}

#[test]
fn a_link_sets_a_password_once_and_ends_the_lock_and_all_sessions() {
    let upstream = Upstream::start();
    let config = config(&upstream, "[browser]\nenabled = true");
    let mut gateway = Gateway::start(&config);
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    for _ in 0..5 {
        login(gateway.address, "alice", "wrong");
    }
    assert_eq!(login(gateway.address, "alice", PASSWORD).code(), "account_locked");
    let (token, other) = (link(&gateway, "reset alice"), link(&gateway, "reset alice"));
    assert_eq!(app(&gateway, &access), 200, "the link alone changes nothing");
    // The store has no secret, and survives a restart.
    gateway.terminate();
    gateway.wait();
    let state = std::fs::read(gateway.path("var/state.redb")).unwrap();
    assert!(!state.windows(token.len()).any(|window| window == token.as_bytes()));
    gateway.run();

    assert_eq!(reset(&gateway, &token, "short"), refused(422, "password_too_short"), "it does not use it up");
    let page = get(gateway.address, &format!("/password/reset?token={token}"), &[]).unwrap();
    assert!(page.status == 200 && page.text().contains("value=\"alice\" readonly"), "{}", page.text());
    assert!(page.field("referrer-policy").is_some() && page.field("cache-control") == Some("no-store"));
    // Of several at the same time, one sets the password.
    let replies: Vec<(u16, String)> = thread::scope(|scope| {
        let all: Vec<_> = (0..6)
            .map(|n| {
                scope.spawn({
                    let (g, t) = (&gateway, &token);
                    move || reset(g, t, &format!("a new password {n}"))
                })
            })
            .collect();
        all.into_iter().map(|reply| reply.join().unwrap()).collect()
    });
    let winners: Vec<usize> = (0..6).filter(|n| replies[*n].0 == 204).collect();
    assert_eq!(winners.len(), 1, "{replies:?}");
    let new = format!("a new password {}", winners[0]);
    assert_eq!((app(&gateway, &access), login(gateway.address, "alice", &new).status), (401, 200));
    for token in [&token, &other] {
        assert_eq!(reset(&gateway, token, "a third password"), refused(410, "link_used"));
        let page = get(gateway.address, &format!("/password/reset?token={token}"), &[]).unwrap();
        assert!(page.status == 410 && page.text().contains("was used before"), "{}", page.text());
    }
    assert_eq!(reset(&gateway, "AAAAAAAAAAAAAAAAAAAAAA", "a third password"), refused(410, "link_expired"));
    let short = link(&gateway, "reset alice --ttl 1ms");
    wait_until("it has expired", || reset(&gateway, &short, "a third password").1 == "link_expired");
    gateway.wait_for_log("password-reset");
    let log = gateway.log();
    assert!(!log.contains(&token) && !log.contains(&new), "{log}");
}

#[test]
fn what_cannot_be_reset_says_why() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, ""));
    let (code, _, notes) = users(&gateway, "reset alice", "");
    assert!(code == 1 && notes.contains("users.reset_url"), "{notes}");
    let gateway = Gateway::start(&config(&upstream, "reset_url = \"https://app.example/reset\""));
    let (code, output, _) = users(&gateway, "reset alice", "");
    assert!(code == 0 && output.starts_with("https://app.example/reset?token="), "{output}");
    let (code, _, notes) = users(&gateway, "reset nobody", "");
    assert!(code == 1 && notes.contains("no source has a user nobody"), "{notes}");
}

#[test]
fn a_link_counts_once_at_two_gateways_on_one_redis() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let store = format!(
        "[browser]\nenabled = true\n[store]\nkind = \"redis\"\n[store.redis]\nurl = \"{}\"",
        redis.url()
    );
    let first = Gateway::start(&config(&upstream, &store));
    let file = first.path("config/users.toml");
    let second = Gateway::start(&config(&upstream, &format!("file = {:?}\n{store}", file.to_str().unwrap())));
    let token = link(&first, "reset alice");
    let replies = thread::scope(|scope| {
        let all = [&first, &second].map(|gateway| scope.spawn(|| reset(gateway, &token, NEW)));
        all.map(|reply| reply.join().unwrap())
    });
    assert_eq!(replies.iter().filter(|reply| reply.0 == 204).count(), 1, "{replies:?}");
    for gateway in [&first, &second] {
        wait_until("the link is used", || {
            reset(gateway, &token, "a third password") == refused(410, "link_used")
        });
    }
}
