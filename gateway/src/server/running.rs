//! From settings to a running gateway, and from a signal to its end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::runtime::Builder;
use tokio::sync::watch;

use super::admin::AdminState;
use super::background;
use super::control::ControlSocket;
use super::inherited::{InheritError, Inherited, shared_out};
use super::listener::bind;
use super::reload::Reloader;
use super::sources::Sources;
use super::worker::{self, Post};
use crate::config::{FilesSeen, Loaded, Settings, Source, Store as StoreSettings};
use crate::pipeline::{Configuration, Gateway, Snapshot, SnapshotError};
use crate::sessions::{
    EmbeddedStore, LockoutPolicy, MemoryStore, OpenError, Policy, RedisOpenError, RedisStore, RotationPolicy,
    Sessions, Store, StoreError, ThrottlePolicy,
};
use crate::telemetry::{AccessLog, Logs, Metrics};
use crate::users::HashingPool;

/// Why the gateway cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Keys, users or static files.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The state file.
    #[error(transparent)]
    OpenStore(#[from] OpenError),
    /// How Redis is to be used.
    #[error(transparent)]
    OpenRedis(#[from] RedisOpenError),
    /// What is in the state file, or a Redis that must be there and is not.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// An address.
    #[error("cannot listen on {address} ({key}): {source}; {remedy}", remedy = listen_remedy(source, *address))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The key that says it.
        key: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A socket of the service manager's.
    #[error(transparent)]
    Inherited(#[from] InheritError),
    /// A thread or a runtime.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// A worker ended by itself.
    #[error("a worker thread stopped: {0}")]
    Worker(String),
}

fn listen_remedy(error: &io::Error, address: SocketAddr) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let port = address.port();
            format!(
                "another process has it: find it with `ss -ltnp 'sport = :{port}'` and stop it, or choose another address"
            )
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need the capability CAP_NET_BIND_SERVICE: choose a higher one, or grant it"
                .to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address: choose one that `ip addr` shows".to_owned()
        }
        _ => "choose another address".to_owned(),
    }
}

/// A gateway that is serving.
#[derive(Debug)]
pub struct Running {
    /// Where it listens; port 0 in the settings has become a real one.
    pub public_address: SocketAddr,
    /// Where health and metrics are.
    pub admin_address: SocketAddr,
    reloader: Arc<Reloader>,
    draining: watch::Sender<bool>,
    workers: Vec<JoinHandle<io::Result<()>>>,
    ended: watch::Sender<bool>,
    background: JoinHandle<io::Result<()>>,
}

/// Loads and opens what the settings name. What can be refused is refused here, so that nothing listens before all is
/// well.
pub(super) fn prepare(settings: Settings, access_log: Option<AccessLog>) -> Result<Gateway, ServeError> {
    let now = since_1970();
    let snapshot = Snapshot::load(settings, now.as_secs())?;
    let settings = &snapshot.settings;
    let store = open_store(&settings.store)?;
    let runtime = Builder::new_current_thread().enable_time().build().map_err(ServeError::Thread)?;
    let sessions = runtime.block_on(Sessions::start(store, policy(settings), now.as_millis() as u64))?;
    Ok(Gateway {
        hashing: HashingPool::new(settings.limits.hash_threads, settings.limits.hash_queue),
        metrics: Arc::new(Metrics::new(settings.server.workers)),
        access_log,
        sessions,
        configuration: Configuration::new(snapshot),
    })
}

/// Starts everything. When this returns, requests are answered; when it fails, nothing was left running. `loaded` was
/// read from `source` after its files looked like `seen`.
pub fn start(
    source: Source,
    loaded: Loaded,
    seen: FilesSeen,
    mut inherited: Inherited,
    logs: &Logs,
) -> Result<Running, ServeError> {
    let gateway = Arc::new(prepare(loaded.settings.clone(), logs.access.clone())?);
    let reloader = Arc::new(Reloader::new(Arc::clone(&gateway), source, loaded, seen));
    let snapshot = gateway.configuration.current();
    let settings = &snapshot.settings;
    let control = ControlSocket::bind(&settings.store);
    let (admin, redirect) = (inherited.admin(), inherited.redirect());
    let (mut admin, admin_address) = listen(settings.admin.listen, "admin.listen", 1, admin)?;
    let given = redirect.first().and_then(|socket| socket.local_addr().ok());
    let redirect = match settings.server.redirect_listen.or(given) {
        Some(address) => Some(listen(address, "server.redirect_listen", 1, redirect)?.0.remove(0)),
        None => None,
    };
    let public = inherited.public();
    // What the next process will accept is none of this one's business.
    let outlives = !public.is_empty();
    let (public, public_address) =
        listen(settings.server.listen, "server.listen", settings.server.workers, public)?;
    let redirect = redirect.map(|redirect| (redirect, public_address));
    let (draining, drained) = watch::channel(false);
    let state =
        AdminState { gateway: Arc::clone(&gateway), logs: logs.writer.clone(), draining: drained.clone() };
    let (ended, end) = watch::channel(false);
    let admin = admin.remove(0);
    let watch = settings.reload.watch.then(|| Arc::clone(&reloader));
    let background = std::thread::Builder::new()
        .name("background".into())
        .spawn(move || background::run(admin, redirect, control, watch, state, end))
        .map_err(ServeError::Thread)?;

    let open = Arc::new(AtomicUsize::new(0));
    let sources = Arc::new(Sources::default());
    let mut workers = Vec::new();
    for (index, listener) in public.into_iter().enumerate() {
        let post = Post {
            gateway: Arc::clone(&gateway),
            index,
            listener,
            outlives,
            draining: drained.clone(),
            open: Arc::clone(&open),
            sources: Arc::clone(&sources),
        };
        let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(|| worker::run(post));
        workers.push(thread.map_err(ServeError::Thread)?);
    }
    Ok(Running { public_address, admin_address, reloader, draining, workers, ended, background })
}

impl Running {
    /// Reads the configuration and all that it names now, whether it seems to have changed or not, and logs what came of
    /// it.
    pub fn reload(&self) {
        self.reloader.reload();
    }

    /// Stops accepting, lets requests in flight finish within the drain's time, and ends.
    pub fn stop(self) -> Result<(), ServeError> {
        self.draining.send_replace(true);
        let mut result = Ok(());
        let mut join = |thread: JoinHandle<io::Result<()>>| match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => result = Err(ServeError::Worker(error.to_string())),
            Err(_) => result = Err(ServeError::Worker("it panicked".into())),
        };
        self.workers.into_iter().for_each(&mut join);
        // Last: the admin listener tells of the drain while it lasts.
        self.ended.send_replace(true);
        join(self.background);
        result
    }
}

/// So many sockets on one address, or those that were inherited; port 0 is chosen once, by the first.
fn listen(
    address: SocketAddr,
    key: &'static str,
    sockets: usize,
    inherited: Vec<std::net::TcpListener>,
) -> Result<(Vec<std::net::TcpListener>, SocketAddr), ServeError> {
    let failed = |source| ServeError::Listen { address, key, source };
    if let [first, ..] = &inherited[..] {
        let address = first.local_addr().map_err(InheritError)?;
        tracing::info!(key, %address, "listening on a socket of the service manager's");
        return Ok((shared_out(&inherited, sockets).map_err(InheritError)?, address));
    }
    // Sharing would let a second gateway bind the same address unnoticed: the first socket is taken alone for a look.
    let look = bind(address, false).map_err(failed)?;
    let address = look.local_addr().map_err(failed)?;
    drop(look);
    let bound: io::Result<Vec<_>> = (0..sockets).map(|_| bind(address, sockets > 1)).collect();
    Ok((bound.map_err(failed)?, address))
}

pub(super) fn open_store(settings: &StoreSettings) -> Result<Arc<dyn Store>, ServeError> {
    Ok(match settings {
        StoreSettings::Memory => Arc::new(MemoryStore::new()),
        StoreSettings::Embedded { path } => Arc::new(EmbeddedStore::open(path)?),
        StoreSettings::Redis(settings) => Arc::new(RedisStore::open(settings)?),
    })
}

pub(super) fn policy(settings: &Settings) -> Policy {
    let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let (tokens, lockout, throttle) = (&settings.tokens, &settings.lockout, &settings.throttle);
    Policy {
        rotation: RotationPolicy {
            mode: tokens.rotation,
            grace: millis(tokens.reuse_grace),
            idle_ttl: tokens.idle_ttl.map(millis),
        },
        session_ttl: millis(tokens.refresh_ttl),
        access_ttl: millis(tokens.access_ttl + tokens.leeway),
        lockout: LockoutPolicy {
            max_failures: lockout.max_failures,
            window: millis(lockout.window),
            duration: millis(lockout.duration),
            escalation: lockout.escalation,
            max_duration: millis(lockout.max_duration),
        },
        throttle: (throttle.max_failures > 0)
            .then(|| ThrottlePolicy { max_failures: throttle.max_failures, window: millis(throttle.window) }),
    }
}

pub(super) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
