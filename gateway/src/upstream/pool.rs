//! Connection pool of one worker for one upstream: load balancing, connection reuse, and limits.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{Mutex, Notify};
use tokio::time::{Instant, timeout};

use crate::config;
use crate::upstream::cluster::{Upstream, millis};
use crate::upstream::connection::UpstreamConnection;
use crate::upstream::http2::{SharedConnection, SharedConnections, StreamLease};
use crate::upstream::load_balancer::{Candidate, Rng, choose};
use crate::upstream::outlier_ejection::{Endpoint, HealthStatus};
use crate::upstream::retry_budget::RetryBudget;

/// For so long after a 204 or 304 a connection carries no other request: a server that sends a body all the same does so within
/// that time, which is longer than the delayed acknowledgement (40 ms) that Nagle's algorithm waits for. The next client would get it
/// as its response. After the answer to HEAD it never carries more.
const QUIET_TIME: Duration = Duration::from_millis(50);

/// One worker's connections to one upstream. Workers share only the health of the servers, so nothing is
/// locked.
#[derive(Debug)]
pub(crate) struct UpstreamPool {
    upstream: Arc<Upstream>,
    /// The version of the endpoints that `servers` reflects.
    version: Cell<u64>,
    servers: RefCell<Vec<Rc<Server>>>,
    /// This worker's share of `max_connections`.
    max_connections: Option<usize>,
    max_pending: usize,
    pending: Cell<usize>,
    /// Notified when a permit was released.
    permit_released: Notify,
    rng: Rng,
    pub(crate) budget: RetryBudget,
}

/// A server as one worker sees it.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) endpoint: Arc<Endpoint>,
    idle: RefCell<Vec<Idle>>,
    /// Its requests in flight.
    requests: Cell<usize>,
    /// It has sent bytes behind a response without a body: its connections are not used again after such.
    pub(crate) sends_stray_bytes: Cell<bool>,
    /// Its connections of HTTP/2, each shared by many requests.
    http2: RefCell<SharedConnections>,
    /// Held by the request that opens one of those.
    pub(crate) opening: Mutex<()>,
}

#[derive(Debug)]
struct Idle {
    connection: Box<UpstreamConnection>,
    since: Instant,
}

impl Idle {
    /// Whether it is too old to be used.
    fn is_over(&self, age: Duration, settings: &config::Upstream) -> bool {
        is_over(age, self.connection.keep_alive, settings.idle_timeout)
    }
}

/// Whether a connection of that age may be used no more: the server or the gateway closes it.
fn is_over(age: Duration, keep_alive: Option<Duration>, idle_timeout: Duration) -> bool {
    age >= keep_alive.map_or(idle_timeout, |time| time.min(idle_timeout))
}

/// One worker's share of a limit, at least one of a limit that is not 0.
fn share(limit: usize, workers: usize) -> usize {
    limit.div_ceil(workers.max(1))
}

/// How a request may reuse a pooled connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReusePolicy {
    /// Any: the request can be sent again on another.
    Any,
    /// The request cannot be sent twice: a pooled connection must be known to be alive.
    KnownIdle,
    /// None: a pooled connection has just failed, or the request needs a connection of its own.
    New,
}

/// A leased connection and its permit.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) connection: Box<UpstreamConnection>,
    pub(crate) place: PoolPermit,
    pub(crate) reused: bool,
}

/// A request's permit at a server; released on drop.
#[derive(Debug)]
pub(crate) struct PoolPermit {
    pub(crate) server: Rc<Server>,
    pool: Rc<UpstreamPool>,
}

impl Drop for PoolPermit {
    fn drop(&mut self) {
        self.server.requests.set(self.server.requests.get() - 1);
        if self.pool.pending.get() > 0 {
            self.pool.permit_released.notify_one();
        }
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum LeaseError {
    /// The server could not be reached.
    Unreachable(std::io::Error),
    /// The connection limit is reached, and so is that of pending requests.
    Full,
}

impl UpstreamPool {
    /// One worker's pool of an upstream, which `workers` share.
    pub(crate) fn new(upstream: Arc<Upstream>, workers: usize) -> UpstreamPool {
        let settings = upstream.settings();
        UpstreamPool {
            max_connections: settings.max_connections.map(|most| share(most, workers)),
            max_pending: share(settings.max_pending, workers),
            version: Cell::new(0),
            servers: RefCell::default(),
            pending: Cell::new(0),
            permit_released: Notify::new(),
            // Workers should not all begin with the same server.
            rng: Rng::new(std::ptr::from_ref(&upstream) as u64 ^ millis() << 20),
            budget: RetryBudget::new(),
            upstream,
        }
    }

    pub(crate) fn name(&self) -> &str {
        self.upstream.name()
    }

    /// The upstream as all workers share it.
    pub(crate) fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    pub(crate) fn settings(&self) -> &config::Upstream {
        self.upstream.settings()
    }

    /// This worker's share of the connections that a server may have.
    pub(super) fn max_connections(&self) -> Option<usize> {
        self.max_connections
    }

    /// The addresses, for messages.
    pub(crate) fn addresses(&self) -> String {
        self.upstream.addresses()
    }

    /// Leases a connection to a server. `now` need not be exact.
    pub(crate) async fn lease_from(
        self: &Rc<Self>,
        server: Rc<Server>,
        policy: ReusePolicy,
        now: Instant,
    ) -> Result<Lease, LeaseError> {
        if let Some(connection) = server.take_idle(policy, now, self.settings()) {
            return Ok(Lease { connection, place: self.place(server), reused: true });
        }
        if let Some(max) = self.max_connections
            && server.connections() >= max
            && let Some(connection) = Box::pin(self.wait(&server, max, policy)).await?
        {
            return Ok(Lease { connection, place: self.place(server), reused: true });
        }
        let place = self.place(Rc::clone(&server));
        match UpstreamConnection::open(&self.upstream, &server.endpoint).await {
            Ok(connection) => Ok(Lease { connection: Box::new(connection), place, reused: false }),
            Err(error) => Err(LeaseError::Unreachable(error)),
        }
    }

    pub(crate) fn place(self: &Rc<Self>, server: Rc<Server>) -> PoolPermit {
        server.requests.set(server.requests.get() + 1);
        PoolPermit { server, pool: Rc::clone(self) }
    }

    /// Waits until a new connection may be opened, or a pooled one can be used.
    async fn wait(
        &self,
        server: &Server,
        max: usize,
        policy: ReusePolicy,
    ) -> Result<Option<Box<UpstreamConnection>>, LeaseError> {
        // An idle connection that cannot be used for this request makes room.
        if server.idle.borrow_mut().pop().is_some() {
            return Ok(None);
        }
        if self.pending.get() >= self.max_pending {
            return Err(LeaseError::Full);
        }
        self.pending.set(self.pending.get() + 1);
        let waiting = async {
            while server.connections() >= max {
                self.permit_released.notified().await;
                if let Some(connection) = server.take_idle(policy, Instant::now(), self.settings()) {
                    return Some(connection);
                }
                server.idle.borrow_mut().pop();
            }
            None
        };
        let waited = timeout(self.settings().pending_timeout, waiting).await;
        self.pending.set(self.pending.get() - 1);
        waited.map_err(|_| LeaseError::Full)
    }

    /// The server for a request; `None` if no server is healthy, or all that are were `tried`.
    pub(crate) fn choose(&self, tried: &[Rc<Server>]) -> Option<Rc<Server>> {
        self.refresh_servers();
        let servers = self.servers.borrow();
        if let [only] = &servers[..] {
            let serves = tried.is_empty() && only.endpoint.health(0) != HealthStatus::Unhealthy;
            return serves.then(|| Rc::clone(only));
        }
        let (now, slow_start) = (millis(), self.settings().slow_start);
        let may_get_it = |server: &&Rc<Server>| {
            server.endpoint.health(now) == HealthStatus::Healthy
                && !tried.iter().any(|t| Rc::ptr_eq(t, server))
        };
        let serving: Vec<&Rc<Server>> = servers.iter().filter(may_get_it).collect();
        let candidates: Vec<Candidate> = serving
            .iter()
            .map(|server| Candidate {
                requests: server.requests.get(),
                weight: server.endpoint.weight(now, slow_start),
            })
            .collect();
        choose(&candidates, &self.rng).map(|place| Rc::clone(serving[place]))
    }

    /// Applies changed endpoints; those that stay keep their connections.
    fn refresh_servers(&self) {
        let version = self.upstream.version();
        if self.version.replace(version) == version {
            return;
        }
        let mut servers = self.servers.borrow_mut();
        let known = std::mem::take(&mut *servers);
        *servers = self
            .upstream
            .endpoints()
            .into_iter()
            .map(|endpoint| match known.iter().find(|server| Arc::ptr_eq(&server.endpoint, &endpoint)) {
                Some(server) => Rc::clone(server),
                None => Rc::new(Server::new(endpoint)),
            })
            .collect();
    }

    /// Whether there is no other server.
    pub(crate) fn is_only(&self, server: &Rc<Server>) -> bool {
        matches!(&self.servers.borrow()[..], [only] if Rc::ptr_eq(only, server))
    }

    /// Records that a server could not be reached, or closed the connection before it responded.
    pub(crate) fn failed(&self, server: &Server) {
        let is_only = self.servers.borrow().len() == 1;
        if server.endpoint.failed(millis(), self.settings(), is_only) {
            self.upstream.counts.ejections.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns a connection whose request and response are both complete.
    pub(crate) fn release(&self, connection: Box<UpstreamConnection>, server: &Server, now: Instant) {
        let mut idle = server.idle.borrow_mut();
        if idle.len() < self.settings().pool_size {
            idle.push(Idle { connection, since: now });
        }
    }

    /// Closes connections that exceeded the idle timeout or were closed by the upstream.
    pub(crate) fn prune(&self) {
        self.refresh_servers();
        for server in self.servers.borrow().iter() {
            let old = |i: &Idle| i.is_over(i.since.elapsed(), self.settings());
            server.idle.borrow_mut().retain(|i| !old(i) && i.connection.is_idle());
            server.http2.borrow_mut().prune(self.settings().idle_timeout);
        }
    }
}

impl Server {
    fn new(endpoint: Arc<Endpoint>) -> Server {
        Server {
            endpoint,
            idle: RefCell::default(),
            requests: Cell::new(0),
            sends_stray_bytes: Cell::new(false),
            http2: RefCell::default(),
            opening: Mutex::new(()),
        }
    }

    /// A stream on one of its HTTP/2 connections, if one accepts it.
    pub(super) fn lease_stream(&self, max_connections: Option<usize>) -> Option<StreamLease> {
        self.http2.borrow_mut().lease(max_connections)
    }

    /// Shares an HTTP/2 connection with later requests.
    pub(super) fn cache_http2(&self, connection: SharedConnection) {
        self.http2.borrow_mut().push(connection);
    }

    /// Opens no more streams on the connection that counts its streams here.
    pub(super) fn evict_http2(&self, streams: &Rc<Cell<usize>>) {
        self.http2.borrow_mut().evict(streams);
    }

    /// Last in, first out: the most recent connection is the most likely to be alive, with warm buffers.
    fn take_idle(
        &self,
        policy: ReusePolicy,
        now: Instant,
        settings: &config::Upstream,
    ) -> Option<Box<UpstreamConnection>> {
        if policy == ReusePolicy::New {
            return None;
        }
        let mut idle = self.idle.borrow_mut();
        for place in (0..idle.len()).rev() {
            let age = now.saturating_duration_since(idle[place].since);
            if idle[place].connection.may_get_stray_bytes(age, QUIET_TIME) {
                continue;
            }
            let kept = idle.remove(place);
            if kept.is_over(age, settings) {
                continue;
            }
            let connection = kept.connection;
            let alive = if policy == ReusePolicy::KnownIdle || connection.is_bodiless {
                connection.is_known_idle()
            } else {
                connection.is_idle()
            };
            if alive {
                return Some(connection);
            }
            if connection.is_bodiless && connection.has_stray_bytes() {
                self.sends_stray_bytes.set(true);
            }
        }
        None
    }

    /// Its connections, active and idle.
    fn connections(&self) -> usize {
        self.requests.get() + self.idle.borrow().len()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
