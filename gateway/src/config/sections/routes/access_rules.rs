//! Access rules of a route: `access`, `roles` and `claims`.

use figment::value::Value;

use super::super::prelude::*;

/// Reports roles and claims on a route that does not require a token, and Basic where nothing is.
pub(super) fn check(table: &Table<'_>, route: &Route) {
    let access = table.entry("access");
    if route.basic && route.access == Access::Public {
        let basic = table.entry("basic");
        basic.report(
            Diagnostic::error(format!(
                "`{}` has no meaning on a public route: no user logs in there",
                basic.name()
            ))
            .at(basic.key_place())
            .related("the access is here", access.place())
            .help(format!("remove `{}`, or remove `access`", basic.name())),
        );
    }
    for entry in ["roles", "claims", "audience", "mfa", "fresh_within"].map(|key| table.entry(key)) {
        if entry.is_given() && access.is_given() && route.access != Access::Authenticated {
            entry.report(
                Diagnostic::error(format!(
                    "`{}` needs access = \"authenticated\": a visitor without a token has none",
                    entry.name()
                ))
                .at(entry.key_place())
                .related("the access is here", access.place())
                .help(format!("remove `{}`, or remove `access`", entry.name())),
            );
        }
    }
}

pub(in crate::config) fn role(text: &str) -> Result<String, InvalidValue> {
    accept(
        text,
        !(text.is_empty() || text.chars().any(char::is_control)),
        "is not the name of a role",
        "write it as the users have it, such as \"admin\"",
    )
}

/// The table under `claims`: names, each with one value or several alternatives.
pub(in crate::config) fn claims() -> Key<Option<Vec<RequiredClaim>>> {
    Key::new(Shape::Map(Box::new(Shape::Any)), |entry| {
        if !entry.is_given() {
            return None;
        }
        let table = entry.table_like("claims = { department = \"it\", level = [2, 3] }")?;
        Some(table.entries().into_iter().filter_map(|(claim, entry)| required(claim, &entry)).collect())
    })
}

fn required(claim: String, entry: &Entry<'_>) -> Option<RequiredClaim> {
    let values = match entry.value_or_number()? {
        Value::Array(..) => entry.list()?,
        _ => vec![entry.clone()],
    };
    if values.is_empty() {
        entry.error("no value is named, so no token could match", "name one at least");
    }
    let any_of = values.iter().map(scalar).collect::<Option<Vec<_>>>()?;
    Some(RequiredClaim { claim, any_of })
}

fn scalar(entry: &Entry<'_>) -> Option<ClaimScalar> {
    let value = entry.value_or_number()?;
    let integer = |value: &Value| value.to_i128().and_then(|n| i64::try_from(n).ok());
    match &value {
        Value::String(_, text) => Some(ClaimScalar::Text(text.clone())),
        Value::Bool(_, boolean) => Some(ClaimScalar::Boolean(*boolean)),
        Value::Num(..) if integer(&value).is_some() => integer(&value).map(ClaimScalar::Integer),
        _ => {
            entry.error(
                "expected text, a whole number, true or false",
                "a claim is compared with a value, or with each of a list of values",
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::test_support::{load_diagnostics, minimal, settings};
    use super::*;

    fn with(keys: &str) -> String {
        minimal() + "[[routes]]\npath = \"/x\"\nupstream = \"demo\"\n" + keys
    }

    #[test]
    fn claims_are_values_or_lists_of_them() {
        let keys = "claims = { department = \"it\", level = [1, \"two\"], staff = true }";
        let claims = settings(with(keys)).routes.remove(1).claims;
        let shown: Vec<String> = claims.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["department=it", "level=1|two", "staff=true"]);
        assert_eq!(claims[1].any_of[0], ClaimScalar::Integer(1));
    }

    #[test]
    fn impossible_claims_are_refused() {
        for (keys, message, help) in [
            ("access = \"public\"\nclaims.a = 1", "`routes[1].claims` needs access", "remove `access`"),
            (
                "access = \"public\"\nbasic = true",
                "`routes[1].basic` has no meaning on a public",
                "remove `access`",
            ),
            ("claims.a = []", "no value is named", "one at least"),
            ("claims.a = 1.5", "expected text, a whole number, true or false", ""),
            ("claims.a = [[1]]", "`routes[1].claims.a[0]`: expected text", ""),
            ("claims.a.b = 1", "`routes[1].claims.a`: expected text", ""),
            ("claims = [\"a\"]", "expected a table", "write it like claims = { department"),
        ] {
            load_diagnostics(with(keys)).only(message, help);
        }
    }
}
