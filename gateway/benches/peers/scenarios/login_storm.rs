//! j. Latency of requests during a storm of logins.

use super::latency::{at_rate, values};
use super::{HS256, warm_up};
use crate::Result;
use crate::lab::Lab;
use crate::load::login::{Act, acts_during};
use crate::report::goal::{Goal, Limit};
use crate::table::{Better, Column, Table};

const RATE: u32 = 2_000;
const CLIENTS: u32 = 8;
const COLUMNS: &[Column] = &[
    Column { name: "p99 µs", better: Better::Lower, digits: 0 },
    Column { name: "p50 µs", better: Better::Lower, digits: 0 },
    Column { name: "p99.9 µs", better: Better::Lower, digits: 0 },
    Column { name: "logins/s", better: Better::Higher, digits: 0 },
];
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
        let requests = || at_rate(lab, Some(&running), RATE);
        let [p99, p50, p999] = values(&requests()?);
        table.record(round, QUIET, &[p99, p50, p999, 0.0]);
        let (latencies, logins) = acts_during(running.address, CLIENTS, Act::LogIn, requests)?;
        let [p99, p50, p999] = values(&latencies);
        table.record(round, STORM, &[p99, p50, p999, logins]);
        Ok(())
    })?;
    Ok(vec![table])
}
