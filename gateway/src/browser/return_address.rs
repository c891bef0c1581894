//! Where a login leads back to: the page that a person wanted, and never a page of somebody else (CWE-601).

use url::{Position, Url};

use crate::client_addr::{RequestOrigin, Scheme};
use crate::http1::Host;

/// Longer addresses are dropped, in bytes: they have to fit into a request's target and a form.
pub(crate) const MAX_LEN: usize = 2048;

/// An address that a browser may be sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReturnAddress {
    /// Path and query on the same host, or a whole URL.
    location: String,
    /// The origin, where it is not the request's own.
    origin: Option<String>,
    /// What a proxy takes off the front of paths before they come here.
    prefix: String,
}

impl ReturnAddress {
    /// Where a login leads that came from nowhere.
    pub(crate) fn home() -> ReturnAddress {
        ReturnAddress::of("/".to_owned(), None)
    }

    fn of(location: String, origin: Option<String>) -> ReturnAddress {
        ReturnAddress { location, origin, prefix: String::new() }
    }

    /// The same for people who find the gateway's pages below `prefix`: nothing, or whole segments.
    pub(crate) fn below(self, prefix: String) -> ReturnAddress {
        ReturnAddress { prefix, ..self }
    }

    /// What stands before the paths of the gateway's pages.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A path of the gateway's own, as the browser sees it.
    pub(crate) fn prefixed(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// For `Location` and for links.
    pub(crate) fn as_str(&self) -> &str {
        &self.location
    }

    /// The other host that it leads to, as an origin.
    pub(crate) fn other_origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }
}

/// The address that `text` names, if a browser may be sent there: a path of the request's own host, or an `http` or `https`
/// URL of it or of one of `hosts` (names with or without a port; without one, the scheme's own port and the request's are
/// meant). Everything that browsers could read in more than one way is dropped.
pub(crate) fn return_address(text: &str, own: RequestOrigin<'_>, hosts: &[String]) -> Option<ReturnAddress> {
    // Browsers leave out tabs and line ends, and take `\` for `/`.
    if text.len() > MAX_LEN || !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
        return None;
    }
    let scheme = match own.scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    };
    let base = Url::parse(&format!("{scheme}://{}/", own.host_with_port())).ok()?;
    let is_path = text.starts_with('/') && !text.starts_with("//");
    let lower = text.get(..8).unwrap_or(text).to_ascii_lowercase();
    let after_scheme = lower.strip_prefix("https://").or_else(|| lower.strip_prefix("http://"));
    // `https:///host` is `https://host` to browsers.
    let is_url = after_scheme.is_some() && !text.contains(":///");
    if !is_path && !is_url {
        return None;
    }
    // As browsers read it (the URL standard).
    let url = base.join(text).ok()?;
    if !url.username().is_empty() || url.password().is_some() || !matches!(url.scheme(), "http" | "https") {
        return None;
    }
    // `/.//host` is the path `//host`, which is a host by itself.
    if url.path().starts_with("//") {
        return None;
    }
    if url.origin() == base.origin() {
        let location = url[Position::BeforePath..Position::AfterQuery].to_owned();
        return Some(ReturnAddress::of(location, None));
    }
    let is_downgrade = own.scheme == Scheme::Https && url.scheme() == "http";
    if is_downgrade || !hosts.iter().any(|host| is_host(&url, host, &base)) {
        return None;
    }
    let origin = url.origin().ascii_serialization();
    Some(ReturnAddress::of(url[..Position::AfterQuery].to_owned(), Some(origin)))
}

/// Whether a URL leads to the host that `name` is.
fn is_host(url: &Url, name: &str, own: &Url) -> bool {
    let Ok(host) = Host::parse(name.as_bytes()) else { return false };
    let has_port = match host.port() {
        Some(port) => url.port_or_known_default() == Some(port),
        None => url.port().is_none() || url.port() == own.port(),
    };
    has_port && url.host_str().is_some_and(|found| host.is(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<String> {
        let own = RequestOrigin { scheme: Scheme::Https, host: "app.example", port: None };
        let hosts = ["other.example".to_owned(), "dev.example:8443".to_owned()];
        return_address(text, own, &hosts).map(|address| address.location)
    }

    #[test]
    fn addresses_lead_to_the_same_host_or_to_one_that_is_named() {
        for (text, expected) in [
            ("/", "/"),
            ("/lab/tree/a%20b?x=1&y=%2F", "/lab/tree/a%20b?x=1&y=%2F"),
            ("/a?next=//evil.example", "/a?next=//evil.example"),
            ("/a?next=https://evil.example/", "/a?next=https://evil.example/"),
            ("/@evil.example", "/@evil.example"),
            ("/a:b@c", "/a:b@c"),
            ("/%2F/evil.example", "/%2F/evil.example"),
            ("/%5Cevil.example", "/%5Cevil.example"),
            ("https://app.example/a?b", "/a?b"),
            ("https://APP.example:443/a", "/a"),
            ("https://app.example", "/"),
            ("https://other.example/x", "https://other.example/x"),
            ("HTTPS://other.example/x", "https://other.example/x"),
            ("https://dev.example:8443/x?y#z", "https://dev.example:8443/x?y"),
        ] {
            assert_eq!(found(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn everything_else_is_dropped() {
        for text in [
            "",
            "//evil.example",
            "///evil.example",
            "////evil.example",
            "/\\evil.example",
            "\\/evil.example",
            "\\\\evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "\u{0}//evil.example",
            " //evil.example",
            "/ /evil.example",
            "/.//evil.example",
            "/..//evil.example",
            "/a/..//evil.example",
            "/%2e//evil.example",
            "https:evil.example",
            "https:/evil.example",
            "https:///evil.example",
            "https:\\\\evil.example",
            "https://evil.example",
            "https://evil.example/https://app.example/",
            "https://app.example@evil.example/",
            "https://app.example:x@evil.example/",
            "https://user@app.example/",
            "https://app.example.evil.example/",
            "https://evil-app.example/",
            "https://app.example%2eevil.example/",
            "https://app.example:8443/",
            "https://dev.example/",
            "https://dev.example:8444/",
            "https://sub.other.example/",
            "http://other.example/x",
            "http://app.example/",
            "//other.example/x",
            "javascript:alert(1)",
            "JavaScript://app.example/%0aalert(1)",
            "data:text/html,x",
            "ftp://other.example/",
            "evil.example",
            "app.example/",
            "?x",
            "#x",
            "%2F%2Fevil.example",
            "%68ttps://evil.example",
            "https://\u{ff0f}evil.example",
            "/\u{e4}",
            "https://[::1/",
            "https://",
        ] {
            assert_eq!(found(text), None, "{text:?}");
        }
        assert_eq!(found(&format!("/{}", "a".repeat(MAX_LEN))), None);
    }

    #[test]
    fn other_hosts_are_told_as_origins_and_a_port_of_ones_own_is_theirs_too() {
        let own = RequestOrigin { scheme: Scheme::Http, host: "localhost:8080", port: None };
        let hosts = ["other.example".to_owned()];
        let of = |text: &str| return_address(text, own, &hosts);
        let other = of("http://other.example:8080/a").and_then(|address| address.origin);
        assert_eq!(other.as_deref(), Some("http://other.example:8080"));
        assert!(of("https://other.example/a").is_some() && of("http://other.example:81/a").is_none());
        assert_eq!(of("http://localhost:8080/a").and_then(|address| address.origin), None);
    }
}
