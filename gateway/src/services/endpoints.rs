//! The gateway's own endpoints: login, refresh, logout, sessions, and the public keys.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use tower::Service;

use super::{
    handover, jwks, login, logout, oauth, password, password_page, password_reset, personal_tokens, refresh,
    second_factor, second_factor_page, sessions, sign_in_page, sign_out_page,
};
use crate::auth::bearer::Bearer;
use crate::config::{Dpop, Endpoint, Settings};
use crate::rejection::Rejection;
use crate::request::Admitted;
use crate::response::{Body, Response};
use crate::sessions::{SessionId, StoreError, UnixMillis};
use crate::telemetry::EndpointLabel;
use crate::users::SourceUnavailable;

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
    pub(crate) fn takes(self, method: &Method, pages: bool) -> bool {
        self == Endpoint::Verify || self.methods(pages).contains(method)
    }

    /// The methods that it takes; with `[browser]`, `pages` are shown at two of them.
    fn methods(self, pages: bool) -> &'static [Method] {
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
            let server = oauth::authorization_server_paths(&settings.tokens.issuer).into_iter();
            let server = server.map(|path| (path, Endpoint::AuthorizationServer));
            server.chain([(oauth::PROTECTED_RESOURCE.to_owned(), Endpoint::ProtectedResource)])
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

    /// What stands behind the path of verdicts: nothing, or a path.
    pub(crate) fn below_verify<'t>(&self, target: &'t str) -> Option<&'t str> {
        let rest = target.strip_prefix(self.verify.as_deref()?)?;
        (rest.is_empty() || rest.starts_with(['/', '?'])).then_some(rest)
    }
}

/// A request to an endpoint.
#[derive(Debug)]
pub(crate) struct EndpointRequest {
    pub(crate) endpoint: Endpoint,
    pub(crate) request: Admitted,
}

/// The service of the gateway's own endpoints.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EndpointService;

impl Service<EndpointRequest> for EndpointService {
    type Response = Response;
    type Error = Rejection;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Rejection>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: EndpointRequest) -> Self::Future {
        // Boxed, for otherwise every request's future would have the size of a login's.
        Box::pin(serve(request))
    }
}

async fn serve(EndpointRequest { endpoint, request }: EndpointRequest) -> Result<Response, Rejection> {
    let context = Rc::clone(request.context());
    let browser = context.state.config.browser.as_ref();
    let allowed = endpoint.methods(browser.is_some());
    let method = request.view().method();
    if !allowed.contains(method) {
        let allowed = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        return Err(Rejection::EndpointMethod(allowed));
    }
    if let Some(browser) = browser {
        let is_post = *method == Method::POST;
        // Who sends a token is a program.
        let dpop = context.state.config.settings.tokens.dpop != Dpop::Off;
        let has_token = !matches!(Bearer::of_either(&context.head, dpop), Ok(None));
        match endpoint {
            Endpoint::LoginContinue => return handover::receive(&context, browser, request.view()).await,
            Endpoint::Login if !is_post => {
                return sign_in_page::show(&context, browser, request.view()).await;
            }
            Endpoint::Login if sign_in_page::is_form(&context.head) => {
                return sign_in_page::submit(&context, browser, request.body).await;
            }
            Endpoint::Password if !is_post => {
                return password_page::show(&context, browser, request.view()).await;
            }
            Endpoint::Password if sign_in_page::is_form(&context.head) => {
                return password_page::submit(&context, browser, request.body).await;
            }
            Endpoint::PasswordReset if !is_post => {
                return password_reset::show(&context, browser, request.view()).await;
            }
            Endpoint::PasswordReset if sign_in_page::is_form(&context.head) => {
                return password_reset::submit(&context, browser, request.body).await;
            }
            Endpoint::Tokens if !is_post && sign_in_page::is_opened(&context.head) => {
                return personal_tokens::show(&context, browser).await;
            }
            Endpoint::Tokens if is_post && sign_in_page::is_form(&context.head) => {
                return personal_tokens::submit(&context, browser, request.body).await;
            }
            Endpoint::LoginTotp if sign_in_page::is_form(&context.head) => {
                return second_factor_page::submit_code(&context, browser, request.body).await;
            }
            Endpoint::Reauthenticate if !is_post => {
                return second_factor_page::show(&context, browser, request.view(), false).await;
            }
            Endpoint::Reauthenticate if sign_in_page::is_form(&context.head) => {
                return second_factor_page::submit(&context, browser, request.body).await;
            }
            Endpoint::Mfa if !has_token && sign_in_page::is_opened(&context.head) => {
                return second_factor_page::show(&context, browser, request.view(), true).await;
            }
            Endpoint::Logout if !is_post => {
                return sign_out_page::show(&context, browser, request.view()).await;
            }
            Endpoint::Logout | Endpoint::LogoutAll if !has_token => {
                return sign_out_page::submit(&context, browser, endpoint == Endpoint::LogoutAll).await;
            }
            _ => {}
        }
    }
    match endpoint {
        Endpoint::LoginContinue => Err(Rejection::NoPagesHere),
        Endpoint::Login => login::login(&context, request.body).await,
        Endpoint::Refresh => refresh::refresh(&context, request.body).await,
        Endpoint::Health => {
            Ok(health(context.worker.gateway.leaving.load(Ordering::Relaxed)).map(Body::Bytes))
        }
        Endpoint::Logout => logout::logout(&context).await,
        Endpoint::LogoutAll => logout::logout_all(&context).await,
        Endpoint::Sessions => sessions::list(&context).await,
        Endpoint::Session => sessions::end(&context, request.view().decoded_path()).await,
        Endpoint::LoginTotp => second_factor::step(&context, request.body).await,
        Endpoint::Reauthenticate => second_factor::reauthenticate(&context, request.body).await,
        Endpoint::Mfa
        | Endpoint::MfaTotp
        | Endpoint::MfaConfirm
        | Endpoint::MfaRemove
        | Endpoint::MfaRecoveryCodes => second_factor::manage(&context, endpoint, request.body).await,
        Endpoint::Tokens if *method == Method::GET => personal_tokens::list(&context).await,
        Endpoint::Tokens => personal_tokens::create(&context, request.body).await,
        Endpoint::Token => personal_tokens::revoke(&context, request.view().decoded_path()).await,
        Endpoint::Revoke => oauth::revoke(&context, request.body).await,
        Endpoint::Introspect => oauth::introspect(&context, request.body).await,
        Endpoint::AuthorizationServer => Ok(oauth::authorization_server(&context.state.config.settings)),
        Endpoint::ProtectedResource => Ok(oauth::protected_resource(&context.state.config.settings)),
        Endpoint::Password => password::change(&context, request.body).await,
        Endpoint::PasswordReset => password_reset::reset(&context, request.body).await,
        Endpoint::Jwks => Ok(jwks::jwks(&context.state.config)),
        // Judged by the stack, which has a service of its own for that.
        Endpoint::Verify => Err(Rejection::WrongTarget),
    }
}

/// Whether the process goes on serving: 503 once it is to stop. Whether stores and upstreams work is reported by
/// `/readyz` of the admin listener.
pub(crate) fn health(is_leaving: bool) -> http::Response<Bytes> {
    let (status, text) = match is_leaving {
        true => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        false => (StatusCode::OK, "ok\n"),
    };
    let mut response = http::Response::new(Bytes::from_static(text.as_bytes()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// 503 for a store outage, never 401: a client must be able to keep its session through it.
pub(crate) fn store_unavailable(error: &StoreError) -> Rejection {
    tracing::error!(%error, "the session store failed");
    Rejection::StoreUnavailable
}

/// 503 for an unavailable source of users; it was logged when that began.
pub(crate) fn users_unavailable(error: &SourceUnavailable) -> Rejection {
    tracing::debug!(%error, "a source of users did not answer");
    Rejection::UsersUnavailable
}

/// 429: the network has reached its limit of failures.
pub(crate) fn rate_limited(retry_after: UnixMillis) -> Rejection {
    Rejection::RateLimited(Duration::from_millis(retry_after))
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
}
