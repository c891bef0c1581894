//! `OPTIONS` requests that are handled before routing: CORS preflights, and those about the gateway itself.

use std::task::{Context, Poll};

use http::header::ALLOW;
use http::{Method, StatusCode};
use tower::{Layer, Service};

use crate::http1::HeaderKind;
use crate::layers::admission::USUAL_METHODS;
use crate::layers::cors::{Preflight, preflight};
use crate::layers::step::AnsweredOr;
use crate::rejection::Rejection;
use crate::request::{Admitted, PREFLIGHT_PASSED, RequestView};
use crate::response::{self, Response};

/// Handles preflights, `OPTIONS *` and an `OPTIONS` for which this is the last hop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OptionsLayer;

impl<S> Layer<S> for OptionsLayer {
    type Service = OptionsService<S>;

    fn layer(&self, inner: S) -> OptionsService<S> {
        OptionsService { inner }
    }
}

/// See [`OptionsLayer`].
#[derive(Debug)]
pub(crate) struct OptionsService<S> {
    inner: S,
}

impl<S: Service<Admitted, Response = Response, Error = Rejection>> Service<Admitted> for OptionsService<S> {
    type Response = Response;
    type Error = Rejection;
    type Future = AnsweredOr<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Admitted) -> Self::Future {
        let (view, context) = (request.view(), request.context());
        if *view.method() == Method::OPTIONS {
            match preflight(&context.state.config, view) {
                Some(Preflight::Answered { route, response, problem }) => {
                    context.record.route.set(route);
                    let outcome = if problem.is_none() { "preflight_allowed" } else { "preflight_refused" };
                    context.record.cors.set(Some(outcome));
                    return AnsweredOr::answered(response);
                }
                Some(Preflight::PassedThrough) => {
                    context.record.cors.set(Some(PREFLIGHT_PASSED));
                }
                None => {
                    if let Some(response) = options_of_the_gateway(view) {
                        return AnsweredOr::answered(response);
                    }
                }
            }
        }
        AnsweredOr::Inner { inner: self.inner.call(request) }
    }
}

/// `OPTIONS *` is about the gateway itself, and `Max-Forwards: 0` means that this is the last hop (RFC 9110
/// sections 9.3.7 and 7.6.2).
fn options_of_the_gateway(request: RequestView<'_>) -> Option<Response> {
    let last_hop = || request.headers().only(HeaderKind::MaxForwards).is_some_and(|f| f.value == b"0");
    if request.target().path() != "*" && !last_hop() {
        return None;
    }
    let mut response = response::empty(StatusCode::NO_CONTENT);
    let methods = USUAL_METHODS.map(|m| m.to_string()).join(", ");
    response.headers_mut().insert(ALLOW, response::header_value(&methods));
    Some(response)
}
