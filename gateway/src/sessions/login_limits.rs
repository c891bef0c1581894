//! Login limits: permits for password checks, by user name (lockout) and by network (rate limit).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::lockout::{LoginAttempt, LoginAttempts};
use super::rate_limit::{Bucket, MAX_CHECK_TIME};
use super::rate_limit_batcher::{RateLimitBatcher, Step};
use super::record::decode;
use super::store::{Key, Space, Store, StoreError};
use super::{
    LockoutPolicy, LoginResult, RateLimitDecision, RateLimitPolicy, RateLimitScope, SourceNetwork, UnixMillis,
};

/// How long an attempt waits for a permit before it is rejected: as long as the checks in flight may take.
const MAX_WAIT: Duration = MAX_CHECK_TIME;
/// Delay between retries of acquiring a permit; doubled after each.
const FIRST_RETRY_DELAY: Duration = Duration::from_millis(10);
const MAX_RETRY_DELAY: Duration = Duration::from_millis(100);

/// A permit for one password check.
#[derive(Debug, Clone)]
#[must_use = "a permit that is not settled keeps others waiting"]
pub struct LoginPermit {
    name: String,
    name_permitted_at: UnixMillis,
    /// Set where networks are rate limited.
    network: Option<(Key, UnixMillis)>,
}

/// Whether a password may be checked.
#[derive(Debug, Clone)]
pub enum LoginDecision {
    /// It may.
    Permitted(LoginPermit),
    /// The name is locked.
    Locked {
        /// Remaining time, in milliseconds.
        retry_after: UnixMillis,
    },
    /// The network has sent too many failures.
    Limited {
        /// Time until the next attempt is allowed, in milliseconds.
        retry_after: UnixMillis,
    },
    /// Too many attempts are in flight; retry in a second.
    Busy,
}

/// The counters of attempts.
#[derive(Clone)]
pub(super) struct LoginLimits {
    store: Arc<dyn Store>,
    names: Arc<RateLimitBatcher<NameStep>>,
    networks: Arc<RateLimitBatcher<NetworkStep>>,
    network_policy: Option<RateLimitPolicy>,
    /// Earlier permits are void: their process has ended. 0 where other processes share the store.
    permits_from: UnixMillis,
}

impl LoginLimits {
    pub(super) fn new(
        store: &Arc<dyn Store>,
        network_policy: Option<RateLimitPolicy>,
        permits_from: UnixMillis,
    ) -> LoginLimits {
        LoginLimits {
            store: Arc::clone(store),
            names: RateLimitBatcher::new(Arc::clone(store)),
            networks: RateLimitBatcher::new(Arc::clone(store)),
            network_policy,
            permits_from,
        }
    }

    /// Acquires a permit, of the network first: a rate-limited attempt locks no name.
    pub(super) async fn begin(
        &self,
        name: &str,
        network: &SourceNetwork,
        policy: LockoutPolicy,
        now: UnixMillis,
    ) -> Result<LoginDecision, StoreError> {
        // A locked name runs no hash, so the response cannot depend on the password. It uses no permit
        // either.
        if let Some(retry_after) = self.locked_for(name, policy, now).await? {
            return Ok(LoginDecision::Locked { retry_after });
        }
        let mut wait = BoundedWait::new(now);
        let mut of_network = None;
        if let Some(network_policy) = self.network_policy {
            let key = network_key(RateLimitScope::Login, network);
            loop {
                let action = NetworkAction::Acquire(wait.now());
                let step = NetworkStep { policy: network_policy, action, permits_from: self.permits_from };
                match self.networks.apply(key.clone(), step).await? {
                    RateLimitDecision::Allowed => break,
                    RateLimitDecision::Limited { retry_after } => {
                        return Ok(LoginDecision::Limited { retry_after });
                    }
                    RateLimitDecision::Busy if wait.wait().await => {}
                    RateLimitDecision::Busy => return Ok(LoginDecision::Busy),
                }
            }
            of_network = Some((key, wait.last_now));
        }
        let refused = loop {
            let step =
                NameStep { policy, action: NameAction::Acquire(wait.now()), permits_from: self.permits_from };
            match self.names.apply(attempts_key(name), step).await? {
                LoginAttempt::Permitted => {
                    return Ok(LoginDecision::Permitted(LoginPermit {
                        name: name.to_owned(),
                        name_permitted_at: wait.last_now,
                        network: of_network,
                    }));
                }
                LoginAttempt::Locked { retry_after } => break LoginDecision::Locked { retry_after },
                LoginAttempt::Busy if wait.wait().await => {}
                LoginAttempt::Busy => break LoginDecision::Busy,
            }
        };
        self.settle_network(of_network, false, wait.now()).await?;
        Ok(refused)
    }

    pub(super) async fn settle(
        &self,
        permit: LoginPermit,
        result: LoginResult,
        policy: LockoutPolicy,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let action = NameAction::Settle { permitted_at: permit.name_permitted_at, result, now };
        // Concurrently, so that they share an fsync; and each to its end.
        let (name, network) = tokio::join!(
            self.names.apply(
                attempts_key(&permit.name),
                NameStep { policy, action, permits_from: self.permits_from }
            ),
            self.settle_network(permit.network, result == LoginResult::Failed, now),
        );
        name.map(drop).and(network)
    }

    async fn settle_network(
        &self,
        permit: Option<(Key, UnixMillis)>,
        failed: bool,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let (Some(policy), Some((key, permitted_at))) = (self.network_policy, permit) else { return Ok(()) };
        let action = NetworkAction::Settle { permitted_at, failed, now };
        self.networks
            .apply(key, NetworkStep { policy, action, permits_from: self.permits_from })
            .await
            .map(drop)
    }

    /// Counts a failure that needed no permit, because no password was checked.
    pub(super) async fn count_failure(
        &self,
        scope: RateLimitScope,
        network: &SourceNetwork,
        now: UnixMillis,
    ) -> Result<RateLimitDecision, StoreError> {
        let Some(policy) = self.network_policy else { return Ok(RateLimitDecision::Allowed) };
        let step = NetworkStep { policy, action: NetworkAction::Count(now), permits_from: self.permits_from };
        self.networks.apply(network_key(scope, network), step).await
    }

    /// The remaining lock of a name. Nothing is written, unless the lock was set by a clock that was ahead.
    pub(super) async fn locked_for(
        &self,
        name: &str,
        policy: LockoutPolicy,
        now: UnixMillis,
    ) -> Result<Option<UnixMillis>, StoreError> {
        let key = attempts_key(name);
        let Some(found) = self.store.get(&key).await? else { return Ok(None) };
        let before: LoginAttempts = decode(&key, &found.value)?;
        let mut attempts = before.clone();
        attempts.refresh(policy, now);
        let locked_for = attempts.locked_for(now);
        if locked_for != before.locked_for(now) {
            self.names
                .apply(
                    key,
                    NameStep { policy, action: NameAction::Refresh(now), permits_from: self.permits_from },
                )
                .await?;
        }
        Ok(locked_for)
    }

    /// Clears the record of a name. Returns whether it was locked.
    pub(super) async fn unlock(
        &self,
        name: &str,
        policy: LockoutPolicy,
        now: UnixMillis,
    ) -> Result<bool, StoreError> {
        let step = NameStep { policy, action: NameAction::Unlock(now), permits_from: self.permits_from };
        Ok(matches!(self.names.apply(attempts_key(name), step).await?, LoginAttempt::Locked { .. }))
    }
}

/// How long an attempt waits for its permits, and its clock.
struct BoundedWait {
    began: Instant,
    began_at: UnixMillis,
    /// The last value returned by [`BoundedWait::now`].
    last_now: UnixMillis,
    delay: Duration,
}

impl BoundedWait {
    fn new(now: UnixMillis) -> BoundedWait {
        BoundedWait { began: Instant::now(), began_at: now, last_now: now, delay: FIRST_RETRY_DELAY }
    }

    fn now(&mut self) -> UnixMillis {
        let elapsed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_now = self.began_at.saturating_add(elapsed);
        self.last_now
    }

    /// Waits before a retry; returns false when the maximum wait has passed.
    async fn wait(&mut self) -> bool {
        if self.began.elapsed() + self.delay > MAX_WAIT {
            return false;
        }
        sleep(self.delay).await;
        self.delay = (self.delay * 2).min(MAX_RETRY_DELAY);
        true
    }
}

#[derive(Clone)]
struct NameStep {
    policy: LockoutPolicy,
    action: NameAction,
    permits_from: UnixMillis,
}

#[derive(Clone, Copy)]
enum NameAction {
    Acquire(UnixMillis),
    Settle { permitted_at: UnixMillis, result: LoginResult, now: UnixMillis },
    Refresh(UnixMillis),
    Unlock(UnixMillis),
}

impl Step for NameStep {
    type Record = LoginAttempts;
    type Outcome = LoginAttempt;

    fn apply(&self, attempts: &mut LoginAttempts) -> LoginAttempt {
        let locked = |attempts: &LoginAttempts, now| match attempts.locked_for(now) {
            Some(retry_after) => LoginAttempt::Locked { retry_after },
            None => LoginAttempt::Permitted,
        };
        attempts.forget_permits_before(self.permits_from);
        match self.action {
            NameAction::Acquire(now) => attempts.acquire(self.policy, now),
            NameAction::Settle { permitted_at, result, now } => {
                attempts.settle(self.policy, permitted_at, result, now);
                locked(attempts, now)
            }
            NameAction::Refresh(now) => {
                attempts.refresh(self.policy, now);
                locked(attempts, now)
            }
            NameAction::Unlock(now) => locked(&std::mem::take(attempts), now),
        }
    }

    fn expires_at(&self, attempts: &LoginAttempts) -> UnixMillis {
        attempts.expires_at(self.policy)
    }
}

#[derive(Clone)]
struct NetworkStep {
    policy: RateLimitPolicy,
    action: NetworkAction,
    permits_from: UnixMillis,
}

#[derive(Clone, Copy)]
enum NetworkAction {
    Acquire(UnixMillis),
    Settle { permitted_at: UnixMillis, failed: bool, now: UnixMillis },
    Count(UnixMillis),
}

impl Step for NetworkStep {
    type Record = Bucket;
    type Outcome = RateLimitDecision;

    fn apply(&self, bucket: &mut Bucket) -> RateLimitDecision {
        bucket.forget_permits_before(self.permits_from);
        match self.action {
            NetworkAction::Acquire(now) => bucket.acquire(self.policy, now),
            NetworkAction::Settle { permitted_at, failed, now } => {
                bucket.settle(self.policy, permitted_at, failed, now);
                RateLimitDecision::Allowed
            }
            NetworkAction::Count(now) => bucket.count(self.policy, now),
        }
    }

    fn expires_at(&self, bucket: &Bucket) -> UnixMillis {
        bucket.expires_at()
    }
}

fn attempts_key(name: &str) -> Key {
    Key { space: Space::Attempts, id: name.to_owned() }
}

fn network_key(scope: RateLimitScope, network: &SourceNetwork) -> Key {
    Key { space: Space::Network, id: format!("{}:{network}", scope.name()) }
}
