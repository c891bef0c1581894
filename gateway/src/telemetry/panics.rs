//! Panic hook: panics are logged with the other logs, and counted.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{PanicHookInfo, set_hook};
use std::sync::atomic::{AtomicU64, Ordering};

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Logs all panics of this process as errors, with a backtrace if `RUST_BACKTRACE` is set.
pub fn log_panics() {
    set_hook(Box::new(log_panic));
}

/// The number of panics since the start.
pub(super) fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    PANICS.fetch_add(1, Ordering::Relaxed);
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("-");
    let what = panic.payload_as_str().unwrap_or("-");
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        tracing::error!(location, thread, %backtrace, "panicked: {what}; please report this");
    } else {
        tracing::error!(
            location,
            thread,
            "panicked: {what}; please report this, with RUST_BACKTRACE=1 if you can"
        );
    }
}
