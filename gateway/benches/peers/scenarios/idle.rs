//! h. Memory of idle keep-alive clients.

use std::thread::sleep;
use std::time::Duration;

use super::{HS256, warm_up};
use crate::Result;
use crate::gauge;
use crate::http::{self, Client};
use crate::lab::Lab;
use crate::peers::System;
use crate::report::goal::{Goal, Limit};
use crate::table::{Better, Column, Table};

const SYSTEMS: [System; 4] = [System::Nginx, System::Haproxy, System::Envoy { cache: true }, HS256];
const CLIENTS: u32 = 8_000;
/// A system may take this long to notice that a client is idle.
const SETTLE: Duration = Duration::from_secs(5);
const COLUMNS: &[Column] = &[
    Column { name: "KiB/client", better: Better::Lower, digits: 2 },
    Column { name: "RSS before, MiB", better: Better::Lower, digits: 1 },
    Column { name: "RSS after, MiB", better: Better::Lower, digits: 1 },
];

pub(crate) fn run(lab: &Lab) -> Result<Vec<Table>> {
    let mut table = Table::new(format!("{CLIENTS} idle keep-alive clients"), COLUMNS)
        .relative_to(&System::Nginx.label())
        .goal(Goal::Value { row: HS256.label(), column: 0, limit: Limit::AtMost(2.0) })
        .remark(format!(
            "Growth of resident memory from a second of load by 64 clients to {} s after the last of {CLIENTS} \
             clients got the answer to its one request. What the kernel keeps for a socket comes on top for \
             everybody; nginx allocates its table of connections when it starts, so it is in its RSS before.",
            SETTLE.as_secs()
        ));
    lab.each(&SYSTEMS, |round, system| {
        let running = lab.start(system)?;
        warm_up(lab, &running)?;
        let before = gauge::resident_kib(running.group())? as f64;
        let request = http::get(running.address, &running.token);
        let ask = |client: &mut Client| -> Result<()> {
            match client.send(request.as_bytes())?.status {
                200 => Ok(()),
                status => Err(format!("an idle client got {status}").into()),
            }
        };
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let mut client = Client::connect(running.address)?;
            ask(&mut client)?;
            clients.push(client);
        }
        sleep(SETTLE);
        let after = gauge::resident_kib(running.group())? as f64;
        // That they were idle, and not closed.
        for client in clients.iter_mut().step_by(100) {
            ask(client)?;
        }
        let values = [(after - before) / f64::from(CLIENTS), before / 1024.0, after / 1024.0];
        table.record(round, &system.label(), &values);
        Ok(())
    })?;
    Ok(vec![table])
}
