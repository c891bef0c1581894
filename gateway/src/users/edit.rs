//! Edits of the users file that keep comments and order (only CR LF becomes LF).
//!
//! An edit locks out other edits, rejects an invalid file, validates its own result as the gateway would, and
//! replaces the file atomically.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::rand;
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, value};

use super::diagnostic::{UserFileErrors, did_you_mean};
use super::file::{self, FilePolicy};
use super::name::{CanonicalName, hex};
use super::password_hash::PasswordHash;
use super::replace_file::replace_file;
use super::user_store::User;
use crate::file_owner::folder_of;

const MUST_CHANGE: &str = "must_change_password";

/// A users file to list or to edit.
#[derive(Debug, Clone)]
pub struct UsersFile {
    path: PathBuf,
}

/// The entry that [`UsersFile::add`] writes.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// The name; must be free.
    pub name: CanonicalName,
    /// The id; random by default, so that the id of a former user is never reused.
    pub id: Option<String>,
    /// The hash of the first password.
    pub password: PasswordHash,
    /// Any roles.
    pub roles: Vec<String>,
    /// Whether the first login requires another password.
    pub must_change_password: bool,
}

impl UsersFile {
    /// The file at `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it exists.
    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    /// All users, in the order of the file.
    pub fn users(&self) -> Result<Vec<User>, EditError> {
        let content = file::read(&self.path)?;
        Ok(file::parse(&self.path, &content, FilePolicy::ANY)?.0)
    }

    /// Fails unless there is a user of that name.
    pub fn expect(&self, name: &CanonicalName) -> Result<(), EditError> {
        position(&self.users()?, name).map(drop)
    }

    /// Fails if there is a user of that name. A missing file has no users.
    pub fn expect_free(&self, name: &CanonicalName) -> Result<(), EditError> {
        match self.exists() {
            true => reject_taken(&self.users()?, name, None),
            false => Ok(()),
        }
    }

    /// Appends a user and returns the id; creates the file (mode 0600) if missing.
    pub fn add(&self, user: NewUser) -> Result<String, EditError> {
        let id = match user.id {
            Some(id) => id,
            None => random_id()?,
        };
        self.edit(|document, users| {
            reject_taken(users, &user.name, Some(&id))?;
            let mut table = Table::new();
            table["id"] = value(&id);
            table["username"] = value(user.name.as_str());
            table["password"] = value(user.password.as_str());
            table["roles"] = value(Array::from_iter(user.roles));
            if user.must_change_password {
                table[MUST_CHANGE] = value(true);
            }
            append(document, table);
            Ok(())
        })?;
        Ok(id)
    }

    /// Sets a user's password, and whether the next login requires another one.
    pub fn set_password(
        &self,
        name: &CanonicalName,
        password: &PasswordHash,
        must_change: bool,
    ) -> Result<(), EditError> {
        self.edit(|document, users| {
            let index = position(users, name)?;
            set(document, index, "password", password.as_str().into());
            set_must_change(document, users, index, must_change);
            Ok(())
        })
    }

    /// Sets whether a user's next login requires another password.
    pub fn require_change(&self, name: &CanonicalName, must_change: bool) -> Result<(), EditError> {
        self.edit(|document, users| {
            set_must_change(document, users, position(users, name)?, must_change);
            Ok(())
        })
    }

    /// Replaces the hash of a user if it still is `old`; returns whether it was. One of a new password is the
    /// change that may have been required.
    pub(super) fn replace_hash(
        &self,
        name: &str,
        old: &PasswordHash,
        new: &PasswordHash,
        is_new_password: bool,
    ) -> Result<bool, EditError> {
        self.edit(|document, users| {
            let index = users.iter().position(|user| user.username == name && user.hash() == Some(old));
            if let Some(index) = index {
                set(document, index, "password", new.as_str().into());
                if is_new_password {
                    set_must_change(document, users, index, false);
                }
            }
            Ok(index.is_some())
        })
    }

    /// Disables or enables a user; returns whether that changed anything.
    pub fn set_disabled(&self, name: &CanonicalName, disabled: bool) -> Result<bool, EditError> {
        self.edit(|document, users| {
            let index = position(users, name)?;
            let changes = users[index].disabled != disabled;
            if changes {
                set(document, index, "disabled", disabled.into());
            }
            if changes && disabled {
                // A gateway that did not poll in between must still see that earlier sessions have ended.
                let epoch = users[index].session_epoch.saturating_add(1);
                set(document, index, "session_epoch", i64::try_from(epoch).unwrap_or(i64::MAX).into());
            }
            Ok(changes)
        })
    }

    /// Removes a user.
    pub fn remove(&self, name: &CanonicalName) -> Result<(), EditError> {
        self.edit(|document, users| {
            let index = position(users, name)?;
            let Some(tables) = document.get_mut("users").and_then(Item::as_array_of_tables_mut) else {
                return Ok(());
            };
            let removed = tables.remove(index);
            let above = removed.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default();
            // What stands above the entry and apart from it, such as the file's first comment, stays.
            if let Some((kept, _)) = above.rsplit_once("\n\n") {
                match tables.get_mut(index) {
                    Some(next) => {
                        let prefix = next.decor().prefix().and_then(|p| p.as_str()).unwrap_or_default();
                        let prefix =
                            format!("{kept}\n{}{prefix}", if prefix.starts_with('\n') { "" } else { "\n" });
                        next.decor_mut().set_prefix(prefix);
                    }
                    None => {
                        let trailing =
                            format!("{kept}\n{}", document.trailing().as_str().unwrap_or_default());
                        document.set_trailing(trailing);
                    }
                }
            }
            Ok(())
        })
    }

    /// Sets a user's roles to what `change` makes of them, and returns them.
    pub fn change_roles(
        &self,
        name: &CanonicalName,
        change: impl FnOnce(&[String]) -> Vec<String>,
    ) -> Result<Vec<String>, EditError> {
        self.edit(|document, users| {
            let index = position(users, name)?;
            let roles = change(&users[index].roles);
            if roles != users[index].roles {
                set(document, index, "roles", Array::from_iter(&roles).into());
            }
            Ok(roles)
        })
    }

    fn edit<T>(
        &self,
        change: impl FnOnce(&mut DocumentMut, &[User]) -> Result<T, EditError>,
    ) -> Result<T, EditError> {
        // A symbolic link stays; its target is replaced.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        // The folder is locked instead of the file, since each edit replaces the file.
        let lock = File::open(folder_of(&path)).map_err(|error| self.cannot_write(error))?;
        lock.lock().map_err(|error| self.cannot_write(error))?;
        let old = if self.exists() { file::read(&self.path)? } else { Vec::new() };
        let (users, _) = file::parse(&self.path, &old, FilePolicy::ANY)?;
        let text = str::from_utf8(&old).map_err(|error| self.cannot_write(io::Error::other(error)))?;
        let mut document: DocumentMut =
            text.parse().map_err(|error| self.cannot_write(io::Error::other(error)))?;
        let outcome = change(&mut document, &users)?;
        let new = document.to_string();
        if new != text {
            file::parse(&self.path, new.as_bytes(), FilePolicy::ANY).map_err(EditError::Refused)?;
            replace_file(&path, new.as_bytes()).map_err(|error| self.cannot_write(error))?;
        }
        Ok(outcome)
    }

    fn cannot_write(&self, source: io::Error) -> EditError {
        EditError::Write { path: self.path.clone(), source }
    }
}

fn append(document: &mut DocumentMut, mut table: Table) {
    // Comments at the end of the file stay above what is appended.
    let before = document.trailing().as_str().unwrap_or_default().to_owned();
    let gap = if document.is_empty() && before.is_empty() { "" } else { "\n" };
    table.decor_mut().set_prefix(before + gap);
    document.set_trailing("");
    let users = document.entry("users").or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
    if let Some(users) = users.as_array_of_tables_mut() {
        users.push(table);
    }
}

fn set_must_change(document: &mut DocumentMut, users: &[User], index: usize, must_change: bool) {
    if users[index].must_change_password != must_change {
        set(document, index, MUST_CHANGE, must_change.into());
    }
}

fn set(document: &mut DocumentMut, index: usize, key: &str, mut new: toml_edit::Value) {
    let users = document.get_mut("users").and_then(Item::as_array_of_tables_mut);
    let Some(user) = users.and_then(|users| users.get_mut(index)) else { return };
    match user.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            // Keeps the comment behind the value.
            *new.decor_mut() = old.decor().clone();
            *old = new;
        }
        None => user[key] = value(new),
    }
}

fn position(users: &[User], name: &CanonicalName) -> Result<usize, EditError> {
    users.iter().position(|user| user.username == name.as_str()).ok_or_else(|| EditError::NoSuchUser {
        name: name.clone(),
        hint: did_you_mean(name.as_str(), users.iter().map(|user| user.username.as_str())),
    })
}

fn reject_taken(users: &[User], name: &CanonicalName, id: Option<&str>) -> Result<(), EditError> {
    if users.iter().any(|user| user.username == name.as_str()) {
        return Err(EditError::NameTaken(name.clone()));
    }
    match users.iter().find(|user| Some(user.id.as_str()) == id) {
        Some(user) => Err(EditError::IdTaken { id: user.id.clone(), name: user.username.clone() }),
        None => Ok(()),
    }
}

fn random_id() -> Result<String, EditError> {
    let mut bytes = [0; 8];
    rand::fill(&mut bytes).map_err(|_| EditError::NoRandomness)?;
    Ok(hex(&bytes))
}

/// Why the users file was not changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The file is invalid and must be fixed first.
    #[error("{0}")]
    Broken(#[from] UserFileErrors),
    /// The edit would make the file invalid.
    #[error("that would break the users file, which is left as it was:\n{0}")]
    Refused(UserFileErrors),
    /// The name is taken.
    #[error("a user {0} exists already; `auth-gateway users passwd {0}` sets another password")]
    NameTaken(CanonicalName),
    /// The id is taken.
    #[error("the id {id} belongs to {name} already; choose another, or leave it out to get a random one")]
    IdTaken {
        /// The id.
        id: String,
        /// Its user.
        name: String,
    },
    /// There is no such user.
    #[error("there is no user {name}{hint}; `auth-gateway users list` shows all")]
    NoSuchUser {
        /// The name.
        name: CanonicalName,
        /// A similar name, or empty.
        hint: String,
    },
    /// The new content could not be written; the old file is unchanged.
    #[error("cannot write {}, which is left as it was: {source}", path.display())]
    Write {
        /// The users file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// No random id could be generated.
    #[error("the system gave no random bytes for an id; give one with --id")]
    NoRandomness,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::users::{HashCost, Scheme};

    const PHC: &str =
        "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn name(raw: &str) -> CanonicalName {
        CanonicalName::parse(raw).unwrap()
    }

    fn new_user(raw: &str, id: Option<&str>) -> NewUser {
        NewUser {
            name: name(raw),
            id: id.map(str::to_owned),
            password: PasswordHash::parse(PHC).unwrap(),
            roles: vec!["user".to_owned()],
            must_change_password: false,
        }
    }

    /// A file as people write them, and the folder that keeps it alive.
    fn written() -> (tempfile::TempDir, UsersFile, String) {
        let content = format!(
            r#"# Our users.

# The first.
[[users]]
username = "Alice"   # order as we like it
id       = "1"
password = "{PHC}" # set in May
roles    = [ "user", "admin", ]  # two

[users.claims] # more
tenant = 'blue'

  [[users]] # indented
  id = "2"
  username = "bob"
  disabled = false # was true
  password = '{PHC}'

# The end.
"#
        );
        let folder = tempfile::tempdir().unwrap();
        let file = UsersFile::new(folder.path().join("users.toml"));
        fs::write(file.path(), &content).unwrap();
        (folder, file, content)
    }

    fn content(file: &UsersFile) -> String {
        fs::read_to_string(file.path()).unwrap()
    }

    #[test]
    fn a_new_password_changes_nothing_but_the_hash() {
        let (_folder, file, before) = written();
        let hash =
            PasswordHash::decoy(Scheme::argon2id(HashCost { memory_kib: 19_456, passes: 3, lanes: 1 }));
        file.set_password(&name("alice"), &hash, false).unwrap();
        assert_eq!(content(&file), before.replacen(PHC, hash.as_str(), 1));
    }

    #[test]
    fn disabling_changes_nothing_but_the_flag_and_the_session_epoch() {
        let (_folder, file, before) = written();
        let with_epoch = |epoch: &str| before.replace("'\n\n# The end", &format!("'\n{epoch}\n# The end"));
        assert!(file.set_disabled(&name("BOB"), true).unwrap());
        let disabled = with_epoch("session_epoch = 1\n").replace("disabled = false", "disabled = true");
        assert_eq!(content(&file), disabled);
        assert!(!file.set_disabled(&name("bob"), true).unwrap(), "is disabled already");
        assert!(file.set_disabled(&name("bob"), false).unwrap());
        assert_eq!(content(&file), with_epoch("session_epoch = 1\n"), "the sessions of before stay over");
        assert!(file.set_disabled(&name("bob"), true).unwrap());
        assert!(content(&file).contains("session_epoch = 2"));
    }

    #[test]
    fn a_flag_that_was_not_there_comes_after_the_other_keys() {
        let (_folder, file, before) = written();
        file.set_disabled(&name("alice"), true).unwrap();
        assert_eq!(
            content(&file),
            before.replace("  # two\n", "  # two\ndisabled = true\nsession_epoch = 1\n")
        );
    }

    #[test]
    fn a_user_is_appended_below_everything_else() {
        let (_folder, file, before) = written();
        assert_eq!(file.add(new_user("Carol", Some("3"))).unwrap(), "3");
        let entry = format!(
            "\n[[users]]\nid = \"3\"\nusername = \"carol\"\npassword = \"{PHC}\"\nroles = [\"user\"]\n"
        );
        assert_eq!(content(&file), before + &entry);
        assert_eq!(file.users().unwrap().len(), 3);
    }

    #[test]
    fn the_first_user_creates_the_file_with_a_random_id() {
        let folder = tempfile::tempdir().unwrap();
        let file = UsersFile::new(folder.path().join("users.toml"));
        assert!(!file.exists() && file.expect_free(&name("alice")).is_ok());
        let id = file.add(new_user("alice", None)).unwrap();
        assert_eq!(id.len(), 16);
        assert!(content(&file).starts_with("[[users]]\n"), "{}", content(&file));
        assert_eq!(file.users().unwrap()[0].id, id);
    }

    #[test]
    fn a_file_of_comments_keeps_them_on_top() {
        let folder = tempfile::tempdir().unwrap();
        let file = UsersFile::new(folder.path().join("users.toml"));
        fs::write(file.path(), "# Our users.\n").unwrap();
        file.add(new_user("alice", None)).unwrap();
        assert!(content(&file).starts_with("# Our users.\n\n[[users]]\n"), "{}", content(&file));
    }

    #[test]
    fn names_and_ids_that_are_taken_or_unknown_are_refused_and_nothing_changes() {
        let (_folder, file, before) = written();
        let taken = file.add(new_user("ALICE", None)).unwrap_err().to_string();
        assert!(taken.starts_with("a user alice exists already"), "{taken}");
        let id = file.add(new_user("carol", Some("2"))).unwrap_err().to_string();
        assert!(id.starts_with("the id 2 belongs to bob"), "{id}");
        let unknown = file.set_disabled(&name("alcie"), true).unwrap_err().to_string();
        assert!(unknown.starts_with("there is no user alcie (did you mean alice?)"), "{unknown}");
        assert!(file.expect(&name("carol")).is_err() && file.expect(&name("alice")).is_ok());
        assert!(file.expect_free(&name("alice")).is_err());
        assert_eq!(content(&file), before);
    }

    #[test]
    fn an_edit_that_would_break_the_file_is_refused_and_nothing_changes() {
        let (_folder, file, before) = written();
        let refused = file.add(new_user("carol", Some("not an id"))).unwrap_err();
        assert!(matches!(refused, EditError::Refused(_)), "{refused}");
        assert_eq!(content(&file), before);
    }

    #[test]
    fn a_broken_file_is_refused_with_its_errors_and_nothing_is_lost() {
        let (_folder, file, before) = written();
        let broken = before.replace("id = \"2\"", "id = \"1\"");
        fs::write(file.path(), &broken).unwrap();
        let error = file.set_disabled(&name("alice"), true).unwrap_err().to_string();
        assert!(
            error.contains("users.toml:14: users[1].id: the id \"1\" is already used on line 6"),
            "{error}"
        );
        assert_eq!(content(&file), broken);
    }

    #[test]
    fn line_breaks_of_other_systems_become_plain_ones() {
        let (_folder, file, before) = written();
        fs::write(file.path(), before.replace('\n', "\r\n")).unwrap();
        file.set_disabled(&name("bob"), true).unwrap();
        assert!(!content(&file).contains('\r'));
        assert_eq!(content(&file).lines().count(), before.lines().count() + 1);
    }

    #[test]
    fn a_link_stays_a_link() {
        let (folder, file, _) = written();
        let link = folder.path().join("link.toml");
        std::os::unix::fs::symlink(file.path(), &link).unwrap();
        UsersFile::new(&link).set_disabled(&name("alice"), true).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(content(&file).contains("disabled = true"));
    }

    #[test]
    fn a_hash_is_replaced_only_if_it_was_not_changed_meanwhile() {
        let (_folder, file, before) = written();
        let old = PasswordHash::parse(PHC).unwrap();
        let new = PasswordHash::decoy(Scheme::argon2id(HashCost { memory_kib: 64, passes: 3, lanes: 1 }));
        assert!(!file.replace_hash("alice", &new, &old, true).unwrap(), "somebody has set another password");
        assert!(!file.replace_hash("nobody", &old, &new, true).unwrap());
        assert_eq!(content(&file), before);
        assert!(file.replace_hash("alice", &old, &new, true).unwrap());
        assert_eq!(content(&file), before.replacen(PHC, new.as_str(), 1));
    }

    #[test]
    fn a_required_change_is_done_by_a_new_password_and_by_no_rehash() {
        let (_folder, file, before) = written();
        let old = PasswordHash::parse(PHC).unwrap();
        let new = PasswordHash::decoy(Scheme::argon2id(HashCost { memory_kib: 64, passes: 3, lanes: 1 }));
        let must_change = || file.users().unwrap()[0].must_change_password;
        file.require_change(&name("alice"), false).unwrap();
        assert_eq!(content(&file), before, "it was not required");
        file.require_change(&name("alice"), true).unwrap();
        assert!(content(&file).contains("# two\nmust_change_password = true\n") && must_change());
        assert!(file.replace_hash("alice", &old, &new, false).unwrap() && must_change());
        assert!(file.replace_hash("alice", &new, &old, true).unwrap() && !must_change());
        file.set_password(&name("alice"), &new, true).unwrap();
        assert!(must_change());
        file.set_password(&name("alice"), &old, false).unwrap();
        assert!(!must_change());
    }

    #[test]
    fn edits_at_the_same_time_all_arrive() {
        let (_folder, file, _) = written();
        std::thread::scope(|scope| {
            for index in 0..8 {
                let file = &file;
                scope.spawn(move || file.add(new_user(&format!("user{index}"), None)).unwrap());
            }
        });
        assert_eq!(file.users().unwrap().len(), 10);
    }
}
