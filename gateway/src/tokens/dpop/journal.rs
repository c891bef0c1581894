//! Used proofs on disk, so that a restart does not forget them. A proof is written when it is used, without waiting for the disk:
//! what was written survives the process, also where it is killed, and a power cut may take the last seconds.
//!
//! Two files are enough: a new one is begun when the last record of the one before has been kept for a proof's lifetime.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::ProofId;
use crate::file_owner::{create_afresh, folder_of, with_suffix};
use crate::tokens::UnixSeconds;

const ID_LEN: usize = 16;
/// An id, and until when it has to be remembered (little endian).
const RECORD_LEN: usize = ID_LEN + 8;

/// How long to wait before a failed change of files is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// The files of used proofs.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    file: Option<File>,
    /// Of whole records, in bytes.
    len: u64,
    /// When the file was begun.
    since: UnixSeconds,
    retry_at: UnixSeconds,
}

impl Journal {
    /// The journal at `path`, and the proofs in it that still have to be remembered. No file is made before a proof is used.
    pub(super) fn open(path: &Path, now: UnixSeconds) -> (Journal, Vec<ProofId>) {
        let journal = Journal { path: path.to_owned(), state: Mutex::default() };
        let records = journal.collect(now).unwrap_or_else(|error| {
            tracing::error!(path = %path.display(), %error, "used proofs cannot be read: those of before the start can be used again while they are young");
            Vec::new()
        });
        (journal, records.into_iter().map(|(id, _)| id).collect())
    }

    /// Reads both files, and leaves one with what still counts.
    fn collect(&self, now: UnixSeconds) -> io::Result<Vec<(ProofId, UnixSeconds)>> {
        let previous = self.previous();
        let mut records = read(&previous)?;
        records.extend(read(&self.path)?);
        records.retain(|(_, until)| *until > now);
        if !records.is_empty() {
            let bytes: Vec<u8> = records.iter().flat_map(|(id, until)| record(*id, *until)).collect();
            let unfinished = with_suffix(&self.path, ".new");
            create_afresh(&unfinished, folder_of(&unfinished))?.write_all(&bytes)?;
            fs::rename(&unfinished, &previous)?;
        } else {
            remove(&previous)?;
        }
        remove(&self.path)?;
        Ok(records)
    }

    /// Adds a proof that is used at `now` and could be accepted for `lifetime`.
    pub(super) fn append(&self, id: ProofId, now: UnixSeconds, lifetime: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = state.file.is_none() || now.since(state.since) > lifetime;
        if is_old && now >= state.retry_at {
            match self.begin_file() {
                Ok(file) => *state = State { file: Some(file), since: now, ..State::default() },
                Err(error) => self.failed(&mut state, now, &error),
            }
        }
        let len = state.len;
        let Some(file) = &mut state.file else { return };
        match file.write_all(&record(id, now.saturating_add(lifetime))) {
            Ok(()) => state.len += RECORD_LEN as u64,
            Err(error) => {
                // A part of a record would shift those behind it.
                let cut = file.set_len(len).and_then(|()| file.seek(SeekFrom::Start(len)));
                if cut.is_err() {
                    state.file = None;
                }
                if now >= state.retry_at {
                    self.failed(&mut state, now, &error);
                }
            }
        }
    }

    fn begin_file(&self) -> io::Result<File> {
        match fs::rename(&self.path, self.previous()) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        create_afresh(&self.path, folder_of(&self.path))
    }

    fn failed(&self, state: &mut State, now: UnixSeconds, error: &io::Error) {
        state.retry_at = now.saturating_add(RETRY);
        tracing::error!(path = %self.path.display(), %error, "used proofs cannot be written: after a restart they can be used again while they are young");
    }

    /// The file of the proofs before those in the one that is written.
    fn previous(&self) -> PathBuf {
        with_suffix(&self.path, ".1")
    }
}

fn record(id: ProofId, until: UnixSeconds) -> [u8; RECORD_LEN] {
    let mut record = [0; RECORD_LEN];
    record[..ID_LEN].copy_from_slice(&id.0);
    record[ID_LEN..].copy_from_slice(&until.get().to_le_bytes());
    record
}

/// The whole records of a file; none where there is no file.
fn read(path: &Path) -> io::Result<Vec<(ProofId, UnixSeconds)>> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        read => read?,
    };
    let (records, _) = bytes.as_chunks::<RECORD_LEN>();
    let split = |record: &[u8; RECORD_LEN]| {
        let (mut id, mut until) = ([0; ID_LEN], [0; 8]);
        id.copy_from_slice(&record[..ID_LEN]);
        until.copy_from_slice(&record[ID_LEN..]);
        (ProofId(id), UnixSeconds::new(u64::from_le_bytes(until)))
    };
    Ok(records.iter().map(split).collect())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn id(number: u8) -> ProofId {
        ProofId([number; ID_LEN])
    }

    fn open(path: &Path, now: u64) -> (Journal, Vec<ProofId>) {
        Journal::open(path, UnixSeconds::new(now))
    }

    fn append(journal: &Journal, id: ProofId, now: u64) {
        journal.append(id, UnixSeconds::new(now), Duration::from_secs(60));
    }

    fn found(path: &Path, now: u64) -> Vec<u8> {
        let mut ids: Vec<u8> = open(path, now).1.iter().map(|id| id.0[0]).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn proofs_are_found_again_for_as_long_as_they_could_be_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb.proofs");
        let (journal, none) = open(&path, 1_000);
        assert!(none.is_empty() && !path.exists(), "no file without a proof");
        append(&journal, id(1), 1_000);
        append(&journal, id(2), 1_030);
        append(&journal, id(3), 1_061);
        drop(journal);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(found(&path, 1_062), [2, 3], "of both files");
        assert_eq!(found(&path, 1_062), [2, 3], "as often as it is opened");
        let (journal, _) = open(&path, 1_063);
        append(&journal, id(4), 1_070);
        assert_eq!(found(&path, 1_080), [2, 3, 4]);
        assert_eq!(found(&path, 1_100), [3, 4]);
        assert_eq!(found(&path, 2_000), [0; 0]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left of them");
    }

    #[test]
    fn the_files_do_not_grow_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("proofs");
        let (journal, _) = open(&path, 0);
        for second in 1..2_000 {
            append(&journal, id((second % 251) as u8), second);
        }
        let size = |path: &Path| fs::metadata(path).unwrap().len();
        assert!(size(&path) + size(&journal.previous()) <= 124 * RECORD_LEN as u64);
        assert_eq!(found(&path, 2_000).len(), 59);
    }

    #[test]
    fn a_torn_record_and_a_lost_folder_cost_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("proofs");
        let (journal, _) = open(&path, 0);
        append(&journal, id(1), 1);
        drop(journal);
        let mut torn = fs::read(&path).unwrap();
        torn.extend([7; 11]);
        fs::write(&path, torn).unwrap();
        assert_eq!(found(&path, 2), [1]);
        let (journal, _) = open(&dir.path().join("none/proofs"), 0);
        append(&journal, id(1), 1);
        fs::create_dir(dir.path().join("none")).unwrap();
        append(&journal, id(2), 5);
        append(&journal, id(3), 1 + RETRY.as_secs());
        assert_eq!(found(&dir.path().join("none/proofs"), 20), [3]);
    }
}
