//! Takeover (hot restart): the old process whose place a new one takes. Both listen on the same addresses for
//! a while (`SO_REUSEPORT`), and the old process is signalled to drain when the new one is ready.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Poll interval while waiting for the old process to release its store.
pub(crate) const TAKEOVER_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The process cannot be taken over from.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot take over from process {id}: {reason}; name the running gateway's process (pgrep auth-gateway)"
)]
pub struct TakeoverError {
    id: i32,
    reason: String,
}

/// The old process: a running gateway.
#[derive(Debug)]
pub struct OldProcess {
    id: i32,
    /// A pidfd: process ids may be reused.
    process: OwnedFd,
}

impl OldProcess {
    /// The gateway with this process id; a process with another name is an error.
    pub fn find(id: i32) -> Result<OldProcess, TakeoverError> {
        let failed = |reason: String| TakeoverError { id, reason };
        let pid = Pid::from_raw(id).filter(|_| id > 0).ok_or_else(|| failed("it is no process id".into()))?;
        let process = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| failed(error.to_string()))?;
        let name = |id: &str| std::fs::read_to_string(format!("/proc/{id}/comm"));
        let theirs = name(&id.to_string()).map_err(|error| failed(error.to_string()))?;
        let ours = name("self").map_err(|error| failed(error.to_string()))?;
        if theirs != ours {
            return Err(failed(format!("it is {}, not {}", theirs.trim_end(), ours.trim_end())));
        }
        Ok(OldProcess { id, process })
    }

    /// Signals the old process to stop accepting, drain and exit (SIGQUIT).
    pub(crate) fn signal_shutdown(&self) -> io::Result<()> {
        tracing::info!(process = self.id, "taking over: signalling the old process to drain");
        match pidfd_send_signal(&self.process, Signal::QUIT) {
            // It has already exited.
            Err(rustix::io::Errno::SRCH) => Ok(()),
            sent => Ok(sent?),
        }
    }
}
