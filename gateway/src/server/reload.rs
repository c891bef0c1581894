//! Reading the configuration again while requests go on: everything is loaded and checked first, and then replaces what
//! was in force in one step; if anything is wrong, nothing changes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::{ConfigValues, FileSnapshot, Loaded, Settings, Source, needs_restart};
use crate::runtime::Gateway;
use crate::runtime_config::RuntimeConfig;
use crate::server::background_tasks::log_users_reload;
use crate::server::lifecycle::{policy, since_1970};

/// How often is tried again what could not be used.
const RELOAD_RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Follows the files of a running gateway's configuration.
pub(crate) struct Reloader {
    gateway: Arc<Gateway>,
    source: Source,
    state: Mutex<State>,
}

impl std::fmt::Debug for Reloader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloader").finish_non_exhaustive()
    }
}

struct State {
    /// What is in force, as it was given.
    given: ConfigValues,
    /// How its files looked before they were read.
    active: FileSnapshot,
    /// How files looked when they were last read, for good or ill.
    last_read: FileSnapshot,
    /// How they looked at the last look.
    last_polled: FileSnapshot,
    /// When what is in the files could not be used the last time.
    failed_at: Option<Instant>,
}

/// What a reload came to.
enum Outcome {
    /// Nothing has changed.
    Same,
    /// The lines say what.
    Changed(Vec<String>),
    /// What was in force stays, all of it; this is what is wrong.
    Rejected(String),
}

impl Reloader {
    /// `loaded` is in force, and was read after its files last_polled like `seen`.
    pub(crate) fn new(gateway: Arc<Gateway>, source: Source, loaded: Loaded, seen: FileSnapshot) -> Reloader {
        // The first start makes keys, and has them in force.
        let seen = seen.with_new_files();
        let state = State {
            given: loaded.given,
            last_polled: seen.clone(),
            last_read: seen.clone(),
            active: seen,
            failed_at: None,
        };
        Reloader { gateway, source, state: Mutex::new(state) }
    }

    /// Looks at the files, and reads them if one has changed since they were read and none since the last look: one that
    /// is being written in place is not read half. What could not be used is tried again now and then, for the reason
    /// may lie in what is not looked at. Blocks.
    pub(crate) fn poll_changes(&self) {
        let mut state = self.state();
        let now = state.last_read.retake();
        let settled = std::mem::replace(&mut state.last_polled, now.clone()) == now;
        let again = state.failed_at.is_some_and(|at| at.elapsed() >= RELOAD_RETRY_INTERVAL);
        if settled && (now != state.last_read || again) {
            state.last_read = now;
            let known = self.gateway.configuration.last_error();
            match self.read(&mut state) {
                Outcome::Rejected(what) if known.as_ref() == Some(&what) => {}
                outcome => log_outcome(&outcome),
            }
        }
    }

    /// Reads everything, whether it seems to have changed or not. Blocks.
    pub(crate) fn reload(&self) {
        let mut state = self.state();
        state.last_read = state.last_read.retake();
        log_outcome(&self.read(&mut state));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What is in force is replaced last, so it is whole even if a thread panicked beside it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, state: &mut State) -> Outcome {
        let outcome = self.try_read(state);
        self.gateway.configuration.record_reload(outcome.as_ref().err().cloned());
        state.failed_at = outcome.is_err().then(Instant::now);
        match outcome {
            Ok(lines) if lines.is_empty() => Outcome::Same,
            Ok(lines) => Outcome::Changed(lines),
            Err(what) => Outcome::Rejected(what),
        }
    }

    /// One line for each thing that has changed, or what is wrong.
    fn try_read(&self, state: &mut State) -> Result<Vec<String>, String> {
        let (Loaded { mut settings, warnings, given }, seen) =
            self.source.read().map_err(|errors| errors.to_string())?;
        // Its files may be others than those of the last one, and what follows may be their fault.
        state.last_read = seen.clone();
        let last = self.gateway.configuration.current();
        keep_restart_only_settings(&mut settings, &last.settings);
        let snapshot = RuntimeConfig::load_after(settings, since_1970().as_secs(), &last)
            .map_err(|error| format!("error: {error}"))?;
        // From here on nothing can fail.
        if !warnings.is_empty() {
            tracing::warn!("{}", warnings.to_string().trim_end());
        }
        log_users_reload(&snapshot.users.reload());
        let (late, applied): (Vec<_>, Vec<_>) =
            state.given.differences(&given).into_iter().partition(|key| needs_restart(key));
        for key in &late {
            tracing::warn!(%key, "config_restart_required: what has changed here is in force after a restart");
        }
        let files = seen.changed_since(&state.active).into_iter();
        let mut lines: Vec<String> = applied.into_iter().chain(late).collect();
        lines.extend(files.map(|path| format!("the file {}", path.display())));
        lines.extend(snapshot.key_changes(&last));
        self.gateway.sessions.set_policy(policy(&snapshot.settings));
        self.gateway.configuration.replace(Arc::new(snapshot));
        (state.given, state.active) = (given, seen);
        Ok(lines)
    }
}

/// Puts the values of the start in the places of those that came too late.
fn keep_restart_only_settings(settings: &mut Settings, last: &Settings) {
    settings.server.listen = last.server.listen;
    settings.server.workers = last.server.workers;
    settings.server.redirect_listen = last.server.redirect_listen;
    settings.admin = last.admin.clone();
    settings.store = last.store.clone();
    settings.throttle = last.throttle.clone();
    settings.log = last.log.clone();
    settings.reload = last.reload;
    settings.limits.hash_threads = last.limits.hash_threads;
    settings.limits.hash_queue = last.limits.hash_queue;
}

/// Logs what came of it, one line a thing.
fn log_outcome(outcome: &Outcome) {
    match outcome {
        Outcome::Same => tracing::info!("the configuration was read again: nothing has changed"),
        Outcome::Changed(lines) => {
            tracing::info!(changes = lines.len(), "the configuration was read again and is in force");
            lines.iter().for_each(|line| tracing::info!("changed: {line}"));
        }
        Outcome::Rejected(what) => {
            tracing::error!(
                "the configuration cannot be used; what was read before stays in force, all of it"
            );
            what.lines().for_each(|line| tracing::error!("{line}"));
        }
    }
}
