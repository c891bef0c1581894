//! Cross-origin requests from browsers (the Fetch standard's CORS protocol): exact origins, answered here.

use http::{Method, StatusCode};

use crate::http1::{FieldKind, RequestHead};
use crate::response::Response;

/// The origins that may read answers.
#[derive(Debug)]
pub(crate) struct Cors {
    allowed_origins: Vec<String>,
}

const ALLOWED_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
const ALLOWED_HEADERS: &str = "Authorization, Content-Type, Accept, X-Requested-With";
const EXPOSED_HEADERS: &str = "WWW-Authenticate, Retry-After, X-Request-Id";
const PREFLIGHT_MAX_AGE: &str = "600";

impl Cors {
    pub(crate) fn new(settings: &crate::config::Cors) -> Cors {
        Cors { allowed_origins: settings.allowed_origins.clone() }
    }

    /// Whether the gateway speaks CORS at all. Where it does, it alone does: an upstream's own fields are dropped.
    pub(crate) fn is_on(&self) -> bool {
        !self.allowed_origins.is_empty()
    }

    /// The answer to a preflight; it never reaches an upstream and needs no token.
    pub(crate) fn preflight<'c>(&self, head: &RequestHead) -> Option<Response<'c>> {
        let is_preflight = *head.method() == Method::OPTIONS
            && head.fields().only(FieldKind::Origin).is_some()
            && head.fields().only(FieldKind::RequestMethod).is_some();
        if !self.is_on() || !is_preflight {
            return None;
        }
        let mut response = Response::new(StatusCode::NO_CONTENT);
        if self.allowed_origin(head).is_some() {
            response = response
                .field("Access-Control-Allow-Methods", ALLOWED_METHODS)
                .field("Access-Control-Allow-Headers", ALLOWED_HEADERS)
                .field("Access-Control-Max-Age", PREFLIGHT_MAX_AGE);
        }
        Some(response)
    }

    /// Lets the page that asked read the answer, whatever the answer is: a refusal that a page cannot read cannot
    /// make it refresh.
    pub(crate) fn decorate(&self, head: &RequestHead, response: &mut Response<'_>) {
        if !self.is_on() {
            return;
        }
        response.fields.push(b"Vary", b"Origin");
        if let Some(origin) = self.allowed_origin(head) {
            response.fields.push(b"Access-Control-Allow-Origin", origin.as_bytes());
            response.fields.push(b"Access-Control-Expose-Headers", EXPOSED_HEADERS.as_bytes());
        }
    }

    /// Whether pages of an origin may do here what pages of this host may.
    pub(crate) fn allows(&self, origin: &[u8]) -> bool {
        self.allowed_origins.iter().any(|allowed| allowed.as_bytes() == origin)
    }

    fn allowed_origin(&self, head: &RequestHead) -> Option<&str> {
        let origin = head.fields().only(FieldKind::Origin)?;
        self.allowed_origins.iter().map(String::as_str).find(|allowed| allowed.as_bytes() == origin.value)
    }
}
