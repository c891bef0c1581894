//! One worker: a thread with its own runtime, listener, connections and caches.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, watch};
use tokio::time::{interval, timeout};

use crate::runtime::{Gateway, Worker};
use crate::server::buffers::BufferPool;
use crate::server::connection;
use crate::server::connection_limit::Sources;
use crate::server::listener;
use crate::server::listener::accept;

const HOUSEKEEPING: Duration = Duration::from_secs(2);

/// What a worker thread is given.
pub(crate) struct Post {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) index: usize,
    pub(crate) listener: std::net::TcpListener,
    /// The socket goes on to listen without this process: whoever waits there is for the next one.
    pub(crate) outlives: bool,
    pub(crate) draining: watch::Receiver<bool>,
    /// Connections open in the whole process.
    pub(crate) open: Arc<AtomicUsize>,
    /// The same by source.
    pub(crate) sources: Arc<Sources>,
}

/// Serves until told to drain and until the last connection has ended or the drain's time is over.
pub(crate) fn run(post: Post) -> std::io::Result<()> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build_local(LocalOptions::default())?;
    runtime.block_on(serve(post))
}

async fn serve(post: Post) -> std::io::Result<()> {
    let listener = TcpListener::from_std(post.listener)?;
    let worker = Rc::new(Worker::new(Arc::clone(&post.gateway), post.index));
    let connections = Rc::new(Connections::default());
    let buffers = Rc::new(BufferPool::default());
    let mut stop = post.draining.clone();
    let mut housekeeping = interval(HOUSEKEEPING);
    let begin = |socket: TcpStream, peer: SocketAddr| {
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "cannot switch Nagle's algorithm off");
        }
        if post.open.fetch_add(1, Ordering::Relaxed) >= worker.serving().snapshot.settings.limits.connections
        {
            post.open.fetch_sub(1, Ordering::Relaxed);
            worker.metrics.connection_refused();
            return;
        }
        let place = Place::take(&connections, &post.open, &worker);
        let draining = post.draining.clone();
        let (worker, buffers) = (Rc::clone(&worker), Rc::clone(&buffers));
        let sources = Arc::clone(&post.sources);
        tokio::task::spawn_local(async move {
            connection::serve(socket, peer, &worker, &buffers, &sources, draining).await;
            drop(place);
        });
    };
    loop {
        tokio::select! {
            (socket, peer) = accept(&listener) => begin(socket, peer),
            _ = housekeeping.tick() => worker.keep_house(),
            _ = stop.wait_for(|draining| *draining) => break,
        }
    }
    let waiting = if post.outlives { Vec::new() } else { listener::close(listener)? };
    for (socket, peer) in waiting {
        begin(socket, peer);
    }
    let drain_timeout = worker.serving().snapshot.settings.server.drain_timeout;
    if timeout(drain_timeout, connections.ended()).await.is_err() {
        tracing::warn!(connections = connections.open.get(), "the drain's time is over: connections are cut");
    }
    Ok(())
}

/// This worker's open connections.
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

/// A connection's place in the counts, given up also when its task panics.
struct Place {
    connections: Rc<Connections>,
    open: Arc<AtomicUsize>,
    worker: Rc<Worker>,
}

impl Place {
    fn take(connections: &Rc<Connections>, open: &Arc<AtomicUsize>, worker: &Rc<Worker>) -> Place {
        connections.open.set(connections.open.get() + 1);
        worker.metrics.connection_opened();
        Place { connections: Rc::clone(connections), open: Arc::clone(open), worker: Rc::clone(worker) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open.set(self.connections.open.get() - 1);
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.worker.metrics.connection_closed();
        self.connections.ended.notify_one();
    }
}
