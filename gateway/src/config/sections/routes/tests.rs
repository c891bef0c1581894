#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::super::test_support::{load_diagnostics, minimal, settings};
use super::*;
use crate::config::settings::{Access, RouteTarget, RouteTimeouts, Timeouts, UpstreamAuthorization};

fn with_route(keys: &str) -> String {
    minimal() + "[[routes]]\n" + keys
}

#[test]
fn a_route_needs_a_token_unless_it_says_otherwise() {
    let routes = settings(with_route("path = \"/x\"\nupstream = \"demo\"")).routes;
    let route = &routes[1];
    assert_eq!((route.access, route.roles.len()), (Access::Authenticated, 0));
    let RouteTarget::Upstream { name, options } = &route.target else { panic!("{:?}", route.target) };
    assert_eq!((name.as_str(), options.new_prefix()), ("demo", None));
    assert_eq!(
        (&options.authorization, options.timeouts),
        (&UpstreamAuthorization::Removed, RouteTimeouts::default())
    );
    assert!(options.upgrade.is_empty() && !options.encoded_slashes && !options.lenient_path);
    assert!(!options.rewrite_locations && !options.ignore_case && !options.token_in_subprotocol);
    assert!(!options.request_buffering && !options.compress);
}

#[test]
fn every_key_of_a_route_is_taken() {
    let keys = "path = \"/x\"\nupstream = \"demo\"\nhosts = [\"App.Example.\", \"[::1]\", \"127.0.0.1\", \"*.App.Example\"]\n\
                methods = [\"GET\", \"PURGE\", \"GET\"]\naccess = \"authenticated\"\nroles = [\"admin\"]\n\
                strip_prefix = true\nforward_token = true\nencoded_slashes = true";
    let route = settings(with_route(keys)).routes.remove(1);
    let hosts: Vec<String> = route.hosts.iter().map(ToString::to_string).collect();
    assert_eq!(hosts, ["app.example", "[::1]", "127.0.0.1", "*.app.example"]);
    assert_eq!(route.methods, [Method::GET, Method::from_bytes(b"PURGE").unwrap()]);
    assert_eq!(route.roles, ["admin"]);
    let RouteTarget::Upstream { options, .. } = route.target else { panic!("{:?}", route.target) };
    assert_eq!((options.new_prefix(), options.encoded_slashes), (Some(""), true));
    assert_eq!(options.authorization, UpstreamAuthorization::Forwarded);
    let keys = "path = \"/x\"\nupstream = \"demo\"\nrewrite_prefix = \"/v2/y\"";
    let target = settings(with_route(keys)).routes.remove(1).target;
    assert!(matches!(target, RouteTarget::Upstream { options, .. } if options.new_prefix() == Some("/v2/y")));
}

#[test]
fn a_route_may_override_its_upstreams_timeouts() {
    let keys =
        "path = \"/x\"\nupstream = \"demo\"\nresponse_timeout = \"5m\"\ntotal_timeout = \"0s\"\nretries = 0";
    let target = settings(with_route(keys)).routes.remove(1).target;
    let RouteTarget::Upstream { options, .. } = target else { panic!("{target:?}") };
    let second = Duration::from_secs(1);
    let upstream = Timeouts { response: second, body: second, total: Some(second), retries: 2 };
    assert_eq!(
        options.timeouts.with(upstream),
        Timeouts { response: second * 300, body: second, total: None, retries: 0 }
    );
}

#[test]
fn a_folder_can_be_served() {
    let route = settings(with_route("path = \"/x\"\nstatic = \"src\"\naccess = \"public\"")).routes.remove(1);
    assert!(
        matches!(route.target, RouteTarget::Static { root, index_fallback: false, .. } if root.ends_with("src"))
    );
}

#[test]
fn what_a_route_may_not_say_is_refused() {
    let up = "path = \"/x\"\nupstream = \"demo\"\n";
    for (keys, message, help) in [
        ("upstream = \"demo\"".to_owned(), "`routes[1].path` is missing", "path = \"/api\""),
        (
            "path = \"/x\"\nstatic = \"src\"\nretries = 1".into(),
            "`routes[1].retries` has no meaning without `upstream`",
            "",
        ),
        (
            format!("{up}token_in_subprotocol = true"),
            "`routes[1].token_in_subprotocol` has no meaning without `upgrade`",
            "",
        ),
        ("path = \"x\"\nupstream = \"demo\"".into(), "`routes[1].path`: the path `x` does not start", ""),
        ("path = \"/x/\"\nupstream = \"demo\"".into(), "ends with a slash", "leave it out"),
        ("path = \"/x\"".into(), "the route leads nowhere", "add upstream = \"demo\""),
        (format!("{up}static = \"src\""), "both `routes[1].upstream` and `routes[1].static`", "remove one"),
        ("path = \"/x\"\nupstream = \"dmeo\"".into(), "unknown upstream `dmeo`", "did you mean `demo`?"),
        ("path = \"/x\"\nupstream = \"other\"".into(), "unknown upstream `other`", "known upstreams: demo"),
        (
            "path = \"/x\"\nstatic = \"no/such\"".into(),
            "the folder `no/such` does not exist",
            "working directory",
        ),
        ("path = \"/x\"\nstatic = \"Cargo.toml\"".into(), "`Cargo.toml` is a file", ""),
        (
            "path = \"/x\"\nstatic = \"src\"\nstrip_prefix = false".into(),
            "`routes[1].strip_prefix` has no meaning without `upstream`",
            "remove it",
        ),
        (format!("{up}rewrite_prefix = \"/\""), "a slash is no prefix", "strip_prefix = true"),
        (format!("{up}rewrite_prefix = \"/a//b\""), "has an empty segment", ""),
        (format!("{up}rewrite_prefix = \"v2\""), "does not start with a slash", ""),
        (
            format!("{up}rewrite_prefix = \"/v2\"\nstrip_prefix = true"),
            "both `routes[1].strip_prefix` and",
            "remove one",
        ),
        (format!("{up}access = \"publik\""), "unknown value `publik`", "did you mean `public`?"),
        (
            format!("{up}access = \"public\"\nroles = [\"a\"]"),
            "`routes[1].roles` needs access",
            "remove `routes[1].roles`",
        ),
        (format!("{up}access = \"optional\"\nroles = []"), "`routes[1].roles` needs access", ""),
        (format!("{up}roles = [\"\"]"), "is not the name of a role", ""),
        (format!("{up}methods = [\"get\"]"), "the method `get` is not in capitals", "write \"GET\""),
        (format!("{up}methods = [\"GET POST\"]"), "`GET POST` is not a method", ""),
        (format!("{up}methods = [\"CONNECT\"]"), "the method `CONNECT` is never forwarded", ""),
        (format!("{up}methods = [\"TRACE\"]"), "the method `TRACE` is never forwarded", ""),
        (format!("{up}methods = \"GET\""), "`routes[1].methods`: expected a list", ""),
        (format!("{up}hosts = [\"a.*.example\"]"), "that is not its first label", "\"*.app.example\""),
        (format!("{up}hosts = [\"*\"]"), "the host `*` means every host", "leave `hosts` out"),
        (format!("{up}hosts = [\"_\"]"), "the host `_` means every host", "leave `hosts` out"),
        (format!("{up}hosts = [\"*..\"]"), "is not a host name", ""),
        (format!("{up}hosts = [\"*.0.0.1\"]"), "is a pattern of addresses", ""),
        (format!("{up}hosts = [\"a.example:80\"]"), "the host `a.example:80` has a port", "leave it out"),
        (format!("{up}hosts = [\"http://a.example\"]"), "is a URL", "the name alone"),
        (format!("{up}hosts = [\"bücher.example\"]"), "is not ASCII", "xn--"),
        (format!("{up}hosts = [\"a_b..c\"]"), "is not a host name", ""),
        (format!("{up}hosts = [\"\"]"), "is not a host name", ""),
        (format!("{up}hosts = [\"[::g]\"]"), "is not an IPv6 address", ""),
        (format!("{up}acces = \"public\""), "unknown key `acces` in [[routes]]", "did you mean `access`?"),
    ] {
        load_diagnostics(with_route(&keys)).only(message, help);
    }
}

#[test]
fn the_paths_of_the_gateways_own_endpoints_are_taken() {
    for (prefix, path) in [
        ("", "/login"),
        ("", "/refresh"),
        ("", "/logout"),
        ("", "/logout-all"),
        ("", "/.well-known/jwks.json"),
        ("/auth", "/auth/login"),
        ("/auth", "/.well-known/jwks.json"),
    ] {
        let config = with_route(&format!("path = \"{path}\"\nupstream = \"demo\"\n"));
        load_diagnostics(config + &format!("[endpoints]\nprefix = \"{prefix}\""))
            .only(&format!("the gateway itself answers at `{path}`"), "prefix = \"/auth\"");
    }
    let config = with_route("path = \"/login\"\nupstream = \"demo\"\n[endpoints]\nprefix = \"/auth\"");
    assert_eq!(settings(config).routes.len(), 2);
}

#[test]
fn without_a_route_nothing_starts() {
    load_diagnostics("routes = []".to_owned() + super::super::test_support::USERS)
        .only("there is no route", "[[routes]]");
    load_diagnostics(super::super::test_support::USERS.to_owned()).only("there is no route", "--config");
    load_diagnostics("routes = \"x\"".to_owned() + super::super::test_support::USERS)
        .only("`routes`: expected a list", "");
}

#[test]
fn what_an_upstream_cannot_be_given_is_refused() {
    let route = |keys: &str| with_route(&format!("path = \"/x\"\nupstream = \"demo\"\n{keys}"));
    for (keys, message, help) in [
        (
            "upgrade = [\"h2c\"]",
            "a connection that switches to `h2c` carries requests",
            "protocol = \"http2\"",
        ),
        ("upgrade = [\"HTTP/2.0\"]", "carries requests", ""),
        ("upgrade = [\"TLS/1.2\"]", "carries requests", ""),
        ("upgrade = [\"a b\"]", "is not the name of a protocol", "SPDY/3.1"),
        ("upgrade = [\"*\"]", "is not the name of a protocol", ""),
        ("upgrade = [\"tcp\"]\ntoken_in_subprotocol = true", "has no meaning without `upgrade`", ""),
        ("rewrite_locations = true", "has no meaning without `strip_prefix`", ""),
        ("forward_token = true\nforward_authorization = true", "forward_token", "former name"),
        (
            "upstream_authorization = \"user:password\"",
            "is not the value of an Authorization field",
            "base64",
        ),
        ("upstream_authorization = \"Basic a\\nX: y\"", "is not the value of an Authorization field", ""),
        (
            "upstream_authorization = \"Basic a\"\nforward_token = true",
            "upstream_authorization",
            "remove one",
        ),
        ("upstream_authorization_file = \"no/such\"", "does not exist", ""),
    ] {
        load_diagnostics(route(keys)).only(message, help);
    }
    let with = |keys: &str| settings(route(keys)).routes.remove(1).target;
    let named = with("upgrade = [\"WebSocket\", \"SPDY/3.1\"]");
    assert!(
        matches!(named, RouteTarget::Upstream { options, .. } if options.upgrade == ["websocket", "SPDY/3.1"])
    );
    let own = with("upstream_authorization = \"Basic aHVzaA==\"");
    assert!(!format!("{own:?}").contains("aHVzaA"));
}
