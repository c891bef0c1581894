//! Load, and what it costs the system under it.

pub(crate) mod bulk;
mod disturbance;
pub(crate) mod login;
mod open_loop;
mod wrk;

use std::time::{Duration, Instant};

pub(crate) use disturbance::{BEARABLE, undisturbed};
pub(crate) use open_loop::{Latencies, OpenLoop};
pub(crate) use wrk::Wrk;

use crate::Result;
use crate::gauge;
use crate::table::{Better, Column};

/// What a closed loop of clients brought to light.
pub(crate) struct Cost {
    /// Microseconds of CPU time.
    pub(crate) cpu_per_request: f64,
    pub(crate) requests_per_second: f64,
    /// How much of the time the proxy had its core, in per cent.
    pub(crate) busy: f64,
    /// The same of the load's core, by whomever.
    pub(crate) load_core_busy: f64,
}

impl Cost {
    pub(crate) const COLUMNS: &[Column] = &[
        Column { name: "µs CPU/request", better: Better::Lower, digits: 1 },
        Column { name: "requests/s", better: Better::Higher, digits: 0 },
        Column { name: "proxy core busy %", better: Better::Higher, digits: 0 },
        Column { name: "load core busy %", better: Better::Lower, digits: 0 },
    ];

    /// In the order of [`Cost::COLUMNS`].
    pub(crate) fn values(&self) -> [f64; 4] {
        [self.cpu_per_request, self.requests_per_second, self.busy, self.load_core_busy]
    }
}

/// CPU time of a group while something runs, and how long that took.
pub(crate) fn cpu_during<T>(group: u32, run: impl FnOnce() -> Result<T>) -> Result<(T, Duration, Duration)> {
    let before = gauge::cpu_time(group)?;
    let begin = Instant::now();
    let result = run()?;
    let took = begin.elapsed();
    Ok((result, gauge::cpu_time(group)?.saturating_sub(before), took))
}
