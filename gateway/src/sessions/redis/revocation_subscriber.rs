//! What was read of each shard's log of revocations and when it was last heard, and how long the revoked sessions may be
//! judged by without hearing more.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{PushInfo, PushKind, Value};
use tokio::sync::watch;

use super::keyspace::{SHARDS, Shard};
use crate::config::Revocation;
use crate::sessions::{Revocations, SessionId, UnixMillis};

/// How long `strict` goes without a sign of life.
const MAX_REVOCATION_STALENESS: Duration = Duration::from_secs(1);

/// No revocation has to be remembered for longer, in milliseconds: the longest access token there is, and what clocks and
/// leeway add. What says otherwise was written by a clock that is wrong.
const MAX_REMEMBERED: UnixMillis = 25 * 60 * 60 * 1000;

/// How far is gone back in a log over a new connection, in milliseconds. The server may be another now, which has lost the
/// last entries and whose clock is behind: its new ones then stand before those that were read.
const REWIND_MILLIS: UnixMillis = 60_000;

/// An entry of a shard's log: its id, and which session is revoked until when.
pub(super) type LogEntry = (String, (String, UnixMillis));

/// A place in a shard's log: the id of a stream's entry, which begins with the server's time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LogPosition {
    millis: u64,
    number: u64,
}

impl LogPosition {
    fn parse(id: &str) -> Option<LogPosition> {
        let (millis, number) = id.split_once('-')?;
        Some(LogPosition { millis: millis.parse().ok()?, number: number.parse().ok()? })
    }

    /// The lowest id after it.
    pub(super) fn next(self) -> String {
        format!("{}-{}", self.millis, self.number.saturating_add(1))
    }

    /// Where reading on begins over a new connection.
    pub(super) fn rewound(self) -> LogPosition {
        LogPosition { millis: self.millis.saturating_sub(REWIND_MILLIS), number: 0 }
    }
}

/// Brings what is heard to the set of revoked sessions.
#[derive(Debug)]
pub(super) struct RevocationFreshness {
    revocations: Arc<Revocations>,
    /// For how long silence is borne, in milliseconds.
    max_silence: UnixMillis,
    channel: String,
    record_sync: [AtomicU64; SHARDS],
    /// Up to where each shard's log was read.
    positions: Mutex<[LogPosition; SHARDS]>,
    /// How many pages were read.
    pages: AtomicU64,
    /// Whether every shard has been heard once.
    whole: watch::Sender<bool>,
}

impl RevocationFreshness {
    pub(super) fn new(policy: Revocation, channel: String, now: UnixMillis) -> RevocationFreshness {
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let max_silence = match policy {
            Revocation::Bounded { max_staleness } => max_staleness.map_or(u64::MAX, millis),
            Revocation::Strict => millis(MAX_REVOCATION_STALENESS),
        };
        let revocations = Arc::new(Revocations::default());
        // Nothing was record_sync yet. Under `bounded` a gateway that starts alone begins with an empty set and the full time of silence.
        let trusted_until = if policy == Revocation::Strict { 0 } else { now.saturating_add(max_silence) };
        revocations.record_sync(now, trusted_until);
        RevocationFreshness {
            revocations,
            max_silence,
            channel,
            record_sync: std::array::from_fn(|_| AtomicU64::new(0)),
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

    /// Waits until everything that was revoked so far has been heard once.
    pub(super) async fn whole(&self) {
        // The sender is here: an error cannot be.
        let _ = self.whole.subscribe().wait_for(|whole| *whole).await;
    }

    /// Takes a message from Redis; others than those of the channel are none of ours.
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

    /// Up to where a shard's log was read.
    pub(super) fn position(&self, shard: Shard) -> LogPosition {
        self.positions()[shard]
    }

    /// A shard's log has to be read on from there.
    pub(super) fn set_position(&self, shard: Shard, position: LogPosition) {
        self.positions()[shard] = position;
    }

    /// A page of a shard's log was read.
    pub(super) fn page(&self, shard: Shard, page: &[LogEntry], now: UnixMillis) {
        let revoked = page.iter().filter_map(|(_, (session, until))| session.parse().ok().zip(Some(*until)));
        let latest = now.saturating_add(MAX_REMEMBERED);
        let counting = revoked.filter(|(_, until)| *until > now);
        self.revocations.extend(counting.map(|(session, until)| (session, until.min(latest))));
        if let Some(last) = page.last().and_then(|(id, _)| LogPosition::parse(id)) {
            self.set_position(shard, last);
        }
        self.pages.fetch_add(1, Ordering::Relaxed);
    }

    /// How many pages were read so far: whoever waits sees by it that something happens.
    pub(super) fn pages(&self) -> u64 {
        self.pages.load(Ordering::Relaxed)
    }

    fn positions(&self) -> MutexGuard<'_, [LogPosition; SHARDS]> {
        self.positions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that was revoked in these shards before `at` has been record_sync.
    pub(super) fn record_sync(&self, shards: impl IntoIterator<Item = Shard>, at: UnixMillis) {
        for shard in shards {
            // Also where the clock went back: what it said before must not keep trust alive.
            self.record_sync[shard].store(at, Ordering::Relaxed);
        }
        let oldest =
            self.record_sync.iter().map(|record_sync| record_sync.load(Ordering::Relaxed)).min().unwrap_or(0);
        // Until every shard has been heard once, what the start allowed is in force.
        if oldest > 0 {
            self.revocations.record_sync(oldest, oldest.saturating_add(self.max_silence));
            self.whole.send_replace(true);
        }
    }
}

/// `SESSION UNTIL`, as the swap script writes it.
fn parse(text: &[u8]) -> Option<(SessionId, UnixMillis)> {
    let (session, until) = std::str::from_utf8(text).ok()?.split_once(' ')?;
    Some((session.parse().ok()?, until.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn freshness(policy: Revocation) -> RevocationFreshness {
        RevocationFreshness::new(policy, "c".into(), 1_000)
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
        let entry = |id: &str, session: SessionId, until| (id.to_owned(), (session.to_string(), until));
        freshness.page(3, &[entry("70000-0", past, 999), entry("70000-7", one, u64::MAX)], 1_000);
        let position = freshness.position(3);
        assert_eq!((position.next(), position.rewound().next()), ("70000-8".into(), "10000-1".into()));
        assert_eq!(freshness.position(4).next(), "0-1");
        freshness.page(3, &[], 1_000);
        assert_eq!(freshness.position(3), position);
        assert!(freshness.revocations().is_revoked(&one) && !freshness.revocations().is_revoked(&past));
        freshness.revocations().prune_expired(1_000 + MAX_REMEMBERED);
        assert!(freshness.revocations().is_empty(), "a wrong clock's time is not for ever");
    }

    #[test]
    fn the_shard_that_was_heard_longest_ago_decides() {
        let freshness = freshness(Revocation::Strict);
        let revocations = freshness.revocations();
        assert!(!revocations.are_trusted(1_000), "nothing was record_sync yet");
        freshness.record_sync(1..SHARDS, 2_000);
        assert!(!revocations.are_trusted(2_000), "one shard is missing");
        freshness.record_sync([0], 1_500);
        assert_eq!((revocations.are_trusted(2_500), revocations.are_trusted(2_501)), (true, false));
        freshness.record_sync([0], 3_000);
        assert_eq!((revocations.are_trusted(3_000), revocations.are_trusted(3_001)), (true, false));
        assert_eq!(revocations.age(2_600), 600);
    }

    #[test]
    fn a_clock_that_goes_back_keeps_no_trust_alive() {
        let freshness = freshness(Revocation::Strict);
        freshness.record_sync(0..SHARDS, 9_000_000);
        freshness.record_sync(0..SHARDS, 2_000);
        assert!(!freshness.revocations().are_trusted(3_001));
    }

    #[test]
    fn bounded_bears_silence_as_long_as_it_was_told_to() {
        let forever = freshness(Revocation::Bounded { max_staleness: None });
        assert!(forever.revocations().are_trusted(u64::MAX));
        let a_while = freshness(Revocation::Bounded { max_staleness: Some(Duration::from_secs(5)) });
        assert!(a_while.revocations().are_trusted(6_000), "from the start on");
        assert!(!a_while.revocations().are_trusted(6_001));
        a_while.record_sync(0..SHARDS, 8_000);
        assert!(a_while.revocations().are_trusted(13_000));
    }
}
