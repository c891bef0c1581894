//! Where a network's attempts are counted: those that wait together are counted in one change of the record, for many
//! people may come from one network, and each change is an fsync or a round trip that the next must wait for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::oneshot;

use super::record::{Change, update};
use super::store::{Key, Space, Store, StoreError};
use super::throttle::Bucket;
use super::{Door, Passage, SourceNetwork, ThrottlePolicy, UnixMillis};

/// What happens to a bucket, and who waits for it.
struct Waiting {
    step: Step,
    answer: oneshot::Sender<Result<Passage, StoreError>>,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Reserve(UnixMillis),
    Withdraw,
}

/// Counts the attempts of networks.
pub(super) struct Turnstile {
    store: Arc<dyn Store>,
    policy: ThrottlePolicy,
    /// A network is in it while somebody counts for it.
    queues: Mutex<HashMap<Key, Vec<Waiting>>>,
}

impl Turnstile {
    pub(super) fn new(store: Arc<dyn Store>, policy: ThrottlePolicy) -> Turnstile {
        Turnstile { store, policy, queues: Mutex::default() }
    }

    /// Counts an attempt, before it is judged.
    pub(super) async fn reserve(
        self: &Arc<Self>,
        door: Door,
        network: &SourceNetwork,
        now: UnixMillis,
    ) -> Result<Passage, StoreError> {
        self.wait_for(door, network, Step::Reserve(now)).await
    }

    /// Takes an attempt back.
    pub(super) async fn withdraw(
        self: &Arc<Self>,
        door: Door,
        network: &SourceNetwork,
    ) -> Result<(), StoreError> {
        self.wait_for(door, network, Step::Withdraw).await.map(drop)
    }

    async fn wait_for(
        self: &Arc<Self>,
        door: Door,
        network: &SourceNetwork,
        step: Step,
    ) -> Result<Passage, StoreError> {
        let key = Key { space: Space::Network, id: format!("{}:{network}", door.name()) };
        let (answer, passage) = oneshot::channel();
        let nobody_counts = {
            let mut queues = self.queues();
            let nobody_counts = !queues.contains_key(&key);
            queues.entry(key.clone()).or_default().push(Waiting { step, answer });
            nobody_counts
        };
        if nobody_counts {
            // A task of its own: it counts for others too, and must not end with this caller.
            let round = Round { turnstile: Arc::clone(self), key };
            tokio::spawn(round.count());
        }
        passage.await.map_err(|_| StoreError::Unavailable("the count was given up".into()))?
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<Key, Vec<Waiting>>> {
        // A map that is only pushed to and taken from is whole even if a thread panicked beside it.
        self.queues.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Counting for one network, until nobody waits any more.
struct Round {
    turnstile: Arc<Turnstile>,
    key: Key,
}

impl Round {
    async fn count(self) {
        while let Some(waiting) = self.gather() {
            let steps: Vec<Step> = waiting.iter().map(|w| w.step).collect();
            let policy = self.turnstile.policy;
            let counted = update(&*self.turnstile.store, &self.key, |record: Option<Bucket>| {
                let before = record.unwrap_or_default();
                let mut bucket = before.clone();
                let passages: Vec<Passage> =
                    steps.iter().map(|step| step.take(&mut bucket, policy)).collect();
                let expires_at = bucket.expires_at();
                let change = (bucket != before).then_some(Change {
                    record: bucket,
                    expires_at,
                    group: None,
                    revoked_until: None,
                });
                (change, passages)
            });
            let counted = counted.await;
            for (place, waiting) in waiting.into_iter().enumerate() {
                let passage = counted.as_ref().map(|passages| passages[place]).map_err(StoreError::clone);
                // Who asked may have gone; the attempt counts all the same.
                let _ = waiting.answer.send(passage);
            }
        }
    }

    /// Those who wait; where nobody does, the next one begins a round of their own.
    fn gather(&self) -> Option<Vec<Waiting>> {
        let mut queues = self.turnstile.queues();
        let waiting = std::mem::take(queues.get_mut(&self.key)?);
        if waiting.is_empty() {
            queues.remove(&self.key);
            return None;
        }
        Some(waiting)
    }
}

impl Drop for Round {
    /// Where the round was cut off, by the end of its thread, nobody may wait for it any longer.
    fn drop(&mut self) {
        self.turnstile.queues().remove(&self.key);
    }
}

impl Step {
    fn take(self, bucket: &mut Bucket, policy: ThrottlePolicy) -> Passage {
        match self {
            Step::Reserve(now) => bucket.reserve(policy, now),
            Step::Withdraw => {
                bucket.withdraw(policy);
                Passage::Free
            }
        }
    }
}
