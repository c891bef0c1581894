//! Connection limit per source network, so that one source cannot use up all connections.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::sessions::SourceNetwork;

/// The open connections of the whole process by source network. Used once per connection, never per request.
#[derive(Debug, Default)]
pub(crate) struct SourceLimiter {
    open: Mutex<HashMap<SourceNetwork, usize>>,
}

/// One connection counted against its source; released on drop.
#[derive(Debug)]
pub(crate) struct SourcePermit<'s> {
    sources: &'s SourceLimiter,
    source: SourceNetwork,
}

impl SourceLimiter {
    /// Counts one more connection of a source, unless it has `limit` already.
    pub(crate) fn enter(&self, source: SourceNetwork, limit: usize) -> Option<SourcePermit<'_>> {
        let mut open = self.lock();
        let count = open.entry(source).or_default();
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(SourcePermit { sources: self, source })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SourceNetwork, usize>> {
        // Each update is a single step, so a panic elsewhere leaves it consistent.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SourcePermit<'_> {
    fn drop(&mut self) {
        let mut open = self.sources.lock();
        if let Some(count) = open.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn source(address: &str) -> SourceNetwork {
        SourceNetwork::of(address.parse().unwrap())
    }

    #[test]
    fn a_source_has_so_many_places_and_gets_them_back() {
        let sources = SourceLimiter::default();
        let first = sources.enter(source("192.0.2.1"), 2).unwrap();
        let _second = sources.enter(source("192.0.2.1"), 2).unwrap();
        assert!(sources.enter(source("192.0.2.1"), 2).is_none());
        assert!(sources.enter(source("192.0.2.2"), 2).is_some(), "another source");
        drop(first);
        assert!(sources.enter(source("192.0.2.1"), 2).is_some());
    }

    #[test]
    fn sources_without_connections_are_forgotten() {
        let sources = SourceLimiter::default();
        drop(sources.enter(source("2001:db8::1"), 1));
        assert!(sources.lock().is_empty());
    }
}
