//! The original request in forward authentication, from the proxy's subrequest for it.
//!
//! Proxies describe it in three ways: nginx by what the operator sets (`X-Original-URL`, `X-Original-URI`, `X-Original-Method`),
//! Traefik and Caddy by `X-Forwarded-Method`, `-Proto`, `-Host` and `-Uri`, Envoy by repeating it below a path of its own.

use http::Method;

use crate::client_addr::Scheme;
use crate::http1::{HeadLimits, HeaderField, HeaderKind, Host, RequestHead};
use crate::identity::IdentityHeaders;
use crate::proxy::upstream_request::is_reserved;
use crate::rejection::Rejection;

/// How a proxy describes the request, which decides on the responses that it understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// By `X-Original-URL` or `X-Original-URI`: nginx, to which no status but 2xx, 401 and 403 has a meaning.
    Nginx,
    /// By the path behind the endpoint's: Envoy, which can be instructed to remove fields from the request.
    Envoy,
    /// By `X-Forwarded-Uri`: any answer that is not 2xx goes to the client as it is.
    Other,
}

/// What a proxy's subrequest describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OriginalRequest<'h> {
    method: &'h [u8],
    scheme: Scheme,
    host: Host<'h>,
    /// Path and query, as the client sent them.
    target: &'h [u8],
    pub(crate) asker: Asker,
}

/// Limits of a rebuilt head besides the request line: it was received within the configured ones, and hardly grows.
const REBUILT_BLOCK: usize = 1 << 20;

impl<'h> OriginalRequest<'h> {
    /// Reads the description. `below` is what stands behind the endpoint's path, of the target as it was received.
    ///
    /// # Errors
    ///
    /// A part is missing or malformed, or is there twice and differs: a client may have sent one of them.
    pub(crate) fn of(head: &'h RequestHead, below: &'h str) -> Result<OriginalRequest<'h>, Rejection> {
        // Below the endpoint is a request; behind `?` is what an operator has added to the address.
        let is_repeated = below.starts_with('/');
        let (mut methods, mut schemes) = (Vec::new(), Vec::new());
        let (mut hosts, mut targets) = (Vec::new(), Vec::new());
        let mut asker = Asker::Other;
        if is_repeated {
            asker = Asker::Envoy;
            methods.push(head.method().as_str().as_bytes());
            targets.push(below.as_bytes());
            hosts.extend(head.headers().only(HeaderKind::Host).map(|field| field.value));
        }
        for field in head.headers().iter().filter(|field| !field.value.is_empty()) {
            match field.kind {
                HeaderKind::XForwardedProto => schemes.extend(field.members()),
                HeaderKind::XForwardedHost => hosts.extend(field.members()),
                HeaderKind::RoutingOverride => match description(&field) {
                    Some(Part::Method) => methods.push(field.value),
                    Some(Part::Host) => hosts.push(field.value),
                    Some(Part::Target) => targets.push(field.value),
                    Some(Part::OriginalTarget) => {
                        targets.push(field.value);
                        asker = Asker::Nginx;
                    }
                    Some(Part::OriginalUrl) => {
                        let (scheme, host, target) = split_url(field.value)?;
                        schemes.push(scheme);
                        hosts.push(host);
                        targets.push(target);
                        asker = Asker::Nginx;
                    }
                    None => {}
                },
                _ => {}
            }
        }
        let method = one(&methods, NO_METHOD, METHODS_DIFFER)?;
        let target = one(&targets, NO_TARGET, TARGETS_DIFFER)?;
        let schemes: Option<Vec<Scheme>> = schemes.into_iter().map(Scheme::of_proxy).collect();
        let scheme = one(&schemes.ok_or(Rejection::OriginalRequest(BAD_SCHEME))?, NO_SCHEME, SCHEMES_DIFFER)?;
        let hosts: Result<Vec<Host<'_>>, _> = hosts.into_iter().map(Host::parse).collect();
        let hosts = hosts.map_err(Rejection::BadHost)?;
        let port = |host: &Host<'_>| host.port().unwrap_or(scheme.default_port());
        let host = *hosts.first().ok_or(Rejection::OriginalRequest(NO_HOST))?;
        if hosts.iter().any(|other| !other.is_named_like(&host) || port(other) != port(&host)) {
            return Err(Rejection::OriginalRequest(HOSTS_DIFFER));
        }
        let is_method = Method::from_bytes(method).is_ok();
        // Anything else would end the target in the request line.
        let is_target = target.iter().all(u8::is_ascii_graphic);
        match (is_method, is_target) {
            (false, _) => Err(Rejection::OriginalRequest(BAD_METHOD)),
            (_, false) => Err(Rejection::OriginalRequest(BAD_TARGET)),
            _ => Ok(OriginalRequest { method, scheme, host, target, asker }),
        }
    }

    /// Writes the request's head into `rebuilt`, as strictly read as one that a client sends: what the proxy says of the request, and
    /// the other fields of its subrequest (`question`), which are the client's. `line` is the longest request line, in bytes.
    ///
    /// # Errors
    ///
    /// It is malformed or too long, or the app behind the proxy could take one of the fields for one of the gateway's.
    pub(crate) fn rebuild(
        &self,
        question: &RequestHead,
        reserved: &IdentityHeaders,
        line: usize,
        rebuilt: &mut RequestHead,
    ) -> Result<(), Rejection> {
        let mut text = Vec::with_capacity(1024);
        let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| text.extend_from_slice(part));
        put(&[self.method, b" ", self.target, b" HTTP/1.1\r\nHost: ", self.host.as_str().as_bytes()]);
        put(&[b"\r\nX-Forwarded-Proto: ", self.scheme.name().as_bytes(), b"\r\n"]);
        let headers = question.headers();
        let mut is_websocket = false;
        for field in headers.iter() {
            if is_taken_for_another(&field, reserved) {
                return Err(Rejection::OriginalRequest(AMBIGUOUS_NAME));
            }
            is_websocket |=
                field.name.get(..14).is_some_and(|name| name.eq_ignore_ascii_case(b"sec-websocket-"));
            if is_clients_own(&field) {
                put(&[field.name, b": ", field.value, b"\r\n"]);
            }
        }
        // Proxies leave these out of the subrequest; a browser's script can neither set nor leave out Sec-WebSocket-Key.
        if is_websocket || headers.asks_for_upgrade() {
            put(&[b"Connection: Upgrade\r\n"]);
            match headers.asks_for_upgrade() {
                true => headers
                    .of_kind(HeaderKind::Upgrade)
                    .for_each(|field| put(&[b"Upgrade: ", field.value, b"\r\n"])),
                false => put(&[b"Upgrade: websocket\r\n"]),
            }
        }
        put(&[b"\r\n"]);
        let limits = HeadLimits { line, block: REBUILT_BLOCK, fields: usize::MAX };
        match rebuilt.parse(&text, &limits) {
            Ok(Some(length)) if length == text.len() => Ok(()),
            Ok(_) => Err(Rejection::OriginalRequest(BAD_TARGET)),
            Err(error) => Err(Rejection::BadHead(error)),
        }
    }
}

const NO_METHOD: &str =
    "the method is missing: the proxy has to send X-Forwarded-Method or X-Original-Method";
const NO_SCHEME: &str = "the scheme is missing: the proxy has to send X-Forwarded-Proto or X-Original-URL";
const NO_HOST: &str = "the host is missing: the proxy has to send X-Forwarded-Host or X-Original-URL";
const NO_TARGET: &str =
    "the address is missing: the proxy has to send X-Forwarded-Uri, X-Original-URI or X-Original-URL";
const METHODS_DIFFER: &str = "X-Forwarded-Method, X-Original-Method and the question's own method contradict each other: the proxy \
     has to set one and remove what clients send as the others";
const SCHEMES_DIFFER: &str =
    "X-Forwarded-Proto and X-Original-URL contradict each other: the proxy has to set, not append";
const HOSTS_DIFFER: &str = "X-Forwarded-Host, X-Original-Host and X-Original-URL contradict each other: the proxy has to set one \
     and remove what clients send as the others";
const TARGETS_DIFFER: &str = "X-Forwarded-Uri, X-Original-URI, X-Original-URL and what stands behind the endpoint's path contradict \
     each other: the proxy has to set one and remove what clients send as the others";
const BAD_METHOD: &str = "X-Forwarded-Method or X-Original-Method is no method";
const BAD_SCHEME: &str = "X-Forwarded-Proto or X-Original-URL is neither http nor https";
const BAD_TARGET: &str = "X-Forwarded-Uri, X-Original-URI or X-Original-URL is no address";
const AMBIGUOUS_NAME: &str = "an app can take a header field of the request for another one by its name: the proxy has to drop names \
     with anything but letters, digits and `-`";

/// What a field describes.
enum Part {
    Method,
    Host,
    Target,
    OriginalTarget,
    OriginalUrl,
}

static DESCRIPTION: [(&str, Part); 6] = [
    ("X-Forwarded-Method", Part::Method),
    ("X-Forwarded-Uri", Part::Target),
    ("X-Original-Method", Part::Method),
    ("X-Original-Host", Part::Host),
    ("X-Original-URI", Part::OriginalTarget),
    ("X-Original-URL", Part::OriginalUrl),
];

fn description(field: &HeaderField<'_>) -> Option<&'static Part> {
    DESCRIPTION
        .iter()
        .find(|(name, _)| field.name.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, part)| part)
}

/// Scheme, authority, and path with query of a URL.
type UrlParts<'u> = (&'u [u8], &'u [u8], &'u [u8]);

fn split_url(url: &[u8]) -> Result<UrlParts<'_>, Rejection> {
    let colon = memchr::memmem::find(url, b"://").ok_or(Rejection::OriginalRequest(BAD_TARGET))?;
    let (scheme, rest) = (&url[..colon], &url[colon + 3..]);
    let end = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
    match &rest[end..] {
        b"" => Ok((scheme, &rest[..end], b"/")),
        target if target[0] == b'/' => Ok((scheme, &rest[..end], target)),
        _ => Err(Rejection::OriginalRequest(BAD_TARGET)),
    }
}

/// The value that all of them are.
fn one<T: Copy + PartialEq>(
    values: &[T],
    missing: &'static str,
    differ: &'static str,
) -> Result<T, Rejection> {
    let first = *values.first().ok_or(Rejection::OriginalRequest(missing))?;
    match values.iter().all(|value| *value == first) {
        true => Ok(first),
        false => Err(Rejection::OriginalRequest(differ)),
    }
}

/// Whether a field of the subrequest is the client's, rather than the proxy's or its connection's.
fn is_clients_own(field: &HeaderField<'_>) -> bool {
    match field.kind {
        kind if kind.is_of_connection() => false,
        HeaderKind::Expect
        | HeaderKind::Host
        | HeaderKind::Forwarded
        | HeaderKind::XForwardedHost
        | HeaderKind::XForwardedProto => false,
        HeaderKind::RoutingOverride => description(field).is_none(),
        _ => true,
    }
}

/// Whether apps take a field for one of the gateway's by a name that is another: on the way through the gateway it is dropped, here
/// the proxy sends it on. One with the very name is replaced by the proxy.
fn is_taken_for_another(field: &HeaderField<'_>, reserved: &IdentityHeaders) -> bool {
    let is_plain = || field.name.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'-');
    field.kind == HeaderKind::UnderscoreAlias
        || (is_reserved(field.name, reserved) && !(is_plain() && reserved.reserves(field.name)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::admission::test_support::head;

    const BY_FORWARDED: &str = "X-Forwarded-Method: PUT|X-Forwarded-Proto: https|X-Forwarded-Host: app.example|X-Forwarded-Uri: /a?b=c,d";

    fn question(method: &str, fields: &str) -> RequestHead {
        let fields: String = fields.split('|').map(|field| format!("{field}\r\n")).collect();
        head(&format!("{method} /verify HTTP/1.1\r\nHost: app.example\r\n{fields}"))
    }

    /// Method, scheme, host, target and asker, or what is wrong.
    fn read(method: &str, below: &str, fields: &str) -> Result<(String, Asker), String> {
        let head = question(method, fields);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match OriginalRequest::of(&head, below) {
            Ok(found) => {
                let url = format!("{}://{}{}", found.scheme.name(), found.host.as_str(), text(found.target));
                Ok((format!("{} {url}", text(found.method)), found.asker))
            }
            Err(rejection) => Err(rejection.detail().into_owned()),
        }
    }

    #[test]
    fn the_request_is_read_as_each_proxy_describes_it() {
        for (method, below, fields, expected) in [
            ("GET", "", BY_FORWARDED, ("PUT https://app.example/a?b=c,d", Asker::Other)),
            ("GET", "?x=y", BY_FORWARDED, ("PUT https://app.example/a?b=c,d", Asker::Other)),
            (
                "GET",
                "",
                "X-Original-Method: POST|X-Original-URL: https://app.example:8443/a%2fb?c",
                ("POST https://app.example:8443/a%2fb?c", Asker::Nginx),
            ),
            (
                "GET",
                "",
                "X-Original-Method: GET|X-Original-URL: http://app.example",
                ("GET http://app.example/", Asker::Nginx),
            ),
            (
                "GET",
                "",
                "x-original-method: GET|x-original-uri: /a//b|x-forwarded-proto: HTTPS|x-forwarded-host: a.example",
                ("GET https://a.example/a//b", Asker::Nginx),
            ),
            ("PATCH", "/a/b?c", "X-Forwarded-Proto: wss", ("PATCH https://app.example/a/b?c", Asker::Envoy)),
            // The same twice is no contradiction.
            (
                "GET",
                "",
                &format!(
                    "{BY_FORWARDED}|X-Original-URL: https://APP.example:443/a?b=c,d|X-Forwarded-Proto: https, https"
                ),
                ("PUT https://app.example/a?b=c,d", Asker::Nginx),
            ),
        ] {
            let found = read(method, below, fields).unwrap();
            assert_eq!((found.0.as_str(), found.1), expected, "{method} {below} {fields}");
        }
    }

    #[test]
    fn what_is_missing_or_contradicts_itself_is_refused_by_name() {
        for (below, more, without, problem) in [
            ("", "", "X-Forwarded-Method", NO_METHOD),
            ("", "", "X-Forwarded-Proto", NO_SCHEME),
            ("", "", "X-Forwarded-Host", NO_HOST),
            ("", "", "X-Forwarded-Uri", NO_TARGET),
            ("", "|X-Forwarded-Uri: /public", "-", TARGETS_DIFFER),
            ("", "|X-Original-URI: /public", "-", TARGETS_DIFFER),
            ("", "|X-Original-URL: https://app.example/public", "-", TARGETS_DIFFER),
            ("/public", "|X-Forwarded-Method: GET", "X-Forwarded-Method", TARGETS_DIFFER),
            ("", "|X-Original-Method: GET", "-", METHODS_DIFFER),
            ("/a?b=c,d", "", "-", METHODS_DIFFER),
            ("", "|X-Forwarded-Method: put", "-", METHODS_DIFFER),
            ("", "|X-Forwarded-Proto: http", "-", SCHEMES_DIFFER),
            ("", "|X-Original-URL: http://app.example/a?b=c,d", "-", SCHEMES_DIFFER),
            ("", "|X-Forwarded-Host: evil.example", "-", HOSTS_DIFFER),
            ("", "|X-Original-Host: evil.example", "-", HOSTS_DIFFER),
            ("", "|X-Original-URL: https://app.example:444/a?b=c,d", "-", HOSTS_DIFFER),
            ("", "|X-Forwarded-Proto: ftp", "X-Forwarded-Proto", BAD_SCHEME),
            ("", "|X-Forwarded-Method: GET /", "X-Forwarded-Method", BAD_METHOD),
            ("", "|X-Forwarded-Uri: /a HTTP/1.0", "X-Forwarded-Uri", BAD_TARGET),
            ("", "|X-Original-URL: /a", "X-Forwarded-Uri", BAD_TARGET),
            ("", "|X-Original-URL: https://app.example?a", "X-Forwarded-Uri", BAD_TARGET),
        ] {
            let kept: Vec<&str> =
                BY_FORWARDED.split('|').filter(|field| !field.starts_with(without)).collect();
            let fields = kept.join("|") + more;
            assert_eq!(read("GET", below, &fields).unwrap_err(), problem, "{below} {fields}");
        }
    }

    fn rebuilt(fields: &str) -> Result<String, Rejection> {
        let question = question("GET", &format!("{BY_FORWARDED}|{fields}"));
        let names = IdentityHeaders::new(&[], std::iter::empty());
        let mut head = RequestHead::default();
        OriginalRequest::of(&question, "")?.rebuild(&question, &names, 100, &mut head)?;
        let fields: Vec<String> = head
            .headers()
            .iter()
            .map(|f| format!("{}: {}", String::from_utf8_lossy(f.name), String::from_utf8_lossy(f.value)))
            .collect();
        Ok(format!("{} {}|{}", head.method(), String::from_utf8_lossy(head.target()), fields.join("|")))
    }

    #[test]
    fn the_head_is_the_clients_again() {
        let start = "PUT /a?b=c,d|Host: app.example|X-Forwarded-Proto: https";
        for (fields, expected) in [
            ("Cookie: a=b|Accept: text/html", "|Cookie: a=b|Accept: text/html"),
            (
                "X-Forwarded-For: 192.0.2.1|X-Forwarded-Prefix: /p",
                "|X-Forwarded-For: 192.0.2.1|X-Forwarded-Prefix: /p",
            ),
            (
                "Connection: close|Content-Length: 0|TE: trailers|Expect: 100-continue|Forwarded: host=evil",
                "",
            ),
            ("X-Auth-User: forged", "|X-Auth-User: forged"),
            (
                "Sec-WebSocket-Version: 13",
                "|Sec-WebSocket-Version: 13|Connection: Upgrade|Upgrade: websocket",
            ),
            ("Connection: Upgrade|Upgrade: websocket", "|Connection: Upgrade|Upgrade: websocket"),
            ("Upgrade: h2c", ""),
        ] {
            assert_eq!(rebuilt(fields).unwrap(), format!("{start}{expected}"), "{fields}");
        }
        for name in ["X_Auth_User", "X-Auth_User", "X.Auth-User", "HTTP_X_AUTH_USER", "X_Forwarded_For"] {
            let refused = rebuilt(&format!("{name}: root")).unwrap_err();
            assert_eq!(refused, Rejection::OriginalRequest(AMBIGUOUS_NAME), "{name}");
        }
        let long = question("GET", &BY_FORWARDED.replace("/a?", &format!("/{}?", "a".repeat(100))));
        let names = IdentityHeaders::new(&[], std::iter::empty());
        let refused = OriginalRequest::of(&long, "")
            .and_then(|original| original.rebuild(&long, &names, 100, &mut RequestHead::default()));
        assert_eq!(refused.unwrap_err().status(), 414);
    }
}
