//! Batching of attempt counters: steps that wait for the same record are applied in one change, for many
//! users may share a network, and each change is an fsync or a round trip that the next has to wait for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::UnixMillis;
use super::record::{Change, update};
use super::store::{Key, Store, StoreError};

/// A step of a record's rule.
pub(super) trait Step: Clone + Send + Sync + 'static {
    /// The record that the step changes.
    type Record: Serialize + DeserializeOwned + Clone + Default + PartialEq + Send + Sync + 'static;
    /// The step's result.
    type Outcome: Clone + Send + Sync + 'static;

    fn apply(&self, record: &mut Self::Record) -> Self::Outcome;

    /// When the whole record has expired, as of this step.
    fn expires_at(&self, record: &Self::Record) -> UnixMillis;
}

/// A step, and the channel for its result.
struct Pending<S: Step> {
    step: S,
    answer: oneshot::Sender<Result<S::Outcome, StoreError>>,
}

/// Applies steps to records.
pub(super) struct RateLimitBatcher<S: Step> {
    store: Arc<dyn Store>,
    /// Has an entry for each record that is being changed.
    queues: Mutex<HashMap<Key, Vec<Pending<S>>>>,
}

impl<S: Step> RateLimitBatcher<S> {
    pub(super) fn new(store: Arc<dyn Store>) -> Arc<RateLimitBatcher<S>> {
        Arc::new(RateLimitBatcher { store, queues: Mutex::default() })
    }

    /// Applies a step; it completes even if the caller goes away.
    pub(super) async fn apply(self: &Arc<Self>, key: Key, step: S) -> Result<S::Outcome, StoreError> {
        let (answer, outcome) = oneshot::channel();
        let is_first = {
            let mut queues = self.queues();
            let is_first = !queues.contains_key(&key);
            queues.entry(key.clone()).or_default().push(Pending { step, answer });
            is_first
        };
        if is_first {
            // A task of its own: it applies others' steps too, and must not end with this caller.
            let mut batch = Batch { batcher: Arc::clone(self), key, finished: false };
            tokio::spawn(async move { batch.work().await });
        }
        outcome.await.map_err(|_| StoreError::Unavailable("the count was given up".into()))?
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<Key, Vec<Pending<S>>>> {
        // The map is only pushed to and taken from, so a panic elsewhere leaves it consistent.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Applies batches to one record, until no step is pending.
struct Batch<S: Step> {
    batcher: Arc<RateLimitBatcher<S>>,
    key: Key,
    /// The queue was removed; another batch may have begun a new one under the same key.
    finished: bool,
}

impl<S: Step> Batch<S> {
    async fn work(&mut self) {
        while let Some((steps, waiting)) = self.collect_batch() {
            let applied = update(&*self.batcher.store, &self.key, |found: Option<S::Record>| {
                let before = found.unwrap_or_default();
                let mut record = before.clone();
                let outcomes: Vec<S::Outcome> = steps.iter().map(|step| step.apply(&mut record)).collect();
                let expires_at = steps.last().map(|step| step.expires_at(&record)).unwrap_or_default();
                let changed = record != before;
                let change =
                    changed.then_some(Change { record, expires_at, group: None, revoked_until: None });
                (change, outcomes)
            });
            let applied = applied.await;
            for (place, answer) in waiting.into_iter().enumerate() {
                let outcome =
                    applied.as_ref().map(|outcomes| outcomes[place].clone()).map_err(StoreError::clone);
                // The receiver may be gone; the step was applied all the same.
                let _ = answer.send(outcome);
            }
        }
    }

    /// The pending steps; where there is none, the next one starts a new task.
    #[allow(clippy::type_complexity)]
    fn collect_batch(&mut self) -> Option<(Vec<S>, Vec<oneshot::Sender<Result<S::Outcome, StoreError>>>)> {
        let mut queues = self.batcher.queues();
        let pending = std::mem::take(queues.get_mut(&self.key)?);
        if pending.is_empty() {
            queues.remove(&self.key);
            self.finished = true;
            return None;
        }
        Some(pending.into_iter().map(|pending| (pending.step, pending.answer)).unzip())
    }
}

impl<S: Step> Drop for Batch<S> {
    /// Where the task was dropped with its runtime, pending steps fail.
    fn drop(&mut self) {
        if !self.finished {
            self.batcher.queues().remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::sessions::memory::MemoryStore;
    use crate::sessions::store::Space;

    #[derive(Clone)]
    struct Increment;

    impl Step for Increment {
        type Record = [u64; 1];
        type Outcome = u64;

        fn apply(&self, [count]: &mut [u64; 1]) -> u64 {
            *count += 1;
            *count
        }

        fn expires_at(&self, _: &[u64; 1]) -> UnixMillis {
            UnixMillis::MAX
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn every_step_is_applied_also_one_that_arrives_while_a_batch_ends() {
        const TASKS: u64 = 8;
        const STEPS: u64 = 2000;
        let batcher = RateLimitBatcher::new(Arc::new(MemoryStore::new()));
        let key = Key { space: Space::Attempts, id: "alice".to_owned() };
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| {
                let (batcher, key) = (Arc::clone(&batcher), key.clone());
                tokio::spawn(async move {
                    for _ in 0..STEPS {
                        batcher.apply(key.clone(), Increment).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(batcher.apply(key, Increment).await.unwrap(), TASKS * STEPS + 1);
        // The last batch ends after it has answered.
        while !batcher.queues().is_empty() {
            tokio::task::yield_now().await;
        }
    }
}
