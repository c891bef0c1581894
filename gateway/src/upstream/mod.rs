//! Upstreams: load balancing, connection pools, health, retries, and exchanges over HTTP/1.1 and HTTP/2.

mod body;
mod client;
mod cluster;
mod connection;
mod dns;
mod health_check;
mod http1;
mod http1_body;
mod http2;
mod http2_body;
mod load_balancer;
mod outlier_ejection;
mod pool;
mod request_body_forwarder;
mod retry_budget;
mod upgrade;

pub(crate) use body::UpstreamBody;
pub(crate) use client::{Http2Head, OutgoingRequest, SendError, UpstreamRequest, UpstreamResponse, send};
pub(crate) use cluster::{Upstream, UpstreamError};
pub(crate) use health_check::run_background_tasks;
pub(crate) use http2::LocalExecutor;
pub(crate) use pool::UpstreamPool;
pub(crate) use upgrade::{UpgradeResponse, Upgraded, upgrade};
