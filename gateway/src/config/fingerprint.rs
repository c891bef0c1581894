//! Whether a file is still what it was, by its metadata.
//!
//! That works on every file system, through mounts and symbolic links, and needs no descriptors; notifications by the
//! kernel miss changes on network file systems and where a folder is swapped beneath a link.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Tells one state of a file from the next; `None` where it cannot be looked at.
pub(crate) type Fingerprint = Option<[i64; 7]>;

pub(crate) fn fingerprint(path: &Path) -> Fingerprint {
    let file = fs::metadata(path).ok()?;
    let (device, inode, size) = (file.dev() as i64, file.ino() as i64, file.size() as i64);
    Some([device, inode, size, file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()])
}
