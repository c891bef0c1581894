//! redb's storage backend over the state file, which also records what redb cannot know: whether an fsync has
//! failed, and whether the file still has its path.

use std::fs::{self, File, Metadata};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

/// A state file that was opened once, and its state since.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
    sync_failed: Arc<AtomicBool>,
}

impl Watch {
    pub(super) fn over(path: &Path, file: &File) -> io::Result<Watch> {
        let identity = identity(&file.metadata()?);
        Ok(Watch { path: path.to_owned(), identity, sync_failed: Arc::default() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether reopening the file can establish its state. Not after a failed fsync: the kernel may then hold
    /// pages that never reached the disk and report them as clean, and later writes that depend on them would
    /// be lost in a power failure. Only a new process, started by the operator, may go on.
    pub(super) fn may_reopen(&self) -> bool {
        !self.sync_failed.load(Ordering::Acquire)
    }

    /// Fails where the path is gone or leads to another file: writes would be lost with the process.
    pub(super) fn still_there(&self) -> io::Result<()> {
        match fs::metadata(&self.path) {
            Ok(found) if identity(&found) == self.identity => Ok(()),
            Ok(_) => Err(io::Error::other("the state file was replaced by another while it was in use")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(io::Error::new(error.kind(), "the state file was removed while it was in use"))
            }
            // The folder cannot be read at the moment; the open file is still valid.
            Err(_) => Ok(()),
        }
    }
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// redb's file backend, instrumented.
#[derive(Debug)]
pub(super) struct WatchedFile {
    file: FileBackend,
    watch: Watch,
}

impl WatchedFile {
    pub(super) fn new(file: File, watch: Watch) -> Result<WatchedFile, redb::DatabaseError> {
        Ok(WatchedFile { file: FileBackend::new(file)?, watch })
    }
}

type Range = Bound<u64>;

impl StorageBackend for WatchedFile {
    /// A commit is acknowledged after this, so a missing file must be detected here.
    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data().inspect_err(|_| self.watch.sync_failed.store(true, Ordering::Release))?;
        self.watch.still_there()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Range, end: Range) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Range, end: Range) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Range, end: Range) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Range, end: Range) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Range, end: Range) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Range, end: Range) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
