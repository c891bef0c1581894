//! l. Time from the start of the program to its first response.

use super::HS256;
use crate::Result;
use crate::lab::Lab;
use crate::machine::PROXY_CORE;
use crate::peers::System;
use crate::report::goal::{Goal, Limit};
use crate::table::{Better, Column, Samples, Table};

const SYSTEMS: [System; 5] =
    [System::Nginx, System::Haproxy, System::Envoy { cache: true }, System::Gunicorn, HS256];
/// In each round; their median counts.
const STARTS: u32 = 5;
const COLUMNS: &[Column] = &[
    Column { name: "ms", better: Better::Lower, digits: 1 },
    Column { name: "first start ever, ms", better: Better::Lower, digits: 1 },
];

pub(crate) fn run(lab: &Lab) -> Result<Vec<Table>> {
    let mut table = Table::new("fork and exec to the first proxied 200", COLUMNS)
        .relative_to(&System::Nginx.label())
        .goal(Goal::Value { row: HS256.label(), column: 0, limit: Limit::AtMost(50.0) })
        .remark("At its first start the gateway also makes its store. `taskset` takes about 1 ms of each.");
    lab.each(&SYSTEMS, |round, system| {
        let mut prepared = lab.prepare(system, lab.upstream, PROXY_CORE)?;
        let mut milliseconds = || -> Result<f64> { Ok(prepared.start()?.ready_after.as_secs_f64() * 1e3) };
        let first = milliseconds()?;
        let later = (0..STARTS).map(|_| milliseconds()).collect::<Result<Vec<_>>>()?;
        let later = Samples::new(later).map_or(first, |samples| samples.median());
        table.record(round, &system.label(), &[later, first]);
        Ok(())
    })?;
    Ok(vec![table])
}
