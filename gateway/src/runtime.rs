//! The runtime state of the process, and of each worker.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use crate::clock::since_1970;
use crate::http1::RequestHead;
use tokio::sync::watch;

use crate::identity::password_memory::PasswordMemory;
use crate::rejection::Rejection;
use crate::runtime_config::RuntimeConfig;
use crate::sessions::{Census, IssuedTokens, SessionId, Sessions, TokenId};
use crate::stream_state::StreamState;
use crate::telemetry::{AbortReason, AccessLog, Metrics, RequestIds, SpanExporter, WorkerMetrics};
use crate::tokens::dpop::ReplayCache;
use crate::trace::Trace;
use crate::users::HashingPool;
use crate::worker_state::WorkerState;

/// The state of the whole process.
pub(crate) struct Gateway {
    pub(crate) configuration: Configuration,
    pub(crate) sessions: Sessions,
    pub(crate) hashing: HashingPool,
    pub(crate) refresh_flights: RefreshFlights,
    /// The last count of sessions and locks.
    pub(crate) census: Mutex<Option<Census>>,
    /// The proofs of possession that were used.
    pub(crate) proofs: ReplayCache,
    pub(crate) passwords: PasswordMemory,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) access_log: Option<AccessLog>,
    /// Whether the process is to stop, so that load balancers should choose another one.
    pub(crate) leaving: AtomicBool,
    /// Sends spans to a collector, if there is one.
    pub(crate) spans: Option<SpanExporter>,
}

pub(crate) type RefreshResult = Result<Arc<IssuedTokens>, Rejection>;

/// A refresh token that is being redeemed.
pub(crate) type FlightKey = (SessionId, TokenId);

/// The refreshes of sessions in cookies that are under way in this process.
pub(crate) type RefreshFlights = Mutex<HashMap<FlightKey, watch::Receiver<Option<RefreshResult>>>>;

/// The active configuration. It is replaced atomically.
pub(crate) struct Configuration {
    current: RwLock<Arc<RuntimeConfig>>,
    /// Incremented by each replacement, so that workers detect one without a lock.
    version: AtomicU64,
    reload_count: AtomicU64,
    reload_failures: AtomicU64,
    /// When what is active was loaded, in seconds since 1970.
    loaded_at: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl Configuration {
    pub(crate) fn new(snapshot: RuntimeConfig) -> Configuration {
        Configuration {
            current: RwLock::new(Arc::new(snapshot)),
            version: AtomicU64::new(0),
            reload_count: AtomicU64::new(0),
            reload_failures: AtomicU64::new(0),
            loaded_at: AtomicU64::new(since_1970().as_secs()),
            last_error: Mutex::default(),
        }
    }

    /// The active configuration, a consistent snapshot.
    pub(crate) fn current(&self) -> Arc<RuntimeConfig> {
        // Replaced in one step, so a panic elsewhere leaves it consistent.
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Activates `snapshot` for requests that start from now on.
    pub(crate) fn replace(&self, snapshot: Arc<RuntimeConfig>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = snapshot;
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Records the outcome of a reload: its errors, if any.
    pub(crate) fn record_reload(&self, last_error: Option<String>) {
        let counter = if last_error.is_none() { &self.reload_count } else { &self.reload_failures };
        counter.fetch_add(1, Ordering::Relaxed);
        if last_error.is_none() {
            self.loaded_at.store(since_1970().as_secs(), Ordering::Relaxed);
        }
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = last_error;
    }

    /// The errors of the last reload, if it failed.
    pub(crate) fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When what is active was loaded, in seconds since 1970.
    pub(crate) fn loaded_at(&self) -> u64 {
        self.loaded_at.load(Ordering::Relaxed)
    }

    /// The number of successful reloads.
    pub(crate) fn reload_count(&self) -> u64 {
        self.reload_count.load(Ordering::Relaxed)
    }

    /// The number of failed reloads.
    pub(crate) fn reload_failures(&self) -> u64 {
        self.reload_failures.load(Ordering::Relaxed)
    }

    fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
}

/// The state of one worker thread. Nothing in it is shared, so nothing is locked.
pub(crate) struct Worker {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) metrics: WorkerMetrics,
    pub(crate) access_log: Option<AccessLog>,
    pub(crate) request_ids: RefCell<RequestIds>,
    /// With the version of the configuration that it was made for.
    state: RefCell<(u64, Rc<WorkerState>)>,
    /// Request heads for reuse.
    #[expect(
        clippy::vec_box,
        reason = "taken and given back with each request: a pointer moves, not the head"
    )]
    pooled_heads: RefCell<Vec<Box<RequestHead>>>,
    /// Space for a response head while it is written.
    pub(crate) write_buffer: RefCell<Vec<u8>>,
    draining: Cell<bool>,
    /// HTTP/1.1 connections that hold hyper's buffers.
    unparked: Cell<usize>,
    /// A fixed time for [`Self::now_millis`], for benchmarks that count instructions.
    fixed_now: Option<u64>,
    /// Where the layers report what they decide, in a dry run.
    pub(crate) trace: Option<Trace>,
}

/// Maximum number of pooled heads.
const MAX_POOLED_HEADS: usize = 64;

impl Worker {
    /// The worker with this index.
    pub(crate) fn new(gateway: Arc<Gateway>, index: usize) -> Worker {
        let metrics = gateway.metrics.worker(index);
        // Read before the configuration is fetched: a replacement in between is then fetched once more.
        let version = gateway.configuration.version();
        let state = WorkerState::new(gateway.configuration.current(), &metrics, &[]);
        Worker {
            metrics,
            access_log: gateway.access_log.as_ref().map(AccessLog::with_own_buffer),
            request_ids: RefCell::new(RequestIds::new()),
            state: RefCell::new((version, Rc::new(state))),
            pooled_heads: RefCell::default(),
            write_buffer: RefCell::default(),
            draining: Cell::new(false),
            unparked: Cell::new(0),
            fixed_now: None,
            trace: None,
            gateway,
        }
    }

    /// The same worker with its clock fixed at a time in milliseconds since 1970.
    pub(crate) fn at(self, now_millis: u64) -> Worker {
        Worker { fixed_now: Some(now_millis), ..self }
    }

    /// The same worker for a dry run.
    pub(crate) fn traced(self) -> Worker {
        Worker { trace: Some(Trace::default()), ..self }
    }

    /// Milliseconds since 1970.
    pub(crate) fn now_millis(&self) -> u64 {
        self.fixed_now.unwrap_or_else(crate::clock::now_millis)
    }

    /// The state for a request that starts now, to be used until its end.
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

    /// Takes a pooled head for the next request, or allocates one.
    pub(crate) fn take_head(&self) -> Box<RequestHead> {
        self.pooled_heads.borrow_mut().pop().unwrap_or_default()
    }

    /// Returns the head of a finished request to the pool.
    pub(crate) fn release_head(&self, mut head: Box<RequestHead>) {
        let mut spare = self.pooled_heads.borrow_mut();
        if spare.len() < MAX_POOLED_HEADS {
            head.clear();
            spare.push(head);
        }
    }

    /// Checks whether an exchange may go on, as [`StreamState::watch`].
    pub(crate) fn watch(&self, stream: &StreamState, write_timeout: Duration) -> Option<AbortReason> {
        stream.watch(self.gateway.sessions.revocations(), self.now_millis() / 1000, write_timeout)
    }

    /// Counts one more HTTP/1.1 connection that is not parked, for as long as the guard lives.
    pub(crate) fn unpark(&self) -> UnparkedGuard<'_> {
        self.unparked.set(self.unparked.get() + 1);
        UnparkedGuard(self)
    }

    /// The number of HTTP/1.1 connections that are not parked.
    pub(crate) fn unparked(&self) -> usize {
        self.unparked.get()
    }

    /// Whether the gateway is shutting down: connections end with their next response.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    pub(crate) fn set_draining(&self) {
        self.draining.set(true);
    }

    /// Periodic maintenance besides requests: applies a new configuration where no request does, closes idle
    /// upstream connections and updates gauges.
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
