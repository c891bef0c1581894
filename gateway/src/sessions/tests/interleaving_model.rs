//! Interleaving model of the engine: requests of tabs, thieves and logouts through two instances are
//! interleaved at every read and write, responses and requests are lost, instances are killed and restarted.
//! In any order, acknowledged results hold.

#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::new_session;
use super::rotation_model::cases;
use crate::config::Rotation;
use crate::sessions::store::{Key, Put, PutOutcome, Space, StoreFuture, Versioned};
use crate::sessions::*;

const GRACE: u64 = 100;
const ACTIVE: Account = Account::Active { credential: [7; 16] };

/// The fate of the next changes; by default they are made and acknowledged.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Answered,
    /// Made, but the response is lost.
    AnswerLost,
    /// Never made.
    RequestLost,
}

/// A store that yields twice: before an operation and before its result. The poller determines the order.
struct Stage {
    records: MemoryStore,
    fates: Mutex<Vec<Fate>>,
}

/// Ready when it is polled for the second time.
struct Pause(bool);

impl Future for Pause {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Store for Stage {
    fn get<'a>(&'a self, key: &'a Key) -> StoreFuture<'a, Option<Versioned>> {
        Box::pin(async move {
            Pause(false).await;
            let found = self.records.get(key).await;
            Pause(false).await;
            found
        })
    }

    fn put_if(&self, put: Put) -> StoreFuture<'_, PutOutcome> {
        Box::pin(async move {
            Pause(false).await;
            let fate = self.fates.lock().unwrap().pop().unwrap_or(Fate::Answered);
            let lost = || Err(StoreError::Unavailable("lost".into()));
            if fate == Fate::RequestLost {
                return lost();
            }
            let outcome = self.records.put_if(put).await;
            Pause(false).await;
            if fate == Fate::AnswerLost { lost() } else { outcome }
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

#[derive(Debug, Clone, Copy)]
enum Step {
    /// A tab refreshes with what the tabs' common storage holds.
    Tab {
        instance: usize,
    },
    /// A thief presents one of the tokens issued so far, counted from the newest.
    Thief {
        instance: usize,
        back: usize,
    },
    Logout {
        instance: usize,
    },
    /// One of the requests in flight makes one step.
    Go {
        which: usize,
    },
    /// All requests in flight run to their end.
    Finish,
    Wait(u64),
    /// The instance is killed with its requests, and restarted.
    Kill {
        instance: usize,
    },
    Plan(Fate),
}

fn steps(thieves: u32, logouts: u32) -> impl Strategy<Value = Vec<Step>> {
    let instance = || 0..2_usize;
    let fate = prop_oneof![Just(Fate::AnswerLost), Just(Fate::RequestLost)];
    let step = prop_oneof![
        12 => instance().prop_map(|instance| Step::Tab { instance }),
        thieves => (instance(), 0..4_usize).prop_map(|(instance, back)| Step::Thief { instance, back }),
        logouts => instance().prop_map(|instance| Step::Logout { instance }),
        60 => (0..8_usize).prop_map(|which| Step::Go { which }),
        4 => Just(Step::Finish),
        4 => (1..30_u64).prop_map(Step::Wait),
        1 => (90..300_u64).prop_map(Step::Wait),
        2 => instance().prop_map(|instance| Step::Kill { instance }),
        4 => fate.prop_map(Step::Plan),
    ];
    proptest::collection::vec(step, 1..200)
}

enum Answer {
    Refresh(Result<RefreshResult, RefreshError>),
    Logout(Result<(), StoreError>),
}

/// A request in flight.
struct Request {
    instance: usize,
    began: u64,
    /// The token it presents, and whether a tab sent it; `None` for a logout.
    presents: Option<(TokenId, bool)>,
    /// Whether the session was known to have ended, or the token to be dead, before it began.
    refused_for_sure: bool,
    future: Pin<Box<dyn Future<Output = Answer>>>,
}

/// The acknowledged results, and what follows from them.
struct World {
    stage: Arc<Stage>,
    policy: Policy,
    instances: Vec<Sessions>,
    session: SessionId,
    under_way: Vec<Request>,
    now: u64,
    /// Every token that was issued, in the order of the first responses.
    line: Vec<TokenId>,
    successors: HashMap<TokenId, TokenId>,
    /// When each token was first presented, as far as responses show.
    accepted_at: HashMap<TokenId, u64>,
    stored: TokenId,
    /// A response reported that it has ended.
    over: bool,
    /// An event may have ended it.
    endangered: bool,
    overlapping: usize,
}

fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    let mut future = Box::pin(future);
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return done;
        }
    }
}

impl World {
    fn new(mode: Rotation) -> World {
        let policy = Policy {
            rotation: RotationPolicy { mode, grace: Duration::from_millis(GRACE), idle_ttl: None },
            session_ttl: Duration::from_millis(1_000_000_000),
            access_ttl: Duration::from_millis(60_000),
            lockout: LockoutPolicy {
                max_failures: 5,
                window: Duration::from_millis(1),
                duration: Duration::from_millis(1),
                escalation: 1,
                max_duration: Duration::from_millis(1),
            },
            throttle: None,
            session_limit: None,
        };
        let stage = Arc::new(Stage { records: MemoryStore::new(), fates: Mutex::default() });
        let start = || {
            now_or_never(Sessions::start(Arc::clone(&stage) as Arc<dyn Store>, policy, UnixMillis::new(0)))
                .unwrap()
        };
        let instances = vec![start(), start()];
        let opened = now_or_never(instances[0].open(new_session("1"), UnixMillis::new(0))).unwrap();
        World {
            stage,
            policy,
            instances,
            session: opened.session,
            under_way: Vec::new(),
            now: 1,
            line: vec![opened.refresh_token],
            successors: HashMap::new(),
            accepted_at: HashMap::new(),
            stored: opened.refresh_token,
            over: false,
            endangered: false,
            overlapping: 0,
        }
    }

    /// Whether the acknowledged results imply that the token is dead.
    fn is_dead(&self, token: TokenId) -> bool {
        let used = self.accepted_at.get(&token).copied();
        let others = self.accepted_at.iter().filter(|(token, _)| **token != self.line[0]);
        let adopted = others.map(|(_, at)| *at).min();
        let killed_at = match self.policy.rotation.mode {
            Rotation::OnUse => used.zip(adopted).map(|(used, adopted)| used.max(adopted)),
            Rotation::Strict => used,
            Rotation::Off => None,
        };
        killed_at.is_some_and(|at| self.now - at >= GRACE)
    }

    fn begin_refresh(&mut self, instance: usize, token: TokenId, tab: bool) {
        let (sessions, session) = (self.instances[instance].clone(), self.session);
        let now = UnixMillis::new(self.now);
        let future = async move {
            Answer::Refresh(sessions.refresh(session, token, None, |_| ACTIVE, None, now).await)
        };
        let refused_for_sure = self.over || self.is_dead(token);
        self.endangered |= !tab;
        self.overlapping += usize::from(!self.under_way.is_empty());
        let presents = Some((token, tab));
        let began = self.now;
        self.under_way.push(Request {
            instance,
            began,
            presents,
            refused_for_sure,
            future: Box::pin(future),
        });
    }

    fn begin_logout(&mut self, instance: usize) {
        let (sessions, session) = (self.instances[instance].clone(), self.session);
        let now = UnixMillis::new(self.now);
        let future =
            async move { Answer::Logout(sessions.revoke(session, RevocationReason::Logout, now).await) };
        self.endangered = true;
        let (presents, refused_for_sure) = (None, false);
        let began = self.now;
        self.under_way.push(Request {
            instance,
            began,
            presents,
            refused_for_sure,
            future: Box::pin(future),
        });
    }

    /// One step of one request.
    fn go(&mut self, which: usize) {
        if self.under_way.is_empty() {
            return;
        }
        let which = which % self.under_way.len();
        let request = &mut self.under_way[which];
        if let Poll::Ready(answer) = request.future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            let request = self.under_way.swap_remove(which);
            self.answered(&request, answer);
        }
    }

    fn answered(&mut self, request: &Request, answer: Answer) {
        match (answer, request.presents) {
            (Answer::Refresh(Ok(refreshed)), Some((presented, tab))) => {
                assert!(
                    !request.refused_for_sure,
                    "a dead token, or one of a session that is over, was accepted"
                );
                self.accepted_at.entry(presented).or_insert(self.now);
                let Some(RotatedToken { id: successor, .. }) = refreshed.successor else { return };
                if successor == presented {
                    return; // The line is full.
                }
                let known = *self.successors.entry(presented).or_insert(successor);
                assert_eq!(known, successor, "two successors of one token");
                if !self.line.contains(&successor) {
                    self.line.push(successor);
                }
                let place = |token| self.line.iter().position(|&id| id == token);
                if tab && place(successor) > place(self.stored) {
                    self.stored = successor;
                }
            }
            (Answer::Refresh(Err(RefreshError::Store(_))), _) => {}
            (Answer::Refresh(Err(error)), Some((_, tab))) => {
                assert!(self.endangered || !tab, "an honest tab was refused: {error}");
                assert!(matches!(error, RefreshError::Reused | RefreshError::Revoked), "{error}");
                let here = self.instances[request.instance].revocations();
                assert!(here.is_revoked(&self.session), "its access tokens would pass here");
                self.over = true;
            }
            (Answer::Logout(done), _) => self.over |= done.is_ok(),
            (Answer::Refresh(_), None) => unreachable!("a logout does not refresh"),
        }
    }

    fn finish(&mut self) {
        while !self.under_way.is_empty() {
            self.go(0);
        }
    }

    /// Time passes. A request, its response and the next request take less than the grace period, which
    /// exists for them.
    fn wait(&mut self, millis: u64) {
        let then = self.now + millis;
        while let Some(slow) = self.under_way.iter().position(|request| then >= request.began + GRACE / 2) {
            self.go(slow);
        }
        self.now = then;
    }

    fn kill(&mut self, instance: usize) {
        self.under_way.retain(|request| request.instance != instance);
        let start = Sessions::start(
            Arc::clone(&self.stage) as Arc<dyn Store>,
            self.policy,
            UnixMillis::new(self.now),
        );
        self.instances[instance] = now_or_never(start).unwrap();
        if self.over {
            let known = self.instances[instance].revocations().is_revoked(&self.session);
            assert!(known, "a restart has forgotten that the session is over");
        }
    }

    fn play(&mut self, steps: &[Step], faults: bool) {
        // With rotation, a lost response must be retried within the grace period.
        self.endangered = faults && self.policy.rotation.mode != Rotation::Off;
        for &step in steps {
            match step {
                Step::Tab { instance } => self.begin_refresh(instance, self.stored, true),
                Step::Thief { instance, back } => {
                    let place = self.line.len() - 1 - back.min(self.line.len() - 1);
                    self.begin_refresh(instance, self.line[place], false);
                }
                Step::Logout { instance } => self.begin_logout(instance),
                Step::Go { which } => self.go(which),
                Step::Finish => self.finish(),
                Step::Wait(millis) => self.wait(millis),
                Step::Kill { instance } if faults => self.kill(instance),
                Step::Plan(fate) if faults => self.stage.fates.lock().unwrap().push(fate),
                Step::Kill { .. } | Step::Plan(_) => {}
            }
        }
        self.finish();
        self.end_with_a_thief();
    }

    /// In any state, presenting a dead token ends the session.
    fn end_with_a_thief(&mut self) {
        if self.policy.rotation.mode == Rotation::Off {
            return;
        }
        self.stage.fates.lock().unwrap().clear();
        self.now += GRACE;
        let first = self.line[0];
        for token in [self.stored, self.line[self.line.len() - 1]] {
            self.begin_refresh(0, token, false);
            self.finish();
        }
        self.now += GRACE;
        if self.is_dead(first) || self.over {
            for (instance, token) in [(1, first), (0, self.stored), (1, self.line[self.line.len() - 1])] {
                self.begin_refresh(instance, token, false);
                self.under_way[0].refused_for_sure = true;
                self.finish();
            }
            assert!(self.over);
        }
    }
}

/// Runs random histories in these modes and prints how many requests raced another one in them.
fn play(name: &str, steps: impl Strategy<Value = Vec<Step>>, modes: &[(Rotation, bool)]) {
    let config = ProptestConfig { cases: cases(300), failure_persistence: None, ..ProptestConfig::default() };
    let (histories, races) = (Cell::new(0), Cell::new(0));
    let played = TestRunner::new(config).run(&steps, |steps| {
        for &(mode, faults) in modes {
            let mut world = World::new(mode);
            world.play(&steps, faults);
            histories.set(histories.get() + 1);
            races.set(races.get() + world.overlapping);
        }
        Ok(())
    });
    played.unwrap_or_else(|failed| panic!("{failed}"));
    println!("{name}: {} histories with {} races, no violation", histories.get(), races.get());
}

#[test]
fn honest_tabs_survive_lost_responses_and_killed_instances() {
    // With rotation, a lost response must be retried within the grace period, so none is lost there.
    let modes = [(Rotation::OnUse, false), (Rotation::Off, true), (Rotation::Strict, false)];
    play("honest tabs", steps(0, 0), &modes);
}

#[test]
fn thieves_logouts_losses_and_kills_leave_one_line_and_an_end_that_is_final() {
    let modes = [Rotation::OnUse, Rotation::Strict, Rotation::Off].map(|mode| (mode, true));
    play("thieves and logouts", steps(4, 1), &modes);
}
