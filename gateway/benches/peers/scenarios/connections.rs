//! d. One connection per request, without keep-alive.

use super::{EDDSA, HS256, warm_up};
use crate::Result;
use crate::lab::Lab;
use crate::load::{Cost, Wrk};
use crate::peers::System;
use crate::report::goal::{Goal, Limit};
use crate::table::Table;

const SYSTEMS: [System; 6] =
    [System::Nginx, System::NginxNjs, System::Haproxy, System::Envoy { cache: true }, HS256, EDDSA];

pub(crate) fn run(lab: &Lab) -> Result<Vec<Table>> {
    let nginx = System::Nginx.label();
    let mut table = Table::new("64 clients, each request on a connection of its own", Cost::COLUMNS)
        .relative_to(&nginx)
        .goal(Goal::Ratio { row: HS256.label(), to: nginx, limit: Limit::AtMost(1.2) })
        .remark("Connections to the upstream are kept in all systems.");
    lab.each(&SYSTEMS, |round, system| {
        let running = lab.start(system)?;
        warm_up(lab, &running)?;
        let cost = Wrk { reconnect: true, ..Wrk::warm(lab, &running, 64) }.measure(lab, &running)?;
        table.record(round, &system.label(), &cost.values());
        Ok(())
    })?;
    Ok(vec![table])
}
