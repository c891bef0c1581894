//! Authentication of requests: their credentials, and the proofs that belong to them.

pub(crate) mod authenticate;
pub(crate) mod basic;
pub(crate) mod bearer;
pub(crate) mod credentials;
pub(crate) mod dpop;
pub(crate) mod other_issuers;
pub(crate) mod websocket;
