//! The signed assertion for an upstream: that the gateway sent the request, for whom, by which method and below which path.

use std::borrow::Cow;
use std::rc::Rc;

use http::Method;

use crate::config::AssertionBinding;
use crate::identity::assertion_cache::AssertionScope;
use crate::rejection::Rejection;
use crate::request::Authorized;
use crate::routing::Forwarding;
use crate::tokens::AssertionRequest;

/// The field line with the assertion, for an upstream that gets one; `is_upgrade` where it switches protocols.
///
/// # Errors
///
/// It cannot be signed.
pub(crate) fn line(
    request: &Authorized,
    forwarding: &Forwarding,
    is_upgrade: bool,
) -> Result<Option<Rc<[u8]>>, Rejection> {
    let (context, view) = (request.context(), request.view());
    let Some(issuer) = context.state.config.assertions.as_deref().filter(|_| forwarding.assertion) else {
        return Ok(None);
    };
    let settings = &context.state.config.settings.upstream_assertion;
    let path =
        path(settings.bind, request.route().path(), forwarding.new_prefix.as_deref(), view.decoded_path());
    // Over HTTP/2 an upgrade is a CONNECT, and the upstream gets a GET.
    let method = if is_upgrade { &Method::GET } else { view.method() };
    let scope = AssertionScope { upstream: forwarding.upstream, method, path: &path };
    let cache = request.identity().map_or(&context.state.assertions, |identity| &identity.assertions);
    let now = context.now();
    if let Some(known) = cache.get(scope, now) {
        return Ok(Some(known));
    }
    let signed = issuer.issue(AssertionRequest {
        audience: context.state.upstream(forwarding.upstream).upstream().name(),
        claims: request.identity().map(|identity| identity.claims()),
        method: method.as_str(),
        path: &path,
        now,
    });
    let signed = signed.map_err(|error| {
        tracing::error!(%error, "no assertion could be signed");
        Rejection::SigningFailed
    })?;
    context.worker.metrics.assertion_signed();
    let line: Rc<[u8]> = format!("{}: {signed}\r\n", settings.header).into_bytes().into();
    cache.insert(scope, Rc::clone(&line), issuer.reusable_until(now));
    Ok(Some(line))
}

/// The path that an assertion is bound to, as the upstream sees it: decoded, and for a route the part that all its requests
/// share, in the spelling of the request.
fn path<'r>(
    bind: AssertionBinding,
    route: &'r str,
    new_prefix: Option<&'r str>,
    asked: &'r str,
) -> Cow<'r, str> {
    let shared = route.trim_end_matches('/').len();
    // The route matches by whole segments, so both parts are there.
    let (above, below) = asked.split_at_checked(shared).unwrap_or((asked, ""));
    let above = new_prefix.unwrap_or(above);
    let path = match bind {
        AssertionBinding::Route => Cow::Borrowed(above),
        AssertionBinding::Path if new_prefix.is_none() => Cow::Borrowed(asked),
        AssertionBinding::Path => Cow::Owned(format!("{above}{below}")),
    };
    if path.is_empty() { Cow::Borrowed("/") } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_what_the_upstream_sees_of_the_route_or_of_the_request() {
        for (route, new_prefix, asked, of_route, of_request) in [
            ("/", None, "/", "/", "/"),
            ("/", None, "/a/b", "/", "/a/b"),
            ("/app", None, "/app", "/app", "/app"),
            ("/app", None, "/app/", "/app", "/app/"),
            ("/app", None, "/app/x y", "/app", "/app/x y"),
            ("/App", None, "/aPP/x", "/aPP", "/aPP/x"),
            ("/app/", None, "/app/x", "/app", "/app/x"),
            ("/app", Some(""), "/app", "/", "/"),
            ("/app", Some(""), "/app/x", "/", "/x"),
            ("/app", Some("/v2"), "/app/x", "/v2", "/v2/x"),
            ("/", Some("/v2"), "/x", "/v2", "/v2/x"),
            ("/", None, "*", "/", "*"),
        ] {
            let bound = |bind| path(bind, route, new_prefix, asked).into_owned();
            assert_eq!(bound(AssertionBinding::Route), of_route, "{route} {new_prefix:?} {asked}");
            assert_eq!(bound(AssertionBinding::Path), of_request, "{route} {new_prefix:?} {asked}");
        }
    }
}
