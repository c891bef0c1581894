//! Session expiry of exchanges in flight: a stream, an upload or a WebSocket ends with the session that
//! authorized it.

use std::rc::Rc;
use std::time::Duration;

use crate::auth::identity::Identity;
use crate::runtime::Worker;
use crate::tokens::{KeyRecord, UnixSeconds};

/// The session of an exchange in flight, and the absolute end of the exchange.
#[derive(Debug)]
pub(crate) struct SessionExpiry {
    identity: Rc<Identity>,
    /// The expiry of the token plus the grace period, or the absolute end of the session, in seconds since
    /// 1970.
    ends_at: UnixSeconds,
}

/// Why an exchange ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExpiryReason {
    #[error("the session was revoked")]
    Revoked,
    #[error("the token expired and its grace is over")]
    Expired,
}

impl SessionExpiry {
    /// For an exchange that `identity` has authorized; `grace` is how long it may outlive the token.
    pub(crate) fn new(identity: Rc<Identity>, grace: Duration) -> SessionExpiry {
        let claims = identity.claims();
        let ends_at = claims.expires_at().saturating_add(grace.as_secs());
        // Never after the end of its session.
        let ends_at = claims.session_expires_at().map_or(ends_at, |end| ends_at.min(end));
        SessionExpiry { identity, ends_at }
    }

    /// Whether the exchange has to end now, and why.
    pub(crate) fn check(&self, worker: &Worker) -> Option<ExpiryReason> {
        if self.identity.claims().key().is_some_and(KeyRecord::is_revoked) {
            return Some(ExpiryReason::Revoked);
        }
        if worker.gateway.sessions.revocations().is_revoked(self.identity.session()) {
            return Some(ExpiryReason::Revoked);
        }
        (worker.now_millis() / 1000 >= self.ends_at).then_some(ExpiryReason::Expired)
    }
}
