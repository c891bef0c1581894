//! Closed-loop load over HTTP/2 by h2load, with a fixed number of requests in flight per connection.

use std::process::{Command, Stdio};

use super::{Cost, Tally, closed_loop};
use crate::Result;
use crate::lab::{Lab, Running};
use crate::machine::LOAD_CORE;

/// One run of h2load.
pub(crate) struct H2Load {
    pub(crate) connections: u32,
    /// On each connection at a time.
    pub(crate) requests: u32,
}

impl H2Load {
    /// Runs it with one token that is good, and reads what it cost.
    pub(crate) fn measure(&self, lab: &Lab, running: &Running) -> Result<Cost> {
        closed_loop(lab, running, || self.command(lab, running), read)
    }

    fn command(&self, lab: &Lab, running: &Running) -> Result<Command> {
        let mut command = Command::new("taskset");
        command.args(["-c", LOAD_CORE]).arg(lab.tools.required("h2load")?);
        command.arg("-t1").arg(format!("-c{}", self.connections)).arg(format!("-m{}", self.requests));
        command.arg("-D").arg(lab.options.seconds.to_string());
        command.arg(format!("--header=authorization: Bearer {}", running.token));
        command.arg(running.url()).stdin(Stdio::null());
        Ok(command)
    }
}

/// Fails unless all were answered with a status of 2xx over HTTP/2.
fn read(said: &str) -> Result<Tally> {
    let number = |line: &str, unit: &str| {
        let line = said.lines().find_map(|found| found.strip_prefix(line))?;
        let (number, _) = line.split_once(unit)?;
        number.rsplit([' ', ':', ',']).find(|word| !word.is_empty())?.parse::<f64>().ok()
    };
    let (Some(requests), Some(per_second)) =
        (number("status codes:", " 2xx"), number("finished in", " req/s"))
    else {
        return Err(format!("h2load said: {said}").into());
    };
    let others = [" 3xx", " 4xx", " 5xx"].map(|unit| number("status codes:", unit).unwrap_or(0.0));
    if requests == 0.0 || others != [0.0; 3] || !said.contains("Application protocol: h2") {
        return Err(format!("not the answers that were expected:\n{said}").into());
    }
    Ok(Tally { requests, per_second })
}
