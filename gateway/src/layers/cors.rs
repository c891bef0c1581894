//! CORS (the Fetch standard's cross-origin protocol): exact origins, handled by the gateway.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::http1::{HeaderKind, RequestHead};
use crate::layers::decorate::{Decorate, DecorateLayer};
use crate::request::RequestContext;
use crate::response::{self, Response};

/// The allowed origins.
#[derive(Debug)]
pub(crate) struct Cors {
    allowed_origins: Vec<HeaderValue>,
}

const ALLOWED_METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
const ALLOWED_HEADERS: HeaderValue =
    HeaderValue::from_static("Authorization, Content-Type, Accept, X-Requested-With");
const EXPOSED_HEADERS: HeaderValue = HeaderValue::from_static("WWW-Authenticate, Retry-After, X-Request-Id");
/// How long a browser may cache a preflight response, in seconds.
const PREFLIGHT_MAX_AGE: HeaderValue = HeaderValue::from_static("600");

impl Cors {
    pub(crate) fn new(settings: &crate::config::Cors) -> Cors {
        let origins = settings.allowed_origins.iter();
        Cors { allowed_origins: origins.map(|origin| response::header_value(origin)).collect() }
    }

    /// Whether CORS is configured. Where it is, the fields of upstreams are dropped.
    pub(crate) fn is_on(&self) -> bool {
        !self.allowed_origins.is_empty()
    }

    /// The response to a preflight, which never reaches an upstream and needs no token. The [`CorsLayer`]
    /// adds the origin.
    pub(crate) fn preflight(&self, head: &RequestHead) -> Option<Response> {
        let is_preflight = *head.method() == Method::OPTIONS
            && head.headers().only(HeaderKind::Origin).is_some()
            && head.headers().only(HeaderKind::RequestMethod).is_some();
        if !self.is_on() || !is_preflight {
            return None;
        }
        let mut response = response::empty(StatusCode::NO_CONTENT);
        if self.allowed_origin(head).is_some() {
            let headers = response.headers_mut();
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS);
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
            headers.insert(ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE);
        }
        Some(response)
    }

    /// Adds the CORS fields to any response, rejections included: a page that cannot read a 401 cannot
    /// refresh its token.
    fn decorate(&self, head: &RequestHead, headers: &mut HeaderMap) {
        if !self.is_on() {
            return;
        }
        headers.append(VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = self.allowed_origin(head) {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
        }
    }

    /// Whether pages of an origin are treated like pages of this host.
    pub(crate) fn allows(&self, origin: &[u8]) -> bool {
        self.allowed_origins.iter().any(|allowed| allowed.as_bytes() == origin)
    }

    fn allowed_origin(&self, head: &RequestHead) -> Option<&HeaderValue> {
        let origin = head.headers().only(HeaderKind::Origin)?;
        self.allowed_origins.iter().find(|allowed| allowed.as_bytes() == origin.value)
    }
}

/// Adds CORS fields for allowed origins.
pub(crate) type CorsLayer = DecorateLayer<CrossOrigin>;

/// See [`CorsLayer`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CrossOrigin;

impl Decorate for CrossOrigin {
    fn decorate(&self, context: &RequestContext, headers: &mut HeaderMap) {
        context.state.config.cors.decorate(&context.head, headers);
    }
}
