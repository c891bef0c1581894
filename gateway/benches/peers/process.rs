//! Child processes, which are killed when this process ends.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::signal::unix::{SignalKind, signal};

use crate::Result;

/// How long a program may take to end when it is asked to.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The running groups. The holder of the lock may start or end one.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

fn running() -> MutexGuard<'static, Vec<Pid>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// On Ctrl-C and its kin, ends what was started and then this program.
pub(crate) fn end_all_on_signals() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let listen = |kind| signal(kind);
            let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) = (
                listen(SignalKind::interrupt()),
                listen(SignalKind::terminate()),
                listen(SignalKind::hangup()),
            ) else {
                return;
            };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        });
        // Held to the end, so that nothing new is started.
        let groups = running();
        for &group in groups.iter() {
            let _ = kill_process_group(group, Signal::KILL);
        }
        eprintln!("\nstopped: everything that was started has been ended");
        std::process::exit(130);
    });
    Ok(())
}

/// A program in a process group of its own.
pub(crate) struct Process {
    child: Child,
    group: Pid,
    log: PathBuf,
}

impl Process {
    /// Starts a program whose output goes to `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Result<Process> {
        let output = File::create(log).map_err(|e| format!("cannot write {}: {e}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        let mut groups = running();
        let child = command
            .spawn()
            .map_err(|e| format!("cannot start {}: {e}", command.get_program().to_string_lossy()))?;
        let group = Pid::from_child(&child);
        groups.push(group);
        Ok(Process { child, group, log: log.to_owned() })
    }

    /// The number of its process group.
    pub(crate) fn group(&self) -> u32 {
        self.child.id()
    }

    /// Fails when the program has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(format!("it ended with {status}:\n{}", self.last_words()).into()),
        }
    }

    /// The end of its log.
    pub(crate) fn last_words(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut groups = running();
        // Not yet waited for, so the number is still its own.
        let _ = kill_process_group(self.group, Signal::TERM);
        let end = Instant::now() + STOP_TIMEOUT;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > end {
                let _ = kill_process_group(self.group, Signal::KILL);
                let _ = self.child.wait();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        groups.retain(|&group| group != self.group);
    }
}
