//! Session expiry of exchanges in flight: a stream, an upload or a WebSocket ends with the session that
//! authorized it.

use std::rc::Rc;
use std::time::Duration;

use crate::identity::Identity;
use crate::sessions::Revocations;
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
        let ends_at = ends_at(claims.expires_at(), grace, claims.session_expires_at());
        SessionExpiry { identity, ends_at }
    }

    /// Whether the exchange has to end now, and why.
    pub(crate) fn check(&self, revocations: &Revocations, now: UnixSeconds) -> Option<ExpiryReason> {
        let is_revoked = self.identity.claims().key().is_some_and(KeyRecord::is_revoked)
            || revocations.is_revoked(self.identity.session());
        reason(is_revoked, now, self.ends_at)
    }
}

/// When an exchange ends whose token expires at `expires_at`: never after the end of its session.
fn ends_at(expires_at: UnixSeconds, grace: Duration, session_ends: Option<UnixSeconds>) -> UnixSeconds {
    let ends_at = expires_at.saturating_add(grace);
    session_ends.map_or(ends_at, |end| ends_at.min(end))
}

/// Why an exchange ends now, if it does.
fn reason(is_revoked: bool, now: UnixSeconds, ends_at: UnixSeconds) -> Option<ExpiryReason> {
    match is_revoked {
        true => Some(ExpiryReason::Revoked),
        false => (now >= ends_at).then_some(ExpiryReason::Expired),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::test_support::{NOW, identity};

    #[test]
    fn an_exchange_ends_with_its_token_its_grace_or_its_session() {
        for (expires_at, grace, session_ends, expected) in [
            (100, 0, None, 100),
            (100, 30, None, 130),
            (100, 30, Some(200), 130),
            (100, 30, Some(110), 110),
            (100, 30, Some(130), 130),
            (100, 0, Some(90), 90),
            (u64::MAX, 30, None, u64::MAX),
            (u64::MAX, 30, Some(7), 7),
        ] {
            let grace = Duration::from_secs(grace);
            assert_eq!(
                ends_at(UnixSeconds::new(expires_at), grace, session_ends.map(UnixSeconds::new)),
                UnixSeconds::new(expected),
                "{expires_at} {session_ends:?}"
            );
        }
        let token = identity(&[], serde_json::json!({}), NOW + 60, NOW + 90);
        assert_eq!(SessionExpiry::new(token, Duration::from_secs(300)).ends_at, UnixSeconds::new(NOW + 90));
    }

    #[test]
    fn a_revoked_session_ends_it_at_once_and_time_when_it_is_over() {
        for (is_revoked, now, expected) in [
            (false, 99, None),
            (false, 100, Some(ExpiryReason::Expired)),
            (false, 101, Some(ExpiryReason::Expired)),
            (true, 99, Some(ExpiryReason::Revoked)),
            (true, 101, Some(ExpiryReason::Revoked)),
        ] {
            assert_eq!(
                reason(is_revoked, UnixSeconds::new(now), UnixSeconds::new(100)),
                expected,
                "{is_revoked} {now}"
            );
        }
    }
}
