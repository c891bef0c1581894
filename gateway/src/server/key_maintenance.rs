//! Keys in a running gateway: they are loaded anew when the key folder changes or a key's time is over, whether the
//! configuration is watched or not, and it is logged when a key begins to sign.

use std::path::PathBuf;
use std::sync::Arc;

use crate::clock::since_1970;
use crate::config::{FileSnapshot, PreviousKey, Settings, Signing};
use crate::server::reload::Reloader;
use crate::tokens::{KeyStore, UnixSeconds};

/// What is known of the keys since the last look.
#[derive(Default)]
pub(super) struct KeyState {
    /// The lists of the key folders when the keys were loaded.
    lists: Option<FileSnapshot>,
    /// The key that was logged to sign.
    signs: Option<String>,
    last_error: Option<String>,
}

impl Reloader {
    /// Loads the keys anew if they have changed or one has expired, and logs what has changed. Blocking.
    pub(crate) fn maintain_keys(&self) {
        let mut state = self.state();
        let last = self.gateway.configuration.current();
        let now = since_1970().as_secs();
        let lists = FileSnapshot::take(key_lists(&last.settings).into_iter());
        // At the first look as well: the folder may have changed since the start read it.
        let is_changed = state.keys.lists.as_ref() != Some(&lists);
        if is_changed || last.keys.iter().any(|key| key.until().is_some_and(|until| until <= now)) {
            match last.with_new_keys(now) {
                Ok(next) => {
                    next.key_changes(&last).iter().for_each(|change| tracing::info!("{change}"));
                    self.gateway.configuration.replace(Arc::new(next));
                    state.keys.last_error = None;
                }
                Err(error) => {
                    let error = error.to_string();
                    if state.keys.last_error.as_ref() != Some(&error) {
                        tracing::error!(error, "the keys cannot be loaded; the active keys stay");
                    }
                    state.keys.last_error = Some(error);
                }
            }
        }
        state.keys.lists = Some(lists);
        self.log_signing_key(&mut state.keys, now);
    }

    fn log_signing_key(&self, state: &mut KeyState, now: UnixSeconds) {
        let config = self.gateway.configuration.current();
        let Some(key) = config.issuer.signs_with(now) else { return };
        if state.signs.as_deref() != Some(key.id()) {
            tracing::info!(key = key.id(), algorithm = key.algorithm().name(), "the key begins to sign");
            state.signs = Some(key.id().to_owned());
        }
    }
}

/// The lists of the folders with managed keys.
fn key_lists(settings: &Settings) -> Vec<PathBuf> {
    let tokens = &settings.tokens;
    let signing = match &tokens.signing {
        Signing::Kept { dir, .. } => Some(dir),
        Signing::Secret { .. } | Signing::PrivateKeyFile { .. } => None,
    };
    let previous = tokens.previous.keys.iter().filter_map(|key| match key {
        PreviousKey::Kept { dir, .. } => Some(dir),
        PreviousKey::Secret { .. } | PreviousKey::File { .. } => None,
    });
    signing.into_iter().chain(previous).map(|dir| KeyStore::list_path(dir)).collect()
}
