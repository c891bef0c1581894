//! What every store must do, run against the real thing.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::lockout::LockoutPolicy;
use super::store::{Key, Put, PutOutcome, Space, Store};
use super::*;
use crate::config::Rotation;

const POLICY: Policy = Policy {
    rotation: RotationPolicy { mode: Rotation::OnUse, grace: 10_000, idle_ttl: None },
    session_ttl: 600_000,
    access_ttl: 60_000,
    lockout: LockoutPolicy {
        max_failures: 5,
        window: 900_000,
        duration: 900_000,
        escalation: 1,
        max_duration: 900_000,
    },
    throttle: Some(ThrottlePolicy { max_failures: 20, window: 60_000 }),
};
const CREDENTIAL: [u8; 16] = [7; 16];
const ACTIVE: Account = Account::Active { credential: CREDENTIAL };

fn new_session(subject: &str) -> NewSession {
    NewSession { subject: subject.into(), username: "alice".into(), credential: CREDENTIAL }
}

fn key(id: &str) -> Key {
    Key { space: Space::Session, id: id.into() }
}

fn put(id: &str, expected: Option<super::store::Version>, value: &[u8], expires_at: UnixMillis) -> Put {
    Put { key: key(id), expected, value: value.to_vec(), expires_at, group: Some("group".into()) }
}

/// A store and, where it outlives its process, a way to open it again.
struct Bench {
    store: Arc<dyn Store>,
    reopen: Option<Box<dyn Fn() -> Arc<dyn Store>>>,
    _dir: Option<tempfile::TempDir>,
}

fn memory() -> Bench {
    Bench { store: Arc::new(MemoryStore::new()), reopen: None, _dir: None }
}

fn embedded() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let open = move || Arc::new(EmbeddedStore::open(&path).unwrap()) as Arc<dyn Store>;
    Bench { store: open(), reopen: Some(Box::new(open)), _dir: Some(dir) }
}

async fn a_swap_needs_the_state_that_was_read(bench: Bench) {
    let store = bench.store;
    assert_eq!(store.get(&key("a")).await.unwrap(), None);
    assert_eq!(store.put_if(put("a", None, b"1", 100)).await.unwrap(), PutOutcome::Stored);
    assert_eq!(store.put_if(put("a", None, b"2", 100)).await.unwrap(), PutOutcome::Conflict);
    let first = store.get(&key("a")).await.unwrap().unwrap();
    assert_eq!(first.value, b"1");
    assert_eq!(store.put_if(put("a", Some(first.version), b"3", 100)).await.unwrap(), PutOutcome::Stored);
    let resent = store.put_if(put("a", Some(first.version), b"3", 100)).await.unwrap();
    assert_eq!(resent, PutOutcome::Conflict, "a change that is sent twice is made once");
    assert_eq!(store.get(&key("a")).await.unwrap().unwrap().value, b"3");
}

async fn of_parallel_swaps_one_wins(bench: Bench) {
    let store = bench.store;
    let swaps = (0..32).map(|i: u8| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.put_if(put("a", None, &[i], 100)).await.unwrap() })
    });
    let swaps: Vec<_> = swaps.collect();
    let mut stored = 0;
    for swap in swaps {
        stored += usize::from(swap.await.unwrap() == PutOutcome::Stored);
    }
    assert_eq!(stored, 1);
}

async fn groups_and_scans_find_what_is_there_and_sweeps_forget_what_expired(bench: Bench) {
    let store = bench.store;
    for (id, expires_at) in [("a", 100), ("b", 200), ("c", 300)] {
        store.put_if(put(id, None, id.as_bytes(), expires_at)).await.unwrap();
    }
    let other = Put { group: Some("group2".into()), ..put("d", None, b"d", 300) };
    store.put_if(other).await.unwrap();
    let attempts =
        Put { key: Key { space: Space::Attempts, id: "x".into() }, group: None, ..put("", None, b"x", 300) };
    store.put_if(attempts).await.unwrap();
    assert_eq!(store.group("group").await.unwrap(), [key("a"), key("b"), key("c")]);
    assert_eq!(store.sweep(200).await.unwrap(), 2);
    assert_eq!(store.group("group").await.unwrap(), [key("c")]);
    let left: Vec<_> = store.scan(Space::Session).await.unwrap().into_iter().map(|(key, _)| key.id).collect();
    assert_eq!(left, ["c", "d"]);
    assert_eq!(store.get(&key("a")).await.unwrap(), None);
}

async fn racing_refreshes_of_one_token_get_one_successor(bench: Bench) {
    let sessions = Sessions::start(bench.store, POLICY, 0).await.unwrap();
    let opened = sessions.open(new_session("1"), 0).await.unwrap();
    let tabs = (0..16).map(|_| {
        let sessions = sessions.clone();
        tokio::spawn(async move {
            sessions
                .refresh(opened.session, opened.refresh_token, |_| ACTIVE, 1)
                .await
                .unwrap()
                .successor
                .unwrap()
                .id
        })
    });
    let tabs: Vec<_> = tabs.collect();
    let mut successors = Vec::new();
    for tab in tabs {
        successors.push(tab.await.unwrap());
    }
    successors.dedup();
    assert_eq!(successors.len(), 1);
}

async fn a_dead_token_ends_its_family_and_no_other(bench: Bench) {
    let sessions = Sessions::start(bench.store, POLICY, 0).await.unwrap();
    let (stolen, other) = (
        sessions.open(new_session("1"), 0).await.unwrap(),
        sessions.open(new_session("1"), 0).await.unwrap(),
    );
    let refresh = |opened: Opened, token, now| sessions.refresh(opened.session, token, |_| ACTIVE, now);
    let second = refresh(stolen, stolen.refresh_token, 1).await.unwrap().successor.unwrap().id;
    refresh(stolen, second, 2).await.unwrap();
    assert_eq!(refresh(stolen, stolen.refresh_token, 10_002).await, Err(RefreshError::Reused));
    assert_eq!(refresh(stolen, second, 10_003).await, Err(RefreshError::Revoked));
    assert!(sessions.revocations().is_revoked(&stolen.session));
    assert!(refresh(other, other.refresh_token, 10_004).await.is_ok());
    assert!(!sessions.revocations().is_revoked(&other.session));
}

async fn parallel_guesses_never_pass_the_limit(bench: Bench) {
    let sessions = Sessions::start(bench.store, POLICY, 0).await.unwrap();
    let guesses = (0..50).map(|_| {
        let sessions = sessions.clone();
        tokio::spawn(async move { sessions.reserve_attempt("alice", 1).await.unwrap() })
    });
    let guesses: Vec<_> = guesses.collect();
    let mut reserved = 0;
    for guess in guesses {
        reserved += usize::from(guess.await.unwrap() == Attempt::Reserved);
    }
    assert_eq!(reserved, 5);
    sessions.attempt_succeeded("alice").await.unwrap();
    assert_eq!(sessions.reserve_attempt("alice", 2).await.unwrap(), Attempt::Reserved);
}

/// Now, for stores that forget by a clock of their own.
fn real_time() -> UnixMillis {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64
}

async fn a_name_can_be_unlocked(bench: Bench) {
    let now = real_time();
    let sessions = Sessions::start(bench.store, POLICY, now).await.unwrap();
    for _ in 0..5 {
        sessions.reserve_attempt("alice", now).await.unwrap();
    }
    assert!(matches!(sessions.reserve_attempt("alice", now).await.unwrap(), Attempt::Locked { .. }));
    assert_eq!(sessions.locked_for("alice", now).await.unwrap(), Some(POLICY.lockout.duration));
    assert!(sessions.unlock("alice", now).await.unwrap());
    assert_eq!(sessions.locked_for("alice", now).await.unwrap(), None);
    assert_eq!(sessions.reserve_attempt("alice", now).await.unwrap(), Attempt::Reserved);
    assert!(!sessions.unlock("alice", now).await.unwrap(), "it was not locked any more");
    assert!(!sessions.unlock("nobody", now).await.unwrap());
}

/// Two instances on one store, many guesses at once, from one network.
async fn a_network_gets_its_failures_once_however_many_instances_it_asks(bench: Bench) {
    let now = real_time();
    let instances = [
        Sessions::start(Arc::clone(&bench.store), POLICY, now).await.unwrap(),
        Sessions::start(bench.store, POLICY, now).await.unwrap(),
    ];
    let network = SourceNetwork::of("2001:db8::1".parse().unwrap());
    let guesses = (0..100).map(|i| {
        let sessions = instances[i % 2].clone();
        tokio::spawn(async move { sessions.reserve_passage(Door::Login, &network, now).await.unwrap() })
    });
    let guesses: Vec<_> = guesses.collect();
    let mut free = 0;
    for guess in guesses {
        free += usize::from(guess.await.unwrap() == Passage::Free);
    }
    assert_eq!(free, 20);
    let [here, there] = &instances;
    let passage = |door, address: &str, now| {
        let network = SourceNetwork::of(address.parse().unwrap());
        async move { here.reserve_passage(door, &network, now).await.unwrap() }
    };
    let neighbour = "2001:db8::2";
    assert_eq!(passage(Door::Login, neighbour, now).await, Passage::Shut { retry_after: 3_000 });
    assert_eq!(passage(Door::Login, "2001:db8:0:1::1", now).await, Passage::Free);
    assert_eq!(passage(Door::Refresh, neighbour, now).await, Passage::Free);
    there.withdraw_passage(Door::Login, &network).await.unwrap();
    assert_eq!(passage(Door::Login, neighbour, now).await, Passage::Free);
    assert_eq!(passage(Door::Login, neighbour, now + 3_000).await, Passage::Free, "one has drained");
    assert!(matches!(passage(Door::Login, neighbour, now + 3_000).await, Passage::Shut { .. }));
}

async fn a_changed_account_ends_its_sessions_at_their_next_refresh(bench: Bench) {
    let sessions = Sessions::start(bench.store, POLICY, 0).await.unwrap();
    for account in [Account::Gone, Account::Active { credential: [8; 16] }] {
        let opened = sessions.open(new_session("1"), 0).await.unwrap();
        let refresh = |account: Account, now| {
            sessions.refresh(opened.session, opened.refresh_token, move |_| account, now)
        };
        assert_eq!(refresh(account, 1).await, Err(RefreshError::AccountChanged));
        assert_eq!(refresh(ACTIVE, 2).await, Err(RefreshError::Revoked), "it does not come back");
        assert!(sessions.revocations().is_revoked(&opened.session));
    }
}

async fn ending_all_sessions_of_a_user_ends_no_other(bench: Bench) {
    let sessions = Sessions::start(bench.store, POLICY, 0).await.unwrap();
    let mine = [
        sessions.open(new_session("1"), 0).await.unwrap(),
        sessions.open(new_session("1"), 0).await.unwrap(),
    ];
    let other = sessions.open(new_session("11"), 0).await.unwrap();
    assert_eq!(sessions.revoke_all("1", RevocationReason::LogoutAll, 1).await.unwrap(), 2);
    assert!(mine.iter().all(|opened| sessions.revocations().is_revoked(&opened.session)));
    assert!(!sessions.revocations().is_revoked(&other.session));
}

async fn what_was_answered_survives_a_restart(bench: Bench) {
    let Some(reopen) = bench.reopen else { return };
    let sessions = Sessions::start(bench.store, POLICY, 0).await.unwrap();
    let (kept, ended) = (
        sessions.open(new_session("1"), 0).await.unwrap(),
        sessions.open(new_session("1"), 0).await.unwrap(),
    );
    let first = sessions.refresh(kept.session, kept.refresh_token, |_| ACTIVE, 1).await.unwrap();
    sessions.revoke(ended.session, RevocationReason::Logout, 1).await.unwrap();
    for _ in 0..5 {
        sessions.reserve_attempt("alice", 1).await.unwrap();
    }
    drop(sessions);

    let sessions = Sessions::start(reopen(), POLICY, 2).await.unwrap();
    let again = sessions.refresh(kept.session, kept.refresh_token, |_| ACTIVE, 3).await.unwrap();
    assert_eq!(again.successor.unwrap().id, first.successor.unwrap().id);
    assert!(
        sessions.revocations().is_revoked(&ended.session),
        "an access token must not pass after a restart"
    );
    assert_eq!(
        sessions.refresh(ended.session, ended.refresh_token, |_| ACTIVE, 3).await,
        Err(RefreshError::Revoked)
    );
    assert!(matches!(sessions.reserve_attempt("alice", 3).await.unwrap(), Attempt::Locked { .. }));
}

macro_rules! conformance {
    ($($behaviour:ident),+ $(,)?) => {
        mod memory_store {
            $(#[tokio::test] async fn $behaviour() { super::$behaviour(super::memory()).await })+
        }
        mod embedded_store {
            $(#[tokio::test] async fn $behaviour() { super::$behaviour(super::embedded()).await })+
        }
    };
}

conformance!(
    a_swap_needs_the_state_that_was_read,
    of_parallel_swaps_one_wins,
    groups_and_scans_find_what_is_there_and_sweeps_forget_what_expired,
    racing_refreshes_of_one_token_get_one_successor,
    a_dead_token_ends_its_family_and_no_other,
    parallel_guesses_never_pass_the_limit,
    a_name_can_be_unlocked,
    a_network_gets_its_failures_once_however_many_instances_it_asks,
    a_changed_account_ends_its_sessions_at_their_next_refresh,
    ending_all_sessions_of_a_user_ends_no_other,
    what_was_answered_survives_a_restart,
);
