//! Cross-origin requests from browsers (the Fetch standard's CORS protocol): exact origins, answered here by the policy of the
//! route, or left to the app where the route says so.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::admission::{RequestView, USUAL_METHODS};
use crate::config;
use crate::http1::{BodyFraming, HeaderKind, RequestHead};
use crate::response::{self, Response};
use crate::routing::Routes;
use crate::routing::endpoints::Endpoints;

/// What pages of other origins may do: the keys of `[cors]`, overridden by a route's `cors`.
#[derive(Debug)]
pub(crate) struct Cors {
    allowed_origins: Vec<HeaderValue>,
    /// `None`: those of the route.
    allow_methods: Option<HeaderValue>,
    allow_headers: AllowHeaders,
    expose_headers: HeaderValue,
    allow_credentials: bool,
    /// Seconds.
    max_age: HeaderValue,
    pass_through: bool,
    always_exposed: &'static str,
}

/// Which request header fields a page may send.
#[derive(Debug)]
enum AllowHeaders {
    /// All that a preflight names: `*` would not cover Authorization.
    Any,
    List(HeaderValue),
}

/// What pages can always read: without these a page can neither refresh its token nor name a request to the operator.
const ALWAYS_EXPOSED: &str = "WWW-Authenticate, Retry-After, X-Request-Id";
/// The same where proofs may need a nonce.
const ALWAYS_EXPOSED_WITH_NONCE: &str = "WWW-Authenticate, Retry-After, X-Request-Id, DPoP-Nonce";

impl Cors {
    fn new(settings: &config::Cors, pass_through: bool, nonces: bool) -> Cors {
        let always_exposed = if nonces { ALWAYS_EXPOSED_WITH_NONCE } else { ALWAYS_EXPOSED };
        let origins = settings.allowed_origins.iter();
        let any = |names: &[String]| names.iter().any(|name| name == "*");
        let methods = Some(&settings.allow_methods).filter(|methods| !methods.is_empty());
        Cors {
            allowed_origins: origins.map(|origin| response::header_value(origin)).collect(),
            allow_methods: methods.map(|methods| response::header_value(&methods.join(", "))),
            allow_headers: match any(&settings.allow_headers) {
                true => AllowHeaders::Any,
                false => AllowHeaders::List(response::header_value(&settings.allow_headers.join(", "))),
            },
            expose_headers: match any(&settings.expose_headers) {
                true => HeaderValue::from_static("*"),
                false => {
                    let names = std::iter::once(always_exposed)
                        .chain(settings.expose_headers.iter().map(String::as_str));
                    response::header_value(&names.collect::<Vec<_>>().join(", "))
                }
            },
            allow_credentials: settings.allow_credentials,
            max_age: settings.max_age.as_secs().into(),
            pass_through,
            always_exposed,
        }
    }

    /// Whether the gateway alone speaks CORS here: then an upstream's own fields are dropped.
    pub(crate) fn replaces_upstream(&self) -> bool {
        !self.allowed_origins.is_empty() && !self.pass_through
    }

    /// Whether pages of an origin are treated like pages of this host.
    pub(crate) fn allows(&self, origin: &[u8]) -> bool {
        self.allowed_origins.iter().any(|allowed| allowed.as_bytes() == origin)
    }

    fn allowed_origin(&self, head: &RequestHead) -> Option<&HeaderValue> {
        let origin = head.headers().only(HeaderKind::Origin)?;
        self.allowed_origins.iter().find(|allowed| allowed.as_bytes() == origin.value)
    }

    /// The fields of the answer to a preflight, besides those of every answer.
    fn preflight_headers(&self, head: &RequestHead, methods: &[Method]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(
            VARY,
            HeaderValue::from_static("Access-Control-Request-Method, Access-Control-Request-Headers"),
        );
        if self.allowed_origin(head).is_none() {
            return headers;
        }
        let methods = || {
            let names = methods.iter().map(Method::as_str).collect::<Vec<_>>();
            response::header_value(&names.join(", "))
        };
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, self.allow_methods.clone().unwrap_or_else(methods));
        let names = match &self.allow_headers {
            AllowHeaders::List(names) => Some(names.clone()),
            AllowHeaders::Any => HeaderValue::from_bytes(&requested_headers(head)).ok(),
        };
        if let Some(names) = names.filter(|names| !names.is_empty()) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
        }
        headers.insert(ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        headers
    }

    /// Lets the page that asked read the answer, whatever the answer is: a refusal that a page cannot read cannot
    /// make it refresh. `refused`: the answer is the gateway's own.
    pub(crate) fn decorate(&self, head: &RequestHead, refused: bool, headers: &mut HeaderMap) {
        if self.pass_through && !refused {
            return;
        }
        if self.allowed_origins.is_empty() {
            if self.pass_through && head.headers().only(HeaderKind::Origin).is_some() {
                // Only the app knows which origins it allows. A refusal says nothing about the visitor: it is readable for all,
                // but not where a page sent cookies.
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
                headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(self.always_exposed));
            }
            return;
        }
        headers.append(VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = self.allowed_origin(head) {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, self.expose_headers.clone());
            if self.allow_credentials {
                headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            }
        }
    }

    /// Why a browser will not send the request that a preflight is about; `None` where it will.
    fn problem(&self, head: &RequestHead, answer: &HeaderMap) -> Option<String> {
        let origin = head.headers().only(HeaderKind::Origin).map(|field| field.value).unwrap_or_default();
        if !self.allows(origin) {
            let origin = String::from_utf8_lossy(origin).into_owned();
            return Some(format!("the origin {origin} is not among cors.allowed_origins"));
        }
        let list = |name| answer.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let has = |list: &str, name: &str| list.split(", ").any(|known| known.eq_ignore_ascii_case(name));
        let method = requested_method(head)?;
        let simple = [Method::GET, Method::HEAD, Method::POST].contains(&method);
        if !simple && !list(ACCESS_CONTROL_ALLOW_METHODS).split(", ").any(|known| known == method.as_str()) {
            return Some(format!("{method} is not among cors.allow_methods or the methods of the route"));
        }
        let requested = requested_headers(head);
        let requested = String::from_utf8_lossy(&requested);
        let mut names = requested.split(',').map(str::trim).filter(|name| !name.is_empty());
        let missing = match self.allow_headers {
            AllowHeaders::Any => None,
            AllowHeaders::List(_) => names.find(|name| !has(list(ACCESS_CONTROL_ALLOW_HEADERS), name)),
        };
        missing.map(|name| format!("{name} is not among cors.allow_headers"))
    }
}

/// What a preflight asks to be allowed, as one list.
fn requested_headers(head: &RequestHead) -> Vec<u8> {
    let fields = head.headers().iter();
    let fields = fields.filter(|f| f.name.eq_ignore_ascii_case(b"access-control-request-headers"));
    fields.map(|field| field.value).collect::<Vec<_>>().join(&b", "[..])
}

/// The method that a preflight is about; `None` where the request is no preflight.
pub(crate) fn requested_method(head: &RequestHead) -> Option<Method> {
    if *head.method() != Method::OPTIONS {
        return None;
    }
    head.headers().only(HeaderKind::Origin)?;
    Method::from_bytes(head.headers().only(HeaderKind::RequestMethod)?.value).ok()
}

/// The policies of a configuration.
#[derive(Debug)]
pub(crate) struct CorsPolicies {
    global: Cors,
    /// Of the routes, by their index, that have one of their own.
    routes: Vec<Option<Cors>>,
}

/// What becomes of a preflight.
#[derive(Debug)]
pub(crate) enum Preflight {
    /// It is answered here, without a token; the CORS layer adds the origin.
    Answered { route: Option<usize>, response: Response, problem: Option<String> },
    /// The app answers it, without a token.
    PassedThrough,
}

impl CorsPolicies {
    /// `nonces`: clients have to read `DPoP-Nonce`.
    pub(crate) fn new(global: &config::Cors, routes: &[config::Route], nonces: bool) -> CorsPolicies {
        let own = |route: &config::Route| {
            let cors = &route.cors;
            (*cors != config::RouteCors::default())
                .then(|| Cors::new(&cors.with(global), cors.pass_through, nonces))
        };
        CorsPolicies { global: Cors::new(global, false, nonces), routes: routes.iter().map(own).collect() }
    }

    /// The policy of a route, or that of requests that no route takes.
    pub(crate) fn of(&self, route: Option<usize>) -> &Cors {
        route.and_then(|index| self.routes.get(index)?.as_ref()).unwrap_or(&self.global)
    }
}

/// What becomes of a request that may be a preflight; `None`: it is one like others.
pub(crate) fn preflight(
    policies: &CorsPolicies,
    routes: &Routes,
    endpoints: &Endpoints,
    request: RequestView<'_>,
) -> Option<Preflight> {
    let head = request.head();
    let method = requested_method(head)?;
    let is_endpoint = endpoints.find(request.decoded_path()).is_some();
    let route = (!is_endpoint).then(|| routes.select_for_preflight(request, &method)).flatten();
    let (index, methods) = match route {
        Some((route, methods)) => (Some(route.index), methods),
        None => (None, USUAL_METHODS.to_vec()),
    };
    let cors = policies.of(index);
    if cors.pass_through {
        // A browser sends none with a body, and none that asks for an upgrade: such a request needs its token.
        let bodiless = matches!(request.framing(), BodyFraming::Empty | BodyFraming::Length(0));
        let is_plain = bodiless && !head.headers().has_connection_option(b"upgrade");
        return is_plain.then_some(Preflight::PassedThrough);
    }
    if cors.allowed_origins.is_empty() {
        return None;
    }
    let mut response = response::empty(StatusCode::NO_CONTENT);
    *response.headers_mut() = cors.preflight_headers(head, &methods);
    let problem = cors.problem(head, response.headers());
    Some(Preflight::Answered { route: index, response, problem })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
