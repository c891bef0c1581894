//! g. Bodies of 1 GiB: what they cost, and how much memory they take on their way.

use super::HS256;
use crate::Result;
use crate::gauge;
use crate::lab::Lab;
use crate::load::bulk::{download, upload, upstream};
use crate::load::{cpu_during, undisturbed};
use crate::machine::PROXY_CORE;
use crate::peers::System;
use crate::report::goal::{Goal, Limit};
use crate::table::{Better, Column, Table};

const SYSTEMS: [System; 5] =
    [System::Nginx, System::NginxUnbuffered, System::Haproxy, System::Envoy { cache: true }, HS256];
const COLUMNS: &[Column] = &[
    Column { name: "ms CPU/GiB", better: Better::Lower, digits: 0 },
    Column { name: "RSS growth MiB", better: Better::Lower, digits: 1 },
    Column { name: "MiB/s", better: Better::Higher, digits: 0 },
];
const RSS_GROWTH: usize = 1;

pub(crate) fn run(lab: &Lab) -> Result<Vec<Table>> {
    let upstream = upstream()?;
    let table = |title, base: System| {
        Table::new(title, COLUMNS)
            .relative_to(&base.label())
            .goal(Goal::Ratio { row: HS256.label(), to: base.label(), limit: Limit::AtMost(1.3) })
            .goal(Goal::Value { row: HS256.label(), column: RSS_GROWTH, limit: Limit::AtMost(2.0) })
    };
    let mut down = table("1 GiB down", System::Nginx);
    let mut up = table("1 GiB up", System::NginxUnbuffered).remark(
        "By default nginx first writes the whole body to a file, so the fair comparison is with its unbuffered mode.",
    );
    lab.each(&SYSTEMS, |round, system| {
        let running = lab.prepare(system, upstream, PROXY_CORE)?.start()?;
        let at_rest = gauge::resident_kib(running.group())?;
        for (table, transfer) in [(&mut down, download as fn(_, &_) -> _), (&mut up, upload)] {
            gauge::forget_peaks(running.group())?;
            let ((), cpu, took) = undisturbed(lab, Some(&running), || {
                cpu_during(running.group(), || transfer(running.address, &running.token))
            })?;
            let growth = gauge::peak_kib(running.group())?.saturating_sub(at_rest);
            let values = [cpu.as_secs_f64() * 1e3, growth as f64 / 1024.0, 1024.0 / took.as_secs_f64()];
            table.record(round, &system.label(), &values);
        }
        Ok(())
    })?;
    Ok(vec![down, up])
}
