//! The gateway whose place this one takes. Both listen on the same addresses for a while (SO_REUSEPORT), and the older one
//! is told to hand over when the newer one is there.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How often is tried whether the predecessor has given its store up.
pub(crate) const TAKEOVER_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The place of a process cannot be taken.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot take over from process {id}: {reason}; name the running gateway's process (pgrep auth-gateway)"
)]
pub struct TakeoverError {
    id: i32,
    reason: String,
}

/// A running gateway.
#[derive(Debug)]
pub struct OldProcess {
    id: i32,
    /// Names this process for good; its number might come to be another's.
    process: OwnedFd,
}

impl OldProcess {
    /// The gateway with this process id. A process of another name is none.
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

    /// Tells it to accept nobody any more, to finish what it has begun, and to end.
    pub(crate) fn signal_shutdown(&self) -> io::Result<()> {
        tracing::info!(process = self.id, "taking over: the older gateway is told to hand over");
        match pidfd_send_signal(&self.process, Signal::QUIT) {
            // It has gone by itself.
            Err(rustix::io::Errno::SRCH) => Ok(()),
            sent => Ok(sent?),
        }
    }
}
