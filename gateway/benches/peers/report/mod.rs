//! The report: goals, tables, a chart, and how to reproduce it.

pub(crate) mod goal;
mod markdown;
mod svg;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::Result;
use crate::lab::{Lab, Started};
use crate::load::BEARABLE;
use crate::machine::{self, LOAD_CORE, PROXY_CORE};
use crate::options::Options;
use crate::scenarios::Scenario;
use crate::table::Table;
use crate::tools::version;

/// What has been measured so far.
pub(crate) struct Report {
    command: String,
    parts: Vec<(&'static Scenario, Vec<Table>)>,
}

impl Report {
    pub(crate) fn new(options: &Options) -> Report {
        Report { command: options.command(), parts: Vec::new() }
    }

    pub(crate) fn add(&mut self, scenario: &'static Scenario, tables: Vec<Table>) {
        self.parts.push((scenario, tables));
    }

    /// Writes everything down, and into the repository if that was asked for.
    pub(crate) fn finish(&self, lab: &Lab) -> Result<()> {
        let picture = self.picture();
        let text = self.markdown(lab, picture.is_some());
        let mut places = vec![(lab.dir.as_path(), "report.md")];
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
        if lab.options.save {
            places.push((&beside, "RESULTS.md"));
        }
        for (dir, name) in places {
            write(&dir.join(name), &text)?;
            if let Some(picture) = &picture {
                write(&dir.join("results.svg"), picture)?;
            }
        }
        Ok(())
    }

    fn picture(&self) -> Option<String> {
        let tables =
            self.parts.iter().find(|(scenario, _)| scenario.letter == 'a').map(|(_, tables)| tables)?;
        tables.first().filter(|table| !table.rows.is_empty()).map(svg::bars)
    }

    fn markdown(&self, lab: &Lab, with_picture: bool) -> String {
        let mut text = String::from("# auth-gateway beside its peers\n\n");
        if with_picture {
            text.push_str("![CPU time per request](results.svg)\n\n");
        }
        self.push_conditions(&mut text, lab);
        self.push_goals(&mut text);
        for (scenario, tables) in &self.parts {
            let _ = writeln!(text, "## {}. {}\n", scenario.letter, scenario.title);
            tables.iter().for_each(|table| {
                let _ = writeln!(text, "{}", table.markdown());
            });
        }
        push_systems(&mut text, lab);
        text
    }

    fn push_conditions(&self, text: &mut String, lab: &Lab) {
        let rounds = lab.options.rounds;
        let seconds = lab.options.seconds;
        let wrk = lab.tools.path("wrk").map_or_else(String::new, |wrk| version(wrk, "--version"));
        let _ = write!(
            text,
            "Made by `{}` on {}.\n\n\
             Each system has one worker, pinned to core {PROXY_CORE}; the upstream (nginx, `return 200` with a small \
             JSON) and the load share core {LOAD_CORE}, unless a table says otherwise. The systems run in turn, in \
             {rounds} rounds of {seconds} s for each measurement; every second round runs backwards. Tables show \
             medians; a ratio is the median of the ratios in the same round. Bold is best; the byte relay, which \
             looks at nothing, does not compete.\n\n\
             CPU time is user and system time of all threads and workers of the proxy \
             (`/proc/PID/task/*/schedstat`). *proxy core busy* is that time divided by the time on the clock: well \
             below 100 % the load was the bottleneck, and wake-ups cost the proxy more. Closed loops are run by {wrk} \
             as `taskset -c {LOAD_CORE} wrk -t1 -cCLIENTS -d{seconds}s -H 'Authorization: Bearer TOKEN' URL`.\n\n\
             auth-gateway runs its default configuration: access log of every request to a file, metrics, \
             revocation check, header hygiene. The peers' access logs are off, as is usual for them in such tests.\n\n",
            self.command,
            machine::description(),
        );
        if let Some(shares) = lab.disturbances() {
            let verdict = if shares.median() <= BEARABLE {
                ""
            } else {
                " **The machine was not quiet: rely on none of this.**"
            };
            let (median, most) = (shares.median() * 100.0, shares.most() * 100.0);
            let _ = writeln!(
                text,
                "Other programs had {median:.1} % of the two cores meanwhile (median of all runs of load; at most \
                 {most:.1} %).{verdict}\n"
            );
        }
    }

    fn push_goals(&self, text: &mut String) {
        let mut lines = String::new();
        for (scenario, tables) in &self.parts {
            for (table, verdict) in
                tables.iter().flat_map(|table| table.verdicts().into_iter().map(move |v| (table, v)))
            {
                let _ = writeln!(
                    lines,
                    "| {}. {} | {} | {} | {} | {} |",
                    scenario.letter,
                    table.title,
                    verdict.row,
                    verdict.goal,
                    verdict.measured,
                    verdict.outcome()
                );
            }
        }
        if !lines.is_empty() {
            let _ = writeln!(
                text,
                "## Goals\n\n| where | who | goal | measured | |\n| --- | --- | --- | ---: | --- |\n{lines}"
            );
        }
    }
}

fn push_systems(text: &mut String, lab: &Lab) {
    text.push_str("## The systems\n\n| system | does | version | command |\n| --- | --- | --- | --- |\n");
    for Started { system, command } in lab.started() {
        let version = system.version(&lab.tools);
        let _ = writeln!(text, "| {} | {} | {version} | `{command}` |", system.label(), system.job());
    }
    for (label, reason) in lab.left_out() {
        let reason = reason.lines().next().unwrap_or_default();
        let _ = writeln!(text, "| {label} | left out at least once: {reason} | | |");
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    eprintln!("wrote {}", path.display());
    Ok(())
}
