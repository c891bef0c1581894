//! An upstream shared by all workers: its servers, their health, and its TLS settings.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::config::{self, FileSnapshot, UpstreamProtocol, UpstreamUrl};
use crate::net::{is_localhost, servers_of};
use crate::telemetry::UpstreamState;
use crate::tls::client_config;
use crate::upstream::outlier_ejection::{Address, Endpoint, HealthStatus, Millis};

/// How long a start waits for DNS. Names that resolve later are picked up while requests are served.
const INITIAL_RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

/// An upstream of the configuration.
#[derive(Debug)]
pub(crate) struct Upstream {
    name: String,
    pub(crate) settings: config::Upstream,
    pub(crate) tls: Option<UpstreamTls>,
    /// State of the files that `tls` was loaded from, before they were read.
    tls_files: FileSnapshot,
    endpoints: Mutex<Vec<Arc<Endpoint>>>,
    /// Incremented when the endpoints change.
    version: AtomicU64,
    pub(crate) counts: UpstreamCounters,
    /// When its names are resolved next, and whether a resolution is running.
    pub(crate) resolve_at: AtomicU64,
    pub(crate) resolving: AtomicBool,
    /// The URLs, by index, whose names could not be resolved at the last attempt.
    unresolved: Mutex<BTreeSet<usize>>,
}

/// TLS to the servers of an upstream.
pub(crate) struct UpstreamTls {
    pub(crate) connector: TlsConnector,
    /// By index of the URL.
    pub(crate) names: Vec<Option<ServerName<'static>>>,
}

impl std::fmt::Debug for UpstreamTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UpstreamTls({:?})", self.names)
    }
}

/// Counters of rare events, shared by the workers.
#[derive(Debug, Default)]
pub(crate) struct UpstreamCounters {
    pub(crate) ejections: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) checks_passed: AtomicU64,
    pub(crate) checks_failed: AtomicU64,
}

/// Why an upstream cannot be used as configured.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot use TLS to the upstream `{name}`: {why}; check tls_ca_file, tls_client_certificate_file and tls_client_key_file in [upstreams.{name}]"
)]
pub struct UpstreamError {
    name: String,
    why: String,
}

impl Upstream {
    /// Prepares an upstream and resolves its names.
    pub(crate) fn new(name: &str, settings: config::Upstream) -> Result<Upstream, UpstreamError> {
        let failed = |why: String| UpstreamError { name: name.to_owned(), why };
        let upstream = Upstream {
            name: name.to_owned(),
            tls_files: tls_files(&settings),
            tls: upstream_tls(&settings).map_err(failed)?,
            endpoints: Mutex::default(),
            version: AtomicU64::new(1),
            counts: UpstreamCounters::default(),
            resolve_at: AtomicU64::new(0),
            resolving: AtomicBool::new(false),
            unresolved: Mutex::default(),
            settings,
        };
        upstream.update(&resolve_at_start(&upstream.settings), 0);
        Ok(upstream)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn settings(&self) -> &config::Upstream {
        &self.settings
    }

    /// Whether preparing these settings now would give the same upstream.
    pub(crate) fn is_unchanged_for(&self, settings: &config::Upstream) -> bool {
        self.settings == *settings && self.tls_files == self.tls_files.retake()
    }

    /// The addresses, for messages.
    pub(crate) fn addresses(&self) -> String {
        self.settings.urls.iter().map(UpstreamUrl::to_string).collect::<Vec<_>>().join(", ")
    }

    /// The version of the endpoints.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(crate) fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.lock().clone()
    }

    /// Whether any of its servers is given by name, which may resolve to other addresses later.
    pub(crate) fn has_names(&self) -> bool {
        self.settings.urls.iter().any(|url| name_of(url).is_some())
    }

    /// Applies the resolved addresses of each URL. A URL that did not resolve keeps its servers.
    pub(crate) fn update(&self, found: &HashMap<usize, Vec<Address>>, now: Millis) {
        let mut endpoints = self.lock();
        let mut updated: Vec<Arc<Endpoint>> = Vec::new();
        for url in 0..self.settings.urls.len() {
            let known = endpoints.iter().filter(|endpoint| endpoint.url == url);
            match found.get(&url) {
                None => updated.extend(known.map(Arc::clone)),
                Some(addresses) => {
                    let known: Vec<_> = known.collect();
                    for address in addresses {
                        let same = known.iter().find(|endpoint| endpoint.address == *address);
                        updated.push(match same {
                            Some(endpoint) => Arc::clone(endpoint),
                            None => Arc::new(Endpoint::new(address.clone(), url, now)),
                        });
                    }
                }
            }
        }
        let is_same = updated.len() == endpoints.len()
            && updated.iter().zip(endpoints.iter()).all(|(a, b)| Arc::ptr_eq(a, b));
        if !is_same {
            if now > 0 {
                let servers: Vec<String> = updated.iter().map(|e| e.address.to_string()).collect();
                tracing::info!(upstream = self.name, ?servers, "the servers of an upstream have changed");
            }
            *endpoints = updated;
            self.version.fetch_add(1, Ordering::Release);
        }
    }

    /// The state for the metrics.
    pub(crate) fn state(&self) -> UpstreamState {
        let (now, endpoints) = (millis(), self.lock());
        let of = |status| endpoints.iter().filter(|endpoint| endpoint.health(now) == status).count();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        UpstreamState {
            name: self.name.clone(),
            serving: of(HealthStatus::Healthy),
            ejected: of(HealthStatus::Ejected),
            unhealthy: of(HealthStatus::Unhealthy),
            ejections: count(&self.counts.ejections),
            retries: count(&self.counts.retries),
            checks_passed: count(&self.counts.checks_passed),
            checks_failed: count(&self.counts.checks_failed),
        }
    }

    /// The address of each server, and its state as the label of the metrics.
    pub(crate) fn servers(&self) -> Vec<(String, &'static str)> {
        let now = millis();
        let state = |endpoint: &Arc<Endpoint>| match endpoint.health(now) {
            HealthStatus::Healthy => "serving",
            HealthStatus::Ejected => "ejected",
            HealthStatus::Unhealthy => "unhealthy",
        };
        self.lock().iter().map(|endpoint| (endpoint.address.to_string(), state(endpoint))).collect()
    }

    /// Records whether the name of a URL could be resolved; returns whether that has changed.
    pub(super) fn record_unresolved(&self, place: usize, is_unresolved: bool) -> bool {
        let mut unresolved = self.unresolved.lock().unwrap_or_else(PoisonError::into_inner);
        match is_unresolved {
            true => unresolved.insert(place),
            false => unresolved.remove(&place),
        }
    }

    /// The names that could not be resolved at the last attempt.
    pub(crate) fn unresolved_names(&self) -> Vec<String> {
        let unresolved = self.unresolved.lock().unwrap_or_else(PoisonError::into_inner);
        unresolved
            .iter()
            .filter_map(|place| Some(name_of(&self.settings.urls[*place])?.0.to_owned()))
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Endpoint>>> {
        // Replaced as a whole, so a panic elsewhere leaves it consistent.
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The current time of a monotonic clock, in milliseconds.
pub(crate) fn millis() -> Millis {
    static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
    // Never 0, which stands for the time before the start.
    EPOCH.elapsed().as_millis() as u64 + 1
}

fn tls_files(settings: &config::Upstream) -> FileSnapshot {
    let of_client = settings.tls.client().into_iter().flat_map(|(certificate, key)| [certificate, key]);
    FileSnapshot::take(settings.tls.ca_file.clone().into_iter().chain(of_client))
}

fn upstream_tls(settings: &config::Upstream) -> Result<Option<UpstreamTls>, String> {
    let name = |url: &UpstreamUrl| match url {
        UpstreamUrl::Tcp { secure: true, host, .. } => {
            let name = settings.tls.server_name.as_ref().unwrap_or(host);
            ServerName::try_from(name.clone()).map(Some).map_err(|e| format!("{name}: {e}"))
        }
        _ => Ok(None),
    };
    let names = settings.urls.iter().map(name).collect::<Result<Vec<_>, String>>()?;
    if names.iter().all(Option::is_none) {
        return Ok(None);
    }
    let mut config = client_config(settings.tls.ca_file.as_ref(), settings.tls.client().as_ref())?;
    config.alpn_protocols = match settings.protocol {
        UpstreamProtocol::Http1 => vec![b"http/1.1".to_vec()],
        UpstreamProtocol::Http2 => vec![b"h2".to_vec()],
    };
    Ok(Some(UpstreamTls { connector: TlsConnector::from(Arc::new(config)), names }))
}

/// The host name and port of a URL that has a name.
pub(crate) fn name_of(url: &UpstreamUrl) -> Option<(&str, u16)> {
    match url {
        UpstreamUrl::Tcp { host, port, .. } if host.parse::<IpAddr>().is_err() => Some((host, *port)),
        _ => None,
    }
}

/// The servers of a name, of which these addresses were found.
pub(crate) fn addresses_of(name: &str, port: u16, found: impl Iterator<Item = SocketAddr>) -> Vec<Address> {
    servers_of(name, port, found).into_iter().map(Address::Tcp).collect()
}

/// The addresses of all URLs, as far as they resolve within the start's timeout.
fn resolve_at_start(settings: &config::Upstream) -> HashMap<usize, Vec<Address>> {
    let mut found = HashMap::new();
    let (sender, results) = mpsc::channel();
    for (place, url) in settings.urls.iter().enumerate() {
        match (url, name_of(url)) {
            (UpstreamUrl::Unix(path), _) => drop(found.insert(place, vec![Address::Unix(path.clone())])),
            (_, Some((name, port))) => {
                let (name, sender) = (name.to_owned(), sender.clone());
                // A lookup that hangs is abandoned; the name is resolved again later.
                std::thread::spawn(move || {
                    let looked_up = (name.as_str(), port).to_socket_addrs();
                    if looked_up.is_ok() || is_localhost(&name) {
                        let addresses = looked_up.into_iter().flatten();
                        drop(sender.send((place, addresses_of(&name, port, addresses))));
                    }
                });
            }
            (UpstreamUrl::Tcp { host, port, .. }, None) => {
                let addresses = host.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, *port)).into_iter();
                found.insert(place, addresses_of(host, *port, addresses));
            }
        }
    }
    drop(sender);
    let end = Instant::now() + INITIAL_RESOLVE_TIMEOUT;
    while let Ok((place, addresses)) = results.recv_timeout(end.saturating_duration_since(Instant::now())) {
        found.insert(place, addresses);
    }
    found
}
