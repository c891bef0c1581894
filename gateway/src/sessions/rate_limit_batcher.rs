//! Where a network's attempts are counted: those that wait together are counted in one change of the record, for many
//! people may come from one network, and each change is an fsync or a round trip that the next must wait for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::oneshot;

use super::rate_limit::Bucket;
use super::record::{Change, update};
use super::store::{Key, Space, Store, StoreError};
use super::{RateLimitDecision, RateLimitPolicy, RateLimitScope, SourceNetwork, UnixMillis};

/// What happens to a bucket, and who waits for it.
struct PendingAttempt {
    step: Step,
    answer: oneshot::Sender<Result<RateLimitDecision, StoreError>>,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Acquire(UnixMillis),
    Refund,
}

/// Counts the attempts of networks.
pub(super) struct RateLimitBatcher {
    store: Arc<dyn Store>,
    policy: RateLimitPolicy,
    /// A network is in it while somebody counts for it.
    queues: Mutex<HashMap<Key, Vec<PendingAttempt>>>,
}

impl RateLimitBatcher {
    pub(super) fn new(store: Arc<dyn Store>, policy: RateLimitPolicy) -> RateLimitBatcher {
        RateLimitBatcher { store, policy, queues: Mutex::default() }
    }

    /// Counts an attempt, before it is judged.
    pub(super) async fn acquire(
        self: &Arc<Self>,
        scope: RateLimitScope,
        network: &SourceNetwork,
        now: UnixMillis,
    ) -> Result<RateLimitDecision, StoreError> {
        self.wait_for(scope, network, Step::Acquire(now)).await
    }

    /// Takes an attempt back.
    pub(super) async fn refund(
        self: &Arc<Self>,
        scope: RateLimitScope,
        network: &SourceNetwork,
    ) -> Result<(), StoreError> {
        self.wait_for(scope, network, Step::Refund).await.map(drop)
    }

    async fn wait_for(
        self: &Arc<Self>,
        scope: RateLimitScope,
        network: &SourceNetwork,
        step: Step,
    ) -> Result<RateLimitDecision, StoreError> {
        let key = Key { space: Space::Network, id: format!("{}:{network}", scope.name()) };
        let (answer, decision) = oneshot::channel();
        let nobody_counts = {
            let mut queues = self.queues();
            let nobody_counts = !queues.contains_key(&key);
            queues.entry(key.clone()).or_default().push(PendingAttempt { step, answer });
            nobody_counts
        };
        if nobody_counts {
            // A task of its own: it counts for others too, and must not end with this caller.
            let batch = Batch { rate_limiter: Arc::clone(self), key };
            tokio::spawn(batch.count());
        }
        decision.await.map_err(|_| StoreError::Unavailable("the count was given up".into()))?
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<Key, Vec<PendingAttempt>>> {
        // A map that is only pushed to and taken from is whole even if a thread panicked beside it.
        self.queues.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Counting for one network, until nobody waits any more.
struct Batch {
    rate_limiter: Arc<RateLimitBatcher>,
    key: Key,
}

impl Batch {
    async fn count(self) {
        while let Some(waiting) = self.collect_batch() {
            let steps: Vec<Step> = waiting.iter().map(|w| w.step).collect();
            let policy = self.rate_limiter.policy;
            let counted = update(&*self.rate_limiter.store, &self.key, |record: Option<Bucket>| {
                let before = record.unwrap_or_default();
                let mut bucket = before.clone();
                let decisions: Vec<RateLimitDecision> =
                    steps.iter().map(|step| step.take(&mut bucket, policy)).collect();
                let expires_at = bucket.expires_at();
                let change = (bucket != before).then_some(Change {
                    record: bucket,
                    expires_at,
                    group: None,
                    revoked_until: None,
                });
                (change, decisions)
            });
            let counted = counted.await;
            for (place, waiting) in waiting.into_iter().enumerate() {
                let decision = counted.as_ref().map(|decisions| decisions[place]).map_err(StoreError::clone);
                // Who asked may have gone; the attempt counts all the same.
                let _ = waiting.answer.send(decision);
            }
        }
    }

    /// Those who wait; where nobody does, the next one begins a batch of its own.
    fn collect_batch(&self) -> Option<Vec<PendingAttempt>> {
        let mut queues = self.rate_limiter.queues();
        let waiting = std::mem::take(queues.get_mut(&self.key)?);
        if waiting.is_empty() {
            queues.remove(&self.key);
            return None;
        }
        Some(waiting)
    }
}

impl Drop for Batch {
    /// Where the batch was cut off, by the end of its thread, nobody may wait for it any longer.
    fn drop(&mut self) {
        self.rate_limiter.queues().remove(&self.key);
    }
}

impl Step {
    fn take(self, bucket: &mut Bucket, policy: RateLimitPolicy) -> RateLimitDecision {
        match self {
            Step::Acquire(now) => bucket.acquire(policy, now),
            Step::Refund => {
                bucket.refund(policy);
                RateLimitDecision::Allowed
            }
        }
    }
}
