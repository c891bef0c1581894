//! `auth-gateway state …`: backup and restore of the embedded store's file.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::CommandError;
use super::hash_password::Console;
use crate::config::{Settings, Store};
use crate::server::{ControlCommand, ControlResponse, control};
use crate::sessions::restore_state_file;

/// What to do with the state file.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum StateCommand {
    /// Write a consistent copy of the state file, while the gateway runs or not
    Backup {
        /// The copy; replaced if it exists
        file: PathBuf,
    },
    /// Replace the state file by a backup, which is verified first; the gateway must be stopped
    Restore {
        /// A copy that `state backup` has written
        file: PathBuf,
    },
}

pub(super) fn run(
    command: StateCommand,
    settings: &Settings,
    console: &mut Console<'_>,
) -> Result<(), CommandError> {
    let path = match &settings.store {
        Store::Embedded { path } => path,
        Store::Redis(_) => {
            return Err(CommandError::failed(
                "store.kind is \"redis\", and its state is backed up with Redis: BGSAVE, or a replica",
            ));
        }
        Store::Memory => {
            return Err(CommandError::failed(
                "store.kind is \"memory\": its state ends with the process, and has no backup",
            ));
        }
    };
    match command {
        StateCommand::Backup { file } => {
            if !path.exists() {
                let path = path.display();
                return Err(CommandError::failed(format!(
                    "there is no state file {path} yet: nothing to back up"
                )));
            }
            let answer = control(settings, ControlCommand::Backup).map_err(CommandError::failed)?;
            let ControlResponse::BackedUp(name) = answer else { return Ok(()) };
            let copy = path.with_file_name(name);
            let moved = move_file(&copy, &file);
            // Moved or of no use.
            let _ = fs::remove_file(&copy);
            let bytes =
                moved.map_err(|e| CommandError::failed(format!("cannot write {}: {e}", file.display())))?;
            writeln!(console.notes, "{} is a backup of {}, {bytes} bytes", file.display(), path.display())
        }
        StateCommand::Restore { file } => {
            let replaced = restore_state_file(&file, path).map_err(CommandError::failed)?;
            let (file, path) = (file.display(), path.display());
            match replaced {
                Some(old) => {
                    writeln!(
                        console.notes,
                        "{path} is {file} now; the file of before is kept as {}",
                        old.display()
                    )
                }
                None => writeln!(console.notes, "{path} is {file} now"),
            }
        }
    }
    .map_err(CommandError::failed)
}

/// Copies a file to another place, where it replaces an older one when it is complete, and returns its length.
fn move_file(from: &Path, to: &Path) -> io::Result<u64> {
    let name = to.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let mut unfinished = name.to_owned();
    unfinished.push(".new");
    let unfinished = to.with_file_name(unfinished);
    let mut file =
        OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&unfinished)?;
    let bytes = io::copy(&mut File::open(from)?, &mut file)?;
    file.sync_all()?;
    fs::rename(&unfinished, to)?;
    Ok(bytes)
}
