//! The state of one issuer: its keys, when they were fetched, and what is fetched at the moment. Shared by all workers and the one
//! background task that fetches.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsConnector;
use url::Url;

use super::claims::Accepted;
use super::fetch::Client;
use super::introspection::{Introspected, Introspector};
use super::jwks::KeySet;
use super::jwt::{Jws, JwtError};
use super::{IssuerError, freshness, key_cache};
use crate::config::{IssuerKeys, IssuerSettings};
use crate::tls::client_config;
use crate::tokens::{TokenError, UnixSeconds};

/// An issuer beside the gateway itself.
pub(crate) struct OtherIssuer {
    pub(crate) settings: IssuerSettings,
    pub(super) client: Client,
    keys: RwLock<Option<Arc<KnownKeys>>>,
    /// Changes whenever the keys change: tokens that were verified before are verified anew.
    generation: AtomicU64,
    fetching: Mutex<Fetching>,
    /// Counts finished fetches.
    finished: watch::Sender<u64>,
    /// Wakes the background task.
    pub(super) wake: Notify,
    pub(super) counters: Counters,
    /// Where opaque tokens are introspected.
    pub(super) introspector: Option<Introspector>,
}

/// Keys, and where they are from.
struct KnownKeys {
    set: Arc<KeySet>,
    /// The JWK set as it was sent.
    json: Bytes,
    /// `None` for keys from the configuration, which do not age.
    fetched_at: Option<UnixSeconds>,
}

/// The state of fetching.
struct Fetching {
    is_running: bool,
    last_start: Option<Instant>,
    next: Instant,
    /// Failures in a row.
    failures: u32,
    last_error: Option<String>,
}

/// What happened since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) fetched: AtomicU64,
    pub(super) fetch_failed: AtomicU64,
    pub(super) valid: AtomicU64,
    pub(super) invalid: AtomicU64,
    pub(super) expired: AtomicU64,
    pub(super) unavailable: AtomicU64,
    pub(super) active: AtomicU64,
    pub(super) inactive: AtomicU64,
    pub(super) introspection_failed: AtomicU64,
}

/// Whether a token by an unknown key is worth waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refetch {
    /// Keys are being fetched; wait for more finished fetches than this.
    Wait(u64),
    /// They were fetched a moment ago, and do not have that key.
    UnknownKey,
    /// They cannot be fetched at the moment; when to come back.
    Unavailable(Duration),
}

impl std::fmt::Debug for OtherIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OtherIssuer({})", self.settings.name)
    }
}

impl OtherIssuer {
    /// Prepares an issuer; its last keys are those that were kept on disk.
    pub(super) fn new(settings: IssuerSettings, now: UnixSeconds) -> Result<OtherIssuer, IssuerError> {
        let error = |why: String| IssuerError { name: settings.name.clone(), why };
        let introspection_url = settings.introspection.as_ref().map(|introspection| &introspection.url);
        let urls: Vec<&Url> = settings.keys.url().into_iter().chain(introspection_url).collect();
        let needs_tls = urls.iter().any(|url| url.scheme() == "https");
        // Reading all certificates of the system takes a while; an issuer without addresses needs none of them.
        let config = (!urls.is_empty()).then(|| client_config(settings.tls_ca_file.as_ref(), None));
        let tls = match config.transpose() {
            Ok(config) => config.map(|config| TlsConnector::from(Arc::new(config))),
            Err(why) if needs_tls => return Err(error(why)),
            // A discovery document behind http:// may name an https:// address, which cannot be reached then.
            Err(_) => None,
        };
        let keys = match &settings.keys {
            IssuerKeys::Secret(secret) => {
                let set = KeySet::of_secret(secret, &settings.algorithms);
                Some(KnownKeys { set: Arc::new(set), json: Bytes::new(), fetched_at: None })
            }
            IssuerKeys::File { path, content } => {
                let parsed = KeySet::parse(content, &settings.algorithms);
                let (set, left_out) = parsed.map_err(|why| error(format!("{} {why}", path.display())))?;
                log_left_out(&settings.name, &left_out);
                let json = Bytes::copy_from_slice(content);
                Some(KnownKeys { set: Arc::new(set), json, fetched_at: None })
            }
            IssuerKeys::Discovery(_) | IssuerKeys::Url(_) => kept_keys(&settings, now),
            IssuerKeys::Nowhere => None,
        };
        let start = Instant::now();
        Ok(OtherIssuer {
            client: Client { tls, timeout: settings.timeout },
            keys: RwLock::new(keys.map(Arc::new)),
            generation: AtomicU64::new(0),
            fetching: Mutex::new(Fetching {
                is_running: false,
                last_start: None,
                next: start,
                failures: 0,
                last_error: None,
            }),
            finished: watch::Sender::new(0),
            wake: Notify::new(),
            counters: Counters::default(),
            introspector: settings.introspection.clone().map(Introspector::new),
            settings,
        })
    }

    /// Whether its keys are fetched.
    pub(super) fn fetches_keys(&self) -> bool {
        self.settings.keys.url().is_some()
    }

    /// See the field.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The identity that a token stands for.
    pub(crate) fn verify(&self, token: &Jws<'_>, now: UnixSeconds) -> Result<Accepted, JwtError> {
        let keys = self.keys(now);
        let verified = token.verify(&self.settings, keys.as_ref().map(|keys| &*keys.set), now);
        match &verified {
            Ok(_) => count(&self.counters.valid),
            Err(JwtError::Token(TokenError::Expired)) => count(&self.counters.expired),
            Err(JwtError::Token(_)) => count(&self.counters.invalid),
            // It is verified again, or counted where that is decided.
            Err(JwtError::UnknownKey) => {}
        }
        verified
    }

    /// Counts a token by a key that the issuer does not have.
    pub(crate) fn count_unknown_key(&self) {
        count(&self.counters.invalid);
    }

    /// Counts a token that cannot be judged at the moment.
    pub(crate) fn count_unavailable(&self) {
        count(&self.counters.unavailable);
    }

    /// The keys, unless they are older than the configuration allows.
    fn keys(&self, now: UnixSeconds) -> Option<Arc<KnownKeys>> {
        // Replaced in one step, so a panic elsewhere leaves it consistent.
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()?;
        let oldest = now.saturating_sub(self.settings.max_stale);
        keys.fetched_at.is_none_or(|at| at >= oldest).then_some(keys)
    }

    /// The number of keys, and when they were fetched.
    pub(super) fn key_state(&self) -> (usize, Option<UnixSeconds>) {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.as_ref().map_or((0, None), |keys| (keys.set.len(), keys.fetched_at))
    }

    /// The error of the last fetch or introspection, if it failed.
    pub(super) fn last_error(&self) -> Option<String> {
        let fetch = self.fetching().last_error.clone();
        fetch.or_else(|| self.introspector.as_ref()?.last_error())
    }

    /// Whether no token is verified here: each is introspected.
    pub(crate) fn introspects_all(&self) -> bool {
        self.settings.keys == IssuerKeys::Nowhere
    }

    /// What is known of a token by introspection; `None` where the issuer has none.
    pub(crate) fn introspect(&self, token: &str, now: UnixSeconds) -> Option<Introspected> {
        self.introspector.as_ref().map(|introspector| introspector.introspect(token, now))
    }

    /// Counts a token that was judged by introspection.
    pub(crate) fn count_introspected(&self, result: &Result<Accepted, TokenError>) {
        count(match result {
            Ok(_) => &self.counters.valid,
            Err(TokenError::Expired) => &self.counters.expired,
            Err(_) => &self.counters.invalid,
        });
    }

    /// How long an answer may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.settings.timeout
    }

    /// Has keys fetched for a token by an unknown one, at most once in `unknown_kid_interval`.
    pub(crate) fn refetch(&self, now: UnixSeconds) -> Refetch {
        if !self.fetches_keys() {
            return Refetch::UnknownKey;
        }
        let has_keys = self.keys(now).is_some();
        let mut fetching = self.fetching();
        let finished = *self.finished.borrow();
        if fetching.is_running {
            return Refetch::Wait(finished);
        }
        let Some(last_start) = fetching.last_start else { return Refetch::Wait(finished) };
        // Without keys the background task tries by itself, after its backoff.
        if has_keys && last_start.elapsed() >= self.settings.unknown_kid_interval {
            fetching.is_running = true;
            self.wake.notify_one();
            return Refetch::Wait(finished);
        }
        if has_keys && fetching.failures == 0 {
            return Refetch::UnknownKey;
        }
        let wait = fetching.next.saturating_duration_since(Instant::now());
        Refetch::Unavailable(wait.clamp(Duration::from_secs(1), Duration::from_secs(60)))
    }

    /// Waits until more than `seen` fetches have finished, no longer than two of them may take.
    pub(crate) async fn wait_for_fetch(&self, seen: u64) {
        let mut finished = self.finished.subscribe();
        // The sender lives as long as this issuer.
        let _ = tokio::time::timeout(self.settings.timeout * 2, finished.wait_for(|n| *n > seen)).await;
    }

    /// How long until the next fetch is due.
    pub(super) fn next_fetch_in(&self) -> Duration {
        self.fetching().next.saturating_duration_since(Instant::now())
    }

    /// Notes the start of a fetch.
    pub(super) fn begin_fetch(&self) {
        let mut fetching = self.fetching();
        fetching.is_running = true;
        fetching.last_start = Some(Instant::now());
    }

    /// Takes fetched keys, as a whole or not at all.
    ///
    /// # Errors
    ///
    /// They cannot be used.
    pub(super) fn take_keys(&self, json: &Bytes, now: UnixSeconds) -> Result<(), String> {
        let known = self.keys.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = known.filter(|known| known.json == *json) {
            let KnownKeys { set, json, .. } = &*known;
            self.replace_keys(KnownKeys { set: Arc::clone(set), json: json.clone(), fetched_at: Some(now) });
            return Ok(());
        }
        let (set, left_out) = KeySet::parse(json, &self.settings.algorithms)?;
        let count = set.len();
        self.replace_keys(KnownKeys { set: Arc::new(set), json: json.clone(), fetched_at: Some(now) });
        self.generation.fetch_add(1, Ordering::Release);
        tracing::info!(issuer = self.settings.name, keys = count, "the issuer's keys are known");
        log_left_out(&self.settings.name, &left_out);
        Ok(())
    }

    fn replace_keys(&self, keys: KnownKeys) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(keys));
    }

    /// Notes the end of a fetch; the next one is due when its keys are no longer fresh, or after a backoff.
    pub(super) fn finish_fetch(&self, result: Result<Duration, String>, now: UnixSeconds) {
        let name = &self.settings.name;
        let (_, fetched_at) = self.key_state();
        let mut fetching = self.fetching();
        let wait = match result {
            Ok(fresh) => {
                count(&self.counters.fetched);
                if fetching.failures > 0 {
                    tracing::info!(issuer = name, "the issuer's keys can be fetched again");
                }
                (fetching.failures, fetching.last_error) = (0, None);
                fresh
            }
            Err(why) => {
                count(&self.counters.fetch_failed);
                fetching.failures = fetching.failures.saturating_add(1);
                let until_next = freshness::backoff(fetching.failures, self.settings.refresh_min);
                let stale = match fetched_at {
                    Some(at) => format!(
                        "the last ones are used, which are {} old",
                        humantime::format_duration(now.since(at))
                    ),
                    None => "its tokens get 503 until then".to_owned(),
                };
                if fetching.last_error.as_ref() != Some(&why) {
                    tracing::warn!(issuer = name, "the issuer's keys cannot be fetched: {why}; {stale}");
                }
                fetching.last_error = Some(why);
                until_next
            }
        };
        fetching.next = Instant::now() + wait;
        fetching.is_running = false;
        drop(fetching);
        self.finished.send_modify(|n| *n += 1);
    }

    fn fetching(&self) -> MutexGuard<'_, Fetching> {
        // Each field is set by itself, so a panic elsewhere leaves it consistent.
        self.fetching.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The keys that were kept on disk.
fn kept_keys(settings: &IssuerSettings, now: UnixSeconds) -> Option<KnownKeys> {
    let kept = key_cache::load(settings)?;
    match KeySet::parse(kept.jwks.as_bytes(), &settings.algorithms) {
        Ok((set, _)) => {
            // A clock that was set back must not make them younger than they can be.
            let fetched_at = Some(kept.fetched_at.min(now));
            Some(KnownKeys { set: Arc::new(set), json: kept.jwks.into(), fetched_at })
        }
        Err(why) => {
            tracing::warn!(issuer = settings.name, "kept keys are not used: the set {why}");
            None
        }
    }
}

fn log_left_out(issuer: &str, left_out: &[String]) {
    const MAX_LINES: usize = 10;
    for why in left_out.iter().take(MAX_LINES) {
        tracing::warn!(issuer, "a key of the issuer is not used: {why}");
    }
    if left_out.len() > MAX_LINES {
        tracing::warn!(issuer, more = left_out.len() - MAX_LINES, "further keys of the issuer are not used");
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
