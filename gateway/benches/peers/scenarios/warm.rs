//! a. The same good token again and again: the work of every day.

use super::{EDDSA, ES256, HS256, RS256};
use crate::Result;
use crate::lab::Lab;
use crate::load::{Cost, Wrk};
use crate::peers::System;
use crate::report::goal::Goal;
use crate::table::Table;

const GATEWAYS: [System; 4] = [HS256, EDDSA, ES256, RS256];
const CLIENTS: [u32; 3] = [64, 1, 512];

pub(crate) fn run(lab: &Lab) -> Result<Vec<Table>> {
    let nginx = System::Nginx.label();
    let mut tables = CLIENTS.map(|clients| {
        let title = format!("{clients} keep-alive client{}", if clients == 1 { "" } else { "s" });
        Table::new(title, Cost::COLUMNS).relative_to(&nginx)
    });
    for gateway in GATEWAYS {
        tables[0].goals.push(Goal::Ratio { row: gateway.label(), to: nginx.clone(), at_most: 0.95 });
    }
    tables[0].goals.push(Goal::Alike { rows: GATEWAYS.map(System::label).to_vec(), within: 0.03 });

    let systems = [System::Relay, System::Nginx].into_iter().chain(GATEWAYS).collect::<Vec<_>>();
    lab.each(&systems, |round, system, running| {
        Wrk { seconds: 1, ..Wrk::warm(lab, running, 64) }.measure(lab, running)?;
        for (table, clients) in tables.iter_mut().zip(CLIENTS) {
            let cost = Wrk::warm(lab, running, clients).measure(lab, running)?;
            table.record(round, &system.label(), &cost.values());
        }
        Ok(())
    })?;
    Ok(tables.into())
}
