//! The request stack: every layer that a request passes, top to bottom, composed once with [`tower::ServiceBuilder`].
//!
//! The server runs it with the reverse proxy at the bottom; `explain` runs the same list with a target that captures what
//! would be sent. There is no second copy of the order.

use std::convert::Infallible;

use tower::{Service, ServiceBuilder};

use crate::layers::access_log::{AccessLogLayer, LoggedBody};
use crate::layers::admission::admit_request;
use crate::layers::authenticate::authenticate_request;
use crate::layers::authorize::authorize_request;
use crate::layers::catch_panic::CatchPanicLayer;
use crate::layers::cors::CorsLayer;
use crate::layers::endpoints::EndpointsLayer;
use crate::layers::hsts::HstsLayer;
use crate::layers::options::OptionsLayer;
use crate::layers::rejections::RejectionsLayer;
use crate::layers::request_id::RequestIdLayer;
use crate::layers::response_headers::ResponseHeadersLayer;
use crate::layers::route::route_request;
use crate::layers::step::StepLayer;
use crate::rejection::Rejection;
use crate::request::{Authorized, Incoming};
use crate::response::Response;
use crate::runtime::Worker;
use crate::services::endpoints::EndpointRequest;

/// What a connection needs of a stack. Every service in it is always ready, so it is never cloned for a request.
pub(crate) trait RequestStack:
    Service<Incoming, Response = http::Response<LoggedBody>, Error = Infallible, Future: 'static> + 'static
{
}

impl<S> RequestStack for S where
    S: Service<Incoming, Response = http::Response<LoggedBody>, Error = Infallible, Future: 'static>
        + 'static
{
}

/// Composes the stack of one worker around what answers the gateway's own endpoints and what answers routes.
pub(crate) fn request_stack<E, T>(worker: std::rc::Rc<Worker>, endpoints: E, target: T) -> impl RequestStack
where
    E: Service<EndpointRequest, Response = Response, Error = Rejection, Future: 'static> + 'static,
    T: Service<Authorized, Response = Response, Error = Rejection, Future: 'static> + 'static,
{
    ServiceBuilder::new()
        // First, so that every line and answer below can be correlated; here a request also gets its configuration.
        .layer(RequestIdLayer::new(worker))
        // Outside everything that may fail: it sees refusals, panics and the end of the body, and why that was cut.
        .layer(AccessLogLayer)
        // Outside the rejections, for a refusal over TLS carries Strict-Transport-Security too.
        .layer(HstsLayer::default())
        // Outside the rejections, for a page that cannot read a refusal cannot refresh its token.
        .layer(CorsLayer::default())
        // Inside what decorates, so that a panic is a 500 like any refusal: a page of an allowed origin can read it, a page of
        // another cannot, and it costs this request only.
        .layer(CatchPanicLayer)
        // The one place where a rejection becomes an answer.
        .layer(RejectionsLayer)
        // Nothing below sees a head that two parsers could read differently.
        .layer(StepLayer(admit_request))
        // Before routes and tokens: a browser sends no token with a preflight, and `OPTIONS *` is about the gateway.
        .layer(OptionsLayer)
        // Before the routes, so that no route can shadow them.
        .layer(EndpointsLayer::new(endpoints))
        // The longest path wins; no route, no entry.
        .layer(StepLayer(route_request))
        // After the route, which says whether and where a token is looked for.
        .layer(StepLayer(authenticate_request))
        // The last that can refuse before anything is asked for or sent.
        .layer(StepLayer(authorize_request))
        // Around the target alone: a route's edits apply to its answers, not to refusals.
        .layer(ResponseHeadersLayer)
        .service(target)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
