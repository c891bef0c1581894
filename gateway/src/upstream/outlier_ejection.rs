//! Outlier ejection (passive health checks) and health status of one server. All workers share what is known
//! of it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::config;
use crate::upstream::cluster::millis;

/// Maximum time of an ejection.
const MAX_EJECTION_TIME: Duration = Duration::from_secs(60);
/// Slow start: initial weight of a server that has just become healthy, in thousandths.
const SLOW_START_INITIAL_WEIGHT: u64 = 100;

/// Milliseconds of a monotonic clock with an arbitrary origin.
pub(crate) type Millis = u64;

/// The address of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// All addresses of one machine, the one to begin with first.
    Tcp(Vec<SocketAddr>),
    Unix(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp(addresses) => {
                let all: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
                f.write_str(&all.join(" or "))
            }
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A server. It is written to only when its health changes; requests read.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: Address,
    /// The place of the address that was connected to last: the next connection begins there.
    pub(crate) last_address: AtomicUsize,
    /// The URL that it was resolved from, by index in the configuration.
    pub(crate) url: usize,
    /// Consecutive connection failures.
    failures: AtomicU32,
    /// Ejections without a success between them.
    ejections: AtomicU32,
    ejected_until: AtomicU64,
    /// The state after the last health checks.
    unhealthy: AtomicBool,
    /// Consecutive probes with the opposite result.
    consecutive_opposite: AtomicU32,
    /// When it became healthy again; 0 if it always was.
    back_since: AtomicU64,
}

/// Whether a server gets requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HealthStatus {
    /// It does.
    Healthy,
    /// It was ejected after connection failures, for a while.
    Ejected,
    /// It fails its health checks.
    Unhealthy,
}

impl Endpoint {
    /// A server that was resolved at `since`; 0 at the start.
    pub(crate) fn new(address: Address, url: usize, since: Millis) -> Endpoint {
        Endpoint {
            address,
            last_address: AtomicUsize::new(0),
            url,
            failures: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
            unhealthy: AtomicBool::new(false),
            consecutive_opposite: AtomicU32::new(0),
            back_since: AtomicU64::new(since),
        }
    }

    pub(crate) fn health(&self, now: Millis) -> HealthStatus {
        if self.unhealthy.load(Ordering::Relaxed) {
            return HealthStatus::Unhealthy;
        }
        if self.ejected_until.load(Ordering::Relaxed) > now {
            HealthStatus::Ejected
        } else {
            HealthStatus::Healthy
        }
    }

    /// Its weight in thousandths: it grows during slow start, after the server became healthy.
    pub(crate) fn weight(&self, now: Millis, slow_start: Duration) -> u64 {
        let back_since = self.back_since.load(Ordering::Relaxed);
        let slow_start = slow_start.as_millis() as u64;
        if back_since == 0 || slow_start == 0 {
            return 1000;
        }
        (now.saturating_sub(back_since) * 1000 / slow_start).clamp(SLOW_START_INITIAL_WEIGHT, 1000)
    }

    /// Records a response. Costs one load while the server is healthy.
    pub(crate) fn record_success(&self) {
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.succeeded(millis());
        }
    }

    fn succeeded(&self, now: Millis) {
        self.failures.store(0, Ordering::Relaxed);
        if self.ejections.swap(0, Ordering::Relaxed) > 0 {
            self.back_since.store(now, Ordering::Relaxed);
            tracing::info!(server = %self.address, "a server is healthy again");
        }
    }

    /// Records a connection failure. Returns whether the server is now ejected; the only server of an
    /// upstream never is.
    pub(crate) fn failed(&self, now: Millis, settings: &config::Upstream, is_only: bool) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if settings.max_failures == 0 || failures < settings.max_failures || is_only {
            return false;
        }
        // Requests that were in flight when it was ejected carry no news.
        if self.ejected_until.load(Ordering::Relaxed) > now {
            return false;
        }
        let before = self.ejections.fetch_add(1, Ordering::Relaxed);
        let length = settings.eject_for.saturating_mul(1 << before.min(16)).min(MAX_EJECTION_TIME);
        self.ejected_until.store(now + length.as_millis() as u64, Ordering::Relaxed);
        tracing::warn!(server = %self.address, failures, ?length, "a server cannot be reached and is left alone");
        true
    }

    /// Records a probe. An opposite result counts only once it is repeated often enough.
    pub(crate) fn record_probe(&self, well: bool, now: Millis, check: &config::HealthCheck) {
        let unhealthy = self.unhealthy.load(Ordering::Relaxed);
        if well != unhealthy {
            self.consecutive_opposite.store(0, Ordering::Relaxed);
            return;
        }
        let needed = if well { check.healthy_after } else { check.unhealthy_after };
        if self.consecutive_opposite.fetch_add(1, Ordering::Relaxed) + 1 < needed {
            return;
        }
        self.consecutive_opposite.store(0, Ordering::Relaxed);
        self.unhealthy.store(!well, Ordering::Relaxed);
        if well {
            self.back_since.store(now, Ordering::Relaxed);
            self.ejected_until.store(0, Ordering::Relaxed);
            tracing::info!(server = %self.address, "a server is healthy again");
        } else {
            tracing::warn!(server = %self.address, path = check.path, "a server is not well and gets no requests");
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn settings() -> config::Upstream {
        config::Upstream {
            assertion: None,
            urls: Vec::new(),
            protocol: config::UpstreamProtocol::Http1,
            host: config::HostHeader::Client,
            connect_timeout: Duration::from_secs(1),
            timeouts: config::Timeouts {
                response: Duration::from_secs(1),
                body: Duration::from_secs(1),
                total: None,
                retries: 1,
            },
            idle_timeout: Duration::from_secs(30),
            pool_size: 64,
            max_connections: None,
            max_pending: 100,
            pending_timeout: Duration::from_secs(1),
            retry_budget: 20,
            resolve_interval: Duration::from_secs(30),
            max_failures: 3,
            eject_for: Duration::from_secs(1),
            slow_start: Duration::ZERO,
            health: None,
            tls: config::UpstreamTls::default(),
            response_header_block: 64 * 1024,
            response_header_fields: 100,
        }
    }

    fn endpoint() -> Endpoint {
        Endpoint::new(Address::Unix("/a".into()), 0, 0)
    }

    #[test]
    fn a_server_that_fails_so_often_is_left_alone_and_each_time_for_longer() {
        let (server, settings) = (endpoint(), settings());
        assert!(!server.failed(1000, &settings, false) && !server.failed(1000, &settings, false));
        assert_eq!(server.health(1000), HealthStatus::Healthy);
        assert!(server.failed(1000, &settings, false));
        assert_eq!(
            (server.health(1999), server.health(2000)),
            (HealthStatus::Ejected, HealthStatus::Healthy)
        );
        assert!(!server.failed(1500, &settings, false), "one that was on its way");
        let mut now = 2000;
        for length in [2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000] {
            assert!(server.failed(now, &settings, false), "one failure is enough when it is tried again");
            assert_eq!(server.health(now + length - 1), HealthStatus::Ejected);
            now += length;
            assert_eq!(server.health(now), HealthStatus::Healthy);
        }
        server.succeeded(now);
        assert!(!server.failed(now, &settings, false), "a success forgives");
    }

    #[test]
    fn the_only_server_is_never_left_alone_and_neither_is_any_where_that_is_off() {
        let (server, settings) = (endpoint(), settings());
        let never = config::Upstream { max_failures: 0, ..settings.clone() };
        for _ in 0..10 {
            assert!(!server.failed(0, &settings, true) && !server.failed(0, &never, false));
        }
    }

    #[test]
    fn one_odd_check_changes_nothing_and_several_in_a_row_do() {
        let check = config::HealthCheck {
            path: "/".into(),
            interval: Duration::ZERO,
            timeout: Duration::ZERO,
            unhealthy_after: 2,
            healthy_after: 3,
        };
        let server = endpoint();
        for (well, status) in [
            (false, HealthStatus::Healthy),
            (true, HealthStatus::Healthy),
            (false, HealthStatus::Healthy),
            (false, HealthStatus::Unhealthy),
            (true, HealthStatus::Unhealthy),
            (true, HealthStatus::Unhealthy),
            (false, HealthStatus::Unhealthy),
            (true, HealthStatus::Unhealthy),
            (true, HealthStatus::Unhealthy),
            (true, HealthStatus::Healthy),
        ] {
            server.record_probe(well, 5, &check);
            assert_eq!(server.health(5), status);
        }
    }

    #[test]
    fn a_server_that_came_back_gets_its_share_slowly() {
        let server = Endpoint::new(Address::Unix("/a".into()), 0, 1000);
        let slow = Duration::from_secs(10);
        assert_eq!([1000, 6000, 11_000, 90_000].map(|now| server.weight(now, slow)), [100, 500, 1000, 1000]);
        assert_eq!(endpoint().weight(0, slow), 1000, "one that was never away");
        assert_eq!(server.weight(1000, Duration::ZERO), 1000);
    }
}
