//! The machine: its cores and its limits, and how it is named in the report.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::Result;

/// The core that belongs to the proxy that is measured.
pub(crate) const PROXY_CORE: &str = "0";
/// The core that the upstream, the load and this program share.
pub(crate) const LOAD_CORE: &str = "1";
pub(crate) const BOTH_CORES: &str = "0,1";

/// Files that one process may need: a client and an upstream connection for each of some thousand clients.
const OPEN_FILES: u64 = 20_000;

/// Moves this program, and with it everything it starts, to the load's core, and raises the limit of open files.
pub(crate) fn prepare() -> Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    if cores < 2 {
        return Err("two cores are needed, one for the proxy and one for the load, and there is one".into());
    }
    let mut load_core = CpuSet::new();
    load_core.set(LOAD_CORE.parse()?);
    sched_setaffinity(None, &load_core)
        .map_err(|e| format!("cannot move to core {LOAD_CORE}: {e}; allow this process cores 0 and 1"))?;

    let limit = getrlimit(Resource::Nofile);
    let maximum = limit.maximum.map_or(OPEN_FILES, |maximum| maximum.max(OPEN_FILES));
    let raised = Rlimit { current: Some(OPEN_FILES), maximum: limit.maximum.map(|_| maximum) };
    if limit.current.is_some_and(|current| current < OPEN_FILES) {
        setrlimit(Resource::Nofile, raised)
            .map_err(|e| format!("cannot have {OPEN_FILES} open files: {e}; raise `ulimit -Hn` first"))?;
    }
    Ok(())
}

/// `4 cores, Some CPU, Linux 6.1`.
pub(crate) fn description() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let field = |line: &str| line.split_once(':').map(|(_, value)| value.trim().to_owned());
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let model = cpuinfo.lines().find(|line| line.starts_with("model name")).and_then(field);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cores} cores, {}, Linux {}", model.unwrap_or_else(|| "unknown CPU".to_owned()), kernel.trim())
}
