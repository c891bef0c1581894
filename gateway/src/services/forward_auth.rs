//! `GET /auth/verify`: forward authentication, verdicts for proxies that serve the apps themselves.
//!
//! The request that the proxy describes passes the layers of every request, up to the target: in its place [`verdict`] answers 200
//! with what the app is to get. Its context is one of its own, so that every decision sees the original request.

use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_util::future::Either;
use http::header::{AUTHORIZATION, COOKIE, SET_COOKIE, VARY};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use tower::Service;

use crate::auth::dpop;
use crate::config::{Dpop, Endpoint};
use crate::http1::{HeadError, HeaderKind};
use crate::proxy::authorization;
use crate::proxy::original_request::{Asker, OriginalRequest};
use crate::proxy::websocket;
use crate::rejection::Rejection;
use crate::request::{AccessLogRecord, Admitted, Authorized, PREFLIGHT_PASSED, Received, RequestContext};
use crate::request_body::RequestBody;
use crate::response::{self, Response};
use crate::routing::Target;
use crate::routing::cors::Preflight;
use crate::services::endpoints::EndpointRequest;
use crate::stream_state::StreamState;
use crate::telemetry::EndpointLabel;

/// What Envoy removes from the request.
const ENVOY_REMOVES: HeaderName = HeaderName::from_static("x-envoy-auth-headers-to-remove");

const DPOP: HeaderName = HeaderName::from_static("dpop");

/// nginx and Caddy know one value of a field: here each cookie has a field of its own.
const NUMBERED_COOKIES: [HeaderName; 4] = [
    HeaderName::from_static("x-set-cookie-1"),
    HeaderName::from_static("x-set-cookie-2"),
    HeaderName::from_static("x-set-cookie-3"),
    HeaderName::from_static("x-set-cookie-4"),
];

/// Passes questions to `judge`, the layers that a request passes before its target, and all other requests to `endpoints`.
#[derive(Debug)]
pub(crate) struct ForwardAuth<J, E> {
    judge: RefCell<J>,
    endpoints: E,
}

impl<J, E> ForwardAuth<J, E> {
    pub(crate) fn new(judge: J, endpoints: E) -> ForwardAuth<J, E> {
        ForwardAuth { judge: RefCell::new(judge), endpoints }
    }
}

impl<J, E> Service<EndpointRequest> for ForwardAuth<J, E>
where
    J: Service<Received, Response = Response, Error = Infallible, Future: 'static>,
    E: Service<EndpointRequest, Response = Response, Error = Rejection>,
{
    type Response = Response;
    type Error = Rejection;
    type Future = Either<E::Future, Pin<Box<dyn Future<Output = Result<Response, Rejection>>>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.endpoints.poll_ready(cx)
    }

    fn call(&mut self, request: EndpointRequest) -> Self::Future {
        if request.endpoint != Endpoint::Verify {
            return Either::Left(self.endpoints.call(request));
        }
        let asking = Rc::clone(request.request.context());
        let (original, asker) = match original(&request.request) {
            Ok(original) => original,
            Err(rejection) => return Either::Right(Box::pin(std::future::ready(Err(rejection)))),
        };
        let context = Rc::clone(&original.context);
        let judged = self.judge.get_mut().call(original);
        Either::Right(Box::pin(async move {
            let mut response = judged.await.unwrap_or_else(|never| match never {});
            for_asker(&mut response, &context, asker);
            let (log, record) = (&asking.record, &context.record);
            log.identity.replace(record.identity.take());
            log.rejection.replace(record.rejection.take());
            Ok(response)
        }))
    }
}

/// The request that a proxy describes.
///
/// # Errors
///
/// Who asks is no trusted proxy, or does not say which request it is.
fn original(question: &Admitted) -> Result<(Received, Asker), Rejection> {
    let (asking, view) = (question.context(), question.view());
    if !asking.client.is_trusted() {
        return Err(Rejection::UntrustedProxy);
    }
    let config = &asking.state.config;
    let below = config.endpoints.below_verify(view.target().as_str());
    let below = below.ok_or(Rejection::OriginalRequest("the endpoint's own path has escapes"))?;
    let original = OriginalRequest::of(&asking.head, below)?;
    let mut head = asking.worker.take_head();
    let line = config.settings.limits.head().line;
    let refused = match original.rebuild(&asking.head, &config.identity_headers, line, &mut head) {
        Ok(()) => None,
        // In the place where a head is refused that a client has sent.
        Err(Rejection::BadHead(error @ HeadError::LineTooLong(_))) => {
            Some(Box::new(Rejection::BadHead(error)))
        }
        Err(rejection) => return Err(rejection),
    };
    let record = AccessLogRecord::default();
    record.endpoint.set(Some(EndpointLabel::Verify));
    let context = Rc::new(RequestContext {
        head: head.into(),
        client: Rc::clone(&asking.client),
        worker: Rc::clone(&asking.worker),
        state: Rc::clone(&asking.state),
        // Nothing is streamed, and the connection is the proxy's.
        stream: StreamState::of_http2_stream(),
        request_id: asking.request_id.clone(),
        started: asking.started,
        now_millis: asking.now_millis,
        // The span is that of the request that asks.
        trace: None,
        record,
    });
    Ok((Received { context, body: RequestBody::default(), refused }, original.asker))
}

/// The step that keeps requests from the routes that the gateway would have answered itself, had they come here.
pub(crate) fn meant_for_an_app(request: Admitted) -> Result<Admitted, Rejection> {
    let (context, view) = (request.context(), request.view());
    let config = &context.state.config;
    if config.endpoint_of(view).is_some() {
        return Err(Rejection::OriginalRequest(
            "the address is one of the gateway's own: the proxy has to send such requests here instead of asking about them",
        ));
    }
    if *view.method() == Method::OPTIONS && matches!(config.preflight(view), Some(Preflight::PassedThrough)) {
        context.record.cors.set(Some(PREFLIGHT_PASSED));
    }
    Ok(request)
}

/// The target of every route: 200 with the identity, and with the fields that the app is to get in place of the client's.
///
/// # Errors
///
/// The page may not open a WebSocket, or a claim does not fit into a field.
pub(crate) fn verdict(request: &Authorized) -> Result<Response, Rejection> {
    let (context, route, headers) = (request.context(), request.route(), request.view().headers());
    let mut response = response::no_store(response::empty(StatusCode::OK));
    if let Some(identity) = request.identity() {
        response::append_lines(&mut response, identity.header_lines());
    }
    if let Some(edits) = &route.request_headers {
        let mut lines = Vec::new();
        edits.push_lines(request.template_context(), &mut lines)?;
        response::append_lines(&mut response, &lines);
    }
    let passes_authorization = match &route.target {
        Target::Upstream(forwarding) => {
            websocket::check_page(request, forwarding)?;
            authorization::passes(request, forwarding)
        }
        _ => false,
    };
    let mut put = |name: HeaderName, value: &[u8]| {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            response.headers_mut().insert(name, value);
        }
    };
    if let Some(field) = headers.only(HeaderKind::Authorization).filter(|_| passes_authorization) {
        put(AUTHORIZATION, field.value);
    }
    let passes_proof = authorization::passes_proof(context, passes_authorization);
    if let Some(field) = headers.only(HeaderKind::Dpop).filter(|_| passes_proof) {
        put(DPOP, field.value);
    }
    let own = context.state.config.browser.as_ref().map(|browser| &browser.cookies);
    let cookies: Vec<Vec<u8>> = headers
        .of_kind(HeaderKind::Cookie)
        .map(|field| own.and_then(|own| own.without_own(field.value)).unwrap_or_else(|| field.value.to_vec()))
        .filter(|cookies| !cookies.is_empty())
        .collect();
    if !cookies.is_empty() {
        put(COOKIE, &cookies.join(&b"; "[..]));
    }
    Ok(response)
}

/// Puts a verdict into the form that the proxy understands.
fn for_asker(response: &mut Response, context: &RequestContext, asker: Asker) {
    // A cache between proxy and gateway may keep none, and one that does all the same has to tell the clients apart.
    let vary = match dpop::mode_of_request(context) {
        Dpop::Off => "Authorization, Cookie",
        Dpop::Optional | Dpop::Required => "Authorization, Cookie, DPoP",
    };
    response.headers_mut().insert(VARY, HeaderValue::from_static(vary));
    // Other proxies send a refusal on as it is, and no page may read these.
    if asker == Asker::Nginx || response.status() == StatusCode::OK {
        let cookies: Vec<HeaderValue> = response.headers().get_all(SET_COOKIE).iter().cloned().collect();
        for (name, cookie) in NUMBERED_COOKIES.into_iter().zip(cookies) {
            response.headers_mut().insert(name, cookie);
        }
    }
    match asker {
        Asker::Nginx if response.status() == StatusCode::SEE_OTHER => {
            if let Some(rejection) = &*context.record.rejection.borrow() {
                // The way to the sign-in page is in `Location`.
                *response.status_mut() = rejection.status();
                rejection.insert_fields(response.headers_mut());
            }
        }
        Asker::Envoy if response.status() == StatusCode::OK => {
            let reserved = context.state.config.identity_headers.reserved_names();
            let own = ["authorization", "cookie", "dpop"].map(str::as_bytes);
            let absent = reserved.chain(own).filter(|name| {
                HeaderName::from_bytes(name).is_ok_and(|name| !response.headers().contains_key(name))
            });
            let absent: Vec<&[u8]> = absent.collect();
            if let Ok(names) = HeaderValue::from_bytes(&absent.join(&b", "[..])) {
                response.headers_mut().insert(ENVOY_REMOVES, names);
            }
        }
        Asker::Nginx | Asker::Envoy | Asker::Other => {}
    }
}
