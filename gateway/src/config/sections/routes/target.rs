//! Where a route leads: an upstream, a folder, another address, or an answer that is always the same.

use std::path::PathBuf;

use super::super::path_pattern;
use super::super::store::file_name;
use super::super::upstreams::{PatienceEntries, Upstreams};
use super::{content_security_policy, direct_response, redirect};
use crate::config::diagnostic::Diagnostic;
use crate::config::did_you_mean::suggest;
use crate::config::entry::{Entry, InvalidValue, quoted};
use crate::config::settings::RouteTarget;
use crate::config::table::Table;

/// The target, if it is right. `has_hosts` says that the route is not for every host.
pub(super) fn target(
    table: &mut Table<'_>,
    upstreams: &Upstreams<'_>,
    has_hosts: bool,
) -> Option<RouteTarget> {
    let upstream = table.take("upstream");
    let root = table.take("static");
    let redirect_entry = table.take("redirect");
    let respond = table.take("respond");
    let index_fallback = table.take("index_fallback");
    let policy = table.take("content_security_policy");
    let options = [
        "strip_prefix",
        "rewrite_prefix",
        "forward_token",
        "encoded_slashes",
        "ignore_case",
        "upgrade",
        "token_in_subprotocol",
    ]
    .map(|key| table.take(key));
    let patience = PatienceEntries::take(table);
    let [strip, rewrite, forward_token, encoded_slashes, ignore_case, upgrades, token_in_subprotocol] =
        &options;
    let websocket = upgrades.list_of(upgrade).is_some_and(|protocols| !protocols.is_empty());
    let new_prefix = new_prefix(strip, rewrite);
    let [forward_token, encoded_slashes, ignore_case] =
        [forward_token, encoded_slashes, ignore_case].map(|entry| entry.boolean().unwrap_or(false));

    let leads: Vec<&Entry<'_>> =
        [&upstream, &root, &redirect_entry, &respond].into_iter().filter(|entry| entry.is_given()).collect();
    if let [first, second, ..] = leads[..] {
        second.report(
            Diagnostic::error(format!("both `{}` and `{}` are given", first.name(), second.name()))
                .at(second.key_place())
                .related("the other is here", first.key_place())
                .help("a route leads to one upstream, folder, address or answer: remove one"),
        );
        return None;
    }
    for option in [&index_fallback, &policy] {
        if option.is_given() && !root.is_given() {
            refuse_without("static", option);
        }
    }
    if upstream.is_given() {
        let name = upstream.parse(|name| upstream_name(name, upstreams))?;
        if token_in_subprotocol.is_given() && !websocket {
            refuse_without("upgrade", token_in_subprotocol);
        }
        return Some(RouteTarget::Upstream {
            name,
            new_prefix,
            forward_token,
            encoded_slashes,
            ignore_case,
            websocket,
            token_in_subprotocol: token_in_subprotocol.boolean().unwrap_or(false),
            patience: patience.read(),
        });
    }
    if !leads.is_empty() {
        options
            .iter()
            .chain(patience.all())
            .filter(|option| option.is_given())
            .for_each(|option| refuse_without("upstream", option));
    }
    if root.is_given() {
        let index_fallback = index_fallback.boolean().unwrap_or(false);
        let content_security_policy = content_security_policy::policy(&policy);
        return Some(RouteTarget::Static {
            root: root.parse(folder)?,
            index_fallback,
            content_security_policy,
        });
    }
    if redirect_entry.is_given() {
        return redirect_entry
            .table_like(redirect::EXAMPLE, |table| redirect::redirect(table, has_hosts))?
            .map(RouteTarget::Redirect);
    }
    if respond.is_given() {
        return respond
            .table_like(direct_response::EXAMPLE, direct_response::direct_response)?
            .map(RouteTarget::Answer);
    }
    table.report().push(
        Diagnostic::error(
            "the route leads nowhere: `upstream`, `static`, `redirect` or `respond` is missing",
        )
        .at(table.place())
        .help(match upstreams.names().as_slice() {
            [] => "add static = \"FOLDER\", or an [upstreams.NAME] table and upstream = \"NAME\"".to_owned(),
            [name, ..] => format!("add upstream = \"{name}\" or static = \"FOLDER\""),
        }),
    );
    None
}

/// What the upstream gets in place of the route's path.
fn new_prefix(strip: &Entry<'_>, rewrite: &Entry<'_>) -> Option<String> {
    let strips = strip.boolean().unwrap_or(false);
    let new = rewrite.parse(|text| match text {
        "/" => Err(InvalidValue::new("a slash is no prefix").help("write strip_prefix = true")),
        _ => path_pattern::segments(text).map(|()| text.to_owned()),
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

/// The name of an upstream that exists.
fn upstream_name(name: &str, upstreams: &Upstreams<'_>) -> Result<String, InvalidValue> {
    let names = upstreams.names();
    if names.contains(&name) {
        return Ok(name.to_owned());
    }
    let help = suggest("known upstreams", name, &names)
        .unwrap_or_else(|| "there are no upstreams: add an [upstreams.NAME] table with `urls`".to_owned());
    Err(InvalidValue::new(format!("unknown upstream {}", quoted(name))).help(help))
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
    let mut help = "name an existing folder".to_owned();
    if let (true, Ok(cwd)) = (path.is_relative(), std::env::current_dir()) {
        help.push_str(&format!("; relative names start at the working directory, {}", cwd.display()));
    }
    Err(InvalidValue::new(format!("the folder {} {why}", quoted(text))).help(help))
}
