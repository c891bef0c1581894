//! The servers behind the gateway: which of them gets a request, connections to them, and one exchange of request and response.

mod balance;
mod body;
mod care;
mod connection;
mod endpoint;
mod exchange;
mod http1_body;
mod http2;
mod http2_body;
mod pool;
mod retry_budget;
mod upgrade;
mod upload;
mod upstream;

pub(crate) use body::UpstreamBody;
pub(crate) use care::care;
pub(crate) use exchange::{OutgoingRequest, SendError, UpstreamResponse, send};
pub(crate) use pool::UpstreamPool;
pub(crate) use upgrade::{UpgradeAnswer, Upgraded, upgrade};
pub(crate) use upstream::{Upstream, UpstreamError};
