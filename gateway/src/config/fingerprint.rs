//! Change detection of a file by its metadata.
//!
//! That works on every file system, through mounts and symbolic links, and needs no descriptors; kernel
//! notifications (inotify) miss changes on network file systems and where a folder is swapped beneath a link.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The metadata that changes with a file; `None` if it is not accessible.
pub(crate) type Fingerprint = Option<[i64; 7]>;

pub(crate) fn fingerprint(path: &Path) -> Fingerprint {
    let file = fs::metadata(path).ok()?;
    let (device, inode, size) = (file.dev() as i64, file.ino() as i64, file.size() as i64);
    Some([device, inode, size, file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()])
}
