//! One worker's connections to an upstream: which server gets the next request, and over which connection.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{Mutex, Notify};
use tokio::time::{Instant, timeout};

use crate::config;
use crate::upstream::cluster::{Upstream, millis};
use crate::upstream::connection::{LastBody, UpstreamConnection};
use crate::upstream::http2::{CachedConnection, Sender};
use crate::upstream::load_balancer::{Candidate, Rng, choose};
use crate::upstream::outlier_ejection::{Endpoint, HealthStatus};
use crate::upstream::retry_budget::RetryBudget;

/// For so long after a response without a body a connection carries only what can be sent again: a server that sends one all
/// the same (with a 204, say) does so within that time. After the answer to HEAD, which is asked for seldom, it never carries more.
const QUIET_TIME: Duration = Duration::from_millis(20);

/// One worker's connections to one upstream. Workers weight nothing but what is known of the servers, so nothing is locked.
#[derive(Debug)]
pub(crate) struct UpstreamPool {
    upstream: Arc<Upstream>,
    /// The edition of the endpoints that `servers` follow.
    version: Cell<u64>,
    servers: RefCell<Vec<Rc<Server>>>,
    /// This worker's weight of `max_connections`.
    max_connections: Option<usize>,
    max_pending: usize,
    pending: Cell<usize>,
    /// Somebody has given a place back.
    freed: Notify,
    chance: Rng,
    pub(crate) budget: RetryBudget,
}

/// A server as one worker sees it.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) endpoint: Arc<Endpoint>,
    idle: RefCell<Vec<Idle>>,
    /// Requests that are with it.
    requests: Cell<usize>,
    /// It has sent bytes behind a response without a body: its connections are not used again after such.
    pub(crate) sends_stray_bytes: Cell<bool>,
    /// The connection that all requests weight, where it speaks HTTP/2.
    http2: RefCell<Option<CachedConnection>>,
    /// Held by the request that opens that connection.
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
        age >= self.connection.keep_alive.map_or(settings.idle_timeout, |time| time.min(settings.idle_timeout))
    }
}

/// How much a request depends on its connection being alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReusePolicy {
    /// It can be sent again on another.
    Any,
    /// It cannot be sent twice: a pooled one must be alive for sure.
    KnownIdle,
    /// A pooled one has just failed it, or it wants one to itself.
    New,
}

/// A connection that was taken out, and where it belongs.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) connection: Box<UpstreamConnection>,
    pub(crate) place: PoolPermit,
    pub(crate) reused: bool,
}

/// A request's place at a server; given up when this is dropped.
#[derive(Debug)]
pub(crate) struct PoolPermit {
    pub(crate) server: Rc<Server>,
    pool: Rc<UpstreamPool>,
}

impl Drop for PoolPermit {
    fn drop(&mut self) {
        self.server.requests.set(self.server.requests.get() - 1);
        if self.pool.pending.get() > 0 {
            self.pool.freed.notify_one();
        }
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum LeaseError {
    /// The server could not be reached.
    Unreachable(std::io::Error),
    /// All places are taken, and so are those to wait for one.
    Full,
}

impl UpstreamPool {
    /// One worker's weight of an upstream, among so many workers.
    pub(crate) fn new(upstream: Arc<Upstream>, workers: usize) -> UpstreamPool {
        let settings = upstream.settings();
        let weight = |all: usize| all.div_ceil(workers.max(1));
        UpstreamPool {
            max_connections: settings.max_connections.map(weight),
            max_pending: weight(settings.max_pending),
            version: Cell::new(0),
            servers: RefCell::default(),
            pending: Cell::new(0),
            freed: Notify::new(),
            // Workers should not all begin with the same server.
            chance: Rng::new(std::ptr::from_ref(&upstream) as u64 ^ millis() << 20),
            budget: RetryBudget::new(),
            upstream,
        }
    }

    pub(crate) fn name(&self) -> &str {
        self.upstream.name()
    }

    /// What all workers weight of it.
    pub(crate) fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    pub(crate) fn settings(&self) -> &config::Upstream {
        self.upstream.settings()
    }

    /// Where it listens, for people.
    pub(crate) fn addresses(&self) -> String {
        self.upstream.addresses()
    }

    /// A connection to a server. `now` need not be exact.
    pub(crate) async fn lease_of(
        self: &Rc<Self>,
        server: Rc<Server>,
        need: ReusePolicy,
        now: Instant,
    ) -> Result<Lease, LeaseError> {
        if let Some(connection) = server.take_idle(need, now, self.settings()) {
            return Ok(Lease { connection, place: self.place(server), reused: true });
        }
        if let Some(most) = self.max_connections
            && server.connections() >= most
            && let Some(connection) = Box::pin(self.wait(&server, most, need)).await?
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

    /// Waits until one more connection may be made, or one is there that can be used.
    async fn wait(
        &self,
        server: &Server,
        most: usize,
        need: ReusePolicy,
    ) -> Result<Option<Box<UpstreamConnection>>, LeaseError> {
        // One that is idle and cannot be used for this makes room.
        if need != ReusePolicy::Any && server.idle.borrow_mut().pop().is_some() {
            return Ok(None);
        }
        if self.pending.get() >= self.max_pending {
            return Err(LeaseError::Full);
        }
        self.pending.set(self.pending.get() + 1);
        let waiting = async {
            while server.connections() >= most {
                self.freed.notified().await;
                if let Some(connection) = server.take_idle(need, Instant::now(), self.settings()) {
                    return Some(connection);
                }
            }
            None
        };
        let waited = timeout(self.settings().pending_timeout, waiting).await;
        self.pending.set(self.pending.get() - 1);
        waited.map_err(|_| LeaseError::Full)
    }

    /// Which server gets a request; none if none is well, or all that are were `tried`.
    pub(crate) fn choose(&self, tried: &[Rc<Server>]) -> Option<Rc<Server>> {
        self.follow();
        let servers = self.servers.borrow();
        if let [only] = &servers[..] {
            let serves = tried.is_empty() && only.endpoint.health(0) != HealthStatus::Unhealthy;
            return serves.then(|| Rc::clone(only));
        }
        let (now, slow_start) = (millis(), self.settings().slow_start);
        let may_get_it = |server: &&Rc<Server>| {
            server.endpoint.health(now) == HealthStatus::WorkerState
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
        choose(&candidates, &self.chance).map(|place| Rc::clone(serving[place]))
    }

    /// Takes over endpoints that have changed; those that stay keep their connections.
    fn follow(&self) {
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

    /// A server could not be reached, or lost the connection before it answered.
    pub(crate) fn failed(&self, server: &Server) {
        let is_only = self.servers.borrow().len() == 1;
        if server.endpoint.failed(millis(), self.settings(), is_only) {
            self.upstream.counts.ejections.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes back a connection whose request and response are both complete.
    pub(crate) fn release(&self, connection: Box<UpstreamConnection>, server: &Server, now: Instant) {
        let mut idle = server.idle.borrow_mut();
        if idle.len() < self.settings().pool_size {
            idle.push(Idle { connection, since: now });
        }
    }

    /// Closes what has been idle for too long or was closed by the upstream.
    pub(crate) fn prune(&self) {
        self.follow();
        for server in self.servers.borrow().iter() {
            let old = |i: &Idle| i.is_over(i.since.elapsed(), self.settings());
            server.idle.borrow_mut().retain(|i| !old(i) && i.connection.is_idle());
            let idle = |kept: &CachedConnection| kept.since.elapsed() >= self.settings().idle_timeout;
            if server.requests.get() == 0 && server.http2.borrow().as_ref().is_some_and(idle) {
                server.forget_http2();
            }
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

    /// A handle of its connection of HTTP/2, if there is one.
    pub(crate) fn http2(&self) -> Option<Sender> {
        let mut kept = self.http2.borrow_mut();
        let kept = kept.as_mut()?;
        kept.since = Instant::now();
        Some(kept.sender.clone())
    }

    /// Shares a connection of HTTP/2 with the requests to come.
    pub(crate) fn keep_http2(&self, sender: Sender) {
        self.http2.replace(Some(CachedConnection { sender, since: Instant::now() }));
    }

    /// Opens no more streams on that connection.
    pub(crate) fn forget_http2(&self) {
        self.http2.replace(None);
    }

    /// The connection used last is the likeliest to be alive, and its buffers the likeliest to be warm.
    fn take_idle(
        &self,
        need: ReusePolicy,
        now: Instant,
        settings: &config::Upstream,
    ) -> Option<Box<UpstreamConnection>> {
        if need == ReusePolicy::New {
            return None;
        }
        let mut idle = self.idle.borrow_mut();
        for place in (0..idle.len()).rev() {
            let age = now.saturating_duration_since(idle[place].since);
            if need == ReusePolicy::KnownIdle && idle[place].connection.may_get_stray_bytes(age, QUIET_TIME) {
                continue;
            }
            let kept = idle.remove(place);
            if kept.is_over(age, settings) {
                continue;
            }
            let connection = kept.connection;
            let alive = if need == ReusePolicy::KnownIdle {
                connection.is_known_idle()
            } else {
                connection.is_idle()
            };
            if alive {
                return Some(connection);
            }
            if connection.last_body != LastBody::Sent && connection.has_stray_bytes() {
                self.sends_stray_bytes.set(true);
            }
        }
        None
    }

    /// Connections to it, at work and idle.
    fn connections(&self) -> usize {
        self.requests.get() + self.idle.borrow().len()
    }
}
