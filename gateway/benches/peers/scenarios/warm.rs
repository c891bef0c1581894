//! a. Warm tokens: the same valid token repeatedly, the common case.

use super::{EDDSA, ES256, HS256, RS256, warm_up};
use crate::Result;
use crate::lab::Lab;
use crate::load::{Cost, Wrk};
use crate::peers::System;
use crate::report::goal::{Goal, Limit};
use crate::table::Table;

const GATEWAYS: [System; 4] = [HS256, EDDSA, ES256, RS256];
/// Those that copy or pass on.
const PLAIN_PEERS: [System; 2] = [System::Relay, System::Nginx];
/// Those that do at least some of the gateway's job.
const VERIFYING_PEERS: [System; 5] = [
    System::NginxNjs,
    System::Haproxy,
    System::Envoy { cache: true },
    System::Envoy { cache: false },
    System::Gunicorn,
];
const CLIENTS: [u32; 3] = [64, 1, 512];

pub(crate) fn run(lab: &Lab) -> Result<Vec<Table>> {
    let nginx = System::Nginx.label();
    let mut tables = CLIENTS.map(|clients| {
        let title = format!("{clients} keep-alive client{}", if clients == 1 { "" } else { "s" });
        Table::new(title, Cost::COLUMNS).relative_to(&nginx)
    });
    for gateway in GATEWAYS {
        tables[0].goals.push(Goal::Ratio {
            row: gateway.label(),
            to: nginx.clone(),
            limit: Limit::AtMost(0.95),
        });
    }
    tables[0].goals.push(Goal::Alike { rows: GATEWAYS.map(System::label).to_vec(), within: 0.03 });

    let systems = [&PLAIN_PEERS[..], &VERIFYING_PEERS, &GATEWAYS].concat();
    lab.each(&systems, |round, system| {
        let running = lab.start(system)?;
        warm_up(lab, &running)?;
        for (table, clients) in tables.iter_mut().zip(CLIENTS) {
            // The others stay what they are to each other; nginx is who has to be beaten.
            if clients != CLIENTS[0] && VERIFYING_PEERS.contains(&system) {
                continue;
            }
            let cost = Wrk::warm(lab, &running, clients).measure(lab, &running)?;
            table.record(round, &system.label(), &cost.values());
        }
        Ok(())
    })?;
    Ok(tables.into())
}
