//! Model of tabs that share one token storage against the rotation rule: however they race, lose responses
//! and lag behind, none of them is logged out.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::rotation_model::cases;
use crate::config::Rotation;
use crate::sessions::session::{MAX_LIVE_TOKENS, RefreshDecision};
use crate::sessions::*;

/// Longer than a request whose response is lost, its retry, and the request of a tab that began meanwhile.
const GRACE: u64 = 200;

/// A tab refreshes with the token that the storage has at that moment.
#[derive(Debug, Clone, Copy)]
struct Refresh {
    /// Time since the previous tab began.
    after: u64,
    /// Latency of the request.
    there: u64,
    /// Latency of the response.
    back: u64,
    lost: bool,
}

fn refreshes() -> impl Strategy<Value = Vec<Refresh>> {
    let pause = prop_oneof![4 => 0..8_u64, 2 => 20..60_u64, 1 => 200..5_000_u64];
    let refresh = (pause, 0..50_u64, 0..50_u64, proptest::bool::weighted(0.3));
    let refresh = refresh.prop_map(|(after, there, back, lost)| Refresh { after, there, back, lost });
    proptest::collection::vec(refresh, 1..80)
}

enum Event {
    /// Whether it is a retry after a lost response.
    Begin(usize, bool),
    Arrive(usize, TokenId, bool),
    /// The token, and its index in the family: a tab stores nothing older than what is stored.
    Store(TokenId, usize),
}

/// Longer than the longest pause, with a request on its way.
const IDLE: u64 = 5_000 + GRACE;

fn play(mode: Rotation, refreshes: &[Refresh]) {
    let policy = RotationPolicy {
        mode,
        grace: Duration::from_millis(GRACE),
        idle_ttl: Some(Duration::from_millis(IDLE)),
    };
    let first = TokenId::random();
    let mut session =
        Session::open("1".into(), "alice".into(), [0; 16], first, UnixMillis::new(0), UnixMillis::MAX);
    let mut line = vec![first];
    let mut stored = (first, 0);
    let mut agenda = BTreeMap::new();
    let mut begin = 0;
    for (tab, refresh) in refreshes.iter().enumerate() {
        begin += refresh.after;
        agenda.insert((begin, tab, 0), Event::Begin(tab, false));
    }
    while let Some(((now, tab, step), event)) = agenda.pop_first() {
        match event {
            Event::Begin(tab, again) => {
                agenda
                    .insert((now + refreshes[tab].there, tab, step + 1), Event::Arrive(tab, stored.0, again));
            }
            Event::Arrive(tab_, token, again) => {
                match session.redeem(token, TokenId::random(), policy, UnixMillis::new(now)) {
                    RefreshDecision::Rotated { successor, .. } => {
                        if !line.contains(&successor) {
                            line.push(successor);
                        }
                        let place = line.iter().position(|&id| id == successor).unwrap();
                        let next = match refreshes[tab_].lost && !again {
                            true => Event::Begin(tab, true),
                            false => Event::Store(successor, place),
                        };
                        agenda.insert((now + refreshes[tab_].back, tab, step + 1), next);
                    }
                    other => panic!("an honest tab got {other:?} at {now}"),
                }
            }
            Event::Store(token, place) => {
                if place > stored.1 {
                    stored = (token, place);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(400), failure_persistence: None, ..ProptestConfig::default() })]

    /// A lost response is retried within the grace period.
    #[test]
    fn honest_tabs_are_never_logged_out_by_racing_or_by_lost_responses(refreshes in refreshes()) {
        play(Rotation::OnUse, &refreshes);
        play(Rotation::Strict, &refreshes);
    }
}

#[test]
fn a_client_that_refreshes_without_a_pause_keeps_its_session_and_a_small_record() {
    for mode in [Rotation::OnUse, Rotation::Strict] {
        let policy = RotationPolicy { mode, grace: Duration::from_millis(GRACE), idle_ttl: None };
        let first = TokenId::random();
        let mut newest = first;
        let mut session =
            Session::open("1".into(), "alice".into(), [0; 16], newest, UnixMillis::new(0), UnixMillis::MAX);
        let mut different = 1;
        for tick in 0..4_000 {
            let now = 1_790_000_000_000 + tick / 4;
            match session.redeem(newest, TokenId::random(), policy, UnixMillis::new(now)) {
                RefreshDecision::Rotated { successor, .. } => {
                    different += usize::from(successor != newest);
                    newest = successor;
                }
                other => panic!("{other:?} at {tick}"),
            }
            assert!(serde_json::to_vec(&session).unwrap().len() < 200 + MAX_LIVE_TOKENS * 100);
        }
        assert!(different > 4 * MAX_LIVE_TOKENS, "rotation goes on: {different}");
        assert_eq!(
            session.redeem(first, TokenId::random(), policy, UnixMillis::new(1_790_000_001_000)),
            RefreshDecision::Reused
        );
    }
}

#[test]
fn clock_skew_gives_no_client_a_dead_successor() {
    let policy =
        RotationPolicy { mode: Rotation::OnUse, grace: Duration::from_millis(GRACE), idle_ttl: None };
    let first = TokenId::random();
    let mut session =
        Session::open("1".into(), "alice".into(), [0; 16], first, UnixMillis::new(0), UnixMillis::MAX);
    let mut refresh = |token, now| match session.redeem(token, TokenId::random(), policy, now) {
        RefreshDecision::Rotated { successor, .. } => successor,
        other => panic!("{other:?} at {now:?}"),
    };
    let second = refresh(first, UnixMillis::new(1_000));
    let third = refresh(second, UnixMillis::new(1_050));
    // Another instance, whose clock is behind: the second token seems to have expired before the first.
    refresh(third, UnixMillis::new(1_000));
    assert_eq!(refresh(first, UnixMillis::new(1_140)), second);
    assert_eq!(refresh(second, UnixMillis::new(1_140)), third);
}
