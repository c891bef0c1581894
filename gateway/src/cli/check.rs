//! `auth-gateway check`: everything that is wrong, at once; or the routes as they will match.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use super::hash_password::Console;
use super::{CommandError, environment, warn};
use crate::config::{
    Diagnostic, HostPattern, Loaded, Route, Settings, Severity, Signing, inspect, matching_order,
};
use crate::tls::server_config;
use crate::tokens::KeyRing;
use crate::users::{FileDirectory, UserFileFinding};

/// Checks the configuration and the files it names. Makes nothing and changes nothing.
pub(super) fn run(files: &[PathBuf], console: &mut Console<'_>) -> Result<(), CommandError> {
    let (Loaded { settings, warnings: mut found, .. }, spans) = inspect(files, environment());
    let key = |name: &str| spans.get(name);
    // What is not there has been reported.
    if settings.users.file.is_file() {
        let (severity, findings) = match FileDirectory::load(&settings.users.file) {
            Ok((_, warnings)) => (Severity::Warning, warnings.into_iter().map(|warning| warning.0).collect()),
            Err(errors) => (Severity::Error, errors.0),
        };
        found.extend(findings.into_iter().map(|UserFileFinding { path, line, key, message, remedy }| {
            let message = if key.is_empty() { message } else { format!("`{key}`: {message}") };
            Diagnostic::in_file(severity, message, &path, line).help(remedy)
        }));
    }
    if let Err(error) = check_keys(&settings) {
        let place =
            ["tokens.private_key_file", "tokens.keys_dir", "tokens.algorithm"].into_iter().find_map(key);
        found.extend([Diagnostic::of_key(&error.to_string(), place)]);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    if let Some(tls) = settings.server.tls.as_ref().filter(|tls| !tls.certificates.is_empty()) {
        let place = key("server.tls.certificates");
        match server_config(tls, now) {
            Ok(tls) => {
                found.extend(tls.warnings.iter().map(|warning| Diagnostic::of_certificate(warning, place)))
            }
            Err(error) => found.extend([Diagnostic::of_key(&error.to_string(), place)]),
        }
    }
    if found.has_errors() {
        return Err(CommandError::Configuration(format!("{found:#}")));
    }
    warn(&found);
    for line in route_table(&settings.routes) {
        writeln!(console.output, "{line}").map_err(CommandError::failed)?;
    }
    Ok(())
}

/// Keys that the gateway has yet to make cannot be wrong.
fn check_keys(settings: &Settings) -> Result<(), crate::tokens::KeyError> {
    match &settings.tokens.signing {
        Signing::Kept { dir, .. } if !dir.join("keys.json").exists() => Ok(()),
        // A secret that is wrong has been reported.
        Signing::Secret { .. } => Ok(()),
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
            match route.methods.len() {
                0 => "GET,HEAD,POST,PUT,PATCH,DELETE,OPTIONS".to_owned(),
                38.. => "all".to_owned(),
                _ => any(route.methods.iter().map(ToString::to_string).collect()),
            },
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
