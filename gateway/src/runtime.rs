//! What requests share: the process-wide state and each worker's own.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::runtime_config::Snapshot;
use crate::sessions::Sessions;
use crate::telemetry::{AccessLog, Metrics, RequestIds, WorkerMetrics};
use crate::users::HashingPool;
use crate::worker_state::Serving;

/// The state of the whole process.
pub(crate) struct Gateway {
    pub(crate) configuration: Configuration,
    pub(crate) sessions: Sessions,
    pub(crate) hashing: HashingPool,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) access_log: Option<AccessLog>,
}

/// The configuration in force. It is replaced whole.
pub(crate) struct Configuration {
    current: RwLock<Arc<Snapshot>>,
    /// Counts the replacements, so that workers need no lock to find that there was none.
    version: AtomicU64,
    reads: AtomicU64,
    failures: AtomicU64,
    trouble: Mutex<Option<String>>,
}

impl Configuration {
    pub(crate) fn new(snapshot: Snapshot) -> Configuration {
        Configuration {
            current: RwLock::new(Arc::new(snapshot)),
            version: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            trouble: Mutex::default(),
        }
    }

    /// What is in force now. Whoever holds it sees no half of a change.
    pub(crate) fn current(&self) -> Arc<Snapshot> {
        // Swapped in one step, so it is whole even if a thread panicked beside it.
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Requests that begin from now on are served with `snapshot`.
    pub(crate) fn replace(&self, snapshot: Arc<Snapshot>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = snapshot;
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Remembers what came of reading the files again: what is wrong with them, if anything.
    pub(crate) fn was_read(&self, trouble: Option<String>) {
        let counter = if trouble.is_none() { &self.reads } else { &self.failures };
        counter.fetch_add(1, Ordering::Relaxed);
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// What is wrong with the files, where they could not be used the last time they were read.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often they were read again and could be used.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// How often they could not.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
}

/// The state of one worker thread. Nothing in it is shared, so nothing in it is locked.
pub(crate) struct Worker {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) metrics: WorkerMetrics,
    pub(crate) access_log: Option<AccessLog>,
    pub(crate) request_ids: RefCell<RequestIds>,
    /// With the version of the configuration that it was made for.
    serving: RefCell<(u64, Rc<Serving>)>,
}

impl Worker {
    /// The `index`-th worker of the gateway.
    pub(crate) fn new(gateway: Arc<Gateway>, index: usize) -> Worker {
        let metrics = gateway.metrics.worker(index);
        // Asked before the configuration is fetched: a replacement in between is then fetched once more.
        let version = gateway.configuration.version();
        let serving = Serving::new(gateway.configuration.current(), &metrics, &[]);
        Worker {
            metrics,
            access_log: gateway.access_log.as_ref().map(AccessLog::lane),
            request_ids: RefCell::new(RequestIds::new()),
            serving: RefCell::new((version, Rc::new(serving))),
            gateway,
        }
    }

    /// What a request that begins now is served with, from its start to its end.
    pub(crate) fn serving(&self) -> Rc<Serving> {
        let version = self.gateway.configuration.version();
        if self.serving.borrow().0 != version {
            self.follow(version);
        }
        Rc::clone(&self.serving.borrow().1)
    }

    #[cold]
    fn follow(&self, version: u64) {
        let mut serving = self.serving.borrow_mut();
        let next = Serving::new(self.gateway.configuration.current(), &self.metrics, serving.1.upstreams());
        let last = std::mem::replace(&mut *serving, (version, Rc::new(next)));
        last.1.retire();
    }

    /// What is done now and then, besides requests: following the configuration where no request does, closing idle
    /// connections and telling what is only known here.
    pub(crate) fn keep_house(&self) {
        let serving = self.serving();
        serving.upstreams().iter().for_each(|pool| pool.prune());
        self.metrics.token_cache_entries(serving.token_cache.borrow().len());
    }
}
