//! Addresses of an app that lives below another path than it knows: `Location` and the like on their way to the client, WebDAV's
//! `Destination` on its way to the app.

use http::Method;

use crate::client_addr::Scheme;
use crate::http1::{CanonicalTarget, Host};
use crate::proxy::upstream_request::is_destination;
use crate::rejection::Rejection;
use crate::request::Authorized;
use crate::routing::Forwarding;

/// What the app calls its addresses, and what clients call them.
#[derive(Debug)]
pub(crate) struct LocationRewrite {
    /// What the app's paths begin with: nothing, or whole segments.
    internal: String,
    /// What stands there for clients: nothing, or whole segments.
    external: String,
    /// Where clients send their requests.
    scheme: Scheme,
    host: String,
    /// Hosts by which the app may name itself: the `Host` that it got, and those of its servers' URLs.
    own_hosts: Vec<String>,
}

impl LocationRewrite {
    /// How addresses in the response are rewritten, where the route asks for it.
    pub(crate) fn of(
        request: &Authorized,
        forwarding: &Forwarding,
        upstream_host: &str,
    ) -> Option<Box<LocationRewrite>> {
        let internal = forwarding.new_prefix.as_ref().filter(|_| forwarding.rewrite_locations)?;
        let (context, view) = (request.context(), request.view());
        let origin = context.client.origin(view.head(), view.host().as_str());
        let urls = &context.state.upstream(forwarding.upstream).settings().urls;
        let mut own_hosts: Vec<String> = urls.iter().map(|url| url.authority()).collect();
        own_hosts.push(upstream_host.to_owned());
        Some(Box::new(LocationRewrite {
            internal: internal.clone(),
            external: context.client.prefix(view.head()) + request.route().path().trim_end_matches('/'),
            scheme: origin.scheme,
            host: origin.host_with_port(),
            own_hosts,
        }))
    }

    /// The value of a response's field with the client's addresses in it, where that is another.
    pub(crate) fn response_field(&self, name: &str, value: &str) -> Option<String> {
        match name {
            "location" | "content-location" => self.location(value),
            "refresh" => self.refresh(value),
            "set-cookie" => self.cookie(value),
            _ => None,
        }
    }

    /// An address of the app's own as clients need it. What is relative, what is another's and what clients could use as it
    /// stands stays.
    fn location(&self, value: &str) -> Option<String> {
        let (origin, path) = split_origin(value)?;
        let rewritten = self.path(path);
        let Some((scheme, host)) = origin else { return rewritten.filter(|path| !names_host(path)) };
        let is_https = scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
        let without_port = host.strip_suffix(":443").filter(|_| is_https).unwrap_or(host);
        let is = |own: &str| same_host(own, host) || same_host(own, without_port);
        if !is(&self.host) && !self.own_hosts.iter().any(|own| is(own)) {
            return None;
        }
        let path = rewritten.as_deref().unwrap_or(path);
        if self.host.is_empty() {
            // A client of HTTP/1.0 that has named no host.
            let slash = if path.starts_with('/') { "" } else { "/" };
            return Some(format!("{slash}{path}")).filter(|path| !names_host(path));
        }
        // The app may be about to send its clients to TLS, never away from it.
        let sent = scheme.map(|_| if is_https { "https" } else { self.scheme.name() });
        // A port belongs to its scheme.
        let keeps_scheme = scheme.zip(sent).is_none_or(|(scheme, sent)| scheme.eq_ignore_ascii_case(sent));
        let host = if is(&self.host) && keeps_scheme { host } else { &self.host };
        let location = match sent {
            Some(sent) => format!("{sent}://{host}{path}"),
            None => format!("//{host}{path}"),
        };
        (location != value).then_some(location)
    }

    /// A path, with query and fragment, of the app's.
    fn path(&self, path: &str) -> Option<String> {
        let (internal, external) = (below(path, &self.internal), below(path, &self.external));
        let rest = match (internal, external) {
            // The app knows its path: the closer of the two is meant.
            (Some(_), Some(_)) if !self.external.is_empty() && self.external.len() >= self.internal.len() => {
                None
            }
            (rest, _) => rest,
        }?;
        let slash = if self.external.is_empty() && !rest.starts_with('/') { "/" } else { "" };
        Some(format!("{}{slash}{rest}", self.external)).filter(|rewritten| rewritten != path)
    }

    /// `Refresh`: seconds, and behind them an address, often as `url=…` and sometimes quoted.
    fn refresh(&self, value: &str) -> Option<String> {
        let after = value.find([';', ','])? + 1;
        let spaces = |text: &str| text.len() - text.trim_start().len();
        let mut start = after + spaces(&value[after..]);
        if let Some(rest) = value
            .get(start..start + 3)
            .filter(|name| name.eq_ignore_ascii_case("url"))
            .and(value.get(start + 3..))
            && let Some(address) = rest.trim_start().strip_prefix('=')
        {
            start = value.len() - address.trim_start().len();
        }
        start += usize::from(value[start..].starts_with(['"', '\'']));
        let end = start + value[start..].find(['"', '\'']).unwrap_or(value[start..].len());
        let location = self.location(&value[start..end])?;
        Some(format!("{}{location}{}", &value[..start], &value[end..]))
    }

    /// `Set-Cookie`: its `Path`. A cookie whose name begins with `__Host-` is only taken for the whole host.
    fn cookie(&self, value: &str) -> Option<String> {
        if value.trim_start().get(..7).is_some_and(|name| name.eq_ignore_ascii_case("__Host-")) {
            return None;
        }
        let mut changed = false;
        let attributes = value.split(';').enumerate().map(|(place, attribute)| {
            let path = attribute
                .split_once('=')
                .filter(|(name, _)| place > 0 && name.trim().eq_ignore_ascii_case("path"));
            match path.and_then(|(name, path)| Some((name, self.cookie_path(path.trim())?))) {
                Some((name, path)) => {
                    changed = true;
                    format!("{name}={path}")
                }
                None => attribute.to_owned(),
            }
        });
        let attributes: Vec<String> = attributes.collect();
        changed.then(|| attributes.join(";"))
    }

    fn cookie_path(&self, path: &str) -> Option<String> {
        let segments = path.trim_end_matches('/');
        let for_whole_app = path.starts_with('/') && below(&self.internal, segments).is_some();
        let rewritten = if for_whole_app { self.external.clone() } else { self.path(path)? };
        let rewritten = if rewritten.is_empty() { "/".to_owned() } else { rewritten };
        (rewritten != path).then_some(rewritten)
    }
}

/// Where WebDAV's `Destination` (RFC 4918 section 10.3) leads as the upstream knows it, where the route asks for it. It has to lead
/// to where the request itself may: below the same route.
pub(crate) fn destination(
    request: &Authorized,
    forwarding: &Forwarding,
    host: &str,
) -> Result<Option<String>, Rejection> {
    let Some(prefix) = forwarding.new_prefix.as_ref().filter(|_| forwarding.rewrite_locations) else {
        return Ok(None);
    };
    let (context, view) = (request.context(), request.view());
    let mut fields = view.headers().iter().filter(|field| is_destination(field.name));
    let Some(field) = fields.next() else { return Ok(None) };
    if fields.next().is_some() {
        return Err(Rejection::BadDestination("there is more than one Destination"));
    }
    let value = std::str::from_utf8(field.value).ok().and_then(split_origin);
    let (origin, path) =
        value.ok_or(Rejection::BadDestination("the Destination is neither a URL nor a path"))?;
    let own = context.client.origin(view.head(), view.host().as_str());
    if origin.is_some_and(|(_, host)| !same_host(host, own.host)) {
        return Err(Rejection::BadDestination("the Destination is on another host"));
    }
    // What proxies in front have taken off the path, they did not take off this field.
    let front = context.client.prefix(view.head());
    let path = path.strip_prefix(&front).filter(|rest| rest.starts_with('/')).unwrap_or(path);
    let target = CanonicalTarget::parse(&Method::PUT, path.as_bytes())
        .map_err(|error| refused_destination(&Rejection::BadTarget(error)))?;
    let config = &context.state.config;
    if !config.routes.leads_to(request.route(), target.decoded_path(), &view.host()) {
        return Err(Rejection::BadDestination("the Destination is not below the path of the same route"));
    }
    let checked = request.route().check_spelling(&target, target.decoded_path());
    checked.map_err(|rejection| refused_destination(&rejection))?;
    let below = target.below(request.route().path());
    let slash = if prefix.is_empty() && !below.starts_with('/') { "/" } else { "" };
    let urls = &context.state.upstream(forwarding.upstream).settings().urls;
    let scheme = if urls.first().is_some_and(|url| url.is_secure()) { "https" } else { "http" };
    let origin = if origin.is_some() { format!("{scheme}://{host}") } else { String::new() };
    Ok(Some(format!("{origin}{prefix}{slash}{below}")))
}

fn refused_destination(why: &Rejection) -> Rejection {
    tracing::debug!(?why, "a Destination was refused");
    Rejection::BadDestination("the Destination is malformed or ambiguous")
}

/// `scheme://host/path`, `//host/path` or `/path`, cut into scheme, host and path; nothing for an address that is relative.
#[allow(clippy::type_complexity)]
fn split_origin(value: &str) -> Option<(Option<(Option<&str>, &str)>, &str)> {
    let (scheme, rest) = match value.split_once("://") {
        Some((scheme, rest)) if ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) => {
            (Some(scheme), rest)
        }
        _ => match value.strip_prefix("//") {
            Some(rest) => (None, rest),
            None => return value.starts_with('/').then_some((None, value)),
        },
    };
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    Some((Some((scheme, &rest[..end])), &rest[end..]))
}

/// What of a path is below a prefix, which is empty or whole segments: empty, or from a slash, a query or a fragment on.
fn below<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']))
}

/// Whether browsers read a path as another host's address: they take `\` for `/` and leave out tabs and the ends of lines.
fn names_host(path: &str) -> bool {
    let mut bytes = path.bytes().filter(|byte| !b"\t\r\n".contains(byte));
    bytes.next().is_some_and(|byte| b"/\\".contains(&byte))
        && bytes.next().is_some_and(|byte| b"/\\".contains(&byte))
}

fn same_host(one: &str, other: &str) -> bool {
    matches!((Host::parse(one.as_bytes()), Host::parse(other.as_bytes())), (Ok(one), Ok(other)) if one.same_as(&other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrite(internal: &str, external: &str) -> LocationRewrite {
        LocationRewrite {
            internal: internal.into(),
            external: external.into(),
            scheme: Scheme::Https,
            host: "app.example".into(),
            own_hosts: vec!["app.example".into(), "127.0.0.1:9000".into()],
        }
    }

    #[test]
    fn addresses_of_the_app_get_the_path_that_clients_know_once() {
        let stripped = rewrite("", "/shop");
        for (field, value, rewritten) in [
            ("location", "/login?next=/cart#top", "/shop/login?next=/cart#top"),
            ("location", "/", "/shop/"),
            ("location", "/shopping", "/shop/shopping"),
            ("location", "/shop/login", ""),
            ("location", "/shop", ""),
            ("location", "/shop?x", ""),
            ("location", "login", ""),
            ("location", "../x", ""),
            ("location", "?page=2", ""),
            ("location", "", ""),
            ("location", "mailto:a@b", ""),
            ("location", "https://app.example/x", "https://app.example/shop/x"),
            ("location", "http://app.example/x", "https://app.example/shop/x"),
            ("location", "http://APP.example:80/x", "https://app.example/shop/x"),
            ("location", "https://APP.example:443/x", "https://APP.example:443/shop/x"),
            ("location", "HTTP://127.0.0.1:9000/x?y", "https://app.example/shop/x?y"),
            ("location", "http://127.0.0.1:9000", "https://app.example/shop"),
            ("location", "//127.0.0.1:9000/x", "//app.example/shop/x"),
            ("location", "http://127.0.0.1:9001/x", ""),
            ("location", "https://other.example/x", ""),
            ("location", "//other.example/x", ""),
            ("location", "https://app.example@evil.test/x", ""),
            ("location", "https://app.example/shop/x", ""),
            ("location", "http://app.example/shop/x", "https://app.example/shop/x"),
            ("content-location", "/x.en.html", "/shop/x.en.html"),
            ("refresh", "5; url=/next", "5; url=/shop/next"),
            ("refresh", "0;URL='/next'", "0;URL='/shop/next'"),
            ("refresh", "0, url = \"http://127.0.0.1:9000/n\"", "0, url = \"https://app.example/shop/n\""),
            ("refresh", "3;/next", "3;/shop/next"),
            ("refresh", "5", ""),
            ("refresh", "5; url=next", ""),
            ("set-cookie", "a=b; Path=/", "a=b; Path=/shop"),
            ("set-cookie", "a=b; path=/x; HttpOnly", "a=b; path=/shop/x; HttpOnly"),
            ("set-cookie", "a=b; Secure; PATH = /x/", "a=b; Secure; PATH =/shop/x/"),
            ("set-cookie", "a=b; Path=/shop", ""),
            ("set-cookie", "path=/; Secure", ""),
            ("set-cookie", "a=b", ""),
            ("set-cookie", "__Host-a=b; Path=/; Secure", ""),
            ("etag", "/x", ""),
        ] {
            let got = stripped.response_field(field, value);
            assert_eq!(got.as_deref(), Some(rewritten).filter(|text| !text.is_empty()), "{field}: {value}");
            if let Some(got) = got {
                assert_eq!(stripped.response_field(field, &got), None, "{field}: {got} again");
            }
        }
    }

    #[test]
    fn of_two_paths_that_lie_in_each_other_the_closer_is_meant() {
        for (internal, external, value, rewritten) in [
            ("/v2", "/api", "/v2/x", Some("/api/x")),
            ("/v2", "/api", "/v2", Some("/api")),
            ("/v2", "/api", "/v20", None),
            ("/v2", "/api", "/other", None),
            ("/api/v2", "/api", "/api/v2/x", Some("/api/x")),
            ("/api/v2", "/api", "/api/x", None),
            ("/app", "/app/x", "/app/y", Some("/app/x/y")),
            ("/app", "/app/x", "/app/x/y", None),
            ("/v2", "", "/v2", Some("/")),
            ("/v2", "", "/v2/x", Some("/x")),
        ] {
            let got = rewrite(internal, external).location(value);
            assert_eq!(got.as_deref(), rewritten, "{internal} {external} {value}");
        }
        assert_eq!(rewrite("/v2", "/api").cookie("a=b; Path=/").as_deref(), Some("a=b; Path=/api"));
        assert_eq!(rewrite("/v2", "").cookie("a=b; Path=/v2").as_deref(), Some("a=b; Path=/"));
    }

    #[test]
    fn a_path_without_its_prefix_never_becomes_the_address_of_another_host() {
        let to_root = rewrite("/v2", "");
        for path in [
            "/v2//evil.example/",
            "/v2/\\evil.example/",
            "/v2/\t/evil.example/",
            "/v2/\t\\evil.example",
            "/v2///evil.example",
        ] {
            for (field, value) in [
                ("location", path.to_owned()),
                ("content-location", path.to_owned()),
                ("refresh", format!("0; url={path}")),
                ("refresh", format!("0; url='{path}'")),
            ] {
                assert_eq!(to_root.response_field(field, &value), None, "{field}: {value:?}");
            }
        }
        for (value, rewritten) in [
            ("/v2/.//x", "/.//x"),
            ("/v2/x//y", "/x//y"),
            ("http://127.0.0.1:9000/v2//evil.example/", "https://app.example//evil.example/"),
        ] {
            assert_eq!(to_root.location(value).as_deref(), Some(rewritten), "{value}");
        }
    }

    #[test]
    fn a_port_goes_with_its_scheme_and_without_a_host_the_path_is_all() {
        let plain = || LocationRewrite { scheme: Scheme::Http, ..rewrite("", "/shop") };
        let unknown =
            |internal, external| LocationRewrite { host: String::new(), ..rewrite(internal, external) };
        for (rewrite, value, rewritten) in [
            (rewrite("", ""), "http://app.example:80/x", Some("https://app.example/x")),
            (rewrite("", "/shop"), "http://app.example/x", Some("https://app.example/shop/x")),
            (plain(), "http://app.example:80/x", Some("http://app.example:80/shop/x")),
            (plain(), "https://app.example:443/x", Some("https://app.example:443/shop/x")),
            (unknown("", "/shop"), "http://127.0.0.1:9000/x?y", Some("/shop/x?y")),
            (unknown("", ""), "http://127.0.0.1:9000", Some("/")),
            (unknown("/v2", ""), "http://127.0.0.1:9000/v2//evil.example", None),
            (unknown("", "/shop"), "http://other.example/x", None),
        ] {
            assert_eq!(rewrite.location(value).as_deref(), rewritten, "{rewrite:?} {value}");
        }
    }
}
