//! Hot reload: the configuration is loaded and validated as a whole while requests go on, and then replaces
//! the active one atomically; on any error nothing changes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::now_seconds;
use crate::config::{
    Audit, ConfigValues, Diagnostic, Diagnostics, FileSnapshot, Loaded, Settings, Source, needs_restart,
};
use crate::runtime::Gateway;
use crate::runtime_config::{KeyChange, RuntimeConfig, RuntimeConfigError};
use crate::server::background_tasks::log_users_reload;
use crate::server::key_maintenance::KeyState;
use crate::server::lifecycle::policy;
use crate::telemetry::AuditEvent;

/// Retry interval of a reload that failed.
const RELOAD_RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Reloads the configuration of a running gateway.
pub(crate) struct Reloader {
    pub(super) gateway: Arc<Gateway>,
    source: Source,
    state: Mutex<State>,
}

impl std::fmt::Debug for Reloader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloader").finish_non_exhaustive()
    }
}

pub(super) struct State {
    /// The values of the active configuration.
    given: ConfigValues,
    /// State of its files before they were read.
    active: FileSnapshot,
    /// State of the files when they were last read, successfully or not.
    last_read: FileSnapshot,
    /// State of the files at the last poll.
    last_polled: FileSnapshot,
    /// When the last reload failed, if it did.
    failed_at: Option<Instant>,
    pub(super) keys: KeyState,
}

/// The outcome of a reload.
enum Outcome {
    /// Nothing has changed.
    Same,
    /// One line per change.
    Changed(Vec<String>),
    /// The active configuration stays as a whole; these are the errors.
    Rejected(Rejection),
}

/// Why a configuration cannot be used.
struct Rejection {
    /// For people, with the lines of the files.
    text: String,
    /// One log record per error.
    records: Vec<String>,
}

impl From<Diagnostics> for Rejection {
    fn from(errors: Diagnostics) -> Self {
        Rejection { text: errors.to_string(), records: errors.iter().map(Diagnostic::record).collect() }
    }
}

impl From<RuntimeConfigError> for Rejection {
    fn from(error: RuntimeConfigError) -> Self {
        let text = error.to_string();
        Rejection { records: text.lines().map(str::to_owned).collect(), text: format!("error: {text}") }
    }
}

impl Reloader {
    /// `loaded` is the active configuration; `seen` is the state of its files before they were read, and `key_lists` that of
    /// the key folders.
    pub(crate) fn new(
        gateway: Arc<Gateway>,
        source: Source,
        loaded: Loaded,
        seen: FileSnapshot,
        key_lists: FileSnapshot,
    ) -> Reloader {
        // The first start generates keys, which are active already.
        let seen = seen.with_new_files();
        let state = State {
            given: loaded.given,
            last_polled: seen.clone(),
            last_read: seen.clone(),
            active: seen,
            failed_at: None,
            keys: KeyState::new(key_lists),
        };
        Reloader { gateway, source, state: Mutex::new(state) }
    }

    /// Polls the files, and reloads if one has changed since they were read and none since the last poll
    /// (debounce: a file that is being written in place is not read half). A failed reload is retried at
    /// intervals, as its cause may lie outside the watched files. Blocking.
    pub(crate) fn poll_changes(&self) {
        let mut state = self.state();
        let now = state.last_read.retake();
        let settled = std::mem::replace(&mut state.last_polled, now.clone()) == now;
        let again = state.failed_at.is_some_and(|at| at.elapsed() >= RELOAD_RETRY_INTERVAL);
        if settled && (now != state.last_read || again) {
            let is_retry = now == state.last_read;
            state.last_read = now;
            let known = self.gateway.configuration.last_error();
            match self.read(&mut state, is_retry) {
                Outcome::Rejected(why) if known.as_ref() == Some(&why.text) => {}
                outcome => log_outcome(&outcome),
            }
        }
    }

    /// Reloads, whether files have changed or not. Blocking.
    pub(crate) fn reload(&self) {
        let mut state = self.state();
        state.last_read = state.last_read.retake();
        log_outcome(&self.read(&mut state, false));
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // The active values are replaced last, so a panic elsewhere leaves them consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A retry of unchanged files that fails is not counted again.
    fn read(&self, state: &mut State, is_retry: bool) -> Outcome {
        let outcome = self.try_read(state);
        let error = outcome.as_ref().err().map(|why| why.text.clone());
        if !is_retry || error.is_none() || error != self.gateway.configuration.last_error() {
            self.gateway.configuration.record_reload(error);
        }
        state.failed_at = outcome.is_err().then(Instant::now);
        match outcome {
            Ok(lines) if lines.is_empty() => Outcome::Same,
            Ok(lines) => Outcome::Changed(lines),
            Err(why) => Outcome::Rejected(why),
        }
    }

    /// One line per change, or the errors.
    fn try_read(&self, state: &mut State) -> Result<Vec<String>, Rejection> {
        let (Loaded { mut settings, warnings, given }, seen) = self.source.read()?;
        // The files may be others than before, and a failure below may be caused by them.
        state.last_read = seen.clone();
        let last = self.gateway.configuration.current();
        keep_restart_only_settings(&mut settings, &last.settings);
        let snapshot = RuntimeConfig::load_after(settings, now_seconds(), &last)?;
        // From here on nothing can fail.
        for warning in &warnings {
            tracing::warn!("{}", warning.record());
        }
        log_users_reload(&snapshot.users.reload());
        let (late, applied): (Vec<_>, Vec<_>) =
            state.given.differences(&given).into_iter().partition(|key| needs_restart(key));
        for key in &late {
            tracing::warn!(%key, "config_restart_required: the change takes effect after a restart");
        }
        let files = seen.changed_since(&state.active).into_iter();
        let mut lines: Vec<String> = applied.into_iter().chain(late).collect();
        lines.extend(files.map(|path| format!("the file {}", path.display())));
        let keys = snapshot.key_changes(&last);
        audit_key_changes(&keys);
        lines.extend(keys.iter().map(ToString::to_string));
        self.gateway.sessions.set_policy(policy(&snapshot.settings));
        let snapshot = Arc::new(snapshot);
        self.gateway.configuration.replace(Arc::clone(&snapshot));
        self.gateway.passwords.clear();
        state.keys.end_revoked(&last, &snapshot, now_seconds());
        (state.given, state.active) = (given, seen);
        Ok(lines)
    }
}

/// Writes an audit event for each key that came or went.
pub(super) fn audit_key_changes(changes: &[KeyChange]) {
    for change in changes {
        AuditEvent::new("key", change.outcome(), change.id()).write();
    }
}

/// Keeps the values of settings that need a restart.
fn keep_restart_only_settings(settings: &mut Settings, last: &Settings) {
    settings.server.listen = last.server.listen;
    settings.server.workers = last.server.workers;
    settings.server.redirect_listen = last.server.redirect_listen;
    settings.admin = last.admin.clone();
    settings.store = last.store.clone();
    settings.throttle = last.throttle.clone();
    settings.log = last.log.clone();
    settings.tracing.otlp = last.tracing.otlp.clone();
    settings.audit = Audit { refusals: settings.audit.refusals, ..last.audit.clone() };
    settings.reload = last.reload;
    settings.limits.hash_threads = last.limits.hash_threads;
    settings.limits.hash_queue = last.limits.hash_queue;
}

/// Logs the outcome, one record per change or error.
fn log_outcome(outcome: &Outcome) {
    match outcome {
        Outcome::Same => tracing::info!("the configuration was reloaded: nothing has changed"),
        Outcome::Changed(lines) => {
            let count = Some(lines.len() as u64);
            AuditEvent { count, ..AuditEvent::new("reload", "success", "configuration") }.write();
            tracing::info!(changes = lines.len(), "the configuration was reloaded");
            lines.iter().for_each(|line| tracing::info!("changed: {line}"));
        }
        Outcome::Rejected(why) => {
            AuditEvent::new("reload", "rejected", "configuration").write();
            tracing::error!("the configuration cannot be used; the active configuration stays");
            why.records.iter().for_each(|record| tracing::error!("{record}"));
        }
    }
}
