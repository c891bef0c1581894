//! Tests of sessions as a whole: the stores' conformance suite and models of rotation, tabs and
//! interleavings.

mod concurrent_refresh;
mod conformance;
mod interleaving_model;
mod rotation_model;

use std::time::Duration;

use super::lockout::LockoutPolicy;
use super::{ClientInfo, NewSession, Policy, RateLimitPolicy, RotationPolicy};
use crate::config::Rotation;

/// A policy with the limits of the default configuration.
pub(super) const POLICY: Policy = Policy {
    rotation: RotationPolicy { mode: Rotation::OnUse, grace: Duration::from_millis(10_000), idle_ttl: None },
    session_ttl: Duration::from_millis(600_000),
    access_ttl: Duration::from_millis(60_000),
    lockout: LockoutPolicy {
        max_failures: 5,
        window: Duration::from_secs(900),
        duration: Duration::from_secs(900),
        escalation: 1,
        max_duration: Duration::from_secs(900),
    },
    throttle: Some(RateLimitPolicy { max_failures: 20, window: Duration::from_millis(60_000) }),
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
        opened_at: None,
    }
}
