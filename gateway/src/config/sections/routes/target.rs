//! The target of a route: an upstream, a folder, a redirect, or a direct response.

use std::path::PathBuf;
use std::time::Duration;

use http::StatusCode;

use super::super::files::{file_name, working_directory};
use super::super::path_pattern;
use super::super::{DAY, HOUR, up_to};
use super::content_security_policy;
use super::direct_response::{self, DirectResponse};
use super::redirect::{self, RedirectKeys};
use crate::config::declaration::{
    Key, Shape, TableShape, boolean, duration, flat, integer, section, text, texts,
};
use crate::config::diagnostic::Diagnostic;
use crate::config::did_you_mean::suggest;
use crate::config::entry::{Entry, InvalidValue, quoted};
use crate::config::settings::{FixedAnswer, Redirect, RouteTarget, RouteTimeouts};
use crate::config::table::Table;

section! {
    /// The target of a route: one of upstream, static, redirect and respond.
    pub(super) struct TargetKeys {
        /// The target, one of: an upstream,
        upstream: Option<String> = text(|name| Ok(name.to_owned())).example("\"demo\"");
        /// a folder, whose files are served,
        r#static: Option<PathBuf> = text(folder).example("\"public\"");
        /// a redirect,
        redirect: Option<Redirect> = Key::new(Shape::Table(TableShape::of::<RedirectKeys>()), read_redirect)
            .example("{ to = \"https://new.example{path}{query}\", status = 301 }");
        /// or a direct response.
        respond: Option<FixedAnswer> = Key::new(Shape::Table(TableShape::of::<DirectResponse>()), read_respond)
            .example("{ status = 503, body = \"Back at noon.\", content_type = \"text/plain\" }");
        /// With a folder: browsers that request a page which is no file get index.html (single-page apps).
        index_fallback: bool = boolean().default("false").example("true");
        /// The Content-Security-Policy of a folder's files, or "off".
        content_security_policy: Option<String> = Key::new(Shape::Text, content_security_policy::policy)
            .fallback("one under which common builds of Vue and React run")
            .example("\"default-src 'self'; connect-src 'self' https://api.example\"");
        /// The upstream gets the target without the route's path.
        strip_prefix: bool = boolean().default("false");
        /// The upstream gets this in place of the route's path.
        rewrite_prefix: Option<String> = text(new_prefix).example("\"/v2\"");
        /// The upstream gets the Authorization field.
        forward_token: bool = boolean().default("false");
        /// For an upstream that treats /API like /api: the route's path is compared without case.
        ignore_case: bool = boolean().default("false");
        /// %2F in the path is forwarded instead of rejected.
        encoded_slashes: bool = boolean().default("false");
        /// Allowed protocol upgrades, "websocket" or none. The token is checked before.
        upgrade: Vec<()> = texts(upgrade).or_empty().example("[\"websocket\"]");
        /// A browser's script cannot send Authorization with a WebSocket: accept the token from new
        /// WebSocket(url, ["bearer", TOKEN]).
        token_in_subprotocol: bool = boolean().default("false").example("true");
        /// Overrides of the upstream's timeouts.
        timeouts: RouteTimeouts = flat(|keys: RouteTimeoutKeys, _| RouteTimeouts {
            response: keys.response_timeout,
            body: keys.body_timeout,
            total: keys.total_timeout.map(|total| (!total.is_zero()).then_some(total)),
            retries: keys.retries,
            request_body: keys.request_body_timeout,
        });
    }
}

section! {
    /// Timeouts and retries of these requests.
    struct RouteTimeoutKeys {
        /// Timeout from the end of the request to the head of the response.
        response_timeout: Option<Duration> = duration(up_to(HOUR)).fallback("the upstream's").example("\"5m\"");
        /// Between two reads of the response's body.
        body_timeout: Option<Duration> = duration(up_to(HOUR)).fallback("the upstream's").example("\"5m\"");
        /// Between two reads of the request's body; then 408. gRPC streams have none by default while their client answers PING.
        request_body_timeout: Option<Duration> = duration(up_to(DAY)).fallback("limits.body_timeout").example("\"5m\"");
        /// From the request to the end of its response; "0s": no limit.
        total_timeout: Option<Duration> = duration(Duration::ZERO..=DAY).fallback("the upstream's").example("\"10m\"");
        /// How often a request is retried.
        retries: Option<u32> = integer(0..=10).fallback("the upstream's").example("0");
    }
}

/// Keys of routes to an upstream only.
const FOR_UPSTREAMS: [&str; 12] = [
    "strip_prefix",
    "rewrite_prefix",
    "forward_token",
    "encoded_slashes",
    "ignore_case",
    "upgrade",
    "token_in_subprotocol",
    "response_timeout",
    "body_timeout",
    "request_body_timeout",
    "total_timeout",
    "retries",
];

fn read_redirect(entry: &Entry<'_>) -> Option<Redirect> {
    let table = entry.is_given().then(|| entry.table_like(redirect::EXAMPLE)).flatten()?;
    table.read::<RedirectKeys>().settings()
}

fn read_respond(entry: &Entry<'_>) -> Option<FixedAnswer> {
    let table = entry.is_given().then(|| entry.table_like(direct_response::EXAMPLE)).flatten()?;
    table.read::<DirectResponse>().settings(&table)
}

/// Replaces an invalid target, which has been reported.
const PLACEHOLDER: RouteTarget = RouteTarget::Answer(FixedAnswer {
    status: StatusCode::NOT_FOUND,
    body: Vec::new(),
    content_type: String::new(),
});

/// Whether a target replaces an invalid one.
pub(super) fn is_placeholder(target: &RouteTarget) -> bool {
    matches!(target, RouteTarget::Answer(answer) if answer.content_type.is_empty())
}

/// The target of the route.
pub(super) fn target(keys: TargetKeys, table: &Table<'_>) -> RouteTarget {
    let of = |key: &str| table.entry(key);
    if keys.strip_prefix && of("rewrite_prefix").is_given() {
        let help = "the route's path is either left out or replaced: remove one";
        of("rewrite_prefix").refuse_beside(&of("strip_prefix"), help);
    }
    let targets = ["upstream", "static", "redirect", "respond"].map(of);
    let leads: Vec<&Entry<'_>> = targets.iter().filter(|entry| entry.is_given()).collect();
    if let [first, second, ..] = leads[..] {
        second.refuse_beside(first, "a route leads to one upstream, folder, address or answer: remove one");
        return PLACEHOLDER;
    }
    for option in ["index_fallback", "content_security_policy"].map(of) {
        if option.is_given() && !of("static").is_given() {
            refuse_without("static", &option);
        }
    }
    if !leads.is_empty() && !of("upstream").is_given() {
        let options = FOR_UPSTREAMS.map(of);
        options
            .iter()
            .filter(|option| option.is_given())
            .for_each(|option| refuse_without("upstream", option));
    }
    if let Some(name) = keys.upstream {
        if !is_upstream(&of("upstream"), &name, table) {
            return PLACEHOLDER;
        }
        let websocket = !keys.upgrade.is_empty();
        if of("token_in_subprotocol").is_given() && !websocket {
            refuse_without("upgrade", &of("token_in_subprotocol"));
        }
        return RouteTarget::Upstream {
            name,
            new_prefix: if keys.strip_prefix { Some(String::new()) } else { keys.rewrite_prefix },
            forward_token: keys.forward_token,
            encoded_slashes: keys.encoded_slashes,
            ignore_case: keys.ignore_case,
            websocket,
            token_in_subprotocol: keys.token_in_subprotocol,
            timeouts: keys.timeouts,
        };
    }
    if leads.is_empty() {
        let names = upstream_names(table);
        table.report().push(
            Diagnostic::error(
                "the route leads nowhere: `upstream`, `static`, `redirect` or `respond` is missing",
            )
            .at(table.place())
            .help(match names.first() {
                None => {
                    "add static = \"FOLDER\", or an [upstreams.NAME] table and upstream = \"NAME\"".to_owned()
                }
                Some(name) => format!("add upstream = \"{name}\" or static = \"FOLDER\""),
            }),
        );
    }
    redirect::check(keys.redirect.as_ref(), table);
    let (index_fallback, content_security_policy) = (keys.index_fallback, keys.content_security_policy);
    let folder =
        keys.r#static.map(|root| RouteTarget::Static { root, index_fallback, content_security_policy });
    let redirect = keys.redirect.map(RouteTarget::Redirect);
    folder.or(redirect).or(keys.respond.map(RouteTarget::Answer)).unwrap_or(PLACEHOLDER)
}

/// A prefix that replaces the route's path.
fn new_prefix(text: &str) -> Result<String, InvalidValue> {
    match text {
        "/" => Err(InvalidValue::new("a slash is no prefix").help("write strip_prefix = true")),
        _ => path_pattern::segments(text).map(|()| text.to_owned()),
    }
}

/// An allowed protocol upgrade.
fn upgrade(text: &str) -> Result<(), InvalidValue> {
    match text {
        "websocket" => Ok(()),
        other => Err(InvalidValue::new(format!("requests cannot be upgraded to {}", quoted(other)))
            .help("write upgrade = [\"websocket\"]")),
    }
}

fn refuse_without(needed: &str, option: &Entry<'_>) {
    option.report(
        Diagnostic::error(format!("`{}` has no meaning without `{needed}`", option.name()))
            .at(option.key_place())
            .help(format!("remove it: it is for routes with `{needed}`")),
    );
}

fn upstream_names(table: &Table<'_>) -> Vec<String> {
    table.root().quiet_table("upstreams").entries().into_iter().map(|(name, _)| name).collect()
}

/// Whether there is an upstream with that name; reports it if not.
fn is_upstream(entry: &Entry<'_>, name: &str, table: &Table<'_>) -> bool {
    let names = upstream_names(table);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    if names.contains(&name) {
        return true;
    }
    let help = suggest("known upstreams", name, &names)
        .unwrap_or_else(|| "there are no upstreams: add an [upstreams.NAME] table with `urls`".to_owned());
    entry.refuse(InvalidValue::new(format!("unknown upstream {}", quoted(name))).help(help));
    false
}

/// A folder that exists.
fn folder(text: &str) -> Result<PathBuf, InvalidValue> {
    let path = file_name(text)?;
    let why = match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => return Ok(path),
        Ok(_) => "is not a folder".to_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "does not exist".to_owned(),
        Err(error) => format!("cannot be opened: {error}"),
    };
    let help = format!("name an existing folder{}", working_directory(&path));
    Err(InvalidValue::new(format!("the folder {} {why}", quoted(text))).help(help))
}
