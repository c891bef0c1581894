//! Background load on gateways, and its invariants.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::app;
use crate::fixture::{Gateway, PASSWORD, Reply, login, post, tokens};

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A page, with a valid token.
    Page,
    Login,
    Refresh,
}

/// A request that was answered.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) kind: Kind,
    pub(super) begin: Instant,
    pub(super) end: Instant,
    pub(super) reply: Reply,
}

/// Everything that was answered, in no order.
#[derive(Debug)]
pub(super) struct History {
    pub(super) events: Vec<Event>,
}

/// Has pages fetched, users log in and sessions refreshed at all gateways while `fault` runs.
pub(super) fn under_load(gateways: &[Gateway], fault: impl FnOnce()) -> History {
    let over = AtomicBool::new(false);
    let sessions: Vec<(String, String)> =
        gateways.iter().map(|gateway| tokens(gateway.address, "alice", PASSWORD)).collect();
    let events = thread::scope(|scope| {
        let over = &over;
        let mut clients = Vec::new();
        for (gateway, (access, refresh)) in gateways.iter().zip(&sessions) {
            clients.push(scope.spawn(move || play(over, 10, Kind::Page, || app(gateway, access))));
            clients.push(
                scope.spawn(move || play(over, 100, Kind::Login, || login(gateway.address, "bob", PASSWORD))),
            );
            let mut token = refresh.clone();
            clients.push(scope.spawn(move || {
                play(over, 40, Kind::Refresh, || {
                    let reply = post(gateway.address, "/refresh", &token);
                    if reply.status == 200 {
                        token = reply.json()["refresh_token"].as_str().unwrap().to_owned();
                    }
                    reply
                })
            }));
        }
        {
            // Also where the fault fails the test, or the clients would go on for ever.
            let _end = EndOfLoad(over);
            fault();
        }
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    History { events }
}

struct EndOfLoad<'a>(&'a AtomicBool);

impl Drop for EndOfLoad<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Asks again and again, with a pause in milliseconds, until it is over.
fn play(over: &AtomicBool, pause: u64, kind: Kind, mut ask: impl FnMut() -> Reply) -> Vec<Event> {
    let mut events = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let reply = ask();
        events.push(Event { kind, begin, end: Instant::now(), reply });
        thread::sleep(Duration::from_millis(pause));
    }
    events
}

impl History {
    /// Invariants of every outage (I5, I6, I7): requests with access tokens are not affected, and operations
    /// of the store succeed or get a 503 with `Retry-After`, soon. An outage is never reported as bad
    /// credentials.
    pub(super) fn holds(&self) -> Summary {
        let (mut summary, mut refusals) = (Summary::default(), Vec::new());
        for Event { kind, begin, end, reply } in &self.events {
            let took = *end - *begin;
            match (kind, reply.status) {
                (Kind::Page, 200) => summary.pages += 1,
                (Kind::Login | Kind::Refresh, 200) => summary.answered += 1,
                (Kind::Login | Kind::Refresh, 503) => {
                    assert_eq!(reply.code(), "store_unavailable");
                    assert!(reply.field("retry-after").is_some(), "{reply:?}");
                    summary.refused += 1;
                    refusals.push(took);
                }
                _ => panic!("{kind:?} was answered {reply:?}"),
            }
        }
        refusals.sort_unstable();
        summary.median_refusal = refusals.get(refusals.len() / 2).copied().unwrap_or_default();
        summary.longest_refusal = refusals.last().copied().unwrap_or_default();
        summary
    }

    /// The same where Redis may lose its last writes, as in a failover. If one of them was a rotation, the
    /// next refresh presents an unknown token, and the session ends: it never forks. Other sessions are not
    /// affected.
    pub(super) fn holds_but_for_lost_writes(self) -> Summary {
        let (gone, kept): (Vec<Event>, Vec<Event>) =
            self.events.into_iter().partition(|event| event.kind != Kind::Login && event.reply.status == 401);
        let codes: Vec<String> = gone.iter().map(|event| event.reply.code()).collect();
        let ended = gone.iter().zip(&codes).filter(|(event, code)| {
            event.kind == Kind::Refresh && ["token_reused", "token_revoked"].contains(&code.as_str())
        });
        assert!(
            gone.is_empty() || ended.count() > 0,
            "a page was refused in a session that goes on: {codes:?}"
        );
        let sessions_lost = codes.iter().filter(|code| *code == "token_reused").count();
        Summary { sessions_lost, ..History { events: kept }.holds() }
    }

    /// From `moment` to the first login or refresh that was begun after it and succeeded.
    pub(super) fn recovery_after(&self, moment: Instant) -> Duration {
        let successes = self
            .events
            .iter()
            .filter(|event| event.kind != Kind::Page && event.reply.status == 200 && event.begin >= moment);
        successes.map(|event| event.end - moment).min().expect("nothing has recovered")
    }
}

/// What a history comes to.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) pages: usize,
    pub(super) answered: usize,
    pub(super) refused: usize,
    pub(super) median_refusal: Duration,
    pub(super) longest_refusal: Duration,
    /// Sessions that ended because a write was lost.
    pub(super) sessions_lost: usize,
}
