//! Redirects.

use http::header::LOCATION;

use crate::config::{LocationPart, Redirect};
use crate::request::RequestView;
use crate::response::{self, Response};

/// The redirect response. The configuration was validated: whatever the request contains, the location is on
/// the host that the operator configured or one that the route names (no open redirect).
pub(crate) fn respond(redirect: &Redirect, route_path: &str, request: RequestView<'_>) -> Response {
    let mut response = response::empty(redirect.status);
    let location = response::header_value(&location(redirect, route_path, request));
    response.headers_mut().insert(LOCATION, location);
    response
}

/// The location. The parts of a request were admitted: its path begins with one slash, its query with a
/// question mark.
pub(crate) fn location(redirect: &Redirect, route_path: &str, request: RequestView<'_>) -> String {
    let target = request.target();
    let host = request.host();
    let query = &target.as_str()[target.path().len()..];
    let below = target.below(route_path);
    let mut location = String::new();
    for part in &redirect.to {
        location.push_str(match part {
            LocationPart::Text(text) => text,
            LocationPart::Path => target.path(),
            LocationPart::Below => &below[..below.len() - query.len()],
            LocationPart::Query => query,
            LocationPart::Host => host.name(),
        });
    }
    location
}
