//! The servers behind the gateway: connections to them, and one exchange of request and response.

mod body;
mod connection;
mod exchange;
mod pool;
mod upgrade;
mod upload;

pub(crate) use body::UpstreamBody;
pub(crate) use exchange::{OutgoingRequest, SendError, UpstreamResponse, send};
pub(crate) use pool::UpstreamPool;
pub(crate) use upgrade::{UpgradeAnswer, Upgraded, upgrade};
