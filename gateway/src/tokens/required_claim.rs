//! Claims that a route, or the tokens of another issuer, must have.

use serde_json::Value;

use crate::config::{ClaimScalar, RequiredClaim};
use crate::tokens::ClaimValue;

/// Whether a claim has one of the required values, or is a list that contains one. Values of different types
/// are never equal: `"1"` is not `1`.
pub(crate) fn satisfies(claim: ClaimValue<'_>, required: &RequiredClaim) -> bool {
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
