//! One login attempt: is this the password of that name?
//!
//! An unknown name, a wrong password and a disabled user each cost one hash of the same kind, so that neither the answer
//! nor its time tells them apart.

use std::sync::Arc;

use super::hashing_pool::{Busy, HashingPool};
use super::name::CanonicalName;
use super::password::Password;
use super::user_store::{User, UserStore};

/// The user, if there is one of that name who may log in and has that password. Exactly one hash runs, whatever the
/// answer; none runs where the pool is [`Busy`].
///
/// Counting failures and locking names is the caller's, before the call.
pub async fn check_credentials(
    store: &dyn UserStore,
    pool: &HashingPool,
    name: &CanonicalName,
    password: Password,
) -> Result<Option<Arc<User>>, Busy> {
    let user = store.by_name(name);
    let hash = user.as_ref().map_or_else(|| store.decoy(), |user| &user.password);
    let matches = pool.verify(hash, password).await?;
    Ok(user.filter(|user| matches && !user.disabled))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::users::FileUserStore;
    use crate::users::password_hash::{HashCost, PasswordHash};

    fn store() -> FileUserStore {
        let cheap = HashCost { memory_kib: 64, passes: 1, lanes: 1 };
        let hash = PasswordHash::create_at(cheap, &Password::new("right").unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.toml");
        let user = |id: &str, name: &str, more: &str| {
            format!("[[users]]\nid = {id:?}\nusername = {name:?}\npassword = {:?}\n{more}\n", hash.as_str())
        };
        let content = user("1", "alice", "") + &user("2", "mallory", "disabled = true");
        std::fs::write(&path, content).unwrap();
        FileUserStore::load(&path).unwrap().0
    }

    #[tokio::test]
    async fn only_the_right_password_of_an_enabled_user_passes_and_each_attempt_costs_one_hash() {
        let (store, pool) = (store(), HashingPool::new(1, 1));
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
            let user = check_credentials(&store, &pool, &name, password).await.unwrap();
            assert_eq!(user.map(|user| user.id.clone()).as_deref(), id, "{name}");
            assert_eq!(pool.hashes_run(), attempt as u64 + 1, "{name}");
        }
    }
}
