//! `[[routes]]`: matching, access rules, target, and the order of matching.

use std::cmp::Reverse;
use std::path::PathBuf;

use serde::Deserialize;

use super::{FixedResponse, Redirect, Route, RouteTimeouts, Secret, Timeouts, UpstreamTarget};

impl Route {
    /// Whether its path is compared without case.
    pub fn ignores_case(&self) -> bool {
        matches!(&self.target, RouteTarget::Upstream { options, .. } if options.ignore_case)
    }
}

/// One of a route's `hosts`, in lower case, without port and trailing dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    /// `app.example`: this name.
    Exact(String),
    /// `*.app.example`: every subdomain at any depth, but not the name itself.
    Below(String),
}

impl HostPattern {
    /// Whether every host that matches `other` matches this pattern too.
    pub fn covers(&self, other: &HostPattern) -> bool {
        match (self, other) {
            (HostPattern::Exact(name), HostPattern::Exact(other)) => name == other,
            (HostPattern::Exact(_), HostPattern::Below(_)) => false,
            (HostPattern::Below(name), HostPattern::Exact(other)) => is_below(other, name),
            (HostPattern::Below(name), HostPattern::Below(other)) => name == other || is_below(other, name),
        }
    }
}

/// Whether `host` is a subdomain of `name`.
fn is_below(host: &str, name: &str) -> bool {
    host.strip_suffix(name).and_then(|rest| rest.strip_suffix('.')).is_some_and(|label| !label.is_empty())
}

impl std::fmt::Display for HostPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HostPattern::Exact(name) => f.write_str(name),
            HostPattern::Below(name) => write!(f, "*.{name}"),
        }
    }
}

/// Specificity of a route's hosts: the most specific is tried first. Of those of one rank a host matches one
/// at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostRank {
    /// No `hosts`.
    Every,
    /// A wildcard of this many bytes.
    Below(usize),
    /// An exact name.
    Exact,
}

/// A route in the order of matching. One with hosts of several ranks appears several times.
#[derive(Debug, Clone)]
pub struct RouteRef {
    /// The route's index in the configuration.
    pub route: usize,
    /// The rank of the hosts.
    pub rank: HostRank,
    /// The hosts of the route with this rank; empty means every host.
    pub hosts: Vec<HostPattern>,
}

impl RouteRef {
    /// Whether every host of `pattern` matches here.
    pub fn covers(&self, pattern: &HostPattern) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|host| host.covers(pattern))
    }
}

/// The order of matching: an exact host before a wildcard, a longer wildcard before a shorter one, both
/// before routes for every host; for one host the path with more segments first. The first route with a
/// matching host and path decides, together with those of the same host and path with other methods: a
/// request never falls through to the next because of its method, for that one may be less strict.
pub fn matching_order(routes: &[Route]) -> Vec<RouteRef> {
    let mut order: Vec<RouteRef> = Vec::new();
    for (route, settings) in routes.iter().enumerate() {
        let first = order.len();
        if settings.hosts.is_empty() {
            order.push(RouteRef { route, rank: HostRank::Every, hosts: Vec::new() });
        }
        for host in &settings.hosts {
            let rank = match host {
                HostPattern::Exact(_) => HostRank::Exact,
                HostPattern::Below(name) => HostRank::Below(name.len()),
            };
            match order[first..].iter_mut().find(|placed| placed.rank == rank) {
                Some(placed) => placed.hosts.push(host.clone()),
                None => order.push(RouteRef { route, rank, hosts: vec![host.clone()] }),
            }
        }
    }
    let segments = |placed: &RouteRef| routes[placed.route].path.split('/').filter(|s| !s.is_empty()).count();
    order.sort_by_key(|placed| Reverse((placed.rank, segments(placed))));
    order
}

/// A claim that a route requires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequiredClaim {
    /// Its name.
    pub claim: String,
    /// It equals one of these, or is a list that contains one of them.
    pub any_of: Vec<ClaimScalar>,
}

/// A value that a claim can equal.
#[allow(missing_docs)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimScalar {
    Text(String),
    Integer(i64),
    Boolean(bool),
}

impl std::fmt::Display for RequiredClaim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = |scalar: &ClaimScalar| match scalar {
            ClaimScalar::Text(text) => text.clone(),
            ClaimScalar::Integer(number) => number.to_string(),
            ClaimScalar::Boolean(boolean) => boolean.to_string(),
        };
        write!(f, "{}={}", self.claim, self.any_of.iter().map(value).collect::<Vec<_>>().join("|"))
    }
}

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Everyone; tokens are ignored.
    Public,
    /// Everyone; a valid token gives an identity, an invalid one is rejected.
    Optional,
    /// Requires a valid access token.
    Authenticated,
}

impl Access {
    /// The word of the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Access::Public => "public",
            Access::Optional => "optional",
            Access::Authenticated => "authenticated",
        }
    }
}

/// What a request without a session gets where it needs one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unauthenticated {
    /// The way to the sign-in page, whatever asks.
    Login,
    /// 401, whoever asks.
    Refuse,
}

/// The target of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteTarget {
    /// `upstream = "name"`
    Upstream {
        /// A key of `[upstreams]`.
        name: String,
        /// The route's keys for it.
        options: Box<UpstreamTarget>,
    },
    /// `static = "dir"`
    Static {
        /// The folder served.
        root: PathBuf,
        /// `index_fallback`, default false: paths that match no file get the folder's `index.html`.
        index_fallback: bool,
        /// `content_security_policy`; `None` for `"off"`.
        content_security_policy: Option<String>,
    },
    /// `redirect = { to = "…" }`
    Redirect(Redirect),
    /// `respond = { status = … }`
    Respond(FixedResponse),
}

/// What the upstream gets as `Authorization`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamAuthorization {
    /// Nothing.
    Removed,
    /// On public routes: what the client sends, but for the gateway's own tokens.
    AppsOwn,
    /// `forward_authorization = true`: what the client sends.
    Forwarded,
    /// `upstream_authorization`: this value, visible ASCII and blanks.
    Set(Secret<String>),
}

impl RouteTimeouts {
    /// The effective timeouts with an upstream of these.
    pub fn with(&self, upstream: Timeouts) -> Timeouts {
        Timeouts {
            response: self.response.unwrap_or(upstream.response),
            body: self.body.unwrap_or(upstream.body),
            total: self.total.unwrap_or(upstream.total),
            retries: self.retries.unwrap_or(upstream.retries),
        }
    }
}

impl std::fmt::Display for RouteTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RouteTarget::Upstream { name, .. } => write!(f, "upstream {name}"),
            RouteTarget::Static { root, .. } => write!(f, "files {}", root.display()),
            RouteTarget::Redirect(redirect) => {
                write!(f, "redirect {} to ", redirect.status.as_u16())?;
                redirect.to.iter().try_for_each(|part| part.fmt(f))
            }
            RouteTarget::Respond(response) => write!(f, "response {}", response.status.as_u16()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HeaderEdits;

    fn route(path: &str, hosts: &[&str]) -> Route {
        let host = |name: &&str| match name.strip_prefix("*.") {
            Some(rest) => HostPattern::Below(rest.to_owned()),
            None => HostPattern::Exact((*name).to_owned()),
        };
        Route {
            path: path.to_owned(),
            hosts: hosts.iter().map(host).collect(),
            methods: Vec::new(),
            access: Access::Public,
            basic: false,
            unauthenticated: None,
            dpop: None,
            roles: Vec::new(),
            mfa: false,
            fresh_within: None,
            claims: Vec::new(),
            audience: None,
            issuers: Vec::new(),
            max_body: None,
            cors: crate::config::RouteCors::default(),
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            target: RouteTarget::Static {
                root: PathBuf::new(),
                index_fallback: false,
                content_security_policy: None,
            },
        }
    }

    #[test]
    fn the_closest_host_comes_first_and_then_the_longest_path() {
        let routes = [
            route("/", &[]),
            route("/a/b", &[]),
            route("/", &["app.example", "*.example", "x.example"]),
            route("/a", &["*.example"]),
            route("/", &["*.app.example"]),
        ];
        let order: Vec<String> = matching_order(&routes)
            .iter()
            .map(|placed| {
                let hosts: Vec<String> = placed.hosts.iter().map(ToString::to_string).collect();
                format!("{} {}", hosts.join(","), routes[placed.route].path)
            })
            .collect();
        assert_eq!(
            order,
            ["app.example,x.example /", "*.app.example /", "*.example /a", "*.example /", " /a/b", " /"]
        );
    }

    #[test]
    fn a_pattern_covers_what_is_below_it() {
        let pattern = |text: &str| route("/", &[text]).hosts.remove(0);
        for (wide, narrow, covered) in [
            ("*.example", "a.example", true),
            ("*.example", "a.b.example", true),
            ("*.example", "*.b.example", true),
            ("*.example", "*.example", true),
            ("*.example", "example", false),
            ("*.example", "badexample", false),
            ("*.b.example", "*.example", false),
            ("a.example", "*.a.example", false),
        ] {
            assert_eq!(pattern(wide).covers(&pattern(narrow)), covered, "{wide} {narrow}");
        }
    }
}
