//! Account states of file users at one time; comparing two of them gives the users who changed.

use std::sync::Arc;

use super::user_store::FileUserStore;
use crate::sessions::Account;

/// The users of all files, with the prefixes of their ids. Sources other than files have a prefix and no
/// users.
#[derive(Debug, Clone)]
pub(crate) struct FileAccounts(pub(super) Vec<(String, Option<Arc<FileUserStore>>)>);

impl FileAccounts {
    /// The account of that id; `None` where its source is not a file.
    pub(crate) fn account(&self, id: &str) -> Option<Account> {
        let fitting = self.0.iter().filter(|(prefix, _)| id.starts_with(prefix));
        let Some((prefix, store)) = fitting.max_by_key(|(prefix, _)| prefix.len()) else {
            return Some(Account::Gone);
        };
        let user = store.as_ref()?.by_id(&id[prefix.len()..]);
        Some(user.map_or(Account::Gone, |user| user.account()))
    }

    /// The ids of users who are disabled, deleted or have another password or session epoch in `after`.
    pub(crate) fn changed(&self, after: &FileAccounts) -> Vec<String> {
        let mut changed = Vec::new();
        for (index, (prefix, store)) in self.0.iter().enumerate() {
            let Some(store) = store else { continue };
            let same = after.0.get(index).is_some_and(|(other, now)| {
                other == prefix && now.as_ref().is_some_and(|now| Arc::ptr_eq(now, store))
            });
            if same {
                continue;
            }
            let active = store.all().filter(|user| !user.disabled);
            let ids = active.map(|user| (format!("{prefix}{}", user.id), user.account()));
            changed.extend(
                ids.filter(|(id, before)| after.account(id).as_ref() != Some(before)).map(|(id, _)| id),
            );
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;
    use crate::users::HashCost;
    use crate::users::password_hash::{PasswordHash, Scheme};
    use crate::users::user_store::User;

    fn user(id: &str, memory_kib: u32) -> User {
        let scheme = Scheme::argon2id(HashCost { memory_kib, passes: 2, lanes: 1 });
        User {
            id: id.to_owned(),
            username: id.to_owned(),
            credential: PasswordHash::decoy(scheme).into(),
            roles: Vec::new(),
            claims: Map::new(),
            disabled: false,
            session_epoch: 0,
            must_change_password: false,
        }
    }

    fn accounts(users: Vec<User>) -> FileAccounts {
        FileAccounts(vec![
            ("db:".to_owned(), None),
            ("f:".to_owned(), Some(Arc::new(FileUserStore::new(users)))),
        ])
    }

    #[test]
    fn who_is_disabled_deleted_or_has_another_password_or_epoch_has_changed() {
        let users = ["kept", "renamed", "disabled", "deleted", "passwd", "back"];
        let before: Vec<User> = users.map(|id| user(id, 64)).into();
        let mut after = before.clone();
        after[1].username = "another".into();
        after[2].disabled = true;
        after[4] = user("passwd", 128);
        after[5].session_epoch = 1;
        after.remove(3);
        after.push(user("new", 64));
        let (before, after) = (accounts(before), accounts(after));
        let mut changed = before.changed(&after);
        changed.sort_unstable();
        assert_eq!(changed, ["f:back", "f:deleted", "f:disabled", "f:passwd"]);
        assert!(after.changed(&after).is_empty());
    }

    #[test]
    fn of_users_who_are_kept_elsewhere_nothing_is_known() {
        let accounts = accounts(vec![user("1", 64)]);
        assert_eq!(accounts.account("db:1"), None);
        assert!(matches!(accounts.account("f:1"), Some(Account::Active { .. })));
        for gone in ["f:2", "1", ""] {
            assert_eq!(accounts.account(gone), Some(Account::Gone), "{gone}");
        }
    }
}
