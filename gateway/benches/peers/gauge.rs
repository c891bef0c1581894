//! CPU time and memory of a process group, from /proc.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::Result;

/// The processes of a group: a server and its workers.
pub(crate) fn members(group: u32) -> Result<Vec<u32>> {
    let numbers = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(numbers.filter(|&pid| group_of(pid) == Some(group)).collect())
}

fn group_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may have spaces; state, parent and group follow it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(2)?.parse().ok()
}

/// CPU time, user and system, that all threads of a group have used so far, to the nanosecond.
pub(crate) fn cpu_time(group: u32) -> Result<Duration> {
    let mut nanoseconds = 0;
    for pid in members(group)? {
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            nanoseconds += time_on_core(&thread?.path())?;
        }
    }
    Ok(Duration::from_nanos(nanoseconds))
}

fn time_on_core(thread: &Path) -> Result<u64> {
    let schedstat = fs::read_to_string(thread.join("schedstat"))
        .map_err(|e| format!("cannot read CPU time: {e}; the kernel needs CONFIG_SCHED_INFO"))?;
    let first = schedstat.split_whitespace().next().and_then(|number| number.parse().ok());
    Ok(first.ok_or("schedstat has no first number")?)
}

/// How long a core has not been idle since the machine was started.
pub(crate) fn busy_time(core: &str) -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu")?.strip_prefix(core)?.strip_prefix(' '));
    let line = line.ok_or_else(|| format!("there is no core {core}"))?;
    // user, nice, system, idle, iowait, irq, softirq, steal.
    let states = line.split_whitespace().take(8).enumerate();
    let busy = states
        .filter(|(index, _)| !matches!(index, 3 | 4))
        .filter_map(|(_, ticks)| ticks.parse::<u64>().ok());
    Ok(ticks(busy.sum()))
}

/// CPU time of this program and of those of its children that have ended.
pub(crate) fn own_time() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("stat has no name")?;
    // utime, stime, cutime, cstime.
    Ok(ticks(fields.split_whitespace().skip(11).take(4).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()))
}

fn ticks(ticks: u64) -> Duration {
    Duration::from_nanos(ticks * (1_000_000_000 / rustix::param::clock_ticks_per_second()))
}

/// Resident memory of a group, in KiB.
pub(crate) fn resident_kib(group: u32) -> Result<u64> {
    sum_of_status(group, "VmRSS:")
}

/// The most resident memory since [`forget_peaks`], in KiB.
pub(crate) fn peak_kib(group: u32) -> Result<u64> {
    sum_of_status(group, "VmHWM:")
}

/// Starts the peaks anew.
pub(crate) fn forget_peaks(group: u32) -> Result<()> {
    for pid in members(group)? {
        fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
    }
    Ok(())
}

fn sum_of_status(group: u32, name: &str) -> Result<u64> {
    let mut sum = 0;
    for pid in members(group)? {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        sum += number.ok_or_else(|| format!("process {pid} has no {name}"))?;
    }
    Ok(sum)
}
