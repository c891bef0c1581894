//! Redirects.

use http::header::LOCATION;

use crate::admission::RequestView;
use crate::config::{LocationPart, Redirect};
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::test_support::AdmittedHead;
    use crate::config::RouteTarget;
    use crate::config::test_support::{minimal, settings};

    #[test]
    fn a_location_takes_from_the_request_what_its_route_names() {
        for (to, target, expected) in [
            ("https://new.example{path}{query}", "/old/x?y=1", "https://new.example/old/x?y=1"),
            ("https://new.example{below}{query}", "/old/x?y=1", "https://new.example/x?y=1"),
            ("https://new.example{below}", "/old/x?y=1", "https://new.example/x"),
            ("https://new.example/fixed", "/old?y", "https://new.example/fixed"),
            ("https://{host}/new{below}", "/old/a%20b", "https://app.example/new/a%20b"),
        ] {
            let route = "[[routes]]\npath = \"/old\"\naccess = \"public\"\nhosts = [\"app.example\"]\n";
            let settings = settings(format!("{}{route}redirect = {{ to = \"{to}\" }}\n", minimal()));
            let Some(RouteTarget::Redirect(redirect)) = settings.routes.last().map(|route| &route.target)
            else {
                panic!("no redirect: {to}");
            };
            let request = AdmittedHead::new(&format!("GET {target} HTTP/1.1\r\nHost: app.example:80\r\n"));
            assert_eq!(location(redirect, "/old", request.view()), expected, "{to} {target}");
        }
    }
}
