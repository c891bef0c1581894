#![allow(clippy::unwrap_used)]

use std::future::Future;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::config::Rotation;
use crate::sessions::MemoryStore;
use crate::sessions::store::{Put, PutOutcome, StoreFuture, Versioned};
use crate::sessions::tests::{POLICY, new_session};
use tokio::sync::Semaphore;

const ACTIVE: Account = Account::Active { credential: [7; 16] };

/// A memory store whose changes are made at once and acknowledged when the test releases them.
struct SlowStore {
    records: MemoryStore,
    answers: Semaphore,
    changes: Mutex<usize>,
}

impl SlowStore {
    fn new(answers: usize) -> Arc<SlowStore> {
        Arc::new(SlowStore {
            records: MemoryStore::new(),
            answers: Semaphore::new(answers),
            changes: Mutex::default(),
        })
    }
}

impl Store for SlowStore {
    fn get<'a>(&'a self, key: &'a Key) -> StoreFuture<'a, Option<Versioned>> {
        self.records.get(key)
    }

    fn put_if(&self, put: Put) -> StoreFuture<'_, PutOutcome> {
        Box::pin(async move {
            let outcome = self.records.put_if(put).await;
            *self.changes.lock().unwrap() += 1;
            let answer = self.answers.acquire().await;
            answer.map_err(|_| StoreError::Unavailable("the connection was lost".into()))?.forget();
            outcome
        })
    }

    fn group<'a>(&'a self, space: Space, group: &'a str) -> StoreFuture<'a, Vec<Key>> {
        self.records.group(space, group)
    }

    fn scan(&self, space: Space) -> StoreFuture<'_, Vec<(Key, Versioned)>> {
        self.records.scan(space)
    }

    fn sweep(&self, now: UnixMillis) -> StoreFuture<'_, usize> {
        self.records.sweep(now)
    }
}

async fn with_session(store: &Arc<SlowStore>) -> (Sessions, NewTokens) {
    let sessions =
        Sessions::start(Arc::clone(store) as Arc<dyn Store>, POLICY, UnixMillis::new(0)).await.unwrap();
    let opened = sessions.open(new_session("1"), UnixMillis::new(0)).await.unwrap();
    (sessions, opened)
}

/// Starts a call and drops it before it completes, as when a client disconnects.
fn begin_and_leave(call: impl Future) {
    let mut call = Box::pin(call);
    assert!(matches!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
}

#[tokio::test]
async fn a_logout_whose_client_disconnects_takes_effect() {
    let store = SlowStore::new(1);
    let (sessions, opened) = with_session(&store).await;
    begin_and_leave(sessions.revoke(opened.session, RevocationReason::Logout, UnixMillis::new(1)));
    assert!(sessions.revocations().is_revoked(&opened.session));
}

#[tokio::test]
async fn reuse_ends_the_family_though_the_thief_does_not_wait() {
    let store = SlowStore::new(3);
    let (sessions, opened) = with_session(&store).await;
    let refresh = |token, now| sessions.refresh(opened.session, token, None, |_| ACTIVE, None, now);
    let second = refresh(opened.refresh_token, UnixMillis::new(1)).await.unwrap().successor.unwrap().id;
    refresh(second, UnixMillis::new(2)).await.unwrap();
    begin_and_leave(refresh(opened.refresh_token, UnixMillis::new(10_002)));
    assert!(sessions.revocations().is_revoked(&opened.session));
}

#[tokio::test]
async fn a_refresh_whose_client_does_not_wait_ends_nothing() {
    let store = SlowStore::new(1);
    let (sessions, opened) = with_session(&store).await;
    begin_and_leave(sessions.refresh(
        opened.session,
        opened.refresh_token,
        None,
        |_| ACTIVE,
        None,
        UnixMillis::new(1),
    ));
    assert!(sessions.revocations().is_empty());
    store.answers.add_permits(10);
    let again = sessions
        .refresh(opened.session, opened.refresh_token, None, |_| ACTIVE, None, UnixMillis::new(2))
        .await
        .unwrap();
    assert!(again.successor.unwrap().repeated, "the lost answer is given again");
}

#[tokio::test]
async fn ending_all_sessions_goes_on_though_the_client_does_not_wait() {
    let store = SlowStore::new(2);
    let (sessions, first) = with_session(&store).await;
    let second = sessions.open(new_session("1"), UnixMillis::new(0)).await.unwrap();
    begin_and_leave(sessions.revoke_all("1", RevocationReason::LogoutAll, UnixMillis::new(1)));
    store.answers.add_permits(10);
    let both = async {
        while sessions.revocations().len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), both).await.expect("both sessions end");
    assert!(sessions.revocations().is_revoked(&first.session));
    assert!(sessions.revocations().is_revoked(&second.session));
}

#[tokio::test]
async fn an_outage_ends_no_session_and_is_reported_until_the_store_responds() {
    let store = SlowStore::new(1);
    let (sessions, opened) = with_session(&store).await;
    assert_eq!(sessions.store_last_error(), None);
    store.answers.close();
    let refused = sessions
        .refresh(opened.session, opened.refresh_token, None, |_| ACTIVE, None, UnixMillis::new(1))
        .await;
    assert!(matches!(refused, Err(RefreshError::Store(_))));
    assert!(sessions.revocations().is_empty());
    assert!(sessions.store_last_error().unwrap().contains("the connection was lost"));
    // The successor chosen by that refresh was written: it is returned again, without a change.
    assert!(
        sessions
            .refresh(opened.session, opened.refresh_token, None, |_| ACTIVE, None, UnixMillis::new(2))
            .await
            .is_ok()
    );
    assert_eq!(sessions.store_last_error(), None);
}

#[tokio::test]
async fn a_token_that_is_presented_again_costs_no_second_write() {
    for (mode, writes) in [(Rotation::OnUse, 1), (Rotation::Strict, 1), (Rotation::Off, 0)] {
        let store = SlowStore::new(10);
        let (sessions, opened) = with_session(&store).await;
        sessions.policy.write().unwrap().rotation.mode = mode;
        for now in 1..5 {
            sessions
                .refresh(opened.session, opened.refresh_token, None, |_| ACTIVE, None, UnixMillis::new(now))
                .await
                .unwrap();
        }
        assert_eq!(*store.changes.lock().unwrap() - 1, writes, "{mode:?}");
    }
}

#[tokio::test]
async fn only_sessions_that_were_not_over_count_as_ended() {
    let store = SlowStore::new(10);
    let (sessions, opened) = with_session(&store).await;
    sessions.open(new_session("1"), UnixMillis::new(0)).await.unwrap();
    sessions.revoke(opened.session, RevocationReason::Logout, UnixMillis::new(1)).await.unwrap();
    assert_eq!(sessions.revoke_all("1", RevocationReason::LogoutAll, UnixMillis::new(2)).await.unwrap(), 1);
    assert_eq!(sessions.revoke_all("1", RevocationReason::LogoutAll, UnixMillis::new(3)).await.unwrap(), 0);
}

#[tokio::test]
async fn attempts_of_one_network_that_wait_together_cost_one_write() {
    let store = SlowStore::new(0);
    let sessions =
        Sessions::start(Arc::clone(&store) as Arc<dyn Store>, POLICY, UnixMillis::new(0)).await.unwrap();
    let network = SourceNetwork::of("192.0.2.1".parse().unwrap());
    let attempt = || {
        let sessions = sessions.clone();
        tokio::spawn(async move {
            sessions.count_failure(RateLimitScope::Refresh, &network, UnixMillis::new(1)).await
        })
    };
    let first = attempt();
    while *store.changes.lock().unwrap() == 0 {
        tokio::task::yield_now().await;
    }
    // Attempts that arrive while the first is being counted.
    let others: Vec<_> = (0..19).map(|_| attempt()).collect();
    tokio::task::yield_now().await;
    store.answers.add_permits(2);
    for counted in std::iter::once(first).chain(others) {
        assert_eq!(counted.await.unwrap(), Ok(RateLimitDecision::Allowed));
    }
    assert_eq!(*store.changes.lock().unwrap(), 2);
    let shut = sessions.count_failure(RateLimitScope::Refresh, &network, UnixMillis::new(1)).await.unwrap();
    assert!(matches!(shut, RateLimitDecision::Limited { .. }), "all of them were counted");
    assert_eq!(*store.changes.lock().unwrap(), 2, "who is turned away costs no write");
}

#[tokio::test]
async fn an_outage_fails_all_pending_attempts() {
    let store = SlowStore::new(0);
    let sessions =
        Sessions::start(Arc::clone(&store) as Arc<dyn Store>, POLICY, UnixMillis::new(0)).await.unwrap();
    let network = SourceNetwork::of("192.0.2.1".parse().unwrap());
    let attempts: Vec<_> = (0..3)
        .map(|_| {
            let sessions = sessions.clone();
            tokio::spawn(async move {
                sessions.count_failure(RateLimitScope::Refresh, &network, UnixMillis::new(1)).await
            })
        })
        .collect();
    while *store.changes.lock().unwrap() == 0 {
        tokio::task::yield_now().await;
    }
    store.answers.close();
    for attempt in attempts {
        assert!(matches!(attempt.await.unwrap(), Err(StoreError::Unavailable(_))));
    }
}
