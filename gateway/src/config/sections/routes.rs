//! `[[routes]]`: which requests go where, and who may send them.

mod access_rules;
mod content_security_policy;
mod direct_response;
mod header_edits;
mod host_pattern;
mod redirect;
mod target;
mod template;

use std::collections::BTreeSet;

use http::Method;

use access_rules::{AccessRules, access_rules};
use header_edits::{Direction, HeaderEditScope, header_edits};
use target::target;

use super::endpoints::reserved_paths;
use super::limits::max_body;
use super::path_pattern;
use super::route_bypasses::report_bypasses;
use super::route_collisions::report_collisions;
use super::upstreams::Upstreams;
use crate::config::diagnostic::Diagnostic;
use crate::config::entry::{InvalidValue, quoted};
use crate::config::settings::{Endpoints, IdentityHeader, Route};
use crate::config::source_span::SourceSpan;
use crate::config::table::Table;

/// A route with the place of its path, for what concerns several routes.
pub(super) struct RouteWithSpan {
    pub(super) route: Route,
    pub(super) place: SourceSpan,
}

pub(super) fn routes(
    root: &mut Table<'_>,
    upstreams: &Upstreams<'_>,
    endpoints: &Endpoints,
    identity_headers: &[IdentityHeader],
) -> Vec<Route> {
    let entry = root.take("routes");
    let elements = if entry.is_given() { entry.list() } else { Some(Vec::new()) };
    let Some(elements) = elements else { return Vec::new() };
    if elements.is_empty() {
        root.report().push_missing(
            Diagnostic::error("there is no route, so every request would be refused")
                .at(entry.place())
                .help("add a [[routes]] table with `path` and `upstream` or `static`, and see that a --config FILE is given"),
        );
    }
    let reserved = reserved_paths(endpoints);
    let placed: Vec<RouteWithSpan> = elements
        .iter()
        .filter_map(|element| {
            element.table(|table| route(table, upstreams, &reserved, identity_headers)).flatten()
        })
        .collect();
    report_collisions(&placed, root.report());
    report_bypasses(&placed, root.report());
    placed.into_iter().map(|placed| placed.route).collect()
}

/// `None` when it has no usable path or target, which has been reported.
fn route(
    table: &mut Table<'_>,
    upstreams: &Upstreams<'_>,
    reserved: &[String],
    identity_headers: &[IdentityHeader],
) -> Option<RouteWithSpan> {
    let path_entry = table.take("path");
    let path = path_entry.parse(|text| path(text, reserved));
    if !path_entry.is_given() {
        table.report().push(
            Diagnostic::error(format!("`{}` is missing", path_entry.name()))
                .at(table.place())
                .help("write it like path = \"/api\"; path = \"/\" matches every request"),
        );
    }
    let hosts = table.take("hosts").list_of(host_pattern::parse).unwrap_or_default();
    let mut methods: Vec<Method> = Vec::new();
    for method in table.take("methods").list_of(method).unwrap_or_default() {
        if !methods.contains(&method) {
            methods.push(method);
        }
    }
    let AccessRules { access, roles, claims } = access_rules(table);
    let max_body = max_body(&table.take("max_body"));
    let around = HeaderEditScope { access, identity_headers };
    let request_headers = header_edits(table, "request_headers", Direction::Request, around);
    let response_headers = header_edits(table, "response_headers", Direction::Response, around);
    let target = target(table, upstreams, !hosts.is_empty());
    let route = Route {
        path: path?,
        hosts,
        methods,
        access,
        roles,
        claims,
        max_body,
        request_headers,
        response_headers,
        target: target?,
    };
    Some(RouteWithSpan { route, place: path_entry.place() })
}

fn path(text: &str, reserved: &[String]) -> Result<String, InvalidValue> {
    if text != "/" {
        path_pattern::segments(text)?;
    }
    if reserved.iter().any(|path| path == text) {
        return Err(InvalidValue::new(format!("the gateway itself answers at {}", quoted(text))).help(
            "choose another path, or move the gateway's endpoints with [endpoints] prefix = \"/auth\"",
        ));
    }
    Ok(text.to_owned())
}

fn method(text: &str) -> Result<Method, InvalidValue> {
    let upper = text.to_ascii_uppercase();
    if upper == "CONNECT" || upper == "TRACE" {
        return Err(InvalidValue::new(format!("the method {} is never forwarded", quoted(text)))
            .help("leave it out: it would turn the gateway into a tunnel or show tokens to scripts"));
    }
    match Method::from_bytes(text.as_bytes()) {
        Ok(method) if upper == text => Ok(method),
        Ok(_) => Err(InvalidValue::new(format!("the method {} is not in capitals", quoted(text)))
            .help(format!("methods are case-sensitive: write \"{upper}\""))),
        Err(_) => Err(InvalidValue::new(format!("{} is not a method", quoted(text)))
            .help("write a name such as \"GET\", one for each element")),
    }
}

/// What an empty `methods` means.
pub(super) fn effective_methods(route: &Route) -> BTreeSet<&str> {
    if route.methods.is_empty() {
        return BTreeSet::from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);
    }
    route.methods.iter().map(Method::as_str).collect()
}

#[cfg(test)]
mod tests;
