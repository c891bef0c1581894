//! Model-based test of the rotation rule: random tabs, lost responses and thieves.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use crate::clock::millis;
use crate::config::Rotation;
use crate::sessions::session::{ACTIVITY_RESOLUTION, RefreshDecision};
use crate::sessions::*;

const GRACE: u64 = 10;
const IDLE: u64 = 3_000;

/// Number of random histories: `PROPTEST_CASES`, or this default.
pub(super) fn cases(usual: u32) -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(usual)
}

/// A session of alice; times are milliseconds.
fn open(first: TokenId, opened_at: u64, expires_at: u64) -> Session {
    let [opened_at, expires_at] = [opened_at, expires_at].map(UnixMillis::new);
    Session::open("1".into(), "alice".into(), [0; 16], first, opened_at, expires_at)
}

/// Durations are milliseconds.
fn policy(mode: Rotation, grace: u64, idle_ttl: Option<u64>) -> RotationPolicy {
    RotationPolicy {
        mode,
        grace: Duration::from_millis(grace),
        idle_ttl: idle_ttl.map(Duration::from_millis),
    }
}

/// A presentation: which of the tokens issued so far (counted from the newest), and the time since the
/// previous one.
#[derive(Debug, Clone, Copy)]
struct Step {
    back: usize,
    wait: u64,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let wait =
        prop_oneof![8 => Just(0), 8 => 1..5_u64, 8 => 8..12_u64, 8 => 20..40_u64, 1 => 2_900..4_200_u64];
    let step = (0..4_usize, wait);
    proptest::collection::vec(step.prop_map(|(back, wait)| Step { back, wait }), 1..60)
}

/// All tokens issued, in order, with the time of their first presentation.
#[derive(Default)]
struct Model {
    line: Vec<TokenId>,
    first_presented: HashMap<usize, u64>,
    last_refreshed: u64,
    ended: bool,
}

impl Model {
    fn is_dead(&self, place: usize, mode: Rotation, now: u64) -> bool {
        let used = self.first_presented.get(&place).copied();
        let adopted = self.first_presented.iter().filter(|(place, _)| **place > 0).map(|(_, at)| *at).min();
        let killed_at = match mode {
            Rotation::OnUse => used.zip(adopted).map(|(used, adopted)| used.max(adopted)),
            Rotation::Strict => used,
            Rotation::Off => None,
        };
        killed_at.is_some_and(|at| now - at >= GRACE)
    }
}

fn play(mode: Rotation, idle_ttl: Option<u64>, steps: &[Step]) {
    let policy = policy(mode, GRACE, idle_ttl);
    let first = TokenId::random();
    let mut session = open(first, 0, 1_000_000);
    let mut model = Model { line: vec![first], ..Model::default() };
    let mut now = 0;
    for step in steps {
        now += step.wait;
        let place = model.line.len() - 1 - step.back.min(model.line.len() - 1);
        let fresh = TokenId::random();
        // A record survives serialisation unchanged.
        session = serde_json::from_slice(&serde_json::to_vec(&session).unwrap()).unwrap();
        let decision = session.redeem(model.line[place], fresh, policy, UnixMillis::new(now));
        if model.ended {
            assert_eq!(decision, RefreshDecision::Revoked, "the end is final");
            continue;
        }
        // Never early, and late by at most the resolution.
        let idle = now - model.last_refreshed;
        let in_time = idle_ttl.is_none_or(|ttl| idle < ttl);
        let surely_late = idle_ttl.is_some_and(|ttl| idle >= ttl + millis(ACTIVITY_RESOLUTION));
        if decision == RefreshDecision::Idle || surely_late {
            assert!(decision == RefreshDecision::Idle && !in_time, "{decision:?} after {idle} ms");
            model.ended = true;
            continue;
        }
        if model.is_dead(place, mode, now) {
            assert_eq!(decision, RefreshDecision::Reused);
            model.ended = true;
            continue;
        }
        model.last_refreshed = now;
        model.first_presented.entry(place).or_insert(now);
        match decision {
            RefreshDecision::Kept => assert_eq!(mode, Rotation::Off),
            RefreshDecision::Rotated { successor, repeated, .. } => {
                assert_ne!(mode, Rotation::Off);
                assert_eq!(repeated, place + 1 < model.line.len());
                if !repeated {
                    model.line.push(fresh);
                }
                assert_eq!(successor, model.line[place + 1], "one successor, and always the same");
            }
            other => panic!("a living token was answered with {other:?}"),
        }
        let bytes = serde_json::to_vec(&session).unwrap().len();
        assert!(bytes < 4096, "the record has grown to {bytes} bytes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(400), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_rule_agrees_with_the_model_in_every_mode(steps in steps()) {
        for mode in [Rotation::OnUse, Rotation::Strict, Rotation::Off] {
            play(mode, None, &steps);
            play(mode, Some(IDLE), &steps);
        }
    }
}

#[test]
fn tabs_that_race_within_the_grace_are_never_logged_out() {
    for mode in [Rotation::OnUse, Rotation::Strict] {
        let policy = policy(mode, GRACE, None);
        let mut current = TokenId::random();
        let mut session = open(current, 0, 1_000_000);
        for round in 0..50 {
            let now = round * 100;
            let decisions = (0..5)
                .map(|tab| session.redeem(current, TokenId::random(), policy, UnixMillis::new(now + tab)));
            let successors: Vec<_> = decisions
                .map(|decision| match decision {
                    RefreshDecision::Rotated { successor, .. } => successor,
                    other => panic!("a tab got {other:?}"),
                })
                .collect();
            assert!(successors.iter().all(|s| *s == successors[0]));
            current = successors[0];
        }
    }
}

#[test]
fn a_client_that_keeps_its_first_token_goes_on_working_by_default() {
    let policy = policy(Rotation::OnUse, GRACE, None);
    let first = TokenId::random();
    let mut session = open(first, 0, 1_000);
    for now in (0..1_000).step_by(50) {
        assert!(
            matches!(
                session.redeem(first, TokenId::random(), policy, UnixMillis::new(now)),
                RefreshDecision::Rotated { .. }
            ),
            "{now}"
        );
    }
    assert_eq!(
        session.redeem(first, TokenId::random(), policy, UnixMillis::new(1_000)),
        RefreshDecision::Expired
    );
}

#[test]
fn an_idle_session_ends_and_one_that_is_refreshed_does_not() {
    for mode in [Rotation::OnUse, Rotation::Strict, Rotation::Off] {
        let policy = policy(mode, GRACE, Some(IDLE));
        let first = TokenId::random();
        let mut token = first;
        let mut session = open(first, 0, 1_000_000);
        for round in 1..=20 {
            match session.redeem(token, TokenId::random(), policy, UnixMillis::new(round * (IDLE - 1))) {
                RefreshDecision::Rotated { successor, .. } => token = successor,
                RefreshDecision::Kept => {}
                other => panic!("{other:?} in round {round}"),
            }
        }
        let late = 20 * (IDLE - 1) + IDLE + millis(ACTIVITY_RESOLUTION);
        assert_eq!(
            session.redeem(token, TokenId::random(), policy, UnixMillis::new(late)),
            RefreshDecision::Idle
        );
        let forgiving = RotationPolicy { idle_ttl: None, ..policy };
        assert_eq!(
            session.redeem(token, TokenId::random(), forgiving, UnixMillis::new(late + 1)),
            RefreshDecision::Revoked,
            "for good"
        );
    }
}

#[test]
fn a_client_that_keeps_its_first_token_stays_active_and_costs_one_change_a_second() {
    let policy = policy(Rotation::OnUse, GRACE, Some(IDLE));
    let first = TokenId::random();
    let mut session = open(first, 0, 1_000_000);
    let mut changes = 0;
    for now in (0..20_000).step_by(10) {
        let before = session.clone();
        let decision = session.redeem(first, TokenId::random(), policy, UnixMillis::new(now));
        assert!(matches!(decision, RefreshDecision::Rotated { .. }), "{decision:?} at {now}");
        changes += usize::from(session != before);
    }
    assert!((19..=21).contains(&changes), "{changes}");
}

/// Thief and owner refresh in turn with the token that each got last, or the thief with the one that the
/// owner stores.
#[test]
fn a_thief_and_an_owner_who_refresh_in_turn_are_noticed_and_one_who_keeps_the_first_token_is_not_ended() {
    for (mode, grace) in [Rotation::OnUse, Rotation::Strict].into_iter().flat_map(|m| [(m, 0), (m, GRACE)]) {
        let policy = policy(mode, grace, None);
        let first = TokenId::random();
        let mut session = open(first, 0, 1_000_000);
        let mut redeem =
            |token, now| match session.redeem(token, TokenId::random(), policy, UnixMillis::new(now)) {
                RefreshDecision::Rotated { successor, .. } => Ok(successor),
                other => Err(other),
            };
        let stolen = redeem(first, 1_000).unwrap();
        let (mut owner, mut thief) = (stolen, stolen);
        let noticed = (2..12).find(|round| {
            let now = round * 1_000;
            let mut turn = |token: &mut TokenId, now| redeem(*token, now).map(|next| *token = next);
            turn(&mut thief, now).and_then(|()| turn(&mut owner, now + 500)).is_err()
        });
        assert_eq!(noticed, Some(2), "{mode:?} with {grace} ms of grace");
        assert_eq!(redeem(thief, 20_000), Err(RefreshDecision::Revoked));
    }
}

#[test]
fn times_of_a_clock_that_was_ahead_neither_keep_old_tokens_alive_nor_make_the_session_longer() {
    const DAY: u64 = 86_400_000;
    let policy = policy(Rotation::Strict, GRACE, None);
    let first = TokenId::random();
    let mut session = open(first, DAY, DAY + 100_000);
    let rotate = |session: &mut Session, token, now| {
        session.redeem(token, TokenId::random(), policy, UnixMillis::new(now))
    };
    assert!(matches!(rotate(&mut session, first, DAY), RefreshDecision::Rotated { .. }));
    assert!(
        matches!(rotate(&mut session, first, 1_000), RefreshDecision::Rotated { .. }),
        "the grace begins anew"
    );
    assert_eq!(session.expires_at, UnixMillis::new(101_000));
    assert_eq!(rotate(&mut session, first, 1_000 + GRACE), RefreshDecision::Reused);
}

#[test]
fn a_record_of_an_earlier_version_is_read() {
    let session = open(TokenId::random(), 5, 1_000_000);
    let mut record = serde_json::to_value(&session).unwrap();
    for member in ["active_at", "client"] {
        record.as_object_mut().unwrap().remove(member).unwrap();
    }
    let read: Session = serde_json::from_value(record).unwrap();
    assert_eq!(read.opened_at, UnixMillis::new(5));
}
