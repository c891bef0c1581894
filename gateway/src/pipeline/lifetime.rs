//! How long what a token has opened may go on: a long answer or a WebSocket ends with its session.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::gateway::Gateway;
use super::identity::Identity;
use crate::tokens::UnixSeconds;
use crate::wire::Deadline;

/// How often is looked. A revocation is in force for what is under way so much later.
const LOOK: Duration = Duration::from_millis(500);

/// Watches over an exchange that outlasts its request.
pub(crate) struct Lifetime {
    gateway: Arc<Gateway>,
    identity: Rc<Identity>,
    /// When the token has expired and the grace is over, or the session has ended.
    ends_at: UnixSeconds,
    look: Deadline,
}

/// Why an exchange has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LifetimeEnd {
    #[error("the session was ended")]
    Revoked,
    #[error("the token expired too long ago")]
    Expired,
}

impl Lifetime {
    /// The lifetime of what the token of `identity` has opened; `grace` is how long it may outlive the token.
    pub(crate) fn new(gateway: Arc<Gateway>, identity: Rc<Identity>, grace: Duration) -> Lifetime {
        let claims = identity.claims();
        let ends_at = claims.expires_at().saturating_add(grace.as_secs());
        // Never after the end of its session.
        let ends_at = claims.session_expires_at().map_or(ends_at, |end| ends_at.min(end));
        Lifetime { gateway, identity, ends_at, look: Deadline::default() }
    }

    /// Ready when it is over. Costs a look at a timer; the session is looked at twice a second.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<LifetimeEnd> {
        loop {
            ready!(self.look.poll_within(cx, LOOK));
            self.look.clear();
            let now = crate::clock::now_seconds();
            if self.gateway.sessions.revocations().is_revoked(self.identity.session()) {
                return Poll::Ready(LifetimeEnd::Revoked);
            }
            if now >= self.ends_at {
                return Poll::Ready(LifetimeEnd::Expired);
            }
        }
    }
}

impl std::fmt::Debug for Lifetime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lifetime").field("ends_at", &self.ends_at).finish_non_exhaustive()
    }
}
