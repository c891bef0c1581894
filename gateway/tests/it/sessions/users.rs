//! Sessions of changed users, and listing and revoking sessions.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{app, config};
use crate::fixture::{
    Gateway, PASSWORD, RedisServer, Reply, Upstream, claims, get, login, post, request, tokens, wait_until,
};
use crate::streams::{MachineDelay, Manual, STREAM_END, open_streams};

fn command(gateway: &Gateway, line: &str, input: &str) -> (i32, String, String) {
    let words: Vec<&str> = line.split(' ').collect();
    gateway.run_command(&words, input)
}

fn done(gateway: &Gateway, line: &str, input: &str) -> String {
    let (code, output, notes) = command(gateway, line, input);
    assert_eq!(code, 0, "{line}: {notes}");
    output + &notes
}

/// How long an access token goes on, which is to end.
fn time_to_end(gateway: &Gateway, access: &str) -> Duration {
    let begin = Instant::now();
    wait_until("the session ends", || app(gateway, access).status == 401);
    assert_eq!(app(gateway, access).code(), "token_revoked");
    begin.elapsed()
}

#[test]
fn sessions_end_when_their_users_change_and_those_of_others_go_on() {
    let upstream = Upstream::start();
    // Requests until a change takes effect fail.
    let gateway = Gateway::start(&config(&upstream, "[lockout]\nmax_failures = 1000"));
    let (other, _) = tokens(gateway.address, "bob", PASSWORD);
    for change in ["disable", "disable and enable", "passwd", "delete"] {
        let password = if change == "delete" { "another password" } else { PASSWORD };
        let (access, refresh) = tokens(gateway.address, "alice", password);
        assert_eq!(app(&gateway, &access).status, 200);
        match change {
            "passwd" => drop(done(&gateway, "users passwd alice", "another password\n")),
            "delete" => {
                let path = gateway.path("config/users.toml");
                let text = fs::read_to_string(&path).unwrap();
                let rest = text.replacen("\"alice\"", "\"alicia\"", 1).replacen("\"1\"", "\"9\"", 1);
                assert_ne!(rest, text);
                fs::write(&path, rest).unwrap();
            }
            _ => drop(done(&gateway, "users disable alice", "")),
        }
        if change == "disable and enable" {
            done(&gateway, "users enable alice", "");
        }
        let after = time_to_end(&gateway, &access);
        println!("{change}: the session ended {after:?} later");
        assert!(after < Duration::from_secs(20), "{change}: {after:?}");
        assert_eq!(post(gateway.address, "/refresh", &refresh).status, 401, "{change}");
        if change == "disable" {
            done(&gateway, "users enable alice", "");
            wait_until("she may log in again", || login(gateway.address, "alice", PASSWORD).status == 200);
        }
    }
    assert_eq!(app(&gateway, &other).status, 200);
}

/// The users file of the one instance is changed; the streams are open on the other.
#[test]
fn streams_on_another_instance_end_when_their_user_changes() {
    let (redis, upstream) = (RedisServer::start(), Manual::start());
    let secret = "[tokens]\nissuer = \"https://login.test\"\nalgorithm = \"HS256\"\nsecret = \"quite long, quite secret, 7f3a9c15e0\"\n";
    let store = format!(
        "{secret}[lockout]\nmax_failures = 1000\n[store]\nkind = \"redis\"\n[store.redis]\nurl = \"{}\"\n",
        redis.url()
    );
    let [first, second] = [(); 2].map(|()| upstream.gateway_with(&store, ""));
    let (bobs, _) = tokens(second.address, "bob", PASSWORD);
    let others = open_streams(&second, &upstream, &bobs);
    for change in ["disable", "disable and enable", "passwd", "delete"] {
        let (access, _) = tokens(second.address, "alice", PASSWORD);
        let streams = open_streams(&second, &upstream, &access);
        let delay = MachineDelay::measure();
        match change {
            "passwd" => drop(done(&first, "users passwd alice", "another password\n")),
            "delete" => drop(done(&first, "users remove alice", "")),
            _ => drop(done(&first, "users disable alice", "")),
        }
        if change == "disable and enable" {
            done(&first, "users enable alice", "");
        }
        let mut ended = None;
        wait_until("the first instance has noticed", || {
            ended = Some(Instant::now());
            sessions(&first, &access).status == 401
        });
        for (name, stream) in streams {
            let after = stream.join().unwrap().saturating_duration_since(ended.unwrap());
            println!("{change}: the {name} on the other instance ended {after:?} after it");
            assert!(after < STREAM_END + delay.allowance(), "{change}, {name}: {after:?}");
        }
        let refused = sessions(&first, &access);
        assert_eq!(refused.code(), "token_revoked", "{change}: {}", refused.text());
        if change == "disable" {
            done(&first, "users enable alice", "");
            // Else it sees the next change and this one as one, of a user without sessions.
            wait_until("the first instance has noticed", || {
                login(first.address, "alice", PASSWORD).status == 200
            });
        }
    }
    assert!(others.iter().all(|(_, stream)| !stream.is_finished()), "streams of other users go on");
}

#[test]
fn a_change_while_the_gateway_was_down_counts_when_it_starts() {
    let upstream = Upstream::start();
    let mut gateway = Gateway::start(&config(&upstream, ""));
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    gateway.kill();
    done(&gateway, "users disable alice", "");
    gateway.run();
    time_to_end(&gateway, &access);
}

fn sessions(gateway: &Gateway, access: &str) -> Reply {
    get(gateway.address, "/sessions", &[("Authorization", &format!("Bearer {access}"))]).unwrap()
}

fn end_session(gateway: &Gateway, access: &str, sid: &str) -> Reply {
    let fields = [("Authorization", format!("Bearer {access}"))];
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    request(gateway.address, "DELETE", &format!("/sessions/{sid}"), &fields, b"").unwrap()
}

#[test]
fn users_list_and_revoke_only_their_own_sessions() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, ""));
    let (mine, _) = tokens(gateway.address, "alice", PASSWORD);
    let body = format!("{{\"username\":\"alice\",\"password\":\"{PASSWORD}\"}}");
    let fields = [("Content-Type", "application/json"), ("User-Agent", "a browser/1.0")];
    let reply = request(gateway.address, "POST", "/login", &fields, body.as_bytes()).unwrap();
    let other = reply.json()["access_token"].as_str().unwrap().to_owned();
    let (bobs, _) = tokens(gateway.address, "bob", PASSWORD);
    let listed = sessions(&gateway, &mine);
    assert_eq!((listed.status, listed.field("cache-control")), (200, Some("no-store")));
    let listed = listed.json();
    let list = listed["sessions"].as_array().unwrap();
    assert_eq!(list.len(), 2, "{listed}");
    let sid = |token: &str| claims(token)["sid"].as_str().unwrap().to_owned();
    let of = |token: &str| list.iter().find(|entry| entry["sid"] == Value::String(sid(token))).unwrap();
    assert_eq!((&of(&mine)["current"], &of(&other)["current"]), (&Value::Bool(true), &Value::Bool(false)));
    assert_eq!(
        (&of(&other)["client"], &of(&other)["address"]),
        (&"a browser/1.0".into(), &"127.0.0.1".into())
    );
    assert_eq!(end_session(&gateway, &mine, &sid(&bobs)).status, 404);
    assert_eq!(app(&gateway, &bobs).status, 200);
    assert_eq!(end_session(&gateway, &mine, &sid(&other)).status, 204);
    assert_eq!(app(&gateway, &other).status, 401);
    assert_eq!(end_session(&gateway, &mine, &sid(&other)).status, 404);
    let path = format!("/sessions/{}", sid(&mine));
    assert_eq!(request(gateway.address, "DELETE", &path, &[], b"").unwrap().status, 401);
    assert_eq!(sessions(&gateway, &other).status, 401);
    assert_eq!(post(gateway.address, "/sessions", &mine).status, 405);
    assert_eq!(app(&gateway, &mine).status, 200);
}

#[test]
fn operators_list_and_end_sessions_of_running_gateways() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let redis = format!("[store]\nkind = \"redis\"\n[store.redis]\nurl = \"{}\"", redis.url());
    for store in ["", redis.as_str()] {
        let gateway = Gateway::start(&config(&upstream, store));
        let (first, _) = tokens(gateway.address, "alice", PASSWORD);
        let (second, _) = tokens(gateway.address, "alice", PASSWORD);
        let (bobs, _) = tokens(gateway.address, "bob", PASSWORD);
        let sid = |token: &str| claims(token)["sid"].as_str().unwrap().to_owned();
        let all = done(&gateway, "sessions list", "");
        assert_eq!(all.lines().filter(|line| line.contains("127.0.0.1")).count(), 3, "{all}");
        let bobs_list = done(&gateway, "sessions list bob", "");
        assert!(bobs_list.contains(&sid(&bobs)) && !bobs_list.contains(&sid(&first)), "{bobs_list}");
        done(&gateway, &format!("sessions revoke {}", sid(&first)), "");
        time_to_end(&gateway, &first);
        assert_eq!(app(&gateway, &second).status, 200);
        assert_eq!(command(&gateway, &format!("sessions revoke {}", sid(&first)), "").0, 1, "it is over");
        assert_eq!(command(&gateway, "sessions revoke x", "").0, 1);
        let said = done(&gateway, "users logout alice", "");
        assert!(said.contains("sessions ended: 1"), "{said}");
        time_to_end(&gateway, &second);
        assert_eq!(app(&gateway, &bobs).status, 200);
    }
}

#[test]
fn one_session_too_many_ends_the_oldest_or_is_refused() {
    let upstream = Upstream::start();
    let limited = |more: &str| config(&upstream, &format!("[sessions]\nmax_per_user = 2\n{more}"));
    let gateway = Gateway::start(&limited(""));
    let opened: Vec<String> = (0..3).map(|_| tokens(gateway.address, "alice", PASSWORD).0).collect();
    assert_eq!([0, 1, 2].map(|place| app(&gateway, &opened[place]).status), [401, 200, 200]);
    let gateway = Gateway::start(&limited("when_full = \"refuse\""));
    let opened: Vec<String> = (0..2).map(|_| tokens(gateway.address, "alice", PASSWORD).0).collect();
    let refused = login(gateway.address, "alice", PASSWORD);
    assert_eq!((refused.status, refused.code().as_str()), (403, "too_many_sessions"));
    assert!(gateway.metrics().contains("auth_gateway_logins_total{outcome=\"too_many_sessions\"} 1"));
    assert_eq!(login(gateway.address, "bob", PASSWORD).status, 200);
    assert_eq!(post(gateway.address, "/logout", &opened[0]).status, 204);
    assert_eq!(login(gateway.address, "alice", PASSWORD).status, 200);
}
