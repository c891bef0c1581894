//! `redirect` of a route.

use http::StatusCode;

use super::super::prelude::*;
use super::template;
use crate::http1::Host;

/// An example.
pub(super) const EXAMPLE: &str = "redirect = { to = \"https://new.example{path}{query}\" }";

const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];

section! {
    /// A redirect. Whatever the request, it leads to the configured host, or to a path.
    pub struct Redirect {
        /// A URL or a path, with {path}, {below}, {query} and, on routes with hosts, {host} of the request.
        to: Vec<LocationPart> = or_default(
            text(location)
                .required("write it like redirect = { to = \"https://new.example{path}{query}\" }")
                .example("\"https://new.example{path}{query}\""),
        );
        /// 301, 302, 303, 307 or 308.
        status: StatusCode = integer::<u16>(300..=399)
            .check(|status, entry| if !STATUSES.contains(status) {
                entry.error(
                    format!("{status} does not send a client elsewhere"),
                    "308 and 307 keep the method, 301 and 302 may not, 303 makes it GET",
                );
            })
            .default("308")
            .into(|status, _| StatusCode::from_u16(status).unwrap_or_default());
    }
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

/// Reports `{host}` on a route for every host.
pub(super) fn check(redirect: Option<&Redirect>, route: &Table<'_>) {
    let names_host = redirect.is_some_and(|redirect| redirect.to.contains(&LocationPart::Host));
    if names_host && route.entry("hosts").texts().is_empty() {
        let why = "{host} on a route for every host would send clients wherever a request says";
        let why = InvalidValue::new(why).help("name the route's `hosts`, or write the host out");
        route.quiet_table("redirect").entry("to").refuse(why);
    }
}

fn location(text: &str) -> Result<Vec<LocationPart>, InvalidValue> {
    if !text.bytes().all(|b| b.is_ascii_graphic()) || text.contains('\\') {
        return refused(
            format!("{} is not an address", quoted(text)),
            "use visible ASCII without backslashes; anything else is percent-encoded",
        );
    }
    let known = ["{path}", "{below}", "{query}", "{host}"];
    let parts = template::parts(text, &known, LocationPart::Text, |name| match name {
        "path" => Some(LocationPart::Path),
        "below" => Some(LocationPart::Below),
        "query" => Some(LocationPart::Query),
        "host" => Some(LocationPart::Host),
        _ => None,
    })?;
    // The parts of a request are empty, or begin with one slash or with the question mark: two samples cover
    // all cases.
    for (path, below, query) in [("/p", "/p", "?q"), ("/", "", "")] {
        let sample: String = parts
            .iter()
            .map(|part| match part {
                LocationPart::Text(text) => text,
                LocationPart::Path => path,
                LocationPart::Below => below,
                LocationPart::Query => query,
                LocationPart::Host => "host.example",
            })
            .collect();
        check_location(&sample).map_err(|why| {
            InvalidValue::new(format!("{} {why}", quoted(text))).help(
                "write an address such as \"https://new.example{path}{query}\" or a path such as \"/new{below}\"; {path} \
                 and {below} bring their own slash",
            )
        })?;
    }
    Ok(parts)
}

/// Whether no client can misread the location: browsers take `//x` for a host.
fn check_location(address: &str) -> Result<(), &'static str> {
    let scheme = ["https://", "http://"].into_iter().find_map(|scheme| address.strip_prefix(scheme));
    let path = match scheme {
        Some(rest) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            Host::parse(&rest.as_bytes()[..end]).map_err(|_| "has no host that could be a host")?;
            &rest[end..]
        }
        None if address.starts_with('/') => address,
        None => return Err("begins neither with https:// or http:// nor with a slash"),
    };
    let path = path.split(['?', '#']).next().unwrap_or(path);
    if path.contains("//") { Err("has an empty segment") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::super::super::test_support::{load_diagnostics, minimal, settings};
    use crate::config::settings::RouteTarget;

    fn with(keys: &str) -> String {
        minimal() + "[[routes]]\npath = \"/x\"\n" + keys
    }

    #[test]
    fn addresses_are_absolute_or_paths() {
        for (to, parts) in [
            ("https://new.example{path}{query}", 3),
            ("https://new.example:8443/a{below}?from=old", 3),
            ("http://[::1]{path}", 2),
            ("/new{below}{query}", 3),
            ("{path}?x", 2),
            ("https://new.example", 1),
        ] {
            let target = settings(with(&format!("redirect = {{ to = \"{to}\" }}"))).routes.remove(1).target;
            let RouteTarget::Redirect(redirect) = target else { panic!("{target:?}") };
            assert_eq!((redirect.to.len(), redirect.status.as_u16()), (parts, 308), "{to}");
        }
        settings(with("hosts = [\"a.example\"]\nredirect = { to = \"https://{host}{path}\", status = 301 }"));
        settings(with("hosts = [\"a.example\"]\nredirect = { to = \"https://www.{host}{path}\" }"));
    }

    #[test]
    fn addresses_that_a_request_could_bend_are_refused() {
        for (keys, message) in [
            ("redirect = { to = \"/{path}\" }", "has an empty segment"),
            ("redirect = { to = \"//evil.example\" }", "has an empty segment"),
            ("redirect = { to = \"https://a.example/{below}\" }", "has an empty segment"),
            ("redirect = { to = \"{below}\" }", "begins neither"),
            ("redirect = { to = \"{query}\" }", "begins neither"),
            ("redirect = { to = \"javascript:alert(1)\" }", "begins neither"),
            ("redirect = { to = \"\" }", "begins neither"),
            ("redirect = { to = \"https://{path}\" }", "has no host"),
            ("redirect = { to = \"https://a@b{path}\" }", "has no host"),
            ("redirect = { to = \"https://{host}{path}\" }", "on a route for every host"),
            ("redirect = { to = \"/\\\\evil\" }", "is not an address"),
            ("redirect = { to = \"/a b\" }", "is not an address"),
            ("redirect = { to = \"/{claims.x}\" }", "unknown placeholder"),
            ("redirect = { status = 308 }", "`routes[1].redirect.to` is missing"),
            ("redirect = { to = \"/a\", status = 304 }", "304 does not send a client elsewhere"),
            ("redirect = { to = \"/a\", status = 200 }", "must be from 300 to 399"),
            (
                "redirect = { to = \"/a\" }\nstatic = \"src\"",
                "both `routes[1].static` and `routes[1].redirect`",
            ),
            ("redirect = { to = \"/a\" }\nstrip_prefix = true", "has no meaning without `upstream`"),
        ] {
            load_diagnostics(with(keys)).only(message, "");
        }
        let message = "`routes[1].redirect`: expected a table, found a string";
        load_diagnostics(with("redirect = \"/a\"")).only(message, "write it like redirect = { to = ");
    }
}
