//! Converts rejections to responses, in one place: problem details (RFC 9457) with status, code and
//! challenge, or a gRPC status.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::grpc;
use crate::rejection::Rejection;
use crate::request::{Received, RequestContext};
use crate::response::{Body, Response};

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
    let response = match compat.is_on() {
        true => rejection.to_flask_response(&context.head, compat),
        false => rejection.to_response(context.request_id.as_str()),
    };
    let response = match grpc::media_type(&context.head) {
        Some(media_type) => grpc::trailers_only(&rejection, media_type, response.into_parts().0.headers),
        None => response.map(Body::Bytes),
    };
    context.record.rejection.replace(Some(rejection));
    response
}
