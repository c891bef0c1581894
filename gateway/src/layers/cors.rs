//! Cross-origin requests from browsers (the Fetch standard's CORS protocol): exact origins, answered here.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::http1::{HeaderKind, RequestHead};
use crate::layers::decorate::{Decorate, DecorateLayer};
use crate::request::RequestContext;
use crate::response::{self, Response};

/// The origins that may read answers.
#[derive(Debug)]
pub(crate) struct Cors {
    allowed_origins: Vec<HeaderValue>,
}

const ALLOWED_METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
const ALLOWED_HEADERS: HeaderValue =
    HeaderValue::from_static("Authorization, Content-Type, Accept, X-Requested-With");
const EXPOSED_HEADERS: HeaderValue = HeaderValue::from_static("WWW-Authenticate, Retry-After, X-Request-Id");
/// Seconds that a browser may keep the answer to a preflight.
const PREFLIGHT_MAX_AGE: HeaderValue = HeaderValue::from_static("600");

impl Cors {
    pub(crate) fn new(settings: &crate::config::Cors) -> Cors {
        let origins = settings.allowed_origins.iter();
        Cors { allowed_origins: origins.map(|origin| response::header_value(origin)).collect() }
    }

    /// Whether the gateway speaks CORS at all. Where it does, it alone does: an upstream's own fields are dropped.
    pub(crate) fn is_on(&self) -> bool {
        !self.allowed_origins.is_empty()
    }

    /// The answer to a preflight; it never reaches an upstream and needs no token. The [`CorsLayer`] adds the origin.
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

    /// Lets the page that asked read the answer, whatever the answer is: a refusal that a page cannot read cannot
    /// make it refresh.
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

    /// Whether pages of an origin may do here what pages of this host may.
    pub(crate) fn allows(&self, origin: &[u8]) -> bool {
        self.allowed_origins.iter().any(|allowed| allowed.as_bytes() == origin)
    }

    fn allowed_origin(&self, head: &RequestHead) -> Option<&HeaderValue> {
        let origin = head.headers().only(HeaderKind::Origin)?;
        self.allowed_origins.iter().find(|allowed| allowed.as_bytes() == origin.value)
    }
}

/// Adds what lets allowed origins read a response.
pub(crate) type CorsLayer = DecorateLayer<CrossOrigin>;

/// See [`CorsLayer`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CrossOrigin;

impl Decorate for CrossOrigin {
    fn decorate(&self, context: &RequestContext, headers: &mut HeaderMap) {
        context.state.config.cors.decorate(&context.head, headers);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::request::test_support::head;

    fn cors(origins: &[&str]) -> Cors {
        let list = origins.iter().map(|origin| format!("{origin:?}")).collect::<Vec<_>>().join(", ");
        let minimal = crate::config::test_support::minimal();
        let settings =
            crate::config::test_support::settings(format!("{minimal}[cors]\nallowed_origins = [{list}]\n"));
        Cors::new(&settings.cors)
    }

    fn request(method: &str, origin: &str, more: &str) -> RequestHead {
        let origin = if origin.is_empty() { String::new() } else { format!("Origin: {origin}\r\n") };
        head(&format!("{method} /x HTTP/1.1\r\nHost: a\r\n{origin}{more}"))
    }

    const ASKS: &str = "Access-Control-Request-Method: PUT\r\n";

    #[test]
    fn a_preflight_is_answered_and_only_an_allowed_origin_gets_permission() {
        let on = cors(&["https://page.example"]);
        for (cors, head, answered, permitted) in [
            (&on, request("OPTIONS", "https://page.example", ASKS), true, true),
            (&on, request("OPTIONS", "https://page.example:8443", ASKS), true, false),
            (&on, request("OPTIONS", "http://page.example", ASKS), true, false),
            (&on, request("OPTIONS", "null", ASKS), true, false),
            (&on, request("OPTIONS", "", ASKS), false, false),
            (&on, request("OPTIONS", "https://page.example", ""), false, false),
            (&on, request("GET", "https://page.example", ASKS), false, false),
            (&cors(&[]), request("OPTIONS", "https://page.example", ASKS), false, false),
        ] {
            let response = cors.preflight(&head);
            assert_eq!(response.is_some(), answered, "{head:?}");
            let methods =
                response.and_then(|response| response.headers().get(ACCESS_CONTROL_ALLOW_METHODS).cloned());
            assert_eq!(methods.is_some(), permitted, "{head:?}");
        }
    }

    #[test]
    fn only_an_allowed_origin_may_read_and_caches_are_kept_apart_for_all() {
        let on = cors(&["https://page.example", "http://localhost:3000"]);
        for (cors, origin, allowed, vary) in [
            (&on, "https://page.example", Some("https://page.example"), true),
            (&on, "http://localhost:3000", Some("http://localhost:3000"), true),
            (&on, "https://PAGE.example", None, true),
            (&on, "https://page.example.evil", None, true),
            (&on, "https://page.example\r\nOrigin: https://page.example", None, true),
            (&on, "", None, true),
            (&cors(&[]), "https://page.example", None, false),
        ] {
            let mut headers = HeaderMap::new();
            cors.decorate(&request("GET", origin, ""), &mut headers);
            let found = headers.get(ACCESS_CONTROL_ALLOW_ORIGIN).map(|value| value.to_str().unwrap());
            assert_eq!(found, allowed, "{origin}");
            assert_eq!(headers.contains_key(VARY), vary, "{origin}");
            assert_eq!(headers.contains_key(ACCESS_CONTROL_EXPOSE_HEADERS), allowed.is_some(), "{origin}");
        }
    }
}
