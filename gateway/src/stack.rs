//! The request stack: every layer that a request passes, top to bottom, composed once with
//! [`tower::ServiceBuilder`].
//!
//! The server runs it with the reverse proxy at the bottom; `explain` runs the same list with a target that
//! captures what would be sent. There is no second copy of the order.

use std::convert::Infallible;
use std::future::ready;

use tower::{Service, ServiceBuilder, service_fn};

use crate::layers::access_log::{AccessLogLayer, LoggedBody};
use crate::layers::admission::admit_request;
use crate::layers::authenticate::AuthenticateLayer;
use crate::layers::authorize::authorize_request;
use crate::layers::catch_panic::CatchPanicLayer;
use crate::layers::compression::CompressionLayer;
use crate::layers::cors::CorsLayer;
use crate::layers::endpoints::EndpointsLayer;
use crate::layers::hsts::HstsLayer;
use crate::layers::options::OptionsLayer;
use crate::layers::rejections::RejectionsLayer;
use crate::layers::request_id::RequestIdLayer;
use crate::layers::response_headers::ResponseHeadersLayer;
use crate::layers::route::route_request;
use crate::layers::session_cookies::SessionCookiesLayer;
use crate::layers::step::StepLayer;
use crate::rejection::Rejection;
use crate::request::{Admitted, Authorized, Incoming};
use crate::response::Response;
use crate::runtime::Worker;
use crate::services::endpoints::EndpointRequest;
use crate::services::forward_auth::{ForwardAuth, meant_for_an_app, verdict};

/// What a connection requires of a stack. Every service in it is always ready, so it is never cloned for a
/// request.
pub(crate) trait RequestStack:
    Service<Incoming, Response = http::Response<LoggedBody>, Error = Infallible, Future: 'static> + 'static
{
}

impl<S> RequestStack for S where
    S: Service<Incoming, Response = http::Response<LoggedBody>, Error = Infallible, Future: 'static>
        + 'static
{
}

/// Composes the stack of one worker around the service of the gateway's own endpoints and the service of
/// route targets.
pub(crate) fn request_stack<E, T>(worker: std::rc::Rc<Worker>, endpoints: E, target: T) -> impl RequestStack
where
    E: Service<EndpointRequest, Response = Response, Error = Rejection, Future: 'static> + 'static,
    T: Service<Authorized, Response = Response, Error = Rejection, Future: 'static> + 'static,
{
    let judge = ServiceBuilder::new()
        .layer(SessionCookiesLayer::default())
        .layer(RejectionsLayer)
        .layer(StepLayer(admit_request))
        .layer(StepLayer(meant_for_an_app))
        .service(judged(service_fn(|request: Authorized| ready(verdict(&request)))));
    ServiceBuilder::new()
        // First, so that all log records and responses below have the id; it also takes the configuration for
        // the request.
        .layer(RequestIdLayer::new(worker))
        // Outside everything that may fail: it sees rejections, panics and the end of the body, with the
        // reason of an abort.
        .layer(AccessLogLayer)
        // Outside the rejections, which carry Strict-Transport-Security over TLS too.
        .layer(HstsLayer::default())
        // Outside the rejections, for a page that cannot read a 401 cannot refresh its token.
        .layer(CorsLayer::default())
        // Outside the rejections, for one may end a session or come with a refreshed one.
        .layer(SessionCookiesLayer::default())
        // Inside the decorating layers, so that a panic becomes a 500 like any rejection: a page of an allowed
        // origin can read it, a page of another cannot, and it fails this request only.
        .layer(CatchPanicLayer)
        // The one place where a rejection becomes a response.
        .layer(RejectionsLayer)
        // Nothing below sees a head that two parsers could interpret differently.
        .layer(StepLayer(admit_request))
        // Before routes and tokens: a browser sends no token with a preflight, and `OPTIONS *` is about the
        // gateway.
        .layer(OptionsLayer)
        // Before the routes, so that no route can shadow them.
        .layer(EndpointsLayer::new(ForwardAuth::new(judge, endpoints)))
        .service(judged(
            ServiceBuilder::new()
                // Outside the edits of a route, which may forbid it (Cache-Control: no-transform).
                .layer(CompressionLayer)
                // Around the target alone: a route's edits apply to its responses, not to rejections.
                .layer(ResponseHeadersLayer)
                .service(target),
        ))
}

/// The layers that decide on an admitted request, for those that come here and for those that a proxy requests a verdict on.
fn judged<T>(
    target: T,
) -> impl Service<Admitted, Response = Response, Error = Rejection, Future: 'static> + 'static
where
    T: Service<Authorized, Response = Response, Error = Rejection, Future: 'static> + 'static,
{
    ServiceBuilder::new()
        // The longest path wins; without a route, the request is rejected.
        .layer(StepLayer(route_request))
        // After the route, which determines whether and where credentials are expected.
        .layer(AuthenticateLayer)
        // The last that can reject before an upstream is contacted.
        .layer(StepLayer(authorize_request))
        .service(target)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
