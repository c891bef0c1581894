//! Sessions: refresh rotation, revocation, lockout and throttling, as rules over plain records in a small durable store.
//!
//! [`Sessions`] is the engine that endpoints use. The rules are pure and written once ([`session`], [`lockout`],
//! [`throttle`]); the stores only keep bytes and swap them atomically ([`store::Store`]).

mod embedded;
mod engine;
mod id;
mod lockout;
mod memory;
mod record;
mod redis;
mod revocations;
mod session;
mod store;
mod throttle;
mod turnstile;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod honest_tabs;
#[cfg(test)]
mod interleavings;
#[cfg(test)]
mod rotation_model;

pub use embedded::{EmbeddedStore, OpenError};
pub use engine::{Account, NewSession, Opened, Policy, RefreshError, Refreshed, Sessions, Successor};
pub use id::{BadId, SessionId, TokenId};
pub use lockout::{Attempt, LockoutPolicy};
pub use memory::MemoryStore;
pub use redis::{RedisOpenError, RedisStore, TlsError};
pub use revocations::Revocations;
pub use session::{RevocationReason, RotationPolicy, Session};
pub(crate) use store::Store;
pub use store::StoreError;
pub use throttle::{Door, Passage, SourceNetwork, ThrottlePolicy};

/// Milliseconds since 1970.
pub type UnixMillis = u64;
