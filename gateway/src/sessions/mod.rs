//! Sessions: refresh token rotation, revocation, lockout and rate limits, as rules over plain records in a
//! small durable store.
//!
//! [`Sessions`] is the engine used by the endpoints. The rules are pure and written once ([`session`],
//! [`lockout`], [`rate_limit`]); the stores only keep bytes and swap them atomically ([`store::Store`]).

mod embedded;
mod engine;
mod id;
mod issued_tokens;
mod lockout;
mod login_limits;
mod memory;
pub(crate) mod personal_token;
mod rate_limit;
mod rate_limit_batcher;
mod record;
mod redis;
mod revocations;
mod second_factor;
mod secret;
mod session;
mod store;
mod ticket;
mod totp;

#[cfg(test)]
mod tests;

pub use embedded::{EmbeddedStore, OpenError, examine as examine_state_file, restore as restore_state_file};
pub use engine::{
    Account, Census, CreateTokenError, KeptSessions, NewSession, NewTokens, OpenSessionError, Policy,
    Reauthenticated, RefreshError, RefreshResult, RotatedToken, SessionInfo, SessionLimit, Sessions,
    WhenFull,
};
pub use id::{BadId, SessionId, TokenId};
pub(crate) use issued_tokens::IssuedTokens;
pub use lockout::{LockoutPolicy, LoginResult};
pub use login_limits::{LoginDecision, LoginPermit};
pub use memory::MemoryStore;
pub use personal_token::{NewPersonalToken, PersonalTokenInfo, TokenText};
pub(crate) use rate_limit::MAX_CHECK_TIME;
pub use rate_limit::{RateLimitDecision, RateLimitPolicy, RateLimitScope, SourceNetwork};
pub use redis::{RedisOpenError, RedisStore, TlsError};
pub use revocations::Revocations;
pub use second_factor::{EnrolledFactors, FactorError, NewSecret, Sealer, Unsealable};
pub(crate) use secret::random_bytes;
pub use session::{Authentication, ClientInfo, RevocationReason, RotationPolicy, Session};
pub(crate) use store::Store;
pub use store::StoreError;
pub use ticket::{BadTicket, Ticket, TicketPurpose};

/// Milliseconds since 1970.
pub type UnixMillis = u64;
