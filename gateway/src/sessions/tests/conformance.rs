//! What every store must do, run against the real thing.

#![allow(clippy::unwrap_used)]

use std::any::Any;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::config::{Redis, RedisLogin, RedisServers, Rotation};
use crate::sessions::lockout::LockoutPolicy;
use crate::sessions::redis::test_support::{
    RedisCluster, RedisServer, RedisWithSentinels, address, settings, single,
};
use crate::sessions::store::{Key, Put, PutOutcome, Space, Store};
use crate::sessions::*;

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
    throttle: Some(RateLimitPolicy { max_failures: 20, window: 60_000 }),
};
const CREDENTIAL: [u8; 16] = [7; 16];
const ACTIVE: Account = Account::Active { credential: CREDENTIAL };

/// So many milliseconds after the tests began: a store may forget by a real clock.
fn at(millis: UnixMillis) -> UnixMillis {
    static BEGIN: LazyLock<UnixMillis> = LazyLock::new(now);
    *BEGIN + millis
}

fn now() -> UnixMillis {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

fn new_session(subject: &str) -> NewSession {
    NewSession { subject: subject.into(), username: "alice".into(), credential: CREDENTIAL }
}

fn key(id: &str) -> Key {
    Key { space: Space::Session, id: id.into() }
}

fn put(
    id: &str,
    expected: Option<crate::sessions::store::Version>,
    value: &[u8],
    expires_at: UnixMillis,
) -> Put {
    Put {
        key: key(id),
        expected,
        value: value.to_vec(),
        expires_at,
        group: Some("group".into()),
        revoked_until: None,
    }
}

/// A store and, where it outlives its process, a way to open it again.
struct Bench {
    store: Arc<dyn Store>,
    reopen: Option<Box<dyn Fn() -> Arc<dyn Store>>>,
    /// What the store needs to live on.
    _ground: Box<dyn Any>,
}

fn memory() -> Bench {
    Bench { store: Arc::new(MemoryStore::new()), reopen: None, _ground: Box::new(()) }
}

fn embedded() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let open = move || Arc::new(EmbeddedStore::open(&path).unwrap()) as Arc<dyn Store>;
    Bench { store: open(), reopen: Some(Box::new(open)), _ground: Box::new(dir) }
}

fn redis(servers: RedisServers, ground: impl Any) -> Bench {
    // Tests that share servers do not share keys.
    let settings = Redis { key_prefix: TokenId::random().to_string(), ..settings(servers) };
    let open = move || Arc::new(RedisStore::open(&settings).unwrap()) as Arc<dyn Store>;
    Bench { store: open(), reopen: Some(Box::new(open)), _ground: Box::new(ground) }
}

fn redis_single() -> Bench {
    let server = RedisServer::start();
    redis(single(&server), server)
}

fn redis_sentinel() -> Bench {
    let group = RedisWithSentinels::shared();
    let sentinels = group.sentinels.iter().map(address).collect();
    let (master_name, login) = ("mymaster".into(), RedisLogin::default());
    redis(RedisServers::Sentinel { sentinels, master_name, login }, group)
}

fn redis_cluster() -> Bench {
    let cluster = RedisCluster::shared();
    redis(RedisServers::Cluster(cluster.nodes.iter().take(1).map(address).collect()), cluster)
}

async fn a_swap_needs_the_state_that_was_read(bench: Bench) {
    let store = bench.store;
    assert_eq!(store.get(&key("a")).await.unwrap(), None);
    assert_eq!(store.put_if(put("a", None, b"1", at(100_000))).await.unwrap(), PutOutcome::Stored);
    assert_eq!(store.put_if(put("a", None, b"2", at(100_000))).await.unwrap(), PutOutcome::Conflict);
    let first = store.get(&key("a")).await.unwrap().unwrap();
    assert_eq!(first.value, b"1");
    assert_eq!(
        store.put_if(put("a", Some(first.version), b"3", at(100_000))).await.unwrap(),
        PutOutcome::Stored
    );
    let resent = store.put_if(put("a", Some(first.version), b"3", at(100_000))).await.unwrap();
    assert_eq!(resent, PutOutcome::Conflict, "a change that is sent twice is made once");
    assert_eq!(store.get(&key("a")).await.unwrap().unwrap().value, b"3");
}

async fn of_parallel_swaps_one_wins(bench: Bench) {
    let store = bench.store;
    let swaps = (0..32).map(|i: u8| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.put_if(put("a", None, &[i], at(100_000))).await.unwrap() })
    });
    let swaps: Vec<_> = swaps.collect();
    let mut stored = 0;
    for swap in swaps {
        stored += usize::from(swap.await.unwrap() == PutOutcome::Stored);
    }
    assert_eq!(stored, 1);
}

async fn groups_and_scans_find_what_is_there_and_what_expired_is_forgotten(bench: Bench) {
    let store = bench.store;
    let soon = now() + 1_500;
    for (id, expires_at) in [("a", soon), ("b", soon + 100), ("c", soon + 60_000)] {
        store.put_if(put(id, None, id.as_bytes(), expires_at)).await.unwrap();
    }
    let other = Put { group: Some("group2".into()), ..put("d", None, b"d", soon + 60_000) };
    store.put_if(other).await.unwrap();
    let attempts = Key { space: Space::Attempts, id: "x".into() };
    store.put_if(Put { key: attempts, group: None, ..put("", None, b"x", soon + 60_000) }).await.unwrap();
    assert_eq!(store.group("group").await.unwrap(), [key("a"), key("b"), key("c")]);
    let (mut forgotten, end) = (0, Instant::now() + Duration::from_secs(10));
    let ids = async || {
        let all = store.scan(Space::Session).await.unwrap();
        all.into_iter().map(|(key, _)| key.id).collect::<Vec<_>>()
    };
    while store.group("group").await.unwrap() != [key("c")] || ids().await != ["c", "d"] {
        assert!(Instant::now() < end, "what expired is still there: {:?}", ids().await);
        forgotten += store.sweep(now()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!([0, 2].contains(&forgotten), "the store forgets by itself or tells what it forgot: {forgotten}");
    assert_eq!(store.get(&key("a")).await.unwrap(), None);
}

async fn racing_refreshes_of_one_token_get_one_successor(bench: Bench) {
    let sessions = Sessions::start(bench.store, POLICY, at(0)).await.unwrap();
    let opened = sessions.open(new_session("1"), at(0)).await.unwrap();
    let tabs = (0..16).map(|_| {
        let sessions = sessions.clone();
        tokio::spawn(async move {
            sessions
                .refresh(opened.session, opened.refresh_token, |_| ACTIVE, at(1))
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
    let sessions = Sessions::start(bench.store, POLICY, at(0)).await.unwrap();
    let (stolen, other) = (
        sessions.open(new_session("1"), at(0)).await.unwrap(),
        sessions.open(new_session("1"), at(0)).await.unwrap(),
    );
    let refresh =
        |opened: NewTokens, token, now| sessions.refresh(opened.session, token, |_| ACTIVE, at(now));
    let second = refresh(stolen, stolen.refresh_token, 1).await.unwrap().successor.unwrap().id;
    refresh(stolen, second, 2).await.unwrap();
    assert_eq!(refresh(stolen, stolen.refresh_token, 10_002).await, Err(RefreshError::Reused));
    assert_eq!(refresh(stolen, second, 10_003).await, Err(RefreshError::Revoked));
    assert!(sessions.revocations().is_revoked(&stolen.session));
    assert!(refresh(other, other.refresh_token, 10_004).await.is_ok());
    assert!(!sessions.revocations().is_revoked(&other.session));
}

async fn parallel_guesses_never_pass_the_limit(bench: Bench) {
    let sessions = Sessions::start(bench.store, POLICY, at(0)).await.unwrap();
    let guesses = (0..50).map(|_| {
        let sessions = sessions.clone();
        tokio::spawn(async move { sessions.reserve_attempt("alice", at(1)).await.unwrap() })
    });
    let guesses: Vec<_> = guesses.collect();
    let mut reserved = 0;
    for guess in guesses {
        reserved += usize::from(guess.await.unwrap() == LoginAttempt::Reserved);
    }
    assert_eq!(reserved, 5);
    sessions.attempt_succeeded("alice").await.unwrap();
    assert_eq!(sessions.reserve_attempt("alice", at(2)).await.unwrap(), LoginAttempt::Reserved);
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
    assert!(matches!(sessions.reserve_attempt("alice", now).await.unwrap(), LoginAttempt::Locked { .. }));
    assert_eq!(sessions.locked_for("alice", now).await.unwrap(), Some(POLICY.lockout.duration));
    assert!(sessions.unlock("alice", now).await.unwrap());
    assert_eq!(sessions.locked_for("alice", now).await.unwrap(), None);
    assert_eq!(sessions.reserve_attempt("alice", now).await.unwrap(), LoginAttempt::Reserved);
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
        tokio::spawn(async move {
            sessions.acquire_rate_limit(RateLimitScope::Login, &network, now).await.unwrap()
        })
    });
    let guesses: Vec<_> = guesses.collect();
    let mut free = 0;
    for guess in guesses {
        free += usize::from(guess.await.unwrap() == RateLimitDecision::Allowed);
    }
    assert_eq!(free, 20);
    let [here, there] = &instances;
    let decision = |scope, address: &str, now| {
        let network = SourceNetwork::of(address.parse().unwrap());
        async move { here.acquire_rate_limit(scope, &network, now).await.unwrap() }
    };
    let neighbour = "2001:db8::2";
    assert_eq!(
        decision(RateLimitScope::Login, neighbour, now).await,
        RateLimitDecision::Limited { retry_after: 3_000 }
    );
    assert_eq!(decision(RateLimitScope::Login, "2001:db8:0:1::1", now).await, RateLimitDecision::Allowed);
    assert_eq!(decision(RateLimitScope::Refresh, neighbour, now).await, RateLimitDecision::Allowed);
    there.refund_rate_limit(RateLimitScope::Login, &network).await.unwrap();
    assert_eq!(decision(RateLimitScope::Login, neighbour, now).await, RateLimitDecision::Allowed);
    assert_eq!(
        decision(RateLimitScope::Login, neighbour, now + 3_000).await,
        RateLimitDecision::Allowed,
        "one has drained"
    );
    assert!(matches!(
        decision(RateLimitScope::Login, neighbour, now + 3_000).await,
        RateLimitDecision::Limited { .. }
    ));
}

async fn a_changed_account_ends_its_sessions_at_their_next_refresh(bench: Bench) {
    let sessions = Sessions::start(bench.store, POLICY, at(0)).await.unwrap();
    for account in [Account::Gone, Account::Active { credential: [8; 16] }] {
        let opened = sessions.open(new_session("1"), at(0)).await.unwrap();
        let refresh = |account: Account, now| {
            sessions.refresh(opened.session, opened.refresh_token, move |_| account, at(now))
        };
        assert_eq!(refresh(account, 1).await, Err(RefreshError::AccountChanged));
        assert_eq!(refresh(ACTIVE, 2).await, Err(RefreshError::Revoked), "it does not come back");
        assert!(sessions.revocations().is_revoked(&opened.session));
    }
}

async fn ending_all_sessions_of_a_user_ends_no_other(bench: Bench) {
    let sessions = Sessions::start(bench.store, POLICY, at(0)).await.unwrap();
    let mine = [
        sessions.open(new_session("1"), at(0)).await.unwrap(),
        sessions.open(new_session("1"), at(0)).await.unwrap(),
    ];
    let other = sessions.open(new_session("11"), at(0)).await.unwrap();
    assert_eq!(sessions.revoke_all("1", RevocationReason::LogoutAll, at(1)).await.unwrap(), 2);
    assert!(mine.iter().all(|opened| sessions.revocations().is_revoked(&opened.session)));
    assert!(!sessions.revocations().is_revoked(&other.session));
}

async fn what_was_answered_survives_a_restart(bench: Bench) {
    let Some(reopen) = bench.reopen else { return };
    let sessions = Sessions::start(bench.store, POLICY, at(0)).await.unwrap();
    let (kept, ended) = (
        sessions.open(new_session("1"), at(0)).await.unwrap(),
        sessions.open(new_session("1"), at(0)).await.unwrap(),
    );
    let first = sessions.refresh(kept.session, kept.refresh_token, |_| ACTIVE, at(1)).await.unwrap();
    sessions.revoke(ended.session, RevocationReason::Logout, at(1)).await.unwrap();
    for _ in 0..5 {
        sessions.reserve_attempt("alice", at(1)).await.unwrap();
    }
    drop(sessions);

    let sessions = Sessions::start(reopen(), POLICY, at(2)).await.unwrap();
    let again = sessions.refresh(kept.session, kept.refresh_token, |_| ACTIVE, at(3)).await.unwrap();
    assert_eq!(again.successor.unwrap().id, first.successor.unwrap().id);
    assert!(
        sessions.revocations().is_revoked(&ended.session),
        "an access token must not pass after a restart"
    );
    assert_eq!(
        sessions.refresh(ended.session, ended.refresh_token, |_| ACTIVE, at(3)).await,
        Err(RefreshError::Revoked)
    );
    assert!(matches!(sessions.reserve_attempt("alice", at(3)).await.unwrap(), LoginAttempt::Locked { .. }));
}

macro_rules! conformance {
    ($($behaviour:ident),+ $(,)?) => {
        mod memory_store {
            $(#[tokio::test] async fn $behaviour() { super::$behaviour(super::memory()).await })+
        }
        mod embedded_store {
            $(#[tokio::test] async fn $behaviour() { super::$behaviour(super::embedded()).await })+
        }
        mod redis_store {
            $(#[tokio::test] async fn $behaviour() { super::$behaviour(super::redis_single()).await })+
        }
        mod redis_store_with_sentinels {
            $(#[tokio::test] async fn $behaviour() { super::$behaviour(super::redis_sentinel()).await })+
        }
        mod redis_store_in_a_cluster {
            $(#[tokio::test] async fn $behaviour() { super::$behaviour(super::redis_cluster()).await })+
        }
    };
}

conformance!(
    a_swap_needs_the_state_that_was_read,
    of_parallel_swaps_one_wins,
    groups_and_scans_find_what_is_there_and_what_expired_is_forgotten,
    racing_refreshes_of_one_token_get_one_successor,
    a_dead_token_ends_its_family_and_no_other,
    parallel_guesses_never_pass_the_limit,
    a_name_can_be_unlocked,
    a_network_gets_its_failures_once_however_many_instances_it_asks,
    a_changed_account_ends_its_sessions_at_their_next_refresh,
    ending_all_sessions_of_a_user_ends_no_other,
    what_was_answered_survives_a_restart,
);
