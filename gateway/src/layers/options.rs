//! `OPTIONS` requests that are handled before routing: CORS preflights, and those about the gateway itself.

use std::task::{Context, Poll};

use http::header::ALLOW;
use http::{Method, StatusCode};
use tower::{Layer, Service};

use crate::admission::RequestView;
use crate::admission::USUAL_METHODS;
use crate::config::Endpoint;
use crate::http1::HeaderKind;
use crate::layers::step::StepFuture;
use crate::rejection::Rejection;
use crate::request::{Admitted, PREFLIGHT_PASSED};
use crate::response::{self, Response};
use crate::routing::cors::Preflight;
use crate::runtime_config::RuntimeConfig;

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
    type Future = StepFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Admitted) -> Self::Future {
        let (view, context) = (request.view(), request.context());
        // A verdict on an OPTIONS request is requested by OPTIONS.
        if *view.method() == Method::OPTIONS && !asks_for_verdict(&context.state.config, view) {
            match context.state.config.preflight(view) {
                Some(Preflight::Answered { route, response, problem }) => {
                    context.record.route.set(route);
                    let outcome = if problem.is_none() { "preflight_allowed" } else { "preflight_refused" };
                    context.record.cors.set(Some(outcome));
                    if let Some(trace) = &context.worker.trace {
                        trace.preflight_problem.replace(problem);
                    }
                    return StepFuture::decided(Ok(response));
                }
                Some(Preflight::PassedThrough) => {
                    context.record.cors.set(Some(PREFLIGHT_PASSED));
                }
                None => {
                    if let Some(response) = options_of_the_gateway(view) {
                        return StepFuture::decided(Ok(response));
                    }
                }
            }
        }
        StepFuture::Passed { inner: self.inner.call(request) }
    }
}

fn asks_for_verdict(config: &RuntimeConfig, request: RequestView<'_>) -> bool {
    config.endpoints.find(request.decoded_path()) == Some(Endpoint::Verify)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::test_support::AdmittedHead;

    #[test]
    fn options_about_the_gateway_are_answered_here_and_others_go_on() {
        for (target, fields, here) in [
            ("*", "", true),
            ("/x", "Max-Forwards: 0\r\n", true),
            ("/x", "Max-Forwards: 1\r\n", false),
            ("/x", "Max-Forwards: 0\r\nMax-Forwards: 0\r\n", false),
            ("/x", "", false),
        ] {
            let request = AdmittedHead::new(&format!("OPTIONS {target} HTTP/1.1\r\nHost: a\r\n{fields}"));
            let response = options_of_the_gateway(request.view());
            assert_eq!(response.is_some(), here, "{target} {fields}");
            if let Some(response) = response {
                assert_eq!(response.status(), StatusCode::NO_CONTENT);
                assert_eq!(response.headers()[ALLOW], "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
            }
        }
    }
}
