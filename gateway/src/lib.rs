//! auth-gateway: a reverse proxy that keeps users and sessions, issues and verifies JWTs, and hands verified
//! identities to upstreams that know nothing of tokens.

pub mod cli;
pub mod config;
pub mod tokens;
pub mod users;
mod wire;
