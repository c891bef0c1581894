//! Conformance suite of the stores, run against the real ones.

#![allow(clippy::unwrap_used)]

use std::any::Any;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::clock::millis;
use crate::config::{Redis, RedisLogin, RedisServers};
use crate::sessions::redis::test_support::{
    RedisCluster, RedisServer, RedisWithSentinels, address, settings, single,
};
use crate::sessions::store::{Key, Put, PutOutcome, Space, Store};
use crate::sessions::tests::{POLICY, new_session};
use crate::sessions::*;

const CREDENTIAL: [u8; 16] = [7; 16];
const ACTIVE: Account = Account::Active { credential: CREDENTIAL };

/// Milliseconds after the start of the tests: a store may expire records by a real clock.
fn at(millis: u64) -> UnixMillis {
    static BEGIN: LazyLock<UnixMillis> = LazyLock::new(now);
    BEGIN.saturating_add(Duration::from_millis(millis))
}

/// The current time, for stores with a clock of their own.
fn now() -> UnixMillis {
    UnixMillis::new(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64)
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

/// A store and, where it is persistent, a way to reopen it.
struct Bench {
    store: Arc<dyn Store>,
    reopen: Option<Box<dyn Fn() -> Arc<dyn Store>>>,
    /// Resources that the store needs.
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
    let soon = now().saturating_add(Duration::from_millis(1_500));
    for (id, expires_at) in [
        ("a", soon),
        ("b", soon.saturating_add(Duration::from_millis(100))),
        ("c", soon.saturating_add(Duration::from_millis(60_000))),
    ] {
        store.put_if(put(id, None, id.as_bytes(), expires_at)).await.unwrap();
    }
    let other = Put {
        group: Some("group2".into()),
        ..put("d", None, b"d", soon.saturating_add(Duration::from_millis(60_000)))
    };
    store.put_if(other).await.unwrap();
    let attempts = Key { space: Space::Attempts, id: "x".into() };
    store
        .put_if(Put {
            key: attempts,
            group: None,
            ..put("", None, b"x", soon.saturating_add(Duration::from_millis(60_000)))
        })
        .await
        .unwrap();
    let token = Key { space: Space::PersonalToken, id: "t".into() };
    store
        .put_if(Put {
            key: token.clone(),
            ..put("", None, b"t", soon.saturating_add(Duration::from_millis(60_000)))
        })
        .await
        .unwrap();
    assert_eq!(store.group(Space::Session, "group").await.unwrap(), [key("a"), key("b"), key("c")]);
    assert_eq!(store.group(Space::PersonalToken, "group").await.unwrap().first(), Some(&token));
    assert_eq!(store.scan(Space::PersonalToken).await.unwrap()[0].0, token);
    let (mut forgotten, end) = (0, Instant::now() + Duration::from_secs(10));
    let ids = async || {
        let all = store.scan(Space::Session).await.unwrap();
        all.into_iter().map(|(key, _)| key.id).collect::<Vec<_>>()
    };
    while store.group(Space::Session, "group").await.unwrap() != [key("c")] || ids().await != ["c", "d"] {
        assert!(Instant::now() < end, "what expired is still there: {:?}", ids().await);
        forgotten += store.sweep(now()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(
        [0, 2].contains(&forgotten),
        "the store expires records by itself or reports what it evicted: {forgotten}"
    );
    assert_eq!(store.get(&key("a")).await.unwrap(), None);
}

async fn racing_refreshes_of_one_token_get_one_successor(bench: Bench) {
    let sessions = Sessions::start(bench.store, POLICY, at(0)).await.unwrap();
    let opened = sessions.open(new_session("1"), at(0)).await.unwrap();
    let tabs = (0..16).map(|_| {
        let sessions = sessions.clone();
        tokio::spawn(async move {
            sessions
                .refresh(opened.session, opened.refresh_token, None, |_| ACTIVE, None, at(1))
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
    let refresh = |opened: NewTokens, token, now| {
        sessions.refresh(opened.session, token, None, |_| ACTIVE, None, at(now))
    };
    let second = refresh(stolen, stolen.refresh_token, 1).await.unwrap().successor.unwrap().id;
    refresh(stolen, second, 2).await.unwrap();
    assert_eq!(refresh(stolen, stolen.refresh_token, 10_002).await, Err(RefreshError::Reused));
    assert_eq!(refresh(stolen, second, 10_003).await, Err(RefreshError::Revoked));
    assert!(sessions.revocations().is_revoked(&stolen.session));
    assert!(refresh(other, other.refresh_token, 10_004).await.is_ok());
    assert!(!sessions.revocations().is_revoked(&other.session));
}

fn network() -> SourceNetwork {
    SourceNetwork::of("192.0.2.1".parse().unwrap())
}

/// Acquires a permit and settles it after a while; returns the decision.
async fn attempt(sessions: &Sessions, result: LoginResult, now: UnixMillis) -> LoginDecision {
    let decision = sessions.begin_login("alice", &network(), now).await.unwrap();
    let LoginDecision::Permitted(permit) = decision else { return decision };
    tokio::time::sleep(Duration::from_millis(5)).await;
    sessions.settle_login(permit.clone(), result, now).await.unwrap();
    LoginDecision::Permitted(permit)
}

async fn parallel_guesses_never_pass_the_limit(bench: Bench) {
    let now = now();
    let sessions = Sessions::start(bench.store, POLICY, now).await.unwrap();
    let guesses: Vec<_> = (0..50)
        .map(|_| {
            let sessions = sessions.clone();
            tokio::spawn(async move { attempt(&sessions, LoginResult::Failed, now).await })
        })
        .collect();
    let (mut looked_at, mut locked) = (0, 0);
    for guess in guesses {
        match guess.await.unwrap() {
            LoginDecision::Permitted(_) => looked_at += 1,
            LoginDecision::Locked { .. } => locked += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((looked_at, locked), (5, 45));
}

async fn right_passwords_that_come_together_wait_for_each_other(bench: Bench) {
    let now = now();
    let sessions = Sessions::start(bench.store, POLICY, now).await.unwrap();
    let attempts: Vec<_> = (0..30)
        .map(|_| {
            let sessions = sessions.clone();
            tokio::spawn(async move { attempt(&sessions, LoginResult::Succeeded, now).await })
        })
        .collect();
    for attempt in attempts {
        let decision = attempt.await.unwrap();
        assert!(matches!(decision, LoginDecision::Permitted(_)), "{decision:?}");
    }
}

async fn unsettled_attempts_block_until_they_expire(bench: Bench) {
    let now = now();
    let sessions = Sessions::start(bench.store, POLICY, now).await.unwrap();
    for _ in 0..5 {
        let decision = sessions.begin_login("alice", &network(), now).await.unwrap();
        assert!(matches!(decision, LoginDecision::Permitted(_)));
    }
    // It waits for them, but not until they expire.
    let decision = sessions.begin_login("alice", &network(), now).await.unwrap();
    assert!(matches!(decision, LoginDecision::Busy), "{decision:?}");
    let decision =
        sessions.begin_login("alice", &network(), now.saturating_add(Duration::from_secs(10))).await.unwrap();
    assert!(matches!(decision, LoginDecision::Permitted(_)), "{decision:?}");
}

async fn a_name_can_be_unlocked(bench: Bench) {
    let now = now();
    let sessions = Sessions::start(bench.store, POLICY, now).await.unwrap();
    for _ in 0..5 {
        attempt(&sessions, LoginResult::Failed, now).await;
    }
    let locked = attempt(&sessions, LoginResult::Failed, now).await;
    assert!(matches!(locked, LoginDecision::Locked { .. }), "{locked:?}");
    assert_eq!(sessions.locked_for("alice", now).await.unwrap(), Some(POLICY.lockout.duration));
    assert!(sessions.unlock("alice", now).await.unwrap());
    assert_eq!(sessions.locked_for("alice", now).await.unwrap(), None);
    let unlocked = attempt(&sessions, LoginResult::Failed, now).await;
    assert!(matches!(unlocked, LoginDecision::Permitted(_)), "{unlocked:?}");
    assert!(!sessions.unlock("alice", now).await.unwrap(), "it was not locked any more");
    assert!(!sessions.unlock("nobody", now).await.unwrap());
}

/// Two instances on one store, many concurrent guesses, from one network.
async fn a_network_gets_its_failures_once_however_many_instances_it_asks(bench: Bench) {
    let now = now();
    let instances = [
        Sessions::start(Arc::clone(&bench.store), POLICY, now).await.unwrap(),
        Sessions::start(bench.store, POLICY, now).await.unwrap(),
    ];
    let begin = |sessions: &Sessions, address: &str, name: String, now| {
        let (sessions, network) = (sessions.clone(), SourceNetwork::of(address.parse().unwrap()));
        async move { sessions.begin_login(&name, &network, now).await.unwrap() }
    };
    let guesses = (0..100).map(|i| {
        let (sessions, begun) =
            (instances[i % 2].clone(), begin(&instances[i % 2], "2001:db8::1", format!("user{i}"), now));
        tokio::spawn(async move {
            match begun.await {
                LoginDecision::Permitted(permit) => {
                    sessions.settle_login(permit, LoginResult::Failed, now).await.unwrap();
                    true
                }
                LoginDecision::Limited { .. } => false,
                other => panic!("{other:?}"),
            }
        })
    });
    let guesses: Vec<_> = guesses.collect();
    let mut looked_at = 0;
    for guess in guesses {
        looked_at += usize::from(guess.await.unwrap());
    }
    // While they wait for each other the bucket drains, one in three seconds.
    assert!((20..=21).contains(&looked_at), "{looked_at}");
    let [here, there] = &instances;
    let neighbour = "2001:db8::2";
    let limited = begin(here, neighbour, "x".into(), now).await;
    let six = Duration::from_secs(6);
    assert!(
        matches!(limited, LoginDecision::Limited { retry_after } if !retry_after.is_zero() && retry_after <= six),
        "{limited:?}"
    );
    let elsewhere = begin(there, "2001:db8:0:1::1", "y".into(), now).await;
    assert!(matches!(elsewhere, LoginDecision::Permitted(_)), "{elsewhere:?}");
    let network = SourceNetwork::of(neighbour.parse().unwrap());
    let refresh = here.count_failure(RateLimitScope::Refresh, &network, now).await.unwrap();
    assert_eq!(refresh, RateLimitDecision::Allowed, "each scope has a count of its own");
    let later = begin(there, neighbour, "z".into(), now.saturating_add(Duration::from_secs(6))).await;
    assert!(matches!(later, LoginDecision::Permitted(_)), "some have drained: {later:?}");
}

async fn a_user_with_too_many_sessions_loses_the_oldest_or_is_refused(bench: Bench) {
    let limit = |when_full| Some(SessionLimit { max: 2, when_full });
    let policy = Policy { session_limit: limit(WhenFull::EndOldest), ..POLICY };
    let sessions = Sessions::start(bench.store, policy, at(0)).await.unwrap();
    let mut opened = Vec::new();
    for now in 1..=3 {
        opened.push(sessions.open(new_session("1"), at(now)).await.unwrap().session);
    }
    let ids = |list: Vec<SessionInfo>| list.into_iter().map(|session| session.id).collect::<Vec<_>>();
    assert_eq!(ids(sessions.list(Some("1"), at(4)).await.unwrap()), [opened[2], opened[1]]);
    assert!(sessions.revocations().is_revoked(&opened[0]));
    sessions.set_policy(Policy { session_limit: limit(WhenFull::Refuse), ..POLICY });
    let refused = sessions.open(new_session("1"), at(5)).await;
    assert!(matches!(refused, Err(OpenSessionError::TooMany)));
    assert_eq!(ids(sessions.list(Some("1"), at(6)).await.unwrap()), [opened[2], opened[1]]);
    sessions.open(new_session("2"), at(7)).await.unwrap();
    assert_eq!(sessions.list(None, at(8)).await.unwrap().len(), 3);
}

/// A token of another library may be valid for longer than the gateway's own.
async fn a_revocation_outlives_the_token_that_was_adopted(bench: Bench) {
    let sessions = Sessions::start(Arc::clone(&bench.store), POLICY, at(0)).await.unwrap();
    let (id, end) = (SessionId::random(), at(500_000));
    sessions.adopt(id, TokenId::random(), new_session("1"), end, at(0)).await.unwrap();
    sessions.revoke(id, RevocationReason::Logout, at(1)).await.unwrap();
    sessions.revocations().prune_expired(at(millis(POLICY.access_ttl) + 70_000));
    assert!(sessions.revocations().is_revoked(&id));
    let Some(reopen) = &bench.reopen else { return };
    drop((sessions, bench.store));
    let restarted = Sessions::start(reopen(), POLICY, at(millis(POLICY.access_ttl) + 70_000)).await.unwrap();
    restarted.revocations().prune_expired(end);
    assert!(restarted.revocations().is_revoked(&id));
    restarted.revocations().prune_expired(end.saturating_add(POLICY.access_ttl + Duration::from_secs(120)));
    assert!(!restarted.revocations().is_revoked(&id), "and no longer than that");
}

async fn sessions_name_their_client_and_only_their_user_or_an_operator_ends_them(bench: Bench) {
    let sessions = Sessions::start(bench.store, POLICY, at(0)).await.unwrap();
    let client = |agent: &str| ClientInfo::new("192.0.2.7".parse().unwrap(), Some(agent));
    let new = NewSession { client: client("one"), ..new_session("1") };
    let opened = sessions.open(new, at(1)).await.unwrap();
    let refreshed = client("two");
    let (id, token) = (opened.session, opened.refresh_token);
    sessions.refresh(id, token, None, |_| ACTIVE, Some(&refreshed), at(2_000)).await.unwrap();
    let listed = sessions.list(Some("1"), at(2_001)).await.unwrap();
    let [info] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!((info.started_at, info.last_refreshed_at), (at(1), at(2_000)));
    assert_eq!((info.id, &info.client), (id, &refreshed));
    assert!(!sessions.revoke_of(Some("2"), id, at(3_000)).await.unwrap(), "it is another's");
    assert!(!sessions.revoke_of(Some("1"), SessionId::random(), at(3_000)).await.unwrap());
    assert!(sessions.revoke_of(Some("1"), id, at(3_000)).await.unwrap());
    assert!(!sessions.revoke_of(None, id, at(3_000)).await.unwrap(), "it is over");
    assert!(sessions.revocations().is_revoked(&id));
    assert_eq!(sessions.list(None, at(3_001)).await.unwrap(), []);
}

async fn an_account_that_changes_ends_the_sessions_from_before_and_no_later_ones(bench: Bench) {
    let sessions = Sessions::start(bench.store, POLICY, at(0)).await.unwrap();
    let changed = [8; 16];
    let before = sessions.open(new_session("1"), at(0)).await.unwrap();
    let after = NewSession { credential: changed, ..new_session("1") };
    let after = sessions.open(after, at(1)).await.unwrap();
    let other = sessions.open(new_session("2"), at(1)).await.unwrap();
    let active = Account::Active { credential: changed };
    assert_eq!(sessions.end_changed("1", active, at(2)).await.unwrap(), 1);
    let revoked = |session| sessions.revocations().is_revoked(&session);
    assert!(revoked(before.session) && !revoked(after.session) && !revoked(other.session));
    assert_eq!(sessions.end_changed("1", Account::Gone, at(3)).await.unwrap(), 1);
    assert!(revoked(after.session) && !revoked(other.session));
}

async fn a_changed_account_ends_its_sessions_at_their_next_refresh(bench: Bench) {
    let sessions = Sessions::start(bench.store, POLICY, at(0)).await.unwrap();
    for account in [Account::Gone, Account::Active { credential: [8; 16] }] {
        let opened = sessions.open(new_session("1"), at(0)).await.unwrap();
        let refresh = |account: Account, now| {
            sessions.refresh(opened.session, opened.refresh_token, None, move |_| account, None, at(now))
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

async fn acknowledged_changes_survive_a_restart(bench: Bench) {
    let Some(reopen) = bench.reopen else { return };
    let sessions = Sessions::start(bench.store, POLICY, at(0)).await.unwrap();
    let (kept, ended) = (
        sessions.open(new_session("1"), at(0)).await.unwrap(),
        sessions.open(new_session("1"), at(0)).await.unwrap(),
    );
    let first =
        sessions.refresh(kept.session, kept.refresh_token, None, |_| ACTIVE, None, at(1)).await.unwrap();
    sessions.revoke(ended.session, RevocationReason::Logout, at(1)).await.unwrap();
    for _ in 0..5 {
        attempt(&sessions, LoginResult::Failed, at(1)).await;
    }
    drop(sessions);

    let sessions = Sessions::start(reopen(), POLICY, at(2)).await.unwrap();
    let again =
        sessions.refresh(kept.session, kept.refresh_token, None, |_| ACTIVE, None, at(3)).await.unwrap();
    assert_eq!(again.successor.unwrap().id, first.successor.unwrap().id);
    assert!(
        sessions.revocations().is_revoked(&ended.session),
        "an access token must not pass after a restart"
    );
    assert_eq!(
        sessions.refresh(ended.session, ended.refresh_token, None, |_| ACTIVE, None, at(3)).await,
        Err(RefreshError::Revoked)
    );
    let locked = attempt(&sessions, LoginResult::Failed, at(3)).await;
    assert!(matches!(locked, LoginDecision::Locked { .. }), "{locked:?}");
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
    right_passwords_that_come_together_wait_for_each_other,
    unsettled_attempts_block_until_they_expire,
    a_user_with_too_many_sessions_loses_the_oldest_or_is_refused,
    sessions_name_their_client_and_only_their_user_or_an_operator_ends_them,
    an_account_that_changes_ends_the_sessions_from_before_and_no_later_ones,
    a_name_can_be_unlocked,
    a_network_gets_its_failures_once_however_many_instances_it_asks,
    a_changed_account_ends_its_sessions_at_their_next_refresh,
    ending_all_sessions_of_a_user_ends_no_other,
    a_revocation_outlives_the_token_that_was_adopted,
    acknowledged_changes_survive_a_restart,
);
