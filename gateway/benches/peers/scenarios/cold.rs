//! b. Cold tokens: each is used once, so no cache has it.

use std::fs;

use super::{HS256, warm_up};
use crate::Result;
use crate::lab::Lab;
use crate::load::{Cost, Wrk};
use crate::peers::System;
use crate::report::goal::{Goal, Limit};
use crate::table::Table;
use crate::tokens;

const SYSTEMS: [System; 5] =
    [System::Nginx, System::NginxNjs, System::Haproxy, System::Envoy { cache: true }, HS256];
/// Several times what the gateway (8,192) and Envoy remember, so that a token is forgotten before it comes again.
const TOKENS: u32 = 40_000;

pub(crate) fn run(lab: &Lab) -> Result<Vec<Table>> {
    let file = lab.dir.join("tokens");
    let all = (1..=TOKENS).map(|number| tokens::mint(&lab.secret, number)).collect::<Result<Vec<_>>>()?;
    fs::write(&file, all.join("\n"))?;
    let mut table = Table::new("HS256, 64 keep-alive clients", Cost::COLUMNS)
        .relative_to(&System::Nginx.label())
        .goal(Goal::Ratio { row: HS256.label(), to: System::Haproxy.label(), limit: Limit::AtMost(0.5) })
        .remark(format!(
            "{TOKENS} tokens in turn, each of another user and session; gateway and Envoy remember 8192."
        ));
    lab.each(&SYSTEMS, |round, system| {
        let running = lab.start(system)?;
        warm_up(lab, &running)?;
        let cost = Wrk { tokens: Some(&file), ..Wrk::warm(lab, &running, 64) }.measure(lab, &running)?;
        table.record(round, &system.label(), &cost.values());
        Ok(())
    })?;
    Ok(vec![table])
}
