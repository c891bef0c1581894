//! n. The session of a browser, in cookies, beside the same token in `Authorization`.

use super::warm_up;
use crate::Result;
use crate::lab::Lab;
use crate::load::{Cost, Wrk};
use crate::peers::System;
use crate::peers::gateway::Variant;
use crate::report::goal::{Goal, Limit};
use crate::table::Table;

const BROWSER: System = System::Gateway(Variant { browser: true, ..Variant::signing_with("HS256") });

pub(crate) fn run(lab: &Lab) -> Result<Vec<Table>> {
    let label = |cookies: bool| if cookies { "session cookie" } else { "Bearer token" }.to_owned();
    let mut table = Table::new("The same gateway with [browser], 64 keep-alive clients", Cost::COLUMNS)
        .relative_to(&label(false))
        .goal(Goal::Ratio { row: label(true), to: label(false), limit: Limit::AtMost(1.05) })
        .remark("The request with cookies has two more of the app, as most have; these go to the upstream.");
    lab.each(&[BROWSER], |round, system| {
        let running = lab.start(system)?;
        warm_up(lab, &running)?;
        for cookies in [false, true] {
            let cost = Wrk { cookies, ..Wrk::warm(lab, &running, 64) }.measure(lab, &running)?;
            table.record(round, &label(cookies), &cost.values());
        }
        Ok(())
    })?;
    Ok(vec![table])
}
