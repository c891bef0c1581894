//! c. Tokens of the right form with a wrong signature.

use super::{EDDSA, ES256, HS256, RS256, warm_up};
use crate::Result;
use crate::lab::Lab;
use crate::load::{Cost, Wrk};
use crate::peers::System;
use crate::table::Table;
use crate::tokens;

const SYSTEMS: [System; 8] = [
    System::NginxNjs,
    System::Haproxy,
    System::Envoy { cache: true },
    System::Gunicorn,
    HS256,
    EDDSA,
    ES256,
    RS256,
];

pub(crate) fn run(lab: &Lab) -> Result<Vec<Table>> {
    let mut table = Table::new("64 keep-alive clients, a wrong signature", Cost::COLUMNS)
        .relative_to(&System::Haproxy.label())
        .remark(
            "Nothing reaches the upstream. Everybody but the last three checks an HS256 signature each time.",
        );
    lab.each(&SYSTEMS, |round, system| {
        let running = lab.start(system)?;
        warm_up(lab, &running)?;
        let token = tokens::spoil(&running.token)?;
        let wrk = Wrk { token: &token, refused: true, ..Wrk::warm(lab, &running, 64) };
        table.record(round, &system.label(), &wrk.measure(lab, &running)?.values());
        Ok(())
    })?;
    Ok(vec![table])
}
