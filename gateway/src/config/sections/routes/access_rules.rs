//! What a route asks of whoever sends a request: `access`, `roles` and `claims`.

use figment::value::Value;

use crate::config::diagnostic::Diagnostic;
use crate::config::entry::{Entry, InvalidValue, quoted};
use crate::config::settings::{Access, ClaimScalar, RequiredClaim};
use crate::config::table::Table;

/// The three together.
pub(super) struct AccessRules {
    pub(super) access: Access,
    pub(super) roles: Vec<String>,
    pub(super) claims: Vec<RequiredClaim>,
}

pub(super) fn access_rules(table: &mut Table<'_>) -> AccessRules {
    let access_entry = table.take("access");
    let access = access_entry.choice(&[
        ("public", Access::Public),
        ("optional", Access::Optional),
        ("authenticated", Access::Authenticated),
    ]);
    let (roles_entry, claims_entry) = (table.take("roles"), table.take("claims"));
    for entry in [&roles_entry, &claims_entry] {
        if entry.is_given() && matches!(access, Some(Access::Public | Access::Optional)) {
            entry.report(
                Diagnostic::error(format!(
                    "`{}` needs access = \"authenticated\": a visitor without a token has none",
                    entry.name()
                ))
                .at(entry.key_place())
                .related("the access is here", access_entry.place())
                .help(format!("remove `{}`, or remove `access`", entry.name())),
            );
        }
    }
    let claims = if claims_entry.is_given() {
        claims_entry.table_like("claims = { department = \"it\", level = [2, 3] }", claims)
    } else {
        None
    };
    AccessRules {
        access: access.unwrap_or(Access::Authenticated),
        roles: roles_entry.list_of(role).unwrap_or_default(),
        claims: claims.unwrap_or_default(),
    }
}

fn role(text: &str) -> Result<String, InvalidValue> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(InvalidValue::new(format!("{} is not the name of a role", quoted(text))));
    }
    Ok(text.to_owned())
}

/// The table under `claims`: names, each with a value or with several of which one is enough.
fn claims(table: &mut Table<'_>) -> Vec<RequiredClaim> {
    let claim = |(claim, entry): (String, Entry<'_>)| {
        let values = match entry.value_or_number()? {
            Value::Array(..) => entry.list()?,
            _ => vec![entry.clone()],
        };
        if values.is_empty() {
            entry.refuse(
                InvalidValue::new("no value is named, so nobody could pass").help("name one at least"),
            );
        }
        let any_of = values.iter().map(scalar).collect::<Option<Vec<_>>>()?;
        Some(RequiredClaim { claim, any_of })
    };
    table.take_all().into_iter().filter_map(claim).collect()
}

fn scalar(entry: &Entry<'_>) -> Option<ClaimScalar> {
    let value = entry.value_or_number()?;
    let integer = |value: &Value| value.to_i128().and_then(|n| i64::try_from(n).ok());
    match &value {
        Value::String(_, text) => Some(ClaimScalar::Text(text.clone())),
        Value::Bool(_, boolean) => Some(ClaimScalar::Boolean(*boolean)),
        Value::Num(..) if integer(&value).is_some() => integer(&value).map(ClaimScalar::Integer),
        _ => {
            entry.refuse(
                InvalidValue::new("expected text, a whole number, true or false")
                    .help("a claim is compared with a value, or with each of a list of values"),
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::test_support::{complaints, minimal, settings};
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
    fn claims_that_nobody_could_have_are_refused() {
        for (keys, message, help) in [
            ("access = \"public\"\nclaims.a = 1", "`routes[1].claims` needs access", "remove `access`"),
            ("claims.a = []", "no value is named", "one at least"),
            ("claims.a = 1.5", "expected text, a whole number, true or false", ""),
            ("claims.a = [[1]]", "`routes[1].claims.a[0]`: expected text", ""),
            ("claims.a.b = 1", "`routes[1].claims.a`: expected text", ""),
            ("claims = [\"a\"]", "expected a table", "write it like claims = { department"),
        ] {
            complaints(with(keys)).only(message, help);
        }
    }
}
