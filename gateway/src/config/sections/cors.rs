//! `[cors]` and a route's `cors`: which other origins may call from a browser, and with what (the Fetch standard's CORS protocol).

use http::{HeaderName, Method};
use std::net::Ipv6Addr;

use super::prelude::*;

section! {
    /// Which pages of other origins may call the gateway from a browser. A route's `cors` has the same keys for that route.
    pub struct Cors {
        /// Origins whose pages may call the gateway, each exactly as browsers send it: no "*", no path.
        allowed_origins: Vec<String> = texts(origin).or_empty().example("[\"http://localhost:5173\"]");
        /// Methods that such pages may use. Empty: those of the route.
        allow_methods: Vec<String> = texts(method).or_empty().example("[\"GET\", \"POST\"]");
        /// Request header fields that such pages may send; ["*"] is any, without allow_credentials.
        allow_headers: Vec<String> = texts(header).default(ALLOW_HEADERS).example("[\"*\"]");
        /// Response header fields that such pages may read, in addition to WWW-Authenticate, Retry-After and X-Request-Id; ["*"] is
        /// any, without allow_credentials.
        expose_headers: Vec<String> = texts(header).default(EXPOSE_HEADERS).example("[\"*\"]");
        /// Allows requests with cookies: fetch(url, { credentials: "include" }).
        allow_credentials: bool = boolean().default("false").example("true");
        /// How long browsers may cache a preflight response; "0s": not at all.
        max_age: Duration = duration(Duration::ZERO..=DAY).default("10m").example("\"2h\"");
    }
}

section! {
    /// Cross-origin requests for one route. A key that is absent has its value from [cors].
    #[derive(Default)]
    pub struct RouteCors {
        /// Leaves CORS to the app: preflights are forwarded to it, without a token, and its Access-Control-* fields are forwarded
        /// to the browser. The gateway's own responses, such as a 401, can be read by the allowed origins or, if there are none, by
        /// any origin without cookies.
        pass_through: bool = boolean().default("false").example("true");
        /// Origins whose pages may call the route.
        allowed_origins: Option<Vec<String>> = texts(origin).fallback("cors.allowed_origins").example("[\"https://app.example\"]");
        /// Methods that they may use.
        allow_methods: Option<Vec<String>> = texts(method).fallback("cors.allow_methods").example("[\"GET\", \"POST\"]");
        /// Request header fields that they may send, or ["*"].
        allow_headers: Option<Vec<String>> = texts(header).fallback("cors.allow_headers").example("[\"X-Tenant\"]");
        /// Response header fields that they may read, or ["*"].
        expose_headers: Option<Vec<String>> = texts(header).fallback("cors.expose_headers").example("[\"ETag\"]");
        /// Allows requests with cookies.
        allow_credentials: Option<bool> = boolean().fallback("cors.allow_credentials").example("true");
        /// How long browsers may cache a preflight response.
        max_age: Option<Duration> = duration(Duration::ZERO..=DAY).fallback("cors.max_age").example("\"2h\"");
    }
}

/// What well-known clients send: fetch and axios, conditional requests, CSRF tokens of Django, Rails, Laravel and Angular, tracing
/// (W3C, B3, Sentry), tus uploads, gRPC-Web and Connect, WebDAV.
const ALLOW_HEADERS: &str = r#"["Accept", "Accept-Language", "Authorization", "Baggage", "Cache-Control", "Connect-Protocol-Version", "Connect-Timeout-Ms", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Type", "Depth", "Destination", "DPoP", "Grpc-Timeout", "Idempotency-Key", "If-Match", "If-Modified-Since", "If-None-Match", "If-Range", "If-Unmodified-Since", "Last-Event-ID", "Lock-Token", "Overwrite", "Pragma", "Prefer", "Range", "Sentry-Trace", "Traceparent", "Tracestate", "Tus-Resumable", "Upload-Checksum", "Upload-Concat", "Upload-Defer-Length", "Upload-Length", "Upload-Metadata", "Upload-Offset", "X-API-Key", "X-B3-Sampled", "X-B3-SpanId", "X-B3-TraceId", "X-Correlation-ID", "X-CSRF-Token", "X-CSRFToken", "X-Grpc-Web", "X-Request-ID", "X-Requested-With", "X-User-Agent", "X-XSRF-TOKEN"]"#;
const EXPOSE_HEADERS: &str = r#"["Accept-Ranges", "Content-Disposition", "Content-Encoding", "Content-Length", "Content-Location", "Content-Range", "Date", "ETag", "Grpc-Message", "Grpc-Status", "Grpc-Status-Details-Bin", "Link", "Location", "RateLimit", "RateLimit-Policy", "Server-Timing", "Tus-Extension", "Tus-Max-Size", "Tus-Resumable", "Tus-Version", "Upload-Expires", "Upload-Length", "Upload-Metadata", "Upload-Offset", "X-Page", "X-Per-Page", "X-Total", "X-Total-Count", "X-Total-Pages"]"#;

impl Cors {
    /// Refuses what browsers would not heed.
    pub(super) fn check(&self, table: &Table<'_>) {
        check_wildcards(self, table, &table.entry("allow_credentials"));
    }
}

impl RouteCors {
    /// What it comes to with the keys of `[cors]`.
    pub fn with(&self, global: &Cors) -> Cors {
        let own = self.clone();
        let global = global.clone();
        Cors {
            allowed_origins: own.allowed_origins.unwrap_or(global.allowed_origins),
            allow_methods: own.allow_methods.unwrap_or(global.allow_methods),
            allow_headers: own.allow_headers.unwrap_or(global.allow_headers),
            expose_headers: own.expose_headers.unwrap_or(global.expose_headers),
            allow_credentials: own.allow_credentials.unwrap_or(global.allow_credentials),
            max_age: own.max_age.unwrap_or(global.max_age),
        }
    }

    /// Refuses what browsers would not heed.
    pub(super) fn check(&self, table: &Table<'_>, global: &Cors) {
        check_wildcards(&self.with(global), table, &table.entry("allow_credentials"));
    }
}

/// With credentials, browsers take `*` for the name of a field (Fetch section 3.2.4).
fn check_wildcards(cors: &Cors, table: &Table<'_>, credentials: &Entry<'_>) {
    for (key, names) in [("allow_headers", &cors.allow_headers), ("expose_headers", &cors.expose_headers)] {
        let entry = table.entry(key);
        // What neither key of this table says was checked with `[cors]`.
        if names.iter().any(|name| name == "*") && (entry.is_given() || credentials.is_given()) {
            let at = if entry.is_given() { &entry } else { credentials };
            if names.len() > 1 {
                at.error(
                    "\"*\" stands for every name, so no other can stand beside it",
                    "write [\"*\"], or the names alone",
                );
            } else if cors.allow_credentials {
                at.error(
                    format!("{key} = [\"*\"] and allow_credentials exclude each other"),
                    "browsers heed \"*\" only where no cookies are sent: list the names",
                );
            }
        }
    }
}

fn method(text: &str) -> Result<String, InvalidValue> {
    match Method::from_bytes(text.as_bytes()) {
        Ok(_) if text == "*" => {
            refused("\"*\" is not a method", "leave the key out: then the methods of the route are allowed")
        }
        Ok(method) if text == text.to_ascii_uppercase() => Ok(method.to_string()),
        Ok(_) => refused(
            format!("the method {} is not in capitals", quoted(text)),
            format!("methods are case-sensitive: write \"{}\"", text.to_ascii_uppercase()),
        ),
        Err(_) => refused(format!("{} is not a method", quoted(text)), "write it like \"PUT\""),
    }
}

fn header(text: &str) -> Result<String, InvalidValue> {
    match HeaderName::from_bytes(text.as_bytes()) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => refused(
            format!("{} is not the name of a header field", quoted(text)),
            "write one name for each element, such as \"X-CSRF-Token\", or [\"*\"]",
        ),
    }
}

/// An origin exactly as browsers send it (Fetch, RFC 6454 section 6.2): it is compared byte for byte.
pub(super) fn origin(text: &str) -> Result<String, InvalidValue> {
    let example = "write it like \"https://app.example\" or \"http://localhost:5173\"";
    let refuse = |why: String, help: &str| refused(format!("the origin {why}"), help);
    if text.contains('*') {
        let why = "may not be a pattern: any page on the web could then act with its visitor's tokens".into();
        return refuse(why, "list every origin by its full name");
    }
    if text == "null" {
        let why = "may not be `null`: sandboxed frames and local files of anyone send that".into();
        return refuse(why, "serve the page from an http:// or https:// origin");
    }
    if text.contains([',', ' ']) {
        return refuse(format!("{} is more than one", quoted(text)), "write each by itself: [\"…\", \"…\"]");
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return refuse(format!("{} has no scheme", quoted(text)), example);
    };
    if let Some(end) = rest.find(['/', '?', '#']) {
        let origin = format!("write \"{}\"", &text[..scheme.len() + 3 + end]);
        return refuse(format!("{} goes on after host and port", quoted(text)), &origin);
    }
    if rest.contains('@') {
        return refuse("contains a user name or a password".into(), example);
    }
    let lower = text.to_ascii_lowercase();
    if lower != text {
        return refuse(
            format!("{} has capital letters", quoted(text)),
            &format!("browsers send \"{lower}\""),
        );
    }
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (rest, None),
    };
    if !is_scheme(scheme) || !is_host(host) || port.is_some_and(|port| !is_port(port)) {
        return refuse(format!("{} is not scheme://host or scheme://host:port", quoted(text)), example);
    }
    if matches!((scheme, port), ("http", Some("80")) | ("https", Some("443"))) {
        let help = format!("browsers leave it out: write \"{scheme}://{host}\"");
        return refuse(format!("{} names the port that its scheme has anyway", quoted(text)), &help);
    }
    Ok(text.to_owned())
}

fn is_scheme(scheme: &str) -> bool {
    scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c))
}

fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c)),
    }
}

fn is_port(port: &str) -> bool {
    !port.starts_with('0') && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{load_diagnostics, minimal, settings};

    #[test]
    fn exact_origins_pass() {
        let origins =
            ["http://localhost:5173", "https://app.example", "http://[::1]:80", "tauri://localhost"];
        // The default port of http is rejected only for http.
        let accepted = [origins[0], origins[1], "https://[::1]:80", origins[3]];
        let config = format!("[cors]\nallowed_origins = {accepted:?}");
        assert_eq!(settings(minimal() + &config).cors.allowed_origins, accepted);
    }

    #[test]
    fn everything_that_a_browser_never_sends_is_refused() {
        for (origin, message, help) in [
            ("*", "may not be a pattern", "full name"),
            ("https://*.example", "may not be a pattern", "full name"),
            ("null", "may not be `null`", "serve the page"),
            ("localhost:5173", "has no scheme", "http://localhost:5173"),
            ("http://a.example, http://b.example", "is more than one", "each by itself"),
            ("http://a.example/", "goes on after host and port", "write \"http://a.example\""),
            ("http://a.example/x?y", "goes on after", "write \"http://a.example\""),
            ("http://u:hunter2@a.example", "a user name or a password", ""),
            ("http://A.example", "capital letters", "\"http://a.example\""),
            ("http://a.example:80", "names the port", "\"http://a.example\""),
            ("https://a.example:443", "names the port", "\"https://a.example\""),
            ("http://a.example:", "is not scheme://host", ""),
            ("http://a.example:99999", "is not scheme://host", ""),
            ("http://", "is not scheme://host", ""),
            ("http://ä.example", "is not scheme://host", ""),
            ("", "has no scheme", ""),
        ] {
            let complaints =
                load_diagnostics(minimal() + &format!("[cors]\nallowed_origins = [\"{origin}\"]"));
            complaints.only(message, help);
            complaints.only("`cors.allowed_origins[0]`", "");
            assert!(!complaints.text().contains("hunter2"));
        }
    }
}
