//! The layers of the request stack, one file each, named after what they decide.

pub(crate) mod access_log;
pub(crate) mod admission;
pub(crate) mod authenticate;
pub(crate) mod authorize;
pub(crate) mod catch_panic;
pub(crate) mod cors;
pub(crate) mod hsts;
pub(crate) mod route;
