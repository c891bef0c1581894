//! Hot reload of a users file: it is read again when it has changed; an invalid file changes nothing.
//!
//! Changes are detected by polling the metadata. A file is read once two polls have found it the same
//! (debounce), so that one that is being written in place is not read half.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use aws_lc_rs::digest::{SHA256, digest};

use super::diagnostic::{UserFileErrors, UserFileWarning};
use super::file::FilePolicy;
use super::user_store::FileUserStore;
use super::{file, htpasswd};
use crate::config::{Fingerprint, fingerprint};

/// The outcome of a poll or a reload.
#[derive(Debug)]
pub enum ReloadOutcome {
    /// The file is unchanged, or its errors were reported before.
    Unchanged,
    /// The file's users are now active.
    Loaded {
        /// The number of users.
        users: usize,
        /// Warnings.
        warnings: Vec<UserFileWarning>,
    },
    /// The file is invalid; the active users stay, all of them.
    Rejected(UserFileErrors),
}

/// The format of a users file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileFormat {
    /// `[[users]]` tables.
    Toml,
    /// `NAME:HASH` lines.
    Htpasswd,
}

impl FileFormat {
    /// Parses and validates the content of a file; `path` is used in messages.
    fn parse(
        self,
        path: &Path,
        content: &[u8],
        policy: FilePolicy,
    ) -> Result<(FileUserStore, Vec<UserFileWarning>), UserFileErrors> {
        let (users, warnings) = match self {
            FileFormat::Toml => file::parse(path, content, policy)?,
            FileFormat::Htpasswd => htpasswd::parse(path, content, policy)?,
        };
        Ok((FileUserStore::new(users), warnings))
    }
}

/// The active users, with hot reload.
#[derive(Debug)]
pub(super) struct WatchedDirectory {
    path: PathBuf,
    format: FileFormat,
    policy: FilePolicy,
    current: RwLock<Arc<FileUserStore>>,
    file: Mutex<FileState>,
    reads: AtomicU64,
    failures: AtomicU64,
}

/// What is known of the file.
#[derive(Debug)]
struct FileState {
    /// At the last poll.
    seen: Fingerprint,
    /// When it was last read; `None` forces a read at the next poll, as a change right after a read may leave
    /// the metadata the same.
    last_read: Option<Fingerprint>,
    /// The digest of the active content.
    digest: [u8; 32],
    /// The errors of the current content.
    last_error: Option<String>,
}

fn digest_of(content: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, content).as_ref());
    bytes
}

impl WatchedDirectory {
    /// Reads and validates the file, reporting all errors at once.
    pub(super) fn load(
        path: &Path,
        format: FileFormat,
        policy: FilePolicy,
    ) -> Result<(WatchedDirectory, Vec<UserFileWarning>), UserFileErrors> {
        let seen = fingerprint(path);
        let content = file::read(path)?;
        let (store, warnings) = format.parse(path, &content, policy)?;
        let digest = digest_of(&content);
        let live = WatchedDirectory {
            path: path.to_owned(),
            format,
            policy,
            current: RwLock::new(Arc::new(store)),
            file: Mutex::new(FileState { seen, last_read: None, digest, last_error: None }),
            reads: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        };
        Ok((live, warnings))
    }

    /// The active users, a consistent snapshot.
    pub(super) fn current(&self) -> Arc<FileUserStore> {
        // Replaced in one step, so a panic elsewhere leaves it consistent; the same holds for the mutex.
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Polls the file, and reads it if it has changed since it was read and not since the last poll.
    /// Blocking.
    pub(super) fn poll_changes(&self) -> ReloadOutcome {
        let mut file = self.file();
        let now = fingerprint(&self.path);
        let settled = std::mem::replace(&mut file.seen, now) == now;
        if !settled || file.last_read == Some(now) {
            return ReloadOutcome::Unchanged;
        }
        file.last_read = Some(now);
        self.read(&mut file)
    }

    /// Reads the file, changed or not. Blocking.
    pub(super) fn reload(&self) -> ReloadOutcome {
        let mut file = self.file();
        file.last_read = None;
        self.read(&mut file)
    }

    fn read(&self, file: &mut FileState) -> ReloadOutcome {
        let outcome = file::read(&self.path).and_then(|content| {
            let digest = digest_of(&content);
            if digest == file.digest {
                return Ok(None);
            }
            self.format.parse(&self.path, &content, self.policy).map(|parsed| Some((digest, parsed)))
        });
        match outcome {
            // Fixed by reverting the change.
            Ok(None) if file.last_error.take().is_some() => {
                let users = self.current().len();
                self.reads.fetch_add(1, Ordering::Relaxed);
                ReloadOutcome::Loaded { users, warnings: Vec::new() }
            }
            Ok(None) => ReloadOutcome::Unchanged,
            Ok(Some((digest, (store, warnings)))) => {
                let users = store.len();
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(store);
                (file.digest, file.last_error) = (digest, None);
                self.reads.fetch_add(1, Ordering::Relaxed);
                ReloadOutcome::Loaded { users, warnings }
            }
            Err(errors) => {
                let last_error = Some(errors.to_string());
                if std::mem::replace(&mut file.last_error, last_error.clone()) == last_error {
                    return ReloadOutcome::Unchanged;
                }
                self.failures.fetch_add(1, Ordering::Relaxed);
                ReloadOutcome::Rejected(errors)
            }
        }
    }

    /// The errors of the current file, if it is invalid: earlier users are active then.
    pub(super) fn last_error(&self) -> Option<String> {
        self.file().last_error.clone()
    }

    /// The number of successful reloads.
    pub(super) fn reload_count(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// The number of failed reloads.
    pub(super) fn reload_failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    fn file(&self) -> MutexGuard<'_, FileState> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;
    use crate::users::CanonicalName;
    use crate::users::password_hash::{HashCost, PasswordHash, Scheme};

    /// Users with these names, each on four lines.
    fn users(names: &[&str]) -> String {
        let hash = PasswordHash::decoy(Scheme::argon2id(HashCost::DEFAULT));
        let entry = |name: &&str| {
            format!("[[users]]\nid = \"{name}\"\nusername = \"{name}\"\npassword = \"{}\"\n", hash.as_str())
        };
        names.iter().map(entry).collect()
    }

    struct Bench {
        dir: tempfile::TempDir,
        live: WatchedDirectory,
    }

    impl Bench {
        fn new(names: &[&str]) -> Bench {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("users.toml"), users(names)).unwrap();
            let (live, _) = WatchedDirectory::load(
                &dir.path().join("users.toml"),
                FileFormat::Toml,
                FilePolicy::default(),
            )
            .unwrap();
            Bench { dir, live }
        }

        fn write(&self, content: &str) {
            fs::write(self.dir.path().join("users.toml"), content).unwrap();
        }

        /// Polls until the file has settled.
        fn poll_changes(&self) -> ReloadOutcome {
            assert!(
                matches!(self.live.poll_changes(), ReloadOutcome::Unchanged),
                "the first poll finds it changed at most"
            );
            self.live.poll_changes()
        }

        fn knows(&self, name: &str) -> bool {
            self.live.current().by_name(&CanonicalName::for_lockout(name)).is_some()
        }
    }

    #[test]
    fn changed_users_become_active_and_holders_of_earlier_ones_keep_them() {
        let bench = Bench::new(&["alice"]);
        let before = bench.live.current();
        bench.write(&users(&["bob", "carol"]));
        assert!(matches!(bench.poll_changes(), ReloadOutcome::Loaded { users: 2, .. }));
        assert!(bench.knows("bob") && !bench.knows("alice"));
        assert!(before.by_name(&CanonicalName::for_lockout("alice")).is_some());
        assert!(matches!(bench.poll_changes(), ReloadOutcome::Unchanged));
        assert_eq!((bench.live.reload_count(), bench.live.reload_failures()), (1, 0));
    }

    #[test]
    fn a_file_that_was_only_touched_or_put_in_place_anew_says_nothing() {
        let bench = Bench::new(&["alice"]);
        bench.write(&users(&["alice"]));
        assert!(matches!(bench.poll_changes(), ReloadOutcome::Unchanged));
        let other = bench.dir.path().join("other");
        fs::write(&other, users(&["alice"])).unwrap();
        fs::rename(&other, bench.dir.path().join("users.toml")).unwrap();
        assert!(matches!(bench.poll_changes(), ReloadOutcome::Unchanged));
        assert_eq!(bench.live.reload_count(), 0);
    }

    #[test]
    fn a_broken_or_missing_file_changes_nothing_and_is_reported_once_with_its_place() {
        let bench = Bench::new(&["alice"]);
        let broken = users(&["bob"]) + "[[users]]\nid = 7\n";
        bench.write(&broken);
        let ReloadOutcome::Rejected(errors) = bench.poll_changes() else { panic!("taken") };
        assert!(errors.to_string().contains("users.toml:6: users[1].id: expected a string"), "{errors}");
        assert!(bench.knows("alice") && !bench.knows("bob"));
        assert!(bench.live.last_error().is_some());
        bench.write(&format!("{broken} "));
        assert!(
            matches!(bench.poll_changes(), ReloadOutcome::Unchanged),
            "the same error is not reported again"
        );
        fs::remove_file(bench.dir.path().join("users.toml")).unwrap();
        let ReloadOutcome::Rejected(errors) = bench.poll_changes() else { panic!("taken") };
        assert!(errors.to_string().contains("does not exist"), "{errors}");
        assert!(bench.knows("alice"));

        bench.write(&users(&["alice"]));
        assert!(
            matches!(bench.poll_changes(), ReloadOutcome::Loaded { users: 1, .. }),
            "the recovery is reported"
        );
        assert_eq!(bench.live.last_error(), None);
        assert_eq!((bench.live.reload_count(), bench.live.reload_failures()), (1, 2));
    }

    #[test]
    fn a_file_that_is_being_written_is_not_read_before_it_settles() {
        let bench = Bench::new(&["alice", "bob"]);
        let whole = users(&["alice", "bob", "carol"]);
        for length in [10, users(&["alice"]).len(), whole.len()] {
            bench.write(&whole[..length]);
            assert!(matches!(bench.live.poll_changes(), ReloadOutcome::Unchanged));
            assert!(bench.knows("bob"), "a file that was cut between two users is a good file");
        }
        assert!(matches!(bench.live.poll_changes(), ReloadOutcome::Loaded { users: 3, .. }));
    }

    #[test]
    fn readers_do_not_wait_for_a_reload() {
        let bench = Bench::new(&["alice"]);
        bench.write(&users(&["bob"]));
        assert!(matches!(bench.live.reload(), ReloadOutcome::Loaded { users: 1, .. }));
        assert!(matches!(bench.live.reload(), ReloadOutcome::Unchanged));
    }

    #[test]
    fn a_link_that_is_turned_to_another_file_is_followed() {
        let bench = Bench::new(&["alice"]);
        let (dir, link) = (bench.dir.path(), bench.dir.path().join("users.toml"));
        fs::write(dir.join("new.toml"), users(&["bob"])).unwrap();
        std::os::unix::fs::symlink("new.toml", dir.join("link")).unwrap();
        fs::rename(dir.join("link"), link).unwrap();
        assert!(matches!(bench.poll_changes(), ReloadOutcome::Loaded { users: 1, .. }));
        assert!(bench.knows("bob"));
    }
}
