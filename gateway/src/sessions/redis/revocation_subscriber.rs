//! Revocation subscriber: the position in each shard's revocation log, the time of its last sync, and for how
//! long the revocation set may be trusted without another one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{PushInfo, PushKind, Value};
use tokio::sync::watch;

use super::keyspace::{SHARDS, Shard};
use crate::config::Revocation;
use crate::sessions::{Revocations, SessionId, UnixMillis};

/// Maximum staleness of the revocation set in `strict` mode.
const MAX_REVOCATION_STALENESS: Duration = Duration::from_secs(1);

/// Maximum time that a revocation is kept: the longest access token lifetime plus clock skew
/// and leeway. Longer times were written by a wrong clock.
const MAX_REMEMBERED: Duration = Duration::from_secs(25 * 60 * 60);

/// How far a log is read again over a new connection. The server may be a promoted replica,
/// which has lost the last entries and whose clock is behind: its new entries then sort before those that
/// were read.
const REWIND: Duration = Duration::from_secs(60);

/// A position in a shard's log: the id of a stream entry, which begins with the server's time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LogPosition {
    at: UnixMillis,
    number: u64,
}

impl LogPosition {
    fn parse(id: &str) -> Option<LogPosition> {
        let (millis, number) = id.split_once('-')?;
        Some(LogPosition { at: UnixMillis::new(millis.parse().ok()?), number: number.parse().ok()? })
    }

    /// The lowest id after it.
    pub(super) fn next(self) -> String {
        format!("{}-{}", self.at.get(), self.number.saturating_add(1))
    }

    /// The position from which reading starts over a new connection.
    pub(super) fn rewound(self) -> LogPosition {
        LogPosition { at: self.at.saturating_sub(REWIND), number: 0 }
    }
}

/// Feeds the revocation set, and tracks its freshness.
#[derive(Debug)]
pub(super) struct RevocationFreshness {
    revocations: Arc<Revocations>,
    /// Maximum staleness.
    max_silence: Duration,
    channel: String,
    synced_at: [AtomicU64; SHARDS],
    /// Read position in each shard's log.
    positions: Mutex<[LogPosition; SHARDS]>,
    /// Number of pages read.
    pages: AtomicU64,
    /// Whether every shard has been synced once.
    whole: watch::Sender<bool>,
}

impl RevocationFreshness {
    pub(super) fn new(policy: Revocation, channel: String, now: UnixMillis) -> RevocationFreshness {
        let max_silence = match policy {
            Revocation::Bounded { max_staleness } => max_staleness.unwrap_or(Duration::MAX),
            Revocation::Strict => MAX_REVOCATION_STALENESS,
        };
        let revocations = Arc::new(Revocations::default());
        // No shard is synced yet. Under `bounded` a gateway that starts alone begins with an empty set and
        // the full staleness allowance.
        let is_strict = policy == Revocation::Strict;
        let trusted_until = if is_strict { UnixMillis::default() } else { now.saturating_add(max_silence) };
        revocations.record_sync(now, trusted_until);
        RevocationFreshness {
            revocations,
            max_silence,
            channel,
            synced_at: std::array::from_fn(|_| AtomicU64::new(0)),
            positions: Mutex::new([LogPosition::default(); SHARDS]),
            pages: AtomicU64::new(0),
            whole: watch::Sender::new(false),
        }
    }

    pub(super) fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    pub(super) fn channel(&self) -> &str {
        &self.channel
    }

    /// Waits until all existing revocations have been read once.
    pub(super) async fn whole(&self) {
        // The sender lives in `self`: no error can occur.
        let _ = self.whole.subscribe().wait_for(|whole| *whole).await;
    }

    /// Handles a message from Redis; those of other channels are ignored.
    pub(super) fn message(&self, message: &PushInfo) {
        if message.kind != PushKind::Message {
            return;
        }
        let [Value::BulkString(channel), Value::BulkString(text)] = &message.data[..] else { return };
        if channel == self.channel.as_bytes()
            && let Some((session, until)) = parse(text)
        {
            self.revocations.insert(session, until);
        }
    }

    /// The read position in a shard's log.
    pub(super) fn position(&self, shard: Shard) -> LogPosition {
        self.positions()[shard]
    }

    /// Sets the read position in a shard's log.
    pub(super) fn set_position(&self, shard: Shard, position: LogPosition) {
        self.positions()[shard] = position;
    }

    /// Handles a page of a shard's log, as XRANGE returns it, and returns how many entries were read.
    pub(super) fn page(&self, shard: Shard, page: &Value, now: UnixMillis) -> usize {
        self.pages.fetch_add(1, Ordering::Relaxed);
        let Value::Array(entries) = page else { return 0 };
        let latest = now.saturating_add(MAX_REMEMBERED);
        let revoked = entries.iter().filter_map(|entry| parse_entry(entry)?.1);
        let counting = revoked.filter(|(_, until)| *until > now);
        self.revocations.extend(counting.map(|(session, until)| (session, until.min(latest))));
        match entries.last().and_then(parse_entry) {
            Some((last, _)) => {
                self.set_position(shard, last);
                entries.len()
            }
            None => 0,
        }
    }

    /// The number of pages read so far, as a sign of progress.
    pub(super) fn pages(&self) -> u64 {
        self.pages.load(Ordering::Relaxed)
    }

    fn positions(&self) -> MutexGuard<'_, [LogPosition; SHARDS]> {
        self.positions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that all revocations of these shards before `at` are known.
    pub(super) fn record_sync(&self, shards: impl IntoIterator<Item = Shard>, at: UnixMillis) {
        for shard in shards {
            // Also where the clock went back: an earlier value must not prolong the trust.
            self.synced_at[shard].store(at.get(), Ordering::Relaxed);
        }
        let oldest = self.synced_at.iter().map(|at| at.load(Ordering::Relaxed)).min().unwrap_or(0);
        // Until every shard has been synced once, the allowance of the start applies.
        if oldest > 0 {
            let oldest = UnixMillis::new(oldest);
            self.revocations.record_sync(oldest, oldest.saturating_add(self.max_silence));
            self.whole.send_replace(true);
        }
    }
}

/// An entry of a shard's log: its position, and a session with the end of its revocation. There may be
/// millions, so nothing is allocated.
fn parse_entry(entry: &Value) -> Option<(LogPosition, Option<(SessionId, UnixMillis)>)> {
    let Value::Array(entry) = entry else { return None };
    let [Value::BulkString(id), Value::Array(fields)] = &entry[..] else { return None };
    let revoked = match &fields[..] {
        [Value::BulkString(session), Value::BulkString(until), ..] => text(session).zip(text(until)),
        _ => None,
    };
    Some((LogPosition::parse(text(id)?)?, revoked.and_then(parse_revoked)))
}

fn parse_revoked((session, until): (&str, &str)) -> Option<(SessionId, UnixMillis)> {
    Some((session.parse().ok()?, UnixMillis::new(until.parse().ok()?)))
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// `SESSION UNTIL`, as the swap script writes it.
fn parse(text: &[u8]) -> Option<(SessionId, UnixMillis)> {
    parse_revoked(self::text(text)?.split_once(' ')?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn freshness(policy: Revocation) -> RevocationFreshness {
        RevocationFreshness::new(policy, "c".into(), UnixMillis::new(1_000))
    }

    fn message(channel: &str, text: &str) -> PushInfo {
        let data = [channel, text].map(|text| Value::BulkString(text.as_bytes().to_vec()));
        PushInfo { kind: PushKind::Message, data: data.into() }
    }

    #[test]
    fn messages_of_the_channel_revoke_and_others_do_nothing() {
        let freshness = freshness(Revocation::Strict);
        let (one, two) = (SessionId::random(), SessionId::random());
        freshness.message(&message("c", &format!("{one} 5000")));
        freshness.message(&message("other", &format!("{two} 5000")));
        for rubbish in ["", " ", "x 1", &format!("{two} x"), &format!("{two}")] {
            freshness.message(&message("c", rubbish));
        }
        assert!(freshness.revocations().is_revoked(&one));
        assert!(!freshness.revocations().is_revoked(&two));
    }

    #[test]
    fn a_log_is_read_on_from_the_last_entry_and_over_a_new_connection_from_a_minute_before() {
        let freshness = freshness(Revocation::Strict);
        let (one, past) = (SessionId::random(), SessionId::random());
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let entry = |id: &str, session: &str, until: u64| {
            Value::Array(vec![text(id), Value::Array(vec![text(session), text(&until.to_string())])])
        };
        let page = Value::Array(vec![
            entry("70000-0", &past.to_string(), 999),
            entry("70000-7", &one.to_string(), u64::MAX),
            entry("70000-8", "rubbish", u64::MAX),
        ]);
        assert_eq!(freshness.page(3, &page, UnixMillis::new(1_000)), 3);
        let position = freshness.position(3);
        assert_eq!((position.next(), position.rewound().next()), ("70000-9".into(), "10000-1".into()));
        assert_eq!(freshness.position(4).next(), "0-1");
        for nothing in [Value::Array(Vec::new()), Value::Nil, Value::Array(vec![Value::Nil])] {
            assert_eq!(
                freshness.page(3, &nothing, UnixMillis::new(1_000)),
                0,
                "a page without an entry must not be read again"
            );
        }
        assert_eq!(freshness.position(3), position);
        assert!(freshness.revocations().is_revoked(&one) && !freshness.revocations().is_revoked(&past));
        freshness.revocations().prune_expired(UnixMillis::new(1_000).saturating_add(MAX_REMEMBERED));
        assert!(freshness.revocations().is_empty(), "a wrong clock's time is not for ever");
    }

    #[test]
    fn the_shard_with_the_oldest_sync_decides() {
        let freshness = freshness(Revocation::Strict);
        let revocations = freshness.revocations();
        assert!(!revocations.are_trusted(UnixMillis::new(1_000)), "nothing is synced yet");
        freshness.record_sync(1..SHARDS, UnixMillis::new(2_000));
        assert!(!revocations.are_trusted(UnixMillis::new(2_000)), "one shard is missing");
        freshness.record_sync([0], UnixMillis::new(1_500));
        assert_eq!(
            (
                revocations.are_trusted(UnixMillis::new(2_500)),
                revocations.are_trusted(UnixMillis::new(2_501))
            ),
            (true, false)
        );
        freshness.record_sync([0], UnixMillis::new(3_000));
        assert_eq!(
            (
                revocations.are_trusted(UnixMillis::new(3_000)),
                revocations.are_trusted(UnixMillis::new(3_001))
            ),
            (true, false)
        );
        assert_eq!(revocations.age(UnixMillis::new(2_600)), Duration::from_millis(600));
    }

    #[test]
    fn a_clock_that_goes_back_keeps_no_trust_alive() {
        let freshness = freshness(Revocation::Strict);
        freshness.record_sync(0..SHARDS, UnixMillis::new(9_000_000));
        freshness.record_sync(0..SHARDS, UnixMillis::new(2_000));
        assert!(!freshness.revocations().are_trusted(UnixMillis::new(3_001)));
    }

    #[test]
    fn bounded_is_trusted_up_to_its_maximum_staleness() {
        let forever = freshness(Revocation::Bounded { max_staleness: None });
        assert!(forever.revocations().are_trusted(UnixMillis::MAX));
        let a_while = freshness(Revocation::Bounded { max_staleness: Some(Duration::from_secs(5)) });
        assert!(a_while.revocations().are_trusted(UnixMillis::new(6_000)), "from the start on");
        assert!(!a_while.revocations().are_trusted(UnixMillis::new(6_001)));
        a_while.record_sync(0..SHARDS, UnixMillis::new(8_000));
        assert!(a_while.revocations().are_trusted(UnixMillis::new(13_000)));
    }
}
