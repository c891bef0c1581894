//! Authorization: whether an identity may use a route, by its access, roles and claims.

use serde_json::Value;

use crate::auth::identity::Identity;
use crate::auth::required_claim::satisfies;
use crate::config::Access;
use crate::layers::authenticate::missing;
use crate::layers::route::Route;
use crate::rejection::Rejection;
use crate::request::{Authenticated, Authorized};
use crate::tokens::ClaimValue;

/// The step from [`Authenticated`] to [`Authorized`].
pub(crate) fn authorize_request(request: Authenticated) -> Result<Authorized, Rejection> {
    let (context, route) = (request.routed().context(), request.routed().route());
    match request.identity() {
        Some(identity) => authorize(route, identity)?,
        None if route.access == Access::Authenticated && !context.is_passed_preflight() => {
            return Err(missing(&context.worker));
        }
        None => {}
    }
    Ok(Authorized::new(request))
}

/// Whether an identity may be used on a route, and has one of its roles and all claims that it requires.
///
/// # Errors
///
/// It is limited to other routes, or a role or a claim is missing.
pub(crate) fn authorize(route: &Route, identity: &Identity) -> Result<(), Rejection> {
    if !identity.is_for_route(route.path()) {
        return Err(Rejection::TokenNotForRoute);
    }
    if !route.roles.is_empty() && !identity.has_one_of(&route.roles) {
        return Err(Rejection::RoleMissing);
    }
    if route.audience.as_ref().is_some_and(|audience| !has_audience(identity, audience)) {
        return Err(Rejection::AudienceMissing);
    }
    for required in &route.claims {
        if !identity.claims().get(&required.claim).is_some_and(|claim| satisfies(claim, required)) {
            return Err(match required.claim.as_str() {
                "fresh" => Rejection::FreshTokenMissing,
                _ => Rejection::ClaimMissing,
            });
        }
    }
    Ok(())
}

fn has_audience(identity: &Identity, audience: &str) -> bool {
    match identity.claims().get("aud") {
        Some(ClaimValue::Text(one)) => one == audience,
        Some(ClaimValue::Json(Value::Array(several))) => several.iter().any(|one| one == audience),
        _ => false,
    }
}
