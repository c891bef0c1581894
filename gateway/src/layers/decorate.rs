//! The layer for header fields that are added to every response, rejections included.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::HeaderMap;
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::request::{Received, RequestContext};
use crate::response::Response;

/// What is added.
pub(crate) trait Decorate: Copy {
    /// Edits the header fields of the response to this request.
    fn decorate(&self, context: &RequestContext, headers: &mut HeaderMap);
}

/// Decorates the responses of the services below.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DecorateLayer<D>(pub(crate) D);

impl<S, D: Decorate> Layer<S> for DecorateLayer<D> {
    type Service = DecorateService<S, D>;

    fn layer(&self, inner: S) -> DecorateService<S, D> {
        DecorateService { inner, decoration: self.0 }
    }
}

/// See [`DecorateLayer`].
#[derive(Debug)]
pub(crate) struct DecorateService<S, D> {
    inner: S,
    decoration: D,
}

impl<S, D> Service<Received> for DecorateService<S, D>
where
    S: Service<Received, Response = Response, Error = Infallible>,
    D: Decorate,
{
    type Response = Response;
    type Error = Infallible;
    type Future = DecorateFuture<S::Future, D>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Received) -> Self::Future {
        let context = Rc::clone(&request.context);
        DecorateFuture { inner: self.inner.call(request), decoration: self.decoration, context }
    }
}

pin_project! {
    /// See [`DecorateLayer`].
    #[derive(Debug)]
    pub(crate) struct DecorateFuture<F, D> {
        #[pin]
        inner: F,
        decoration: D,
        context: Rc<RequestContext>,
    }
}

impl<F: Future<Output = Result<Response, Infallible>>, D: Decorate> Future for DecorateFuture<F, D> {
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx))?;
        this.decoration.decorate(this.context, response.headers_mut());
        Poll::Ready(Ok(response))
    }
}
