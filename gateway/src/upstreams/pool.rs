//! Idle connections to one upstream, kept by one worker.

use std::cell::{Cell, RefCell};
use std::io;

use tokio::time::Instant;

use super::connection::UpstreamConnection;
use crate::config::{Upstream, UpstreamUrl};

/// One worker's connections to one upstream. Workers share nothing, so nothing is locked.
#[derive(Debug)]
pub(crate) struct UpstreamPool {
    name: String,
    settings: Upstream,
    idle: Vec<RefCell<Vec<Idle>>>,
    turn: Cell<usize>,
}

#[derive(Debug)]
struct Idle {
    connection: Box<UpstreamConnection>,
    since: Instant,
}

/// How much a request depends on its connection being alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// It can be sent again on another.
    Any,
    /// It cannot be sent twice: a pooled one must be alive for sure.
    Alive,
    /// A pooled one has just failed it.
    New,
}

/// A connection that was taken out, and where it belongs.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) connection: Box<UpstreamConnection>,
    pub(super) url: usize,
    pub(super) reused: bool,
}

impl UpstreamPool {
    pub(crate) fn new(name: String, settings: Upstream) -> UpstreamPool {
        let idle = settings.urls.iter().map(|_| RefCell::default()).collect();
        UpstreamPool { name, settings, idle, turn: Cell::new(0) }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn settings(&self) -> &Upstream {
        &self.settings
    }

    /// Where it listens, for people.
    pub(crate) fn addresses(&self) -> String {
        self.settings.urls.iter().map(UpstreamUrl::to_string).collect::<Vec<_>>().join(", ")
    }

    /// A connection to the URL whose turn it is, or to the next one that can be reached. `now` need not be exact.
    pub(super) async fn lease(&self, need: Need, now: Instant) -> io::Result<Lease> {
        let urls = self.settings.urls.len();
        let first = self.turn.get();
        self.turn.set((first + 1) % urls);
        let mut failure = None;
        for url in (first..first + urls).map(|i| i % urls) {
            if let Some(connection) = self.take_idle(url, need, now) {
                return Ok(Lease { connection, url, reused: true });
            }
            match UpstreamConnection::open(&self.settings.urls[url], self.settings.connect_timeout).await {
                Ok(connection) => return Ok(Lease { connection: Box::new(connection), url, reused: false }),
                Err(e) => failure = Some(e),
            }
        }
        Err(failure.unwrap_or_else(|| io::ErrorKind::NotConnected.into()))
    }

    /// The connection used last is the likeliest to be alive, and its buffers the likeliest to be warm.
    fn take_idle(&self, url: usize, need: Need, now: Instant) -> Option<Box<UpstreamConnection>> {
        if need == Need::New {
            return None;
        }
        let mut idle = self.idle[url].borrow_mut();
        while let Some(Idle { connection, since }) = idle.pop() {
            if now.saturating_duration_since(since) >= self.settings.idle_timeout {
                idle.clear();
                return None;
            }
            let alive =
                if need == Need::Alive { connection.is_surely_quiet() } else { connection.is_quiet() };
            if alive {
                return Some(connection);
            }
        }
        None
    }

    /// Takes back a connection whose request and response are both complete.
    pub(super) fn give_back(&self, connection: Box<UpstreamConnection>, url: usize, now: Instant) {
        let mut idle = self.idle[url].borrow_mut();
        if idle.len() < self.settings.pool_size {
            idle.push(Idle { connection, since: now });
        }
    }

    /// Closes what has been idle for too long or was closed by the upstream.
    pub(crate) fn prune(&self) {
        for idle in &self.idle {
            let old = |i: &Idle| i.since.elapsed() >= self.settings.idle_timeout;
            idle.borrow_mut().retain(|i| !old(i) && i.connection.is_quiet());
        }
    }
}
