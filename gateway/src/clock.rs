//! The clock of sessions, locks and tokens: the wall clock at process start, advanced by the monotonic
//! boot-time clock. A wall clock that jumps while the gateway runs therefore ends no session, revives no
//! token and prolongs no lock. A correction of the wall clock takes effect at the next start.

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Minimum offset of the wall clock that is logged, in seconds.
const MIN_LOGGED_OFFSET_SECS: u64 = 2;

/// The wall clock and the boot-time clock when the process first read them.
static STARTED_AT: OnceLock<(Duration, Duration)> = OnceLock::new();

/// A time, in milliseconds since 1970: the unit of sessions and locks, in memory and in stores. Arithmetic saturates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(u64);

impl UnixMillis {
    /// Later than all others.
    pub const MAX: UnixMillis = UnixMillis(u64::MAX);

    /// So many milliseconds after the beginning of 1970.
    pub const fn new(millis: u64) -> UnixMillis {
        UnixMillis(millis)
    }

    /// The same time in the unit of tokens.
    pub(crate) const fn of_seconds(seconds: UnixSeconds) -> UnixMillis {
        UnixMillis(seconds.0.saturating_mul(1000))
    }

    /// Milliseconds since 1970.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whole seconds since 1970, the unit of tokens.
    pub(crate) const fn seconds(self) -> UnixSeconds {
        UnixSeconds(self.0 / 1000)
    }

    /// A time that is so much later.
    pub fn saturating_add(self, time: Duration) -> UnixMillis {
        UnixMillis(self.0.saturating_add(millis(time)))
    }

    /// A time that is so much earlier.
    pub(crate) fn saturating_sub(self, time: Duration) -> UnixMillis {
        UnixMillis(self.0.saturating_sub(millis(time)))
    }

    /// The time from `earlier` to this one; zero where that is later.
    pub(crate) fn since(self, earlier: UnixMillis) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// RFC 3339, in UTC and whole seconds.
impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.seconds().fmt(f)
    }
}

/// A time, in seconds since 1970: the unit of tokens (RFC 7519 section 2). Arithmetic saturates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixSeconds(u64);

impl UnixSeconds {
    /// Later than all others.
    pub const MAX: UnixSeconds = UnixSeconds(u64::MAX);

    /// So many seconds after the beginning of 1970.
    pub const fn new(seconds: u64) -> UnixSeconds {
        UnixSeconds(seconds)
    }

    /// Seconds since 1970.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// A time that is so many whole seconds later.
    pub const fn saturating_add(self, time: Duration) -> UnixSeconds {
        UnixSeconds(self.0.saturating_add(time.as_secs()))
    }

    /// A time that is so many whole seconds earlier.
    pub(crate) const fn saturating_sub(self, time: Duration) -> UnixSeconds {
        UnixSeconds(self.0.saturating_sub(time.as_secs()))
    }

    /// The time from `earlier` to this one; zero where that is later.
    pub(crate) const fn since(self, earlier: UnixSeconds) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }
}

/// RFC 3339, in UTC.
impl fmt::Display for UnixSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The format ends with the year 9999.
        let seconds = self.0.min(253_402_300_799);
        humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).fmt(f)
    }
}

/// A duration in whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1000).saturating_add(duration.subsec_millis().into())
}

/// The time since 1970.
pub(crate) fn since_1970() -> Duration {
    let (wall, steady) = *STARTED_AT.get_or_init(|| (wall(), steady()));
    wall + self::steady().saturating_sub(steady)
}

/// The current time.
pub(crate) fn now_millis() -> UnixMillis {
    UnixMillis(millis(since_1970()))
}

/// The current time in the unit of tokens.
pub(crate) fn now_seconds() -> UnixSeconds {
    UnixSeconds(since_1970().as_secs())
}

/// The offset of the wall clock in seconds, and whether it is ahead, if it is large enough to be logged.
pub(crate) fn wall_clock_offset() -> Option<(u64, bool)> {
    let (wall, clock) = (wall(), since_1970());
    let offset = wall.abs_diff(clock).as_secs();
    (offset >= MIN_LOGGED_OFFSET_SECS).then_some((offset, wall > clock))
}

fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A monotonic clock that includes suspend (CLOCK_BOOTTIME).
#[cfg(target_os = "linux")]
fn steady() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), nanos)
}

#[cfg(not(target_os = "linux"))]
fn steady() -> Duration {
    static ORIGIN: OnceLock<std::time::Instant> = OnceLock::new();
    ORIGIN.get_or_init(std::time::Instant::now).elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_print_as_rfc_3339_and_arithmetic_saturates() {
        let at = UnixMillis::new(1_790_000_000_999);
        assert_eq!(at.to_string(), "2026-09-21T14:13:20Z");
        assert_eq!((at.seconds().to_string(), at.seconds().get()), (at.to_string(), 1_790_000_000));
        assert_eq!(UnixMillis::MAX.to_string(), "9999-12-31T23:59:59Z");
        assert_eq!(at.saturating_add(Duration::MAX), UnixMillis::MAX);
        assert_eq!(at.saturating_sub(Duration::MAX), UnixMillis::default());
        assert_eq!((at.since(UnixMillis::MAX), at.since(at)), (Duration::ZERO, Duration::ZERO));
        assert_eq!(serde_json::to_string(&at).ok().as_deref(), Some("1790000000999"));
    }

    #[test]
    fn it_begins_with_the_wall_clock_and_goes_on_steadily() {
        let first = since_1970();
        assert!(first.abs_diff(wall()) < Duration::from_secs(1));
        std::thread::sleep(Duration::from_millis(20));
        let passed = since_1970() - first;
        assert!(passed >= Duration::from_millis(20) && passed < Duration::from_secs(5), "{passed:?}");
        assert_eq!(wall_clock_offset(), None);
    }
}
