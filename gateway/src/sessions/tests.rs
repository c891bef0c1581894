//! Tests of sessions as a whole: the stores' conformance suite and models of rotation, tabs and
//! interleavings.

mod concurrent_refresh;
mod conformance;
mod interleaving_model;
mod rotation_model;

use super::lockout::LockoutPolicy;
use super::{ClientInfo, NewSession, Policy, RateLimitPolicy, RotationPolicy};
use crate::config::Rotation;

/// A policy with the limits of the default configuration, in milliseconds.
pub(super) const POLICY: Policy = Policy {
    rotation: RotationPolicy { mode: Rotation::OnUse, grace: 10_000, idle_ttl: None },
    session_ttl: 600_000,
    access_ttl: 60_000,
    lockout: LockoutPolicy {
        max_failures: 5,
        window: 900_000,
        duration: 900_000,
        escalation: 1,
        max_duration: 900_000,
    },
    throttle: Some(RateLimitPolicy { max_failures: 20, window: 60_000 }),
    session_limit: None,
};

/// A login of alice, whose user id is `subject`, by a password with the fingerprint `[7; 16]`.
pub(super) fn new_session(subject: &str) -> NewSession {
    NewSession {
        subject: subject.into(),
        username: "alice".into(),
        credential: [7; 16],
        second_factor: false,
        key: None,
        client: ClientInfo::default(),
    }
}
