//! DNS: periodic resolution of upstream names while requests are served.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::task::spawn_local;

use super::cluster::{Upstream, addresses_of, millis, name_of};
use crate::net::is_localhost;

/// Retry interval for a name that has not resolved.
const RESOLVE_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Resolves the names of an upstream in the background, unless that is running already. A failure changes
/// nothing.
pub(super) fn resolve(upstream: &Arc<Upstream>) {
    if upstream.resolving.swap(true, Ordering::Relaxed) {
        return;
    }
    let upstream = Arc::clone(upstream);
    spawn_local(async move {
        let mut found = HashMap::new();
        for (place, url) in upstream.settings.urls.iter().enumerate() {
            let Some(name) = name_of(url) else { continue };
            match lookup_host(name).await {
                Ok(addresses) => {
                    if upstream.record_unresolved(place, false) {
                        tracing::info!(
                            upstream = upstream.name(),
                            name = name.0,
                            "the name can be looked up again"
                        );
                    }
                    found.insert(place, addresses_of(name.0, name.1, addresses));
                }
                Err(_) if is_localhost(name.0) => {
                    found.insert(place, addresses_of(name.0, name.1, std::iter::empty()));
                }
                // Once, not at every attempt.
                Err(error) if upstream.record_unresolved(place, true) => {
                    tracing::warn!(upstream = upstream.name(), name = name.0, %error, "a name cannot be looked up; the servers that were known stay");
                }
                Err(_) => {}
            }
        }
        let now = millis();
        upstream.update(&found, now);
        let wait = match upstream.endpoints().is_empty() {
            true => RESOLVE_RETRY_INTERVAL.min(upstream.settings.resolve_interval),
            false => upstream.settings.resolve_interval,
        };
        upstream.resolve_at.store(now + wait.as_millis() as u64, Ordering::Relaxed);
        upstream.resolving.store(false, Ordering::Relaxed);
    });
}
