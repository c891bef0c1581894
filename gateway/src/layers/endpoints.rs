//! Dispatch to the gateway's own endpoints, before any route can shadow them.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::rejection::Rejection;
use crate::request::Admitted;
use crate::response::Response;
use crate::services::endpoints::EndpointRequest;

/// Passes requests for the gateway's endpoints to the service `endpoints`, and all others on.
#[derive(Debug, Clone)]
pub(crate) struct EndpointsLayer<E> {
    endpoints: Rc<std::cell::RefCell<E>>,
}

impl<E> EndpointsLayer<E> {
    pub(crate) fn new(endpoints: E) -> EndpointsLayer<E> {
        EndpointsLayer { endpoints: Rc::new(std::cell::RefCell::new(endpoints)) }
    }
}

impl<S, E> Layer<S> for EndpointsLayer<E> {
    type Service = EndpointsService<S, E>;

    fn layer(&self, inner: S) -> EndpointsService<S, E> {
        EndpointsService { inner, endpoints: Rc::clone(&self.endpoints) }
    }
}

/// See [`EndpointsLayer`].
#[derive(Debug)]
pub(crate) struct EndpointsService<S, E> {
    inner: S,
    endpoints: Rc<std::cell::RefCell<E>>,
}

impl<S, E> Service<Admitted> for EndpointsService<S, E>
where
    S: Service<Admitted, Response = Response, Error = Rejection>,
    E: Service<EndpointRequest, Response = Response, Error = Rejection>,
{
    type Response = Response;
    type Error = Rejection;
    type Future = EndpointsFuture<E::Future, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Admitted) -> Self::Future {
        let context = request.context();
        match context.state.config.endpoints.find(request.view().decoded_path()) {
            Some(endpoint) => {
                context.record.endpoint.set(Some(endpoint.label()));
                let request = EndpointRequest { endpoint, request };
                EndpointsFuture::Endpoint { inner: self.endpoints.borrow_mut().call(request) }
            }
            None => EndpointsFuture::Route { inner: self.inner.call(request) },
        }
    }
}

pin_project! {
    /// See [`EndpointsLayer`].
    #[project = EndpointsProjection]
    #[derive(Debug)]
    pub(crate) enum EndpointsFuture<E, F> {
        Endpoint { #[pin] inner: E },
        Route { #[pin] inner: F },
    }
}

impl<E, F> Future for EndpointsFuture<E, F>
where
    E: Future<Output = Result<Response, Rejection>>,
    F: Future<Output = Result<Response, Rejection>>,
{
    type Output = Result<Response, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            EndpointsProjection::Endpoint { inner } => inner.poll(cx),
            EndpointsProjection::Route { inner } => inner.poll(cx),
        }
    }
}
