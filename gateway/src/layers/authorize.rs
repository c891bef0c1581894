//! Authorization: whether an identity may use a route, by its access, roles and claims.

use serde_json::Value;

use crate::auth::identity::Identity;
use crate::config::{Access, ClaimScalar, RequiredClaim};
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

/// Whether a claim has one of the required values, or is a list that contains one. Values of different types
/// are never equal: `"1"` is not `1`.
fn satisfies(claim: ClaimValue<'_>, required: &RequiredClaim) -> bool {
    required.any_of.iter().any(|wanted| match (claim, wanted) {
        (ClaimValue::Text(text), ClaimScalar::Text(wanted)) => text == wanted,
        (ClaimValue::Texts(texts), ClaimScalar::Text(wanted)) => texts.contains(wanted),
        (ClaimValue::Number(number), ClaimScalar::Integer(wanted)) => i64::try_from(number) == Ok(*wanted),
        (ClaimValue::Json(Value::Array(elements)), wanted) => elements.iter().any(|e| equals(e, wanted)),
        (ClaimValue::Json(value), wanted) => equals(value, wanted),
        _ => false,
    })
}

fn equals(value: &Value, wanted: &ClaimScalar) -> bool {
    match (value, wanted) {
        (Value::String(text), ClaimScalar::Text(wanted)) => text == wanted,
        (Value::Number(number), ClaimScalar::Integer(wanted)) => number.as_i64() == Some(*wanted),
        (Value::Bool(boolean), ClaimScalar::Boolean(wanted)) => boolean == wanted,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_claim_is_one_of_the_values_or_has_one_of_them() {
        let required = RequiredClaim {
            claim: "x".into(),
            any_of: vec![ClaimScalar::Text("it".into()), ClaimScalar::Integer(3), ClaimScalar::Boolean(true)],
        };
        for (claim, passes) in [
            (json!("it"), true),
            (json!(3), true),
            (json!(true), true),
            (json!(["ops", "it"]), true),
            (json!([1, 3]), true),
            (json!("IT"), false),
            (json!("3"), false),
            (json!(3.0), false),
            (json!(4), false),
            (json!(false), false),
            (json!("true"), false),
            (json!(null), false),
            (json!([]), false),
            (json!([["it"]]), false),
            (json!({"it": true}), false),
        ] {
            assert_eq!(satisfies(ClaimValue::Json(&claim), &required), passes, "{claim}");
        }
        assert!(satisfies(ClaimValue::Text("it"), &required) && !satisfies(ClaimValue::Text("i"), &required));
        assert!(satisfies(ClaimValue::Texts(&["a".into(), "it".into()]), &required));
        assert!(satisfies(ClaimValue::Number(3), &required) && !satisfies(ClaimValue::Number(4), &required));
    }
}
