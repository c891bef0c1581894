//! Changing the password at `POST /password`.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::{app, config, outcome, refused, send, send_with};
use crate::fixture::{
    Browser, Gateway, PASSWORD, RedisServer, Reply, Upstream, get, login, post, request, tokens, users_file,
    wait_until,
};

const NEW: &str = "another password";

/// Two polls of the users file, and a little more.
const POLLED: Duration = Duration::from_millis(1200);

fn change(current: &str, new: &str) -> Value {
    json!({ "current_password": current, "new_password": new })
}

#[test]
fn a_new_password_ends_the_other_sessions_and_not_the_own() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, ""));
    let (own, own_refresh) = tokens(gateway.address, "alice", PASSWORD);
    let (other, other_refresh) = tokens(gateway.address, "alice", PASSWORD);
    let (of_bob, _) = tokens(gateway.address, "bob", PASSWORD);
    let reply = send_with(&gateway, "/password", &own, &change(PASSWORD, NEW));
    assert_eq!((reply.status, reply.field("cache-control")), (204, Some("no-store")), "{reply:?}");
    assert_eq!((app(&gateway, &own), app(&gateway, &other), app(&gateway, &of_bob)), (200, 401, 200));
    assert_eq!(post(gateway.address, "/refresh", &other_refresh).status, 401);
    // The next polls of the users file end nothing more.
    thread::sleep(POLLED);
    assert_eq!(app(&gateway, &own), 200);
    let refreshed = post(gateway.address, "/refresh", &own_refresh);
    assert_eq!(refreshed.status, 200, "{refreshed:?}");
    assert_eq!(login(gateway.address, "alice", PASSWORD).status, 401);
    assert_eq!(login(gateway.address, "alice", NEW).status, 200);

    // With the wish, the others go on; a second change counts for the session of the first.
    let (third, _) = tokens(gateway.address, "alice", NEW);
    let mut body = change(NEW, "a third password");
    body["end_other_sessions"] = false.into();
    assert_eq!(send_with(&gateway, "/password", &own, &body).status, 204);
    thread::sleep(POLLED);
    assert_eq!((app(&gateway, &own), app(&gateway, &third)), (200, 200));
    assert_eq!(login(gateway.address, "alice", "a third password").status, 200);
    gateway.wait_for_log("password-change");
    let log = gateway.log();
    assert!(!log.contains(NEW) && !log.contains("third"), "{log}");
}

#[test]
fn sessions_survive_a_restart_and_an_operators_change_ends_them_as_ever() {
    let upstream = Upstream::start();
    let mut gateway = Gateway::start(&config(&upstream, ""));
    let (own, refresh) = tokens(gateway.address, "alice", PASSWORD);
    assert_eq!(send_with(&gateway, "/password", &own, &change(PASSWORD, NEW)).status, 204);
    gateway.kill();
    gateway.run();
    assert_eq!((app(&gateway, &own), post(gateway.address, "/refresh", &refresh).status), (200, 200));
    assert_eq!(gateway.run_command(&["users", "passwd", "alice"], "a third password\n").0, 0);
    wait_until("the session ends", || app(&gateway, &own) == 401);
}

#[test]
fn who_has_no_session_names_the_user_and_no_session_goes_on() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, ""));
    let (other, _) = tokens(gateway.address, "alice", PASSWORD);
    let mut body = change(PASSWORD, NEW);
    assert_eq!(outcome(&send(&gateway, "/password", &[], &body)), refused(401, "missing_token"));
    body["username"] = "Alice".into();
    assert_eq!(send(&gateway, "/password", &[], &body).status, 204);
    assert_eq!((app(&gateway, &other), login(gateway.address, "alice", NEW).status), (401, 200));
}

#[test]
fn what_a_new_password_has_to_be_like_is_told_by_codes() {
    let upstream = Upstream::start();
    let policy =
        "[users.password_policy]\nmin_length = 10\nmin_strength = 2\nbreached_file = \"breached.txt\"";
    // Of `printf 'violet armadillo' | sha1sum`.
    let breached = b"D5533BBC5304739422D7B6269C53072A80C349EA:9\r\n";
    let files: [(&str, &[u8]); 1] = [("breached.txt", breached)];
    let users = users_file(&[("1", "alice.liddell", PASSWORD, &[])]);
    let gateway = Gateway::start_with(&config(&upstream, policy), &users, &files);
    let (access, _) = tokens(gateway.address, "alice.liddell", PASSWORD);
    for (new, code) in [
        ("ninechars", "password_too_short"),
        ("password123", "password_too_common"),
        ("alice.liddell", "password_is_username"),
        ("abcdefghijklm", "password_too_weak"),
        ("violet armadillo", "password_breached"),
        (PASSWORD, "password_unchanged"),
    ] {
        let reply = send_with(&gateway, "/password", &access, &change(PASSWORD, new));
        assert_eq!(outcome(&reply), refused(422, code), "{new}");
        // Nothing of it is judged for those who do not know the old one.
        let reply = send_with(&gateway, "/password", &access, &change("wrong", new));
        assert_eq!(outcome(&reply), refused(401, "invalid_credentials"), "{new}");
        // The right one again clears the failures.
        assert_eq!(login(gateway.address, "alice.liddell", PASSWORD).status, 200);
    }
    let short = send_with(&gateway, "/password", &access, &change(PASSWORD, "short"));
    assert!(short.json()["message"].as_str().unwrap().contains("at least 10 characters"), "{short:?}");
    // The command has the same policy.
    for (new, why) in
        [("ninechars", "at least 10"), ("violet armadillo", "stolen"), ("abcdefghijklm", "easy")]
    {
        let (code, _, notes) =
            gateway.run_command(&["users", "passwd", "alice.liddell"], &format!("{new}\n"));
        assert!(code == 1 && notes.contains(why), "{new}: {notes}");
    }
    assert_eq!(login(gateway.address, "alice.liddell", PASSWORD).status, 200, "it is still the old one");
}

#[test]
fn a_body_that_is_none_is_refused_and_counts_nothing() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, "[lockout]\nmax_failures = 1"));
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    let bearer = format!("Bearer {access}");
    let json = ("Content-Type", "application/json");
    for (body, status, code) in [
        ("", 400, "bad_request"),
        ("[]", 400, "bad_request"),
        (r#"{"current_password":"x"}"#, 400, "bad_request"),
        (r#"{"new_password":"x"}"#, 400, "bad_request"),
        (r#"{"current_password":"x","new_password":""}"#, 400, "bad_request"),
        (r#"{"current_password":1,"new_password":"y"}"#, 400, "bad_request"),
        (r#"{"current_password":"x","current_password":"x","new_password":"y"}"#, 400, "bad_request"),
        (r#"{"current_password":"x","new_password":"y","end_other_sessions":"no"}"#, 400, "bad_request"),
    ] {
        let fields = [("Authorization", bearer.as_str()), json];
        let reply = request(gateway.address, "POST", "/password", &fields, body.as_bytes()).unwrap();
        assert_eq!(outcome(&reply), refused(status, code), "{body}");
    }
    let long = change(PASSWORD, &"x".repeat(1025));
    assert_eq!(outcome(&send_with(&gateway, "/password", &access, &long)), refused(400, "bad_request"));
    let fields = [("Authorization", bearer.as_str()), ("Content-Type", "text/plain")];
    let reply = request(gateway.address, "POST", "/password", &fields, b"{}").unwrap();
    assert_eq!(outcome(&reply), refused(415, "unsupported_media_type"));
    let forged = send_with(&gateway, "/password", "a.b.c", &change(PASSWORD, NEW));
    assert_eq!(outcome(&forged), refused(401, "invalid_token"));
    assert_eq!(send_with(&gateway, "/password", &access, &change(PASSWORD, NEW)).status, 204);
}

#[test]
fn parallel_wrong_passwords_cannot_pass_the_limit_and_lock_the_login_too() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, ""));
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    let replies: Vec<Reply> = thread::scope(|scope| {
        let guess = || send_with(&gateway, "/password", &access, &change("a wrong password", NEW));
        let guesses: Vec<_> = (0..30).map(|_| scope.spawn(guess)).collect();
        guesses.into_iter().map(|guess| guess.join().unwrap()).collect()
    });
    let judged = replies.iter().filter(|reply| reply.status == 401).count();
    assert!(replies.iter().all(|reply| [401, 403, 503].contains(&reply.status)), "{replies:?}");
    assert!(judged <= 5, "{judged}");
    for _ in judged..5 {
        send_with(&gateway, "/password", &access, &change("a wrong password", NEW));
    }
    for reply in [
        send_with(&gateway, "/password", &access, &change(PASSWORD, NEW)),
        login(gateway.address, "alice", PASSWORD),
    ] {
        assert_eq!(outcome(&reply), refused(403, "account_locked"));
        assert!(reply.field("retry-after").is_some());
    }
    assert_eq!(app(&gateway, &access), 200, "the session goes on");
}

#[test]
fn a_session_in_cookies_changes_it_from_pages_of_its_host_only() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, "[browser]\nenabled = true"));
    let origin = format!("http://{}", gateway.address);
    let cookies = Browser::signed_in(&gateway, "alice").cookie_field();
    let body = change(PASSWORD, NEW);
    for (fields, expected) in [
        (vec![], refused(403, "csrf_rejected")),
        (vec![("Origin", "http://other.example")], refused(403, "csrf_rejected")),
        (vec![("Origin", origin.as_str())], refused(204, "")),
    ] {
        let mut fields = fields;
        fields.push(("Cookie", &cookies));
        assert_eq!(outcome(&send(&gateway, "/password", &fields, &body)), expected);
    }
    let reply = get(gateway.address, "/app", &[("Cookie", &cookies)]).unwrap();
    assert_eq!(reply.status, 200);
}

#[test]
fn sources_that_are_kept_elsewhere_refuse_and_off_means_that_the_path_is_the_apps() {
    let upstream = Upstream::start();
    let hash = users_file(&[("1", "alice", PASSWORD, &[])]);
    let hash =
        hash.lines().find_map(|line| line.strip_prefix("password = ")).unwrap().trim_matches('"').to_owned();
    let htpasswd = format!("alice:{hash}\n");
    let users = "kind = \"htpasswd\"\nfile = \"htpasswd\"";
    let files: [(&str, &[u8]); 1] = [("htpasswd", htpasswd.as_bytes())];
    let gateway = Gateway::start_with(&config(&upstream, users), "", &files);
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    let reply = send_with(&gateway, "/password", &access, &change(PASSWORD, NEW));
    assert_eq!(outcome(&reply), refused(403, "password_not_changeable"));
    assert_eq!(app(&gateway, &access), 200);

    let off = config(&upstream, "").replace("password_change = true", "");
    let gateway = Gateway::start(&off.replace("path = \"/app\"", "path = \"/\""));
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    assert_eq!(send_with(&gateway, "/password", &access, &change(PASSWORD, NEW)).status, 200);
    assert_eq!(login(gateway.address, "alice", PASSWORD).status, 200);
}

#[test]
fn of_two_gateways_on_one_redis_both_keep_the_own_session_and_end_the_others() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    // Logins until the second gateway has read the file fail.
    let store = format!(
        "[lockout]\nmax_failures = 1000\n[store]\nkind = \"redis\"\n[store.redis]\nurl = \"{}\"",
        redis.url()
    );
    let first = Gateway::start(&config(&upstream, &store));
    let shared = first.path("config/users.toml");
    let shared = format!("file = {:?}\n{store}", shared.to_str().unwrap());
    let second = Gateway::start(&config(&upstream, &shared));
    let (own, own_refresh) = tokens(first.address, "alice", PASSWORD);
    let (_, other_refresh) = tokens(second.address, "alice", PASSWORD);
    assert_eq!(send_with(&first, "/password", &own, &change(PASSWORD, NEW)).status, 204);
    wait_until("the second has read the file", || login(second.address, "alice", NEW).status == 200);
    thread::sleep(POLLED);
    assert_eq!(app(&first, &own), 200);
    assert_eq!(post(first.address, "/refresh", &own_refresh).status, 200);
    assert_eq!(post(second.address, "/refresh", &other_refresh).status, 401);
}
