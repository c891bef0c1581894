//! A worker: a thread with its own runtime, listener, connections and caches.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, watch};
use tokio::time::{interval, timeout};

use crate::request::Incoming;
use crate::runtime::{Gateway, Worker};
use crate::server::connection;
use crate::server::connection_limit::SourceLimiter;
use crate::server::listener;
use crate::server::listener::accept;
use crate::services::endpoints::EndpointService;
use crate::services::proxy::ProxyService;
use crate::services::target::TargetService;
use crate::stack::{RequestStack, request_stack};

const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(2);

/// Parameters of a worker thread.
pub(crate) struct WorkerParams {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) index: usize,
    pub(crate) listener: std::net::TcpListener,
    /// The socket outlives this process: connections in its accept queue belong to the next one.
    pub(crate) outlives: bool,
    pub(crate) draining: watch::Receiver<bool>,
    /// Open connections of the whole process.
    pub(crate) open: Arc<AtomicUsize>,
    /// Open connections by source network.
    pub(crate) sources: Arc<SourceLimiter>,
}

/// Serves until graceful shutdown has ended: the last connection has closed, or the drain timeout has passed.
pub(crate) fn run(params: WorkerParams) -> std::io::Result<()> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build_local(LocalOptions::default())?;
    runtime.block_on(serve(params))
}

async fn serve(params: WorkerParams) -> std::io::Result<()> {
    let listener = TcpListener::from_std(params.listener)?;
    listener::set_nodelay(&listener);
    let worker = Rc::new(Worker::new(Arc::clone(&params.gateway), params.index));
    let connections = Rc::new(Connections::default());
    let stack = SharedStack::of(Rc::clone(&worker));
    let mut stop = params.draining.clone();
    let mut maintenance = interval(MAINTENANCE_INTERVAL);
    let begin = |socket: TcpStream, peer: SocketAddr| {
        if params.open.fetch_add(1, Ordering::Relaxed) >= worker.state().config.settings.limits.connections {
            params.open.fetch_sub(1, Ordering::Relaxed);
            worker.metrics.connection_refused();
            return;
        }
        let place = ConnectionGuard::take(&connections, &params.open, &worker);
        let draining = params.draining.clone();
        let (worker, stack) = (Rc::clone(&worker), stack.clone());
        let sources = Arc::clone(&params.sources);
        tokio::task::spawn_local(async move {
            connection::serve(socket, peer, &worker, stack, &sources, draining).await;
            drop(place);
        });
    };
    loop {
        tokio::select! {
            (socket, peer) = accept(&listener) => begin(socket, peer),
            _ = maintenance.tick() => worker.run_maintenance(),
            _ = stop.wait_for(|draining| *draining) => break,
        }
    }
    worker.set_draining();
    let waiting = if params.outlives { Vec::new() } else { listener::close(listener)? };
    for (socket, peer) in waiting {
        begin(socket, peer);
    }
    let drain_timeout = worker.state().config.settings.server.drain_timeout;
    if timeout(drain_timeout, connections.ended()).await.is_err() {
        tracing::warn!(connections = connections.open.get(), "the drain's time is over: connections are cut");
    }
    Ok(())
}

/// The worker's open connections.
#[derive(Default)]
struct Connections {
    open: Cell<usize>,
    ended: Notify,
}

impl Connections {
    async fn ended(&self) {
        while self.open.get() > 0 {
            self.ended.notified().await;
        }
    }
}

/// Counts a connection; released on drop, also when its task panics.
struct ConnectionGuard {
    connections: Rc<Connections>,
    open: Arc<AtomicUsize>,
    worker: Rc<Worker>,
}

impl ConnectionGuard {
    fn take(connections: &Rc<Connections>, open: &Arc<AtomicUsize>, worker: &Rc<Worker>) -> ConnectionGuard {
        connections.open.set(connections.open.get() + 1);
        worker.metrics.connection_opened();
        ConnectionGuard {
            connections: Rc::clone(connections),
            open: Arc::clone(open),
            worker: Rc::clone(worker),
        }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.connections.open.set(self.connections.open.get() - 1);
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.worker.metrics.connection_closed();
        self.connections.ended.notify_one();
    }
}

/// A worker's stack. Its services are always ready and keep no state per request, so all connections share
/// one.
pub(super) struct SharedStack<S> {
    worker: Rc<Worker>,
    stack: Rc<RefCell<S>>,
}

impl<S> Clone for SharedStack<S> {
    fn clone(&self) -> SharedStack<S> {
        SharedStack { worker: Rc::clone(&self.worker), stack: Rc::clone(&self.stack) }
    }
}

impl SharedStack<()> {
    /// The stack that serves requests.
    pub(super) fn of(worker: Rc<Worker>) -> SharedStack<impl RequestStack> {
        let target = TargetService::new(ProxyService);
        let stack = request_stack(Rc::clone(&worker), EndpointService, target);
        SharedStack { worker, stack: Rc::new(RefCell::new(stack)) }
    }
}

impl<S: RequestStack> SharedStack<S> {
    pub(super) fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    pub(super) fn call(&self, request: Incoming) -> S::Future {
        self.stack.borrow_mut().call(request)
    }
}
