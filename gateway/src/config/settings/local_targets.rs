//! What routes without upstream and folder do: send a client elsewhere, or answer always the same.

use http::StatusCode;

/// `redirect`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// The parts of `to`, in their order. Whatever the request, they make a URL with the host that stands here, or a path.
    pub to: Vec<LocationPart>,
    /// `status`: 301, 302, 303, 307, or 308, which is the default.
    pub status: StatusCode,
}

/// A part of the address that a client is sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocationPart {
    /// Text, visible ASCII.
    Text(String),
    /// `{path}`: the request's path.
    Path,
    /// `{below}`: the request's path without the route's, empty or with a slash at its front.
    Below,
    /// `{query}`: empty, or `?` and the query.
    Query,
    /// `{host}`: the request's host without port. Only on routes with `hosts`.
    Host,
}

impl std::fmt::Display for LocationPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            LocationPart::Text(text) => text,
            LocationPart::Path => "{path}",
            LocationPart::Below => "{below}",
            LocationPart::Query => "{query}",
            LocationPart::Host => "{host}",
        })
    }
}

/// `respond`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedAnswer {
    /// `status`, from 200 to 599.
    pub status: StatusCode,
    /// `body`, or what stood in `body_file` when the configuration was read.
    pub body: Vec<u8>,
    /// `content_type`, default `text/plain; charset=utf-8`.
    pub content_type: String,
}
