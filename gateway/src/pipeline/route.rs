//! Choosing the route: the longest path that fits, by segments; no route, no entry.

use std::sync::Arc;

use http::Method;

use super::admission::{Admitted, USUAL_METHODS};
use super::static_files::StaticRoot;
use crate::config::{Access, RouteTarget};
use crate::problem::{Code, Rejection};
use crate::wire::Host;

/// A route, prepared.
#[derive(Debug)]
pub(crate) struct Route {
    path: String,
    hosts: Vec<String>,
    methods: Vec<Method>,
    pub(crate) access: Access,
    pub(crate) roles: Vec<String>,
    pub(crate) target: Target,
    /// Its place in the metrics.
    pub(crate) index: usize,
}

/// Where a route leads.
#[derive(Debug)]
pub(crate) enum Target {
    Upstream(Forwarding),
    Static(Arc<StaticRoot>),
}

/// How a route forwards.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forwarding {
    /// The upstream's place among those of the configuration.
    pub(crate) upstream: usize,
    pub(crate) strip_prefix: bool,
    pub(crate) forward_token: bool,
    encoded_slashes: bool,
}

impl Route {
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    fn fits_path(&self, path: &str) -> bool {
        if self.path == "/" {
            return path.starts_with('/');
        }
        let below = |path: &str| {
            path.strip_prefix(&self.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        // Upstreams that know path parameters read `/api;x` as `/api`: a protected path covers that spelling too,
        // a public one never does.
        below(path)
            || (self.access == Access::Authenticated
                && path.contains(';')
                && below(&without_parameters(path)))
    }

    fn fits_host(&self, host: &Host<'_>) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|name| host.is(name))
    }

    fn fits_method(&self, method: &Method) -> bool {
        self.methods().contains(method)
    }

    fn methods(&self) -> &[Method] {
        if self.methods.is_empty() { &USUAL_METHODS } else { &self.methods }
    }
}

fn without_parameters(path: &str) -> String {
    path.split('/').map(|segment| segment.split(';').next().unwrap_or(segment)).collect::<Vec<_>>().join("/")
}

/// All routes, longest path first; of equal paths those with hosts first.
#[derive(Debug)]
pub(crate) struct Routes {
    ordered: Vec<Route>,
}

impl Routes {
    /// Prepares the routes of a configuration. `upstream` gives an upstream's place by its name; the configuration
    /// was checked, so it has one.
    pub(crate) fn new(
        routes: &[crate::config::Route],
        upstream: impl Fn(&str) -> Option<usize>,
        mut static_root: impl FnMut(&std::path::Path) -> Result<Arc<StaticRoot>, std::io::Error>,
    ) -> Result<Routes, std::io::Error> {
        let mut ordered = routes
            .iter()
            .enumerate()
            .map(|(index, route)| {
                let target = match &route.target {
                    RouteTarget::Upstream { name, strip_prefix, forward_token, encoded_slashes } => {
                        Target::Upstream(Forwarding {
                            upstream: upstream(name).ok_or_else(|| {
                                std::io::Error::other(format!("no upstream is called {name}"))
                            })?,
                            strip_prefix: *strip_prefix,
                            forward_token: *forward_token,
                            encoded_slashes: *encoded_slashes,
                        })
                    }
                    RouteTarget::Static { root } => Target::Static(static_root(root)?),
                };
                Ok(Route {
                    path: route.path.clone(),
                    hosts: route.hosts.clone(),
                    methods: route.methods.clone(),
                    access: route.access,
                    roles: route.roles.clone(),
                    target,
                    index,
                })
            })
            .collect::<Result<Vec<_>, std::io::Error>>()?;
        let segments = |path: &str| path.split('/').filter(|s| !s.is_empty()).count();
        ordered.sort_by_key(|r| std::cmp::Reverse((segments(&r.path), !r.hosts.is_empty())));
        Ok(Routes { ordered })
    }

    /// The route of a request.
    pub(crate) fn select(&self, request: &Admitted<'_>) -> Result<&Route, Rejection> {
        let (path, host, method) = (request.target().decoded_path(), request.host(), request.method());
        let fitting = || self.ordered.iter().filter(|r| r.fits_path(path) && r.fits_host(&host));
        let Some(longest) = fitting().next() else { return Err(self.no_route(&host)) };
        // Only routes with the very same path and hosts share its methods: a request never falls through to a
        // shorter path, which may be less protected.
        let same =
            || fitting().filter(|r| r.path == longest.path && r.hosts.is_empty() == longest.hosts.is_empty());
        let Some(route) = same().find(|r| r.fits_method(method)) else {
            let allowed = same().flat_map(Route::methods).map(Method::as_str).collect::<Vec<_>>().join(", ");
            return Err(
                Rejection::new(Code::MethodNotAllowed, "the route does not take this method").allow(allowed)
            );
        };
        if request.target().has_encoded_slash()
            && !matches!(route.target, Target::Upstream(Forwarding { encoded_slashes: true, .. }))
        {
            return Err(Rejection::new(Code::AmbiguousTarget, "the request target has an encoded slash"));
        }
        Ok(route)
    }

    fn no_route(&self, host: &Host<'_>) -> Rejection {
        if self.ordered.iter().any(|r| r.fits_host(host)) {
            Rejection::new(Code::NotFound, "no route leads here")
        } else {
            Rejection::new(Code::Misdirected, "no route is for this host")
        }
    }
}
