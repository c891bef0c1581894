//! m. Scaling to a second core.

use crate::Result;
use crate::lab::Lab;
use crate::load::{Cost, Wrk};
use crate::machine::{BOTH_CORES, LOAD_CORE, PROXY_CORE};
use crate::peers::System;
use crate::peers::gateway::Variant;
use crate::report::goal::{Goal, Limit};
use crate::table::{Better, Column, Table};
use crate::tokens;

const COLUMNS: &[Column] = &[
    Column { name: "requests/s", better: Better::Higher, digits: 0 },
    Column { name: "µs CPU/request", better: Better::Lower, digits: 1 },
    Column { name: "cores busy %", better: Better::Higher, digits: 0 },
];

pub(crate) fn run(lab: &Lab) -> Result<Vec<Table>> {
    let label =
        |workers: u32| format!("auth-gateway, {workers} worker{}", if workers == 1 { "" } else { "s" });
    let mut table = Table::new("Tokens with a wrong ES256 signature, 64 keep-alive clients", COLUMNS)
        .relative_to(&label(1))
        .goal(Goal::Ratio { row: label(2), to: label(1), limit: Limit::AtLeast(1.8) })
        .remark(
            "Two workers leave no core to the load. So the requests are such that the gateway has much to do for \
             each (a signature check, which is not remembered), and nobody else has: nothing reaches an upstream, \
             and the load generator needs a few µs for each. One worker has a core for itself, the load the other; \
             two workers share both cores with the load, whose part is missing from the ratio.",
        );
    let systems =
        [1, 2].map(|workers| System::Gateway(Variant { workers, ..Variant::signing_with("ES256") }));
    lab.each(&systems, |round, system| {
        let System::Gateway(Variant { workers, .. }) = system else { return Ok(()) };
        let (cores, load_cores) =
            if workers == 1 { (PROXY_CORE, LOAD_CORE) } else { (BOTH_CORES, BOTH_CORES) };
        let running = lab.prepare(system, lab.upstream, cores)?.start()?;
        let token = tokens::spoil(&running.token)?;
        let wrk = Wrk { token: &token, refused: true, cores: load_cores, ..Wrk::warm(lab, &running, 64) };
        Wrk { seconds: 1, ..wrk }.measure(lab, &running)?;
        let Cost { cpu_per_request, requests_per_second, busy, .. } = wrk.measure(lab, &running)?;
        table.record(round, &label(workers), &[requests_per_second, cpu_per_request, busy]);
        Ok(())
    })?;
    Ok(vec![table])
}
