//! Cross-site request forgery: whether the page that sends a request with the session's cookie may do so.
//!
//! A browser adds cookies to requests of every page, so a cookie says who the person is and not who wrote the request. Requests
//! with a Bearer token need none of this: no page of another site has the token.

use http::Method;

use crate::client_addr::{RequestOrigin, Scheme};
use crate::http1::{HeaderKind, Headers};

/// What a browser says of the page that sends a request. A field that comes more than once says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RequestSource<'h> {
    /// `Sec-Fetch-Site` (Fetch Metadata).
    fetch_site: Option<&'h [u8]>,
    /// `Origin` (RFC 6454 section 7).
    origin: Option<&'h [u8]>,
}

impl<'h> RequestSource<'h> {
    pub(crate) fn of(headers: &'h Headers) -> RequestSource<'h> {
        let mut sites = headers.iter().filter(|field| field.name.eq_ignore_ascii_case(b"sec-fetch-site"));
        let fetch_site = sites.next().filter(|_| sites.next().is_none()).map(|field| field.value);
        RequestSource { fetch_site, origin: headers.only(HeaderKind::Origin).map(|field| field.value) }
    }

    /// Whether the request says nothing of a page: no browser of today sends it.
    pub(crate) fn is_unknown(self) -> bool {
        self.fetch_site.is_none() && self.origin.is_none()
    }

    /// Whether the page is one of the host itself or of an origin in `trusted_origins`. `own` is where the browser sent the
    /// request, as far as trusted proxies tell.
    ///
    /// A browser that sends neither field is refused: all that are in use send `Origin` with POST and with WebSockets.
    pub(crate) fn is_trusted(self, own: RequestOrigin<'_>, trusted_origins: &[String]) -> bool {
        if self.fetch_site == Some(b"same-origin") {
            return true;
        }
        self.origin.is_some_and(|origin| {
            // A page that came unencrypted is anyone's on the way, whatever its host.
            let is_downgrade = own.scheme == Scheme::Https && origin.starts_with(b"http://");
            (own.is(origin) && !is_downgrade)
                || trusted_origins.iter().any(|trusted| trusted.as_bytes() == origin)
        })
    }
}

/// Whether a request that comes with the session's cookie has to show which page sends it: one that may change something, or
/// opens a WebSocket, which the same-origin policy does not cover (RFC 6455 section 10.2).
pub(crate) fn needs_check(method: &Method, opens_websocket: bool) -> bool {
    opens_websocket || !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_trusted(fetch_site: &str, origin: &str, own: (Scheme, &str)) -> bool {
        let given = |value: &'static str| (!value.is_empty()).then_some(value.as_bytes());
        let leak = |text: &str| given(Box::leak(text.to_owned().into_boxed_str()));
        let source = RequestSource { fetch_site: leak(fetch_site), origin: leak(origin) };
        let own = RequestOrigin { scheme: own.0, host: own.1, port: None };
        source.is_trusted(own, &["https://portal.example".to_owned(), "http://localhost:5173".to_owned()])
    }

    #[test]
    fn a_page_of_the_host_may_send_and_others_may_not() {
        let https = (Scheme::Https, "app.example");
        let http = (Scheme::Http, "app.example:8080");
        for (fetch_site, origin, own, trusted) in [
            // Browsers of today, over TLS or on localhost.
            ("same-origin", "https://app.example", https, true),
            ("same-origin", "null", https, true),
            ("same-origin", "", https, true),
            ("same-site", "https://evil.app.example", https, false),
            ("cross-site", "https://evil.example", https, false),
            ("cross-site", "null", https, false),
            ("cross-site", "", https, false),
            ("none", "", https, false),
            ("none", "null", https, false),
            ("none", "https://app.example", https, true),
            ("SAME-ORIGIN", "", https, false),
            ("same-origin, cross-site", "", https, false),
            // Origins that the configuration names.
            ("same-site", "https://portal.example", https, true),
            ("cross-site", "https://portal.example", https, true),
            ("cross-site", "http://localhost:5173", https, true),
            ("cross-site", "https://portal.example:8443", https, false),
            ("cross-site", "http://portal.example", https, false),
            ("cross-site", "https://portal.example.evil", https, false),
            // Older browsers, and plain HTTP, where no browser sends Sec-Fetch-Site.
            ("", "https://app.example", https, true),
            ("", "https://app.example:443", https, true),
            ("", "https://APP.example", https, true),
            ("", "https://app.example", (Scheme::Https, "app.example:443"), true),
            ("", "http://app.example:8080", http, true),
            ("", "http://app.example", http, false),
            ("", "http://app.example:8081", http, false),
            ("", "https://evil.example", https, false),
            ("", "https://app.example.evil", https, false),
            ("", "https://evil.example/app.example", https, false),
            ("", "https://app.example@evil.example", https, false),
            ("", "https://evil-app.example", https, false),
            ("", "null", https, false),
            ("", "", https, false),
            ("", "app.example", https, false),
            ("", "file://", https, false),
            // A page that came unencrypted from the same host, and TLS that ends before the gateway without a word.
            ("", "http://app.example", https, false),
            ("cross-site", "http://app.example", https, false),
            ("", "https://app.example", (Scheme::Http, "app.example"), true),
        ] {
            assert_eq!(is_trusted(fetch_site, origin, own), trusted, "{fetch_site:?} {origin:?} {own:?}");
        }
    }

    #[test]
    fn reading_needs_no_page_and_changing_does() {
        for method in ["GET", "HEAD", "OPTIONS"] {
            let method = Method::from_bytes(method.as_bytes()).unwrap_or_default();
            assert!(!needs_check(&method, false) && needs_check(&method, true), "{method}");
        }
        for method in ["POST", "PUT", "PATCH", "DELETE", "PROPFIND", "LOCK", "get"] {
            let Ok(method) = Method::from_bytes(method.as_bytes()) else { continue };
            assert!(needs_check(&method, false), "{method}");
        }
    }
}
