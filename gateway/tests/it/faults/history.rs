//! The recorded history of requests and responses, and its invariants.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::Instant;

use crate::fixture::Reply;

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Asked {
    /// A login with the right password.
    Login,
    /// A login with a wrong one, for this name.
    Guess(String),
    /// A refresh of a session with a token, by their ids.
    Refresh { session: String, token: String },
    /// A logout from a session.
    Logout(String),
    /// A request for the upstream, with an access token of this session.
    Proxied(String),
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Done {
        /// The id of the successor, of a refresh.
        successor: Option<String>,
    },
    Refused {
        status: u16,
        code: String,
        retry_after: bool,
    },
    /// No whole answer.
    Nothing,
}

impl Answer {
    pub(super) fn of(reply: Option<&Reply>, successor: Option<String>) -> Answer {
        match reply {
            None => Answer::Nothing,
            Some(reply) if reply.status < 300 => Answer::Done { successor },
            Some(reply) => Answer::Refused {
                status: reply.status,
                code: reply.code(),
                retry_after: reply.field("retry-after").is_some(),
            },
        }
    }

    fn is_done(&self) -> bool {
        matches!(self, Answer::Done { .. })
    }

    fn is_code(&self, expected: &str) -> bool {
        matches!(self, Answer::Refused { code, .. } if code == expected)
    }

    /// Whether the response reports an outage.
    fn is_outage(&self) -> bool {
        self.is_code("store_unavailable")
            && matches!(self, Answer::Refused { status: 503, retry_after: true, .. })
    }
}

#[derive(Debug, Clone)]
struct Entry {
    began: Instant,
    ended: Instant,
    asked: Asked,
    answer: Answer,
}

/// Everything that was asked, in the order of the answers.
#[derive(Debug, Default)]
pub(super) struct History {
    entries: Mutex<Vec<Entry>>,
}

/// What may happen in a scenario besides good answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowed {
    /// The process is killed: requests may go without an answer.
    pub(super) no_answer: bool,
    /// The store fails: 503 where it is needed.
    pub(super) outage: bool,
    /// Guesses for one name that may be looked at.
    pub(super) guesses: usize,
}

impl History {
    pub(super) fn record(&self, began: Instant, asked: Asked, answer: Answer) {
        self.entries.lock().unwrap().push(Entry { began, ended: Instant::now(), asked, answer });
    }

    /// How many answers there are of which `of` is true.
    pub(super) fn count(&self, of: impl Fn(&Asked, &Answer) -> bool) -> usize {
        self.entries.lock().unwrap().iter().filter(|entry| of(&entry.asked, &entry.answer)).count()
    }

    pub(super) fn answers(&self) -> usize {
        self.count(|_, answer| *answer != Answer::Nothing)
    }

    /// How many requests the outage has refused.
    pub(super) fn outages(&self) -> usize {
        self.count(|_, answer| answer.is_outage())
    }

    /// Checks the standing invariants; fails with the first entry that breaks one.
    pub(super) fn check(&self, allowed: Allowed) {
        let entries = self.entries.lock().unwrap();
        self::one_successor(&entries);
        self::the_end_is_final(&entries);
        self::guesses_stay_within(&entries, allowed.guesses);
        let ended: HashSet<&str> =
            entries.iter().filter_map(|entry| ending(entry).map(|(sid, _)| sid)).collect();
        for entry in entries.iter() {
            let fine = match (&entry.asked, &entry.answer) {
                (_, Answer::Done { .. }) => true,
                (_, Answer::Nothing) => allowed.no_answer,
                // I6: access tokens are checked without the store.
                (Asked::Proxied(session), answer) => ended.contains(session.as_str()) && is_401(answer),
                // I5: an outage is an outage.
                (_, answer) if answer.is_outage() => allowed.outage,
                (Asked::Refresh { session, .. }, answer) => {
                    ended.contains(session.as_str()) && is_401(answer)
                }
                (Asked::Guess(_), answer) => {
                    // Attempts that were not settled in an outage keep others waiting for some seconds.
                    let waits = allowed.outage && answer.is_code("overloaded");
                    waits || answer.is_code("invalid_credentials") || answer.is_code("account_locked")
                }
                (Asked::Login | Asked::Logout(_), _) => false,
            };
            assert!(fine, "{entry:?}");
        }
    }
}

fn is_401(answer: &Answer) -> bool {
    matches!(answer, Answer::Refused { status: 401, .. })
}

/// The session that an answer says is over, and from when on.
fn ending(entry: &Entry) -> Option<(&str, Instant)> {
    let over = match &entry.asked {
        Asked::Logout(session) if entry.answer.is_done() => session,
        Asked::Refresh { session, .. } if is_401(&entry.answer) => session,
        _ => return None,
    };
    Some((over, entry.ended))
}

/// I1
fn one_successor(entries: &[Entry]) {
    let mut chosen: HashMap<&str, &str> = HashMap::new();
    for entry in entries {
        if let (Asked::Refresh { token, .. }, Answer::Done { successor: Some(successor) }) =
            (&entry.asked, &entry.answer)
        {
            let first = *chosen.entry(token).or_insert(successor);
            assert_eq!(first, successor, "two successors of {token}");
        }
    }
}

/// I2 and I3: nothing that began after the end of a session was acknowledged succeeds, on one instance
/// without any delay.
fn the_end_is_final(entries: &[Entry]) {
    let mut over: HashMap<&str, Instant> = HashMap::new();
    for (session, at) in entries.iter().filter_map(ending) {
        over.entry(session).and_modify(|known| *known = at.min(*known)).or_insert(at);
    }
    for entry in entries {
        let (Asked::Proxied(session) | Asked::Refresh { session, .. }) = &entry.asked else { continue };
        if let Some(at) = over.get(session.as_str()) {
            assert!(
                entry.began <= *at || !entry.answer.is_done(),
                "a session that was over went on: {entry:?}"
            );
        }
    }
}

/// I4
fn guesses_stay_within(entries: &[Entry], limit: usize) {
    let mut looked_at: HashMap<&str, usize> = HashMap::new();
    for entry in entries {
        if let Asked::Guess(name) = &entry.asked
            && entry.answer.is_code("invalid_credentials")
        {
            *looked_at.entry(name).or_default() += 1;
        }
    }
    let most = looked_at.values().max().copied().unwrap_or(0);
    assert!(most <= limit, "{most} guesses for one name were looked at");
}
