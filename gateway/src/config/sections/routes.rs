//! `[[routes]]`: routing, access rules and targets.

mod access_rules;
mod content_security_policy;
mod direct_response;
mod header_edits;
mod host_pattern;
mod redirect;
mod target;
pub(super) mod template;

use header_edits::{Direction, HeaderEditsKey};
use http::Method;
use std::collections::BTreeSet;
use target::target;

use super::Settings;
use super::cors::RouteCors;
use super::endpoints::reserved_paths;
use super::limits::max_body;
use super::path_pattern;
use super::prelude::*;
use super::route_bypasses::report_bypasses;
use super::route_collisions::report_collisions;
use super::tokens::Dpop;
use crate::config::source_span::SourceSpan;

pub(super) use access_rules::{claims, role};
pub use target::{FixedResponse, LocationPart, Redirect, RouteTimeouts, UpstreamTarget};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum MfaRule {
    Optional,
    Required,
}

section! {
    /// Routing, whatever the order here: the route with the most specific host, and of those with the same
    /// host the one with the longest path. A request that matches no route is rejected. `auth-gateway check`
    /// prints the order of matching.
    pub struct Route {
        /// By whole segments: /protected and everything below /protected/.
        path: String = text(path)
            .required("write it like path = \"/api\"; path = \"/\" matches every request")
            .or_empty()
            .example("\"/protected\"");
        /// The target.
        target: RouteTarget = flat(target);
        /// "authenticated": requires a valid access token; "optional": a token is optional, but must be
        /// valid; "public": tokens are ignored.
        access: Access = choice().default("authenticated");
        /// Also takes HTTP Basic, with a user's password or a personal access token, for clients that know nothing else: WebDAV,
        /// CalDAV, git, curl -u, Prometheus. Passwords are locked and limited as at a login. Refused where `dpop` is "required".
        basic: bool = boolean().default("false");
        /// With [browser]: what a request without a session gets that needs one. "login": any GET or HEAD is led to the sign-in
        /// page; "refuse": 401, also for a person who opens a page.
        unauthenticated: Option<Unauthenticated> =
            choice().fallback("a page that is opened is led to the sign-in page, everything else gets 401").example("\"refuse\"");
        /// Tokens that are bound to a key (DPoP): "required": only such tokens; "optional": these and others; "off": only others. A
        /// bound token never counts without its proof.
        dpop: Option<Dpop> = choice().fallback("tokens.dpop").example("\"required\"");
        /// One of these roles is required. None named: any user.
        roles: Vec<String> = texts(role).or_empty().example("[\"admin\"]");
        /// The token has to have this audience (`aud`) among its own.
        audience: Option<String> = text(super::tokens::name).example("\"orders\"");
        /// Whether a second factor is required ([mfa]): 401 insufficient_user_authentication without one.
        mfa: bool = choice().default("optional").into(|mfa: MfaRule, _| mfa == MfaRule::Required);
        /// How long ago the user may have proved the identity, by a login or at {prefix}/reauthenticate. None given: at any time in
        /// the session.
        fresh_within: Option<Duration> = duration(up_to(30 * DAY)).example("\"5m\"");
        /// All of these claims are required, with that value or one of several; of a claim that is a list,
        /// one element.
        claims: Vec<RequiredClaim> = claims().or_empty().example("{ department = \"it\", level = [2, 3] }");
        /// Whose tokens are accepted: "own" for the gateway's, and names of [[issuers]]. Without "own", the gateway's own tokens and
        /// sessions are refused.
        issuers: Vec<String> = texts(|name| Ok(name.to_owned())).or("[\"own\"]", || vec![OWN_ISSUER.to_owned()]).example("[\"own\", \"keycloak\"]");
        /// Bytes of a request's body, instead of limits.max_body; 0: no limit.
        max_body: Option<u64> = max_body().fallback("limits.max_body").example("\"1MiB\"");
        /// Names without port; "*.app.example" is every subdomain of app.example. None named: every host.
        hosts: Vec<HostPattern> = texts(host_pattern::parse).or_empty().example("[\"app.example\"]");
        /// None named: GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS; "all": these and those that are
        /// registered for WebDAV and the like.
        methods: Vec<Method> = texts(methods).or_empty().example("[\"GET\", \"POST\"]").into(|methods, _| {
            let mut once: Vec<Method> = Vec::new();
            methods.into_iter().flatten().for_each(|method| if !once.contains(&method) { once.push(method) });
            once
        });
        /// CORS settings of this route, where they differ from [cors].
        cors: RouteCors = table::<RouteCors>();
        /// Edits of header fields on their way to the upstream: `set` replaces, `add` adds, `remove` removes.
        /// Values may contain {claims.NAME}, {request_id}, {client_address}, {host}.
        request_headers: HeaderEdits = HeaderEditsKey(Direction::Request);
        /// Edits of header fields on their way back to the client.
        response_headers: HeaderEdits = HeaderEditsKey(Direction::Response);
    }
}

/// A route with the place of its path, for checks across routes.
pub(super) struct RouteWithSpan<'a> {
    pub(super) route: &'a Route,
    pub(super) place: SourceSpan,
}

pub(super) fn routes(entry: &Entry<'_>) -> Vec<Route> {
    let elements = if entry.is_given() { entry.list() } else { Some(Vec::new()) };
    if elements.as_ref().is_some_and(Vec::is_empty) && !entry.is_misspelt() {
        entry.report_missing(
            Diagnostic::error("there is no route, so every request would be refused")
                .at(entry.place())
                .help("add a [[routes]] table with `path` and `upstream` or `static`, and see that a --config FILE is given"),
        );
    }
    elements.unwrap_or_default().iter().filter_map(Entry::table).map(|table| table.read()).collect()
}

/// Checks routes together with other settings.
pub(super) fn check(root: &Table<'_>, settings: &Settings) {
    let reserved = reserved_paths(settings);
    let entry = root.entry("routes");
    let tables = if entry.is_list() { entry.list().unwrap_or_default() } else { Vec::new() };
    let tables = tables.iter().filter(|element| element.is_table()).filter_map(Entry::table);
    let mut with_spans = Vec::new();
    for (route, table) in settings.routes.iter().zip(tables) {
        let path = table.entry("path");
        if reserved.contains(&route.path) {
            path.error(
                format!("the gateway itself answers at {}", quoted(&route.path)),
                "choose another path, or move the gateway's endpoints with [endpoints] prefix = \"/auth\"",
            );
        }
        access_rules::check(&table, route);
        if route.unauthenticated.is_some() && !settings.browser.enabled {
            table.entry("unauthenticated").error(
                "has no meaning without the sign-in page",
                "write [browser] enabled = true, or remove it",
            );
        }
        if route.dpop.is_some_and(|dpop| dpop != Dpop::Off) && settings.tokens.dpop == Dpop::Off {
            table.entry("dpop").error(
                "no token is bound to a key while `tokens.dpop` is \"off\"",
                "write [tokens] dpop = \"optional\" or \"required\", or remove it",
            );
        }
        if route.mfa && !settings.mfa.enabled && route.issuers == [OWN_ISSUER] {
            table.entry("mfa").error(
                "no user could pass: second factors are off",
                "write [mfa] enabled = true, or remove it",
            );
        }
        check_cors(&table, route, settings);
        if !route.path.is_empty() && !target::is_placeholder(&route.target) {
            with_spans.push(RouteWithSpan { route, place: path.place() });
        }
    }
    report_collisions(&with_spans, root.report());
    report_bypasses(&with_spans, root.report());
}

fn check_cors(table: &Table<'_>, route: &Route, settings: &Settings) {
    let cors = table.quiet_table("cors");
    route.cors.check(&cors, &settings.cors);
    if route.cors.pass_through && !matches!(route.target, RouteTarget::Upstream { .. }) {
        cors.entry("pass_through")
            .error("has no meaning without `upstream`: there is no app to leave CORS to", "remove it");
    }
}

fn path(text: &str) -> Result<String, InvalidValue> {
    if text != "/" {
        path_pattern::segments(text)?;
    }
    Ok(text.to_owned())
}

/// The methods of `"all"`: the IANA registry without CONNECT, TRACE and PRI, and caches' PURGE.
const ALL: &str = "GET HEAD POST PUT PATCH DELETE OPTIONS ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT COPY LABEL LINK LOCK \
    MERGE MKACTIVITY MKCALENDAR MKCOL MKREDIRECTREF MKWORKSPACE MOVE ORDERPATCH PROPFIND PROPPATCH PURGE QUERY REBIND REPORT \
    SEARCH UNBIND UNCHECKOUT UNLINK UNLOCK UPDATE UPDATEREDIRECTREF VERSION-CONTROL";

fn methods(text: &str) -> Result<Vec<Method>, InvalidValue> {
    match text {
        "all" => ALL.split(' ').map(method).collect(),
        "*" | "ALL" | "any" | "ANY" => refused(
            format!("{} is not a method", quoted(text)),
            "leave `methods` out for the usual seven, or write methods = [\"all\"]",
        ),
        _ => Ok(vec![method(text)?]),
    }
}

fn method(text: &str) -> Result<Method, InvalidValue> {
    let upper = text.to_ascii_uppercase();
    if upper == "CONNECT" || upper == "TRACE" {
        return refused(
            format!("the method {} is never forwarded", quoted(text)),
            "leave it out: it would turn the gateway into a tunnel or show tokens to scripts",
        );
    }
    match Method::from_bytes(text.as_bytes()) {
        Ok(method) if upper == text => Ok(method),
        Ok(_) => refused(
            format!("the method {} is not in capitals", quoted(text)),
            format!("methods are case-sensitive: write \"{upper}\""),
        ),
        Err(_) => refused(
            format!("{} is not a method", quoted(text)),
            "write a name such as \"GET\", one for each element",
        ),
    }
}

/// The methods that a route takes, defaults included.
pub(super) fn effective_methods(route: &Route) -> BTreeSet<&str> {
    if route.methods.is_empty() {
        return BTreeSet::from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);
    }
    route.methods.iter().map(Method::as_str).collect()
}

#[cfg(test)]
mod tests;
