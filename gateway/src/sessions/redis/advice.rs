//! What in the settings of a Redis would lose sessions, told once for each server.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::dial::Connection;
use crate::config::RedisAddress;

/// Servers that were looked at.
static SEEN: Mutex<BTreeSet<RedisAddress>> = Mutex::new(BTreeSet::new());

/// Warns of settings that lose data. What the gateway's user may not ask for is not looked at.
pub(super) async fn look(address: RedisAddress, connection: Connection) {
    if !SEEN.lock().unwrap_or_else(PoisonError::into_inner).insert(address.clone()) {
        return;
    }
    let setting = async |name: &str| -> Option<String> {
        let mut question = redis::cmd("CONFIG");
        let answer: Vec<(String, String)> = connection.ask(question.arg("GET").arg(name)).await.ok()?;
        answer.into_iter().next().map(|(_, value)| value)
    };
    let (append_only, save) = (setting("appendonly").await, setting("save").await);
    let (policy, memory) = (setting("maxmemory-policy").await, setting("maxmemory").await);
    for warning in warnings(append_only.as_deref(), save.as_deref(), policy.as_deref(), memory.as_deref()) {
        tracing::warn!(%address, "Redis is set up to lose sessions: {warning}");
    }
}

fn warnings(
    append_only: Option<&str>,
    save: Option<&str>,
    policy: Option<&str>,
    memory: Option<&str>,
) -> Vec<String> {
    let mut warnings = Vec::new();
    match (append_only, save) {
        (Some("no"), Some("")) => warnings.push(
            "it writes nothing to disk, so a restart ends all sessions and forgets all locks; set `appendonly yes`".to_owned(),
        ),
        (Some("no"), Some(save)) => warnings.push(format!(
            "it writes to disk now and then only (save {save:?}), so a restart may bring ended sessions back; set `appendonly yes`"
        )),
        _ => {}
    }
    if let (Some(policy), Some(memory)) = (policy, memory)
        && policy != "noeviction"
        && memory != "0"
    {
        warnings.push(format!(
            "with maxmemory-policy {policy} it drops sessions and locks when its memory is full; set `maxmemory-policy noeviction`"
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_loses_data_is_warned_of() {
        let about = |append_only, save, policy, memory| {
            warnings(Some(append_only), Some(save), Some(policy), Some(memory)).join("\n")
        };
        assert_eq!(about("yes", "", "noeviction", "100"), "");
        assert_eq!(about("yes", "", "allkeys-lru", "0"), "", "memory without a limit is never full");
        assert!(about("no", "", "noeviction", "0").contains("writes nothing to disk"));
        assert!(about("no", "3600 1", "noeviction", "0").contains("now and then"));
        assert!(about("yes", "", "allkeys-lru", "100").contains("noeviction"));
        assert_eq!(
            warnings(None, None, None, None),
            Vec::<String>::new(),
            "what may not be asked is not known"
        );
    }
}
