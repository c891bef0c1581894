//! Keys in a running gateway: they are loaded anew when the key folder changes or a key's time is over, whether the
//! configuration is watched or not. By the schedule they are published and rotated, and what is over is removed. It is logged
//! when a key begins to sign.

use std::path::PathBuf;
use std::sync::Arc;

use crate::clock::now_seconds;
use crate::config::{Algorithm, FileSnapshot, PreviousKey, Settings, Signing, UpstreamAssertion};
use crate::runtime_config::RuntimeConfig;
use crate::server::reload::{Reloader, audit_key_changes};
use crate::telemetry::AuditEvent;
use crate::tokens::{
    KeyRole, KeyStore, LoadedKey, Rules, Schedule, Step, UnixSeconds, assertion_keys_dir, verifies_for,
};

/// What is known of the keys since the last poll.
pub(super) struct KeyState {
    /// The lists of the key folders when the keys were loaded.
    lists: FileSnapshot,
    /// The key that was logged to sign.
    signs: Option<String>,
    last_error: Option<String>,
    /// When managed keys signed that were revoked since: the sessions of that time are over.
    revoked: Vec<RevokedTime>,
}

/// The time in which a revoked key signed.
#[derive(Debug, Clone)]
pub(crate) struct RevokedTime {
    pub(crate) key: String,
    pub(crate) from: UnixSeconds,
    pub(crate) to: UnixSeconds,
}

impl KeyState {
    /// `lists` is their state before the keys were loaded.
    pub(super) fn new(lists: FileSnapshot) -> KeyState {
        KeyState { lists, signs: None, last_error: None, revoked: Vec::new() }
    }

    /// Ends what the keys signed that were in `last` and are gone in `next`, before it has expired: streams by themselves, and
    /// sessions where it is known from when the key signed.
    pub(super) fn end_revoked(&mut self, last: &RuntimeConfig, next: &RuntimeConfig, now: UnixSeconds) {
        for key in next.revoked_since(last, now) {
            key.record.revoke();
            let (from, to) = match key.role {
                KeyRole::Signing { from } => (from, now),
                KeyRole::Previous { from, stopped_at, .. } => (from, stopped_at.min(now)),
                KeyRole::Next => continue,
            };
            let id = key.record.id();
            tracing::warn!(key = id, "the key was taken away: what it signed is refused");
            if from > UnixSeconds::default() {
                self.revoked.push(RevokedTime { key: id.to_owned(), from, to });
            }
        }
    }
}

impl Reloader {
    /// Loads the keys anew if they have changed or one has expired, and logs what has changed. Blocking.
    pub(crate) fn maintain_keys(&self) {
        let mut state = self.state();
        let last = self.gateway.configuration.current();
        let now = now_seconds();
        let folders = managed_folders(&last.settings);
        let mut errors = correct_times(&folders, &last.keys, now);
        errors.extend(maintain_folders(&folders, now));
        let lists = lists_of(&folders);
        if state.keys.lists != lists
            || last.keys.iter().any(|key| key.until().is_some_and(|until| until <= now))
        {
            match last.with_new_keys(now) {
                Ok(next) => {
                    let changes = next.key_changes(&last);
                    audit_key_changes(&changes);
                    changes.iter().for_each(|change| tracing::info!("{change}"));
                    let next = Arc::new(next);
                    self.gateway.configuration.replace(Arc::clone(&next));
                    state.keys.end_revoked(&last, &next, now);
                    state.keys.lists = lists;
                }
                // Tried again at the next poll.
                Err(error) => errors.push(format!("{error}; the active keys stay")),
            }
        }
        let error = (!errors.is_empty()).then(|| errors.join("; "));
        if let Some(error) = error.as_ref().filter(|error| state.keys.last_error.as_ref() != Some(error)) {
            tracing::error!("the keys cannot be maintained: {error}");
        }
        state.keys.last_error = error;
        self.log_signing_key(&mut state.keys, now);
    }

    /// The times of revoked keys whose sessions have to be ended, once.
    pub(crate) fn take_revoked(&self) -> Vec<RevokedTime> {
        std::mem::take(&mut self.state().keys.revoked)
    }

    /// Returns times whose sessions could not be ended, for another attempt.
    pub(crate) fn retry_revoked(&self, time: RevokedTime) {
        self.state().keys.revoked.push(time);
    }

    fn log_signing_key(&self, state: &mut KeyState, now: UnixSeconds) {
        let config = self.gateway.configuration.current();
        let Some(key) = config.issuer.signs_with(now) else { return };
        if state.signs.as_deref() != Some(key.id()) {
            tracing::info!(key = key.id(), algorithm = key.algorithm().name(), "the key begins to sign");
            AuditEvent::new("key", "signing", key.id()).write();
            state.signs = Some(key.id().to_owned());
        }
    }
}

/// Corrects what commands have written by another clock; returns what failed. `keys` are those that are in use.
fn correct_times(folders: &[(PathBuf, Rules)], keys: &[LoadedKey], now: UnixSeconds) -> Vec<String> {
    let signs = |kid: &str| {
        keys.iter().any(|key| key.record.id() == kid && matches!(key.role, KeyRole::Signing { .. }))
    };
    let mut errors = Vec::new();
    for (dir, _) in folders {
        match KeyStore::correct_times(dir, signs, now) {
            Ok(false) => {}
            Ok(true) => tracing::warn!(
                keys_dir = %dir.display(),
                "keys were changed by a process whose clock differs from this gateway's: their times were corrected"
            ),
            Err(error) => errors.push(error.to_string()),
        }
    }
    errors
}

/// Publishes, rotates and removes keys in the folders with managed keys; returns what failed.
fn maintain_folders(folders: &[(PathBuf, Rules)], now: UnixSeconds) -> Vec<String> {
    let mut errors = Vec::new();
    for (dir, rules) in folders {
        match KeyStore::maintain(dir, rules, now) {
            Ok(steps) => steps.iter().for_each(log_step),
            Err(error) => errors.push(error.to_string()),
        }
    }
    errors
}

fn log_step(step: &Step) {
    match step {
        Step::Publish => tracing::info!("the next key was published by the schedule"),
        Step::Rotate => tracing::info!("the keys were rotated by the schedule"),
        Step::Drop(key) => {
            tracing::info!(key, "the last token of a retired key has expired: the key was removed")
        }
        Step::RemovePrivateHalf(key) => tracing::info!(key, "the private half of a retired key was removed"),
    }
}

/// The folders with managed keys, and how they are kept.
fn managed_folders(settings: &Settings) -> Vec<(PathBuf, Rules)> {
    let tokens = &settings.tokens;
    let schedule = tokens
        .key_rotation
        .every
        .map(|every| Schedule { every, publish_before: tokens.key_rotation.publish_before });
    let lifetime = verifies_for(tokens);
    let signing = match &tokens.signing {
        Signing::Kept { algorithm, dir } => {
            Some((dir.clone(), Rules { algorithm: *algorithm, schedule, lifetime }))
        }
        Signing::Secret { .. } | Signing::PrivateKeyFile { .. } => None,
    };
    let previous = tokens.previous.keys.iter().filter_map(|key| match key {
        PreviousKey::Kept { algorithm, dir } => {
            Some((dir.clone(), Rules { algorithm: *algorithm, schedule: None, lifetime }))
        }
        PreviousKey::Secret { .. } | PreviousKey::File { .. } => None,
    });
    let UpstreamAssertion { ttl, private_key_file, .. } = &settings.upstream_assertion;
    let assertions = (settings.has_assertions() && private_key_file.is_none()).then(|| {
        let lifetime = *ttl + tokens.leeway;
        (assertion_keys_dir(tokens), Rules { algorithm: Algorithm::EdDSA, schedule, lifetime })
    });
    signing.into_iter().chain(previous).chain(assertions).collect()
}

/// The state of the lists of all folders with managed keys.
pub(super) fn key_lists(settings: &Settings) -> FileSnapshot {
    lists_of(&managed_folders(settings))
}

fn lists_of(folders: &[(PathBuf, Rules)]) -> FileSnapshot {
    FileSnapshot::take(folders.iter().map(|(dir, _)| KeyStore::list_path(dir)))
}
