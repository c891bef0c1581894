//! The gateway's own endpoints: their paths and methods, and which of them a request is for.

use http::Method;

use crate::admission::RequestView;
use crate::config::{Endpoint, Settings};
use crate::routing::Routes;
use crate::sessions::SessionId;
use crate::telemetry::EndpointLabel;

pub(crate) const PROTECTED_RESOURCE: &str = "/.well-known/oauth-protected-resource";
const AUTHORIZATION_SERVER: &str = "/.well-known/oauth-authorization-server";

impl Endpoint {
    /// The label in the metrics.
    pub(crate) fn label(self) -> EndpointLabel {
        match self {
            Endpoint::Login => EndpointLabel::Login,
            Endpoint::Refresh => EndpointLabel::Refresh,
            Endpoint::Verify => EndpointLabel::Verify,
            _ => EndpointLabel::Other,
        }
    }
}

impl Endpoint {
    /// Whether it takes a method; a verdict is asked for with any.
    fn takes(self, method: &Method, pages: bool) -> bool {
        self == Endpoint::Verify || self.methods(pages).contains(method)
    }

    /// The methods that it takes; with `[browser]`, `pages` are shown at two of them.
    pub(crate) fn methods(self, pages: bool) -> &'static [Method] {
        match self {
            Endpoint::Login
            | Endpoint::Logout
            | Endpoint::Password
            | Endpoint::PasswordReset
            | Endpoint::Reauthenticate
                if pages =>
            {
                &[Method::GET, Method::HEAD, Method::POST]
            }
            Endpoint::LoginContinue if pages => &[Method::GET],
            Endpoint::LoginContinue => &[],
            Endpoint::Jwks | Endpoint::AuthorizationServer | Endpoint::ProtectedResource => {
                &[Method::GET, Method::HEAD]
            }
            // HAProxy's `option httpchk` asks with OPTIONS.
            Endpoint::Health => &[Method::GET, Method::HEAD, Method::OPTIONS],
            Endpoint::Sessions | Endpoint::Mfa => &[Method::GET],
            Endpoint::Tokens => &[Method::GET, Method::POST],
            Endpoint::Session | Endpoint::Token => &[Method::DELETE],
            _ => &[Method::POST],
        }
    }
}

/// Their paths.
#[derive(Debug)]
pub(crate) struct Endpoints {
    paths: Vec<(String, Endpoint)>,
    /// The path of verdicts, where proxies may ask for them.
    verify: Option<String>,
}

impl Endpoints {
    pub(crate) fn new(settings: &Settings) -> Endpoints {
        let oauth = &settings.oauth;
        let metadata = oauth.metadata.then(|| {
            let server = authorization_server_paths(&settings.tokens.issuer).into_iter();
            let server = server.map(|path| (path, Endpoint::AuthorizationServer));
            server.chain([(PROTECTED_RESOURCE.to_owned(), Endpoint::ProtectedResource)])
        });
        let verify = settings.forward_auth.enabled.then(|| settings.endpoints.verify_path());
        // Well-known URIs have no prefix (RFC 8615).
        let jwks = ("/.well-known/jwks.json".to_owned(), Endpoint::Jwks);
        let health = settings.endpoints.health_path.iter().map(|path| (path.clone(), Endpoint::Health));
        let paths = settings
            .endpoint_paths()
            .chain([jwks])
            .chain(metadata.into_iter().flatten())
            .chain(health)
            .collect();
        Endpoints { paths, verify }
    }

    /// The endpoint with exactly that path, or of a single session or token, or of a verdict on the path that stands behind it.
    pub(crate) fn find(&self, path: &str) -> Option<Endpoint> {
        if self.below_verify(path).is_some() {
            return Some(Endpoint::Verify);
        }
        let exactly = |path: &str| self.paths.iter().find(|(p, _)| p == path).map(|(_, endpoint)| *endpoint);
        exactly(path).or_else(|| {
            let (parent, id) = path.split_at_checked(path.len().checked_sub(SessionId::TEXT_LEN + 1)?)?;
            id.strip_prefix('/')?.parse::<SessionId>().ok()?;
            match exactly(parent)? {
                Endpoint::Sessions => Some(Endpoint::Session),
                Endpoint::Tokens => Some(Endpoint::Token),
                _ => None,
            }
        })
    }

    /// The endpoint of a request. One with a method that its endpoint does not take is for the route of that path, if there
    /// is one: an app may have a page at `/login`. `pages`: with `[browser]`.
    pub(crate) fn of_request(
        &self,
        routes: &Routes,
        pages: bool,
        request: RequestView<'_>,
    ) -> Option<Endpoint> {
        let endpoint = self.find(request.decoded_path())?;
        let is_taken = endpoint.takes(request.method(), pages);
        let has_route = || routes.select(request).is_ok();
        (is_taken || (endpoint != Endpoint::LoginContinue && !has_route())).then_some(endpoint)
    }

    /// What stands behind the path of verdicts: nothing, or a path.
    pub(crate) fn below_verify<'t>(&self, target: &'t str) -> Option<&'t str> {
        let rest = target.strip_prefix(self.verify.as_deref()?)?;
        (rest.is_empty() || rest.starts_with(['/', '?'])).then_some(rest)
    }
}

/// The paths of the authorization server's metadata: behind the well-known one stands the issuer's own path (RFC 8414 section 3.1).
pub(crate) fn authorization_server_paths(issuer: &str) -> Vec<String> {
    let own = issuer[origin(issuer).len()..].trim_end_matches('/');
    let mut paths = vec![AUTHORIZATION_SERVER.to_owned()];
    paths.extend((!own.is_empty()).then(|| format!("{AUTHORIZATION_SERVER}{own}")));
    paths
}

/// Scheme and authority of an address.
pub(crate) fn origin(address: &str) -> &str {
    let authority = address.find("://").map_or(0, |at| at + 3);
    let end = address[authority..].find(['/', '?', '#']).map_or(address.len(), |at| authority + at);
    &address[..end]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_at_their_exact_paths_below_the_prefix() {
        let settings = |prefix: &str, forward_auth: bool| {
            let minimal = crate::config::test_support::minimal();
            let more = format!(
                "[endpoints]\nprefix = \"{prefix}\"\n[personal_tokens]\nenabled = true\n[server]\ntrusted_proxies = [\"127.0.0.1\"]\n[forward_auth]\nenabled = {forward_auth}\n"
            );
            crate::config::test_support::settings(minimal + &more)
        };
        let (plain, prefixed) =
            (Endpoints::new(&settings("", false)), Endpoints::new(&settings("/auth", true)));
        let session = SessionId::random();
        for (endpoints, path, found) in [
            (&plain, "/login".to_owned(), Some(Endpoint::Login)),
            (&plain, "/Login".to_owned(), None),
            (&plain, "/login/".to_owned(), None),
            (&plain, "/auth/login".to_owned(), None),
            (&plain, "/logout-all".to_owned(), Some(Endpoint::LogoutAll)),
            (&plain, "/sessions".to_owned(), Some(Endpoint::Sessions)),
            (&plain, format!("/sessions/{session}"), Some(Endpoint::Session)),
            (&plain, "/sessions/other".to_owned(), None),
            (&plain, "/tokens".to_owned(), Some(Endpoint::Tokens)),
            (&prefixed, format!("/auth/tokens/{session}"), Some(Endpoint::Token)),
            (&plain, "/tokens/other".to_owned(), None),
            (&plain, format!("/login/{session}"), None),
            (&prefixed, "/auth/refresh".to_owned(), Some(Endpoint::Refresh)),
            (&prefixed, "/refresh".to_owned(), None),
            (&prefixed, format!("/auth/sessions/{session}"), Some(Endpoint::Session)),
            (&prefixed, "/.well-known/jwks.json".to_owned(), Some(Endpoint::Jwks)),
            (&prefixed, "/auth/.well-known/jwks.json".to_owned(), None),
            (&plain, "/auth/verify".to_owned(), None),
            (&prefixed, "/auth/auth/verify".to_owned(), Some(Endpoint::Verify)),
            (&prefixed, "/auth/auth/verify/".to_owned(), Some(Endpoint::Verify)),
            (&prefixed, "/auth/auth/verify/any/path".to_owned(), Some(Endpoint::Verify)),
            (&prefixed, "/auth/auth/verifying".to_owned(), None),
            (&prefixed, "/auth/verify".to_owned(), None),
        ] {
            assert_eq!(endpoints.find(&path), found, "{path}");
        }
        let without = crate::config::test_support::settings(crate::config::test_support::minimal());
        assert_eq!(Endpoints::new(&without).find("/tokens"), None);
    }

    #[test]
    fn the_metadata_is_at_the_origin_with_the_issuers_path_behind_it() {
        for (issuer, at, paths) in [
            ("https://a.example", "https://a.example", &["/.well-known/oauth-authorization-server"][..]),
            ("https://a.example/", "https://a.example", &["/.well-known/oauth-authorization-server"]),
            (
                "http://a.example:8080/auth",
                "http://a.example:8080",
                &["/.well-known/oauth-authorization-server", "/.well-known/oauth-authorization-server/auth"],
            ),
        ] {
            assert_eq!(origin(issuer), at);
            assert_eq!(authorization_server_paths(issuer), paths);
        }
    }
}
