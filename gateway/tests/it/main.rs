//! The integration tests: the built program over real sockets, in one binary.

#![allow(clippy::unwrap_used)]

mod account;
mod assertion;
mod attacks;
mod audit;
mod browser;
mod commands;
mod compat;
mod cors;
mod differential;
mod dpop;
mod examples;
mod exchange;
mod explain;
mod faults;
mod fixture;
mod flow;
mod forward_auth;
mod grpc;
mod interop;
mod interoperability;
mod issuers;
mod keys;
mod machines;
mod monitoring;
mod openapi;
mod operating;
mod protocols;
mod proxying;
mod redis;
mod reloading;
mod route_settings;
mod routing;
mod sessions;
mod status;
mod streams;
mod tracing;
mod upstreams;
mod users;
mod walkthrough;
