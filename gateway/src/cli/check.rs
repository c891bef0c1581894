//! `auth-gateway check`: everything that is wrong, at once; or the routes as they will match.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::runtime::Builder;

use super::hash_password::Console;
use super::{CommandError, load};
use crate::config::{HostPattern, Route, Settings, Signing, matching_order};
use crate::tls::server_config;
use crate::tokens::KeyRing;
use crate::users::UserSources;

/// Checks the configuration and the files it names. Makes nothing and changes nothing.
pub(super) fn run(files: &[PathBuf], console: &mut Console<'_>) -> Result<(), CommandError> {
    let settings = load(files)?.settings;
    let mut faults = Vec::new();
    match UserSources::load(&settings.users) {
        Ok((users, warnings)) => {
            warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
            tell_schemes(&users)?;
        }
        Err(errors) => faults.push(errors.to_string()),
    }
    if let Err(error) = check_keys(&settings) {
        faults.push(format!("error: {error}"));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    if let Some(tls) = &settings.server.tls {
        match server_config(tls, now) {
            Ok(tls) => tls.warnings.iter().for_each(|warning| eprintln!("warning: {warning}")),
            Err(error) => faults.push(format!("error: {error}")),
        }
    }
    if !faults.is_empty() {
        return Err(CommandError::Configuration(faults.join("\n")));
    }
    for line in route_table(&settings.routes) {
        writeln!(console.output, "{line}").map_err(CommandError::failed)?;
    }
    Ok(())
}

/// Which kinds of hash are in use. A server that does not answer is no mistake of the configuration.
fn tell_schemes(users: &UserSources) -> Result<(), CommandError> {
    let runtime = Builder::new_current_thread().build().map_err(CommandError::failed)?;
    match runtime.block_on(users.scheme_counts()) {
        Ok(counts) => {
            for (source, scheme, count) in counts {
                eprintln!("note: users of {source}: {count} with {scheme}");
            }
        }
        Err(error) => eprintln!("warning: {error}"),
    }
    Ok(())
}

/// Keys that the gateway has yet to make cannot be wrong.
fn check_keys(settings: &Settings) -> Result<(), crate::tokens::KeyError> {
    match &settings.tokens.signing {
        Signing::Kept { dir, .. } if !dir.join("keys.json").exists() => Ok(()),
        _ => KeyRing::load(&settings.tokens, 0).map(drop),
    }
}

/// The routes in the order in which they are tried.
fn route_table(routes: &[Route]) -> Vec<String> {
    let rows = matching_order(routes).into_iter().map(|placed| {
        let route = &routes[placed.route];
        let any = |list: Vec<String>| if list.is_empty() { "any".to_owned() } else { list.join(",") };
        [
            any(placed.hosts.iter().map(HostPattern::to_string).collect()),
            route.path.clone(),
            any(route.methods.iter().map(ToString::to_string).collect()),
            route.access.name().to_owned(),
            any(route.roles.iter().cloned().chain(route.claims.iter().map(ToString::to_string)).collect()),
            route.target.to_string(),
        ]
    });
    let head = ["HOSTS", "PATH", "METHODS", "ACCESS", "ROLES AND CLAIMS", "TO"].map(str::to_owned);
    let table: Vec<_> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| table.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let line = |row: &[String; 6]| {
        let cells =
            row.iter().enumerate().map(|(column, cell)| format!("{cell:<width$}", width = width(column)));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    table.iter().map(line).collect()
}
