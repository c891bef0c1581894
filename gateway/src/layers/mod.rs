//! The layers of the request stack, one file each. [`crate::stack`] composes them.

pub(crate) mod access_log;
pub(crate) mod admission;
pub(crate) mod authenticate;
pub(crate) mod authorize;
pub(crate) mod catch_panic;
pub(crate) mod compression;
pub(crate) mod cors;
pub(crate) mod decorate;
pub(crate) mod endpoints;
pub(crate) mod hsts;
pub(crate) mod options;
pub(crate) mod rejections;
pub(crate) mod request_id;
pub(crate) mod request_spans;
pub(crate) mod response_headers;
pub(crate) mod route;
pub(crate) mod session_cookies;
pub(crate) mod step;
