//! Detects protection that does not apply to a host: a route for every host requires a token below a path,
//! and a route of a more specific host takes those requests and is less strict.
//!
//! The order of matching implies it, and it may be intended; but an operator who adds a host should not find
//! out from an intruder.

use super::prelude::*;
use super::routes::RouteWithSpan;
use crate::config::report::Report;

pub(super) fn report_bypasses(routes: &[RouteWithSpan<'_>], report: &Report) {
    let settings: Vec<Route> = routes.iter().map(|placed| placed.route.clone()).collect();
    let order = matching_order(&settings);
    for strict in &order {
        let path = &settings[strict.route].path;
        let more_closely = order.iter().take_while(|other| other.rank > strict.rank);
        let hosts = more_closely.flat_map(|other| &other.hosts).filter(|host| strict.covers(host));
        let mut reported: Vec<&HostPattern> = Vec::new();
        for host in hosts {
            let Some(first) = first_fitting(&order, &settings, host, path) else { continue };
            let (taker, owner) = (&settings[first.route], &settings[strict.route]);
            // A route for the very same path was written with that path in mind.
            if taker.path == *path || !is_less_strict(taker, owner) || reported.contains(&host) {
                continue;
            }
            reported.push(host);
            report.push(
                Diagnostic::warning("route-bypass", format!(
                    "requests for {} below {} are taken by the route {}, which asks for less than the route with that path",
                    quoted(&host.to_string()),
                    quoted(path),
                    quoted(&taker.path),
                ))
                .at(routes[first.route].place.clone())
                .related("the route that asks for more is here", routes[strict.route].place.clone())
                .help(format!(
                    "the closest host is tried before the longest path: add a route with path = \"{path}\" and \
                     hosts = [\"{host}\"] that says what is meant"
                )),
            );
        }
    }
}

/// The route that a request for `host` and `path` takes.
fn first_fitting<'o>(
    order: &'o [RouteRef],
    routes: &[Route],
    host: &HostPattern,
    path: &str,
) -> Option<&'o RouteRef> {
    order.iter().find(|placed| {
        let prefix = routes[placed.route].path.trim_end_matches('/');
        let fits = path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        fits && placed.covers(host)
    })
}

fn is_less_strict(taker: &Route, owner: &Route) -> bool {
    taker.access < owner.access
        || (!owner.roles.is_empty() && taker.roles != owner.roles)
        || owner.claims.iter().any(|claim| !taker.claims.contains(claim))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::test_support::{load_text, minimal};

    fn warnings(routes: &[(&str, &str)]) -> String {
        let route = |(path, more): &(&str, &str)| {
            format!("[[routes]]\npath = \"{path}\"\nupstream = \"demo\"\n{more}\n")
        };
        let config = minimal()
            + "access = \"public\"\n"
            + &routes.iter().map(route).collect::<String>()
            + "[warnings]\nsilence = [\"shadowed-path\"]\n";
        load_text(config).unwrap().warnings.to_string()
    }

    #[test]
    fn a_host_whose_routes_bypass_a_protection_for_every_host_is_reported() {
        let open = ("/", "hosts = [\"app.example\"]\naccess = \"public\"");
        let reported = warnings(&[("/admin", ""), open]);
        assert!(
            reported.contains("requests for `app.example` below `/admin` are taken by the route `/`"),
            "{reported}"
        );
        assert_eq!(reported.matches("a.toml:").count(), 2, "{reported}");
        let roles = ("/", "hosts = [\"*.example\"]");
        assert!(warnings(&[("/admin", "roles = [\"admin\"]"), roles]).contains("`*.example`"));
        let below = ("/api", "hosts = [\"*.example\"]");
        assert!(warnings(&[below, open]).contains("`/api`"));
    }

    #[test]
    fn what_loses_nothing_or_says_so_itself_is_not() {
        for routes in [
            &[("/admin", ""), ("/", "hosts = [\"app.example\"]")][..],
            &[("/admin", "access = \"public\""), ("/", "hosts = [\"app.example\"]\naccess = \"public\"")],
            &[("/admin", ""), ("/admin", "hosts = [\"app.example\"]\naccess = \"public\"")],
            &[
                ("/admin", ""),
                ("/", "hosts = [\"app.example\"]\naccess = \"public\""),
                ("/admin", "hosts = [\"app.example\"]"),
            ],
            &[("/", ""), ("/open", "access = \"public\"")],
            &[
                ("/admin", "hosts = [\"other.example\"]"),
                ("/", "hosts = [\"app.example\"]\naccess = \"public\""),
            ],
        ] {
            assert_eq!(warnings(routes), "", "{routes:?}");
        }
    }
}
