//! The users as the file says now: it is read again when it has changed, and what cannot be used changes nothing.
//!
//! Whether it has changed is seen by looking at its metadata now and then. A file is read once two looks have found it the
//! same, so that one which is being written in place is not read half.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use aws_lc_rs::digest::{SHA256, digest};

use super::directory::{Directory, FileDirectory};
use super::file;
use super::finding::{UserFileErrors, UserFileWarning};
use crate::config::{Fingerprint, fingerprint};

/// What became of a look at the users file.
#[derive(Debug)]
pub enum Look {
    /// What is in force is what the file says, or what is wrong with it was told before.
    Nothing,
    /// The file's users are in force from now on.
    Read {
        /// How many there are.
        users: usize,
        /// What should be changed all the same.
        warnings: Vec<UserFileWarning>,
    },
    /// The file cannot be used; the users that were in force stay, all of them.
    Kept(UserFileErrors),
}

/// The users in force.
#[derive(Debug)]
pub struct LiveDirectory {
    path: PathBuf,
    current: RwLock<Arc<FileDirectory>>,
    file: Mutex<FileState>,
    reads: AtomicU64,
    failures: AtomicU64,
}

/// What is known of the file.
#[derive(Debug)]
struct FileState {
    /// At the last look.
    seen: Fingerprint,
    /// When it was last read; nothing where it is to be read again in any case, for a change that follows a read at once
    /// may leave the metadata as they are.
    judged: Option<Fingerprint>,
    /// Of the content that is in force.
    digest: [u8; 32],
    /// What is wrong with what is there now.
    trouble: Option<String>,
}

fn digest_of(content: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, content).as_ref());
    bytes
}

impl LiveDirectory {
    /// Reads and checks the file, reporting everything that is wrong with it at once.
    pub fn load(path: &Path) -> Result<(LiveDirectory, Vec<UserFileWarning>), UserFileErrors> {
        let seen = fingerprint(path);
        let content = file::read(path)?;
        let (directory, warnings) = FileDirectory::parse(path, &content)?;
        let digest = digest_of(&content);
        let live = LiveDirectory {
            path: path.to_owned(),
            current: RwLock::new(Arc::new(directory)),
            file: Mutex::new(FileState { seen, judged: None, digest, trouble: None }),
            reads: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        };
        Ok((live, warnings))
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The users in force. Whoever holds them sees no half of a change.
    pub fn current(&self) -> Arc<dyn Directory> {
        // Swapped in one step, so it is whole even if a thread panicked beside it; and so is what the mutex holds.
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)) as Arc<dyn Directory>
    }

    /// Looks at the file, and reads it if it has changed since it was read and not since the last look. Blocks.
    pub fn look(&self) -> Look {
        let mut file = self.file();
        let now = fingerprint(&self.path);
        let settled = std::mem::replace(&mut file.seen, now) == now;
        if !settled || file.judged == Some(now) {
            return Look::Nothing;
        }
        file.judged = Some(now);
        self.read(&mut file)
    }

    /// Reads the file whether it seems to have changed or not. Blocks.
    pub fn reload(&self) -> Look {
        let mut file = self.file();
        file.judged = None;
        self.read(&mut file)
    }

    fn read(&self, file: &mut FileState) -> Look {
        let outcome = file::read(&self.path).and_then(|content| {
            let digest = digest_of(&content);
            if digest == file.digest {
                return Ok(None);
            }
            FileDirectory::parse(&self.path, &content).map(|parsed| Some((digest, parsed)))
        });
        match outcome {
            // Put right by taking the mistake back.
            Ok(None) if file.trouble.take().is_some() => {
                let users = self.current().len();
                self.reads.fetch_add(1, Ordering::Relaxed);
                Look::Read { users, warnings: Vec::new() }
            }
            Ok(None) => Look::Nothing,
            Ok(Some((digest, (directory, warnings)))) => {
                let users = directory.len();
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(directory);
                (file.digest, file.trouble) = (digest, None);
                self.reads.fetch_add(1, Ordering::Relaxed);
                Look::Read { users, warnings }
            }
            Err(errors) => {
                let trouble = Some(errors.to_string());
                if std::mem::replace(&mut file.trouble, trouble.clone()) == trouble {
                    return Look::Nothing;
                }
                self.failures.fetch_add(1, Ordering::Relaxed);
                Look::Kept(errors)
            }
        }
    }

    /// What is wrong with the file as it is now, if something is: then earlier users are in force.
    pub fn trouble(&self) -> Option<String> {
        self.file().trouble.clone()
    }

    /// How often changed users came into force.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// How often a changed file could not be used.
    pub fn failures(&self) -> u64 {
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
    use crate::users::password_hash::{HashCost, PasswordHash};

    /// Users of these names, each on four lines.
    fn users(names: &[&str]) -> String {
        let hash = PasswordHash::decoy(HashCost { memory_kib: 19456, passes: 2, lanes: 1 });
        let entry = |name: &&str| {
            format!("[[users]]\nid = \"{name}\"\nusername = \"{name}\"\npassword = \"{}\"\n", hash.as_phc())
        };
        names.iter().map(entry).collect()
    }

    struct Bench {
        dir: tempfile::TempDir,
        live: LiveDirectory,
    }

    impl Bench {
        fn new(names: &[&str]) -> Bench {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("users.toml"), users(names)).unwrap();
            let (live, _) = LiveDirectory::load(&dir.path().join("users.toml")).unwrap();
            Bench { dir, live }
        }

        fn write(&self, content: &str) {
            fs::write(self.dir.path().join("users.toml"), content).unwrap();
        }

        /// Looks until the file has settled.
        fn look(&self) -> Look {
            assert!(matches!(self.live.look(), Look::Nothing), "the first look finds it changed at most");
            self.live.look()
        }

        fn knows(&self, name: &str) -> bool {
            self.live.current().by_name(&CanonicalName::for_lockout(name)).is_some()
        }
    }

    #[test]
    fn changed_users_come_into_force_and_who_holds_the_earlier_ones_keeps_them() {
        let bench = Bench::new(&["alice"]);
        let before = bench.live.current();
        bench.write(&users(&["bob", "carol"]));
        assert!(matches!(bench.look(), Look::Read { users: 2, .. }));
        assert!(bench.knows("bob") && !bench.knows("alice"));
        assert!(before.by_name(&CanonicalName::for_lockout("alice")).is_some());
        assert!(matches!(bench.look(), Look::Nothing));
        assert_eq!((bench.live.reads(), bench.live.failures()), (1, 0));
    }

    #[test]
    fn a_file_that_was_only_touched_or_put_in_place_anew_says_nothing() {
        let bench = Bench::new(&["alice"]);
        bench.write(&users(&["alice"]));
        assert!(matches!(bench.look(), Look::Nothing));
        let other = bench.dir.path().join("other");
        fs::write(&other, users(&["alice"])).unwrap();
        fs::rename(&other, bench.dir.path().join("users.toml")).unwrap();
        assert!(matches!(bench.look(), Look::Nothing));
        assert_eq!(bench.live.reads(), 0);
    }

    #[test]
    fn a_broken_or_missing_file_changes_nothing_and_is_told_once_with_its_place() {
        let bench = Bench::new(&["alice"]);
        let broken = users(&["bob"]) + "[[users]]\nid = 7\n";
        bench.write(&broken);
        let Look::Kept(errors) = bench.look() else { panic!("taken") };
        assert!(errors.to_string().contains("users.toml:6: users[1].id: expected a string"), "{errors}");
        assert!(bench.knows("alice") && !bench.knows("bob"));
        assert!(bench.live.trouble().is_some());
        bench.write(&format!("{broken} "));
        assert!(matches!(bench.look(), Look::Nothing), "the same mistake is not told again");
        fs::remove_file(bench.dir.path().join("users.toml")).unwrap();
        let Look::Kept(errors) = bench.look() else { panic!("taken") };
        assert!(errors.to_string().contains("does not exist"), "{errors}");
        assert!(bench.knows("alice"));

        bench.write(&users(&["alice"]));
        assert!(matches!(bench.look(), Look::Read { users: 1, .. }), "that it is well again is told");
        assert_eq!(bench.live.trouble(), None);
        assert_eq!((bench.live.reads(), bench.live.failures()), (1, 2));
    }

    #[test]
    fn a_file_that_is_being_written_is_not_read_before_it_rests() {
        let bench = Bench::new(&["alice", "bob"]);
        let whole = users(&["alice", "bob", "carol"]);
        for length in [10, users(&["alice"]).len(), whole.len()] {
            bench.write(&whole[..length]);
            assert!(matches!(bench.live.look(), Look::Nothing));
            assert!(bench.knows("bob"), "a file that was cut between two users is a good file");
        }
        assert!(matches!(bench.live.look(), Look::Read { users: 3, .. }));
    }

    #[test]
    fn who_asks_does_not_wait() {
        let bench = Bench::new(&["alice"]);
        bench.write(&users(&["bob"]));
        assert!(matches!(bench.live.reload(), Look::Read { users: 1, .. }));
        assert!(matches!(bench.live.reload(), Look::Nothing));
    }

    #[test]
    fn a_link_that_is_turned_to_another_file_is_followed() {
        let bench = Bench::new(&["alice"]);
        let (dir, link) = (bench.dir.path(), bench.dir.path().join("users.toml"));
        fs::write(dir.join("new.toml"), users(&["bob"])).unwrap();
        std::os::unix::fs::symlink("new.toml", dir.join("link")).unwrap();
        fs::rename(dir.join("link"), link).unwrap();
        assert!(matches!(bench.look(), Look::Read { users: 1, .. }));
        assert!(bench.knows("bob"));
    }
}
