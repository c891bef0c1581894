//! User lookup: by canonical name at login, by id at refresh.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Map, Value};

use super::ldap;
use super::name::CanonicalName;
use super::password_hash::{PasswordHash, Scheme, count_schemes};
use crate::sessions::Account;

/// A user.
#[derive(Debug, Clone, PartialEq)]
pub struct User {
    /// The `sub` claim: stays the same when the name changes.
    pub id: String,
    /// The name in canonical form (see [`CanonicalName`]).
    pub username: String,
    /// What the password is verified with.
    pub credential: Credential,
    /// The `roles` claim.
    pub roles: Vec<String>,
    /// Further claims, none with the name of one that the gateway sets.
    pub claims: Map<String, Value>,
    /// Disabled: may not log in.
    pub disabled: bool,
    /// Sessions that were opened with another number end. `users disable` increments it, so that enabling the
    /// user again does not revive the sessions.
    pub session_epoch: u64,
    /// Has to choose another password at the next login.
    pub must_change_password: bool,
}

impl User {
    /// A value that changes with the password or the session epoch, and reveals nothing about them. A session
    /// that was opened with another value ends.
    pub fn credential_fingerprint(&self) -> [u8; 16] {
        let mut fingerprint = match &self.credential {
            Credential::Hash(hash) => hash.fingerprint(),
            Credential::Bind { dn, changed } => ldap::fingerprint(dn, changed),
        };
        if self.session_epoch > 0 {
            let with_epoch = [&fingerprint[..], &self.session_epoch.to_be_bytes()].concat();
            fingerprint.copy_from_slice(&digest(&SHA256, &with_epoch).as_ref()[..16]);
        }
        fingerprint
    }

    /// The state of the account as sessions compare it.
    pub(crate) fn account(&self) -> Account {
        match self.disabled {
            true => Account::Gone,
            false => Account::Active { credential: self.credential_fingerprint() },
        }
    }

    /// The hash, of a user who has one here.
    pub fn hash(&self) -> Option<&PasswordHash> {
        match &self.credential {
            Credential::Hash(hash) => Some(hash),
            Credential::Bind { .. } => None,
        }
    }
}

/// What a password is verified with.
#[derive(Debug, Clone, PartialEq)]
pub enum Credential {
    /// A local hash.
    Hash(PasswordHash),
    /// A bind to a directory.
    Bind {
        /// The distinguished name.
        dn: String,
        /// When the password was changed, as the directory reports it; may be empty.
        changed: String,
    },
}

impl From<PasswordHash> for Credential {
    fn from(hash: PasswordHash) -> Credential {
        Credential::Hash(hash)
    }
}

/// The users of one file at one time: complete and validated, so lookups cannot fail.
#[derive(Debug)]
pub(super) struct FileUserStore {
    by_name: HashMap<String, Arc<User>>,
    by_id: HashMap<String, Arc<User>>,
    schemes: BTreeMap<Scheme, usize>,
}

impl FileUserStore {
    /// The ids and names of `users` must be unique, as the parsers ensure.
    pub(super) fn new(users: Vec<User>) -> Self {
        let schemes = count_schemes(users.iter().filter_map(|user| Some(user.hash()?.scheme())));
        let users: Vec<Arc<User>> = users.into_iter().map(Arc::new).collect();
        Self {
            by_name: users.iter().map(|user| (user.username.clone(), Arc::clone(user))).collect(),
            by_id: users.into_iter().map(|user| (user.id.clone(), user)).collect(),
            schemes,
        }
    }

    /// The user of that name.
    pub(super) fn by_name(&self, name: &CanonicalName) -> Option<Arc<User>> {
        self.by_name.get(name.as_str()).cloned()
    }

    /// The user of that id, compared byte for byte.
    pub(super) fn by_id(&self, id: &str) -> Option<Arc<User>> {
        self.by_id.get(id).cloned()
    }

    /// All users.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<User>> {
        self.by_id.values()
    }

    /// The number of hashes of each scheme.
    pub(super) fn schemes(&self) -> &BTreeMap<Scheme, usize> {
        &self.schemes
    }

    /// The number of users.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }
}

/// What a source has for a name.
#[derive(Debug)]
pub(super) enum Lookup {
    /// Nothing: a later source may have it.
    Absent,
    /// Somebody who cannot log in, and why. No later source has the name.
    Unusable(String),
    /// A user.
    Found(User),
}

/// Why a hash was not replaced.
#[derive(Debug)]
pub(super) enum ReplaceError {
    /// The source is read-only.
    NotWritable,
    /// It failed.
    Failed(String),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::users::HashCost;
    use crate::users::password_hash::most_common_scheme;

    fn user(id: &str, username: &str, memory_kib: u32) -> User {
        User {
            id: id.to_owned(),
            username: username.to_owned(),
            credential: PasswordHash::decoy(Scheme::argon2id(HashCost { memory_kib, passes: 2, lanes: 1 }))
                .into(),
            roles: Vec::new(),
            claims: Map::new(),
            disabled: false,
            session_epoch: 0,
            must_change_password: false,
        }
    }

    #[test]
    fn users_are_found_by_name_and_by_id_and_not_crosswise() {
        let store = FileUserStore::new(vec![user("1", "alice", 64), user("2", "bob", 64)]);
        let named = |raw| store.by_name(&CanonicalName::for_lockout(raw)).map(|user| user.id.clone());
        assert_eq!(named("ALICE").as_deref(), Some("1"));
        assert_eq!(named("1"), None);
        assert_eq!(named(" alice"), None);
        assert_eq!(store.by_id("2").unwrap().username, "bob");
        assert_eq!(store.by_id("bob"), None);
        assert_eq!(store.len(), 2);
    }

    #[test]
    fn the_decoy_costs_what_most_users_cost() {
        let scheme = |users| most_common_scheme(FileUserStore::new(users).schemes());
        let argon2id = |memory_kib| Scheme::argon2id(HashCost { memory_kib, passes: 2, lanes: 1 });
        assert_eq!(scheme(vec![user("1", "a", 64), user("2", "b", 128), user("3", "c", 64)]), argon2id(64));
        assert_eq!(scheme(vec![user("1", "a", 64), user("2", "b", 128)]), argon2id(128));
        assert_eq!(scheme(vec![]), argon2id(19_456));
    }

    #[test]
    fn the_fingerprint_changes_with_the_password_and_with_nothing_else() {
        let before = user("1", "alice", 64);
        let renamed = user("1", "alicia", 64);
        let rehashed = user("1", "alice", 128);
        assert_eq!(before.credential_fingerprint(), renamed.credential_fingerprint());
        assert_ne!(before.credential_fingerprint(), rehashed.credential_fingerprint());
    }
}
