//! What requests share: the process-wide state and each worker's own.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::http1::RequestHead;
use crate::runtime_config::RuntimeConfig;
use crate::sessions::Sessions;
use crate::telemetry::{AccessLog, Metrics, RequestIds, WorkerMetrics};
use crate::users::HashingPool;
use crate::worker_state::WorkerState;

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
    current: RwLock<Arc<RuntimeConfig>>,
    /// Counts the replacements, so that workers need no lock to find that there was none.
    version: AtomicU64,
    reload_count: AtomicU64,
    reload_failures: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl Configuration {
    pub(crate) fn new(snapshot: RuntimeConfig) -> Configuration {
        Configuration {
            current: RwLock::new(Arc::new(snapshot)),
            version: AtomicU64::new(0),
            reload_count: AtomicU64::new(0),
            reload_failures: AtomicU64::new(0),
            last_error: Mutex::default(),
        }
    }

    /// What is in force now. Whoever holds it sees no half of a change.
    pub(crate) fn current(&self) -> Arc<RuntimeConfig> {
        // Swapped in one step, so it is whole even if a thread panicked beside it.
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Requests that begin from now on are served with `snapshot`.
    pub(crate) fn replace(&self, snapshot: Arc<RuntimeConfig>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = snapshot;
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Remembers what came of reading the files again: what is wrong with them, if anything.
    pub(crate) fn record_reload(&self, last_error: Option<String>) {
        let counter = if last_error.is_none() { &self.reload_count } else { &self.reload_failures };
        counter.fetch_add(1, Ordering::Relaxed);
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = last_error;
    }

    /// What is wrong with the files, where they could not be used the last time they were read.
    pub(crate) fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often they were read again and could be used.
    pub(crate) fn reload_count(&self) -> u64 {
        self.reload_count.load(Ordering::Relaxed)
    }

    /// How often they could not.
    pub(crate) fn reload_failures(&self) -> u64 {
        self.reload_failures.load(Ordering::Relaxed)
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
    state: RefCell<(u64, Rc<WorkerState>)>,
    /// Heads of requests that are over; their space is used again.
    #[expect(
        clippy::vec_box,
        reason = "taken and given back with each request: a pointer moves, not the head"
    )]
    pooled_heads: RefCell<Vec<Box<RequestHead>>>,
    draining: Cell<bool>,
    /// HTTP/1.1 connections that hold hyper's buffers.
    unparked: Cell<usize>,
    /// What [`Self::now_millis`] says where the clock stands still, for programs that count instructions.
    fixed_now: Option<u64>,
}

/// So many heads are kept for later.
const MAX_POOLED_HEADS: usize = 64;

impl Worker {
    /// The `index`-th worker of the gateway.
    pub(crate) fn new(gateway: Arc<Gateway>, index: usize) -> Worker {
        let metrics = gateway.metrics.worker(index);
        // Asked before the configuration is fetched: a replacement in between is then fetched once more.
        let version = gateway.configuration.version();
        let state = WorkerState::new(gateway.configuration.current(), &metrics, &[]);
        Worker {
            metrics,
            access_log: gateway.access_log.as_ref().map(AccessLog::lane),
            request_ids: RefCell::new(RequestIds::new()),
            state: RefCell::new((version, Rc::new(state))),
            pooled_heads: RefCell::default(),
            draining: Cell::new(false),
            unparked: Cell::new(0),
            fixed_now: None,
            gateway,
        }
    }

    /// The same worker at a fixed time, in milliseconds since 1970.
    pub(crate) fn at(self, now_millis: u64) -> Worker {
        Worker { fixed_now: Some(now_millis), ..self }
    }

    /// The time in milliseconds since 1970.
    pub(crate) fn now_millis(&self) -> u64 {
        self.fixed_now.unwrap_or_else(crate::clock::now_millis)
    }

    /// What a request that begins now is served with, from its start to its end.
    pub(crate) fn state(&self) -> Rc<WorkerState> {
        let version = self.gateway.configuration.version();
        if self.state.borrow().0 != version {
            self.apply_config(version);
        }
        Rc::clone(&self.state.borrow().1)
    }

    #[cold]
    fn apply_config(&self, version: u64) {
        let mut state = self.state.borrow_mut();
        let next = WorkerState::new(self.gateway.configuration.current(), &self.metrics, state.1.upstreams());
        let last = std::mem::replace(&mut *state, (version, Rc::new(next)));
        last.1.drain_removed();
    }

    /// Space for the head of the next request.
    pub(crate) fn take_head(&self) -> Box<RequestHead> {
        self.pooled_heads.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes the head of a request back that is over.
    pub(crate) fn release_head(&self, mut head: Box<RequestHead>) {
        let mut spare = self.pooled_heads.borrow_mut();
        if spare.len() < MAX_POOLED_HEADS {
            head.clear();
            spare.push(head);
        }
    }

    /// Counts one more HTTP/1.1 connection that is not parked, for as long as the guard lasts.
    pub(crate) fn unpark(&self) -> UnparkedGuard<'_> {
        self.unparked.set(self.unparked.get() + 1);
        UnparkedGuard(self)
    }

    /// How many HTTP/1.1 connections are not parked.
    pub(crate) fn unparked(&self) -> usize {
        self.unparked.get()
    }

    /// Whether the gateway is about to stop, so that connections end with their next response.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    pub(crate) fn set_draining(&self) {
        self.draining.set(true);
    }

    /// What is done now and then, besides requests: following the configuration where no request does, closing idle
    /// connections and telling what is only known here.
    pub(crate) fn run_maintenance(&self) {
        let state = self.state();
        state.upstreams().iter().for_each(|pool| pool.prune());
        self.metrics.token_cache_entries(state.token_cache.borrow().len());
    }
}

/// One HTTP/1.1 connection that is not parked.
#[derive(Debug)]
pub(crate) struct UnparkedGuard<'w>(&'w Worker);

impl Drop for UnparkedGuard<'_> {
    fn drop(&mut self) {
        self.0.unparked.set(self.0.unparked.get() - 1);
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}
