//! What `check` opens as a start would: the store, the key folder, and the addresses.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use tokio::runtime::Builder;

use super::healthcheck::is_running;
use crate::config::{AuditTarget, Settings, Signing, Store};
use crate::file_owner::{folder_of, may_create_in};
use crate::issuers;
use crate::server::{open_redis, unusable_addresses};
use crate::sessions::examine_state_file;

/// What would fail.
pub(super) struct Finding {
    /// The key that it concerns.
    pub(super) key: Cow<'static, str>,
    pub(super) message: String,
    /// The name of the warning, where the cause may be gone by the time of the start.
    pub(super) warning: Option<&'static str>,
}

fn stop(key: &'static str, message: impl ToString) -> Finding {
    Finding { key: key.into(), message: message.to_string(), warning: None }
}

/// Why the audit trail could not be written, without creating its file.
fn unusable_audit_output(settings: &Settings) -> Option<Finding> {
    let audit = &settings.audit;
    let (key, path, failed) = match (audit.target, &audit.file) {
        (AuditTarget::File, Some(path)) => {
            let failed = match path.exists() {
                true => File::options().append(true).open(path).err(),
                false => may_create_file_in(folder_of(path)).err(),
            };
            ("audit.file", path, failed)
        }
        (AuditTarget::Syslog, _) => {
            ("audit.syslog_socket", &audit.syslog_socket, connect(&audit.syslog_socket).err())
        }
        (AuditTarget::Journald, _) => {
            ("audit.journald_socket", &audit.journald_socket, connect(&audit.journald_socket).err())
        }
        _ => return None,
    };
    let remedy = "correct the path, or let the account of the gateway write there";
    let why = |error| {
        format!("`{key}`: the audit trail cannot be written to {}: {error}; {remedy}", path.display())
    };
    failed.map(|error| stop(key, why(error)))
}

fn may_create_file_in(folder: &Path) -> io::Result<()> {
    std::fs::metadata(folder)?;
    may_create_in(folder)
}

fn connect(path: &Path) -> io::Result<()> {
    UnixDatagram::unbound()?.connect(path)
}

/// Opens everything without changing or taking anything.
pub(super) fn run(settings: &Settings) -> Vec<Finding> {
    let mut found = Vec::new();
    match &settings.store {
        Store::Memory => {}
        Store::Embedded { path } => {
            found.extend(examine_state_file(path).err().map(|error| stop("store.path", error)));
        }
        Store::Redis(redis) => {
            let runtime = Builder::new_current_thread().enable_all().build();
            let opened =
                runtime.map_err(|e| e.to_string()).and_then(|runtime| open_redis(&runtime, settings));
            if let Err(message) = opened {
                let warning = (!redis.required_at_start).then_some("store-unavailable");
                let message = format!("{message}; start Redis, or correct the address");
                found.push(Finding { key: "store.redis.url".into(), message, warning });
            }
        }
    }
    if let Signing::Kept { dir, .. } = &settings.tokens.signing
        && let Err(error) = may_create_in(dir)
    {
        found.push(stop("tokens.keys_dir", format!("`tokens.keys_dir`: keys cannot be kept in {}: {error}; name a folder that the account of the gateway may write to", dir.display())));
    }
    match issuers::probe(&settings.issuers) {
        Ok(unreachable) => found.extend(unreachable.into_iter().map(|(index, why)| Finding {
            key: format!("issuers[{index}].issuer").into(),
            message: format!("the issuer's keys cannot be fetched: {why}"),
            warning: Some("issuer-unreachable"),
        })),
        Err(error) => found.push(stop("issuers", error)),
    }
    let caches = settings.issuers.iter().enumerate().filter(|(_, issuer)| issuer.keys.url().is_some());
    found.extend(caches.filter_map(|(index, issuer)| {
        let (error, dir) = (may_create_in(&issuer.cache_dir).err()?, issuer.cache_dir.display());
        let key = format!("issuers[{index}].cache_dir");
        let message = format!("`{key}`: the last keys of the issuer cannot be kept in {dir}: {error}; name a folder that the account of the gateway may write to");
        Some(Finding { key: key.into(), message, warning: Some("issuer-cache") })
    }));
    found.extend(unusable_audit_output(settings));
    for (key, error) in unusable_addresses(settings) {
        match error.is_in_use() {
            // A running gateway with this configuration has them, and keeps them.
            true if is_running(settings) => {}
            // As `nginx -t`: the start may come later, or on another machine.
            true => {
                found.push(Finding { warning: Some("address-in-use"), ..stop(key, error) });
            }
            false => found.push(stop(key, error)),
        }
    }
    found
}
