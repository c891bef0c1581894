//! `[[routes]]`: which requests go where, and who may send them.

mod demands;
mod header_edits;
mod host_pattern;
mod template;

use std::collections::BTreeSet;
use std::path::PathBuf;

use http::Method;

use demands::{Demands, demands};
use header_edits::{Direction, Surroundings, header_edits};

use super::endpoints::reserved_paths;
use super::limits::max_body;
use super::path_shape;
use super::route_bypasses::report_bypasses;
use super::route_collisions::report_collisions;
use super::store::file_name;
use super::upstreams::Upstreams;
use crate::config::diagnostic::Diagnostic;
use crate::config::entry::{Entry, Refusal, quoted};
use crate::config::place::Place;
use crate::config::settings::{Endpoints, IdentityHeader, Route, RouteTarget};
use crate::config::suggestion::suggest;
use crate::config::table::Table;

/// A route with the place of its path, for what concerns several routes.
pub(super) struct PlacedRoute {
    pub(super) route: Route,
    pub(super) place: Place,
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
    let placed: Vec<PlacedRoute> = elements
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
) -> Option<PlacedRoute> {
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
    let Demands { access, roles, claims } = demands(table);
    let max_body = max_body(&table.take("max_body"));
    let around = Surroundings { access, identity_headers };
    let request_headers = header_edits(table, "request_headers", Direction::Request, around);
    let response_headers = header_edits(table, "response_headers", Direction::Response, around);
    let target = target(table, upstreams);
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
    Some(PlacedRoute { route, place: path_entry.place() })
}

fn path(text: &str, reserved: &[String]) -> Result<String, Refusal> {
    if text != "/" {
        path_shape::segments(text)?;
    }
    if reserved.iter().any(|path| path == text) {
        return Err(Refusal::new(format!("the gateway itself answers at {}", quoted(text))).help(
            "choose another path, or move the gateway's endpoints with [endpoints] prefix = \"/auth\"",
        ));
    }
    Ok(text.to_owned())
}

fn method(text: &str) -> Result<Method, Refusal> {
    let upper = text.to_ascii_uppercase();
    if upper == "CONNECT" || upper == "TRACE" {
        return Err(Refusal::new(format!("the method {} is never forwarded", quoted(text)))
            .help("leave it out: it would turn the gateway into a tunnel or show tokens to scripts"));
    }
    match Method::from_bytes(text.as_bytes()) {
        Ok(method) if upper == text => Ok(method),
        Ok(_) => Err(Refusal::new(format!("the method {} is not in capitals", quoted(text)))
            .help(format!("methods are case-sensitive: write \"{upper}\""))),
        Err(_) => Err(Refusal::new(format!("{} is not a method", quoted(text)))
            .help("write a name such as \"GET\", one for each element")),
    }
}

fn target(table: &mut Table<'_>, upstreams: &Upstreams<'_>) -> Option<RouteTarget> {
    let upstream = table.take("upstream");
    let root = table.take("static");
    let options = ["strip_prefix", "rewrite_prefix", "forward_token", "encoded_slashes", "upgrade"]
        .map(|key| table.take(key));
    let [strip, rewrite, forward_token, encoded_slashes, upgrades] = &options;
    let websocket = upgrades.list_of(upgrade).is_some_and(|protocols| !protocols.is_empty());
    let new_prefix = new_prefix(strip, rewrite);
    let [forward_token, encoded_slashes] =
        [forward_token, encoded_slashes].map(|entry| entry.boolean().unwrap_or(false));

    if upstream.is_given() && root.is_given() {
        root.report(
            Diagnostic::error(format!("both `{}` and `{}` are given", upstream.name(), root.name()))
                .at(root.key_place())
                .related("the upstream is here", upstream.key_place())
                .help("a route leads either to an upstream or to a folder: remove one"),
        );
        return None;
    }
    if upstream.is_given() {
        let name = upstream.parse(|name| upstream_name(name, upstreams))?;
        return Some(RouteTarget::Upstream { name, new_prefix, forward_token, encoded_slashes, websocket });
    }
    if root.is_given() {
        for option in options.iter().filter(|option| option.is_given()) {
            refuse_for_static(option);
        }
        return Some(RouteTarget::Static { root: root.parse(folder)? });
    }
    table.report().push(
        Diagnostic::error("the route leads nowhere: neither `upstream` nor `static` is given")
            .at(table.place())
            .help(match upstreams.names().as_slice() {
                [] => {
                    "add static = \"FOLDER\", or an [upstreams.NAME] table and upstream = \"NAME\"".to_owned()
                }
                [name, ..] => format!("add upstream = \"{name}\" or static = \"FOLDER\""),
            }),
    );
    None
}

/// What the upstream gets in place of the route's path.
fn new_prefix(strip: &Entry<'_>, rewrite: &Entry<'_>) -> Option<String> {
    let strips = strip.boolean().unwrap_or(false);
    let new = rewrite.parse(|text| match text {
        "/" => Err(Refusal::new("a slash is no prefix").help("write strip_prefix = true")),
        _ => path_shape::segments(text).map(|()| text.to_owned()),
    });
    if strips && rewrite.is_given() {
        rewrite.report(
            Diagnostic::error(format!("both `{}` and `{}` are given", strip.name(), rewrite.name()))
                .at(rewrite.key_place())
                .related("the other is here", strip.key_place())
                .help("the route's path is either left out or replaced: remove one"),
        );
    }
    if strips { Some(String::new()) } else { new }
}

/// A protocol that a request may turn into.
fn upgrade(text: &str) -> Result<(), Refusal> {
    match text {
        "websocket" => Ok(()),
        other => Err(Refusal::new(format!("requests cannot be upgraded to {}", quoted(other)))
            .help("write upgrade = [\"websocket\"]")),
    }
}

fn refuse_for_static(option: &Entry<'_>) {
    option.report(
        Diagnostic::error(format!("`{}` has no meaning for a folder", option.name()))
            .at(option.key_place())
            .help("remove it: it is for routes with `upstream`"),
    );
}

/// The name of an upstream that exists.
fn upstream_name(name: &str, upstreams: &Upstreams<'_>) -> Result<String, Refusal> {
    let names = upstreams.names();
    if names.contains(&name) {
        return Ok(name.to_owned());
    }
    let help = suggest("known upstreams", name, &names)
        .unwrap_or_else(|| "there are no upstreams: add an [upstreams.NAME] table with `urls`".to_owned());
    Err(Refusal::new(format!("unknown upstream {}", quoted(name))).help(help))
}

/// A folder that exists.
fn folder(text: &str) -> Result<PathBuf, Refusal> {
    let path = file_name(text)?;
    let why = match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => return Ok(path),
        Ok(_) => "is not a folder".to_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "does not exist".to_owned(),
        Err(error) => format!("cannot be opened: {error}"),
    };
    let mut help = "name an existing folder".to_owned();
    if let (true, Ok(cwd)) = (path.is_relative(), std::env::current_dir()) {
        help.push_str(&format!("; relative names start at the working directory, {}", cwd.display()));
    }
    Err(Refusal::new(format!("the folder {} {why}", quoted(text))).help(help))
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
