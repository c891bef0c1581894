//! Types of settings that combine several keys, or are more than a number or a text.

mod header_edits;
mod issuers;
mod redis;
mod routes;
mod signing;
mod upstreams;
mod users;

pub use super::sections::*;
pub use header_edits::*;
pub use issuers::*;
pub use redis::*;
pub use routes::*;
pub use signing::*;
pub use upstreams::*;
pub use users::*;
