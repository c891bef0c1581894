//! A route's header edits of responses.

use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::rejection::Rejection;
use crate::request::Authorized;
use crate::response::{Response, append_lines};

/// Edits the responses of routes with edits; the values may depend on the request, so they are computed
/// before it is consumed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResponseHeadersLayer;

impl<S> Layer<S> for ResponseHeadersLayer {
    type Service = ResponseHeadersService<S>;

    fn layer(&self, inner: S) -> ResponseHeadersService<S> {
        ResponseHeadersService { inner }
    }
}

/// See [`ResponseHeadersLayer`].
#[derive(Debug)]
pub(crate) struct ResponseHeadersService<S> {
    inner: S,
}

impl<S> Service<Authorized> for ResponseHeadersService<S>
where
    S: Service<Authorized, Response = Response, Error = Rejection>,
{
    type Response = Response;
    type Error = Rejection;
    type Future = ResponseHeadersFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Authorized) -> Self::Future {
        let edit = request.route().response_headers.as_ref().map(|edits| {
            let mut lines = Vec::new();
            let written = edits.push_lines(request.template_context(), &mut lines);
            let (state, route) = (std::rc::Rc::clone(&request.context().state), request.route().index);
            Box::new(Edit { written: written.map(|()| lines), state, route })
        });
        ResponseHeadersFuture { inner: self.inner.call(request), edit }
    }
}

/// The edits of a response.
#[derive(Debug)]
struct Edit {
    written: Result<Vec<u8>, Rejection>,
    state: std::rc::Rc<crate::worker_state::WorkerState>,
    route: usize,
}

pin_project! {
    /// See [`ResponseHeadersLayer`].
    #[derive(Debug)]
    pub(crate) struct ResponseHeadersFuture<F> {
        #[pin]
        inner: F,
        edit: Option<Box<Edit>>,
    }
}

impl<F: Future<Output = Result<Response, Rejection>>> Future for ResponseHeadersFuture<F> {
    type Output = Result<Response, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut polled = this.inner.poll(cx);
        if let Poll::Ready(Ok(response)) = &mut polled
            && let Some(edit) = this.edit.take()
        {
            let lines = edit.written?;
            if let Some(edits) = &edit.state.config.routes.at(edit.route).response_headers {
                edits.remove_from(response.headers_mut());
            }
            append_lines(response, &lines);
        }
        polled
    }
}
