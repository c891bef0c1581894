//! The layer for cross-origin requests: header fields by the policy of the route ([`crate::routing::cors`]).

use http::HeaderMap;

use crate::layers::decorate::{Decorate, DecorateLayer};
use crate::request::RequestContext;

/// Adds CORS fields for allowed origins.
pub(crate) type CorsLayer = DecorateLayer<CrossOrigin>;

/// See [`CorsLayer`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CrossOrigin;

impl Decorate for CrossOrigin {
    fn decorate(&self, context: &RequestContext, headers: &mut HeaderMap) {
        let cors = context.state.config.cors.of(context.record.route.get());
        cors.decorate(&context.head, context.record.rejection.borrow().is_some(), headers);
    }
}
