//! Keys that signed before and only verify: loading them, and until when they do.
//!
//! Only the first instance that sees a key as a previous one knows when it stopped signing, so that time is kept in a file
//! (`previous.json` in `tokens.keys_dir`): restarts do not prolong it, and instances with one folder agree.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::key_record::{KeyRole, LoadedKey};
use super::key_ring::{Access, KeyError, read_key_file};
use super::key_store::{KeyState, KeyStore};
use super::public_key::VerificationKey;
use super::{UnixSeconds, verifies_for};
use crate::config::{Algorithm, PreviousKey, Tokens};

/// The file's name.
pub(super) const FILE: &str = "previous.json";

/// When keys stopped signing, by their ids.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoppedSigning {
    stopped_signing_at: BTreeMap<String, UnixSeconds>,
}

impl StoppedSigning {
    /// What the folder's file says; nothing where there is none.
    pub(super) fn read(dir: &Path) -> Result<StoppedSigning, KeyError> {
        let path = dir.join(FILE);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|e| KeyError::BadManifest { path, reason: e.to_string() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(StoppedSigning::default()),
            Err(source) => Err(KeyError::Store { dir: dir.to_owned(), source }),
        }
    }

    /// Notes that `previous` keys have stopped, `just_now` or earlier, and that `signing` ones have not.
    fn note<'k>(
        &mut self,
        previous: impl Iterator<Item = &'k VerificationKey>,
        signing: &[VerificationKey],
        just_now: impl Fn(&str) -> bool,
        now: UnixSeconds,
    ) {
        for key in signing {
            self.stopped_signing_at.remove(key.record.id());
        }
        for key in previous {
            let id = key.record.id();
            let at = self.stopped_signing_at.entry(id.to_owned()).or_insert(now);
            // Another clock may be ahead, and a key would verify for too long.
            *at = if just_now(id) { now } else { (*at).min(now) };
        }
    }
}

/// The previous keys that still verify, and the ids of those that do so no more.
pub(super) struct Loaded {
    pub(super) keys: Vec<VerificationKey>,
    pub(super) expired: Vec<String>,
}

/// Loads the previous keys of a configuration; `signing` are those that it signs with, and `last` those that were loaded
/// before.
pub(super) fn load(
    tokens: &Tokens,
    signing: &[VerificationKey],
    last: &[LoadedKey],
    now: UnixSeconds,
    access: Access,
) -> Result<Loaded, KeyError> {
    let dir = &tokens.previous.dir;
    let mut keys: Vec<VerificationKey> = Vec::new();
    for previous in &tokens.previous.keys {
        let key = match previous {
            PreviousKey::Secret { algorithm, secret } => VerificationKey::of_secret(*algorithm, secret),
            PreviousKey::File { algorithms, path } => {
                let text = read_key_file(path)?;
                let unfit = |reason| KeyError::NotPrevious { path: path.clone(), reason };
                VerificationKey::of_pem(&text, algorithms).map_err(unfit)?
            }
            PreviousKey::Kept { algorithm, dir } => {
                keys.extend(kept(*algorithm, dir, tokens, now, access)?);
                continue;
            }
        };
        keys.push(key);
    }
    // A key that signs may be named here as well: beforehand on all instances, so that each knows it when the first one signs.
    let mut seen = Vec::new();
    keys.retain(|key| {
        let id = key.record.id().to_owned();
        let is_new = !signing.iter().any(|other| other.record.id() == id) && !seen.contains(&id);
        seen.push(id);
        is_new
    });
    let stopped = remembered(dir, &keys, signing, last, now, access)?;
    for key in &mut keys {
        if let KeyRole::Signing { from } = key.role {
            let at = stopped.stopped_signing_at.get(key.record.id()).copied().unwrap_or(now);
            let until = at.saturating_add(tokens.previous_grace).saturating_add(verifies_for(tokens));
            key.role = KeyRole::Previous { from, stopped_at: at, until };
        }
    }
    let is_expired =
        |key: &VerificationKey| matches!(key.role, KeyRole::Previous { until, .. } if until <= now);
    let expired = keys.iter().filter(|key| is_expired(key)).map(|key| key.record.id().to_owned()).collect();
    keys.retain(|key| !is_expired(key));
    Ok(Loaded { keys, expired })
}

/// The managed keys for an algorithm that is no longer the configured one.
fn kept(
    algorithm: Algorithm,
    dir: &Path,
    tokens: &Tokens,
    now: UnixSeconds,
    access: Access,
) -> Result<Vec<VerificationKey>, KeyError> {
    let store = KeyStore::open_for(dir, access)?;
    if access == Access::Use {
        store.retire_all(algorithm, now)?;
    }
    let stored = store.list()?;
    let mut keys = Vec::new();
    for key in stored.iter().filter(|key| key.algorithm == algorithm && key.state != KeyState::Next) {
        let mut public = store.public_key(key)?;
        public.role = key.role(verifies_for(tokens));
        if let KeyRole::Signing { from } = public.role {
            // Retired by the gateway when it starts with this configuration.
            let until = now.saturating_add(verifies_for(tokens));
            public.role = KeyRole::Previous { from, stopped_at: now, until };
        }
        keys.push(public);
    }
    Ok(keys)
}

/// When the keys stopped signing. Where that cannot be written, it is what was loaded before, and a restart begins anew.
fn remembered(
    dir: &Path,
    keys: &[VerificationKey],
    signing: &[VerificationKey],
    last: &[LoadedKey],
    now: UnixSeconds,
    access: Access,
) -> Result<StoppedSigning, KeyError> {
    // Managed keys have their own list.
    let configured = || keys.iter().filter(|key| matches!(key.role, KeyRole::Signing { .. }));
    let signed_until_now = |id: &str| {
        let before = last.iter().find(|key| key.record.id() == id);
        before.is_some_and(|key| matches!(key.role, KeyRole::Signing { .. }))
    };
    if configured().next().is_none() && (access == Access::Examine || !dir.join(FILE).exists()) {
        return Ok(StoppedSigning::default());
    }
    if access == Access::Examine {
        return StoppedSigning::read(dir);
    }
    let write = || {
        let store = KeyStore::open(dir)?;
        let mut stopped = StoppedSigning::read(dir)?;
        let before = serde_json::to_vec_pretty(&stopped).unwrap_or_default();
        stopped.note(configured(), signing, signed_until_now, now);
        let after = serde_json::to_vec_pretty(&stopped).unwrap_or_default();
        if after != before {
            store.write(&dir.join(FILE), &after)?;
        }
        Ok(stopped)
    };
    write().or_else(|error| match error {
        KeyError::Store { .. } => {
            tracing::warn!(
                %error,
                "when the previous keys stopped signing cannot be remembered: each restart lets them verify for longer"
            );
            let mut stopped = StoppedSigning::default();
            let since_last = last.iter().filter_map(|key| match key.role {
                KeyRole::Previous { stopped_at: at, .. } => Some((key.record.id().to_owned(), at)),
                _ => None,
            });
            stopped.stopped_signing_at.extend(since_last);
            stopped.note(configured(), signing, signed_until_now, now);
            Ok(stopped)
        }
        error => Err(error),
    })
}
