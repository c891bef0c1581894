//! Prometheus metrics: each worker has its own counters, a scrape sums them up; `exposition.rs` writes the page.
//!
//! Every label value comes from a closed set: an outcome, a status class, or a name from the configuration.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::exposition::{Kind, Page};
use super::panics::panics;
use super::span_exporter::SpanCounts;
use crate::sessions::Census;

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
        TooManySessions => "too_many_sessions", FurtherStep => "further_step", Overloaded => "overloaded", StoreUnavailable => "store_unavailable", BadRequest => "bad_request",
    }
}
outcomes! {
    /// The outcome of a refresh.
    RefreshOutcome {
        Rotated => "rotated", Repeated => "repeated", Kept => "kept", Invalid => "invalid", Expired => "expired",
        Idle => "idle", Revoked => "revoked", Reused => "reused", WrongKey => "wrong_key", AccountChanged => "account_changed",
        RateLimited => "rate_limited", StoreUnavailable => "store_unavailable",
    }
}
outcomes! {
    /// The outcome of verifying an access token.
    VerificationOutcome {
        Cached => "cached", Valid => "valid", Missing => "missing", Invalid => "invalid", Expired => "expired",
        NotYetValid => "not_yet_valid", WrongType => "wrong_type", Revoked => "revoked", Unavailable => "unavailable",
    }
}
outcomes! {
    /// The outcome of checking a password over HTTP Basic.
    BasicOutcome {
        Remembered => "remembered", Verified => "verified", Wrong => "invalid_credentials", Locked => "locked",
        RateLimited => "rate_limited", Unavailable => "unavailable",
    }
}
outcomes! {
    /// What became of a proof of possession.
    ProofOutcome {
        Valid => "valid", Invalid => "invalid", Replayed => "replayed", Nonce => "nonce_needed", Missing => "missing",
        WrongKey => "wrong_key", Unshared => "replay_unknown",
    }
}

impl ProofOutcome {
    /// The label value, and the value in the access log.
    pub(crate) fn name(self) -> &'static str {
        ProofOutcome::LABELS[self as usize]
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
        CompressionFailed => "compression_failed",
    }
}

impl AbortReason {
    /// The label value, and the value in the access log.
    pub(crate) fn name(self) -> &'static str {
        AbortReason::LABELS[self as usize]
    }
}

/// As the error of a body, it makes hyper abort the response.
impl std::error::Error for AbortReason {}

impl UpstreamOutcome {
    /// The label value, and `error.type` of a span.
    pub(crate) fn name(self) -> &'static str {
        UpstreamOutcome::LABELS[self as usize]
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

outcomes! {
    /// An endpoint of the gateway, as the value of the label `route`.
    EndpointLabel { Login => "(login)", Refresh => "(refresh)", Verify => "(verify)", Other => "(endpoint)" }
}

/// What responded to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RouteLabel {
    /// A route, by its index in the configuration.
    Route(usize),
    /// One of the gateway's own endpoints.
    Endpoint(EndpointLabel),
    /// Neither: the request was rejected before routing.
    None,
}

/// The counters of one worker, its only writer; aligned to a cache line of their own.
#[derive(Debug)]
#[repr(align(128))]
struct Shard {
    named: Mutex<Named>,
    logins: [AtomicU64; LoginOutcome::LABELS.len()],
    refreshes: [AtomicU64; RefreshOutcome::LABELS.len()],
    verifications: [AtomicU64; VerificationOutcome::LABELS.len()],
    proofs: [AtomicU64; ProofOutcome::LABELS.len()],
    basic: [AtomicU64; BasicOutcome::LABELS.len()],
    responses_aborted: [AtomicU64; AbortReason::LABELS.len()],
    logouts: AtomicU64,
    assertions: AtomicU64,
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

type ByClass = Series<{ CLASSES.len() }>;
type ByOutcome = Series<{ UpstreamOutcome::LABELS.len() }>;

/// Counters and durations of one worker and one name, on cache lines of their own.
#[derive(Debug)]
#[repr(align(64))]
struct Series<const N: usize> {
    counts: [AtomicU64; N],
    /// The last one is of everything above the last bound.
    buckets: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
}

impl<const N: usize> Default for Series<N> {
    fn default() -> Series<N> {
        Series {
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            buckets: Default::default(),
            micros: AtomicU64::new(0),
        }
    }
}

impl<const N: usize> Series<N> {
    fn observe(&self, index: usize, duration: Duration) {
        add(&self.counts[index], 1);
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.iter().position(|&bound| micros <= bound).unwrap_or(BUCKETS.len());
        add(&self.buckets[bucket], 1);
        add(&self.micros, micros);
    }
}

/// The sums of a [`Series`] over all workers.
struct Sums<const N: usize> {
    name: String,
    counts: [u64; N],
    buckets: [u64; BUCKETS.len() + 1],
    micros: u64,
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
    /// Counts a request to an upstream, which took `duration` up to the response's head or the failure.
    pub(crate) fn upstream_request(&self, upstream: usize, outcome: UpstreamOutcome, duration: Duration) {
        self.upstreams[upstream].observe(outcome as usize, duration);
    }
}

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

/// The state of another issuer.
#[derive(Debug, Clone)]
pub(crate) struct IssuerState {
    pub(crate) name: String,
    pub(crate) keys: usize,
    /// In seconds; `None` for keys from the configuration and where there are none.
    pub(crate) keys_age: Option<u64>,
    /// Whether the last fetch and the last introspection succeeded.
    pub(crate) is_up: bool,
    /// Succeeded, failed.
    pub(crate) fetches: [u64; 2],
    /// Tokens that were verified, and not found in a cache: valid, invalid, expired, and those that could not be judged.
    pub(crate) tokens: [u64; 4],
    /// Active, inactive, failed; `None` where tokens are not introspected.
    pub(crate) introspections: Option<[u64; 3]>,
}

/// A loaded key.
#[derive(Debug, Clone)]
pub(crate) struct KeyGauge {
    pub(crate) id: String,
    pub(crate) algorithm: &'static str,
    pub(crate) state: KeyStateLabel,
    /// Tokens whose signature it has verified.
    pub(crate) verified: u64,
    /// Since when it signs, in seconds since 1970.
    pub(crate) signs_since: Option<u64>,
    /// Until when it verifies, in seconds since 1970.
    pub(crate) until: Option<u64>,
}

outcomes! {
    /// What a loaded key does.
    KeyStateLabel { Next => "next", Signing => "signing", Previous => "previous" }
}

impl KeyStateLabel {
    /// The label value.
    pub(crate) fn name(self) -> &'static str {
        KeyStateLabel::LABELS[self as usize]
    }
}

/// The counts of a route or an upstream over all workers.
#[derive(Debug)]
pub(crate) struct Totals {
    pub(crate) name: String,
    /// By status class or outcome; those that did not occur are left out.
    pub(crate) counts: BTreeMap<String, u64>,
    micros: u64,
}

impl Totals {
    fn of<const N: usize>(labels: &[&str], sums: Sums<N>) -> Totals {
        Totals { name: sums.name, counts: occurred(labels, sums.counts), micros: sums.micros }
    }

    /// The mean duration, if there was a request.
    pub(crate) fn average_milliseconds(&self) -> Option<f64> {
        let requests: u64 = self.counts.values().sum();
        (requests > 0).then(|| self.micros as f64 / 1000.0 / requests as f64)
    }
}

/// The counts by label; those that are zero are left out.
fn occurred(labels: &[&str], counts: impl IntoIterator<Item = u64>) -> BTreeMap<String, u64> {
    let all = labels.iter().zip(counts).filter(|(_, count)| *count > 0);
    all.map(|(label, count)| ((*label).to_owned(), count)).collect()
}

/// Values that are read at a scrape.
#[derive(Debug, Clone)]
pub(crate) struct Gauges {
    pub(crate) upstreams: Vec<UpstreamState>,
    /// None where the store is shared.
    pub(crate) census: Option<Census>,
    pub(crate) revoked_sessions: usize,
    pub(crate) log_lines_dropped: u64,
    pub(crate) audit_events_dropped: u64,
    pub(crate) spans: SpanCounts,
    pub(crate) password_hashes: u64,
    pub(crate) password_hash_queue: usize,
    /// The loaded keys.
    pub(crate) keys: Vec<KeyGauge>,
    /// Files of certificates and when they expire, in seconds since 1970.
    pub(crate) certificates: Vec<(String, i64)>,
    /// Whether the last operation on the session store succeeded.
    pub(crate) store_up: bool,
    /// How often the session store was found to have lost its data.
    pub(crate) store_losses: u64,
    /// Time since the revocations of other instances were last known to be complete, in milliseconds.
    pub(crate) revocations_age: u64,
    pub(crate) draining: bool,
    pub(crate) issuers: Vec<IssuerState>,
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
                logins: Default::default(),
                refreshes: Default::default(),
                verifications: Default::default(),
                proofs: Default::default(),
                basic: Default::default(),
                responses_aborted: Default::default(),
                logouts: AtomicU64::new(0),
                assertions: AtomicU64::new(0),
                connections: AtomicU64::new(0),
                connections_refused: AtomicU64::new(0),
                connections_open: AtomicI64::new(0),
                token_cache_entries: AtomicU64::new(0),
            })
        };
        let shards = (0..workers.max(1)).map(shard).collect();
        Metrics { shards }
    }

    /// The counters of a worker.
    pub(crate) fn worker(&self, index: usize) -> WorkerMetrics {
        WorkerMetrics { shard: Arc::clone(&self.shards[index % self.shards.len()]) }
    }

    /// The metrics page in the Prometheus text format.
    pub(crate) fn render(&self, gauges: &Gauges) -> String {
        let mut page = Page::default();
        let routes = self.sums(|named| &named.routes);
        page.family("requests_total", Kind::Counter, "Requests, by route and status class.");
        for sums in &routes {
            for (label, count) in CLASSES.iter().zip(sums.counts) {
                page.sample(&[("route", &sums.name), ("status", label)], count);
            }
        }
        let help = "From the end of a request's head to the end of its response, by route.";
        page.family("request_duration_seconds", Kind::Histogram, help);
        for sums in &routes {
            page.histogram(&[("route", &sums.name)], &bounds(), &sums.buckets, seconds(sums.micros));
        }
        self.outcomes(&mut page, "logins_total", "Logins.", LoginOutcome::LABELS, |s, i| &s.logins[i]);
        self.outcomes(&mut page, "refreshes_total", "Refreshes.", RefreshOutcome::LABELS, |s, i| {
            &s.refreshes[i]
        });
        let labels = VerificationOutcome::LABELS;
        self.outcomes(&mut page, "verifications_total", "Access tokens verified.", labels, |s, i| {
            &s.verifications[i]
        });
        let labels = ProofOutcome::LABELS;
        self.outcomes(&mut page, "dpop_proofs_total", "Proofs of possession (DPoP).", labels, |s, i| {
            &s.proofs[i]
        });
        let help = "Passwords checked over HTTP Basic.";
        self.outcomes(&mut page, "basic_passwords_total", help, BasicOutcome::LABELS, |s, i| &s.basic[i]);
        let help = "Responses that ended before they were complete.";
        page.family("responses_aborted_total", Kind::Counter, help);
        for (reason, label) in AbortReason::LABELS.iter().enumerate() {
            page.sample(&[("reason", label)], self.sum(|s| &s.responses_aborted[reason]));
        }
        self.upstreams(&mut page, &gauges.upstreams);
        issuers(&mut page, &gauges.issuers);
        self.single_values(&mut page, gauges);
        keys(&mut page, &gauges.keys);
        page.family("certificate_expiry_timestamp_seconds", Kind::Gauge, "When a certificate expires.");
        for (file, not_after) in &gauges.certificates {
            page.sample_f64(&[("file", file)], *not_after as f64);
        }
        let help = "Spans for the collector of tracing.otlp.endpoint: taken, dropped with a full queue, or not taken.";
        page.family("spans_total", Kind::Counter, help);
        let SpanCounts { exported, dropped, failed } = gauges.spans;
        for (outcome, count) in [("exported", exported), ("dropped", dropped), ("failed", failed)] {
            page.sample(&[("outcome", outcome)], count);
        }
        if let Some(Census { sessions, locked_names }) = gauges.census {
            page.family("sessions", Kind::Gauge, "Live sessions, counted now and then; not in a Redis.");
            page.sample(&[], sessions as u64);
            page.family(
                "locked_names",
                Kind::Gauge,
                "Locked user names, counted now and then; not in a Redis.",
            );
            page.sample(&[], locked_names as u64);
        }
        page.family("build_info", Kind::Gauge, "Version of the gateway.");
        page.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
        page.process();
        page.text()
    }

    fn upstreams(&self, page: &mut Page, states: &[UpstreamState]) {
        let requests = self.sums(|named| &named.upstreams);
        page.family("upstream_requests_total", Kind::Counter, "Requests sent to upstreams.");
        for sums in &requests {
            for (label, count) in UpstreamOutcome::LABELS.iter().zip(sums.counts) {
                page.sample(&[("upstream", &sums.name), ("outcome", label)], count);
            }
        }
        let help = "From the end of a request's head to the head of the upstream's response, by upstream.";
        page.family("upstream_duration_seconds", Kind::Histogram, help);
        for sums in &requests {
            page.histogram(&[("upstream", &sums.name)], &bounds(), &sums.buckets, seconds(sums.micros));
        }
        page.family("upstream_servers", Kind::Gauge, "Servers of upstreams, by whether they get requests.");
        for upstream in states {
            for (state, count) in [
                ("serving", upstream.serving),
                ("ejected", upstream.ejected),
                ("unhealthy", upstream.unhealthy),
            ] {
                page.sample(&[("upstream", &upstream.name), ("state", state)], count as u64);
            }
        }
        let help = "Servers ejected after connection failures.";
        page.family("upstream_ejections_total", Kind::Counter, help);
        for upstream in states {
            page.sample(&[("upstream", &upstream.name)], upstream.ejections);
        }
        page.family("upstream_retries_total", Kind::Counter, "Requests retried on another server.");
        for upstream in states {
            page.sample(&[("upstream", &upstream.name)], upstream.retries);
        }
        page.family("upstream_health_checks_total", Kind::Counter, "Health checks of servers.");
        for upstream in states {
            for (outcome, count) in [("passed", upstream.checks_passed), ("failed", upstream.checks_failed)] {
                page.sample(&[("upstream", &upstream.name), ("outcome", outcome)], count);
            }
        }
    }

    fn single_values(&self, page: &mut Page, gauges: &Gauges) {
        use Kind::{Counter, Gauge};
        for (name, kind, help, value) in [
            ("logouts_total", Counter, "Logouts.", self.sum(|s| &s.logouts) as f64),
            (
                "upstream_assertions_signed_total",
                Counter,
                "Assertions for upstreams that were signed; others were used again.",
                self.sum(|s| &s.assertions) as f64,
            ),
            ("connections_total", Counter, "Connections accepted.", self.sum(|s| &s.connections) as f64),
            (
                "connections_refused_total",
                Counter,
                "Connections over the limit, closed at accept.",
                self.sum(|s| &s.connections_refused) as f64,
            ),
            ("connections_open", Gauge, "Connections open.", self.connections_open() as f64),
            (
                "token_cache_entries",
                Gauge,
                "Verified tokens in the cache.",
                self.sum(|s| &s.token_cache_entries) as f64,
            ),
            (
                "revoked_sessions",
                Gauge,
                "Revoked sessions whose access tokens have not expired.",
                gauges.revoked_sessions as f64,
            ),
            (
                "log_lines_dropped_total",
                Counter,
                "Log lines dropped because the output did not take them.",
                gauges.log_lines_dropped as f64,
            ),
            (
                "audit_events_dropped_total",
                Counter,
                "Audit events dropped because their file or socket did not take them.",
                gauges.audit_events_dropped as f64,
            ),
            ("panics_total", Counter, "Panics: bugs of the gateway itself.", panics() as f64),
            ("password_hashes_total", Counter, "Password hashes computed.", gauges.password_hashes as f64),
            (
                "password_hash_queue",
                Gauge,
                "Password hashes waiting for a thread or being computed.",
                gauges.password_hash_queue as f64,
            ),
            (
                "store_up",
                Gauge,
                "Whether the last operation on the session store succeeded.",
                f64::from(gauges.store_up),
            ),
            ("users", Gauge, "Active users.", gauges.users as f64),
            (
                "users_up_to_date",
                Gauge,
                "Whether the active users are those of the file; 0 if it has a mistake.",
                f64::from(gauges.users_up_to_date),
            ),
            (
                "config_up_to_date",
                Gauge,
                "Whether the active configuration is that of the files; 0 if they have a mistake.",
                f64::from(gauges.config_up_to_date),
            ),
            (
                "store_losses_total",
                Counter,
                "Times that the session store was found to have lost its data.",
                gauges.store_losses as f64,
            ),
            (
                "revocations_age_seconds",
                Gauge,
                "Time since the revocations of other instances were last known to be complete.",
                gauges.revocations_age as f64 / 1e3,
            ),
            (
                "draining",
                Gauge,
                "Whether the process is draining (graceful shutdown).",
                f64::from(gauges.draining),
            ),
        ] {
            page.family(name, kind, help);
            page.sample_f64(&[], value);
        }
        for (name, help, succeeded, failed) in [
            ("users_reloads_total", "Reloads of users.", gauges.users_reads, gauges.users_failures),
            (
                "config_reloads_total",
                "Reloads of the configuration.",
                gauges.config_reads,
                gauges.config_failures,
            ),
        ] {
            page.family(name, Counter, help);
            page.sample(&[("outcome", "success")], succeeded);
            page.sample(&[("outcome", "failure")], failed);
        }
    }

    /// Of each route, endpoint, and what had no route.
    pub(crate) fn route_totals(&self) -> Vec<Totals> {
        self.sums(|named| &named.routes).into_iter().map(|sums| Totals::of(&CLASSES, sums)).collect()
    }

    /// Of each upstream.
    pub(crate) fn upstream_totals(&self) -> Vec<Totals> {
        let labels = UpstreamOutcome::LABELS;
        self.sums(|named| &named.upstreams).into_iter().map(|sums| Totals::of(labels, sums)).collect()
    }

    /// Logins by outcome; those that did not occur are left out.
    pub(crate) fn login_totals(&self) -> BTreeMap<String, u64> {
        self.totals(LoginOutcome::LABELS, |s, i| &s.logins[i])
    }

    /// Refreshes by outcome; those that did not occur are left out.
    pub(crate) fn refresh_totals(&self) -> BTreeMap<String, u64> {
        self.totals(RefreshOutcome::LABELS, |s, i| &s.refreshes[i])
    }

    fn totals(
        &self,
        labels: &[&str],
        counter: impl Fn(&Shard, usize) -> &AtomicU64,
    ) -> BTreeMap<String, u64> {
        occurred(labels, (0..labels.len()).map(|outcome| self.sum(|s| counter(s, outcome))))
    }

    /// Open client connections.
    pub(crate) fn connections_open(&self) -> i64 {
        self.shards.iter().map(|shard| shard.connections_open.load(Ordering::Relaxed)).sum()
    }

    /// The sums over all workers by name, in the order in which the names appeared, followed by the gateway's
    /// own.
    fn sums<const N: usize>(&self, of: impl Fn(&Named) -> &Vec<(String, Arc<Series<N>>)>) -> Vec<Sums<N>> {
        let mut all: Vec<Sums<N>> = Vec::new();
        for shard in &self.shards {
            for (name, series) in of(&shard.named()) {
                let place = all.iter().position(|sums| sums.name == *name).unwrap_or_else(|| {
                    let (counts, buckets) = ([0; N], Default::default());
                    all.push(Sums { name: name.clone(), counts, buckets, micros: 0 });
                    all.len() - 1
                });
                let sums = &mut all[place];
                let counters = series.counts.iter().chain(&series.buckets);
                for (sum, counter) in sums.counts.iter_mut().chain(&mut sums.buckets).zip(counters) {
                    *sum += counter.load(Ordering::Relaxed);
                }
                sums.micros += series.micros.load(Ordering::Relaxed);
            }
        }
        all.sort_by_key(|sums| sums.name.starts_with('('));
        all
    }

    fn outcomes(
        &self,
        page: &mut Page,
        name: &str,
        help: &str,
        labels: &[&str],
        counter: impl Fn(&Shard, usize) -> &AtomicU64,
    ) {
        page.family(name, Kind::Counter, help);
        for (outcome, label) in labels.iter().enumerate() {
            page.sample(&[("outcome", label)], self.sum(|s| counter(s, outcome)));
        }
    }

    fn sum(&self, counter: impl Fn(&Shard) -> &AtomicU64) -> u64 {
        self.shards.iter().map(|shard| counter(shard).load(Ordering::Relaxed)).sum()
    }
}

fn issuers(page: &mut Page, issuers: &[IssuerState]) {
    page.family(
        "issuer_tokens_total",
        Kind::Counter,
        "Tokens of other issuers that were verified, and not in a cache.",
    );
    for issuer in issuers {
        for (outcome, count) in ["valid", "invalid", "expired", "unavailable"].iter().zip(issuer.tokens) {
            page.sample(&[("issuer", &issuer.name), ("outcome", outcome)], count);
        }
    }
    page.family("issuer_key_fetches_total", Kind::Counter, "Fetches of the keys of other issuers.");
    for issuer in issuers {
        for (outcome, count) in ["success", "failure"].iter().zip(issuer.fetches) {
            page.sample(&[("issuer", &issuer.name), ("outcome", outcome)], count);
        }
    }
    page.family("issuer_introspections_total", Kind::Counter, "Introspections by other issuers.");
    for issuer in issuers {
        for (outcome, count) in
            ["active", "inactive", "failure"].iter().zip(issuer.introspections.into_iter().flatten())
        {
            page.sample(&[("issuer", &issuer.name), ("outcome", outcome)], count);
        }
    }
    page.family("issuer_up", Kind::Gauge, "Whether an issuer could be reached when it was last asked.");
    for issuer in issuers {
        page.sample(&[("issuer", &issuer.name)], u64::from(issuer.is_up));
    }
    page.family("issuer_keys", Kind::Gauge, "Keys of an issuer that are known.");
    for issuer in issuers {
        page.sample(&[("issuer", &issuer.name)], issuer.keys as u64);
    }
    page.family("issuer_keys_age_seconds", Kind::Gauge, "Time since an issuer's keys were fetched.");
    for issuer in issuers {
        if let Some(age) = issuer.keys_age {
            page.sample(&[("issuer", &issuer.name)], age);
        }
    }
}

fn keys(page: &mut Page, keys: &[KeyGauge]) {
    page.family("keys", Kind::Gauge, "Loaded keys: next, signing or previous.");
    for key in keys {
        let state = key.state.name();
        page.sample(&[("key", &key.id), ("algorithm", key.algorithm), ("state", state)], 1);
    }
    let help = "Tokens whose signature a key has verified; those in the token cache are not verified again.";
    page.family("key_verifications_total", Kind::Counter, help);
    for key in keys {
        page.sample(&[("key", &key.id), ("algorithm", key.algorithm)], key.verified);
    }
    page.family("key_signing_start_timestamp_seconds", Kind::Gauge, "When a key began to sign.");
    for (key, since) in keys.iter().filter_map(|key| Some((key, key.signs_since?))) {
        page.sample(&[("key", &key.id)], since);
    }
    page.family("key_expiry_timestamp_seconds", Kind::Gauge, "When a previous key verifies no more.");
    for (key, until) in keys.iter().filter_map(|key| Some((key, key.until?))) {
        page.sample(&[("key", &key.id)], until);
    }
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

fn bounds() -> [f64; BUCKETS.len()] {
    BUCKETS.map(seconds)
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
        let routes = routes.chain(EndpointLabel::LABELS.iter().copied()).chain([NONE]);
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
        // Behind the routes are the endpoints, and behind them what was rejected before routing.
        let last = counters.requests.len() - 1;
        let place = match route {
            RouteLabel::Route(index) => index,
            RouteLabel::Endpoint(label) => last - EndpointLabel::LABELS.len() + label as usize,
            RouteLabel::None => last,
        };
        let class = usize::from(status / 100).clamp(1, CLASSES.len()) - 1;
        counters.requests[place].observe(class, duration);
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

    /// Counts an assertion that was signed.
    pub(crate) fn assertion_signed(&self) {
        add(&self.shard.assertions, 1);
    }

    pub(crate) fn verification(&self, outcome: VerificationOutcome) {
        add(&self.shard.verifications[outcome as usize], 1);
    }

    pub(crate) fn proof(&self, outcome: ProofOutcome) {
        add(&self.shard.proofs[outcome as usize], 1);
    }

    pub(crate) fn basic(&self, outcome: BasicOutcome) {
        add(&self.shard.basic[outcome as usize], 1);
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

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Gauges = Gauges {
        upstreams: Vec::new(),
        census: None,
        revoked_sessions: 0,
        log_lines_dropped: 0,
        audit_events_dropped: 0,
        spans: SpanCounts { exported: 0, dropped: 0, failed: 0 },
        password_hashes: 0,
        password_hash_queue: 0,
        keys: Vec::new(),
        certificates: Vec::new(),
        store_up: true,
        store_losses: 0,
        revocations_age: 0,
        draining: false,
        issuers: Vec::new(),
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
        of_second.upstream_request(0, UpstreamOutcome::Timeout, Duration::from_secs(2));
        let page = metrics.render(&NOTHING);
        for line in [
            "auth_gateway_requests_total{route=\"/a\\\"b\",status=\"2xx\"} 2",
            "auth_gateway_requests_total{route=\"(none)\",status=\"4xx\"} 1",
            "auth_gateway_request_duration_seconds_bucket{route=\"/a\\\"b\",le=\"0.00025\"} 0",
            "auth_gateway_request_duration_seconds_bucket{route=\"/a\\\"b\",le=\"0.0005\"} 1",
            "auth_gateway_request_duration_seconds_bucket{route=\"/a\\\"b\",le=\"10\"} 1",
            "auth_gateway_request_duration_seconds_bucket{route=\"/a\\\"b\",le=\"+Inf\"} 2",
            "auth_gateway_request_duration_seconds_count{route=\"/a\\\"b\"} 2",
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
        let page = metrics.render(&NOTHING);
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
        let page = metrics.render(&NOTHING);
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
            counters.upstream_request(0, UpstreamOutcome::Ok, Duration::ZERO);
        }
        let page = metrics.render(&NOTHING);
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
            worker.request(
                &counters,
                RouteLabel::Endpoint(EndpointLabel::Login),
                200,
                Duration::from_millis(millis),
            );
        }
        let page = metrics.render(&NOTHING);
        assert!(
            page.contains("auth_gateway_request_duration_seconds_sum{route=\"(login)\"} 1.75\n"),
            "{page}"
        );
    }
}
