//! Routing: which route a request has (the most specific host, then the longest path, by segments; default deny), and the
//! policies of routes and endpoints, compiled from the configuration.

pub(crate) mod cors;
pub(crate) mod direct_response;
pub(crate) mod endpoints;
pub(crate) mod header_edits;
pub(crate) mod via;

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use percent_encoding::percent_decode;

use direct_response::DirectResponse;
use header_edits::HeaderEdits;

use crate::admission::RequestView;
use crate::admission::USUAL_METHODS;
use crate::config::{
    Access, Dpop, HostPattern, IssuerSettings, Redirect, RequiredClaim, RouteRef, RouteTarget, RouteTimeouts,
    Timeouts, Unauthenticated, Upstream, UpstreamAuthorization, matching_order,
};
use crate::http1::{CanonicalTarget, Host, MAX_DECODINGS, TargetError};
use crate::issuers::IssuerSet;
use crate::rejection::Rejection;
use crate::static_files::StaticRoot;

/// A route, compiled.
#[derive(Debug)]
pub(crate) struct Route {
    path: String,
    ignore_case: bool,
    methods: Vec<Method>,
    pub(crate) access: Access,
    /// Whether it takes HTTP Basic.
    pub(crate) basic: bool,
    pub(crate) unauthenticated: Option<Unauthenticated>,
    /// Where it differs from `tokens.dpop`.
    pub(crate) dpop: Option<Dpop>,
    pub(crate) roles: Vec<String>,
    pub(crate) claims: Vec<RequiredClaim>,
    /// Required in the token's `aud`.
    pub(crate) audience: Option<String>,
    /// Whether a second factor is required.
    pub(crate) mfa: bool,
    /// How long ago the user may have proved the identity.
    pub(crate) fresh_within: Option<Duration>,
    /// Whose tokens are accepted.
    pub(crate) issuers: IssuerSet,
    /// Maximum length of a request's body, in bytes.
    pub(crate) max_body: u64,
    pub(crate) request_headers: Option<HeaderEdits>,
    pub(crate) response_headers: Option<HeaderEdits>,
    pub(crate) target: Target,
    /// Its index in the metrics.
    pub(crate) index: usize,
}

/// The target of a route.
#[derive(Debug)]
pub(crate) enum Target {
    Upstream(Forwarding),
    Static { root: Arc<StaticRoot>, index_fallback: bool },
    Redirect(Redirect),
    DirectResponse(DirectResponse),
}

/// How a route forwards.
#[derive(Debug)]
pub(crate) struct Forwarding {
    /// The index of the upstream in the configuration.
    pub(crate) upstream: usize,
    pub(crate) timeouts: Timeouts,
    /// The route's own timeouts, where it has them.
    pub(crate) own_timeouts: RouteTimeouts,
    /// The `Host` for the upstream, in place of the client's.
    pub(crate) host: Option<String>,
    /// Replaces the route's path for the upstream: empty, or segments that begin with a slash.
    pub(crate) new_prefix: Option<String>,
    pub(crate) authorization: UpstreamAuthorization,
    /// Whether the upstream gets a signed assertion.
    pub(crate) assertion: bool,
    /// The protocols that connections may switch to.
    pub(crate) upgrades: Vec<String>,
    /// Whether these may bring their token among their subprotocols.
    pub(crate) token_in_subprotocol: bool,
    /// Whether a request's body is received whole before it is forwarded.
    pub(crate) request_buffering: bool,
    /// Whether responses are compressed where the client accepts it.
    pub(crate) compress: bool,
    encoded_slashes: bool,
    lenient_path: bool,
    /// Whether addresses in responses are rewritten.
    pub(crate) rewrite_locations: bool,
}

impl Route {
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Upstreams that know path parameters read `/api;x` as `/api`, some decode `%2F` or take `//` for `/`: a protected path covers
    /// those spellings too, a public one never does.
    fn fits_path(&self, path: &RequestPath<'_>) -> bool {
        self.fits_path_plainly(path.plain)
            || (self.access == Access::Authenticated
                && path.lenient.iter().any(|reading| self.fits_path_plainly(&reading.path)))
    }

    fn fits_path_plainly(&self, path: &str) -> bool {
        if self.path == "/" {
            return path.starts_with('/');
        }
        let rest = match self.ignore_case {
            false => path.strip_prefix(&self.path),
            true => path
                .split_at_checked(self.path.len())
                .filter(|(front, _)| front.eq_ignore_ascii_case(&self.path))
                .map(|(_, rest)| rest),
        };
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn fits_method(&self, method: &Method) -> bool {
        self.methods().contains(method)
    }

    /// Refuses what the route does not pass on of encoded slashes and other oddities. A path that is this route's only where the
    /// upstream takes them for slashes is refused all the same.
    pub(crate) fn check_spelling(&self, target: &CanonicalTarget<'_>, path: &str) -> Result<(), Rejection> {
        let (encoded_slash, oddity) = (target.has_encoded_slash(), target.oddity());
        if !encoded_slash && oddity.is_none() {
            return Ok(());
        }
        let (slashes, lenient) = match &self.target {
            Target::Upstream(forwarding) => (forwarding.encoded_slashes, forwarding.lenient_path),
            _ => (false, false),
        };
        let is_plain = self.fits_path_plainly(path);
        match oddity.filter(|_| !lenient || !is_plain) {
            Some(oddity) => Err(Rejection::BadTarget(oddity)),
            None if encoded_slash && !(slashes && is_plain) => Err(Rejection::EncodedSlash),
            None => Ok(()),
        }
    }

    fn methods(&self) -> &[Method] {
        if self.methods.is_empty() { &USUAL_METHODS } else { &self.methods }
    }
}

/// A request's path as routes compare it.
struct RequestPath<'r> {
    /// With its escapes decoded once.
    plain: &'r str,
    /// As forgiving upstreams read it, where that is something else.
    lenient: Vec<LenientReading>,
}

impl<'r> RequestPath<'r> {
    fn of(request: RequestView<'r>) -> RequestPath<'r> {
        RequestPath::new(request.decoded_path())
    }

    fn new(plain: &'r str) -> RequestPath<'r> {
        let lenient = if may_be_read_otherwise(plain) { lenient_readings(plain) } else { Vec::new() };
        RequestPath { plain, lenient }
    }
}

/// A path as a forgiving upstream reads it.
#[derive(Debug, PartialEq, Eq)]
struct LenientReading {
    path: String,
    /// Whether it leads elsewhere by a dot segment, one that stands before an encoded `?` or `#`.
    has_dot_segment: bool,
}

fn may_be_read_otherwise(path: &str) -> bool {
    let mut previous = 0;
    let differs = |byte| {
        let is_end = byte == b'/' && (previous == b'/' || previous == b'.');
        previous = byte;
        is_end || matches!(byte, b';' | b'%' | b'?' | b'#' | b'\\' | b' ')
    };
    path.bytes().any(differs) || path.ends_with('.')
}

/// What upstreams read that decode the escapes of a path once more, twice more, and so on to the end. Escapes that are not UTF-8
/// hide nothing.
fn lenient_readings(plain: &str) -> Vec<LenientReading> {
    let mut readings = Vec::new();
    let mut decoded = plain.as_bytes().to_vec();
    for _ in 0..=MAX_DECODINGS {
        let reading = as_read_leniently(&String::from_utf8_lossy(&decoded));
        if reading.path != plain && !readings.contains(&reading) {
            readings.push(reading);
        }
        let again: Vec<u8> = percent_decode(&decoded).collect();
        if again == decoded {
            break;
        }
        decoded = again;
    }
    readings
}

/// The path cut where a query or a fragment would begin, with `\` for `/`, without parameters, without blanks and dots at the ends of
/// segments, without empty segments, and with dot segments resolved.
fn as_read_leniently(path: &str) -> LenientReading {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let (mut segments, mut has_dot_segment) = (Vec::new(), false);
    for segment in path.split(['/', '\\']) {
        match segment.split(';').next().unwrap_or(segment).trim() {
            ".." => {
                has_dot_segment = true;
                segments.pop();
            }
            name => segments.extend(Some(name.trim_end_matches(['.', ' '])).filter(|name| !name.is_empty())),
        }
    }
    LenientReading { path: format!("/{}", segments.join("/")), has_dot_segment }
}

/// All routes, and the order of matching.
#[derive(Debug)]
pub(crate) struct Routes {
    routes: Vec<Route>,
    order: Vec<RouteRef>,
}

impl Routes {
    /// Compiles the routes of a configuration. `max_body` is the default; `upstream` returns an upstream and
    /// its index by name, which the validated configuration has.
    pub(crate) fn new<'u>(
        settings: &[crate::config::Route],
        max_body: u64,
        upstream: impl Fn(&str) -> Option<(usize, &'u Upstream)>,
        mut static_root: impl FnMut(&std::path::Path, Option<&str>) -> Result<Arc<StaticRoot>, std::io::Error>,
    ) -> Result<Routes, std::io::Error> {
        let routes = settings
            .iter()
            .enumerate()
            .map(|(index, route)| {
                let target = match &route.target {
                    RouteTarget::Upstream { name, options } => {
                        let (place, upstream) = upstream(name)
                            .ok_or_else(|| std::io::Error::other(format!("no upstream is called {name}")))?;
                        Target::Upstream(Forwarding {
                            upstream: place,
                            host: upstream.fixed_host(),
                            timeouts: options.timeouts.with(upstream.timeouts),
                            own_timeouts: options.timeouts,
                            new_prefix: options.new_prefix().map(str::to_owned),
                            authorization: options.authorization.clone(),
                            assertion: upstream.assertion == Some(true),
                            encoded_slashes: options.encoded_slashes,
                            lenient_path: options.lenient_path,
                            rewrite_locations: options.rewrite_locations,
                            upgrades: options.upgrade.clone(),
                            token_in_subprotocol: options.token_in_subprotocol,
                            request_buffering: options.request_buffering,
                            compress: options.compress,
                        })
                    }
                    RouteTarget::Static { root, index_fallback, content_security_policy } => Target::Static {
                        root: static_root(root, content_security_policy.as_deref())?,
                        index_fallback: *index_fallback,
                    },
                    RouteTarget::Redirect(redirect) => Target::Redirect(redirect.clone()),
                    RouteTarget::Respond(response) => Target::DirectResponse(DirectResponse::new(response)),
                };
                Ok(Route {
                    path: route.path.clone(),
                    ignore_case: route.ignores_case(),
                    methods: route.methods.clone(),
                    access: route.access,
                    basic: route.basic,
                    unauthenticated: route.unauthenticated,
                    dpop: route.dpop,
                    roles: route.roles.clone(),
                    claims: route.claims.clone(),
                    audience: route.audience.clone(),
                    mfa: route.mfa,
                    fresh_within: route.fresh_within,
                    issuers: IssuerSet::OWN,
                    max_body: route.max_body.unwrap_or(max_body),
                    request_headers: HeaderEdits::new(&route.request_headers),
                    response_headers: HeaderEdits::new(&route.response_headers),
                    target,
                    index,
                })
            })
            .collect::<Result<Vec<_>, std::io::Error>>()?;
        Ok(Routes { routes, order: matching_order(settings) })
    }

    /// The same, accepting tokens of `issuers` where the `settings` name them.
    pub(crate) fn with_issuers(
        mut self,
        settings: &[crate::config::Route],
        issuers: &[IssuerSettings],
    ) -> Routes {
        for (route, settings) in self.routes.iter_mut().zip(settings) {
            route.issuers = IssuerSet::of(&settings.issuers, issuers);
        }
        self
    }

    /// The route with this index in the configuration.
    pub(crate) fn at(&self, index: usize) -> &Route {
        &self.routes[index]
    }

    /// The route of a request.
    ///
    /// # Errors
    ///
    /// No route matches the host and path, or none of those that do accepts the method, or the spelling of the path.
    pub(crate) fn select(&self, request: RequestView<'_>) -> Result<&Route, Rejection> {
        self.select_noting(request, &Cell::default())
    }

    /// The same; `matched` is the route by host and path also where the request is refused for its method or spelling: the
    /// refusal has that route's CORS policy and label.
    pub(crate) fn select_noting(
        &self,
        request: RequestView<'_>,
        matched: &Cell<Option<usize>>,
    ) -> Result<&Route, Rejection> {
        let (path, host, target) = (RequestPath::of(request), request.host(), request.target());
        let Some(first) = self.first(&path, &host) else {
            return Err(target.oddity().map_or_else(|| self.no_route(&host), Rejection::BadTarget));
        };
        let mut route = &self.routes[first.route];
        matched.set(Some(route.index));
        if self.leads_elsewhere(first, &path, &host) {
            return Err(Rejection::BadTarget(TargetError::Ambiguous("a dot segment")));
        }
        if !route.fits_method(request.method()) {
            route = self.with_method(first, request)?;
            matched.set(Some(route.index));
        }
        route.check_spelling(&target, path.plain)?;
        Ok(route)
    }

    /// The first route that matches a host and path. A public one takes no path that some upstream reads as one of a protected
    /// route.
    fn first(&self, path: &RequestPath<'_>, host: &Host<'_>) -> Option<&RouteRef> {
        let first = self.order.iter().find(|placed| self.fits(placed, path, host))?;
        let is_public = self.routes[first.route].access != Access::Authenticated;
        let protected = || path.lenient.iter().find_map(|reading| self.protected(&reading.path, host));
        Some(is_public.then(protected).flatten().unwrap_or(first))
    }

    /// Whether upstreams that decode dot segments see a path of another protected route than this one.
    fn leads_elsewhere(&self, first: &RouteRef, path: &RequestPath<'_>, host: &Host<'_>) -> bool {
        let first_path = &self.routes[first.route].path;
        let mut readings = path.lenient.iter().map(|reading| &*reading.path).chain([path.plain]);
        path.lenient.iter().any(|reading| reading.has_dot_segment)
            && readings.any(|reading| {
                self.protected(reading, host)
                    .is_some_and(|other| self.routes[other.route].path != *first_path)
            })
    }

    /// The protected route that a reading of a path leads to.
    fn protected(&self, path: &str, host: &Host<'_>) -> Option<&RouteRef> {
        let is_read =
            |placed: &&RouteRef| fits_host(placed, host) && self.routes[placed.route].fits_path_plainly(path);
        let first = self.order.iter().find(is_read)?;
        (self.routes[first.route].access == Access::Authenticated).then_some(first)
    }

    /// The route of the request that a CORS preflight is about, and the methods of all routes of that host and path.
    pub(crate) fn select_for_preflight(
        &self,
        request: RequestView<'_>,
        method: &Method,
    ) -> Option<(&Route, Vec<Method>)> {
        let (path, host) = (request.decoded_path(), request.host());
        let lenient = RequestPath::new(path);
        let first = self.first(&lenient, &host)?;
        let (first_route, mut methods) = (&self.routes[first.route], Vec::new());
        let beside = self.beside(first, &host, &lenient);
        for method in beside.iter().flat_map(|route| route.methods()) {
            if !methods.contains(method) {
                methods.push(method.clone());
            }
        }
        let route = beside.into_iter().find(|route| route.fits_method(method)).unwrap_or(first_route);
        let is_refused = self.leads_elsewhere(first, &lenient, &host);
        (!is_refused && route.check_spelling(&request.target(), path).is_ok()).then_some((route, methods))
    }

    /// The routes of the very same host and path. A public one is none of them for a spelling that only its protected
    /// neighbours cover.
    fn beside(&self, first: &RouteRef, host: &Host<'_>, path: &RequestPath<'_>) -> Vec<&Route> {
        let of_first = &self.routes[first.route].path;
        let placed =
            self.order.iter().filter(|placed| placed.rank == first.rank && self.fits(placed, path, host));
        placed.map(|placed| &self.routes[placed.route]).filter(|route| route.path == *of_first).collect()
    }

    /// Whether a path of this host is that of a route, as [`select`](Self::select) would find but for the method.
    pub(crate) fn leads_to(&self, route: &Route, path: &str, host: &Host<'_>) -> bool {
        let path = RequestPath::new(path);
        let first = self.first(&path, host).filter(|first| !self.leads_elsewhere(first, &path, host));
        first.is_some_and(|first| self.routes[first.route].path == route.path)
    }

    fn fits(&self, placed: &RouteRef, path: &RequestPath<'_>, host: &Host<'_>) -> bool {
        self.routes[placed.route].fits_path(path) && fits_host(placed, host)
    }

    /// The route of the very same host and path that accepts the request's method. A request never falls
    /// through to another host or path because of its method: that route may be less strict.
    fn with_method(&self, first: &RouteRef, request: RequestView<'_>) -> Result<&Route, Rejection> {
        let same = self.beside(first, &request.host(), &RequestPath::of(request));
        same.iter().find(|route| route.fits_method(request.method())).copied().ok_or_else(|| {
            let allowed = same
                .iter()
                .flat_map(|route| route.methods())
                .map(Method::as_str)
                .collect::<Vec<_>>()
                .join(", ");
            Rejection::RouteMethod(allowed)
        })
    }

    /// The match result of every route, in the order of matching.
    pub(crate) fn explain(&self, request: RequestView<'_>) -> Vec<(RouteRef, MatchResult)> {
        let (path, host, method) = (RequestPath::of(request), request.host(), request.method());
        let first = self.first(&path, &host);
        let verdict = |placed: &RouteRef| {
            let route = &self.routes[placed.route];
            let beside = first.filter(|f| f.rank == placed.rank && self.routes[f.route].path == route.path);
            match beside {
                _ if !fits_host(placed, &host) => MatchResult::HostMismatch,
                _ if !route.fits_path(&path) => MatchResult::PathMismatch,
                None => MatchResult::LowerPriority,
                Some(_) if !route.fits_method(method) => MatchResult::MethodMismatch,
                Some(_) => MatchResult::Matches,
            }
        };
        self.order.iter().map(|placed| (placed.clone(), verdict(placed))).collect()
    }

    fn no_route(&self, host: &Host<'_>) -> Rejection {
        if self.order.iter().any(|placed| fits_host(placed, host)) {
            Rejection::NoRoute
        } else {
            Rejection::HostNotServed
        }
    }
}

/// The result of matching a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MatchResult {
    Matches,
    HostMismatch,
    PathMismatch,
    MethodMismatch,
    /// It matches, but an earlier one takes the request or rejects its method.
    LowerPriority,
}

fn fits_host(placed: &RouteRef, host: &Host<'_>) -> bool {
    placed.hosts.is_empty()
        || placed.hosts.iter().any(|pattern| match pattern {
            HostPattern::Exact(name) => host.is(name),
            HostPattern::Below(name) => host.is_below(name),
        })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::admission::test_support::AdmittedHead;
    use crate::http1::TargetError;

    const ROUTES: &str = r#"
[users]
file = "Cargo.toml"
[upstreams.app]
urls = ["http://127.0.0.1:9"]
[[routes]]
path = "/api"
upstream = "app"
[[routes]]
path = "/api/public"
upstream = "app"
access = "public"
methods = ["GET"]
[[routes]]
path = "/api/public"
upstream = "app"
methods = ["PUT"]
[[routes]]
path = "/files"
upstream = "app"
encoded_slashes = true
[[routes]]
path = "/"
hosts = ["only.example"]
upstream = "app"
[[routes]]
path = "/wild"
hosts = ["*.example"]
upstream = "app"
"#;

    fn routes() -> Routes {
        let settings = crate::config::test_support::settings(ROUTES.to_owned());
        let no_folder = |_: &std::path::Path, _: Option<&str>| Err(std::io::Error::other("no folder"));
        Routes::new(&settings.routes, 1, |_| Some((0, &settings.upstreams["app"])), no_folder).unwrap()
    }

    #[test]
    fn the_closest_host_and_the_longest_path_decide_and_explain_says_the_same() {
        let routes = routes();
        let allowed = |methods: &str| Err(Rejection::RouteMethod(methods.to_owned()));
        let usual = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
        for (method, host, path, chosen) in [
            ("GET", "a", "/api", Ok(0)),
            ("GET", "a", "/api/x", Ok(0)),
            ("GET", "a", "/apis", Err(Rejection::NoRoute)),
            ("GET", "a", "/api/public", Ok(1)),
            ("GET", "a", "/api/public/x", Ok(1)),
            ("PUT", "a", "/api/public", Ok(2)),
            ("POST", "a", "/api/public", allowed("GET, PUT")),
            ("GET", "a", "/api/publicity", Ok(0)),
            // A protected path covers the spellings that an upstream could take for it; a public one never does.
            ("GET", "a", "/api;v=1", Ok(0)),
            ("PUT", "a", "/api/public;v=1", Ok(2)),
            ("GET", "a", "/api/public;v=1", allowed("PUT")),
            ("GET", "a", "/api%2Fx", Err(Rejection::EncodedSlash)),
            ("GET", "a", "/files/a%2Fb", Ok(3)),
            ("GET", "a", "/api//x", Err(Rejection::BadTarget(TargetError::Ambiguous("an empty segment")))),
            ("LOCK", "a", "/api", allowed(usual)),
            ("GET", "only.example", "/anything", Ok(4)),
            ("GET", "ONLY.example:80", "/anything", Ok(4)),
            ("GET", "b.example", "/wild", Ok(5)),
            ("GET", "example", "/wild", Err(Rejection::NoRoute)),
            ("GET", "b.example", "/api", Ok(0)),
        ] {
            let request = AdmittedHead::new(&format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n"));
            let found = routes.select(request.view()).map(|route| route.index);
            assert_eq!(found, chosen, "{method} {host}{path}");
            let explained = routes.explain(request.view());
            let matching: Vec<usize> = explained
                .iter()
                .filter(|(_, result)| *result == MatchResult::Matches)
                .map(|(placed, _)| placed.route)
                .collect();
            match chosen {
                Ok(route) => assert!(matching.contains(&route), "{method} {host}{path}: {explained:?}"),
                // A path that is refused for its spelling has a route.
                Err(Rejection::EncodedSlash | Rejection::BadTarget(_)) => {}
                Err(_) => assert!(matching.is_empty(), "{method} {host}{path}: {explained:?}"),
            }
        }
    }

    #[test]
    fn a_public_route_takes_no_path_that_some_upstream_reads_as_a_protected_one() {
        let text = r#"
[users]
file = "Cargo.toml"
[upstreams.app]
urls = ["http://127.0.0.1:9"]
[[routes]]
path = "/"
upstream = "app"
access = "public"
[[routes]]
path = "/admin"
upstream = "app"
[[routes]]
path = "/public/files"
upstream = "app"
access = "public"
[[routes]]
path = "/account"
upstream = "app"
[[routes]]
path = "/account/keys"
upstream = "app"
"#;
        let settings = crate::config::test_support::settings(text.to_owned());
        let no_folder = |_: &std::path::Path, _: Option<&str>| Err(std::io::Error::other("no folder"));
        let routes =
            Routes::new(&settings.routes, 1, |_| Some((0, &settings.upstreams["app"])), no_folder).unwrap();
        let dots = || Err(Rejection::BadTarget(TargetError::Ambiguous("a dot segment")));
        for (path, chosen) in [
            ("/x", Ok(0)),
            ("/x/%2561dmin", Ok(0)),
            ("/%2561dmin/x", Ok(1)),
            ("/%252561dmin/x", Ok(1)),
            // An escape that is not UTF-8 switches nothing off, wherever it stands and however deep.
            ("/%2561dmin/x;%25FF", Ok(1)),
            ("/%2561dmin/x%25FF", Ok(1)),
            ("/%2561dmin/x/%252580", Ok(1)),
            ("/%2561dmin%253B%25C3", Ok(1)),
            ("/public/files/x", Ok(2)),
            // A dot segment that shows only where an upstream takes what is behind it for a query.
            ("/public/files/..%3F", Ok(2)),
            ("/account/..%3F", Ok(3)),
            ("/account/keys/..%3F", dots()),
            ("/account/keys/..%23x", dots()),
        ] {
            let request = AdmittedHead::new(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n"));
            let found = routes.select(request.view()).map(|route| route.index);
            assert_eq!(found, chosen, "{path}");
        }
    }

    #[test]
    fn a_request_refused_for_its_method_or_spelling_has_a_route() {
        let routes = routes();
        for (method, path, route) in [
            ("POST", "/api/public", Some(1)),
            ("LOCK", "/files/x", Some(3)),
            ("GET", "/api%2Fx", Some(0)),
            ("GET", "/api//x", Some(0)),
            ("PUT", "/api/public", Some(2)),
            ("GET", "/nowhere", None),
        ] {
            let request = AdmittedHead::new(&format!("{method} {path} HTTP/1.1\r\nHost: a\r\n"));
            let matched = Cell::default();
            let selected = routes.select_noting(request.view(), &matched).is_ok();
            assert_eq!((matched.get(), selected), (route, method == "PUT"), "{method} {path}");
        }
    }
}
