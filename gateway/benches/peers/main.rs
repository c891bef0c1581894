//! `cargo bench --bench peers`: what a request costs in auth-gateway, and in others that do its job or less.
//!
//! The proxy that is measured has one core for itself; the upstream and the load share another. Everything runs in
//! turn, in several rounds, and the CPU time is read from the kernel. What came out is printed and kept under
//! `target/bench`; with `--save` it also goes into the repository, beside this program.

mod certificate;
mod gauge;
mod http;
mod lab;
mod load;
mod machine;
mod options;
mod peers;
mod process;
mod report;
mod scenarios;
mod table;
mod tokens;
mod tools;
mod training;

use std::process::ExitCode;

use clap::Parser;

use lab::Lab;
use options::Options;
use report::Report;
use scenarios::SCENARIOS;
use table::Table;

/// An error is a sentence for people that names the remedy; no code looks into it.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let options = Options::parse();
    if options.list {
        for scenario in SCENARIOS {
            println!("{}  {}", scenario.letter, scenario.title);
        }
        return ExitCode::SUCCESS;
    }
    match bench(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(options: Options) -> Result<()> {
    process::end_all_on_signals()?;
    machine::prepare()?;
    let mut report = Report::new(&options);
    let lab = Lab::set_up(options)?;
    if lab.options.train {
        return training::run(&lab);
    }
    let mut failed = String::new();
    for scenario in SCENARIOS.iter().filter(|scenario| lab.options.wants(scenario.letter)) {
        eprintln!("\n{}. {}", scenario.letter, scenario.title);
        let tables = (scenario.run)(&lab).unwrap_or_else(|error| {
            failed.push(scenario.letter);
            vec![Table::new("Failed", &[]).remark(error.to_string())]
        });
        tables.iter().for_each(|table| println!("\n{}", table.markdown()));
        report.add(scenario, tables);
    }
    report.finish(&lab)?;
    if failed.is_empty() { Ok(()) } else { Err(format!("scenarios that failed: {failed}; see above").into()) }
}
