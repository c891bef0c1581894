//! f. HTTP/2 to the client, over TLS; HTTP/1.1 to the upstream.

use super::{EDDSA, HS256};
use crate::Result;
use crate::lab::Lab;
use crate::load::{Cost, H2Load};
use crate::peers::System;
use crate::table::Table;

const SYSTEMS: [System; 5] = [System::Nginx, System::Haproxy, System::Envoy { cache: true }, HS256, EDDSA];
const LOADS: [H2Load; 2] = [H2Load { connections: 64, requests: 1 }, H2Load { connections: 8, requests: 16 }];

pub(crate) fn run(lab: &Lab) -> Result<Vec<Table>> {
    let mut tables = LOADS.map(|H2Load { connections, requests }| {
        let title = format!("{connections} connections, {requests} at a time on each");
        Table::new(title, Cost::COLUMNS).relative_to(&System::Nginx.label())
    });
    lab.each(&SYSTEMS, |round, system| {
        let running = lab.start_tls(system)?;
        LOADS[0].measure(lab, &running)?;
        for (table, load) in tables.iter_mut().zip(LOADS) {
            table.record(round, &system.label(), &load.measure(lab, &running)?.values());
        }
        Ok(())
    })?;
    let [one, many] = tables;
    let remark = "Load by h2load, over TLS as in e.; the upstream is spoken to in HTTP/1.1 without TLS.";
    Ok(vec![one, many.remark(remark)])
}
