//! The cookies of a session: their names, reading them, and keeping them from upstreams.

use crate::client_addr::{RequestOrigin, Scheme};
use crate::http1::{HeaderKind, Headers};

/// What the cookies are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CookieKind {
    /// The access token.
    Access,
    /// The refresh token.
    Refresh,
    /// That the session is to outlive the browser.
    Remember,
    /// Which browser a sign-in on another host was begun in.
    State,
}

const KINDS: [(CookieKind, &str); 4] = [
    (CookieKind::Access, "access"),
    (CookieKind::Refresh, "refresh"),
    (CookieKind::Remember, "remember"),
    (CookieKind::State, "state"),
];

/// How a browser reached the gateway; the cookies' names differ by it, so that none that was set over an unsafe way, or for
/// more hosts, passes for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CookieScope {
    /// Over TLS, as far as trusted proxies tell.
    pub(crate) secure: bool,
}

impl CookieScope {
    pub(crate) fn of(origin: RequestOrigin<'_>) -> CookieScope {
        CookieScope { secure: origin.scheme == Scheme::Https }
    }
}

/// The names of the cookies, and for which hosts they are.
#[derive(Debug)]
pub(crate) struct Cookies {
    /// What all names begin with, behind the prefixes that browsers know.
    name: String,
    domain: Option<String>,
    /// The full names without and with TLS, in the order of [`KINDS`].
    full: [[String; KINDS.len()]; 2],
}

/// What a request brings of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SessionCookies<'h> {
    pub(crate) access: Option<&'h [u8]>,
    pub(crate) refresh: Option<&'h [u8]>,
    pub(crate) remember: bool,
    pub(crate) state: Option<&'h [u8]>,
    /// One of the names came with different values: a sibling host has set one too (cookie tossing), and which is whose
    /// cannot be seen. Then neither counts.
    pub(crate) conflict: bool,
}

impl SessionCookies<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.access.is_none() && self.refresh.is_none() && !self.conflict
    }
}

impl Cookies {
    pub(crate) fn new(name: &str, domain: Option<&str>) -> Cookies {
        let full = [false, true].map(|secure| {
            let (prefix, domain) = match (secure, domain) {
                (true, None) => ("__Host-", ""),
                (true, Some(_)) => ("__Secure-", "domain_"),
                (false, None) => ("", ""),
                (false, Some(_)) => ("", "domain_"),
            };
            KINDS.map(|(_, kind)| format!("{prefix}{name}_{domain}{kind}"))
        });
        Cookies { name: name.to_owned(), domain: domain.map(str::to_owned), full }
    }

    /// Whether the hosts below a domain share them.
    pub(crate) fn are_for_a_domain(&self) -> bool {
        self.domain.is_some()
    }

    /// The name of a cookie. `__Host-` and `__Secure-` are enforced by browsers (RFC 6265bis section 4.1.3).
    pub(crate) fn full_name(&self, kind: CookieKind, scope: CookieScope) -> &str {
        let place = KINDS.iter().position(|(known, _)| *known == kind).unwrap_or_default();
        &self.full[usize::from(scope.secure)][place]
    }

    /// Whether a cookie's name is one of the gateway's, in any scope; browsers compare the prefixes without case.
    fn owns(&self, name: &[u8]) -> bool {
        let may_own =
            |first: &u8| *first == b'_' || self.name.as_bytes()[..1].eq_ignore_ascii_case(&[*first]);
        if !name.first().is_some_and(may_own) {
            return false;
        }
        let without = |name: &'_ [u8], prefix: &str| -> Option<usize> {
            let front = name.get(..prefix.len())?;
            front.eq_ignore_ascii_case(prefix.as_bytes()).then_some(prefix.len())
        };
        let name = &name[without(name, "__Host-").or_else(|| without(name, "__Secure-")).unwrap_or(0)..];
        let Some(rest) = without(name, &self.name).map(|length| &name[length..]) else { return false };
        let Some(rest) = rest.strip_prefix(b"_") else { return false };
        let what = &rest[without(rest, "domain_").unwrap_or(0)..];
        KINDS.iter().any(|(_, known)| what.eq_ignore_ascii_case(known.as_bytes()))
    }

    /// The session's cookies of a request.
    pub(crate) fn read<'h>(&self, headers: &'h Headers, scope: CookieScope) -> SessionCookies<'h> {
        let mut found = SessionCookies::default();
        if !headers.has(HeaderKind::Cookie) {
            return found;
        }
        let names = &self.full[usize::from(scope.secure)];
        for pair in headers.of_kind(HeaderKind::Cookie).flat_map(|field| pairs(field.value)) {
            let (name, value) = split_pair(pair);
            let Some(place) = names.iter().position(|known| known.as_bytes() == name) else { continue };
            let slot = match KINDS[place].0 {
                CookieKind::Access => &mut found.access,
                CookieKind::Refresh => &mut found.refresh,
                CookieKind::Remember => {
                    found.remember = true;
                    continue;
                }
                // One of two may be somebody else's.
                CookieKind::State => {
                    found.state = found.state.xor(Some(value));
                    continue;
                }
            };
            if slot.replace(value).is_some_and(|other| other != value) {
                found.conflict = true;
            }
        }
        // What was emptied is not there.
        found.access = found.access.filter(|value| !value.is_empty());
        found.refresh = found.refresh.filter(|value| !value.is_empty());
        found
    }

    /// A `Cookie` field's value without the gateway's own cookies; `None` where it has none of them, so that nothing has to be
    /// written anew. Every other byte stays.
    pub(crate) fn without_own(&self, value: &[u8]) -> Option<Vec<u8>> {
        let mut others: Option<Vec<u8>> = None;
        let (mut begin, mut is_first) = (0_usize, true);
        for pair in pairs(value) {
            match (self.owns(split_pair(pair).0), &mut others) {
                (true, None) => others = Some(value[..begin.saturating_sub(1)].to_vec()),
                (true, Some(_)) => {}
                (false, None) => is_first = false,
                (false, Some(others)) if is_first => {
                    // The blank behind a separator went with the pair before.
                    others.extend_from_slice(pair.trim_ascii_start());
                    is_first = false;
                }
                (false, Some(others)) => {
                    others.push(b';');
                    others.extend_from_slice(pair);
                }
            }
            begin += pair.len() + 1;
        }
        others
    }

    /// Whether a `Set-Cookie` of an upstream would set one of the gateway's cookies. A browser that gets `=name=value` sends
    /// `name=value`.
    pub(crate) fn sets_own(&self, set_cookie: &[u8]) -> bool {
        let pair = set_cookie.split(|&b| b == b';').next().unwrap_or_default();
        let pair = pair.trim_ascii();
        self.owns(split_pair(pair.trim_ascii_start().strip_prefix(b"=").unwrap_or(pair)).0)
    }

    /// A `Set-Cookie` with this value. Without `max_age`, in seconds, it is gone with the browser; 0 removes it.
    pub(crate) fn set(
        &self,
        kind: CookieKind,
        value: &str,
        scope: CookieScope,
        max_age: Option<u64>,
    ) -> String {
        let mut cookie = format!("{}={value}; Path=/; HttpOnly; SameSite=Lax", self.full_name(kind, scope));
        if scope.secure {
            cookie.push_str("; Secure");
        }
        if let Some(domain) = &self.domain {
            cookie.push_str("; Domain=");
            cookie.push_str(domain);
        }
        if let Some(seconds) = max_age {
            cookie.push_str("; Max-Age=");
            cookie.push_str(itoa::Buffer::new().format(seconds));
        }
        cookie
    }
}

/// The pairs of a `Cookie` field's value. Tokens make it long, so it is searched with [`memchr`].
fn pairs(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let value = rest?;
        let end = memchr::memchr(b';', value);
        rest = end.map(|end| &value[end + 1..]);
        Some(&value[..end.unwrap_or(value.len())])
    })
}

/// Name and value of a cookie in `Cookie` (RFC 6265 section 4.2.1), without the blanks around them.
fn split_pair(pair: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b'=', pair) {
        Some(equals) => (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii()),
        None => (pair.trim_ascii(), b""),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const TLS: CookieScope = CookieScope { secure: true };
    const PLAIN: CookieScope = CookieScope { secure: false };

    fn headers(fields: &[&str]) -> Headers {
        let mut headers = Headers::default();
        fields.iter().for_each(|value| headers.push(b"Cookie", value.as_bytes()));
        headers
    }

    #[test]
    fn cookies_are_named_after_how_they_were_set() {
        let (host, domain) = (Cookies::new("gw", None), Cookies::new("gw", Some("example.org")));
        for (cookies, scope, expected) in [
            (&host, TLS, "__Host-gw_access=v; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=9"),
            (&host, PLAIN, "gw_access=v; Path=/; HttpOnly; SameSite=Lax; Max-Age=9"),
            (
                &domain,
                TLS,
                "__Secure-gw_domain_access=v; Path=/; HttpOnly; SameSite=Lax; Secure; Domain=example.org; Max-Age=9",
            ),
            (
                &domain,
                PLAIN,
                "gw_domain_access=v; Path=/; HttpOnly; SameSite=Lax; Domain=example.org; Max-Age=9",
            ),
        ] {
            assert_eq!(cookies.set(CookieKind::Access, "v", scope, Some(9)), expected);
        }
        assert!(!host.set(CookieKind::Refresh, "v", TLS, None).contains("Max-Age"));
    }

    #[test]
    fn the_sessions_cookies_are_found_among_others_in_one_field_or_several() {
        let cookies = Cookies::new("gw", None);
        let expected = SessionCookies {
            access: Some(b"A"),
            refresh: Some(b"R"),
            remember: true,
            state: None,
            conflict: false,
        };
        for fields in [
            &["gw_access=A; gw_refresh=R; gw_remember=1"][..],
            &["a=1;gw_access=A;b=2", "gw_refresh=R; c", "x=y; gw_remember=1"],
            &["gw_access = A;  gw_refresh=R ; gw_access=A; gw_remember="],
        ] {
            assert_eq!(cookies.read(&headers(fields), PLAIN), expected, "{fields:?}");
        }
        for fields in [
            &["__Host-gw_access=A; gw_domain_access=A; GW_ACCESS=A; gw_acces=A; xgw_access=A; gw_access"][..],
            &["gw_access=; a=gw_access=A", ""],
        ] {
            assert!(cookies.read(&headers(fields), PLAIN).is_empty(), "{fields:?}");
        }
        let over_tls = headers(&["gw_access=tossed; __Host-gw_access=A"]);
        let over_tls = cookies.read(&over_tls, TLS);
        assert_eq!((over_tls.access, over_tls.conflict), (Some(&b"A"[..]), false));
    }

    #[test]
    fn two_different_sessions_are_a_conflict() {
        let cookies = Cookies::new("gw", None);
        for fields in [&["gw_access=A; gw_access=B"][..], &["gw_refresh=A", "x=1; gw_refresh=B"]] {
            assert!(cookies.read(&headers(fields), PLAIN).conflict, "{fields:?}");
        }
    }

    #[test]
    fn own_cookies_are_taken_out_alone() {
        let cookies = Cookies::new("gw", None);
        for (value, kept) in [
            ("a=1; b=2", None),
            ("", None),
            ("gw_access=A", Some("")),
            ("gw_access=A; gw_refresh=R", Some("")),
            ("gw_access=A; a=1", Some("a=1")),
            ("a=1; gw_access=A", Some("a=1")),
            ("a=1; gw_access=A; b=2", Some("a=1; b=2")),
            ("a=1;gw_access=A;b=2", Some("a=1;b=2")),
            ("a=1; __Host-gw_refresh=R; __Secure-gw_domain_access=A; gw_remember=1; b", Some("a=1; b")),
            ("a=\"x\";  b = 2 ; gw_access =A;; c", Some("a=\"x\";  b = 2 ;; c")),
            ("__host-GW_access=A; a", Some("a")),
            ("; a=1; gw_access=A", Some("; a=1")),
            ("a=1; gw_access=A;", Some("a=1;")),
            ("gw_access=A; gw_refresh=R;  a=1;  ", Some("a=1;  ")),
            (" gw_access=A ;", Some("")),
            ("gw_accessx=1; agw_access=2; gw_states=3; a=gw_access=1", None),
        ] {
            let found = cookies.without_own(value.as_bytes());
            assert_eq!(found, kept.map(|kept| kept.as_bytes().to_vec()), "{value}");
        }
    }

    #[test]
    fn an_upstream_cannot_set_them() {
        let cookies = Cookies::new("gw", None);
        for (set_cookie, own) in [
            ("gw_access=A; Path=/", true),
            ("__Host-gw_access=A; Path=/; Secure", true),
            ("  gw_refresh = x", true),
            ("=gw_access=A", true),
            (" = gw_access=A", true),
            ("gw_domain_access=A", true),
            ("gw_access", true),
            ("app=1; gw_access=2", false),
            ("gw=1", false),
            ("sessionid=gw_access=1", false),
            ("", false),
        ] {
            assert_eq!(cookies.sets_own(set_cookie.as_bytes()), own, "{set_cookie}");
        }
    }
}
