//! Authorization: whether an identity may use a route, by its access, roles and claims.

use serde_json::Value;

use crate::auth::authenticate::missing;
use crate::config::Access;
use crate::identity::Identity;
use crate::rejection::{Rejection, StepUp};
use crate::request::{Authenticated, Authorized};
use crate::routing::Route;
use crate::tokens::satisfies;
use crate::tokens::{ClaimValue, UnixSeconds};

/// The step from [`Authenticated`] to [`Authorized`].
pub(crate) fn authorize_request(request: Authenticated) -> Result<Authorized, Rejection> {
    let (context, route) = (request.routed().context(), request.routed().route());
    match request.identity() {
        Some(identity) => {
            authorize(route, identity)?;
            let required = &context.state.config.settings.mfa.required_roles;
            check_authentication(route, required, identity, context.now())?;
        }
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

/// Whether the user proved the identity as recently and by as much as the route, or a role, requires.
///
/// # Errors
///
/// What is missing (RFC 9470).
fn check_authentication(
    route: &Route,
    required_roles: &[String],
    identity: &Identity,
    now: UnixSeconds,
) -> Result<(), Rejection> {
    let needs_factor = route.mfa || (!required_roles.is_empty() && identity.has_one_of(required_roles));
    if route.fresh_within.is_none() && !needs_factor {
        return Ok(());
    }
    let claim = |name: &str| match identity.claims().get(name) {
        Some(ClaimValue::Json(value)) => Some(value),
        _ => None,
    };
    let has_factor = claim("amr")
        .and_then(Value::as_array)
        .is_some_and(|methods| methods.iter().any(|method| method == "mfa"));
    let at = claim("auth_time").and_then(Value::as_u64).map(UnixSeconds::new).unwrap_or_default();
    let is_fresh = route.fresh_within.is_none_or(|within| now.since(at) <= within);
    match (!needs_factor || has_factor) && is_fresh {
        true => Ok(()),
        false => {
            let step_up = StepUp { max_age: route.fresh_within, second_factor: needs_factor };
            Err(Rejection::StepUpRequired(step_up))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::test_support::settings;
    use crate::identity::test_support::{NOW, identity};
    use crate::routing::Routes;
    use serde_json::json;

    #[test]
    fn an_identity_needs_one_of_the_roles_and_all_of_the_claims() {
        let rules = [
            "",
            "roles = [\"admin\", \"ops\"]",
            "claims = { department = \"it\" }",
            "claims = { department = \"it\", level = [2, 3] }",
            "roles = [\"admin\"]\nclaims = { level = 2 }",
            "claims = { fresh = true }",
        ];
        let mut text =
            "[users]\nfile = \"Cargo.toml\"\n[upstreams.a]\nurls = [\"http://127.0.0.1:9\"]\n".to_owned();
        for (place, rule) in rules.iter().enumerate() {
            text += &format!("[[routes]]\npath = \"/{place}\"\nupstream = \"a\"\n{rule}\n");
        }
        let settings = settings(text);
        let no_folder = |_: &std::path::Path, _: Option<&str>| Err(std::io::Error::other("no folder"));
        let routes =
            Routes::new(&settings.routes, 1, |_| Some((0, &settings.upstreams["a"])), no_folder).unwrap();
        let (role, claim) = (Err(Rejection::RoleMissing), Err(Rejection::ClaimMissing));
        for (place, roles, claims, verdict) in [
            (0, &[][..], json!({}), Ok(())),
            (1, &["admin"], json!({}), Ok(())),
            (1, &["user", "ops"], json!({}), Ok(())),
            (1, &["Admin", "user"], json!({}), role.clone()),
            (1, &[], json!({}), role.clone()),
            (2, &[], json!({ "department": "it" }), Ok(())),
            (2, &[], json!({ "department": ["ops", "it"] }), Ok(())),
            (2, &[], json!({ "department": "ops" }), claim.clone()),
            (2, &["it"], json!({}), claim.clone()),
            (3, &[], json!({ "department": "it", "level": 3 }), Ok(())),
            (3, &[], json!({ "department": "it" }), claim.clone()),
            (3, &[], json!({ "department": "it", "level": "3" }), claim.clone()),
            (4, &["admin"], json!({ "level": 2 }), Ok(())),
            (4, &["user"], json!({ "level": 2 }), role.clone()),
            (4, &["admin"], json!({ "level": 1 }), claim),
            (5, &[], json!({}), Err(Rejection::FreshTokenMissing)),
        ] {
            let identity = identity(roles, claims.clone(), NOW + 60, NOW + 600);
            assert_eq!(
                authorize(routes.at(place), &identity),
                verdict,
                "{}: {roles:?} {claims}",
                rules[place]
            );
        }
    }
}
