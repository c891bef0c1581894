//! Closed loops by wrk: each client sends its next request when the answer is there.

use std::path::Path;
use std::process::{Command, Stdio};

use super::{Cost, cpu_during, undisturbed};
use crate::Result;
use crate::gauge;
use crate::lab::{Lab, Running};
use crate::machine::LOAD_CORE;

/// One run of wrk.
pub(crate) struct Wrk<'a> {
    pub(crate) clients: u32,
    pub(crate) seconds: u64,
    /// Sent with every request, unless a script sends others.
    pub(crate) token: &'a str,
    /// Whether every request has a connection of its own.
    pub(crate) reconnect: bool,
    /// Reads tokens from a file, one for each request.
    pub(crate) tokens: Option<&'a Path>,
    /// Where it runs.
    pub(crate) cores: &'a str,
    /// Whether the answers shall be refusals.
    pub(crate) refused: bool,
}

impl<'a> Wrk<'a> {
    /// Keep-alive clients with one token that is good.
    pub(crate) fn warm(lab: &Lab, running: &'a Running, clients: u32) -> Wrk<'a> {
        Wrk {
            clients,
            seconds: lab.options.seconds,
            token: &running.token,
            reconnect: false,
            tokens: None,
            cores: LOAD_CORE,
            refused: false,
        }
    }

    /// Runs it and reads what it cost.
    pub(crate) fn measure(&self, lab: &Lab, running: &Running) -> Result<Cost> {
        undisturbed(lab, Some(running), || self.measure_once(lab, running))
    }

    fn measure_once(&self, lab: &Lab, running: &Running) -> Result<Cost> {
        let mut command = self.command(lab, running)?;
        let load_core_before = gauge::busy_time(LOAD_CORE)?;
        let (output, cpu, took) = cpu_during(running.group(), || Ok(command.output()?))?;
        let load_core_busy = gauge::busy_time(LOAD_CORE)?.saturating_sub(load_core_before);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            return Err(format!("wrk: {said}{}", String::from_utf8_lossy(&output.stderr)).into());
        }
        let (requests, per_second) = self.count(&said)?;
        Ok(Cost {
            cpu_per_request: cpu.as_secs_f64() * 1e6 / requests,
            requests_per_second: per_second,
            // By wrk's clock, which does not run while it reads its script.
            busy: cpu.as_secs_f64() * per_second / requests * 100.0,
            load_core_busy: load_core_busy.as_secs_f64() / took.as_secs_f64() * 100.0,
        })
    }

    fn command(&self, lab: &Lab, running: &Running) -> Result<Command> {
        let mut command = Command::new("taskset");
        command.args(["-c", self.cores]).arg(lab.tools.required("wrk")?);
        command.arg("-t1").arg(format!("-c{}", self.clients)).arg(format!("-d{}s", self.seconds));
        if self.reconnect {
            command.args(["-H", "Connection: close"]);
        }
        match self.tokens {
            Some(_) => command.arg("-s").arg(script()),
            None => command.arg("-H").arg(format!("Authorization: Bearer {}", self.token)),
        };
        command.arg(format!("http://{}/", running.address)).args(self.tokens);
        command.stdin(Stdio::null());
        Ok(command)
    }

    /// How many requests were answered, and how many in a second, if all were answered as they should be.
    fn count(&self, said: &str) -> Result<(f64, f64)> {
        let number = |marker| {
            let line = said.lines().find(|line| line.contains(marker))?;
            line.split_whitespace().find_map(|word| word.parse::<f64>().ok())
        };
        let (Some(requests), Some(per_second)) = (number("requests in"), number("Requests/sec")) else {
            return Err(format!("wrk said: {said}").into());
        };
        let refused = number("Non-2xx or 3xx").unwrap_or(0.0);
        if requests == 0.0 || refused != if self.refused { requests } else { 0.0 } {
            return Err(format!("not the answers that were expected:\n{said}").into());
        }
        Ok((requests, per_second))
    }
}

fn script() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/load/cold.lua")
}
