//! Other issuers, whose tokens routes may accept beside the gateway's own: their keys, verification, and what their claims mean here.
//!
//! One background task for each issuer fetches its keys; workers verify with what is known, and wait for a fetch only where a token is
//! signed by a key that is not.

mod address;
mod claims;
mod discovery;
mod fetch;
mod freshness;
mod introspection;
mod jwks;
mod jwt;
mod key_cache;
mod other_issuer;
mod refresh;
#[cfg(test)]
mod test_support;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::config::{IssuerSettings, OWN_ISSUER};
use crate::telemetry::IssuerState;
use crate::tokens::UnixSeconds;

pub(crate) use claims::Accepted;
pub(crate) use introspection::{Introspected, Verdict};
pub(crate) use jwt::{Jws, JwtError};
pub(crate) use other_issuer::{OtherIssuer, Refetch};
pub(crate) use refresh::run_background_tasks;

/// An issuer of the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the issuer {name}: {why}")]
pub struct IssuerError {
    /// Its name.
    pub name: String,
    /// Why not.
    pub why: String,
}

/// A set of issuers, the gateway itself among them: whose tokens a route accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IssuerSet(u64);

impl IssuerSet {
    /// The gateway alone.
    pub(crate) const OWN: IssuerSet = IssuerSet(1);

    /// The issuers with these names.
    pub(crate) fn of(names: &[String], issuers: &[IssuerSettings]) -> IssuerSet {
        let bit = |name: &String| match issuers.iter().position(|issuer| issuer.name == *name) {
            Some(index) => 2 << index,
            None => u64::from(name == OWN_ISSUER),
        };
        IssuerSet(names.iter().map(bit).fold(0, |all, bit| all | bit))
    }

    /// Whether the gateway's own tokens are accepted.
    pub(crate) fn has_own(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether tokens of the issuer with this index are.
    pub(crate) fn has(self, index: usize) -> bool {
        self.0 & (2 << index) != 0
    }
}

/// The issuers of a configuration, in its order.
#[derive(Debug, Default)]
pub(crate) struct Issuers(Vec<Arc<OtherIssuer>>);

impl Issuers {
    /// Prepares issuers; those of `last` that have not changed keep their keys.
    ///
    /// # Errors
    ///
    /// Keys or certificates of one cannot be read.
    pub(crate) fn new(
        settings: &[IssuerSettings],
        last: Option<&Issuers>,
        now: UnixSeconds,
    ) -> Result<Issuers, IssuerError> {
        let issuer = |settings: &IssuerSettings| {
            let known = last.into_iter().flat_map(Issuers::iter);
            match known.into_iter().find(|known| known.settings == *settings) {
                Some(same) => Ok(Arc::clone(same)),
                None => OtherIssuer::new(settings.clone(), now).map(Arc::new),
            }
        };
        settings.iter().map(issuer).collect::<Result<_, _>>().map(Issuers)
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Arc<OtherIssuer>> {
        self.0.iter()
    }

    /// The issuer that a token names, with its index.
    pub(crate) fn named_by(&self, token: &Jws<'_>) -> Option<(usize, &Arc<OtherIssuer>)> {
        let named = token.issuer()?;
        self.iter().enumerate().find(|(_, issuer)| issuer.settings.issuer == named)
    }

    /// The one of the `accepted` issuers that introspects opaque tokens, with its index.
    pub(crate) fn introspecting(&self, accepted: IssuerSet) -> Option<(usize, &Arc<OtherIssuer>)> {
        let mut all = self.iter().enumerate();
        all.find(|(index, issuer)| accepted.has(*index) && issuer.settings.introspection.is_some())
    }

    /// The issuer with this index.
    pub(crate) fn at(&self, index: usize) -> &Arc<OtherIssuer> {
        &self.0[index]
    }

    /// Whether an id is in the namespace of an issuer, so that no local user may have it.
    pub(crate) fn reserve(&self, id: &str) -> bool {
        let is_of = |issuer: &Arc<OtherIssuer>| {
            id.strip_prefix(issuer.settings.name.as_str()).is_some_and(|rest| rest.starts_with(':'))
        };
        self.iter().any(is_of)
    }

    /// What is reported of each in metrics.
    pub(crate) fn states(&self, now: UnixSeconds) -> Vec<IssuerState> {
        let state = |issuer: &Arc<OtherIssuer>| {
            let (keys, fetched_at) = issuer.key_state();
            let counters = &issuer.counters;
            let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
            IssuerState {
                name: issuer.settings.name.clone(),
                keys,
                keys_age: fetched_at.map(|at| now.since(at).as_secs()),
                is_up: issuer.last_error().is_none(),
                introspections: issuer.settings.introspection.as_ref().map(|_| {
                    [load(&counters.active), load(&counters.inactive), load(&counters.introspection_failed)]
                }),
                fetches: [load(&counters.fetched), load(&counters.fetch_failed)],
                tokens: [
                    load(&counters.valid),
                    load(&counters.invalid),
                    load(&counters.expired),
                    load(&counters.unavailable),
                ],
            }
        };
        self.iter().map(state).collect()
    }
}

/// Text from an issuer for a message: of at most so many characters, and without control characters.
fn shown(text: &str, max_chars: usize) -> String {
    text.chars().take(max_chars).flat_map(char::escape_debug).collect()
}

/// Fetches the keys of each issuer once, for `check`: the index and the error of those that cannot be reached or have no usable keys.
///
/// # Errors
///
/// No runtime can be made, or a file cannot be read.
pub(crate) fn probe(settings: &[IssuerSettings]) -> Result<Vec<(usize, String)>, String> {
    let issuers = Issuers::new(settings, None, crate::clock::now_millis().seconds())
        .map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let tasks = tokio::task::LocalSet::new();
    Ok(tasks.block_on(&runtime, async {
        let probes = issuers.iter().enumerate().filter(|(_, issuer)| issuer.fetches_keys());
        let probes =
            probes.map(|(index, issuer)| async move { (index, refresh::take_keys(issuer, &mut None).await) });
        let results = futures_util::future::join_all(probes).await;
        results.into_iter().filter_map(|(index, result)| Some((index, result.err()?))).collect()
    }))
}
