//! e. HTTP/1.1 over TLS.

use super::{EDDSA, HS256};
use crate::Result;
use crate::lab::Lab;
use crate::load::{Cost, Wrk};
use crate::peers::System;
use crate::table::Table;

const SYSTEMS: [System; 5] = [System::Nginx, System::Haproxy, System::Envoy { cache: true }, HS256, EDDSA];

pub(crate) fn run(lab: &Lab) -> Result<Vec<Table>> {
    let table = |title: &str| Table::new(title, Cost::COLUMNS).relative_to(&System::Nginx.label());
    let mut kept = table("64 keep-alive clients over TLS");
    let mut fresh = table("64 clients, each request on a TLS connection of its own").remark(
        "Each connection is a full handshake with a P-256 certificate: wrk resumes no sessions. The upstream is \
         spoken to without TLS, over connections that are kept.",
    );
    lab.each(&SYSTEMS, |round, system| {
        let running = lab.start_tls(system)?;
        let keep_alive = Wrk::warm(lab, &running, 64);
        Wrk { seconds: 1, ..keep_alive }.measure(lab, &running)?;
        kept.record(round, &system.label(), &keep_alive.measure(lab, &running)?.values());
        let reconnecting = Wrk { reconnect: true, ..keep_alive };
        fresh.record(round, &system.label(), &reconnecting.measure(lab, &running)?.values());
        Ok(())
    })?;
    Ok(vec![kept, fresh])
}
