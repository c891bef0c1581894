//! Targets of routes without upstream and folder: redirects and direct responses.

use http::StatusCode;

/// `redirect`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// The parts of `to`, in order. Whatever the request, they form a URL with the configured host, or a
    /// path.
    pub to: Vec<LocationPart>,
    /// `status`: 301, 302, 303, 307, or 308, which is the default.
    pub status: StatusCode,
}

/// A part of a redirect's location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocationPart {
    /// Text, visible ASCII.
    Text(String),
    /// `{path}`: the request's path.
    Path,
    /// `{below}`: the request's path without the route's, empty or beginning with a slash.
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
pub struct FixedResponse {
    /// `status`, from 200 to 599.
    pub status: StatusCode,
    /// `body`, or the content of `body_file` when the configuration was read.
    pub body: Vec<u8>,
    /// `content_type`, default `text/plain; charset=utf-8`.
    pub content_type: String,
}
