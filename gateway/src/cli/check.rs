//! `auth-gateway check`: all errors of a configuration at once, or its routes in the order of matching.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use tokio::runtime::Builder;

use super::hash_password::Console;
use super::start_checks::{self, Finding};
use super::text_table::table;
use super::{CommandError, environment, warn};
use crate::browser::Browser;
use crate::clock::now_seconds;
use crate::config::{
    Algorithm, Diagnostic, HostPattern, Loaded, Route, Settings, Severity, Signing, inspect, matching_order,
    nearest_span,
};
use crate::runtime_config::load_assertion_keys;
use crate::tls::server_config;
use crate::tokens::{Access, KeyRing, KeyStore, UnixSeconds};
use crate::users::{UserFileDiagnostic, UserSources};

/// Checks the configuration and the files it names. Creates and changes nothing.
pub(super) fn run(files: &[PathBuf], console: &mut Console<'_>) -> Result<(), CommandError> {
    let (Loaded { settings, warnings: mut found, .. }, spans) = inspect(files, environment());
    let key = |name: &str| spans.get(name);
    let silenced = &settings.warnings.silence;
    // Missing and unreadable files have been reported.
    if !found.blames("users.") && settings.users.files().all(|file| file.is_file()) {
        let (severity, findings) = match UserSources::load(&settings.users) {
            Ok((users, warnings)) => {
                print_schemes(&users)?;
                (Severity::Warning, warnings.into_iter().map(|warning| warning.0).collect())
            }
            Err(errors) => (Severity::Error, errors.0),
        };
        found.extend(
            silenced,
            findings.into_iter().map(|UserFileDiagnostic { path, line, key, message, remedy }| {
                let message = if key.is_empty() { message } else { format!("`{key}`: {message}") };
                Diagnostic::in_file(severity, message, &path, line).help(remedy)
            }),
        );
    }
    let now = now_seconds();
    let keys = check_keys(&settings, now);
    if let Err(error) = &keys {
        let place =
            ["tokens.private_key_file", "tokens.keys_dir", "tokens.algorithm"].into_iter().find_map(key);
        let place = place.or_else(|| nearest_span(&spans, "tokens.keys_dir"));
        found.extend(silenced, [Diagnostic::of_key(&error.to_string(), place)]);
    }
    if let Err(error) = load_assertion_keys(&settings, now, Access::Examine) {
        let place = ["upstream_assertion.private_key_file", "tokens.keys_dir"].into_iter().find_map(key);
        found.extend(silenced, [Diagnostic::of_key(&error.to_string(), place)]);
    }
    let place = key("browser.branding_dir");
    match Browser::new(&settings) {
        Ok(browser) => {
            let warnings = browser.iter().flat_map(|browser| browser.pages.warnings());
            let warnings = warnings.map(|text| Diagnostic::warning_of_key("missing-texts", text, place));
            found.extend(silenced, warnings);
        }
        Err(error) => {
            let remedy = "correct it, and let the account of the gateway read what is in the folder";
            let message = format!("`browser.branding_dir`: {error}");
            found.extend(silenced, [Diagnostic::of_key(&message, place).help_or(remedy)]);
        }
    }
    let left_out = keys.iter().flat_map(KeyRing::unusable);
    found.extend(
        silenced,
        left_out.map(|error| {
            let message = format!("tokens of this key are refused: {error}");
            Diagnostic::warning_of_key("unusable-key", &message, key("tokens.keys_dir"))
        }),
    );
    if let Some(tls) = settings.server.tls.as_ref().filter(|_| !found.blames("server.tls")) {
        let place = key("server.tls.certificates");
        match server_config(tls, now.get()) {
            Ok(tls) => {
                let of_file =
                    |index: &usize| key(&format!("server.tls.certificates[{index}].certificate_file"));
                let expiring = tls.warnings.iter();
                let expiring =
                    expiring.map(|(index, text)| ("expiring-certificate", text.clone(), of_file(index)));
                let unnamed = tls.unnamed.iter().map(|index| {
                    let text =
                        "the certificate has no subject alternative name, and browsers refuse it; have it issued for its host \
                         names".to_owned();
                    ("certificate-without-name", text, of_file(index))
                });
                let hosts = hosts_without(&tls.names, &settings.routes).into_iter().map(|host| {
                    let text = format!("no certificate is meant for the host `{host}`: its clients will refuse the connection; add one for it to server.tls.certificates");
                    ("host-without-certificate", text, place)
                });
                let all = expiring.chain(unnamed).chain(hosts);
                let all = all.map(|(name, text, place)| Diagnostic::warning_of_key(name, &text, place));
                found.extend(silenced, all);
            }
            Err(error) => {
                let place = key(&error.key).or(place);
                found.extend(silenced, [Diagnostic::of_key(&format!("`{}`: {error}", error.key), place)]);
            }
        }
    }
    // What stands in the way of the addresses is of interest only where the configuration holds.
    if !found.has_errors() {
        let opened =
            start_checks::run(&settings).into_iter().map(|Finding { key: name, message, warning }| {
                let place = nearest_span(&spans, &name);
                match warning {
                    None => Diagnostic::of_key(&message, place),
                    Some(name) => Diagnostic::warning_of_key(name, &message, place),
                }
            });
        found.extend(silenced, opened);
    }
    if found.has_errors() {
        found.leave_errors();
        return Err(CommandError::Configuration(format!("{found:#}")));
    }
    warn(&found);
    for line in route_table(&settings.routes) {
        writeln!(console.output, "{line}").map_err(CommandError::failed)?;
    }
    Ok(())
}

/// Prints the password hash schemes in use. A server that does not respond is not a configuration error.
fn print_schemes(users: &UserSources) -> Result<(), CommandError> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(CommandError::failed)?;
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

/// The hosts of routes that no certificate covers. Patterns are left out: a wildcard covers one label only.
fn hosts_without(names: &[String], routes: &[Route]) -> BTreeSet<String> {
    let hosts = routes.iter().flat_map(|route| &route.hosts);
    let exact = hosts.filter_map(|host| match host {
        HostPattern::Exact(name) if name.parse::<Ipv4Addr>().is_err() && !name.starts_with('[') => Some(name),
        _ => None,
    });
    let fits = |host: &str, name: &String| match name.strip_prefix("*.") {
        Some(parent) => host.split_once('.').is_some_and(|(_, rest)| rest == parent),
        None => host == name,
    };
    exact.filter(|host| !names.iter().any(|name| fits(host, name))).cloned().collect()
}

/// Keys that the gateway has yet to generate cannot be wrong.
fn check_keys(settings: &Settings, now: UnixSeconds) -> Result<KeyRing, crate::tokens::KeyError> {
    let mut tokens = settings.tokens.clone();
    if matches!(&tokens.signing, Signing::Kept { dir, .. } if !KeyStore::list_path(dir).exists()) {
        tokens.signing = Signing::Secret { algorithm: Algorithm::HS256, secret: vec![0; 32].into() };
    }
    KeyRing::load(&tokens, now, &[], Access::Examine)
}

/// The routes in the order of matching.
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
    table(["HOSTS", "PATH", "METHODS", "ACCESS", "ROLES AND CLAIMS", "TO"], rows)
}

#[cfg(test)]
mod tests {
    use super::hosts_without;
    use crate::config::test_support::{ROUTE, minimal, settings};

    #[test]
    fn hosts_that_no_certificate_is_meant_for_are_found() {
        let hosts = "hosts = [\"app.example\", \"a.b.example\", \"b.example\", \"*.c.example\", \"127.0.0.1\", \"[::1]\"]";
        let routes = settings(minimal().replace(ROUTE, &format!("{ROUTE}{hosts}\n"))).routes;
        let names = ["app.example".to_owned(), "*.b.example".to_owned()];
        assert_eq!(hosts_without(&names, &routes).into_iter().collect::<Vec<_>>(), ["b.example"]);
    }
}
