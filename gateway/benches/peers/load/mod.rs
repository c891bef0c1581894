//! Load generators, and the cost for the system under test.

pub(crate) mod bulk;
mod disturbance;
mod h2load;
pub(crate) mod login;
mod open_loop;
mod wrk;

use std::process::Command;
use std::time::{Duration, Instant};

pub(crate) use disturbance::{BEARABLE, undisturbed};
pub(crate) use h2load::H2Load;
pub(crate) use open_loop::{Latencies, OpenLoop};
pub(crate) use wrk::Wrk;

use crate::Result;
use crate::gauge;
use crate::lab::{Lab, Running};
use crate::machine::LOAD_CORE;
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

/// What a load generator says that it did.
struct Tally {
    requests: f64,
    per_second: f64,
}

/// Runs a load generator against a system and reads what it cost; `read` understands what it printed.
fn closed_loop(
    lab: &Lab,
    running: &Running,
    command: impl Fn() -> Result<Command>,
    read: impl Fn(&str) -> Result<Tally>,
) -> Result<Cost> {
    undisturbed(lab, Some(running), || {
        let mut command = command()?;
        let load_core_before = gauge::busy_time(LOAD_CORE)?;
        let (output, cpu, took) = cpu_during(running.group(), || Ok(command.output()?))?;
        let load_core_busy = gauge::busy_time(LOAD_CORE)?.saturating_sub(load_core_before);
        let said = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            return Err(format!("{command:?}: {said}{}", String::from_utf8_lossy(&output.stderr)).into());
        }
        let Tally { requests, per_second } = read(&said)?;
        Ok(Cost {
            cpu_per_request: cpu.as_secs_f64() * 1e6 / requests,
            requests_per_second: per_second,
            // By the generator's clock, which does not run while it reads a script.
            busy: cpu.as_secs_f64() * per_second / requests * 100.0,
            load_core_busy: load_core_busy.as_secs_f64() / took.as_secs_f64() * 100.0,
        })
    })
}

/// CPU time of a group while something runs, and how long that took.
pub(crate) fn cpu_during<T>(group: u32, run: impl FnOnce() -> Result<T>) -> Result<(T, Duration, Duration)> {
    let before = gauge::cpu_time(group)?;
    let begin = Instant::now();
    let result = run()?;
    let took = begin.elapsed();
    Ok((result, gauge::cpu_time(group)?.saturating_sub(before), took))
}
