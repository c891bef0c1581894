//! Lifecycle of the gateway: start, reload, takeover by a new process (hot restart), and graceful shutdown.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use crate::clock::{UnixMillis, millis, now_millis, now_seconds, since_1970};
use crate::config::{FileSnapshot, Loaded, Settings, Source, Store as StoreSettings};
use crate::file_owner::with_suffix;
use crate::runtime::{Configuration, Gateway};
use crate::runtime_config::{RuntimeConfig, RuntimeConfigError};
use crate::server::admin::AdminState;
use crate::server::background_tasks;
use crate::server::connection_limit::SourceLimiter;
use crate::server::control::ControlSocket;
use crate::server::key_maintenance::key_lists;
use crate::server::reload::Reloader;
use crate::server::reuseport_bpf;
use crate::server::socket_activation::ActivatedSockets;
use crate::server::sockets::{ListenError, Sockets};
use crate::server::takeover::{OldProcess, TAKEOVER_POLL_INTERVAL};
use crate::server::worker;
use crate::server::worker::WorkerParams;
use crate::sessions::{
    EmbeddedStore, LockoutPolicy, MemoryStore, OpenError, Policy, RateLimitPolicy, RedisOpenError,
    RedisStore, RotationPolicy, SessionLimit, Sessions, Store, StoreError, WhenFull,
};
use crate::telemetry::{AccessLog, Logs, Metrics, SpanExporter};
use crate::tokens::Access;
use crate::tokens::dpop::ReplayCache;
use crate::users::{HashingPool, SourceUnavailable};

/// How long the old process may take, beyond its drain timeout, to release the store.
const TAKEOVER_STORE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the gateway cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Keys, users or static files.
    #[error(transparent)]
    RuntimeConfig(#[from] RuntimeConfigError),
    /// The state file.
    #[error(transparent)]
    OpenStore(#[from] OpenError),
    /// The use of Redis.
    #[error(transparent)]
    OpenRedis(#[from] RedisOpenError),
    /// The contents of the state file, or a Redis that is required and unavailable.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// A database or directory of users.
    #[error(transparent)]
    Users(#[from] SourceUnavailable),
    /// A listen address.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The old process cannot be signalled.
    #[error("cannot signal the old process to drain: {0}; run this as its account or as root")]
    TakeOver(io::Error),
    /// The export of spans.
    #[error("tracing.otlp.endpoint: {0}")]
    Tracing(String),
    /// A thread or a runtime.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// A worker thread ended unexpectedly.
    #[error("a worker thread stopped: {0}")]
    Worker(String),
}

impl ServeError {
    /// The key of the configuration that the error is about, where it is about one.
    pub(crate) fn key(&self) -> Option<&str> {
        match self {
            ServeError::RuntimeConfig(error) => error.key(),
            ServeError::OpenStore(_) => Some("store.path"),
            ServeError::OpenRedis(_) => Some("store.redis.url"),
            ServeError::Listen(ListenError::Address { key, .. }) => Some(key),
            ServeError::Tracing(_) => Some("tracing.otlp.endpoint"),
            _ => None,
        }
    }
}

/// A running gateway.
#[derive(Debug)]
pub struct RunningGateway {
    /// The public address; port 0 in the settings is resolved to the actual one.
    pub public_address: SocketAddr,
    /// The address of the admin listener.
    pub admin_address: SocketAddr,
    reloader: Arc<Reloader>,
    draining: watch::Sender<bool>,
    taken_over: watch::Sender<bool>,
    /// One of the public sockets, to be closed before the worker's own handle of it.
    public: Arc<TcpListener>,
    workers: Vec<JoinHandle<io::Result<()>>>,
    ended: watch::Sender<bool>,
    background: JoinHandle<io::Result<()>>,
}

/// A gateway built from settings, without listeners.
pub(crate) fn prepare(settings: Settings) -> Result<Gateway, ServeError> {
    let snapshot = RuntimeConfig::load(settings, now_seconds(), Access::Examine)?;
    let store = open_store(&snapshot.settings.store)?;
    assemble(snapshot, store, None, None, ReplayCache::default())
}

fn assemble(
    snapshot: RuntimeConfig,
    store: Arc<dyn Store>,
    access_log: Option<AccessLog>,
    spans: Option<SpanExporter>,
    proofs: ReplayCache,
) -> Result<Gateway, ServeError> {
    let settings = &snapshot.settings;
    let now = since_1970();
    let runtime = Builder::new_current_thread().enable_time().build().map_err(ServeError::Thread)?;
    let sessions =
        runtime.block_on(Sessions::start(store, policy(settings), UnixMillis::new(millis(now))))?;
    Ok(Gateway {
        refresh_flights: Default::default(),
        census: Default::default(),
        proofs,
        passwords: Default::default(),
        hashing: HashingPool::new(settings.limits.hash_threads, settings.limits.hash_queue),
        metrics: Arc::new(Metrics::new(settings.server.workers)),
        access_log,
        leaving: AtomicBool::new(false),
        spans,
        sessions,
        configuration: Configuration::new(snapshot),
    })
}

/// Starts everything. On return, requests are served; on failure, nothing is left running. `loaded` was read
/// from `source`, and `seen` is the state of its files before that.
///
/// Addresses are bound before the store is opened, and connections are accepted when everything is ready;
/// those that arrive in between wait in the accept queue. So an old process can release a store that belongs
/// to one process without a connection being refused.
pub fn start(
    source: Source,
    loaded: Loaded,
    seen: FileSnapshot,
    inherited: ActivatedSockets,
    old_process: Option<OldProcess>,
    logs: &Logs,
) -> Result<RunningGateway, ServeError> {
    // Before the keys are read: a later change is detected.
    let key_lists = key_lists(&loaded.settings);
    let snapshot = RuntimeConfig::load(loaded.settings.clone(), now_seconds(), Access::Use)?;
    let sockets = Sockets::take(&snapshot.settings, inherited, old_process.is_some())?;
    let (public_address, admin_address) = (sockets.public_address, sockets.admin_address);
    let one_at_a_time = matches!(snapshot.settings.store, StoreSettings::Embedded { .. });
    let store = match &old_process {
        Some(older) if one_at_a_time => {
            older.signal_shutdown().map_err(ServeError::TakeOver)?;
            open_store_after_it(&snapshot.settings)?
        }
        _ => open_store(&snapshot.settings.store)?,
    };
    let collector = snapshot.settings.tracing.otlp.clone();
    let spans = collector.map(SpanExporter::start).transpose().map_err(ServeError::Tracing)?;
    let proofs = used_proofs(&snapshot.settings.store);
    let gateway = Arc::new(assemble(snapshot, store, logs.access.clone(), spans, proofs)?);
    let reloader = Arc::new(Reloader::new(Arc::clone(&gateway), source, loaded, seen, key_lists));
    let snapshot = gateway.configuration.current();
    let settings = &snapshot.settings;
    let control = ControlSocket::bind(&settings.store);
    let redirect = sockets.redirect.map(|redirect| (redirect, public_address));
    let (draining, drained) = watch::channel(false);
    let (taken_over, leave) = watch::channel(false);
    let state = AdminState {
        gateway: Arc::clone(&gateway),
        logs: logs.writer.clone(),
        audit: logs.audit.clone(),
        draining: drained.clone(),
        started_at: since_1970().as_secs(),
    };
    let (ended, end) = watch::channel(false);
    let watching = Arc::clone(&reloader);
    let background = std::thread::Builder::new()
        .name("background".into())
        .spawn(move || background_tasks::run(sockets.admin, redirect, control, watching, state, (leave, end)))
        .map_err(ServeError::Thread)?;

    let public = Arc::new(sockets.public[0].try_clone().map_err(ServeError::Thread)?);
    let takes_over = old_process.is_some();
    let open = Arc::new(AtomicUsize::new(0));
    let sources = Arc::new(SourceLimiter::default());
    let mut workers = Vec::new();
    for (index, listener) in sockets.public.into_iter().enumerate() {
        let params = WorkerParams {
            gateway: Arc::clone(&gateway),
            index,
            listener,
            outlives: sockets.outlive,
            draining: drained.clone(),
            open: Arc::clone(&open),
            sources: Arc::clone(&sources),
        };
        let thread =
            std::thread::Builder::new().name(format!("worker-{index}")).spawn(|| worker::run(params));
        workers.push(thread.map_err(ServeError::Thread)?);
    }
    if let Some(older) = old_process.filter(|_| !one_at_a_time) {
        older.signal_shutdown().map_err(ServeError::TakeOver)?;
    }
    if takes_over {
        reuseport_bpf::rebalance_after_takeover(&public);
    }
    Ok(RunningGateway {
        public_address,
        admin_address,
        reloader,
        draining,
        taken_over,
        public,
        workers,
        ended,
        background,
    })
}

impl RunningGateway {
    /// Reloads the configuration and all files it names, changed or not, and logs the outcome.
    pub fn reload(&self) {
        self.reloader.reload();
    }

    /// Graceful shutdown after a takeover: the new process listens on the same addresses, and alone serves
    /// the admin listener.
    pub fn stop_after_takeover(self) -> Result<(), ServeError> {
        self.taken_over.send_replace(true);
        reuseport_bpf::transfer_connections(&self.public, self.workers.len());
        self.drain()
    }

    /// Graceful shutdown: reports that it is leaving and serves on for the shutdown delay, then stops accepting
    /// and lets requests in flight finish within the drain timeout.
    pub fn stop(self) -> Result<(), ServeError> {
        let gateway = &self.reloader.gateway;
        gateway.leaving.store(true, Ordering::Relaxed);
        let delay = gateway.configuration.current().settings.server.shutdown_delay;
        sleep(delay);
        self.drain()
    }

    fn drain(self) -> Result<(), ServeError> {
        drop(self.public);
        self.draining.send_replace(true);
        let mut result = Ok(());
        let mut join = |thread: JoinHandle<io::Result<()>>| match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => result = Err(ServeError::Worker(error.to_string())),
            Err(_) => result = Err(ServeError::Worker("it panicked".into())),
        };
        self.workers.into_iter().for_each(&mut join);
        // Last: the admin listener reports the drain while it lasts.
        self.ended.send_replace(true);
        join(self.background);
        if let Some(spans) = &self.reloader.gateway.spans {
            spans.stop();
        }
        result
    }
}

pub(crate) fn open_store(settings: &StoreSettings) -> Result<Arc<dyn Store>, ServeError> {
    Ok(match settings {
        StoreSettings::Memory => Arc::new(MemoryStore::new()),
        StoreSettings::Embedded { path } => Arc::new(EmbeddedStore::open(path)?),
        StoreSettings::Redis(settings) => Arc::new(RedisStore::open(settings)?),
    })
}

/// The memory of used proofs: beside the state file, where there is one. The store is open, so no other process writes there.
fn used_proofs(store: &StoreSettings) -> ReplayCache {
    let StoreSettings::Embedded { path } = store else { return ReplayCache::default() };
    ReplayCache::kept_in(&with_suffix(path, ".proofs"), now_seconds())
}

/// Opens Redis as a start would, and waits for it as long as a start does where it is required.
pub(crate) fn open_redis(runtime: &Runtime, settings: &Settings) -> Result<(), String> {
    let store = open_store(&settings.store).map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let sessions = Sessions::start(store, policy(settings), now_millis()).await;
        match sessions.map_err(|error| error.to_string())?.store_last_error() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    })
}

/// Opens a store that the old process still has to release.
fn open_store_after_it(settings: &Settings) -> Result<Arc<dyn Store>, ServeError> {
    // The old process may drain for its timeout, and then has to close its store.
    let end = Instant::now() + settings.server.drain_timeout + TAKEOVER_STORE_TIMEOUT;
    loop {
        match open_store(&settings.store) {
            Err(ServeError::OpenStore(OpenError::InUse(_))) if Instant::now() < end => {
                sleep(TAKEOVER_POLL_INTERVAL)
            }
            opened => return opened,
        }
    }
}

pub(crate) fn policy(settings: &Settings) -> Policy {
    let (tokens, lockout, throttle) = (&settings.tokens, &settings.lockout, &settings.throttle);
    Policy {
        rotation: RotationPolicy {
            mode: tokens.rotation,
            grace: tokens.reuse_grace,
            idle_ttl: tokens.idle_ttl,
        },
        session_ttl: tokens.refresh_ttl,
        access_ttl: tokens.access_ttl + tokens.leeway,
        lockout: LockoutPolicy {
            max_failures: lockout.max_failures,
            window: lockout.window,
            duration: lockout.duration,
            escalation: lockout.escalation,
            max_duration: lockout.max_duration,
        },
        throttle: (throttle.max_failures > 0)
            .then_some(RateLimitPolicy { max_failures: throttle.max_failures, window: throttle.window }),
        session_limit: (settings.sessions.max_per_user > 0).then_some(SessionLimit {
            max: settings.sessions.max_per_user as usize,
            when_full: match settings.sessions.refuse_when_full {
                true => WhenFull::Refuse,
                false => WhenFull::EndOldest,
            },
        }),
    }
}
