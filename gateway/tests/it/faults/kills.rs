//! F-24 and F-36: repeated `kill -9` under load. Acknowledged changes survive the restart.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::history::{Allowed, History};
use super::load::{Client, Load, Refreshed, Tab, config};
use super::rounds;
use crate::fixture::{Gateway, Upstream, wait_until};

const TABS: usize = 4;
/// The default of `lockout.max_failures`.
const GUESSES: usize = 5;

/// Rounds of load, kill, start and a look at what is left.
fn kill_again_and_again(rotation: &str, rounds: usize) {
    let upstream = Upstream::start();
    let mut gateway = Gateway::start(&config(&upstream, &format!("rotation = \"{rotation}\"")));
    let history = Arc::new(History::default());
    let client = Client { address: gateway.address, history: Arc::clone(&history) };
    let mut tabs: Vec<Tab> = (0..TABS).map(|_| client.log_in().unwrap()).collect();
    let mut ended: Vec<Tab> = Vec::new();
    let (mut starts, mut lost) = (Vec::new(), 0);
    for round in 0..rounds {
        let enough = history.answers() + 3 + round * 7 % 29;
        let load = Load::start(&gateway, &history, tabs, &format!("name{}", round / 5), Duration::ZERO);
        wait_until("there are answers", || history.answers() >= enough);
        gateway.kill();
        let left = load.stop();
        let started = Instant::now();
        gateway.run();
        starts.push(started.elapsed());

        // What was opened is there, and what was ended is over.
        for mut tab in left.fresh {
            assert_eq!(client.refresh(&mut tab), Refreshed::Yes, "round {round}: an answered login is lost");
        }
        ended.extend(left.ended);
        for tab in ended.iter().rev().take(3) {
            assert_over(&client, tab, round);
        }
        tabs = left.tabs;
        for (place, tab) in tabs.iter_mut().enumerate() {
            let unanswered = tab.unanswered;
            match client.refresh(tab) {
                Refreshed::Yes => {}
                // The successor was chosen and its response lost: without a grace period that is
                // indistinguishable from reuse.
                Refreshed::No if unanswered => lost += 1,
                other => panic!("round {round}: the newest token: {other:?}"),
            }
            // Sometimes a thief comes with a token that is dead for sure.
            if round % 5 == place && tab.line.len() > 2 {
                let reused = client.present(tab, &tab.line[0]).unwrap();
                assert_eq!(reused.status, 401, "round {round}: reuse was forgiven");
            }
            if client.proxied(tab).unwrap().status == 401 {
                assert_over(&client, tab, round);
                ended.push(std::mem::replace(tab, client.log_in().unwrap()));
            }
        }
    }
    for tab in &ended {
        assert_over(&client, tab, rounds);
    }
    history.check(Allowed { no_answer: true, outage: false, guesses: GUESSES });
    starts.sort();
    println!(
        "{rotation}: {rounds} kills survived, {} answers, {} ended sessions stayed so, {lost} lost answers ended a \
         session; ready again within {:?}, half the time {:?}",
        history.answers(),
        ended.len(),
        starts[starts.len() - 1],
        starts[starts.len() / 2],
    );
    assert!(starts[starts.len() / 2] < Duration::from_secs(5), "{starts:?}");
}

fn assert_over(client: &Client, tab: &Tab, round: usize) {
    assert_eq!(client.proxied(tab).unwrap().status, 401, "round {round}: an ended session's access token");
    let newest = &tab.line[tab.line.len() - 1];
    assert_eq!(client.present(tab, newest).unwrap().status, 401, "round {round}: an ended session's token");
}

#[test]
fn what_was_answered_survives_every_kill() {
    kill_again_and_again("on-use", rounds(40, 500));
}

#[test]
fn what_was_answered_survives_every_kill_in_strict_mode() {
    kill_again_and_again("strict", rounds(20, 300));
}
