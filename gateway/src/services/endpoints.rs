//! The gateway's own endpoints: login, refresh, logout, sessions, and the public keys.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use tower::Service;

use super::{
    handover, jwks, login, logout, oauth, password, password_page, password_reset, personal_tokens, refresh,
    second_factor, second_factor_page, sessions, sign_in_page, sign_out_page,
};
use crate::auth::bearer::Bearer;
use crate::config::{Dpop, Endpoint};
use crate::rejection::Rejection;
use crate::request::Admitted;
use crate::response::{Body, Response};

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
            Endpoint::Login | Endpoint::LoginTotp if is_post && sign_in_page::is_form(&context.head) => {
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
