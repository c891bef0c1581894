//! Verification of login credentials.
//!
//! An unknown name, a wrong password and a disabled user each cost one hash of the same scheme, so that
//! neither the response nor its time reveals which names exist.

use std::sync::Arc;

use super::hashing_pool::{Busy, HashingPool};
use super::name::CanonicalName;
use super::password::Password;
use super::remote::SourceUnavailable;
use super::sources::UserSources;
use super::user_store::User;

/// The password could not be verified either way.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// All hashing threads are busy.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// A source of users is unavailable.
    #[error(transparent)]
    Unavailable(#[from] SourceUnavailable),
}

/// The user, if one with that name may log in and has that password. Exactly one hash runs (or one bind to a
/// directory), whatever the result; a second one only where a verified password is rehashed.
///
/// Rate limits and lockout are up to the caller, before the call.
///
/// # Errors
///
/// [`CheckError::Busy`] where no hash ran, and [`CheckError::Unavailable`] where a source does not respond.
pub async fn check_credentials(
    users: &UserSources,
    pool: &HashingPool,
    name: &CanonicalName,
    password: Password,
) -> Result<Option<Arc<User>>, CheckError> {
    let found = users.by_name(name).await?;
    let matches = users.verify(pool, found.as_ref(), password.clone()).await?;
    let Some(found) = found.filter(|found| matches && !found.user.disabled && users.may_be_used(&found.user))
    else {
        return Ok(None);
    };
    users.rehash(pool, &found, password).await;
    Ok(Some(found.user))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::users::password_hash::{HashCost, PasswordHash};

    fn store() -> UserSources {
        let cheap = HashCost { memory_kib: 64, passes: 1, lanes: 1 };
        let hash = PasswordHash::create_at(cheap, &Password::new("right").unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.toml");
        let user = |id: &str, name: &str, more: &str| {
            format!("[[users]]\nid = {id:?}\nusername = {name:?}\npassword = {:?}\n{more}\n", hash.as_str())
        };
        let content = user("1", "alice", "") + &user("2", "mallory", "disabled = true");
        std::fs::write(&path, content).unwrap();
        UserSources::load(&crate::config::Users::of_file(path)).unwrap().0
    }

    #[tokio::test]
    async fn only_the_right_password_of_an_enabled_user_passes_and_each_attempt_costs_one_hash() {
        let (users, pool) = (store(), HashingPool::new(1, 1));
        for (attempt, (name, password, id)) in [
            ("alice", "right", Some("1")),
            ("ALICE", "right", Some("1")),
            ("alice", "wrong", None),
            ("mallory", "right", None),
            ("mallory", "wrong", None),
            ("nobody", "right", None),
            (" alice", "right", None),
        ]
        .into_iter()
        .enumerate()
        {
            let name = CanonicalName::for_lockout(name);
            let password = Password::new(password).unwrap();
            let user = check_credentials(&users, &pool, &name, password).await.unwrap();
            assert_eq!(user.map(|user| user.id.clone()).as_deref(), id, "{name}");
            assert_eq!(pool.hashes_run(), attempt as u64 + 1, "{name}");
        }
    }
}
