//! Reverse proxy request building: hop-by-hop fields, forwarding headers, identity headers, header edits,
//! upgrades.

pub(crate) mod assertion;
pub(crate) mod authorization;
pub(crate) mod location_rewrite;
pub(crate) mod original_request;
pub(crate) mod upstream_request;
pub(crate) mod websocket;
