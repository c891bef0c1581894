//! Checks for Redis server settings that would lose sessions (eviction, persistence), logged once per server.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::connect::Connection;
use crate::config::RedisAddress;

/// The servers that were checked.
#[derive(Debug, Default)]
pub(super) struct SettingsCheck {
    checked: Mutex<BTreeSet<RedisAddress>>,
}

impl SettingsCheck {
    /// Logs warnings about settings that lose data, as far as ACLs allow reading them.
    pub(super) async fn check_settings(&self, address: &RedisAddress, connection: &Connection) {
        if !self.checked.lock().unwrap_or_else(PoisonError::into_inner).insert(address.clone()) {
            return;
        }
        let Ok(info) = connection.query::<String>(&redis::cmd("INFO")).await else { return };
        for warning in warnings(&info) {
            tracing::warn!(%address, "Redis is set up to lose sessions: {warning}");
        }
    }
}

/// The warnings that follow from the response to INFO.
fn warnings(info: &str) -> Vec<&'static str> {
    let figure = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let mut warnings = Vec::new();
    if figure("aof_enabled") == Some("0") {
        warnings.push(
            "a restart loses what was changed since the last snapshot: sessions end, ended ones come back, and locks are \
             forgotten; set `appendonly yes`",
        );
    }
    let is_limited = figure("maxmemory").is_some_and(|bytes| bytes != "0");
    if is_limited && figure("maxmemory_policy").is_some_and(|policy| policy != "noeviction") {
        warnings
            .push("when its memory is full it drops sessions and locks; set `maxmemory-policy noeviction`");
    }
    // Present only where the number of replicas matters.
    let has_replicas = figure("connected_slaves").is_some_and(|count| count != "0");
    if has_replicas && figure("min_slaves_good_slaves").is_none() {
        warnings.push(
            "a master that is cut off from its replicas goes on taking changes that a failover loses; set \
             `min-replicas-to-write 1`",
        );
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_loses_data_is_warned_of() {
        let about = |lines: &[&str]| warnings(&lines.join("\r\n")).join("\n");
        assert_eq!(
            about(&["aof_enabled:1", "maxmemory:0", "maxmemory_policy:allkeys-lru", "connected_slaves:0"]),
            ""
        );
        assert_eq!(about(&["maxmemory:100", "maxmemory_policy:noeviction"]), "");
        assert_eq!(about(&["connected_slaves:1", "min_slaves_good_slaves:1"]), "");
        assert_eq!(about(&[]), "", "what may not be asked is not known");
        assert!(about(&["aof_enabled:0"]).contains("appendonly yes"));
        assert!(about(&["maxmemory:100", "maxmemory_policy:allkeys-lru"]).contains("noeviction"));
        assert!(about(&["connected_slaves:2"]).contains("min-replicas-to-write"));
    }
}
