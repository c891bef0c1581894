//! Backup and restore of the state file, and an examination that changes nothing.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{
    Builder, DatabaseError, Key, ReadTransaction, ReadableTable, StorageBackend, TableDefinition, Value,
    WriteTransaction,
};

use super::layout::{EXPIRIES, FORMAT, GROUPS, RECORDS};
use super::state_file::{OpenError, is_missing, open, opened};
use crate::file_owner::{create_afresh, create_folder, folder_of, may_create_in, with_suffix};

/// Writes what `from` shows, one commit of the database, to a new state file (mode 0600).
pub(super) fn copy(from: &ReadTransaction, to: &Path) -> io::Result<()> {
    let file = OpenOptions::new().create_new(true).read(true).write(true).mode(0o600).open(to)?;
    let write = || -> Result<(), redb::Error> {
        let database = Builder::new().create_with_backend(FileBackend::new(file)?)?;
        let transaction = database.begin_write()?;
        copy_table(from, &transaction, FORMAT)?;
        copy_table(from, &transaction, RECORDS)?;
        copy_table(from, &transaction, GROUPS)?;
        copy_table(from, &transaction, EXPIRIES)?;
        transaction.commit()?;
        Ok(())
    };
    write().map_err(|error| {
        // An incomplete copy must not be taken for a backup.
        let _ = fs::remove_file(to);
        io::Error::other(error)
    })
}

fn copy_table<K: Key + 'static, V: Value + 'static>(
    from: &ReadTransaction,
    to: &WriteTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<(), redb::Error> {
    let (from, mut to) = (from.open_table(table)?, to.open_table(table)?);
    for entry in from.iter()? {
        let (key, value) = entry?;
        to.insert(key.value(), value.value())?;
    }
    Ok(())
}

/// Replaces the state file by a backup, which is verified first. Returns where the replaced file is kept.
///
/// # Errors
///
/// A gateway has the state file open, the backup is damaged, or a file cannot be written. The state file is
/// unchanged then.
pub fn restore(backup: &Path, path: &Path) -> Result<Option<PathBuf>, OpenError> {
    let failed = |e: io::Error| OpenError::inaccessible(path, &e);
    let dir = folder_of(path);
    create_folder(dir).map_err(failed)?;
    // Open to the end, for its lock. A damaged one may be what the backup is needed for.
    let _current = match is_missing(path) {
        Ok(true) | Err(OpenError::Foreign { .. }) => None,
        Ok(false) => match open(path, None) {
            Err(OpenError::Foreign { .. }) => None,
            current => Some(current?),
        },
        Err(error) => return Err(error),
    };
    let fresh = with_suffix(path, ".new");
    let result = copy_file(backup, &fresh, dir).and_then(|()| {
        // Checked where it is, so that a bad disk is noticed as well.
        open(&fresh, None).map(drop).map_err(|error| match error {
            OpenError::Foreign { reason, .. } => OpenError::foreign(backup, &reason),
            error => error,
        })
    });
    if let Err(error) = result {
        let _ = fs::remove_file(&fresh);
        return Err(error);
    }
    let replaced = with_suffix(path, ".before-restore");
    let _ = fs::remove_file(&replaced);
    // A link, so that there is a state file at every moment.
    let replaced = match fs::hard_link(path, &replaced) {
        Ok(()) => Some(replaced),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(failed(e)),
    };
    fs::rename(&fresh, path).and_then(|()| File::open(dir)?.sync_all()).map_err(failed)?;
    Ok(replaced)
}

fn copy_file(from: &Path, to: &Path, folder: &Path) -> Result<(), OpenError> {
    let mut source = File::open(from).map_err(|e| OpenError::inaccessible(from, &e))?;
    let mut write = || {
        let mut file = create_afresh(to, folder)?;
        io::copy(&mut source, &mut file)?;
        file.sync_all()
    };
    write().map_err(|e| OpenError::inaccessible(to, &e))
}

/// Whether a start could use the state file, as far as that shows without changing anything. A file that a
/// running gateway has open passes.
///
/// # Errors
///
/// As [`super::EmbeddedStore::open`] would fail.
pub fn examine(path: &Path) -> Result<(), OpenError> {
    let inaccessible = |e: io::Error| OpenError::inaccessible(path, &e);
    if is_missing(path)? {
        return may_create_in(folder_of(path)).map_err(inaccessible);
    }
    OpenOptions::new().read(true).write(true).open(path).map_err(inaccessible)?;
    let locked = catch_unwind(AssertUnwindSafe(|| Builder::new().open_read_only(path).map(drop)));
    if let Ok(Err(DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch)) = locked {
        return Ok(());
    }
    // A check of all pages may repair, so it is made on a copy in memory.
    let content = fs::read(path).map_err(inaccessible)?;
    let open = || {
        let memory = InMemoryBackend::new();
        let fill = memory.set_len(content.len() as u64).and_then(|()| memory.write(0, &content));
        fill.map_err(inaccessible)?;
        let database = Builder::new().set_check_integrity_on_open(true).create_with_backend(memory);
        opened(database, path).map(drop)
    };
    catch_unwind(AssertUnwindSafe(open))
        .unwrap_or_else(|_| Err(OpenError::foreign(path, &"its structure is broken")))
}
