//! The one clock of sessions, locks and tokens: the system's time when the process began, and from then on by a clock that
//! nobody sets. A wall clock that jumps while the gateway runs therefore ends no session, revives no token and prolongs no
//! lock. A correction of the wall clock comes into force with the next start, for which a restart need not interrupt anybody.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How far the wall clock may be off before it is told, in seconds.
const MIN_LOGGED_OFFSET_SECS: u64 = 2;

/// What the wall clock and the clock that nobody sets said when the process first asked.
static STARTED_AT: OnceLock<(Duration, Duration)> = OnceLock::new();

/// The time since 1970.
pub(crate) fn since_1970() -> Duration {
    let (wall, steady) = *STARTED_AT.get_or_init(|| (wall(), steady()));
    wall + self::steady().saturating_sub(steady)
}

/// Milliseconds since 1970.
pub(crate) fn now_millis() -> u64 {
    u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX)
}

/// By how many seconds the wall clock is off, and whether it is ahead, where that is worth telling.
pub(crate) fn wall_clock_offset() -> Option<(u64, bool)> {
    let (wall, clock) = (wall(), since_1970());
    let offset = wall.abs_diff(clock).as_secs();
    (offset >= MIN_LOGGED_OFFSET_SECS).then_some((offset, wall > clock))
}

fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A clock that goes on while the machine sleeps and that nobody sets.
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
    fn it_begins_with_the_wall_clock_and_goes_on_steadily() {
        let first = since_1970();
        assert!(first.abs_diff(wall()) < Duration::from_secs(1));
        std::thread::sleep(Duration::from_millis(20));
        let passed = since_1970() - first;
        assert!(passed >= Duration::from_millis(20) && passed < Duration::from_secs(5), "{passed:?}");
        assert_eq!(wall_clock_offset(), None);
    }
}
