//! auth-gateway: a reverse proxy that keeps users and sessions, issues and verifies JWTs, and hands verified
//! identities to upstreams that know nothing of tokens.

pub mod cli;
mod clock;
pub mod config;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod pipeline;
pub mod problem;
pub mod server;
pub mod sessions;
mod strict_json;
pub mod telemetry;
mod tls;
pub mod tokens;
mod upstreams;
pub mod users;
mod wire;
