//! Dispatch to the gateway's own endpoints, before any route can shadow them.

use std::rc::Rc;
use std::task::{Context, Poll};

use futures_util::future::Either;
use tower::{Layer, Service};

use crate::config::Endpoint;
use crate::rejection::Rejection;
use crate::request::{Admitted, RequestView};
use crate::response::Response;
use crate::runtime_config::RuntimeConfig;
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
    type Future = Either<E::Future, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Admitted) -> Self::Future {
        let context = request.context();
        match endpoint(&context.state.config, request.view()) {
            Some(endpoint) => {
                context.record.endpoint.set(Some(endpoint.label()));
                let request = EndpointRequest { endpoint, request };
                Either::Left(self.endpoints.borrow_mut().call(request))
            }
            None => Either::Right(self.inner.call(request)),
        }
    }
}

/// The endpoint of a request. One with a method that its endpoint does not take is for the route of that path, if there
/// is one: an app may have a page at `/login`.
pub(crate) fn endpoint(config: &RuntimeConfig, request: RequestView<'_>) -> Option<Endpoint> {
    let endpoint = config.endpoints.find(request.decoded_path())?;
    let is_taken = endpoint.takes(request.method(), config.browser.is_some());
    let has_route = || config.routes.select(request).is_ok();
    (is_taken || (endpoint != Endpoint::LoginContinue && !has_route())).then_some(endpoint)
}
