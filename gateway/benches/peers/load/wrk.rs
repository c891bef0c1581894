//! Closed-loop load by wrk: each client sends its next request after the response.

use std::path::Path;
use std::process::{Command, Stdio};

use super::{Cost, Tally, closed_loop};
use crate::Result;
use crate::lab::{Lab, Running};
use crate::machine::LOAD_CORE;

/// One run of wrk.
pub(crate) struct Wrk<'a> {
    pub(crate) clients: u32,
    pub(crate) seconds: u64,
    /// Sent with every request, unless a script sends others.
    pub(crate) token: &'a str,
    /// Whether the token is sent as a browser's session is, in a cookie among others.
    pub(crate) cookies: bool,
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
            cookies: false,
            reconnect: false,
            tokens: None,
            cores: LOAD_CORE,
            refused: false,
        }
    }

    /// Runs it and reads what it cost.
    pub(crate) fn measure(&self, lab: &Lab, running: &Running) -> Result<Cost> {
        closed_loop(lab, running, || self.command(lab, running), |said| self.read(said))
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
            None if self.cookies => command.arg("-H").arg(format!(
                "Cookie: theme=dark; auth_gateway_access={0}; auth_gateway_refresh={0}; app=0123456789abcdef",
                self.token
            )),
            None => command.arg("-H").arg(format!("Authorization: Bearer {}", self.token)),
        };
        command.arg(running.url()).args(self.tokens);
        command.stdin(Stdio::null());
        Ok(command)
    }

    /// Fails unless all were answered as they should be.
    fn read(&self, said: &str) -> Result<Tally> {
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
        Ok(Tally { requests, per_second })
    }
}

fn script() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/load/cold.lua")
}
