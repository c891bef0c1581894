//! auth-gateway: a reverse proxy that keeps users and sessions, issues and verifies JWTs, and hands verified
//! identities to upstreams that know nothing of tokens.

pub mod config;
pub mod problem;
pub mod tokens;
mod upstreams;
mod wire;
