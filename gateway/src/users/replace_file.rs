//! Atomic replacement of a file: a reader sees the old content or the new, never a part, and a crash loses
//! neither.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use crate::file_owner::{folder_of, inherit_owner};

/// Writes `content` to a new file in the same folder, syncs it, and renames it to `path`. Mode and owner of
/// the old file are kept; a new file gets mode 0600 and, made by root, the owner of its folder.
///
/// `path` must not be a symbolic link, or the link itself is replaced.
pub(crate) fn replace_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let old = match fs::metadata(path) {
        Ok(metadata) => Some(metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let temp_file = TempFile::create(path)?;
    let mut file = &temp_file.file;
    match old {
        Some(old) => {
            let new = file.metadata()?;
            if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
                fchown(file, Some(old.uid()), Some(old.gid()))?;
            }
            file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))?;
        }
        None => inherit_owner(file, folder_of(path))?,
    }
    file.write_all(content)?;
    file.sync_all()?;
    temp_file.rename_to(path)?;
    // The rename itself must survive a crash as well.
    File::open(folder_of(path))?.sync_all()
}

/// The new file before its rename; removed on drop.
struct TempFile {
    file: File,
    path: Option<PathBuf>,
}

impl TempFile {
    fn create(target: &Path) -> io::Result<Self> {
        let mut name = std::ffi::OsString::from(".");
        name.push(target.file_name().ok_or(io::ErrorKind::InvalidInput)?);
        name.push(format!(".new-{}", std::process::id()));
        let path = folder_of(target).join(name);
        let open = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = open().or_else(|error| match error.kind() {
            // Left by a killed process with the same id.
            io::ErrorKind::AlreadyExists => fs::remove_file(&path).and_then(|()| open()),
            _ => Err(error),
        })?;
        Ok(Self { file, path: Some(path) })
    }

    fn rename_to(mut self, target: &Path) -> io::Result<()> {
        if let Some(path) = &self.path {
            fs::rename(path, target)?;
        }
        self.path = None;
        Ok(())
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Nothing more can be done about a temporary file that cannot be removed; the target is
            // unchanged.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_new_file_is_private_and_an_old_one_keeps_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.toml");
        replace_file(&path, b"one").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        replace_file(&path, b"two").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(folder.path()), ["users.toml"]);
    }

    #[test]
    fn who_has_the_old_file_open_goes_on_reading_the_old_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.toml");
        fs::write(&path, "old").unwrap();
        let reader = File::open(&path).unwrap();
        replace_file(&path, b"new").unwrap();
        assert_eq!(io::read_to_string(reader).unwrap(), "old");
    }

    #[test]
    fn a_failure_leaves_the_target_and_no_draft() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("users.toml");
        fs::create_dir(&target).unwrap();
        assert!(replace_file(&target, b"new").is_err());
        assert_eq!(names(folder.path()), ["users.toml"]);
    }

    #[test]
    fn a_left_over_draft_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        let left_over = folder.path().join(format!(".users.toml.new-{}", std::process::id()));
        fs::write(left_over, "torn").unwrap();
        let path = folder.path().join("users.toml");
        replace_file(&path, b"whole").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(names(folder.path()), ["users.toml"]);
    }
}
