//! Changing a password: checks the new one, and replaces the stored hash by compare-and-swap.

use std::sync::Arc;

use super::credentials::CheckError;
use super::hashing_pool::HashingPool;
use super::name::CanonicalName;
use super::new_password::{NewPasswordRefusal, check_new_password};
use super::password::Password;
use super::password_hash::PasswordHash;
use super::sources::{FoundUser, UserSources};
use super::user_store::{ReplaceError, User};

/// Why a password was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangePasswordError {
    /// The password policy rejects the new one.
    #[error(transparent)]
    Unfit(#[from] NewPasswordRefusal),
    /// The new one equals the old one.
    #[error("the new password is the old one; choose another one")]
    Same,
    /// A concurrent change won.
    #[error("the password was changed meanwhile; log in again")]
    Conflict,
    /// The source is managed elsewhere.
    #[error("the password is not kept where the gateway could change it; change it where users are kept")]
    NotWritable,
    /// The user could not be looked up, or the new password not be hashed.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// The new one could not be stored; the old one remains valid.
    #[error("the new password could not be stored: {0}")]
    Store(String),
}

/// A password change that is ready to be stored.
#[derive(Debug)]
pub struct PasswordChange {
    found: FoundUser,
    hash: PasswordHash,
    changed: Arc<User>,
}

impl PasswordChange {
    /// Checks and hashes the new password of a user whose old one (if it is required) was verified. Nothing
    /// is stored yet.
    ///
    /// # Errors
    ///
    /// See [`ChangePasswordError`].
    pub async fn prepare(
        users: &UserSources,
        pool: &HashingPool,
        user: &User,
        old: Option<&Password>,
        new: Password,
    ) -> Result<PasswordChange, ChangePasswordError> {
        let name = CanonicalName::for_lockout(&user.username);
        let (policy, checked) = (users.password_policy().clone(), (new.clone(), name.clone()));
        // Breached passwords are looked up in a file.
        let check = move || check_new_password(&policy, &checked.0, Some(&checked.1));
        match tokio::task::spawn_blocking(check).await {
            Ok(fit) => fit?,
            Err(error) => return Err(ChangePasswordError::Store(error.to_string())),
        };
        if old.is_some_and(|old| old.as_bytes() == new.as_bytes()) {
            return Err(ChangePasswordError::Same);
        }
        // Looked up again: verification may have rehashed the old one.
        let found = users.by_name(&name).await.map_err(CheckError::from)?;
        let found = found.ok_or(ChangePasswordError::Conflict)?;
        if found.user.id != user.id || found.user.credential_fingerprint() != user.credential_fingerprint() {
            return Err(ChangePasswordError::Conflict);
        }
        if !users.is_writable(&found) {
            return Err(ChangePasswordError::NotWritable);
        }
        let hash = pool.create(users.new_password_cost(), new).await.map_err(CheckError::from)?;
        let changed =
            User { credential: hash.clone().into(), must_change_password: false, ..User::clone(&found.user) };
        let changed = Arc::new(User { must_change_password: false, ..changed });
        Ok(PasswordChange { found, hash, changed })
    }

    /// The user as they will be. Sessions of another
    /// [`credential_fingerprint`](User::credential_fingerprint) end once the change is stored.
    pub fn user(&self) -> &Arc<User> {
        &self.changed
    }

    /// Stores the change, if the old hash is still stored.
    ///
    /// # Errors
    ///
    /// See [`ChangePasswordError`]; the old password then remains valid.
    pub async fn store(&self, users: &UserSources) -> Result<(), ChangePasswordError> {
        match users.replace_hash(&self.found, &self.hash, true).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(ChangePasswordError::Conflict),
            Err(ReplaceError::NotWritable) => Err(ChangePasswordError::NotWritable),
            Err(ReplaceError::Failed(why)) => Err(ChangePasswordError::Store(why)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::config::{UserSourceKind, Users};
    use crate::users::check_credentials;
    use crate::users::password_hash::{HashCost, PasswordHash};

    fn password(text: &str) -> Password {
        Password::new(text).unwrap()
    }

    /// A users file with alice, and the folder that keeps it alive.
    fn users(rehash: bool) -> (tempfile::TempDir, UserSources) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.toml");
        let cheap = HashCost { memory_kib: 64, passes: 1, lanes: 1 };
        let hash = PasswordHash::create_at(cheap, &password("the old password")).unwrap();
        let entry = format!("[[users]]\nid = \"1\"\nusername = \"alice\"\npassword = {:?}\n", hash.as_str());
        std::fs::write(&path, entry).unwrap();
        let mut settings = Users::of_file(path);
        settings.rehash = rehash;
        let users = UserSources::load(&settings).unwrap().0;
        (folder, users)
    }

    async fn change(
        users: &UserSources,
        name: &str,
        old: &str,
        new: &str,
    ) -> Result<Arc<User>, ChangePasswordError> {
        let (name, pool) = (CanonicalName::for_lockout(name), HashingPool::new(1, 1));
        let old = password(old);
        let user = check_credentials(users, &pool, &name, old.clone()).await.unwrap();
        let user = user.map_err(|_| ChangePasswordError::Conflict)?;
        let change = PasswordChange::prepare(users, &pool, &user, Some(&old), password(new)).await?;
        change.store(users).await?;
        Ok(Arc::clone(change.user()))
    }

    #[tokio::test]
    async fn the_new_password_is_valid_at_once_and_the_fingerprint_changes() {
        for rehash in [false, true] {
            let (_folder, users) = users(rehash);
            let before = users.by_id("1").await.unwrap().unwrap();
            let changed = change(&users, "ALICE", "the old password", "the new password").await.unwrap();
            assert_ne!(changed.credential_fingerprint(), before.credential_fingerprint());
            assert_eq!(users.by_id("1").await.unwrap().unwrap(), changed);
            let again = change(&users, "alice", "the old password", "a third password").await;
            assert!(again.is_err());
            change(&users, "alice", "the new password", "a third password").await.unwrap();
        }
    }

    #[tokio::test]
    async fn the_new_password_is_one_that_may_be_set_and_another_one() {
        let (_folder, users) = users(false);
        for (new, message) in
            [("short", "at least 8"), ("password123", "common one"), ("the old password", "is the old one")]
        {
            let refused = change(&users, "alice", "the old password", new).await.unwrap_err().to_string();
            assert!(refused.contains(message), "{refused}");
        }
    }

    #[tokio::test]
    async fn of_two_concurrent_changes_one_wins_and_the_other_is_rejected() {
        let (_folder, users) = users(false);
        let (a, b) = tokio::join!(
            change(&users, "alice", "the old password", "the new password a"),
            change(&users, "alice", "the old password", "the new password b"),
        );
        let outcomes = [a, b].map(|outcome| outcome.is_ok());
        assert!(outcomes[0] != outcomes[1], "{outcomes:?}");
        let winner = if outcomes[0] { "the new password a" } else { "the new password b" };
        change(&users, "alice", winner, "a third password").await.unwrap();
    }

    #[tokio::test]
    async fn a_source_that_is_kept_elsewhere_says_so() {
        let (folder, _) = users(false);
        let hash = PasswordHash::create(&password("the old password")).unwrap();
        let path = folder.path().join("htpasswd");
        std::fs::write(&path, format!("alice:{}\n", hash.as_str())).unwrap();
        let mut settings = Users::of_file(path.clone());
        settings.sources[0].kind = UserSourceKind::Htpasswd(path);
        let users = UserSources::load(&settings).unwrap().0;
        let refused = change(&users, "alice", "the old password", "the new password").await;
        assert!(matches!(refused, Err(ChangePasswordError::NotWritable)));
    }
}
