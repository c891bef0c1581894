//! The one integration binary: the built program over real sockets.

#![allow(clippy::unwrap_used)]

mod attacks;
mod cors;
mod differential;
mod examples;
mod explain;
mod faults;
mod fixture;
mod flow;
mod grpc;
mod interop;
mod openapi;
mod operating;
mod protocols;
mod proxying;
mod redis;
mod reloading;
mod routing;
mod sessions;
mod streams;
mod upstreams;
mod users;
