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

/// Why a login failed; for the operator only, never for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginFailure {
    /// No user has that name.
    UnknownUser,
    /// The password is another.
    WrongPassword,
    /// The password is right, and the user is disabled.
    Disabled,
    /// The password is right, and the hash is of a broken scheme.
    BrokenHash,
}

impl LoginFailure {
    /// The value of `reason` in the audit trail.
    pub(crate) fn name(self) -> &'static str {
        match self {
            LoginFailure::UnknownUser => "unknown_user",
            LoginFailure::WrongPassword => "wrong_password",
            LoginFailure::Disabled => "disabled",
            LoginFailure::BrokenHash => "broken_hash",
        }
    }
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
) -> Result<Result<Arc<User>, LoginFailure>, CheckError> {
    let found = users.by_name(name).await?;
    let matches = users.verify(pool, found.as_ref(), password.clone()).await?;
    // Decided when the hash has run, whatever the result.
    let Some(found) = found else { return Ok(Err(LoginFailure::UnknownUser)) };
    if !matches {
        return Ok(Err(LoginFailure::WrongPassword));
    }
    if found.user.disabled {
        return Ok(Err(LoginFailure::Disabled));
    }
    if !users.may_be_used(&found.user) {
        return Ok(Err(LoginFailure::BrokenHash));
    }
    users.rehash(pool, &found, password).await;
    Ok(Ok(found.user))
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
        for (attempt, (name, password, expected)) in [
            ("alice", "right", Ok("1")),
            ("ALICE", "right", Ok("1")),
            ("alice", "wrong", Err(LoginFailure::WrongPassword)),
            ("mallory", "right", Err(LoginFailure::Disabled)),
            ("mallory", "wrong", Err(LoginFailure::WrongPassword)),
            ("nobody", "right", Err(LoginFailure::UnknownUser)),
            (" alice", "right", Err(LoginFailure::UnknownUser)),
        ]
        .into_iter()
        .enumerate()
        {
            let name = CanonicalName::for_lockout(name);
            let password = Password::new(password).unwrap();
            let user = check_credentials(&users, &pool, &name, password).await.unwrap();
            assert_eq!(user.as_ref().map(|user| user.id.as_str()), expected.as_ref().copied(), "{name}");
            assert_eq!(pool.hashes_run(), attempt as u64 + 1, "{name}");
        }
    }
}
