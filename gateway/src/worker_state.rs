//! A worker's state under one configuration: the configuration itself, token cache and upstream pools.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::identity::assertion_cache::AssertionCache;
use crate::identity::token_cache::TokenCache;
use crate::runtime_config::RuntimeConfig;
use crate::telemetry::{RouteCounters, WorkerMetrics};
use crate::upstream::{Upstream, UpstreamPool};

/// A request takes it once and uses it to its end, so that it sees one configuration only.
pub(crate) struct WorkerState {
    pub(crate) config: Arc<RuntimeConfig>,
    /// Tokens verified with the keys of this configuration, with their identity headers.
    pub(crate) token_cache: RefCell<TokenCache>,
    /// Assertions for upstreams of requests without a token.
    pub(crate) assertions: AssertionCache,
    /// Identities behind personal access tokens, and behind passwords by their keyed hash.
    pub(crate) credential_cache: RefCell<TokenCache>,
    pub(crate) counters: RouteCounters,
    /// In the order of the configuration's upstreams.
    upstreams: Vec<Rc<UpstreamPool>>,
}

impl WorkerState {
    /// `last` are the previous pools: those of unchanged upstreams are kept, with their connections.
    pub(crate) fn new(
        config: Arc<RuntimeConfig>,
        metrics: &WorkerMetrics,
        last: &[Rc<UpstreamPool>],
    ) -> WorkerState {
        let settings = &config.settings;
        let workers = settings.server.workers;
        let pool = |upstream: &Arc<Upstream>| {
            let kept = last.iter().find(|pool| Arc::ptr_eq(pool.upstream(), upstream));
            kept.map_or_else(|| Rc::new(UpstreamPool::new(Arc::clone(upstream), workers)), Rc::clone)
        };
        let routes = settings.routes.iter().map(|route| route.path.as_str());
        let upstreams = settings.upstreams.keys().map(String::as_str);
        WorkerState {
            counters: metrics.of_routes(routes, upstreams),
            token_cache: RefCell::new(TokenCache::new(settings.limits.token_cache)),
            assertions: AssertionCache::default(),
            credential_cache: RefCell::new(TokenCache::new(settings.limits.token_cache)),
            upstreams: config.upstreams.iter().map(pool).collect(),
            config,
        }
    }

    /// The upstream with this index in the configuration.
    pub(crate) fn upstream(&self, place: usize) -> &Rc<UpstreamPool> {
        &self.upstreams[place]
    }

    pub(crate) fn upstreams(&self) -> &[Rc<UpstreamPool>] {
        &self.upstreams
    }

    /// Drops what only new requests would need. Requests in flight go on.
    pub(crate) fn drain_removed(&self) {
        self.token_cache.replace(TokenCache::new(0));
        self.credential_cache.replace(TokenCache::new(0));
    }
}

impl std::fmt::Debug for WorkerState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerState").finish_non_exhaustive()
    }
}
