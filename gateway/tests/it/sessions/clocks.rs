//! Clock jumps, clock skew, and the ends of sessions.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use super::{app, config, is_long};
use crate::fixture::{
    Gateway, PASSWORD, RedisServer, Upstream, claims, login, post, tokens, users_file, wait_until,
};

/// Debian's libfaketime, which `.ci/prepare` installs.
fn libfaketime() -> String {
    let places = fs::read_dir("/usr/lib").unwrap().flatten().map(|dir| dir.path());
    let found = places.map(|dir| dir.join("faketime/libfaketime.so.1")).find(|path| path.exists());
    found.expect("libfaketime is needed: apt-get install faketime").display().to_string()
}

/// A gateway whose wall clock says what the file says.
fn with_clock(config: &str, users: &str, clock: &Path) -> Gateway {
    let environment = [
        ("LD_PRELOAD", libfaketime()),
        ("FAKETIME_TIMESTAMP_FILE", clock.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ];
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Gateway::start_in(config, users, &environment)
}

fn alice() -> String {
    users_file(&[("1", "alice", PASSWORD, &["user"])])
}

#[test]
fn a_wall_clock_that_jumps_revives_no_token_ends_no_session_and_prolongs_no_lock() {
    let upstream = Upstream::start();
    let dir = tempfile::tempdir().unwrap();
    let clock = dir.path().join("clock");
    let set = |text: &str| fs::write(&clock, text).unwrap();
    set("+0");
    let more = "[tokens]\naccess_ttl = \"1m\"\n[lockout]\nduration = \"3s\"";
    let gateway = with_clock(&config(&upstream, more), &alice(), &clock);
    let (kept, refresh) = tokens(gateway.address, "alice", PASSWORD);
    let (ended, _) = tokens(gateway.address, "alice", PASSWORD);
    assert_eq!(post(gateway.address, "/logout", &ended).status, 204);
    // Longer than between two sweeps.
    let pause = Duration::from_secs(if is_long() { 12 } else { 1 });
    let mut refresh = refresh;
    for jump in ["+1d", "+0", "-1d", "+0"] {
        set(jump);
        sleep(pause);
        assert_eq!(app(&gateway, &ended).status, 401, "{jump}: what was logged out stays so");
        assert_eq!(app(&gateway, &kept).status, 200, "{jump}");
        let reply = post(gateway.address, "/refresh", &refresh);
        assert_eq!(reply.status, 200, "{jump}: {reply:?}");
        refresh = reply.json()["refresh_token"].as_str().unwrap().to_owned();
    }
    assert!(gateway.log().contains("the system clock was set") || !is_long(), "{}", gateway.log());
    for _ in 0..5 {
        assert_eq!(login(gateway.address, "alice", "a wrong password").status, 401);
    }
    assert_eq!(login(gateway.address, "alice", PASSWORD).status, 403);
    set("-1d");
    wait_until("the lock of three seconds ends", || login(gateway.address, "alice", PASSWORD).status == 200);
}

#[test]
fn a_lock_from_a_clock_that_was_ahead_lasts_no_longer_than_locks_do() {
    let upstream = Upstream::start();
    let dir = tempfile::tempdir().unwrap();
    let clock = dir.path().join("clock");
    fs::write(&clock, "+1d").unwrap();
    let mut gateway = with_clock(&config(&upstream, "[lockout]\nduration = \"3s\""), &alice(), &clock);
    for _ in 0..5 {
        assert_eq!(login(gateway.address, "alice", "a wrong password").status, 401);
    }
    gateway.kill();
    fs::write(&clock, "+0").unwrap();
    gateway.run();
    assert_eq!(login(gateway.address, "alice", PASSWORD).status, 403);
    // Not after a day, by which the clock was ahead.
    wait_until("the lock ends", || login(gateway.address, "alice", PASSWORD).status == 200);
}

/// The gateway goes on by the time of its start, a command has the time of now.
#[test]
fn keys_that_a_command_rotates_after_the_wall_clock_was_set_log_nobody_out() {
    let (upstream, dir) = (Upstream::start(), tempfile::tempdir().unwrap());
    for at_start in ["+1h", "-1h"] {
        let clock = dir.path().join("clock");
        fs::write(&clock, at_start).unwrap();
        let gateway = with_clock(&config(&upstream, ""), &alice(), &clock);
        let (access, refresh) = tokens(gateway.address, "alice", PASSWORD);
        let (code, next, complaint) = gateway.run_command(&["keys", "rotate"], "");
        assert_eq!(code, 0, "{complaint}");
        wait_until("the log says so", || gateway.log().contains("their times were corrected"));
        wait_until("the new key is known", || gateway.metrics().contains(next.trim()));
        sleep(Duration::from_secs(1));
        assert_eq!(app(&gateway, &access).status, 200, "{at_start}: {}", gateway.log());
        let reply = post(gateway.address, "/refresh", &refresh);
        assert_eq!(reply.status, 200, "{at_start}: {reply:?}");
    }
}

#[test]
fn a_fresh_token_is_good_at_an_instance_whose_clock_is_up_to_two_seconds_behind() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let dir = tempfile::tempdir().unwrap();
    let more = format!(
        "[tokens]\nissuer = \"https://login.test\"\nalgorithm = \"HS256\"\n\
         secret = \"Wm8qT1xJz0vKc4RyN7uPb2eLh6sDf9gA\"\n[store]\nkind = \"redis\"\n[store.redis]\nurl = \"{}\"",
        redis.url()
    );
    let config = config(&upstream, &more);
    let users = alice();
    let ahead = Gateway::start_with(&config, &users, &[]);
    let offsets: &[&str] = if is_long() { &["-0.05", "-0.3", "-1", "-1.5", "-2"] } else { &["-0.3", "-1.9"] };
    for offset in offsets {
        let clock = dir.path().join("clock");
        fs::write(&clock, offset).unwrap();
        let behind = with_clock(&config, &users, &clock);
        let (_, mut refresh) = tokens(ahead.address, "alice", PASSWORD);
        let rounds = if is_long() { 60 } else { 10 };
        for _ in 0..rounds {
            let reply = post(ahead.address, "/refresh", &refresh);
            refresh = reply.json()["refresh_token"].as_str().unwrap().to_owned();
            let access = reply.json()["access_token"].as_str().unwrap().to_owned();
            assert_eq!(app(&behind, &access).status, 200, "{offset} s");
            sleep(Duration::from_millis(30));
        }
        println!("{rounds} of {rounds} fresh tokens are good at an instance {offset} s from the first");
    }
}

#[test]
fn neither_a_token_nor_what_the_answer_says_of_it_outlives_the_session() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(
        &upstream,
        "[tokens]\naccess_ttl = \"9s\"\nrefresh_ttl = \"12s\"\nreuse_grace = \"1s\"",
    ));
    let first = login(gateway.address, "alice", PASSWORD).json();
    let (refresh, access) =
        (first["refresh_token"].as_str().unwrap(), first["access_token"].as_str().unwrap());
    let end = claims(refresh)["exp"].as_u64().unwrap();
    assert_eq!(claims(access)["session_exp"].as_u64(), Some(end));
    sleep(Duration::from_secs(4));
    let reply = post(gateway.address, "/refresh", refresh).json();
    let access = reply["access_token"].as_str().unwrap();
    let payload = claims(access);
    assert_eq!(payload["exp"].as_u64(), Some(end), "capped by the session's end");
    assert_eq!(reply["expires_in"].as_u64(), Some(end - payload["iat"].as_u64().unwrap()));
    assert_eq!(app(&gateway, access).status, 200);
    wait_until("the session is over", || std::time::UNIX_EPOCH.elapsed().unwrap() > Duration::from_secs(end));
    assert_eq!(app(&gateway, access).status, 401);
}
