//! F-22 and similar: outages of the store under load. Logins, refreshes and logouts get 503, no user is
//! logged out, and requests with access tokens are not affected.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::history::{Allowed, History};
use super::load::{Client, Load, Refreshed, config};
use crate::fixture::{Gateway, Upstream, get, wait_until};

/// Runs the load during an outage of the store and after it, and returns the recovery time.
fn outage(break_it: impl Fn(&Gateway), mend_it: impl Fn(&Gateway)) -> Duration {
    let upstream = Upstream::start();
    let mut gateway = Gateway::start(&config(&upstream, ""));
    let history = Arc::new(History::default());
    let client = Client { address: gateway.address, history: Arc::clone(&history) };
    let tabs = (0..3).map(|_| client.log_in().unwrap()).collect();
    let load = Load::start(&gateway, &history, tabs, "nobody", Duration::from_millis(10));
    let some_more = |what: &str| {
        let enough = history.answers() + 50;
        wait_until(what, || history.answers() >= enough);
    };
    some_more("the store is up");
    assert_eq!(history.outages(), 0);

    break_it(&gateway);
    wait_until("the outage is reported", || history.outages() > 50);
    let ready = get(gateway.admin, "/readyz", &[]).unwrap();
    assert_eq!((ready.status, ready.json()["status"].as_str()), (200, Some("degraded")));
    assert_ne!(ready.json()["store"], "ok");
    assert!(gateway.metrics().contains("auth_gateway_store_up 0"));
    some_more("it lasts");

    mend_it(&gateway);
    let ended_at = Instant::now();
    let mut tab = None;
    wait_until("logins work again", || {
        tab = client.log_in();
        tab.is_some()
    });
    let recovered = ended_at.elapsed();
    some_more("the store is up again");
    let outages = history.outages();
    some_more("nothing fails any more");
    assert_eq!(history.outages(), outages);
    assert_eq!(get(gateway.admin, "/readyz", &[]).unwrap().json()["status"], "ready");

    let mut left = load.stop();
    gateway.kill();
    gateway.run();
    left.tabs.extend(tab);
    for tab in &mut left.tabs {
        // Without a grace period, a lost response is indistinguishable from reuse.
        let unanswered = tab.unanswered;
        match client.refresh(tab) {
            Refreshed::Yes => {}
            Refreshed::No if unanswered => {}
            other => panic!("what was answered around the outage is there: {other:?}"),
        }
    }
    for tab in &left.ended {
        assert_eq!(client.proxied(tab).unwrap().status, 401);
    }
    history.check(Allowed { no_answer: false, outage: true, guesses: 5 });
    println!("{} requests got 503; recovered {recovered:?} after its end", history.outages());
    recovered
}

/// The size that files of the gateway may have, in bytes.
fn limit_files(gateway: &Gateway, bytes: &str) {
    let (pid, limit) = (gateway.pid().to_string(), format!("--fsize={bytes}:"));
    assert!(Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap().success());
}

#[test]
fn a_full_disk_is_an_outage_that_ends_when_there_is_space() {
    let recovered =
        outage(|gateway| limit_files(gateway, "65536"), |gateway| limit_files(gateway, "unlimited"));
    assert!(recovered < Duration::from_secs(20), "{recovered:?}");
}

#[test]
fn a_state_file_that_is_moved_away_is_an_outage_until_it_is_back() {
    let state = |gateway: &Gateway| (gateway.path("var/state.redb"), gateway.path("var/away"));
    let recovered = outage(
        |gateway| fs::rename(state(gateway).0, state(gateway).1).unwrap(),
        |gateway| fs::rename(state(gateway).1, state(gateway).0).unwrap(),
    );
    assert!(recovered < Duration::from_secs(20), "{recovered:?}");
}

/// F-27
#[test]
fn a_second_gateway_on_the_same_state_file_is_refused_and_the_first_goes_on() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, ""));
    let history = Arc::new(History::default());
    let client = Client { address: gateway.address, history: Arc::clone(&history) };
    let mut tab = client.log_in().unwrap();
    let text = fs::read_to_string(gateway.path("gateway.toml")).unwrap();
    let other = format!("[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n{text}");
    fs::write(gateway.path("other.toml"), other).unwrap();
    let (code, _, said) = Gateway::command(gateway.dir.path(), &["--config", "other.toml"], "");
    assert_eq!(code, 1);
    assert_eq!(said.lines().filter(|line| line.contains("in use by another process")).count(), 1, "{said}");
    assert_eq!(client.refresh(&mut tab), Refreshed::Yes);
    history.check(Allowed { no_answer: false, outage: false, guesses: 0 });
}
