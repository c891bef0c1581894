//! i. Latency at a fixed rate of requests.

use std::time::Duration;

use super::{HS256, warm_up};
use crate::Result;
use crate::lab::{Lab, Running};
use crate::load::{Latencies, OpenLoop, undisturbed};
use crate::peers::System;
use crate::table::{Better, Column, NO_PROXY, Table};

const SYSTEMS: [System; 3] = [System::Nginx, System::Haproxy, HS256];
const RATES: [u32; 4] = [2_000, 5_000, 10_000, 20_000];
pub(super) const COLUMNS: &[Column] = &[
    Column { name: "p99 µs", better: Better::Lower, digits: 0 },
    Column { name: "p50 µs", better: Better::Lower, digits: 0 },
    Column { name: "p99.9 µs", better: Better::Lower, digits: 0 },
];

pub(crate) fn run(lab: &Lab) -> Result<Vec<Table>> {
    let mut tables = RATES
        .map(|rate| Table::new(format!("{rate} requests/s"), COLUMNS).relative_to(&System::Nginx.label()));
    tables[0].remarks.push(
        "64 keep-alive clients; requests are sent by the clock, evenly spaced, and latency counts from the moment \
         when a request was due (open loop). The upstream alone shows what the machine adds by itself."
            .to_owned(),
    );
    lab.each(&SYSTEMS, |round, system| {
        if system == System::Nginx {
            for (table, rate) in tables.iter_mut().zip(RATES) {
                let latencies = at_rate(lab, None, rate)?;
                table.record(round, NO_PROXY, &values(&latencies));
            }
        }
        let running = lab.start(system)?;
        warm_up(lab, &running)?;
        for (table, rate) in tables.iter_mut().zip(RATES) {
            table.record(round, &system.label(), &values(&at_rate(lab, Some(&running), rate)?));
        }
        Ok(())
    })?;
    Ok(tables.into())
}

/// Sends requests at a rate for the usual time, to a system or to the upstream alone.
pub(super) fn at_rate(lab: &Lab, system: Option<&Running>, rate: u32) -> Result<Latencies> {
    let (address, token) = system.map_or((lab.upstream, ""), |running| (running.address, &running.token));
    let duration = Duration::from_secs(lab.options.seconds);
    let load = OpenLoop { address, token, clients: 64, rate, duration };
    undisturbed(lab, system, || load.run())
}

/// In the order of [`COLUMNS`].
pub(super) fn values(latencies: &Latencies) -> [f64; 3] {
    [0.99, 0.5, 0.999].map(|share| latencies.quantile(share))
}
