//! j. Whether those who are in notice that many others log in.

use super::latency::{COLUMNS, at_rate, values};
use super::{HS256, warm_up};
use crate::Result;
use crate::lab::Lab;
use crate::load::login::{Act, acts_during};
use crate::report::goal::{Goal, Limit};
use crate::table::Table;

const RATE: u32 = 2_000;
const CLIENTS: u32 = 8;
const QUIET: &str = "auth-gateway, quiet";
const STORM: &str = "auth-gateway, login storm";

pub(crate) fn run(lab: &Lab) -> Result<Vec<Table>> {
    let mut table = Table::new(format!("{RATE} proxied requests/s"), COLUMNS)
        .relative_to(QUIET)
        .goal(Goal::Ratio { row: STORM.to_owned(), to: QUIET.to_owned(), limit: Limit::AtMost(1.5) })
        .remark(format!(
            "The storm: {CLIENTS} clients that log in without pause. Password hashing has no core of its own: the \
             whole gateway is pinned to one."
        ));
    lab.each(&[HS256], |round, system| {
        let running = lab.start(system)?;
        warm_up(lab, &running)?;
        table.record(round, QUIET, &values(&at_rate(lab, &running, RATE)?));
        let (latencies, _) =
            acts_during(running.address, CLIENTS, Act::LogIn, || at_rate(lab, &running, RATE))?;
        table.record(round, STORM, &values(&latencies));
        Ok(())
    })?;
    Ok(vec![table])
}
