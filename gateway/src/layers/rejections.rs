//! Converts rejections to responses, in one place: problem details (RFC 9457) with status, code and
//! challenge, a gRPC status, or a page for a person.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::header::WWW_AUTHENTICATE;
use http::{Method, StatusCode};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::auth::basic::is_basic;
use crate::auth::bearer::{Bearer, Scheme};
use crate::auth::credentials::browser_cookies;
use crate::auth::dpop;
use crate::browser::accept_language;
use crate::browser::navigation::purpose;
use crate::browser::pages::{Refusal, RefusalContext};
use crate::browser::refusal::{self, RefusalForm, RefusedRequest};
use crate::config::Dpop;
use crate::grpc;
use crate::http1::{HeaderKind, Headers};
use crate::rejection::{Code, DpopChallenge, Rejection};
use crate::request::{Received, RequestContext};
use crate::response::{self, Body, Response};
use crate::routing::Route;
use crate::services::handover::to_sign_in;
use crate::services::oauth::resource_metadata_uri;
use crate::services::sign_in_page::see_other;
use crate::telemetry::EndpointLabel;

/// Converts the rejections of the services below to responses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RejectionsLayer;

impl<S> Layer<S> for RejectionsLayer {
    type Service = RejectionsService<S>;

    fn layer(&self, inner: S) -> RejectionsService<S> {
        RejectionsService { inner }
    }
}

/// See [`RejectionsLayer`].
#[derive(Debug)]
pub(crate) struct RejectionsService<S> {
    inner: S,
}

impl<S: Service<Received, Response = Response, Error = Rejection>> Service<Received>
    for RejectionsService<S>
{
    type Response = Response;
    type Error = Infallible;
    type Future = RejectionsFuture<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Every service below is always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Received) -> Self::Future {
        let context = Rc::clone(&request.context);
        RejectionsFuture { inner: self.inner.call(request), context }
    }
}

pin_project! {
    /// See [`RejectionsLayer`].
    #[derive(Debug)]
    pub(crate) struct RejectionsFuture<F> {
        #[pin]
        inner: F,
        context: Rc<RequestContext>,
    }
}

impl<F: Future<Output = Result<Response, Rejection>>> Future for RejectionsFuture<F> {
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        Poll::Ready(Ok(match ready!(this.inner.poll(cx)) {
            Ok(response) => response,
            Err(rejection) => respond(rejection, this.context),
        }))
    }
}

/// The response to a rejected request, recorded for the access log.
#[cold]
pub(crate) fn respond(rejection: Rejection, context: &RequestContext) -> Response {
    if rejection.closes() {
        context.stream.close.set(true);
    }
    let compat = &context.state.config.settings.compat;
    let plain = || {
        let mut response = match compat.is_on() {
            true => rejection.to_flask_response(&context.head, compat).map(Body::Bytes),
            false => {
                let type_base = context.state.config.settings.errors.type_base.as_deref();
                rejection.to_response_of_type(context.request_id.as_str(), type_base).map(Body::Bytes)
            }
        };
        challenge_for_dpop(&rejection, context, &mut response);
        response
    };
    // A proxy that requests a verdict of an endpoint goes by the HTTP status, which gRPC's form lacks.
    let call = grpc::call_type(&context.head).filter(|_| context.record.endpoint.get().is_none());
    let mut response = match call {
        Some(media_type) => grpc::trailers_only(&rejection, media_type, plain().into_parts().0.headers),
        None => for_browser(&rejection, context).unwrap_or_else(plain),
    };
    if response.status() == StatusCode::UNAUTHORIZED {
        name_resource_metadata(&mut response, context);
        add_basic_challenge(&mut response, context);
    }
    context.audit_refusal(&rejection);
    context.record.rejection.replace(Some(rejection));
    response
}

/// Names the scheme `DPoP`, and gives the client a nonce, where tokens may be bound to keys.
fn challenge_for_dpop(rejection: &Rejection, context: &RequestContext, response: &mut Response) {
    let mode = dpop::mode_of_request(context);
    if mode == Dpop::Off {
        return;
    }
    let bearer = Bearer::of_either(&context.head, true);
    let used = matches!(bearer, Ok(Some(bearer)) if bearer.scheme() != Scheme::Bearer);
    let how = DpopChallenge { bearer_too: mode == Dpop::Optional, used };
    if rejection.insert_dpop_challenge(how, response.headers_mut()) {
        dpop::insert_nonce(context, response);
    }
}

/// Says in the challenge where the resource's metadata is (RFC 9728 section 5.1), if that is configured.
fn name_resource_metadata(response: &mut Response, context: &RequestContext) {
    let settings = &context.state.config.settings;
    if !settings.oauth.resource_metadata_in_challenges {
        return;
    }
    let Some(challenge) = response.headers_mut().get_mut(WWW_AUTHENTICATE) else { return };
    let text = challenge.to_str().ok().filter(|text| text.starts_with("Bearer") || text.starts_with("DPoP"));
    if let Some(text) = text {
        // A scheme alone has no parameter to stand behind.
        let separator = if text == "Bearer" { " " } else { ", " };
        let uri = resource_metadata_uri(settings);
        *challenge = response::header_value(&format!("{text}{separator}resource_metadata=\"{uri}\""));
    }
}

/// Adds a challenge for HTTP Basic on routes that take it. Not a page's script, image or the like where people sign in on a page: the browser
/// would open its own password dialog.
fn add_basic_challenge(response: &mut Response, context: &RequestContext) {
    let config = &context.state.config;
    let takes_basic =
        context.route().is_some_and(|route| route.basic && dpop::mode(route, context) != Dpop::Required);
    let is_browser =
        || context.head.headers().iter().any(|field| field.name.eq_ignore_ascii_case(b"sec-fetch-mode"));
    if !takes_basic || (config.browser.is_some() && is_browser()) {
        return;
    }
    let realm = match config.settings.tokens.audience.as_str() {
        "" => "auth-gateway",
        audience => audience,
    };
    let realm = realm.replace('\\', "\\\\").replace('"', "\\\"");
    let challenge = format!("Basic realm=\"{realm}\", charset=\"UTF-8\"");
    response.headers_mut().append(WWW_AUTHENTICATE, response::header_value(&challenge));
}

/// Whether `Authorization` says that a program sends the request. Basic says so on routes that take it; elsewhere a browser adds what an
/// app has once asked for.
fn has_token(headers: &Headers, route: Option<&Route>) -> bool {
    let takes_basic = route.is_some_and(|route| route.basic);
    headers.of_kind(HeaderKind::Authorization).any(|field| takes_basic || !is_basic(field.value))
}

/// What a person gets instead of problem details, where `[browser]` is on.
fn for_browser(rejection: &Rejection, context: &RequestContext) -> Option<Response> {
    let (config, head) = (&context.state.config, &context.head);
    let browser = config.browser.as_ref()?;
    let route = context.route();
    let cookies = browser_cookies(browser, context);
    let form = refusal::form(RefusedRequest {
        code: rejection.code(),
        purpose: purpose(head.method(), head.headers()),
        method: head.method(),
        // What is judged for a proxy is a route's.
        endpoint: context.record.endpoint.get().is_some_and(|label| label != EndpointLabel::Verify),
        token: cookies.is_empty() && has_token(head.headers(), route),
        unauthenticated: route.and_then(|route| route.unauthenticated),
    });
    let mut response = match form {
        RefusalForm::Problem => return None,
        RefusalForm::SignIn => {
            let back = browser.own_address(&context.head, &context.client);
            return Some(match rejection {
                // Who is signed in proves the identity anew.
                Rejection::StepUpRequired(step_up) => {
                    see_other(&browser.pages.prove_link(&back, step_up.second_factor))
                }
                _ => to_sign_in(context, browser, &back),
            });
        }
        RefusalForm::Page => {
            // A form's own address may have no page: the one that it was sent from has.
            let is_read = matches!(*head.method(), Method::GET | Method::HEAD);
            let referer = head.headers().iter().find(|field| field.name.eq_ignore_ascii_case(b"referer"));
            let referer = referer.and_then(|field| std::str::from_utf8(field.value).ok()).unwrap_or_default();
            let return_to = match is_read {
                true => browser.own_address(&context.head, &context.client),
                false => browser.return_address(&context.head, &context.client, referer),
            };
            let identity = context.record.identity.borrow();
            let refusal = match (rejection, rejection.code()) {
                (Rejection::RoleMissing, _) => {
                    Refusal::MissingRole(route.map_or(&[], |route| route.roles.as_slice()))
                }
                (Rejection::ClaimMissing, _) => Refusal::MissingClaim,
                (_, Code::CsrfRejected) => Refusal::Csrf,
                (_, Code::StoreUnavailable) => Refusal::StoreUnavailable,
                (_, Code::Overloaded) => Refusal::Overloaded,
                (_, Code::BadGateway | Code::GatewayTimeout | Code::NoHealthyUpstream) => {
                    Refusal::AppUnavailable
                }
                (_, Code::NotFound) => Refusal::NotFound,
                _ if rejection.status() == StatusCode::UNAUTHORIZED => Refusal::FormLost,
                _ => Refusal::Other,
            };
            let about = RefusalContext {
                user: identity.as_ref().map(|identity| identity.claims().username()),
                return_to: &return_to,
                request_id: context.request_id.as_str(),
            };
            browser.pages.refusal(rejection.status(), accept_language(head), refusal, about)
        }
    };
    rejection.insert_fields(response.headers_mut());
    Some(response)
}
