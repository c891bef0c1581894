//! `auth-gateway state …`: backup and restore of the embedded store's file.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use rustix::fs::OFlags;
use tempfile::NamedTempFile;

use super::CommandError;
use super::hash_password::Console;
use crate::config::{Settings, Store};
use crate::file_owner::folder_of;
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
///
/// The copy is made under a random name that cannot exist before: whoever may write to the folder could have
/// made a known name a link to another file.
fn move_file(from: &Path, to: &Path) -> io::Result<u64> {
    let no_follow = OFlags::NOFOLLOW.bits().cast_signed();
    let mut from = OpenOptions::new().read(true).custom_flags(no_follow).open(from)?;
    let mut unfinished = NamedTempFile::new_in(folder_of(to))?;
    let bytes = io::copy(&mut from, &mut unfinished)?;
    unfinished.as_file().sync_all()?;
    unfinished.persist(to)?;
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_backup_replaces_what_is_there_and_follows_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("copy"), "state").unwrap();
        fs::write(at("precious"), "precious").unwrap();
        for link in ["backup", "backup.new"] {
            symlink(at("precious"), at(link)).unwrap();
        }
        assert_eq!(move_file(&at("copy"), &at("backup")).unwrap(), 5);
        assert_eq!(fs::read_to_string(at("precious")).unwrap(), "precious");
        let backup = fs::symlink_metadata(at("backup")).unwrap();
        assert!(backup.is_file() && backup.permissions().mode() & 0o777 == 0o600);
        assert_eq!(fs::read_to_string(at("backup")).unwrap(), "state");
        assert!(move_file(&at("backup.new"), &at("again")).is_err(), "the source is a link");
        assert!(move_file(&at("copy"), &at("no/folder")).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4, "nothing unfinished is left");
    }
}
