//! Detects ambiguous routes: same path, a host in common, a method in common.
//!
//! Routes of different paths never collide, nor do hosts of different specificity: see
//! [`crate::config::matching_order`].

use super::prelude::*;
use super::routes::{RouteWithSpan, effective_methods};
use crate::config::report::Report;

pub(super) fn report_collisions(routes: &[RouteWithSpan<'_>], report: &Report) {
    for (i, later) in routes.iter().enumerate() {
        // One collision names two places; the first is enough to find the others.
        let Some(earlier) = routes[..i].iter().find(|earlier| collide(earlier.route, later.route)) else {
            continue;
        };
        let shared: Vec<&str> =
            effective_methods(earlier.route).intersection(&effective_methods(later.route)).copied().collect();
        report.push(
            Diagnostic::error(format!(
                "two routes with the path {} answer the same requests ({})",
                quoted(&later.route.path),
                shared.join(", ")
            ))
            .at(later.place.clone())
            .related("the other route is here", earlier.place.clone())
            .help("remove one, or give them different `methods`, or different `hosts` each"),
        );
    }
}

fn collide(a: &Route, b: &Route) -> bool {
    // Paths that only one of the two treats as the same belong together by no method.
    let fold_together =
        a.path != b.path && (a.ignores_case() || b.ignores_case()) && a.path.eq_ignore_ascii_case(&b.path);
    let same_requests = a.path == b.path && !effective_methods(a).is_disjoint(&effective_methods(b));
    hosts_overlap(a, b) && (same_requests || fold_together)
}

/// Whether both name a host with the same specificity.
fn hosts_overlap(a: &Route, b: &Route) -> bool {
    (a.hosts.is_empty() && b.hosts.is_empty()) || a.hosts.iter().any(|host| b.hosts.contains(host))
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{load_diagnostics, minimal, settings};

    fn two(first: &str, second: &str) -> String {
        minimal()
            + &format!("[[routes]]\npath = \"/x\"\nupstream = \"demo\"\n{first}\n")
            + &format!("[[routes]]\npath = \"/x\"\nupstream = \"demo\"\n{second}\n")
    }

    #[test]
    fn routes_with_a_request_in_common_collide_and_both_are_named() {
        for (first, second, shared) in [
            ("", "", "(DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT)"),
            ("methods = [\"GET\"]", "", "(GET)"),
            ("methods = [\"GET\", \"PURGE\"]", "methods = [\"PURGE\"]", "(PURGE)"),
            ("hosts = [\"*.example\"]\nmethods = [\"GET\"]", "hosts = [\"*.Example\"]", "(GET)"),
            ("hosts = [\"A.example\"]\nmethods = [\"GET\"]", "hosts = [\"b\", \"a.example.\"]", "(GET)"),
            ("access = \"public\"", "", "(DELETE"),
        ] {
            let complaints = load_diagnostics(two(first, second));
            complaints.only(
                &format!("two routes with the path `/x` answer the same requests {shared}"),
                "`methods`",
            );
            let places = complaints.text().matches("--> a.toml:").count();
            assert_eq!(places, 2, "{}", complaints.text());
        }
    }

    #[test]
    fn paths_that_one_route_takes_for_the_same_collide() {
        let config = two("ignore_case = true", "methods = [\"GET\"]").replacen("\"/x\"", "\"/X\"", 1);
        load_diagnostics(config).only("two routes with the path `/x` answer the same requests", "");
        settings(two("", "methods = [\"GET\"]").replacen("\"/x\"", "\"/X\"", 1));
    }

    #[test]
    fn routes_without_a_request_in_common_do_not() {
        for (first, second) in [
            ("methods = [\"GET\"]", "methods = [\"POST\"]"),
            ("hosts = [\"a.example\"]", "hosts = [\"b.example\"]"),
            ("methods = [\"PURGE\"]", ""),
            ("hosts = [\"a.example\"]", ""),
            ("hosts = [\"a.example\"]", "hosts = [\"*.example\"]"),
            ("hosts = [\"*.a.example\"]", "hosts = [\"*.example\"]"),
        ] {
            settings(two(first, second));
        }
    }
}
