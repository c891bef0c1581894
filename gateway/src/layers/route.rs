//! Choosing the route: the closest host, then the longest path, by segments; no route, no entry.

use std::sync::Arc;

use http::Method;

use crate::config::{
    Access, HostPattern, Redirect, RequiredClaim, RouteRef, RouteTarget, RouteTimeouts, Timeouts, Upstream, matching_order,
};
use crate::http1::Host;
use crate::layers::admission::USUAL_METHODS;
use crate::layers::cors::requested_method;
use crate::proxy::header_edits::HeaderEdits;
use crate::rejection::Rejection;
use crate::request::{Admitted, RequestView, Routed};
use crate::services::direct_response::DirectResponse;
use crate::services::static_files::StaticRoot;

/// The step: [`Admitted`] to [`Routed`].
pub(crate) fn route_request(admitted: Admitted) -> Result<Routed, Rejection> {
    let context = admitted.context();
    let (routes, view) = (&context.state.config.routes, admitted.view());
    let asked_for = context.is_passed_preflight().then(|| requested_method(view.head())).flatten();
    let route = match asked_for.and_then(|method| routes.select_for_preflight(view, &method)) {
        Some((route, _)) => route.index,
        None => routes.select(view)?.index,
    };
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
    /// The route's own timeouts, where it has them.
    pub(crate) own_timeouts: RouteTimeouts,
    /// What the upstream sees as `Host` instead of what the client sent.
    pub(crate) host: Option<String>,
    /// What the upstream gets in place of the route's path: nothing, or segments that begin with a slash.
    pub(crate) new_prefix: Option<String>,
    pub(crate) forward_token: bool,
    /// Whether it takes WebSockets.
    pub(crate) websocket: bool,
    /// Whether these may bring their token among their subprotocols.
    pub(crate) token_in_subprotocol: bool,
    encoded_slashes: bool,
}

impl Route {
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    fn fits_path(&self, path: &str) -> bool {
        // Upstreams that know path parameters read `/api;x` as `/api`, and some decode `%2F`: a protected path covers
        // those spellings too, a public one never does.
        self.fits_path_plainly(path)
            || (self.access == Access::Authenticated
                && memchr::memchr2(b';', b'%', path.as_bytes()).is_some()
                && self.fits_path_plainly(&as_read_leniently(path)))
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

    /// Where the upstream may take them for slashes, a path that is this route's only then is refused all the same.
    fn takes_encoded_slashes(&self, path: &str) -> bool {
        matches!(self.target, Target::Upstream(Forwarding { encoded_slashes: true, .. }))
            && self.fits_path_plainly(path)
    }

    fn methods(&self) -> &[Method] {
        if self.methods.is_empty() { &USUAL_METHODS } else { &self.methods }
    }
}

/// The path without parameters, and with encoded slashes taken for slashes.
fn as_read_leniently(path: &str) -> String {
    let path = path.replace("%2F", "/").replace("%2f", "/");
    path.split('/').map(|segment| segment.split(';').next().unwrap_or(segment)).collect::<Vec<_>>().join("/")
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
                        forward_token,
                        encoded_slashes,
                        websocket,
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
                            own_timeouts: *timeouts,
                            new_prefix: new_prefix.clone(),
                            forward_token: *forward_token,
                            encoded_slashes: *encoded_slashes,
                            websocket: *websocket,
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
        let (path, host) = (request.decoded_path(), request.host());
        let Some(first) = self.order.iter().find(|placed| self.fits(placed, path, &host)) else {
            return Err(self.no_route(&host));
        };
        let mut route = &self.routes[first.route];
        if !route.fits_method(request.method()) {
            route = self.with_method(first, request)?;
        }
        if request.target().has_encoded_slash() && !route.takes_encoded_slashes(path) {
            return Err(Rejection::EncodedSlash);
        }
        Ok(route)
    }

    /// The route of the request that a CORS preflight is about, and the methods of all routes of that host and path.
    pub(crate) fn select_for_preflight(
        &self,
        request: RequestView<'_>,
        method: &Method,
    ) -> Option<(&Route, Vec<Method>)> {
        let (path, host) = (request.decoded_path(), request.host());
        let first = self.order.iter().find(|placed| self.fits(placed, path, &host))?;
        let (first_route, mut methods) = (&self.routes[first.route], Vec::new());
        let beside = self.beside(first, &host);
        for method in beside.iter().flat_map(|route| route.methods()) {
            if !methods.contains(method) {
                methods.push(method.clone());
            }
        }
        let route = beside.into_iter().find(|route| route.fits_method(method)).unwrap_or(first_route);
        let plain = !request.target().has_encoded_slash() || route.takes_encoded_slashes(path);
        plain.then_some((route, methods))
    }

    /// The routes of the very same host and path.
    fn beside(&self, first: &RouteRef, host: &Host<'_>) -> Vec<&Route> {
        let path = &self.routes[first.route].path;
        let placed = self.order.iter().filter(|placed| placed.rank == first.rank && fits_host(placed, host));
        placed.map(|placed| &self.routes[placed.route]).filter(|route| route.path == *path).collect()
    }

    fn fits(&self, placed: &RouteRef, path: &str, host: &Host<'_>) -> bool {
        self.routes[placed.route].fits_path(path) && fits_host(placed, host)
    }

    /// The route of the very same host and path that takes the request's method. A request never goes on to another
    /// host or path because of its method: that route may ask for less.
    fn with_method(&self, first: &RouteRef, request: RequestView<'_>) -> Result<&Route, Rejection> {
        let same = self.beside(first, &request.host());
        same.iter().find(|route| route.fits_method(request.method())).copied().ok_or_else(|| {
            let allowed = same.iter().flat_map(|route| route.methods()).map(Method::as_str);
            Rejection::RouteMethod(allowed.collect::<Vec<_>>().join(", "))
        })
    }

    /// What becomes of every route for a request, in the order in which they are tried.
    pub(crate) fn explain(&self, request: RequestView<'_>) -> Vec<(RouteRef, MatchResult)> {
        let (path, host, method) = (request.decoded_path(), request.host(), request.method());
        let first = self.order.iter().find(|placed| self.fits(placed, path, &host));
        let verdict = |placed: &RouteRef| {
            let route = &self.routes[placed.route];
            let beside = first.filter(|f| f.rank == placed.rank && self.routes[f.route].path == route.path);
            match beside {
                _ if !fits_host(placed, &host) => MatchResult::HostMismatch,
                _ if !route.fits_path(path) => MatchResult::PathMismatch,
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
