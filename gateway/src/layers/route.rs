//! The routing step.

use crate::rejection::Rejection;
use crate::request::{Admitted, Routed};
use crate::routing::cors::requested_method;

/// The step from [`Admitted`] to [`Routed`].
pub(crate) fn route_request(admitted: Admitted) -> Result<Routed, Rejection> {
    let context = admitted.context();
    let (routes, view) = (&context.state.config.routes, admitted.view());
    if let Some(trace) = &context.worker.trace {
        trace.routes.replace(routes.explain(view));
    }
    let asked_for = context.is_passed_preflight().then(|| requested_method(view.head())).flatten();
    let route = match asked_for.and_then(|method| routes.select_for_preflight(view, &method)) {
        Some((route, _)) => route.index,
        None => routes.select_noting(view, &context.record.route)?.index,
    };
    context.record.route.set(Some(route));
    Ok(Routed::new(admitted, route))
}
