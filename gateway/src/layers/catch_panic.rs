//! Panic isolation: a panic fails its own request and nothing else.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::layers::rejections::respond;
use crate::rejection::Rejection;
use crate::request::{Received, RequestContext};
use crate::response::Response;

/// Responds 500 where a service below panics, and closes the connection, whose state is unknown.
///
/// State that outlives the request stays consistent: a worker's counters and caches are consistent between
/// any two statements, and locks are not poisoned by panics.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CatchPanicLayer;

impl<S> Layer<S> for CatchPanicLayer {
    type Service = CatchPanicService<S>;

    fn layer(&self, inner: S) -> CatchPanicService<S> {
        CatchPanicService { inner }
    }
}

/// See [`CatchPanicLayer`].
#[derive(Debug)]
pub(crate) struct CatchPanicService<S> {
    inner: S,
}

impl<S: Service<Received, Response = Response, Error = Infallible>> Service<Received>
    for CatchPanicService<S>
{
    type Response = Response;
    type Error = Infallible;
    type Future = CatchPanicFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Received) -> Self::Future {
        let context = Rc::clone(&request.context);
        // Steps run when they are called, so that may panic as well as the future.
        let inner = catch_unwind(AssertUnwindSafe(|| self.inner.call(request))).ok();
        CatchPanicFuture { inner, context }
    }
}

pin_project! {
    /// See [`CatchPanicLayer`].
    #[derive(Debug)]
    pub(crate) struct CatchPanicFuture<F> {
        #[pin]
        inner: Option<F>,
        context: Rc<RequestContext>,
    }
}

impl<F: Future<Output = Result<Response, Infallible>>> Future for CatchPanicFuture<F> {
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let polled = this.inner.as_pin_mut().map(|inner| catch_unwind(AssertUnwindSafe(|| inner.poll(cx))));
        match polled {
            Some(Ok(polled)) => polled,
            None | Some(Err(_)) => Poll::Ready(Ok(respond(Rejection::Panic, this.context))),
        }
    }
}
