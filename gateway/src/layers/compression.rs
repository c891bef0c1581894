//! The layer that compresses responses of routes with `compress = true`.

use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::content_coding::ContentCoding;
use crate::rejection::Rejection;
use crate::request::Authorized;
use crate::response::Response;
use crate::response::compression::{coding_for, compress};
use crate::routing::Target;

/// Compresses responses; those of other routes pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CompressionLayer;

impl<S> Layer<S> for CompressionLayer {
    type Service = CompressionService<S>;

    fn layer(&self, inner: S) -> CompressionService<S> {
        CompressionService { inner }
    }
}

/// See [`CompressionLayer`].
#[derive(Debug)]
pub(crate) struct CompressionService<S> {
    inner: S,
}

impl<S> Service<Authorized> for CompressionService<S>
where
    S: Service<Authorized, Response = Response, Error = Rejection>,
{
    type Response = Response;
    type Error = Rejection;
    type Future = CompressionFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Authorized) -> Self::Future {
        let compresses = matches!(&request.route().target, Target::Upstream(to) if to.compress);
        let coding = compresses.then(|| coding_for(request.view().headers()));
        CompressionFuture { inner: self.inner.call(request), coding }
    }
}

pin_project! {
    /// See [`CompressionLayer`].
    #[derive(Debug)]
    pub(crate) struct CompressionFuture<F> {
        #[pin]
        inner: F,
        // The coding for the client, if its route compresses.
        coding: Option<Option<ContentCoding>>,
    }
}

impl<F: Future<Output = Result<Response, Rejection>>> Future for CompressionFuture<F> {
    type Output = Result<Response, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let polled = this.inner.poll(cx);
        match *this.coding {
            Some(coding) => polled.map_ok(|response| compress(response, coding)),
            None => polled,
        }
    }
}
