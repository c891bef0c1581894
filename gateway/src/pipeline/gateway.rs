//! What requests share: the process-wide state and each worker's own.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::snapshot::Snapshot;
use super::token_cache::TokenCache;
use crate::sessions::Sessions;
use crate::telemetry::{AccessLog, Metrics, RequestIds, WorkerMetrics};
use crate::upstreams::{Upstream, UpstreamPool};
use crate::users::HashingPool;

/// The state of the whole process.
pub(crate) struct Gateway {
    /// One configuration, whole: a request sees it from start to end.
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) sessions: Sessions,
    pub(crate) hashing: HashingPool,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) access_log: Option<AccessLog>,
}

/// The state of one worker thread. Nothing in it is shared, so nothing in it is locked.
pub(crate) struct Worker {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) metrics: WorkerMetrics,
    pub(crate) token_cache: RefCell<TokenCache>,
    pub(crate) access_log: Option<AccessLog>,
    pub(crate) request_ids: RefCell<RequestIds>,
    /// In the order of the configuration's upstreams.
    pub(crate) upstreams: Vec<Rc<UpstreamPool>>,
}

impl Worker {
    /// The `index`-th worker of the gateway.
    pub(crate) fn new(gateway: Arc<Gateway>, index: usize) -> Worker {
        let settings = &gateway.snapshot.settings;
        let workers = settings.server.workers;
        let pool = |upstream: &Arc<Upstream>| Rc::new(UpstreamPool::new(Arc::clone(upstream), workers));
        Worker {
            metrics: gateway.metrics.worker(index),
            token_cache: RefCell::new(TokenCache::new(settings.limits.token_cache)),
            access_log: gateway.access_log.as_ref().map(AccessLog::lane),
            request_ids: RefCell::new(RequestIds::new()),
            upstreams: gateway.snapshot.upstreams.iter().map(pool).collect(),
            gateway,
        }
    }

    /// What is done now and then, besides requests: closing idle connections and telling what is only known here.
    pub(crate) fn keep_house(&self) {
        self.upstreams.iter().for_each(|pool| pool.prune());
        self.metrics.token_cache_entries(self.token_cache.borrow().len());
    }
}
