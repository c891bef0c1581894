//! The engine that endpoints use: sessions opened, refreshed and ended, login attempts counted.

use std::sync::{Arc, Mutex};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::lockout::Attempts;
use super::record::{Change, decode, update};
use super::session::Verdict;
use super::store::{Key, Space, Store, StoreError};
use super::{
    Attempt, LockoutPolicy, RevocationReason, Revocations, RotationPolicy, Session, SessionId, TokenId,
    UnixMillis,
};

/// The rules' numbers.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// When refresh tokens die.
    pub rotation: RotationPolicy,
    /// The lifetime of a session, in milliseconds.
    pub session_ttl: UnixMillis,
    /// How long after its issue an access token can still pass: its lifetime and the leeway, in milliseconds.
    pub access_ttl: UnixMillis,
    /// When names are locked.
    pub lockout: LockoutPolicy,
}

/// A session to be opened.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// The user's id.
    pub subject: String,
    /// The user's name.
    pub username: String,
    /// Changes with the user's password.
    pub credential: [u8; 16],
}

/// A session that was opened.
#[derive(Debug, Clone, Copy)]
pub struct Opened {
    /// The session.
    pub session: SessionId,
    /// Its first refresh token.
    pub refresh_token: TokenId,
    /// Its absolute end.
    pub expires_at: UnixMillis,
}

/// The user behind a session, as the directory knows them now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account {
    /// May go on; compared with the password at login.
    Active {
        /// See [`NewSession::credential`].
        credential: [u8; 16],
    },
    /// Disabled or deleted.
    Gone,
}

/// A refresh token's successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Successor {
    /// Its id.
    pub id: TokenId,
    /// When it was first issued.
    pub issued_at: UnixMillis,
    /// Whether it had been issued before.
    pub repeated: bool,
}

/// A session that may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refreshed {
    /// The new refresh token, where there are any.
    pub successor: Option<Successor>,
    /// The session's absolute end.
    pub expires_at: UnixMillis,
}

/// Why a session may not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefreshError {
    /// There is no such session, or none any more.
    #[error("there is no such session")]
    Unknown,
    /// Its time is over.
    #[error("the session has expired")]
    Expired,
    /// It was ended.
    #[error("the session was ended")]
    Revoked,
    /// The token was dead; the session has been ended for it.
    #[error("an old refresh token was used again")]
    Reused,
    /// The user was disabled or deleted, or has a new password; the session has been ended.
    #[error("the account has changed")]
    AccountChanged,
    /// Nothing is known.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All sessions and login attempts.
#[derive(Clone)]
pub struct Sessions {
    store: Arc<dyn Store>,
    policy: Policy,
    revocations: Arc<Revocations>,
    trouble: Arc<Mutex<Option<String>>>,
}

impl Sessions {
    /// Takes up the work on a store: what was revoked stays revoked.
    pub async fn start(
        store: Arc<dyn Store>,
        policy: Policy,
        now: UnixMillis,
    ) -> Result<Sessions, StoreError> {
        let revocations = Arc::new(Revocations::default());
        for (key, found) in store.scan(Space::Session).await? {
            let session: Session = decode(&key, &found.value)?;
            if let Some(revoked) = session.revoked {
                let id = key.id.parse().map_err(|_| StoreError::Corrupt(key.to_string()))?;
                let until = revoked.at.saturating_add(policy.access_ttl);
                if until > now {
                    revocations.insert(id, until);
                }
            }
        }
        Ok(Sessions { store, policy, revocations, trouble: Arc::default() })
    }

    /// The revoked sessions.
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// What the store said when it last failed, if it has not answered since.
    pub fn store_trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Remembers how the store did, for those who watch.
    fn watched<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        let mut trouble = self.trouble.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *trouble = result.as_ref().err().map(StoreError::to_string);
        result
    }

    async fn update<T: Serialize + DeserializeOwned, R>(
        &self,
        key: &Key,
        decide: impl FnMut(Option<T>) -> (Option<Change<T>>, R),
    ) -> Result<R, StoreError> {
        self.watched(update(&*self.store, key, decide).await)
    }

    /// Opens a session.
    pub async fn open(&self, new: NewSession, now: UnixMillis) -> Result<Opened, StoreError> {
        let (id, refresh_token) = (SessionId::random(), TokenId::random());
        let expires_at = now.saturating_add(self.policy.session_ttl);
        let session =
            Session::open(new.subject, new.username, new.credential, refresh_token, now, expires_at);
        let key = session_key(id);
        // 128 random bits are never taken.
        self.update(&key, |_: Option<Session>| (Some(self.change(session.clone())), ())).await?;
        Ok(Opened { session: id, refresh_token, expires_at })
    }

    /// Judges a refresh token. `account` looks the session's user up; it may be asked more than once.
    pub async fn refresh(
        &self,
        id: SessionId,
        presented: TokenId,
        account: impl Fn(&Session) -> Account,
        now: UnixMillis,
    ) -> Result<Refreshed, RefreshError> {
        let fresh = TokenId::random();
        let key = session_key(id);
        let judged = self.update(&key, |record: Option<Session>| {
            let Some(before) = record else { return (None, Err(RefreshError::Unknown)) };
            let mut session = before.clone();
            let result = self.judge(&mut session, presented, fresh, &account, now);
            let change = (session != before).then(|| self.change(session));
            (change, result)
        });
        let result = judged.await?;
        if matches!(result, Err(RefreshError::Reused | RefreshError::AccountChanged | RefreshError::Revoked))
        {
            self.enforce(id, now);
        }
        result
    }

    fn judge(
        &self,
        session: &mut Session,
        presented: TokenId,
        fresh: TokenId,
        account: impl Fn(&Session) -> Account,
        now: UnixMillis,
    ) -> Result<Refreshed, RefreshError> {
        let successor = match session.present(presented, fresh, self.policy.rotation, now) {
            Verdict::Rotated { successor, issued_at, repeated } => {
                Some(Successor { id: successor, issued_at, repeated })
            }
            Verdict::Kept => None,
            Verdict::Reused => return Err(RefreshError::Reused),
            Verdict::Revoked => return Err(RefreshError::Revoked),
            Verdict::Expired => return Err(RefreshError::Expired),
        };
        if account(session) != (Account::Active { credential: session.credential }) {
            session.revoke(RevocationReason::AccountChanged, now);
            return Err(RefreshError::AccountChanged);
        }
        Ok(Refreshed { successor, expires_at: session.expires_at })
    }

    /// Ends a session, for good and for every instance; it is in force here before this returns. Ending it again, or
    /// one that is not known, changes nothing.
    pub async fn revoke(
        &self,
        id: SessionId,
        reason: RevocationReason,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        self.update(&session_key(id), |record: Option<Session>| {
            let Some(mut session) = record else { return (None, ()) };
            let change = session.revoke(reason, now);
            (change.then(|| self.change(session)), ())
        })
        .await?;
        self.enforce(id, now);
        Ok(())
    }

    /// Ends all sessions of a user and tells how many there were, those that had ended already included.
    pub async fn revoke_all(
        &self,
        subject: &str,
        reason: RevocationReason,
        now: UnixMillis,
    ) -> Result<usize, StoreError> {
        let keys = self.watched(self.store.group(subject).await)?;
        for key in &keys {
            let id = key.id.parse().map_err(|_| StoreError::Corrupt(key.to_string()))?;
            self.revoke(id, reason, now).await?;
        }
        Ok(keys.len())
    }

    /// Counts a login attempt before its password is looked at.
    pub async fn reserve_attempt(&self, name: &str, now: UnixMillis) -> Result<Attempt, StoreError> {
        self.update_attempts(name, |attempts| attempts.reserve(self.policy.lockout, now)).await
    }

    /// The password was right: the name's failures are forgotten.
    pub async fn attempt_succeeded(&self, name: &str) -> Result<(), StoreError> {
        self.update_attempts(name, |attempts| *attempts = Attempts::default()).await
    }

    /// The password was never looked at: the attempt does not count.
    pub async fn withdraw_attempt(&self, name: &str, reserved_at: UnixMillis) -> Result<(), StoreError> {
        self.update_attempts(name, |attempts| attempts.withdraw(self.policy.lockout, reserved_at)).await
    }

    /// Forgets what has expired, in the store and here. Tells how many records the store forgot.
    pub async fn sweep(&self, now: UnixMillis) -> Result<usize, StoreError> {
        self.revocations.forget_expired(now);
        self.watched(self.store.sweep(now).await)
    }

    async fn update_attempts<R>(
        &self,
        name: &str,
        act: impl Fn(&mut Attempts) -> R,
    ) -> Result<R, StoreError> {
        let key = Key { space: Space::Attempts, id: name.to_owned() };
        self.update(&key, |record: Option<Attempts>| {
            let before = record.unwrap_or_default();
            let mut attempts = before.clone();
            let result = act(&mut attempts);
            let expires_at = attempts.expires_at(self.policy.lockout);
            let change = (attempts != before).then_some(Change { record: attempts, expires_at, group: None });
            (change, result)
        })
        .await
    }

    /// A revoked session's record outlives its access tokens, so that a restart knows of it.
    fn change(&self, session: Session) -> Change<Session> {
        let expires_at = session.expires_at.saturating_add(self.policy.access_ttl);
        let group = Some(session.subject.clone());
        Change { record: session, expires_at, group }
    }

    fn enforce(&self, id: SessionId, now: UnixMillis) {
        self.revocations.insert(id, now.saturating_add(self.policy.access_ttl));
    }
}

fn session_key(id: SessionId) -> Key {
    Key { space: Space::Session, id: id.to_string() }
}
