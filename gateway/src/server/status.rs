//! The state of a running gateway at one time, for `/status`, `/status.json` and `auth-gateway status`. Never a secret.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::since_1970;
use crate::config::{HostPattern, Settings, Store};
use crate::server::admin::{AdminState, Health, gauges, health};
use crate::telemetry::{Gauges, Totals};

/// The state of a gateway. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) version: String,
    /// `ready`, `degraded` or `draining`.
    pub(crate) status: String,
    pub(crate) process: u32,
    pub(crate) workers: usize,
    pub(crate) started_at: u64,
    pub(crate) now: u64,
    pub(crate) connections: u64,
    pub(crate) configuration: FileStatus,
    pub(crate) users: FileStatus,
    pub(crate) store: StoreStatus,
    pub(crate) logins: BTreeMap<String, u64>,
    pub(crate) refreshes: BTreeMap<String, u64>,
    /// In the order of the configuration; the last is of what was refused before it had a route.
    pub(crate) routes: Vec<RouteStatus>,
    pub(crate) upstreams: Vec<UpstreamStatus>,
    pub(crate) keys: Vec<KeyStatus>,
    pub(crate) certificates: Vec<CertificateStatus>,
}

/// Files that are reloaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct FileStatus {
    /// When what is active was loaded, if that is known.
    pub(crate) loaded_at: Option<u64>,
    pub(crate) reloads: u64,
    pub(crate) failures: u64,
    /// Why the last reload was rejected; what was loaded before is active.
    pub(crate) error: Option<String>,
    /// Users; none for the configuration.
    pub(crate) count: Option<usize>,
}

/// The session store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoreStatus {
    pub(crate) kind: String,
    pub(crate) error: Option<String>,
    /// Live sessions; not counted in a Redis.
    pub(crate) sessions: Option<usize>,
    /// Names that are locked; not counted in a Redis.
    pub(crate) locked_names: Option<usize>,
    pub(crate) revoked_sessions: usize,
    pub(crate) revocations_age_seconds: u64,
}

/// A route and what it has answered. Routes of one path share their counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RouteStatus {
    pub(crate) path: String,
    pub(crate) hosts: Vec<String>,
    pub(crate) access: Option<String>,
    pub(crate) roles: Vec<String>,
    pub(crate) target: Option<String>,
    /// By status class: `2xx` and so on.
    pub(crate) requests: BTreeMap<String, u64>,
    pub(crate) average_milliseconds: Option<f64>,
}

/// An upstream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct UpstreamStatus {
    pub(crate) name: String,
    pub(crate) servers: Vec<ServerStatus>,
    /// By outcome.
    pub(crate) requests: BTreeMap<String, u64>,
    pub(crate) average_milliseconds: Option<f64>,
    pub(crate) retries: u64,
    pub(crate) ejections: u64,
}

/// A server of an upstream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServerStatus {
    pub(crate) address: String,
    /// `serving`, `ejected` or `unhealthy`; `unresolved` for a name without an address.
    pub(crate) state: String,
}

/// A key: its id, never the key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct KeyStatus {
    pub(crate) id: String,
    pub(crate) algorithm: String,
    /// `next`, `signing` or `previous`.
    pub(crate) state: String,
    pub(crate) signs_since: Option<u64>,
    pub(crate) verifies_until: Option<u64>,
    pub(crate) verified: u64,
}

/// A certificate of the public listener.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CertificateStatus {
    pub(crate) file: String,
    pub(crate) expires_at: i64,
}

impl Status {
    /// The state at this time.
    pub(super) fn now(state: &AdminState) -> Status {
        let configuration = &state.gateway.configuration;
        let snapshot = configuration.current();
        let settings = &snapshot.settings;
        let gauges = gauges(state);
        let metrics = &state.gateway.metrics;
        let Health { word, store: store_error, users: users_error, configuration: config_error } =
            health(state);
        let now = since_1970().as_secs();
        let upstream_totals = metrics.upstream_totals();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            status: word.to_owned(),
            process: std::process::id(),
            workers: settings.server.workers,
            started_at: state.started_at,
            now,
            connections: u64::try_from(metrics.connections_open()).unwrap_or_default(),
            configuration: FileStatus {
                loaded_at: Some(configuration.loaded_at()),
                reloads: gauges.config_reads,
                failures: gauges.config_failures,
                error: config_error,
                count: None,
            },
            users: FileStatus {
                loaded_at: None,
                reloads: gauges.users_reads,
                failures: gauges.users_failures,
                error: users_error,
                count: Some(gauges.users),
            },
            store: store(settings, &gauges, store_error),
            logins: metrics.login_totals(),
            refreshes: metrics.refresh_totals(),
            routes: routes(settings, metrics.route_totals()),
            upstreams: snapshot
                .upstreams
                .iter()
                .zip(gauges.upstreams)
                .map(|(upstream, counts)| {
                    let totals = upstream_totals.iter().find(|totals| totals.name == counts.name);
                    UpstreamStatus {
                        servers: upstream
                            .servers()
                            .into_iter()
                            .map(|(address, state)| ServerStatus { address, state: state.to_owned() })
                            .chain(
                                upstream
                                    .unresolved_names()
                                    .into_iter()
                                    .map(|address| ServerStatus { address, state: "unresolved".to_owned() }),
                            )
                            .collect(),
                        requests: totals.map(|totals| totals.counts.clone()).unwrap_or_default(),
                        average_milliseconds: totals.and_then(Totals::average_milliseconds),
                        retries: counts.retries,
                        ejections: counts.ejections,
                        name: counts.name,
                    }
                })
                .collect(),
            keys: gauges
                .keys
                .into_iter()
                .map(|key| KeyStatus {
                    algorithm: key.algorithm.to_owned(),
                    state: key.state.name().to_owned(),
                    signs_since: key.signs_since,
                    verifies_until: key.until,
                    verified: key.verified,
                    id: key.id,
                })
                .collect(),
            certificates: gauges
                .certificates
                .into_iter()
                .map(|(file, expires_at)| CertificateStatus { file, expires_at })
                .collect(),
        }
    }
}

fn store(settings: &Settings, gauges: &Gauges, error: Option<String>) -> StoreStatus {
    let kind = match &settings.store {
        Store::Memory => "memory",
        Store::Embedded { .. } => "embedded",
        Store::Redis(_) => "redis",
    };
    StoreStatus {
        kind: kind.to_owned(),
        error,
        sessions: gauges.census.map(|census| census.sessions),
        locked_names: gauges.census.map(|census| census.locked_names),
        revoked_sessions: gauges.revoked_sessions,
        revocations_age_seconds: gauges.revocations_age.as_secs(),
    }
}

/// The configured routes, the endpoints, and what had no route, as far as there were requests.
fn routes(settings: &Settings, totals: Vec<Totals>) -> Vec<RouteStatus> {
    let mut found: Vec<RouteStatus> = Vec::new();
    for route in &settings.routes {
        let of_path = totals.iter().find(|totals| totals.name == route.path);
        found.push(RouteStatus {
            path: route.path.clone(),
            hosts: route.hosts.iter().map(HostPattern::to_string).collect(),
            access: Some(route.access.name().to_owned()),
            roles: route.roles.clone(),
            target: Some(route.target.to_string()),
            requests: of_path.map(|totals| totals.counts.clone()).unwrap_or_default(),
            average_milliseconds: of_path.and_then(Totals::average_milliseconds),
        });
    }
    let other = totals.into_iter().filter(|totals| totals.name.starts_with('(') && !totals.counts.is_empty());
    found.extend(other.map(|totals| RouteStatus {
        average_milliseconds: totals.average_milliseconds(),
        path: totals.name,
        hosts: Vec::new(),
        access: None,
        roles: Vec::new(),
        target: None,
        requests: totals.counts,
    }));
    found
}
