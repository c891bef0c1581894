//! Choosing the route: the closest host, then the longest path, by segments; no route, no entry.

use std::sync::Arc;

use http::Method;
use percent_encoding::percent_decode_str;

use crate::config::{
    Access, HostPattern, Redirect, RequiredClaim, RouteRef, RouteTarget, Timeouts, Upstream,
    UpstreamAuthorization, matching_order,
};
use crate::http1::{CanonicalTarget, Host};
use crate::layers::admission::USUAL_METHODS;
use crate::proxy::header_edits::HeaderEdits;
use crate::rejection::Rejection;
use crate::request::{Admitted, RequestView, Routed};
use crate::services::direct_response::DirectResponse;
use crate::services::static_files::StaticRoot;

/// The step: [`Admitted`] to [`Routed`].
pub(crate) fn route_request(admitted: Admitted) -> Result<Routed, Rejection> {
    let context = admitted.context();
    let route = context.state.config.routes.select(admitted.view())?.index;
    context.record.route.set(Some(route));
    Ok(Routed::new(admitted, route))
}

/// A route, prepared.
#[derive(Debug)]
pub(crate) struct Route {
    path: String,
    ignore_case: bool,
    methods: Vec<Method>,
    pub(crate) access: Access,
    pub(crate) roles: Vec<String>,
    pub(crate) claims: Vec<RequiredClaim>,
    /// The most bytes that a request's body may have.
    pub(crate) max_body: u64,
    pub(crate) request_headers: Option<HeaderEdits>,
    pub(crate) response_headers: Option<HeaderEdits>,
    pub(crate) target: Target,
    /// Its place in the metrics.
    pub(crate) index: usize,
}

/// Where a route leads.
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
    /// The upstream's place among those of the configuration.
    pub(crate) upstream: usize,
    pub(crate) timeouts: Timeouts,
    /// What the upstream sees as `Host` instead of what the client sent.
    pub(crate) host: Option<String>,
    /// What the upstream gets in place of the route's path: nothing, or segments that begin with a slash.
    pub(crate) new_prefix: Option<String>,
    pub(crate) authorization: UpstreamAuthorization,
    /// The protocols that connections may switch to.
    pub(crate) upgrades: Vec<String>,
    /// Whether these may bring their token among their subprotocols.
    pub(crate) token_in_subprotocol: bool,
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
                && path.lenient.as_deref().is_some_and(|path| self.fits_path_plainly(path)))
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
    fn check_spelling(&self, target: &CanonicalTarget<'_>, path: &str) -> Result<(), Rejection> {
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
    /// As the most forgiving upstream reads it, where that is something else.
    lenient: Option<String>,
}

impl<'r> RequestPath<'r> {
    fn of(request: RequestView<'r>) -> RequestPath<'r> {
        RequestPath::new(request.decoded_path())
    }

    fn new(plain: &'r str) -> RequestPath<'r> {
        RequestPath { plain, lenient: may_be_read_otherwise(plain).then(|| as_read_leniently(plain)) }
    }
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

/// The path with all escapes decoded, cut where a query or a fragment would begin, with `\` for `/`, without parameters, without
/// blanks and dots at the ends of segments, without empty segments, and with dot segments resolved.
fn as_read_leniently(path: &str) -> String {
    let mut decoded = path.to_owned();
    while let Ok(again) = percent_decode_str(&decoded).decode_utf8()
        && again != decoded
    {
        decoded = again.into_owned();
    }
    let path = decoded.split(['?', '#']).next().unwrap_or_default();
    let mut segments = Vec::new();
    for segment in path.split(['/', '\\']) {
        match segment.split(';').next().unwrap_or(segment).trim() {
            ".." => drop(segments.pop()),
            name => segments.extend(Some(name.trim_end_matches(['.', ' '])).filter(|name| !name.is_empty())),
        }
    }
    format!("/{}", segments.join("/"))
}

/// All routes, and the order in which they are tried.
#[derive(Debug)]
pub(crate) struct Routes {
    routes: Vec<Route>,
    order: Vec<RouteRef>,
}

impl Routes {
    /// Prepares the routes of a configuration. `max_body` is for those that say nothing of it; `upstream` gives an upstream and
    /// its place by its name; the configuration was checked, so it has one.
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
                    RouteTarget::Upstream {
                        name,
                        new_prefix,
                        authorization,
                        encoded_slashes,
                        lenient_path,
                        rewrite_locations,
                        upgrades,
                        token_in_subprotocol,
                        timeouts,
                        ignore_case: _,
                    } => {
                        let (place, upstream) = upstream(name)
                            .ok_or_else(|| std::io::Error::other(format!("no upstream is called {name}")))?;
                        Target::Upstream(Forwarding {
                            upstream: place,
                            host: upstream.fixed_host(),
                            timeouts: timeouts.with(upstream.timeouts),
                            new_prefix: new_prefix.clone(),
                            authorization: authorization.clone(),
                            encoded_slashes: *encoded_slashes,
                            lenient_path: *lenient_path,
                            rewrite_locations: *rewrite_locations,
                            upgrades: upgrades.clone(),
                            token_in_subprotocol: *token_in_subprotocol,
                        })
                    }
                    RouteTarget::Static { root, index_fallback, content_security_policy } => Target::Static {
                        root: static_root(root, content_security_policy.as_deref())?,
                        index_fallback: *index_fallback,
                    },
                    RouteTarget::Redirect(redirect) => Target::Redirect(redirect.clone()),
                    RouteTarget::Answer(answer) => Target::DirectResponse(DirectResponse::new(answer)),
                };
                Ok(Route {
                    path: route.path.clone(),
                    ignore_case: route.ignores_case(),
                    methods: route.methods.clone(),
                    access: route.access,
                    roles: route.roles.clone(),
                    claims: route.claims.clone(),
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

    /// The route at this index in the configuration.
    pub(crate) fn at(&self, index: usize) -> &Route {
        &self.routes[index]
    }

    /// The route of a request.
    ///
    /// # Errors
    ///
    /// No route is for this host or path, or none of those that are takes the method.
    pub(crate) fn select(&self, request: RequestView<'_>) -> Result<&Route, Rejection> {
        let (path, host, target) = (RequestPath::of(request), request.host(), request.target());
        let Some(first) = self.order.iter().find(|placed| self.fits(placed, &path, &host)) else {
            return Err(target.oddity().map_or_else(|| self.no_route(&host), Rejection::BadTarget));
        };
        let mut route = &self.routes[first.route];
        if !route.fits_method(request.method()) {
            route = self.with_method(first, request)?;
        }
        route.check_spelling(&target, path.plain)?;
        Ok(route)
    }

    /// Whether a path of this host is that of a route, as [`select`](Self::select) would find but for the method.
    pub(crate) fn leads_to(&self, route: &Route, path: &str, host: &Host<'_>) -> bool {
        let path = RequestPath::new(path);
        let first = self.order.iter().find(|placed| self.fits(placed, &path, host));
        first.is_some_and(|first| self.routes[first.route].path == route.path)
    }

    fn fits(&self, placed: &RouteRef, path: &RequestPath<'_>, host: &Host<'_>) -> bool {
        self.routes[placed.route].fits_path(path) && fits_host(placed, host)
    }

    /// The route of the very same host and path that takes the request's method. A request never goes on to another
    /// host or path because of its method: that route may ask for less.
    fn with_method(&self, first: &RouteRef, request: RequestView<'_>) -> Result<&Route, Rejection> {
        let host = request.host();
        let path = &self.routes[first.route].path;
        let same = || {
            let placed =
                self.order.iter().filter(|placed| placed.rank == first.rank && fits_host(placed, &host));
            placed.map(|placed| &self.routes[placed.route]).filter(|route| route.path == *path)
        };
        same().find(|route| route.fits_method(request.method())).ok_or_else(|| {
            let allowed = same().flat_map(Route::methods).map(Method::as_str).collect::<Vec<_>>().join(", ");
            Rejection::RouteMethod(allowed)
        })
    }

    /// What becomes of every route for a request, in the order in which they are tried.
    pub(crate) fn explain(&self, request: RequestView<'_>) -> Vec<(RouteRef, MatchResult)> {
        let (path, host, method) = (RequestPath::of(request), request.host(), request.method());
        let first = self.order.iter().find(|placed| self.fits(placed, &path, &host));
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

/// What a route has to do with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MatchResult {
    Matches,
    HostMismatch,
    PathMismatch,
    MethodMismatch,
    /// It would fit, but one before it takes the request or refuses its method.
    LowerPriority,
}

fn fits_host(placed: &RouteRef, host: &Host<'_>) -> bool {
    placed.hosts.is_empty()
        || placed.hosts.iter().any(|pattern| match pattern {
            HostPattern::Exact(name) => host.is(name),
            HostPattern::Below(name) => host.is_below(name),
        })
}
