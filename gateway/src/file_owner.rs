//! Ownership of files and folders that a command creates: what root creates in the gateway's folder belongs to
//! the folder's owner, so that the gateway can use it.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown, lchown};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, OFlags, access};
use rustix::process::geteuid;

const ROOT: u32 = 0;

/// The file beside `path` whose name is longer by `suffix`.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The folder that contains `path`; that of a relative path of one component is `.`.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Gives a new file the owner and group of its folder, where this process is root and may do so. In a folder
/// that root itself shares with a group, the group may read the file.
///
/// # Errors
///
/// The folder or the file does not allow it.
pub(crate) fn inherit_owner(file: &File, folder: &Path) -> io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let folder = fs::metadata(folder)?;
    fchown(file, Some(folder.uid()), Some(folder.gid()))?;
    if folder.uid() == ROOT && folder.gid() != ROOT {
        file.set_permissions(Permissions::from_mode(file.metadata()?.mode() & 0o7777 | 0o040))?;
    }
    Ok(())
}

/// A new private file (mode 0600) that belongs to the owner of its folder. What was left there under the name is removed first:
/// the folder's owner could have made it a link to a file of root's.
///
/// # Errors
///
/// It cannot be created.
pub(crate) fn create_afresh(path: &Path, folder: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    inherit_owner(&file, folder)?;
    Ok(file)
}

/// Opens a private file (mode 0600) of a folder for its lock, and creates it if missing.
///
/// # Errors
///
/// It is a symbolic link, or cannot be opened.
pub(crate) fn open_lock_file(path: &Path, folder: &Path) -> io::Result<File> {
    let no_follow = OFlags::NOFOLLOW.bits().cast_signed();
    let mut options = OpenOptions::new();
    options.append(true).mode(0o600).custom_flags(no_follow);
    match options.clone().create_new(true).open(path) {
        Ok(file) => inherit_owner(&file, folder).map(|()| file),
        // Made by another process, which gave it its owner.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.open(path),
        Err(error) => Err(error),
    }
}

/// Creates a folder and its missing parents (mode 0700). Where this process is root, they belong to the owner
/// of the first folder that was there.
///
/// # Errors
///
/// One of them cannot be created.
pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
    // A relative path of one component has the empty parent.
    let missing: Vec<_> = path.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let (Some(top), true) = (missing.last(), geteuid().is_root()) else { return Ok(()) };
    let owner = fs::metadata(folder_of(top))?;
    missing.iter().try_for_each(|folder| lchown(folder, Some(owner.uid()), Some(owner.gid())))
}

/// Whether this process may create files in a folder, or the folder itself where it is missing.
///
/// # Errors
///
/// It may not, or a part of the path is no folder.
pub(crate) fn may_create_in(folder: &Path) -> io::Result<()> {
    let existing = folder.ancestors().find(|p| p.as_os_str().is_empty() || p.exists());
    let existing = existing.filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !existing.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::NotADirectory,
            format!("{} is no folder", existing.display()),
        ));
    }
    access(existing, Access::WRITE_OK | Access::EXEC_OK).map_err(|e| {
        io::Error::new(e.kind(), format!("nothing can be created in {}: {e}", existing.display()))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    fn owner(path: &Path) -> (u32, u32, u32) {
        let found = fs::metadata(path).unwrap();
        (found.uid(), found.gid(), found.mode() & 0o777)
    }

    /// Files and folders of root's are given away, others keep the owner they have.
    #[test]
    fn what_is_created_belongs_to_the_owner_of_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let (account, group) =
            if geteuid().is_root() { (1234, 4321) } else { (owner(dir.path()).0, owner(dir.path()).1) };
        chown(dir.path(), Some(account), Some(group)).unwrap();
        create_folder(&dir.path().join("var/keys")).unwrap();
        for folder in ["var", "var/keys"] {
            assert_eq!(owner(&dir.path().join(folder)), (account, group, 0o700));
        }
        let path = dir.path().join("var/file");
        let file = File::create(&path).unwrap();
        file.set_permissions(Permissions::from_mode(0o600)).unwrap();
        inherit_owner(&file, &dir.path().join("var")).unwrap();
        assert_eq!(owner(&path), (account, group, 0o600));
    }

    /// The owner of a folder must not get at root's files by links that he leaves in it.
    #[test]
    fn links_in_the_folder_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        fs::write(&target, "root's").unwrap();
        fs::set_permissions(&target, Permissions::from_mode(0o640)).unwrap();
        let before = owner(&target);
        if geteuid().is_root() {
            chown(dir.path(), Some(1234), Some(4321)).unwrap();
        }
        for target in [&target, &dir.path().join("missing")] {
            symlink(target, &link).unwrap();
            assert!(open_lock_file(&link, dir.path()).is_err());
            create_afresh(&link, dir.path()).unwrap();
            assert!(fs::symlink_metadata(&link).unwrap().is_file());
            fs::remove_file(&link).unwrap();
        }
        assert_eq!((fs::read_to_string(&target).unwrap(), owner(&target)), ("root's".to_owned(), before));
        assert!(!dir.path().join("missing").exists());
        open_lock_file(&link, dir.path()).unwrap();
        assert_eq!(owner(&link).2, 0o600);
        open_lock_file(&link, dir.path()).unwrap();
    }

    /// A file that another account put under the lock's name keeps its owner.
    #[test]
    fn only_who_creates_a_lock_file_sets_its_owner() {
        if !geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        chown(dir.path(), Some(1234), Some(4321)).unwrap();
        let path = dir.path().join("keys.lock");
        fs::write(&path, "").unwrap();
        let before = owner(&path);
        open_lock_file(&path, dir.path()).unwrap();
        assert_eq!(owner(&path), before);
    }

    #[test]
    fn the_group_of_a_folder_of_roots_may_read_what_root_creates_in_it() {
        if !geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        chown(dir.path(), Some(ROOT), Some(4321)).unwrap();
        let path = dir.path().join("users.toml");
        let file = File::create(&path).unwrap();
        file.set_permissions(Permissions::from_mode(0o600)).unwrap();
        inherit_owner(&file, dir.path()).unwrap();
        assert_eq!(owner(&path), (ROOT, 4321, 0o640));
    }
}
