//! Creating and opening the state file: a damaged file is rejected, never taken for an empty one, which would
//! forget reuse and unlock accounts.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, ReadableDatabase, StorageError};

use super::disk::{Watch, WatchedFile};
use super::layout::{EXPIRIES, FORMAT, FORMAT_KEY, FORMAT_VERSION, GROUPS, RECORDS};
use crate::file_owner::{create_afresh, create_folder, folder_of, with_suffix};

const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// Why a state file cannot be used. It was not changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder or the file cannot be created or read.
    #[error("cannot use the state file {path}: {reason}; check store.path and its owner")]
    Inaccessible {
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
    /// Another process has it open.
    #[error(
        "the state file {0} is in use by another process: stop that one, or give this one its own store.path; several gateways cannot share one embedded store"
    )]
    InUse(PathBuf),
    /// It is damaged or was written by another program.
    #[error(
        "the state file {path} is damaged or not one of this program's: {reason}; restore it from a backup, or move it away to start anew, which ends all sessions and forgets all locks"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
}

impl OpenError {
    pub(super) fn inaccessible(path: &Path, reason: &dyn std::fmt::Display) -> OpenError {
        OpenError::Inaccessible { path: path.to_owned(), reason: reason.to_string() }
    }

    pub(super) fn foreign(path: &Path, reason: &dyn std::fmt::Display) -> OpenError {
        OpenError::Foreign { path: path.to_owned(), reason: reason.to_string() }
    }
}

/// Opens the file, or creates it (mode 0600) if missing.
pub(super) fn open_or_create(path: &Path) -> Result<(Database, Watch), OpenError> {
    let dir = folder_of(path);
    create_folder(dir).map_err(|e| OpenError::inaccessible(path, &e))?;
    if is_missing(path)? {
        create(dir, path)?;
    }
    open(path, None)
}

/// Opens an existing file, and verifies every page's checksum and that the file is ours. `watch` carries over
/// from an earlier open.
pub(super) fn open(path: &Path, watch: Option<&Watch>) -> Result<(Database, Watch), OpenError> {
    // redb may panic on data that it did not write.
    let opened = catch_unwind(AssertUnwindSafe(|| open_checked(path, watch)));
    opened.unwrap_or_else(|_| Err(OpenError::foreign(path, &"its structure is broken")))
}

pub(super) fn is_missing(path: &Path) -> Result<bool, OpenError> {
    match fs::metadata(path) {
        Ok(file) if file.len() == 0 => Err(OpenError::foreign(path, &"it is empty")),
        Ok(_) => Ok(false),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(true),
        Err(e) => Err(OpenError::inaccessible(path, &e)),
    }
}

/// Creates the file under a temporary name: a crash leaves no incomplete file under the real one. The folder
/// is locked meanwhile: of two processes that start together, one must not replace the file that the other
/// has just opened.
fn create(dir: &Path, path: &Path) -> Result<(), OpenError> {
    let inaccessible = |e: std::io::Error| OpenError::inaccessible(path, &e);
    let folder = File::open(dir).map_err(inaccessible)?;
    folder.lock().map_err(inaccessible)?;
    if !is_missing(path)? {
        return Ok(());
    }
    let unfinished = with_suffix(path, ".new");
    let file = create_afresh(&unfinished, dir).map_err(inaccessible)?;
    let made = FileBackend::new(file).and_then(|file| Builder::new().create_with_backend(file));
    let made = made.map_err(redb::Error::from).and_then(|database| prepare(&database));
    made.map_err(|e| OpenError::inaccessible(path, &e))?;
    fs::rename(&unfinished, path).map_err(inaccessible)?;
    // Without this fsync a power failure could remove the file together with all acknowledged changes.
    folder.sync_all().map_err(inaccessible)
}

/// Creates the tables of an empty database, and marks it as ours.
pub(super) fn prepare(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(FORMAT)?.insert(FORMAT_KEY, FORMAT_VERSION)?;
    transaction.open_table(RECORDS)?;
    transaction.open_table(GROUPS)?;
    transaction.open_table(EXPIRIES)?;
    transaction.commit()?;
    Ok(())
}

fn open_checked(path: &Path, watch: Option<&Watch>) -> Result<(Database, Watch), OpenError> {
    let inaccessible = |e: std::io::Error| OpenError::inaccessible(path, &e);
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(inaccessible)?;
    let watch = match watch {
        Some(watch) => watch.clone(),
        None => Watch::over(path, &file).map_err(inaccessible)?,
    };
    if file.metadata().map_err(inaccessible)?.len() == 0 {
        return Err(OpenError::foreign(path, &"it is empty"));
    }
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    let database = WatchedFile::new(file, watch.clone()).and_then(|file| builder.create_with_backend(file));
    Ok((opened(database, path)?, watch))
}

/// What redb opened, if it is ours.
pub(super) fn opened(database: Result<Database, DatabaseError>, path: &Path) -> Result<Database, OpenError> {
    let database = database.map_err(|e| match e {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            OpenError::InUse(path.to_owned())
        }
        // Damaged content is reported under these two kinds; anything else is an access error, and must not
        // suggest that the file be discarded.
        DatabaseError::Storage(StorageError::Io(e))
            if !matches!(e.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
        {
            OpenError::inaccessible(path, &e)
        }
        e => OpenError::foreign(path, &e),
    })?;
    match format(&database).map_err(|e| OpenError::foreign(path, &e))? {
        Some(version) if version == FORMAT_VERSION => Ok(database),
        Some(version) => Err(OpenError::foreign(
            path,
            &format_args!("its format is {version}, this program's is {FORMAT_VERSION}"),
        )),
        None => Err(OpenError::foreign(path, &"it has no format mark")),
    }
}

fn format(database: &Database) -> Result<Option<String>, redb::Error> {
    let transaction = database.begin_read()?;
    Ok(transaction.open_table(FORMAT)?.get(FORMAT_KEY)?.map(|version| version.value().to_owned()))
}
