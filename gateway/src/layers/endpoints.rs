//! Dispatch to the gateway's own endpoints, before any route can shadow them.

use std::rc::Rc;
use std::task::{Context, Poll};

use futures_util::future::Either;
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
    type Future = Either<E::Future, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Admitted) -> Self::Future {
        let context = request.context();
        match context.state.config.endpoint_of(request.view()) {
            Some(endpoint) => {
                context.record.endpoint.set(Some(endpoint.label()));
                let request = EndpointRequest { endpoint, request };
                Either::Left(self.endpoints.borrow_mut().call(request))
            }
            None => Either::Right(self.inner.call(request)),
        }
    }
}
