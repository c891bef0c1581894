use super::*;
use crate::config::test_support::{load_diagnostics, minimal, settings};
use crate::http1::HeadLimits;

const ORIGIN: &str = "https://page.example";

fn head(method: &str, fields: &str) -> RequestHead {
    let mut head = RequestHead::default();
    let text = format!("{method} / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    head.parse(text.as_bytes(), &HeadLimits::default()).unwrap().unwrap();
    head
}

fn preflight_head(origin: &str, method: &str, names: &str) -> RequestHead {
    let names =
        if names.is_empty() { String::new() } else { format!("Access-Control-Request-Headers: {names}\r\n") };
    head("OPTIONS", &format!("Origin: {origin}\r\nAccess-Control-Request-Method: {method}\r\n{names}"))
}

/// The policies of `[cors]` with these keys, and of one route with `cors` of these keys.
fn policies(global: &str, route: &str) -> CorsPolicies {
    let text = format!("cors = {{ {route} }}\n[cors]\nallowed_origins = [\"{ORIGIN}\"]\n{global}");
    let settings = settings(minimal() + &text);
    CorsPolicies::new(&settings.cors, &settings.routes, settings.tokens.dpop_nonce)
}

#[test]
fn a_browser_goes_on_with_what_is_allowed_and_hears_why_not_otherwise() {
    for (global, origin, method, names, problem) in [
        ("", ORIGIN, "GET", "", None),
        ("", ORIGIN, "DELETE", "authorization,if-match", None),
        ("", ORIGIN, "POST", "content-type,x-csrf-token,x-csrftoken,x-xsrf-token,idempotency-key", None),
        ("", ORIGIN, "PATCH", "tus-resumable,upload-offset,upload-length,upload-metadata", None),
        ("", ORIGIN, "POST", "content-type,grpc-timeout,x-grpc-web,x-user-agent", None),
        ("", ORIGIN, "GET", "traceparent,tracestate,baggage,sentry-trace", None),
        ("", ORIGIN, "GET", "x-tenant", Some("x-tenant is not among cors.allow_headers")),
        ("", ORIGIN, "LOCK", "", Some("LOCK is not among cors.allow_methods")),
        ("", "https://evil.example", "GET", "", Some("https://evil.example is not among")),
        ("", "null", "GET", "", Some("null is not among")),
        ("allow_headers = [\"X-Tenant\"]", ORIGIN, "GET", "x-tenant", None),
        ("allow_headers = [\"X-Tenant\"]", ORIGIN, "GET", "authorization", Some("authorization is not")),
        ("allow_headers = [\"*\"]", ORIGIN, "GET", "x-tenant, authorization", None),
        ("allow_headers = []", ORIGIN, "GET", "x-tenant", Some("x-tenant")),
        ("allow_methods = [\"PUT\"]", ORIGIN, "PUT", "", None),
        ("allow_methods = [\"PUT\"]", ORIGIN, "DELETE", "", Some("DELETE")),
        ("allow_methods = [\"PUT\"]", ORIGIN, "POST", "", None),
    ] {
        let policies = policies(global, "");
        let head = preflight_head(origin, method, names);
        let cors = policies.of(Some(0));
        let answer = cors.preflight_headers(&head, &USUAL_METHODS);
        let found = cors.problem(&head, &answer);
        match problem {
            None => assert_eq!(found, None, "{global} {method} {names}"),
            Some(part) => {
                assert!(found.as_deref().is_some_and(|why| why.contains(part)), "{found:?} for {names}");
            }
        }
    }
}

#[test]
fn any_header_is_allowed_by_its_name_because_a_star_does_not_cover_authorization() {
    let policies = policies("allow_headers = [\"*\"]\nmax_age = \"0s\"", "");
    let answer = policies
        .of(None)
        .preflight_headers(&preflight_head(ORIGIN, "GET", "authorization, x-any"), &USUAL_METHODS);
    assert_eq!(answer[ACCESS_CONTROL_ALLOW_HEADERS], "authorization, x-any");
    assert_eq!(answer[ACCESS_CONTROL_MAX_AGE], "0");
}

#[test]
fn answers_are_decorated_by_the_routes_policy() {
    for (global, route, origin, refused, expected) in [
        ("", "", ORIGIN, false, Some((ORIGIN, "ETag", false))),
        ("", "", "https://evil.example", false, None),
        ("allow_credentials = true", "", ORIGIN, true, Some((ORIGIN, "WWW-Authenticate", true))),
        ("", "allow_credentials = true", ORIGIN, false, Some((ORIGIN, "X-Total-Count", true))),
        ("", "allowed_origins = [\"https://b.example\"]", ORIGIN, false, None),
        (
            "",
            "allowed_origins = [\"https://b.example\"]",
            "https://b.example",
            true,
            Some(("https://b.example", "ETag", false)),
        ),
        ("expose_headers = [\"X-Own\"]", "", ORIGIN, false, Some((ORIGIN, "X-Own", false))),
        ("", "expose_headers = [\"*\"]", ORIGIN, false, Some((ORIGIN, "*", false))),
        ("", "pass_through = true", ORIGIN, false, None),
        ("", "pass_through = true", ORIGIN, true, Some((ORIGIN, "WWW-Authenticate", false))),
        (
            "",
            "pass_through = true, allowed_origins = []",
            "https://x.example",
            true,
            Some(("*", "WWW-Authenticate", false)),
        ),
        ("", "pass_through = true, allowed_origins = []", "https://x.example", false, None),
    ] {
        let (policies, mut headers) = (policies(global, route), HeaderMap::new());
        policies.of(Some(0)).decorate(&head("GET", &format!("Origin: {origin}\r\n")), refused, &mut headers);
        let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap());
        let case = format!("{global} {route} {origin} {refused}: {headers:?}");
        let Some((allowed, exposed, credentials)) = expected else {
            assert_eq!(text(ACCESS_CONTROL_ALLOW_ORIGIN), None, "{case}");
            continue;
        };
        assert_eq!(text(ACCESS_CONTROL_ALLOW_ORIGIN), Some(allowed), "{case}");
        assert!(text(ACCESS_CONTROL_EXPOSE_HEADERS).is_some_and(|list| list.contains(exposed)), "{case}");
        assert_eq!(text(ACCESS_CONTROL_ALLOW_CREDENTIALS).is_some(), credentials, "{case}");
    }
}

#[test]
fn what_browsers_would_not_heed_is_refused() {
    let with = |global: &str, route: &str| load_diagnostics(minimal() + route + "\n[cors]\n" + global);
    let exclude = "exclude each other";
    with("allow_headers = [\"*\"]\nallow_credentials = true", "").only(exclude, "list the names");
    with("expose_headers = [\"*\"]\nallow_credentials = true", "").only(exclude, "list the names");
    with("allow_headers = [\"*\"]", "cors = { allow_credentials = true }").only(exclude, "list the names");
    with("allow_headers = [\"*\", \"Accept\"]", "").only("stands for every name", "the names alone");
    with("allow_headers = [\"a b\"]", "").only("is not the name of a header field", "X-CSRF-Token");
    with("allow_methods = [\"*\"]", "").only("is not a method", "leave the key out");
    with("allow_methods = [\"put\"]", "").only("not in capitals", "\"PUT\"");
    let folder = "[[routes]]\npath = \"/x\"\nstatic = \"src\"\ncors = { pass_through = true }";
    with("", folder).only("has no meaning without `upstream`", "remove it");
}
