//! auth-gateway: a reverse-proxy authentication gateway that manages users and sessions, issues and verifies
//! JWTs, and passes verified identities to upstreams in headers.

mod admission;
mod auth;
mod browser;
pub mod cli;
mod client_addr;
mod clock;
pub mod config;
mod content_coding;
mod explain;
mod file_owner;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod grpc;
mod http1;
mod identity;
mod issuers;
mod layers;
mod net;
mod proxy;
mod rejection;
mod request;
mod request_body;
mod response;
mod routing;
mod runtime;
mod runtime_config;
pub mod server;
mod services;
pub mod sessions;
mod stack;
mod static_files;
mod stream_state;
mod strict_json;
pub mod telemetry;
mod tls;
pub mod tokens;
mod trace;
mod upstream;
pub mod users;
mod worker_state;
