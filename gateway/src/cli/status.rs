//! `auth-gateway status`: the state of the running gateway, once or again and again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::Duration;

use super::CommandError;
use super::hash_password::Console;
use super::healthcheck::fetch;
use super::text_table::table;
use crate::config::Settings;
use crate::server::{Status, age, utc};

/// The options of `status`.
#[derive(Debug, clap::Args)]
pub(super) struct StatusArguments {
    /// Print the JSON of /status.json
    #[arg(long, conflicts_with = "watch")]
    json: bool,
    /// Print it again after so many seconds, with requests per second, until Ctrl-C
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    watch: Option<u64>,
}

/// Clears a terminal.
const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

/// Asks the gateway of this configuration and prints the answer.
pub(super) fn run(
    arguments: &StatusArguments,
    settings: &Settings,
    console: &mut Console<'_>,
) -> Result<(), CommandError> {
    let mut last: Option<Status> = None;
    loop {
        let text = fetch(settings, "/status.json")?;
        if arguments.json {
            return writeln!(console.output, "{text}").map_err(CommandError::failed);
        }
        let status: Status = serde_json::from_str(&text)
            .map_err(|error| CommandError::failed(format!("the gateway is of another version: {error}")))?;
        if arguments.watch.is_some() && std::io::stdout().is_terminal() {
            write!(console.output, "{CLEAR}").map_err(CommandError::failed)?;
        }
        write!(console.output, "{}", page(&status, last.as_ref())).map_err(CommandError::failed)?;
        let Some(seconds) = arguments.watch else { return Ok(()) };
        console.output.flush().map_err(CommandError::failed)?;
        std::thread::sleep(Duration::from_secs(seconds));
        last = Some(status);
    }
}

/// The state as text; with an earlier one, requests per second since.
fn page(status: &Status, last: Option<&Status>) -> String {
    let mut text = String::new();
    let since = last.map_or(0, |last| status.now.saturating_sub(last.now));
    // Writing to a String does not fail.
    let _ = writeln!(
        text,
        "auth-gateway {}  {}  up {}  process {}  {} workers  {} connections",
        status.version,
        status.status,
        age(status.now.saturating_sub(status.started_at)),
        status.process,
        status.workers,
        status.connections
    );
    let store = &status.store;
    let counted =
        |count: Option<usize>, what| count.map_or(String::new(), |count| format!(", {count} {what}"));
    let _ = writeln!(
        text,
        "store          {} {}{}{}, {} revoked",
        store.kind,
        if store.error.is_some() { "unavailable" } else { "up" },
        counted(store.sessions, "sessions"),
        counted(store.locked_names, "locked names"),
        store.revoked_sessions
    );
    for (what, file) in [("configuration", &status.configuration), ("users", &status.users)] {
        let state = if file.error.is_some() { "rejected" } else { "loaded" };
        let at = file.loaded_at.map_or(String::new(), |at| {
            format!(
                " {} ({} ago)",
                utc(at.try_into().unwrap_or_default()),
                age(status.now.saturating_sub(at))
            )
        });
        let _ = writeln!(
            text,
            "{what:<13}  {state}{at}{}, {} reloads, {} rejected",
            counted(file.count, "users"),
            file.reloads,
            file.failures
        );
    }
    let _ = writeln!(text, "logins         {}", counts(&status.logins));
    let _ = writeln!(text, "refreshes      {}", counts(&status.refreshes));
    for (what, error) in [
        ("configuration", &status.configuration.error),
        ("users", &status.users.error),
        ("store", &store.error),
    ] {
        if let Some(error) = error {
            let _ = writeln!(text, "\nerror of the {what}:\n{}", error.trim_end());
        }
    }
    let number =
        |counts: &BTreeMap<String, u64>, label: &str| counts.get(label).copied().unwrap_or(0).to_string();
    let average = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.1} ms"));
    let routes = status.routes.iter().map(|route| {
        let before =
            last.and_then(|last| last.routes.iter().find(|r| r.path == route.path && r.hosts == route.hosts));
        let requests = |route: &crate::server::RouteStatus| route.requests.values().sum::<u64>();
        let rate = before.filter(|_| since > 0).map_or(String::new(), |before| {
            format!("{:.1}", requests(route).saturating_sub(requests(before)) as f64 / since as f64)
        });
        [
            route.hosts.join(",") + &route.path,
            route.access.clone().unwrap_or_default(),
            route.target.clone().unwrap_or_default(),
            number(&route.requests, "2xx"),
            number(&route.requests, "3xx"),
            number(&route.requests, "4xx"),
            number(&route.requests, "5xx"),
            average(route.average_milliseconds),
            rate,
        ]
    });
    push_table(
        &mut text,
        ["ROUTE", "ACCESS", "TO", "2XX", "3XX", "4XX", "5XX", "AVERAGE", "PER SECOND"],
        routes,
    );
    let servers = status.upstreams.iter().flat_map(|upstream| {
        upstream.servers.iter().map(move |server| {
            [
                upstream.name.clone(),
                server.address.clone(),
                server.state.clone(),
                number(&upstream.requests, "ok"),
                (upstream.requests.values().sum::<u64>() - upstream.requests.get("ok").copied().unwrap_or(0))
                    .to_string(),
                average(upstream.average_milliseconds),
            ]
        })
    });
    push_table(&mut text, ["UPSTREAM", "SERVER", "STATE", "OK", "FAILED", "AVERAGE"], servers);
    let time = |at: Option<u64>| at.map_or(String::new(), |at| utc(at.try_into().unwrap_or_default()));
    let keys = status.keys.iter().map(|key| {
        [
            key.id.clone(),
            key.algorithm.clone(),
            key.state.clone(),
            time(key.signs_since),
            time(key.verifies_until),
            key.verified.to_string(),
        ]
    });
    push_table(&mut text, ["KEY", "ALGORITHM", "STATE", "SIGNS SINCE", "VERIFIES UNTIL", "VERIFIED"], keys);
    let certificates = status.certificates.iter().map(|c| [c.file.clone(), utc(c.expires_at)]);
    push_table(&mut text, ["CERTIFICATE", "EXPIRES"], certificates);
    text
}

fn counts(counts: &BTreeMap<String, u64>) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    counts.iter().map(|(label, count)| format!("{count} {label}")).collect::<Vec<_>>().join(", ")
}

/// Appends a table with an empty line before it, unless it has no rows.
fn push_table<const N: usize>(
    text: &mut String,
    heading: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) {
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return;
    }
    text.push('\n');
    for line in table(heading, rows) {
        text.push_str(&line);
        text.push('\n');
    }
}
