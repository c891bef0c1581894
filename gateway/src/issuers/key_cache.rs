//! The last keys of an issuer on disk, so that a restart works while the issuer cannot be reached.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::config::IssuerSettings;
use crate::file_owner::create_folder;
use crate::tokens::UnixSeconds;
use crate::users::replace_file::replace_file;

/// A kept JWK set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptKeys {
    issuer: String,
    /// The configured address of the set or of the discovery document.
    source: String,
    /// When it was fetched.
    pub(super) fetched_at: UnixSeconds,
    /// The set as it was sent.
    pub(super) jwks: String,
}

/// The file of an issuer's keys.
pub(super) fn path(issuer: &IssuerSettings) -> PathBuf {
    issuer.cache_dir.join(format!("{}.json", issuer.name))
}

fn source(issuer: &IssuerSettings) -> String {
    issuer.keys.url().map(Url::to_string).unwrap_or_default()
}

/// The kept keys of an issuer, if there are any of the same source.
pub(super) fn load(issuer: &IssuerSettings) -> Option<KeptKeys> {
    let path = path(issuer);
    let refuse = |why: String| tracing::warn!(issuer = issuer.name, path = %path.display(), "kept keys are not used: {why}");
    let content = match std::fs::read(&path) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            refuse(error.to_string());
            return None;
        }
    };
    match serde_json::from_slice::<KeptKeys>(&content) {
        Ok(kept) if kept.issuer == issuer.issuer && kept.source == source(issuer) => Some(kept),
        Ok(_) => None,
        Err(error) => {
            refuse(error.to_string());
            None
        }
    }
}

/// Keeps keys that were fetched at `fetched_at`. Blocking.
///
/// # Errors
///
/// The file cannot be written.
pub(super) fn save(issuer: &IssuerSettings, fetched_at: UnixSeconds, jwks: &[u8]) -> io::Result<()> {
    let jwks = String::from_utf8_lossy(jwks).into_owned();
    let kept = KeptKeys { issuer: issuer.issuer.clone(), source: source(issuer), fetched_at, jwks };
    create_folder(&issuer.cache_dir)?;
    replace_file(&path(issuer), &serde_json::to_vec(&kept).map_err(io::Error::other)?)
}
