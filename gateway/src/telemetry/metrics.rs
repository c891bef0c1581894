//! Prometheus metrics (text format 0.0.4): each worker has its own counters, a scrape sums them up.
//!
//! Every label value comes from a closed set: an outcome, a status class, or a name from the configuration.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::panics::panics;

macro_rules! outcomes {
    ($(#[$doc:meta])* $name:ident { $($variant:ident => $label:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name { $($variant),+ }

        impl $name {
            const LABELS: &'static [&'static str] = &[$($label),+];
        }
    };
}

outcomes! {
    /// The outcome of a login.
    LoginOutcome {
        Success => "success", Invalid => "invalid_credentials", Locked => "locked", RateLimited => "rate_limited",
        Overloaded => "overloaded", StoreUnavailable => "store_unavailable", BadRequest => "bad_request",
    }
}
outcomes! {
    /// The outcome of a refresh.
    RefreshOutcome {
        Rotated => "rotated", Repeated => "repeated", Kept => "kept", Invalid => "invalid", Expired => "expired",
        Idle => "idle", Revoked => "revoked", Reused => "reused", AccountChanged => "account_changed",
        RateLimited => "rate_limited", StoreUnavailable => "store_unavailable",
    }
}
outcomes! {
    /// The outcome of verifying an access token.
    VerificationOutcome {
        Cached => "cached", Valid => "valid", Missing => "missing", Invalid => "invalid", Expired => "expired",
        NotYetValid => "not_yet_valid", WrongType => "wrong_type", Revoked => "revoked",
    }
}
outcomes! {
    /// The outcome of an upstream request.
    UpstreamOutcome {
        Ok => "ok", ConnectFailed => "connect_failed", Timeout => "timeout", Broken => "broken",
        NoServer => "no_server", Full => "full",
    }
}

outcomes! {
    /// Who cut a response short, and why. The access log and the metrics use the same words.
    AbortReason {
        ClientClosed => "client_closed", ClientTimeout => "client_timeout", UpstreamClosed => "upstream_closed",
        UpstreamTimeout => "upstream_timeout", UpstreamMalformed => "upstream_malformed",
        SessionRevoked => "session_revoked", SessionExpired => "session_expired", FileError => "file_error",
    }
}

impl AbortReason {
    /// The label value, and the value in the access log.
    pub(crate) fn name(self) -> &'static str {
        AbortReason::LABELS[self as usize]
    }
}

impl std::fmt::Display for AbortReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Upper bounds of the duration histogram's buckets, in microseconds.
const BUCKETS: [u64; 14] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000,
    10_000_000,
];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// What responded to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RouteLabel {
    /// A route, by its index in the configuration.
    Route(usize),
    /// One of the gateway's own endpoints.
    Endpoint,
    /// Neither: the request was rejected before routing.
    None,
}

/// The counters of one worker, its only writer; aligned to a cache line of their own.
#[derive(Debug)]
#[repr(align(128))]
struct Shard {
    named: Mutex<Named>,
    duration_buckets: [AtomicU64; BUCKETS.len() + 1],
    duration_micros: AtomicU64,
    logins: [AtomicU64; LoginOutcome::LABELS.len()],
    refreshes: [AtomicU64; RefreshOutcome::LABELS.len()],
    verifications: [AtomicU64; VerificationOutcome::LABELS.len()],
    responses_aborted: [AtomicU64; AbortReason::LABELS.len()],
    logouts: AtomicU64,
    connections: AtomicU64,
    connections_refused: AtomicU64,
    connections_open: AtomicI64,
    token_cache_entries: AtomicU64,
}

/// Counters labelled with names from the configuration. They outlive it, so a route that is added again goes
/// on counting. Locked when a worker applies a configuration and at a scrape, never per request.
#[derive(Debug, Default)]
struct Named {
    routes: Vec<(String, Arc<ByClass>)>,
    upstreams: Vec<(String, Arc<ByOutcome>)>,
}

type ByClass = Line<{ CLASSES.len() }>;
type ByOutcome = Line<{ UpstreamOutcome::LABELS.len() }>;

/// Counters of one worker and one name, on cache lines of their own.
#[derive(Debug)]
#[repr(align(64))]
struct Line<const N: usize>([AtomicU64; N]);

impl<const N: usize> Default for Line<N> {
    fn default() -> Line<N> {
        Line(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

/// The counters of that name, created if missing.
fn named<T: Default>(all: &mut Vec<(String, Arc<T>)>, name: &str) -> Arc<T> {
    if let Some((_, counters)) = all.iter().find(|(known, _)| known == name) {
        return Arc::clone(counters);
    }
    let counters = Arc::new(T::default());
    all.push((name.to_owned(), Arc::clone(&counters)));
    counters
}

/// One worker's counters for the routes and upstreams of one configuration, by index.
#[derive(Debug)]
pub(crate) struct RouteCounters {
    /// The counters of endpoints and of unrouted requests follow those of the routes.
    requests: Vec<Arc<ByClass>>,
    upstreams: Vec<Arc<ByOutcome>>,
}

impl RouteCounters {
    pub(crate) fn upstream_request(&self, upstream: usize, outcome: UpstreamOutcome) {
        add(&self.upstreams[upstream].0[outcome as usize], 1);
    }
}

const ENDPOINT: &str = "(endpoint)";
const NONE: &str = "(none)";

impl Shard {
    fn named(&self) -> MutexGuard<'_, Named> {
        // Only ever appended to, so a panic elsewhere leaves it consistent.
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All counters.
#[derive(Debug)]
pub struct Metrics {
    shards: Vec<Arc<Shard>>,
    started: SystemTime,
}

/// The health of an upstream's servers.
#[derive(Debug, Clone)]
pub(crate) struct UpstreamState {
    pub(crate) name: String,
    /// Healthy servers.
    pub(crate) serving: usize,
    /// Servers ejected after connection failures (outlier ejection).
    pub(crate) ejected: usize,
    /// Servers that fail their health checks.
    pub(crate) unhealthy: usize,
    pub(crate) ejections: u64,
    pub(crate) retries: u64,
    pub(crate) checks_passed: u64,
    pub(crate) checks_failed: u64,
}

/// Values that are read at a scrape.
#[derive(Debug, Clone)]
pub(crate) struct Gauges {
    pub(crate) upstreams: Vec<UpstreamState>,
    pub(crate) revoked_sessions: usize,
    pub(crate) log_lines_dropped: u64,
    pub(crate) password_hashes: u64,
    /// Whether the last operation on the session store succeeded.
    pub(crate) store_up: bool,
    /// How often the session store was found to have lost its data.
    pub(crate) store_losses: u64,
    /// Time since the revocations of other instances were last known to be complete, in milliseconds.
    pub(crate) revocations_age: u64,
    pub(crate) draining: bool,
    /// Successful configuration reloads.
    pub(crate) config_reads: u64,
    /// Failed configuration reloads.
    pub(crate) config_failures: u64,
    /// Whether the active configuration is that of the files.
    pub(crate) config_up_to_date: bool,
    /// Active users.
    pub(crate) users: usize,
    /// Successful reloads of users.
    pub(crate) users_reads: u64,
    /// Failed reloads of users.
    pub(crate) users_failures: u64,
    /// Whether the active users are those of the file.
    pub(crate) users_up_to_date: bool,
}

impl Metrics {
    /// Counters for this many workers.
    pub fn new(workers: usize) -> Metrics {
        let shard = |_| {
            Arc::new(Shard {
                named: Mutex::default(),
                duration_buckets: Default::default(),
                duration_micros: AtomicU64::new(0),
                logins: Default::default(),
                refreshes: Default::default(),
                verifications: Default::default(),
                responses_aborted: Default::default(),
                logouts: AtomicU64::new(0),
                connections: AtomicU64::new(0),
                connections_refused: AtomicU64::new(0),
                connections_open: AtomicI64::new(0),
                token_cache_entries: AtomicU64::new(0),
            })
        };
        let shards = (0..workers.max(1)).map(shard).collect();
        Metrics { shards, started: SystemTime::now() }
    }

    /// The counters of a worker.
    pub(crate) fn worker(&self, index: usize) -> WorkerMetrics {
        WorkerMetrics { shard: Arc::clone(&self.shards[index % self.shards.len()]) }
    }

    /// The metrics page in the Prometheus text format.
    pub(crate) fn render(&self, gauges: Gauges) -> String {
        let mut page = Page { text: String::with_capacity(8 * 1024) };
        page.family("requests_total", "counter", "Requests answered, by route and status class.");
        for (name, counts) in self.named(|named| &named.routes) {
            for (label, count) in CLASSES.iter().zip(counts) {
                page.sample("requests_total", &[("route", &name), ("status", label)], count);
            }
        }
        self.durations(&mut page);
        self.outcomes(&mut page, "logins_total", "Logins.", LoginOutcome::LABELS, |s, i| &s.logins[i]);
        self.outcomes(&mut page, "refreshes_total", "Refreshes.", RefreshOutcome::LABELS, |s, i| {
            &s.refreshes[i]
        });
        let labels = VerificationOutcome::LABELS;
        self.outcomes(&mut page, "verifications_total", "Access tokens looked at.", labels, |s, i| {
            &s.verifications[i]
        });
        page.family("responses_aborted_total", "counter", "Responses that ended before they were complete.");
        for (reason, label) in AbortReason::LABELS.iter().enumerate() {
            let aborted = self.sum(|s| &s.responses_aborted[reason]);
            page.sample("responses_aborted_total", &[("reason", label)], aborted);
        }
        page.single("logouts_total", "counter", "Logouts.", self.sum(|s| &s.logouts));
        page.family("upstream_requests_total", "counter", "Requests sent to upstreams.");
        for (name, counts) in self.named(|named| &named.upstreams) {
            for (label, count) in UpstreamOutcome::LABELS.iter().zip(counts) {
                page.sample("upstream_requests_total", &[("upstream", &name), ("outcome", label)], count);
            }
        }
        page.family("upstream_servers", "gauge", "Servers of upstreams, by whether they get requests.");
        for upstream in &gauges.upstreams {
            for (state, count) in [
                ("serving", upstream.serving),
                ("ejected", upstream.ejected),
                ("unhealthy", upstream.unhealthy),
            ] {
                page.sample("upstream_servers", &[("upstream", &upstream.name), ("state", state)], count);
            }
        }
        page.family(
            "upstream_ejections_total",
            "counter",
            "Servers left alone because they could not be reached.",
        );
        for upstream in &gauges.upstreams {
            page.sample("upstream_ejections_total", &[("upstream", &upstream.name)], upstream.ejections);
        }
        page.family("upstream_retries_total", "counter", "Requests tried again on another server.");
        for upstream in &gauges.upstreams {
            page.sample("upstream_retries_total", &[("upstream", &upstream.name)], upstream.retries);
        }
        page.family("upstream_health_checks_total", "counter", "Checks of servers' health.");
        for upstream in &gauges.upstreams {
            for (outcome, count) in [("passed", upstream.checks_passed), ("failed", upstream.checks_failed)] {
                let labels = [("upstream", upstream.name.as_str()), ("outcome", outcome)];
                page.sample("upstream_health_checks_total", &labels, count);
            }
        }
        page.single("connections_total", "counter", "Connections accepted.", self.sum(|s| &s.connections));
        let refused = self.sum(|s| &s.connections_refused);
        page.single(
            "connections_refused_total",
            "counter",
            "Connections over the limit, closed at accept.",
            refused,
        );
        let open: i64 = self.shards.iter().map(|s| s.connections_open.load(Ordering::Relaxed)).sum();
        page.single("connections_open", "gauge", "Connections open.", open);
        let cached = self.sum(|s| &s.token_cache_entries);
        page.single("token_cache_entries", "gauge", "Verified tokens remembered.", cached);
        page.single(
            "revoked_sessions",
            "gauge",
            "Revoked sessions with living access tokens.",
            gauges.revoked_sessions,
        );
        let dropped = gauges.log_lines_dropped;
        page.single(
            "log_lines_dropped_total",
            "counter",
            "Log lines lost because nobody read them or the output failed.",
            dropped,
        );
        page.single("panics_total", "counter", "Mistakes of the gateway itself.", panics());
        page.single("password_hashes_total", "counter", "Password hashes run.", gauges.password_hashes);
        let up = u8::from(gauges.store_up);
        page.single(
            "store_up",
            "gauge",
            "Whether the session store answered the last time it was asked.",
            up,
        );
        page.single("users", "gauge", "Users in force.", gauges.users);
        page.family("users_reloads_total", "counter", "Changes of the users file that were seen.");
        page.sample("users_reloads_total", &[("outcome", "success")], gauges.users_reads);
        page.sample("users_reloads_total", &[("outcome", "failure")], gauges.users_failures);
        page.single(
            "users_up_to_date",
            "gauge",
            "Whether the users in force are those of the file; 0 if it is broken.",
            u8::from(gauges.users_up_to_date),
        );
        page.family("config_reloads_total", "counter", "Times that the configuration was read again.");
        page.sample("config_reloads_total", &[("outcome", "success")], gauges.config_reads);
        page.sample("config_reloads_total", &[("outcome", "failure")], gauges.config_failures);
        page.single(
            "config_up_to_date",
            "gauge",
            "Whether the configuration in force is that of the files; 0 if they cannot be used.",
            u8::from(gauges.config_up_to_date),
        );
        page.single(
            "store_losses_total",
            "counter",
            "Times that the session store was found to have lost what it held.",
            gauges.store_losses,
        );
        page.single(
            "revocations_age_seconds",
            "gauge",
            "For how long it has not been heard which sessions other instances ended.",
            gauges.revocations_age as f64 / 1e3,
        );
        page.single("draining", "gauge", "Whether the process is about to stop.", u8::from(gauges.draining));
        page.family("build_info", "gauge", "The version that runs.");
        page.sample("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
        let started = self.started.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        page.single("start_time_seconds", "gauge", "When the process started.", started);
        page.text
    }

    /// The sums over all workers by name, in the order in which the names appeared, followed by the gateway's
    /// own.
    fn named<const N: usize>(
        &self,
        of: impl Fn(&Named) -> &Vec<(String, Arc<Line<N>>)>,
    ) -> Vec<(String, [u64; N])> {
        let mut all: Vec<(String, [u64; N])> = Vec::new();
        for shard in &self.shards {
            for (name, counters) in of(&shard.named()) {
                let place = all.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
                    all.push((name.clone(), [0; N]));
                    all.len() - 1
                });
                for (sum, counter) in all[place].1.iter_mut().zip(&counters.0) {
                    *sum += counter.load(Ordering::Relaxed);
                }
            }
        }
        all.sort_by_key(|(name, _)| [ENDPOINT, NONE].contains(&name.as_str()));
        all
    }

    fn durations(&self, page: &mut Page) {
        const NAME: &str = "request_duration_seconds";
        page.family(NAME, "histogram", "From the end of a request's head to the end of its answer.");
        let bucket = format!("{NAME}_bucket");
        let mut count = 0;
        for (place, bound) in BUCKETS.iter().enumerate() {
            count += self.sum(|s| &s.duration_buckets[place]);
            page.sample(&bucket, &[("le", &seconds(*bound).to_string())], count);
        }
        count += self.sum(|s| &s.duration_buckets[BUCKETS.len()]);
        page.sample(&bucket, &[("le", "+Inf")], count);
        page.sample(&format!("{NAME}_sum"), &[], seconds(self.sum(|s| &s.duration_micros)));
        page.sample(&format!("{NAME}_count"), &[], count);
    }

    fn outcomes(
        &self,
        page: &mut Page,
        name: &str,
        help: &str,
        labels: &[&str],
        counter: impl Fn(&Shard, usize) -> &AtomicU64,
    ) {
        page.family(name, "counter", help);
        for (outcome, label) in labels.iter().enumerate() {
            page.sample(name, &[("outcome", label)], self.sum(|s| counter(s, outcome)));
        }
    }

    fn sum(&self, counter: impl Fn(&Shard) -> &AtomicU64) -> u64 {
        self.shards.iter().map(|shard| counter(shard).load(Ordering::Relaxed)).sum()
    }
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// One worker's counters. They stay on their worker's thread: `add` relies on it.
#[derive(Debug)]
pub(crate) struct WorkerMetrics {
    shard: Arc<Shard>,
}

impl WorkerMetrics {
    /// The counters for a configuration with these routes (by path; paths may repeat) and upstreams (by
    /// name).
    pub(crate) fn of_routes<'a>(
        &self,
        routes: impl Iterator<Item = &'a str>,
        upstreams: impl Iterator<Item = &'a str>,
    ) -> RouteCounters {
        let mut all = self.shard.named();
        let routes = routes.chain([ENDPOINT, NONE]);
        RouteCounters {
            requests: routes.map(|name| named(&mut all.routes, name)).collect(),
            upstreams: upstreams.map(|name| named(&mut all.upstreams, name)).collect(),
        }
    }

    pub(crate) fn request(
        &self,
        counters: &RouteCounters,
        route: RouteLabel,
        status: u16,
        duration: Duration,
    ) {
        let places = counters.requests.len();
        let place = match route {
            RouteLabel::Route(index) => index,
            RouteLabel::Endpoint => places - 2,
            RouteLabel::None => places - 1,
        };
        let class = usize::from(status / 100).clamp(1, CLASSES.len()) - 1;
        add(&counters.requests[place].0[class], 1);
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.iter().position(|&bound| micros <= bound).unwrap_or(BUCKETS.len());
        add(&self.shard.duration_buckets[bucket], 1);
        add(&self.shard.duration_micros, micros);
    }

    pub(crate) fn login(&self, outcome: LoginOutcome) {
        add(&self.shard.logins[outcome as usize], 1);
    }

    pub(crate) fn refresh(&self, outcome: RefreshOutcome) {
        add(&self.shard.refreshes[outcome as usize], 1);
    }

    pub(crate) fn response_aborted(&self, reason: AbortReason) {
        add(&self.shard.responses_aborted[reason as usize], 1);
    }

    pub(crate) fn logout(&self) {
        add(&self.shard.logouts, 1);
    }

    pub(crate) fn verification(&self, outcome: VerificationOutcome) {
        add(&self.shard.verifications[outcome as usize], 1);
    }

    pub(crate) fn connection_opened(&self) {
        add(&self.shard.connections, 1);
        self.shard.connections_open.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn connection_closed(&self) {
        self.shard.connections_open.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn connection_refused(&self) {
        add(&self.shard.connections_refused, 1);
    }

    pub(crate) fn token_cache_entries(&self, entries: usize) {
        self.shard.token_cache_entries.store(entries as u64, Ordering::Relaxed);
    }
}

/// Adds without an atomic read-modify-write: a shard has one writer, and readers may lag by one.
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

/// A page in the text format.
struct Page {
    text: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String does not fail, here and below.
        let _ = write!(self.text, "# HELP auth_gateway_{name} {help}\n# TYPE auth_gateway_{name} {kind}\n");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let _ = write!(self.text, "auth_gateway_{name}");
        for (place, (label, text)) in labels.iter().enumerate() {
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{}{label}=\"{escaped}\"", if place == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Gauges = Gauges {
        upstreams: Vec::new(),
        revoked_sessions: 0,
        log_lines_dropped: 0,
        password_hashes: 0,
        store_up: true,
        store_losses: 0,
        revocations_age: 0,
        draining: false,
        config_reads: 0,
        config_failures: 0,
        config_up_to_date: true,
        users: 0,
        users_reads: 0,
        users_failures: 0,
        users_up_to_date: true,
    };

    fn counters(worker: &WorkerMetrics, routes: &[&str]) -> RouteCounters {
        worker.of_routes(routes.iter().copied(), ["demo"].into_iter())
    }

    #[test]
    fn a_scrape_adds_up_what_the_workers_counted() {
        let metrics = Metrics::new(2);
        let [first, second] = [0, 1].map(|index| metrics.worker(index));
        let [of_first, of_second] = [&first, &second].map(|worker| counters(worker, &["/a\"b"]));
        first.request(&of_first, RouteLabel::Route(0), 200, Duration::from_micros(300));
        second.request(&of_second, RouteLabel::Route(0), 204, Duration::from_secs(60));
        second.request(&of_second, RouteLabel::None, 404, Duration::from_micros(1));
        first.login(LoginOutcome::Locked);
        of_second.upstream_request(0, UpstreamOutcome::Timeout);
        let page = metrics.render(NOTHING);
        for line in [
            "auth_gateway_requests_total{route=\"/a\\\"b\",status=\"2xx\"} 2",
            "auth_gateway_requests_total{route=\"(none)\",status=\"4xx\"} 1",
            "auth_gateway_request_duration_seconds_bucket{le=\"0.00025\"} 1",
            "auth_gateway_request_duration_seconds_bucket{le=\"0.0005\"} 2",
            "auth_gateway_request_duration_seconds_bucket{le=\"10\"} 2",
            "auth_gateway_request_duration_seconds_bucket{le=\"+Inf\"} 3",
            "auth_gateway_request_duration_seconds_count 3",
            "auth_gateway_logins_total{outcome=\"locked\"} 1",
            "auth_gateway_upstream_requests_total{upstream=\"demo\",outcome=\"timeout\"} 1",
        ] {
            assert!(page.lines().any(|l| l == line), "{line} is not in\n{page}");
        }
    }

    #[test]
    fn every_sample_belongs_to_a_family_with_help_and_type() {
        let metrics = Metrics::new(1);
        counters(&metrics.worker(0), &["/a"]);
        let page = metrics.render(NOTHING);
        let mut family = "";
        for line in page.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                family = help.split(' ').next().unwrap_or_default();
            } else if !line.starts_with('#') {
                assert!(line.starts_with(family), "{line} stands under {family}");
            }
        }
    }

    #[test]
    fn routes_of_one_path_share_one_series() {
        let metrics = Metrics::new(1);
        let worker = metrics.worker(0);
        let counters = counters(&worker, &["/a", "/b", "/a"]);
        for place in 0..3 {
            worker.request(&counters, RouteLabel::Route(place), 200, Duration::ZERO);
        }
        let page = metrics.render(NOTHING);
        assert!(page.contains("auth_gateway_requests_total{route=\"/a\",status=\"2xx\"} 2\n"), "{page}");
        let mut seen = std::collections::HashSet::new();
        for line in page.lines().filter(|l| !l.starts_with('#')) {
            let (series, _) = line.rsplit_once(' ').unwrap_or_default();
            assert!(seen.insert(series), "{series} stands twice");
        }
    }

    #[test]
    fn a_route_goes_on_counting_when_the_configuration_changes() {
        let metrics = Metrics::new(1);
        let worker = metrics.worker(0);
        for routes in [&["/a", "/b"][..], &["/b"], &["/c", "/b"]] {
            let counters = counters(&worker, routes);
            let place = routes.iter().position(|route| *route == "/b").unwrap_or_default();
            worker.request(&counters, RouteLabel::Route(place), 200, Duration::ZERO);
            worker.request(&counters, RouteLabel::None, 404, Duration::ZERO);
            counters.upstream_request(0, UpstreamOutcome::Ok);
        }
        let page = metrics.render(NOTHING);
        for line in [
            "auth_gateway_requests_total{route=\"/a\",status=\"2xx\"} 0",
            "auth_gateway_requests_total{route=\"/b\",status=\"2xx\"} 3",
            "auth_gateway_requests_total{route=\"/c\",status=\"2xx\"} 0",
            "auth_gateway_requests_total{route=\"(none)\",status=\"4xx\"} 3",
            "auth_gateway_upstream_requests_total{upstream=\"demo\",outcome=\"ok\"} 3",
        ] {
            assert!(page.lines().any(|l| l == line), "{line} is not in\n{page}");
        }
    }

    #[test]
    fn durations_add_up_to_their_sum() {
        let metrics = Metrics::new(2);
        for (index, millis) in [(0, 1500), (1, 250)] {
            let worker = metrics.worker(index);
            let counters = counters(&worker, &[]);
            worker.request(&counters, RouteLabel::Endpoint, 200, Duration::from_millis(millis));
        }
        let page = metrics.render(NOTHING);
        assert!(page.contains("auth_gateway_request_duration_seconds_sum 1.75\n"), "{page}");
    }
}
