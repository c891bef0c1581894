//! The session engine used by the endpoints: opens, refreshes and revokes sessions, and limits login
//! attempts.

mod personal_tokens;

use std::time::Duration;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

pub use self::personal_tokens::CreateTokenError;
use super::lockout::LoginAttempts;
use super::login_limits::LoginLimits;
use super::record::{Change, decode, update};
use super::session::{Authentication, ClientInfo, RefreshDecision};
use super::store::{Health, Key, Put, PutOutcome, Space, Store, StoreError, Versioned};
use super::ticket::{self, BadTicket, Ticket, TicketPurpose};
use super::{
    LockoutPolicy, LoginDecision, LoginPermit, LoginResult, RateLimitDecision, RateLimitPolicy,
    RateLimitScope, RevocationReason, Revocations, RotationPolicy, Session, SessionId, SourceNetwork,
    TokenId, UnixMillis,
};

/// How many sessions of a user are revoked concurrently, so that they share fsyncs without filling the
/// store's queue.
const REVOCATION_BATCH: usize = 256;

/// How long a record must have expired before it is evicted: a gateway that started with a
/// clock that is ahead must not evict live records.
const SWEEP_MARGIN: Duration = Duration::from_secs(10 * 60);

/// Limits and lifetimes.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// When refresh tokens and idle sessions expire.
    pub rotation: RotationPolicy,
    /// Absolute lifetime of a session.
    pub session_ttl: Duration,
    /// How long after its issue an access token can be valid: its lifetime plus the leeway.
    pub access_ttl: Duration,
    /// When names are locked.
    pub lockout: LockoutPolicy,
    /// Rate limit of failures per network; `None` is unlimited.
    pub throttle: Option<RateLimitPolicy>,
    /// Sessions per user; `None` is unlimited.
    pub session_limit: Option<SessionLimit>,
}

/// Limit of concurrent sessions per user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimit {
    /// At least one.
    pub max: usize,
    /// What a login beyond the limit does.
    pub when_full: WhenFull,
}

/// What a login does where the user has reached the session limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// It ends the oldest session.
    EndOldest,
    /// It is rejected.
    Refuse,
}

/// A session to be opened.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// The user's id.
    pub subject: String,
    /// The user's name.
    pub username: String,
    /// A fingerprint that changes with the user's password.
    pub credential: [u8; 16],
    /// Whether the login was by a second factor as well.
    pub second_factor: bool,
    /// The thumbprint of the key that its tokens are bound to.
    pub key: Option<[u8; 32]>,
    /// The client that logs in.
    pub client: ClientInfo,
    /// When it is opened, where that is later than its request: of concurrent logins, the one that opens its session last is the
    /// one too many, however long each password took.
    pub opened_at: Option<UnixMillis>,
}

impl NewSession {
    /// The session as it is stored first.
    fn into_session(self, token: TokenId, now: UnixMillis, expires_at: UnixMillis) -> Session {
        let NewSession { subject, username, credential, second_factor, key, client, opened_at } = self;
        let now = opened_at.map_or(now, |opened_at| opened_at.max(now));
        let mut session = Session::open(subject, username, credential, token, now, expires_at);
        (session.key, session.client) = (key, client);
        if second_factor {
            session.authenticate(Authentication { at: now, second_factor });
        }
        session
    }
}

/// A session whose user has proved the identity anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reauthenticated {
    /// How.
    pub authentication: Authentication,
    /// The session's absolute end.
    pub expires_at: UnixMillis,
    /// The thumbprint of the key that its tokens are bound to.
    pub key: Option<[u8; 32]>,
}

/// A session in listings. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct SessionInfo {
    /// The session (`sid`).
    pub id: SessionId,
    /// The user's id.
    pub subject: String,
    /// The user's name at login.
    pub username: String,
    /// Opened at.
    pub started_at: UnixMillis,
    /// Last refreshed at, accurate to a minute.
    pub last_refreshed_at: UnixMillis,
    /// Absolute end.
    pub expires_at: UnixMillis,
    /// The client that opened or last refreshed it.
    pub client: ClientInfo,
}

/// How much there is in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Census {
    /// Live sessions.
    pub sessions: usize,
    /// Names that are locked.
    pub locked_names: usize,
}

/// Why a session was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenSessionError {
    /// The user has reached the session limit.
    #[error("the user has as many sessions as one may have")]
    TooMany,
    /// The store failed; the outcome is unknown.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A newly opened session.
#[derive(Debug, Clone, Copy)]
pub struct NewTokens {
    /// The session.
    pub session: SessionId,
    /// Its first refresh token.
    pub refresh_token: TokenId,
    /// How the user proved the identity.
    pub authentication: Authentication,
    /// Its absolute end.
    pub expires_at: UnixMillis,
}

/// Which sessions of a user go on when the password changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptSessions {
    /// All of them.
    All,
    /// This one, and those on other hosts that belong to the same sign-in.
    SignIn(SessionId),
    /// None.
    None,
}

/// The current state of the user behind a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account {
    /// Active; compared with the password at login.
    Active {
        /// See [`NewSession::credential`].
        credential: [u8; 16],
    },
    /// Disabled or deleted.
    Gone,
}

/// The successor of a refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RotatedToken {
    /// Its id.
    pub id: TokenId,
    /// First issued at.
    pub issued_at: UnixMillis,
    /// Whether it had been issued before (grace period).
    pub repeated: bool,
}

/// The result of a successful refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefreshResult {
    /// How the user proved the identity.
    pub authentication: Authentication,
    /// The new refresh token, if it was rotated.
    pub successor: Option<RotatedToken>,
    /// The session's absolute end.
    pub expires_at: UnixMillis,
}

/// Why a refresh failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefreshError {
    /// There is no such session.
    #[error("there is no such session")]
    Unknown,
    /// Its absolute lifetime has passed.
    #[error("the session has expired")]
    Expired,
    /// It exceeded the idle timeout; it has been revoked.
    #[error("the session was idle for too long")]
    Idle,
    /// It was revoked.
    #[error("the session was ended")]
    Revoked,
    /// Refresh token reuse (RFC 9700 section 4.14.2); the session has been revoked.
    #[error("an old refresh token was used again")]
    Reused,
    /// It is bound to a key that the client has not proven to hold. Nothing was changed.
    #[error("the session is bound to another key")]
    WrongKey,
    /// The user was disabled or deleted, or has a new password; the session has been revoked.
    #[error("the account has changed")]
    AccountChanged,
    /// The store failed; the outcome is unknown.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The store's last error.
struct LastError {
    at: Instant,
    what: String,
}

/// All sessions and login attempts.
#[derive(Clone)]
pub struct Sessions {
    store: Arc<dyn Store>,
    policy: Arc<RwLock<Policy>>,
    limits: LoginLimits,
    revocations: Arc<Revocations>,
    last_error: Arc<Mutex<Option<LastError>>>,
}

impl Sessions {
    /// Starts on a store: loads the revoked sessions.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub async fn start(
        store: Arc<dyn Store>,
        policy: Policy,
        now: UnixMillis,
    ) -> Result<Sessions, StoreError> {
        let (revocations, permits_from) = match store.revocations().await? {
            Some(kept_by_the_store) => (kept_by_the_store, UnixMillis::default()),
            // A store that belongs to this process.
            None => (Arc::new(revoked_so_far(&*store, policy, now).await?), now),
        };
        let limits = LoginLimits::new(&store, policy.throttle, permits_from);
        let policy = Arc::new(RwLock::new(policy));
        Ok(Sessions { store, policy, limits, revocations, last_error: Arc::default() })
    }

    /// Applies a new policy. The rate limit of networks stays that of the start, and revocations are
    /// remembered for the longest access token lifetime so far, as tokens of that lifetime may still be
    /// valid.
    pub fn set_policy(&self, policy: Policy) {
        let mut current = self.policy.write().unwrap_or_else(PoisonError::into_inner);
        *current = Policy { access_ttl: policy.access_ttl.max(current.access_ttl), ..policy };
    }

    fn policy(&self) -> Policy {
        *self.policy.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The revoked sessions.
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// Why the store is down, or its last error if no operation has succeeded since.
    pub fn store_last_error(&self) -> Option<String> {
        let health = self.store.health();
        let last_error = self.last_error.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match health {
            Health::Down(why) => Some(why),
            // Errors from before it came up again no longer apply.
            Health::Up(since) => last_error.as_ref().filter(|t| t.at > since).map(|t| t.what.clone()),
            Health::Unwatched => last_error.as_ref().map(|t| t.what.clone()),
        }
    }

    /// Writes a consistent copy of the store's file to a new file.
    ///
    /// # Errors
    ///
    /// The store is not a file, or the copy cannot be written.
    pub async fn backup(&self, to: &Path) -> Result<(), StoreError> {
        self.store.backup(to).await
    }

    /// How often the store was found to have lost its data.
    pub fn store_losses(&self) -> u64 {
        self.store.losses()
    }

    /// Records the outcome of a store operation for health reports.
    fn watched<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        let mut last_error = self.last_error.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *last_error = result.as_ref().err().map(|e| LastError { at: Instant::now(), what: e.to_string() });
        result
    }

    pub(super) async fn update<T: Serialize + DeserializeOwned, R>(
        &self,
        key: &Key,
        decide: impl FnMut(Option<T>) -> (Option<Change<T>>, R),
    ) -> Result<R, StoreError> {
        self.watched(update(&*self.store, key, decide).await)
    }

    /// Opens a session that only `host` can claim, within a minute and once, by the id of its first token. It is part of the
    /// sign-in whose session `from` is, and ends with it at `expires_at`.
    ///
    /// # Errors
    ///
    /// The store does not answer.
    pub async fn hand_over(
        &self,
        new: NewSession,
        from: SessionId,
        host: &str,
        expires_at: UnixMillis,
        now: UnixMillis,
    ) -> Result<NewTokens, StoreError> {
        let (id, refresh_token) = (SessionId::random(), TokenId::random());
        let mut session = new.into_session(refresh_token, now, expires_at);
        session.hand_over(from, host);
        if let Some(root) = self.read::<Session>(&session_key(from)).await? {
            session.authenticate(root.authentication());
        }
        let authentication = session.authentication();
        // 128 random bits are never taken.
        self.update(&session_key(id), |_: Option<Session>| (Some(self.change(session.clone())), ())).await?;
        Ok(NewTokens { session: id, refresh_token, authentication, expires_at })
    }

    /// Claims a session that was handed over to `host`, for a new first token; `code` is the id of the one it was opened with.
    /// `None` where there is no such session to be claimed.
    ///
    /// # Errors
    ///
    /// The store does not answer.
    pub async fn claim(
        &self,
        id: SessionId,
        code: TokenId,
        host: &str,
        now: UnixMillis,
    ) -> Result<Option<(NewTokens, Session)>, StoreError> {
        let fresh = TokenId::random();
        let key = session_key(id);
        let (mut ending, access_ttl) = (self.ending(id, now), self.policy().access_ttl);
        let claimed = self.update(&key, |record: Option<Session>| {
            let Some(before) = record else { return (None, None) };
            let mut session = before.clone();
            let claimed = session.claim(code, host, fresh, now).then(|| session.clone());
            ending.decide(session.revoked_until(access_ttl));
            ((session != before).then(|| self.change(session)), claimed)
        });
        let claimed = claimed.await;
        ending.decided &= claimed.is_ok();
        Ok(claimed?.map(|session| {
            let (authentication, expires_at) = (session.authentication(), session.expires_at);
            (NewTokens { session: id, refresh_token: fresh, authentication, expires_at }, session)
        }))
    }

    /// Ends a session and all others of the same sign-in: the one that it was handed over from, and those that were handed
    /// over from that one.
    ///
    /// # Errors
    ///
    /// The store does not answer.
    pub async fn revoke_sign_in(
        &self,
        id: SessionId,
        reason: RevocationReason,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        self.end(id, reason, now).await?;
        let Some(session) = self.read::<Session>(&session_key(id)).await? else { return Ok(()) };
        let root = session.sign_in_root(id);
        let all = self.records::<Session>(Space::Session, Some(&session.subject)).await?;
        let same = all.into_iter().filter(|(other, session)| {
            *other != id && (*other == root || session.sign_in_root(*other) == root)
        });
        let ids = same.map(|(id, _)| id).collect();
        self.clone().end_each(ids, reason, now).await.map(drop)
    }

    /// Opens a session. If the user then exceeds the session limit, the oldest sessions end, or this one is
    /// not opened.
    ///
    /// # Errors
    ///
    /// [`OpenSessionError::TooMany`] where logins beyond the limit are rejected.
    pub async fn open(&self, new: NewSession, now: UnixMillis) -> Result<NewTokens, OpenSessionError> {
        let (id, refresh_token) = (SessionId::random(), TokenId::random());
        let expires_at = now.saturating_add(self.policy().session_ttl);
        let session = new.into_session(refresh_token, now, expires_at);
        let authentication = session.authentication();
        // 128 random bits do not collide.
        self.update(&session_key(id), |_: Option<Session>| (Some(self.change(session.clone())), ())).await?;
        if let Some(limit) = self.policy().session_limit {
            self.enforce(limit, &session.subject, id, now).await?;
        }
        Ok(NewTokens { session: id, refresh_token, authentication, expires_at })
    }

    /// Opens the session `id` with a refresh token that another library issued, unless it was opened before.
    /// It ends when that token expires.
    ///
    /// # Errors
    ///
    /// The store fails.
    pub async fn adopt(
        &self,
        id: SessionId,
        token: TokenId,
        new: NewSession,
        expires_at: UnixMillis,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let mut session = new.into_session(token, now, expires_at);
        // When the user logged in elsewhere is not known.
        session.authenticate(Authentication::default());
        // The lifetime includes the leeway.
        session.outlast(expires_at.saturating_add(self.policy().access_ttl));
        self.update(&session_key(id), |known: Option<Session>| {
            (known.is_none().then(|| self.change(session.clone())), ())
        })
        .await
    }

    /// Enforces the session limit after `opened` was stored: of two concurrent logins, each sees the other.
    async fn enforce(
        &self,
        limit: SessionLimit,
        subject: &str,
        opened: SessionId,
        now: UnixMillis,
    ) -> Result<(), OpenSessionError> {
        let mut sessions = self.list(Some(subject), now).await?;
        sessions.sort_unstable_by_key(|session| (session.started_at, session.id));
        let excess = sessions.len().saturating_sub(limit.max);
        match limit.when_full {
            WhenFull::EndOldest => {
                let others = sessions.iter().filter(|session| session.id != opened).take(excess);
                let ids = others.map(|session| session.id).collect();
                self.clone().end_each(ids, RevocationReason::TooMany, now).await?;
            }
            WhenFull::Refuse if sessions.iter().skip(limit.max).any(|session| session.id == opened) => {
                self.end(opened, RevocationReason::TooMany, now).await?;
                return Err(OpenSessionError::TooMany);
            }
            WhenFull::Refuse => {}
        }
        Ok(())
    }

    /// The live sessions of one user or of all, newest first.
    pub async fn list(&self, subject: Option<&str>, now: UnixMillis) -> Result<Vec<SessionInfo>, StoreError> {
        let found = self.records::<Session>(Space::Session, subject).await?;
        let rotation = self.policy().rotation;
        let live = found.into_iter().filter(|(_, session)| session.is_live(rotation, now));
        let mut sessions: Vec<SessionInfo> = live.map(|(id, session)| info(id, session)).collect();
        sessions.sort_unstable_by_key(|session| (std::cmp::Reverse(session.started_at), session.id));
        Ok(sessions)
    }

    /// Counts live sessions and locked names. Reads all records: for a store that belongs to this process.
    pub async fn census(&self, now: UnixMillis) -> Result<Census, StoreError> {
        let policy = self.policy();
        let mut sessions = 0;
        let mut count_session = |key: Key, found: Versioned| -> Result<(), StoreError> {
            sessions +=
                usize::from(read_record::<Session>(&key, &found.value)?.1.is_live(policy.rotation, now));
            Ok(())
        };
        // Not watched: a store that can be read and not written is still in trouble.
        self.store.visit(Space::Session, &mut count_session).await?;
        let mut locked_names = 0;
        let mut count_lock = |key: Key, found: Versioned| -> Result<(), StoreError> {
            let mut attempts: LoginAttempts = decode(&key, &found.value)?;
            attempts.refresh(policy.lockout, now);
            locked_names += usize::from(attempts.locked_for(now).is_some());
            Ok(())
        };
        self.store.visit(Space::Attempts, &mut count_lock).await?;
        Ok(Census { sessions, locked_names })
    }

    /// Revokes all sessions whose account has changed since login, for changes made while no gateway was
    /// running. Sessions of unknown accounts stay.
    pub async fn end_all_changed(
        &self,
        account: impl Fn(&str) -> Option<Account>,
        now: UnixMillis,
    ) -> Result<usize, StoreError> {
        let is_changed =
            |session: &Session| account(&session.subject).is_some_and(|account| !session.is_of(account));
        self.end_where(is_changed, RevocationReason::AccountChanged, now).await
    }

    /// Revokes the sessions whose newest refresh token was issued within a time: that of a key that
    /// was revoked. Returns how many.
    pub async fn end_issued_within(
        &self,
        time: std::ops::Range<UnixMillis>,
        now: UnixMillis,
    ) -> Result<usize, StoreError> {
        let is_of_key = |session: &Session| session.newest_issued_at().is_some_and(|at| time.contains(&at));
        self.end_where(is_of_key, RevocationReason::Revoked, now).await
    }

    /// Revokes all sessions of the store that are not over and for which `is_meant` is true. Returns how many.
    async fn end_where(
        &self,
        is_meant: impl Fn(&Session) -> bool,
        reason: RevocationReason,
        now: UnixMillis,
    ) -> Result<usize, StoreError> {
        let mut ids = Vec::new();
        for (key, found) in self.watched(self.store.scan(Space::Session).await)? {
            let (id, session) = read_record::<Session>(&key, &found.value)?;
            let is_over = session.revoked.is_some() || now >= session.expires_at;
            if !is_over && is_meant(&session) {
                ids.push(id);
            }
        }
        self.clone().end_each(ids, reason, now).await
    }

    /// Reads a record.
    async fn read<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<T>, StoreError> {
        let found = self.watched(self.store.get(key).await)?;
        found.map(|found| decode(key, &found.value)).transpose()
    }

    /// The records of a space with their ids, of one user or of all, including ended ones that were not evicted yet.
    async fn records<T: DeserializeOwned>(
        &self,
        space: Space,
        subject: Option<&str>,
    ) -> Result<Vec<(SessionId, T)>, StoreError> {
        let Some(subject) = subject else {
            let found = self.watched(self.store.scan(space).await)?;
            return found.iter().map(|(key, found)| read_record(key, &found.value)).collect();
        };
        let mut records = Vec::new();
        for key in self.watched(self.store.group(space, subject).await)? {
            if let Some(found) = self.watched(self.store.get(&key).await)? {
                records.push(read_record(&key, &found.value)?);
            }
        }
        Ok(records)
    }

    /// Revokes a session if it belongs to that user, or to anyone where no user is named. Returns whether it
    /// was live.
    pub async fn revoke_of(
        &self,
        subject: Option<&str>,
        id: SessionId,
        now: UnixMillis,
    ) -> Result<bool, StoreError> {
        let Some(session) = self.read::<Session>(&session_key(id)).await? else { return Ok(false) };
        if subject.is_some_and(|subject| subject != session.subject) {
            return Ok(false);
        }
        self.end(id, RevocationReason::Revoked, now).await
    }

    /// Revokes the sessions of a user that were opened with another account state: all where the account is
    /// gone, those with another password where it has changed. Returns how many.
    pub async fn end_changed(
        &self,
        subject: &str,
        account: Account,
        now: UnixMillis,
    ) -> Result<usize, StoreError> {
        let sessions = self.records::<Session>(Space::Session, Some(subject)).await?;
        let changed =
            sessions.into_iter().filter(|(_, session)| session.revoked.is_none() && !session.is_of(account));
        let ids = changed.map(|(id, _)| id).collect();
        self.clone().end_each(ids, RevocationReason::AccountChanged, now).await
    }

    /// Has sessions of a user go on when the user's credential changes from `from` to `to`. To be called
    /// before the change; [`Self::end_changed`] then ends the others.
    ///
    /// # Errors
    ///
    /// The store fails; some of them may go on.
    pub async fn keep_through_change(
        &self,
        subject: &str,
        kept: KeptSessions,
        from: [u8; 16],
        to: [u8; 16],
    ) -> Result<(), StoreError> {
        if kept == KeptSessions::None {
            return Ok(());
        }
        let sessions = self.records::<Session>(Space::Session, Some(subject)).await?;
        let sign_in = match kept {
            KeptSessions::SignIn(own) => {
                sessions.iter().find(|(id, _)| *id == own).map(|(id, session)| session.sign_in_root(*id))
            }
            _ => None,
        };
        for (id, session) in sessions {
            let is_kept = kept == KeptSessions::All || Some(session.sign_in_root(id)) == sign_in;
            if is_kept && session.revoked.is_none() {
                self.adjust(id, |session| {
                    session.outlive_change(from, to);
                    true
                })
                .await?;
            }
        }
        Ok(())
    }

    /// Revokes the sessions of a user's other sign-ins. Returns how many.
    ///
    /// # Errors
    ///
    /// The store fails; some of them may go on.
    pub async fn revoke_others(
        &self,
        subject: &str,
        own: SessionId,
        reason: RevocationReason,
        now: UnixMillis,
    ) -> Result<usize, StoreError> {
        let sessions = self.records::<Session>(Space::Session, Some(subject)).await?;
        let sign_in =
            sessions.iter().find(|(id, _)| *id == own).map(|(id, session)| session.sign_in_root(*id));
        let others = sessions.into_iter().filter(|(id, session)| {
            *id != own && session.revoked.is_none() && Some(session.sign_in_root(*id)) != sign_in
        });
        let ids = others.map(|(id, _)| id).collect();
        self.clone().end_each(ids, reason, now).await
    }

    /// Notes that the user of a session has proved the identity anew. `None` for a session that is over.
    ///
    /// # Errors
    ///
    /// The store fails.
    pub async fn reauthenticate(
        &self,
        id: SessionId,
        second_factor: bool,
        now: UnixMillis,
    ) -> Result<Option<Reauthenticated>, StoreError> {
        self.update(&session_key(id), |record: Option<Session>| {
            let Some(mut session) = record.filter(|session| session.revoked.is_none()) else {
                return (None, None);
            };
            session.authenticate(Authentication { at: now, second_factor });
            let (authentication, expires_at) = (session.authentication(), session.expires_at);
            let key = session.key;
            (Some(self.change(session)), Some(Reauthenticated { authentication, expires_at, key }))
        })
        .await
    }

    /// Redeems a refresh token. `proven` is the thumbprint of the key that the client has proven to hold: a session that is
    /// bound needs its own, and one that is not becomes bound to it. `account` looks the session's user up, and may be called more than once.
    /// `client` is the client that presents it.
    ///
    /// # Errors
    ///
    /// Why the session cannot be refreshed.
    pub async fn refresh(
        &self,
        id: SessionId,
        presented: TokenId,
        proven: Option<[u8; 32]>,
        account: impl Fn(&Session) -> Account,
        client: Option<&ClientInfo>,
        now: UnixMillis,
    ) -> Result<RefreshResult, RefreshError> {
        let fresh = TokenId::random();
        let key = session_key(id);
        let (mut ending, access_ttl) = (self.ending(id, now), self.policy().access_ttl);
        let judged = self.update(&key, |record: Option<Session>| {
            let Some(before) = record else { return (None, Err(RefreshError::Unknown)) };
            if before.key.is_some() && before.key != proven {
                // Not a use: who holds a stolen token only must not be able to end the session either.
                return (None, Err(RefreshError::WrongKey));
            }
            let mut session = before.clone();
            let result = self.evaluate(&mut session, presented, fresh, &account, now);
            ending.decide(session.revoked_until(access_ttl));
            if result.is_ok() && proven.is_some() {
                session.key = proven;
            }
            if session == before {
                return (None, result);
            }
            if result.is_ok() {
                session.client = client.unwrap_or(&session.client).clone();
            }
            (Some(self.change(session)), result)
        });
        let judged = judged.await;
        ending.decided &= judged.is_ok();
        judged?
    }

    /// Begins the grace of a presented token anew while the response with its successor is under way. Tells whether the
    /// successor is still unused.
    pub async fn hold_presented(
        &self,
        id: SessionId,
        presented: TokenId,
        now: UnixMillis,
    ) -> Result<bool, StoreError> {
        self.adjust(id, |session| session.hold(presented, now)).await
    }

    /// Takes back that a token was presented, where the response with its successor never left. Tells whether that was
    /// possible.
    pub async fn withdraw_presented(&self, id: SessionId, presented: TokenId) -> Result<bool, StoreError> {
        self.adjust(id, |session| session.withdraw(presented)).await
    }

    async fn adjust(
        &self,
        id: SessionId,
        mut adjust: impl FnMut(&mut Session) -> bool,
    ) -> Result<bool, StoreError> {
        self.update(&session_key(id), |record: Option<Session>| {
            let Some(before) = record else { return (None, false) };
            let mut session = before.clone();
            let adjusted = adjust(&mut session);
            ((session != before).then(|| self.change(session)), adjusted)
        })
        .await
    }

    fn evaluate(
        &self,
        session: &mut Session,
        presented: TokenId,
        fresh: TokenId,
        account: impl Fn(&Session) -> Account,
        now: UnixMillis,
    ) -> Result<RefreshResult, RefreshError> {
        let successor = match session.redeem(presented, fresh, self.policy().rotation, now) {
            RefreshDecision::Rotated { successor, issued_at, repeated } => {
                Some(RotatedToken { id: successor, issued_at, repeated })
            }
            RefreshDecision::Kept => None,
            RefreshDecision::Reused => return Err(RefreshError::Reused),
            RefreshDecision::Revoked => return Err(RefreshError::Revoked),
            RefreshDecision::Idle => return Err(RefreshError::Idle),
            RefreshDecision::Expired => return Err(RefreshError::Expired),
        };
        if !session.is_of(account(session)) {
            session.revoke(RevocationReason::AccountChanged, now);
            return Err(RefreshError::AccountChanged);
        }
        let authentication = session.authentication();
        Ok(RefreshResult { successor, authentication, expires_at: session.expires_at })
    }

    /// Revokes a session on every instance; on this one before the call returns. Revoking it again, or an
    /// unknown one, changes nothing.
    pub async fn revoke(
        &self,
        id: SessionId,
        reason: RevocationReason,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        self.end(id, reason, now).await.map(drop)
    }

    /// Revokes all sessions of a user and returns how many were live. Once started it completes, even if the
    /// caller goes away.
    pub async fn revoke_all(
        &self,
        subject: &str,
        reason: RevocationReason,
        now: UnixMillis,
    ) -> Result<usize, StoreError> {
        let keys = self.watched(self.store.group(Space::Session, subject).await)?;
        let ids = keys.iter().map(|key| key.id.parse().map_err(|_| StoreError::Corrupt(key.to_string())));
        let ids = ids.collect::<Result<Vec<SessionId>, _>>()?;
        let work = tokio::spawn(self.clone().end_each(ids, reason, now));
        work.await.map_err(|e| StoreError::Unavailable(e.to_string()))?
    }

    async fn end_each(
        self,
        ids: Vec<SessionId>,
        reason: RevocationReason,
        now: UnixMillis,
    ) -> Result<usize, StoreError> {
        let mut ended = 0;
        for together in ids.chunks(REVOCATION_BATCH) {
            let mut endings = JoinSet::new();
            for &id in together {
                let sessions = self.clone();
                endings.spawn(async move { sessions.end(id, reason, now).await });
            }
            for result in endings.join_all().await {
                ended += usize::from(result?);
            }
        }
        Ok(ended)
    }

    /// Revokes a session and returns whether it was live.
    async fn end(
        &self,
        id: SessionId,
        reason: RevocationReason,
        now: UnixMillis,
    ) -> Result<bool, StoreError> {
        let key = session_key(id);
        let (mut ending, access_ttl) = (self.ending(id, now), self.policy().access_ttl);
        let ended = self.update(&key, |record: Option<Session>| {
            ending.decided = true;
            let Some(mut session) = record else { return (None, false) };
            let change = session.revoke(reason, now);
            ending.decide(session.revoked_until(access_ttl));
            (change.then(|| self.change(session)), change)
        });
        let ended = ended.await;
        ending.decided &= ended.is_ok();
        ended
    }

    /// The remaining lock of a name, if it is locked.
    pub async fn locked_for(&self, name: &str, now: UnixMillis) -> Result<Option<Duration>, StoreError> {
        self.watched(self.limits.locked_for(name, self.policy().lockout, now).await)
    }

    /// Acquires a permit to check a password. Where as many attempts are in flight as may fail, it waits for
    /// a moment. A permit has to be settled, and its result must not be used after [`super::MAX_CHECK_TIME`].
    pub async fn begin_login(
        &self,
        name: &str,
        network: &SourceNetwork,
        now: UnixMillis,
    ) -> Result<LoginDecision, StoreError> {
        self.watched(self.limits.begin(name, network, self.policy().lockout, now).await)
    }

    /// Settles a permit. The result of the attempt may be sent only once this has returned.
    pub async fn settle_login(
        &self,
        permit: LoginPermit,
        result: LoginResult,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        self.watched(self.limits.settle(permit, result, self.policy().lockout, now).await)
    }

    /// Unlocks a name and clears its failures. Returns whether it was locked.
    pub async fn unlock(&self, name: &str, now: UnixMillis) -> Result<bool, StoreError> {
        self.watched(self.limits.unlock(name, self.policy().lockout, now).await)
    }

    /// Counts a failure of a network, which is rate limited if it has sent too many.
    pub async fn count_failure(
        &self,
        scope: RateLimitScope,
        network: &SourceNetwork,
        now: UnixMillis,
    ) -> Result<RateLimitDecision, StoreError> {
        self.watched(self.limits.count_failure(scope, network, now).await)
    }

    /// Stores a ticket, and returns its secret.
    ///
    /// # Errors
    ///
    /// The store fails.
    pub async fn issue_ticket(&self, ticket: Ticket) -> Result<String, StoreError> {
        let secret = ticket::new_secret();
        // 128 random bits do not collide.
        self.update(&ticket_key(&secret), |_: Option<Ticket>| (Some(kept(ticket.clone())), ())).await?;
        Ok(secret)
    }

    /// The ticket with that secret, if it counts for `purpose`. It is not used up.
    ///
    /// # Errors
    ///
    /// The store fails.
    pub async fn ticket(
        &self,
        secret: &str,
        purpose: TicketPurpose,
        now: UnixMillis,
    ) -> Result<Result<Ticket, BadTicket>, StoreError> {
        self.update(&ticket_key(secret), |found: Option<Ticket>| (None, valid(found, purpose, now))).await
    }

    /// Uses a ticket up; of several calls, at most one gets it.
    ///
    /// # Errors
    ///
    /// The store fails.
    pub async fn use_ticket(
        &self,
        secret: &str,
        purpose: TicketPurpose,
        now: UnixMillis,
    ) -> Result<Result<Ticket, BadTicket>, StoreError> {
        self.update(&ticket_key(secret), |found: Option<Ticket>| match valid(found, purpose, now) {
            Ok(ticket) => (Some(kept(Ticket { used_at: Some(now), ..ticket.clone() })), Ok(ticket)),
            Err(bad) => (None, Err(bad)),
        })
        .await
    }

    /// Takes back that a ticket was used, where nothing came of it.
    ///
    /// # Errors
    ///
    /// The store fails.
    pub async fn return_ticket(&self, secret: &str) -> Result<(), StoreError> {
        self.update(&ticket_key(secret), |found: Option<Ticket>| {
            (found.map(|ticket| kept(Ticket { used_at: None, ..ticket })), ())
        })
        .await
    }

    /// Uses a proof of possession once for all processes that share the store, until `until`. `false`: it was used before;
    /// `None`: the store belongs to this process, which remembers proofs itself.
    ///
    /// # Errors
    ///
    /// The store does not answer; where it is known to be down, that is found out at once.
    pub async fn claim_proof(&self, id: &str, until: UnixMillis) -> Result<Option<bool>, StoreError> {
        if !self.store.is_shared() {
            return Ok(None);
        }
        if let Health::Down(why) = self.store.health() {
            return Err(StoreError::Unavailable(why));
        }
        let key = Key { space: Space::Proof, id: id.to_owned() };
        let (expected, value, group, revoked_until) = (None, Vec::new(), None, None);
        let put = Put { key, expected, value, expires_at: until, group, revoked_until };
        Ok(Some(self.watched(self.store.put_if(put).await)? == PutOutcome::Stored))
    }

    /// Whether other processes share the store.
    pub fn store_is_shared(&self) -> bool {
        self.store.is_shared()
    }

    /// Evicts expired records from the store and the revocation set. Returns how many the store evicted.
    pub async fn sweep(&self, now: UnixMillis) -> Result<usize, StoreError> {
        self.revocations.prune_expired(now);
        self.watched(self.store.sweep(now.saturating_sub(SWEEP_MARGIN)).await)
    }

    /// A revoked session's record outlives its access tokens, so that a restart finds it.
    fn change(&self, session: Session) -> Change<Session> {
        let expires_at = session.expires_at.saturating_add(self.policy().access_ttl);
        let group = Some(session.subject.clone());
        let revoked_until = session.revoked_until(self.policy().access_ttl);
        Change { record: session, expires_at, group, revoked_until }
    }

    fn ending(&self, id: SessionId, now: UnixMillis) -> SessionEnd<'_> {
        let until = now.saturating_add(self.policy().access_ttl);
        SessionEnd { revocations: &self.revocations, id, until, decided: false }
    }
}

/// The revoked sessions of a store that belongs to this process.
async fn revoked_so_far(
    store: &dyn Store,
    policy: Policy,
    now: UnixMillis,
) -> Result<Revocations, StoreError> {
    let revocations = Revocations::default();
    for (key, found) in store.scan(Space::Session).await? {
        let (id, session) = read_record::<Session>(&key, &found.value)?;
        if let Some(until) = session.revoked_until(policy.access_ttl).filter(|until| *until > now) {
            revocations.insert(id, until);
        }
    }
    Ok(revocations)
}

fn session_key(id: SessionId) -> Key {
    Key { space: Space::Session, id: id.to_string() }
}

fn ticket_key(secret: &str) -> Key {
    Key { space: Space::Ticket, id: ticket::id_of(secret) }
}

fn valid(found: Option<Ticket>, purpose: TicketPurpose, now: UnixMillis) -> Result<Ticket, BadTicket> {
    let ticket = found.ok_or(BadTicket::Unknown)?;
    ticket.check(purpose, now).map(|()| ticket)
}

fn kept(ticket: Ticket) -> Change<Ticket> {
    Change { expires_at: ticket.kept_until(), record: ticket, group: None, revoked_until: None }
}

/// The id and the content of a session or a personal access token.
fn read_record<T: DeserializeOwned>(key: &Key, value: &[u8]) -> Result<(SessionId, T), StoreError> {
    let id = key.id.parse().map_err(|_| StoreError::Corrupt(key.to_string()))?;
    Ok((id, decode(key, value)?))
}

fn info(id: SessionId, session: Session) -> SessionInfo {
    SessionInfo {
        id,
        started_at: session.opened_at,
        last_refreshed_at: session.last_refreshed_at(),
        expires_at: session.expires_at,
        subject: session.subject,
        username: session.username,
        client: session.client,
    }
}

/// Activates a session's end on this instance when the call that decided it ends, also when it is cancelled:
/// the store then goes on writing, and what becomes durable must take effect.
struct SessionEnd<'s> {
    revocations: &'s Revocations,
    id: SessionId,
    until: UnixMillis,
    decided: bool,
}

impl SessionEnd<'_> {
    /// Decided, where the session is revoked until then.
    fn decide(&mut self, revoked_until: Option<UnixMillis>) {
        self.decided = revoked_until.is_some();
        self.until = self.until.max(revoked_until.unwrap_or_default());
    }
}

impl Drop for SessionEnd<'_> {
    fn drop(&mut self) {
        if self.decided {
            self.revocations.insert(self.id, self.until);
        }
    }
}

#[cfg(test)]
mod tests;
