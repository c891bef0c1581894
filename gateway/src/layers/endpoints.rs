//! The gateway's own endpoints: requests to them leave the stack here, before any route can shadow them.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::rejection::Rejection;
use crate::request::{Admitted, RequestView};
use crate::response::Response;
use crate::runtime_config::RuntimeConfig;
use crate::services::endpoints::{Endpoint, EndpointRequest};

/// Sends requests to the gateway's endpoints to the service `endpoints`, and all others on.
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
        match endpoint(&context.state.config, request.view()) {
            Some(endpoint) => {
                context.record.endpoint.set(true);
                let request = EndpointRequest { endpoint, request };
                EndpointsFuture::Endpoint { inner: self.endpoints.borrow_mut().call(request) }
            }
            None => EndpointsFuture::Route { inner: self.inner.call(request) },
        }
    }
}

/// The endpoint that a request is for. One with a method that its endpoint does not take is for the route of that path, if there
/// is one: an app may have a page at `/login`.
fn endpoint(config: &RuntimeConfig, request: RequestView<'_>) -> Option<Endpoint> {
    let endpoint = config.endpoints.find(request.decoded_path())?;
    let is_taken = endpoint.methods(config.browser.is_some()).contains(request.method());
    let has_route = || config.routes.select(request).is_ok();
    (is_taken || (endpoint != Endpoint::LoginContinue && !has_route())).then_some(endpoint)
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
