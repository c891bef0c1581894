//! Passwords that were right over HTTP Basic, so that a client which sends one with every request costs one hash.
//!
//! What is kept is a keyed hash of name and password, under a key that is made at the start and never leaves the process. An
//! entry counts only while its user is the same: another password, another id or a lock makes the next request run the hash again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::hmac;
use tokio::sync::watch;

use crate::rejection::Rejection;
use crate::sessions::{Account, SessionId, UnixMillis, random_bytes};
use crate::users::{CanonicalName, Password, User};

/// Maximum number of entries of one generation; there are two.
const GENERATION: usize = 5_000;

/// The keyed hash of a name and a password.
pub(crate) type PasswordTag = [u8; 32];

/// The result of a check that others may wait for.
pub(crate) type CheckResult = Result<RightPassword, Rejection>;

/// A password that was right, and whose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RightPassword {
    /// The user's id.
    pub(crate) subject: String,
    /// [`User::credential_fingerprint`] of the user whose password was right.
    pub(crate) credential: [u8; 16],
    /// What upstreams get as the session, and streams end with.
    pub(crate) session: SessionId,
    pub(crate) checked_at: UnixMillis,
}

impl RightPassword {
    /// Whether the password is that of `user` as it is now.
    pub(crate) fn is_of(&self, user: &User) -> bool {
        self.subject == user.id && self.credential == user.credential_fingerprint()
    }
}

/// The passwords of a process, bounded: when the young generation is full it becomes the old one.
pub(crate) struct PasswordMemory {
    key: hmac::Key,
    entries: Mutex<Entries>,
    checks: Mutex<HashMap<PasswordTag, watch::Receiver<Option<CheckResult>>>>,
}

#[derive(Default)]
struct Entries {
    young: HashMap<PasswordTag, RightPassword>,
    old: HashMap<PasswordTag, RightPassword>,
}

impl Default for PasswordMemory {
    fn default() -> PasswordMemory {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &random_bytes::<32>());
        PasswordMemory { key, entries: Mutex::default(), checks: Mutex::default() }
    }
}

impl PasswordMemory {
    pub(crate) fn tag(&self, name: &CanonicalName, password: &Password) -> PasswordTag {
        let mut context = hmac::Context::with_key(&self.key);
        // A name has no colon.
        context.update(name.as_str().as_bytes());
        context.update(b":");
        context.update(password.as_bytes());
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }

    pub(crate) fn get(&self, tag: &PasswordTag) -> Option<RightPassword> {
        let mut entries = self.entries();
        if let Some(found) = entries.young.get(tag) {
            return Some(found.clone());
        }
        let found = entries.old.remove(tag)?;
        entries.insert(*tag, found.clone());
        Some(found)
    }

    pub(crate) fn insert(&self, tag: PasswordTag, right: RightPassword) {
        self.entries().insert(tag, right);
    }

    pub(crate) fn remove(&self, tag: &PasswordTag) {
        let mut entries = self.entries();
        entries.young.remove(tag);
        entries.old.remove(tag);
    }

    /// Forgets everything: the configuration may allow less now.
    pub(crate) fn clear(&self) {
        *self.entries() = Entries::default();
    }

    /// Forgets the passwords of a user that are not those of `account`, and returns their sessions.
    pub(crate) fn forget_changed(&self, subject: &str, account: Account) -> Vec<SessionId> {
        let mut forgotten = Vec::new();
        let mut entries = self.entries();
        let Entries { young, old } = &mut *entries;
        for generation in [young, old] {
            generation.retain(|_, right| {
                let is_kept =
                    right.subject != subject || account == Account::Active { credential: right.credential };
                forgotten.extend((!is_kept).then_some(right.session));
                is_kept
            });
        }
        forgotten
    }

    /// The check of a password that is under way, or the sender for the result of one that is to begin.
    pub(crate) fn join_check(
        &self,
        tag: PasswordTag,
    ) -> (watch::Receiver<Option<CheckResult>>, Option<watch::Sender<Option<CheckResult>>>) {
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(result) = checks.get(&tag) {
            return (result.clone(), None);
        }
        let (sender, result) = watch::channel(None);
        checks.insert(tag, result.clone());
        (result, Some(sender))
    }

    /// The check is over; the next request begins another one.
    pub(crate) fn end_check(&self, tag: &PasswordTag) {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).remove(tag);
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn insert(&mut self, tag: PasswordTag, right: RightPassword) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(tag, right);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn right(subject: &str) -> RightPassword {
        RightPassword {
            subject: subject.to_owned(),
            credential: [1; 16],
            session: SessionId::random(),
            checked_at: 0,
        }
    }

    #[test]
    fn a_tag_is_of_one_name_one_password_and_one_process() {
        let (memory, other) = (PasswordMemory::default(), PasswordMemory::default());
        let tag = |memory: &PasswordMemory, name: &str, password: &str| {
            memory.tag(&CanonicalName::for_lockout(name), &Password::new(password).unwrap())
        };
        let alice = tag(&memory, "alice", "secret");
        assert_eq!(alice, tag(&memory, "ALICE", "secret"));
        for (memory, name, password) in
            [(&memory, "alice", "Secret"), (&memory, "bob", "secret"), (&other, "alice", "secret")]
        {
            assert_ne!(alice, tag(memory, name, password));
        }
    }

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let memory = PasswordMemory::default();
        memory.insert([255; 32], right("1"));
        for number in 0..3 * GENERATION as u64 {
            let mut tag = [0; 32];
            tag[..8].copy_from_slice(&number.to_be_bytes());
            memory.insert(tag, right("2"));
            assert!(memory.get(&[255; 32]).is_some());
        }
        let entries = memory.entries();
        assert!(entries.young.len() + entries.old.len() <= 2 * GENERATION);
    }

    #[test]
    fn the_passwords_of_a_user_who_has_changed_are_forgotten() {
        let memory = PasswordMemory::default();
        let (first, second, other) = (right("1"), right("1"), right("2"));
        for (tag, right) in [([1; 32], &first), ([2; 32], &second), ([3; 32], &other)] {
            memory.insert(tag, right.clone());
        }
        assert!(memory.forget_changed("1", Account::Active { credential: [1; 16] }).is_empty());
        let mut forgotten = memory.forget_changed("1", Account::Active { credential: [2; 16] });
        forgotten.sort_unstable();
        let mut sessions = vec![first.session, second.session];
        sessions.sort_unstable();
        assert_eq!(forgotten, sessions);
        assert!(memory.get(&[1; 32]).is_none() && memory.get(&[3; 32]) == Some(other));
        memory.remove(&[3; 32]);
        assert!(memory.get(&[3; 32]).is_none());
    }
}
