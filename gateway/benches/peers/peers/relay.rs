//! The lower bound: a relay in C that only reads and writes.

use std::path::Path;
use std::process::Command;

use super::Setup;
use crate::Result;

pub(super) fn command(setup: &Setup<'_>) -> Result<Command> {
    let gcc = setup.tools.required("gcc")?;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/peers/relay.c");
    let program = setup.dir.join("relay");
    let compiled = Command::new(gcc).args(["-O2", "-Wall", "-o"]).arg(&program).arg(source).output()?;
    if !compiled.status.success() {
        return Err(format!("gcc: {}", String::from_utf8_lossy(&compiled.stderr)).into());
    }
    let mut command = Command::new(program);
    command.args([setup.listen.port(), setup.upstream.port()].map(|port| port.to_string()));
    Ok(command)
}
