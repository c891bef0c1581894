//! Account states of file users at one time; comparing two of them gives the users who changed.

use std::sync::Arc;

use super::user_store::{FileUserStore, User};
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
        for (prefix, before, _) in self.replaced(after) {
            let active = before.all().filter(|user| !user.disabled);
            let ids = active.map(|user| (format!("{prefix}{}", user.id), user.account()));
            changed.extend(
                ids.filter(|(id, before)| after.account(id).as_ref() != Some(before)).map(|(id, _)| id),
            );
        }
        changed
    }

    /// What is different in `after`, for the audit trail: one entry for each user and kind of change.
    pub(crate) fn differences(&self, after: &FileAccounts) -> Vec<UserChange> {
        let mut changes = Vec::new();
        for (prefix, before, now) in self.replaced(after) {
            let mut add = |user: &User, outcome| {
                changes.push(UserChange { id: format!("{prefix}{}", user.id), outcome });
            };
            for old in before.all() {
                match now.and_then(|now| now.by_id(&old.id)) {
                    Some(new) => user_changes(old, &new).for_each(|outcome| add(old, outcome)),
                    None => add(old, "removed"),
                }
            }
            let users = now.into_iter().flat_map(FileUserStore::all);
            users.filter(|user| before.by_id(&user.id).is_none()).for_each(|user| add(user, "added"));
        }
        changes.sort_by(|one, other| one.id.cmp(&other.id));
        changes
    }

    /// The files that were read again or are gone in `after`: the prefix, the users before and those in `after`.
    fn replaced<'a>(
        &'a self,
        after: &'a FileAccounts,
    ) -> impl Iterator<Item = (&'a str, &'a FileUserStore, Option<&'a FileUserStore>)> {
        self.0.iter().filter_map(|(prefix, before)| {
            let before = before.as_ref()?;
            let now = after.0.iter().find(|(other, _)| other == prefix).and_then(|(_, store)| store.as_ref());
            let is_same = now.is_some_and(|now| Arc::ptr_eq(now, before));
            (!is_same).then(|| (prefix.as_str(), &**before, now.map(|now| &**now)))
        })
    }
}

/// A change of a user.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UserChange {
    /// The user's id.
    pub(crate) id: String,
    /// The outcome in the audit trail.
    pub(crate) outcome: &'static str,
}

fn user_changes(old: &User, new: &User) -> impl Iterator<Item = &'static str> {
    // The session epoch is a part of the fingerprint.
    let is_password = old.session_epoch == new.session_epoch
        && old.credential_fingerprint() != new.credential_fingerprint();
    [
        (!old.disabled && new.disabled, "disabled"),
        (old.disabled && !new.disabled, "enabled"),
        (is_password, "password_changed"),
        (old.username != new.username, "renamed"),
        (old.roles != new.roles, "roles_changed"),
        (old.claims != new.claims, "claims_changed"),
    ]
    .into_iter()
    .filter_map(|(is, outcome)| is.then_some(outcome))
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;
    use crate::users::HashCost;
    use crate::users::password_hash::{PasswordHash, Scheme};

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
    fn the_audit_trail_gets_each_kind_of_change() {
        let before: Vec<User> = ["1", "2", "3", "4", "5"].map(|id| user(id, 64)).into();
        let mut after = before.clone();
        after[0].roles.push("admin".into());
        after[0].disabled = true;
        after[1] = user("2", 128);
        after[2].username = "another".into();
        after[4].claims.insert("plan".into(), "paid".into());
        after.remove(3);
        after.push(user("new", 64));
        let (before, after) = (accounts(before), accounts(after));
        let found = before.differences(&after);
        let found: Vec<_> = found.iter().map(|change| (change.id.as_str(), change.outcome)).collect();
        let expected = [
            ("f:1", "disabled"),
            ("f:1", "roles_changed"),
            ("f:2", "password_changed"),
            ("f:3", "renamed"),
            ("f:4", "removed"),
            ("f:5", "claims_changed"),
            ("f:new", "added"),
        ];
        assert_eq!(found, expected);
        assert!(after.differences(&after).is_empty());
        assert_eq!(after.differences(&before)[0].outcome, "enabled");
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
