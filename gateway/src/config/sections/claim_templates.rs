//! `[tokens.claims]`: claims of access tokens that the configuration sets, from fixed values and from the user.

use figment::value::Value as ConfigValue;
use serde_json::{Map, Value};

use super::prelude::*;
use super::routes::template::parts;

/// Claims that the gateway itself sets.
pub(crate) const RESERVED_CLAIMS: [&str; 12] =
    ["iss", "aud", "sub", "iat", "nbf", "exp", "jti", "sid", "session_exp", "type", "username", "roles"];

/// Further claims that it may come to set, or that mean something to it.
const FURTHER_RESERVED: [&str; 5] = ["fresh", "csrf", "cnf", "cookie_session", "client_id"];

const PLACEHOLDERS: [&str; 4] = ["{user.id}", "{user.name}", "{user.roles}", "{user.claims.NAME}"];

/// The claims of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClaimTemplates(Vec<(String, Template)>);

/// What claims are made of.
#[derive(Debug, Clone, Copy)]
pub struct ClaimSubject<'u> {
    /// The user's id.
    pub id: &'u str,
    /// The user's name.
    pub name: &'u str,
    /// The roles that the token has.
    pub roles: &'u [String],
    /// The claims of the user's source.
    pub claims: &'u Map<String, Value>,
}

/// The value of a claim, with placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Template {
    Fixed(Value),
    /// A placeholder alone: the value keeps its type.
    Placeholder(Placeholder),
    /// Text with placeholders.
    Text(Vec<Part>),
    List(Vec<Template>),
    Object(Vec<(String, Template)>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Placeholder(Placeholder),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Placeholder {
    Id,
    Name,
    Roles,
    Claim(String),
}

impl ClaimTemplates {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The further claims of a user: those of the source, and those of the configuration in their place. What needs a claim that
    /// the user does not have is left out.
    pub fn apply(&self, user: ClaimSubject<'_>) -> Map<String, Value> {
        let mut claims = user.claims.clone();
        for (name, template) in &self.0 {
            match template.value(user) {
                Some(value) => claims.insert(name.clone(), value),
                None => claims.remove(name),
            };
        }
        claims
    }
}

impl Template {
    fn value(&self, user: ClaimSubject<'_>) -> Option<Value> {
        Some(match self {
            Template::Fixed(value) => value.clone(),
            Template::Placeholder(placeholder) => placeholder.value(user)?,
            Template::Text(parts) => {
                let mut text = String::new();
                for part in parts {
                    match part {
                        Part::Literal(literal) => text.push_str(literal),
                        Part::Placeholder(placeholder) => text.push_str(&placeholder.text(user)?),
                    }
                }
                text.into()
            }
            Template::List(elements) => elements.iter().filter_map(|element| element.value(user)).collect(),
            Template::Object(members) => {
                let values = members.iter();
                values.filter_map(|(name, member)| Some((name.clone(), member.value(user)?))).collect()
            }
        })
    }
}

impl Placeholder {
    fn parse(name: &str) -> Option<Placeholder> {
        Some(match name {
            "user.id" => Placeholder::Id,
            "user.name" => Placeholder::Name,
            "user.roles" => Placeholder::Roles,
            _ => Placeholder::Claim(
                name.strip_prefix("user.claims.").filter(|claim| !claim.is_empty())?.to_owned(),
            ),
        })
    }

    fn value(&self, user: ClaimSubject<'_>) -> Option<Value> {
        match self {
            Placeholder::Id => Some(user.id.into()),
            Placeholder::Name => Some(user.name.into()),
            Placeholder::Roles => Some(user.roles.into()),
            Placeholder::Claim(claim) => user.claims.get(claim).cloned(),
        }
    }

    /// Lists are joined with commas.
    fn text(&self, user: ClaimSubject<'_>) -> Option<String> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Some(match self.value(user)? {
            Value::Array(elements) => elements.iter().map(text).collect::<Vec<_>>().join(","),
            value => text(&value),
        })
    }
}

/// The table `claims`.
pub(super) fn claims() -> Key<ClaimTemplates> {
    Key::new(Shape::Map(Box::new(Shape::Json)), |entry| {
        let table = match entry.is_given() {
            true => entry.table_like("claims = { tenant = \"acme\" }"),
            false => None,
        };
        let entries = table.map(|table| table.entries()).unwrap_or_default();
        ClaimTemplates(entries.iter().filter_map(|(name, entry)| claim(name, entry)).collect())
    })
    .example("{ tenant = \"acme\", department = \"{user.claims.department}\", hasura = { roles = \"{user.roles}\" } }")
}

fn claim(name: &str, entry: &Entry<'_>) -> Option<(String, Template)> {
    if RESERVED_CLAIMS.contains(&name) || FURTHER_RESERVED.contains(&name) {
        entry.error(
            format!("the gateway itself sets the claim {}", quoted(name)),
            "choose another name; roles and names of users are changed where the users are kept",
        );
        return None;
    }
    match template(&entry.value_or_number()?) {
        Ok(template) => Some((name.to_owned(), template)),
        Err(invalid) => {
            entry.refuse(invalid);
            None
        }
    }
}

fn template(value: &ConfigValue) -> Result<Template, InvalidValue> {
    match value {
        ConfigValue::String(_, text) => text_template(text),
        ConfigValue::Array(_, elements) => {
            elements.iter().map(template).collect::<Result<_, _>>().map(Template::List)
        }
        ConfigValue::Dict(_, members) => {
            let member = |(name, value): (&String, &ConfigValue)| Ok((name.clone(), template(value)?));
            members.iter().map(member).collect::<Result<_, _>>().map(Template::Object)
        }
        scalar => serde_json::to_value(scalar).map(Template::Fixed).map_err(|_| {
            InvalidValue::new("is no value that JSON has").help("write text, a number, true or false")
        }),
    }
}

fn text_template(text: &str) -> Result<Template, InvalidValue> {
    let placeholder = |name: &str| Placeholder::parse(name).map(Part::Placeholder);
    let mut parts = parts(text, &PLACEHOLDERS, Part::Literal, placeholder)?;
    Ok(match (parts.pop(), parts.is_empty()) {
        (None, _) => Template::Fixed("".into()),
        (Some(Part::Literal(literal)), true) => Template::Fixed(literal.into()),
        (Some(Part::Placeholder(only)), true) => Template::Placeholder(only),
        (Some(last), false) => {
            parts.push(last);
            Template::Text(parts)
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::test_support::{load_diagnostics, minimal, settings};
    use super::*;
    use serde_json::json;

    fn applied(keys: &str) -> Value {
        let claims = settings(minimal() + "[tokens.claims]\n" + keys).tokens.claims;
        let own = json!({"department": "it", "level": 3, "groups": ["a", "b"], "tenant": "own"});
        let roles = ["user".to_owned(), "admin".to_owned()];
        let user = ClaimSubject { id: "7", name: "alice", roles: &roles, claims: own.as_object().unwrap() };
        let mut all = claims.apply(user);
        for name in ["department", "level", "groups"] {
            all.remove(name);
        }
        Value::Object(all)
    }

    #[test]
    fn claims_are_fixed_or_of_the_user_at_any_depth_and_keep_their_types() {
        for (keys, claims) in [
            ("", json!({"tenant": "own"})),
            ("tenant = \"acme\"", json!({"tenant": "acme"})),
            (
                "a = 1\nb = true\nc = 1.5\nd = []",
                json!({"tenant": "own", "a": 1, "b": true, "c": 1.5, "d": []}),
            ),
            ("tenant = \"{user.roles}\"", json!({"tenant": ["user", "admin"]})),
            ("tenant = \"{user.claims.level}\"", json!({"tenant": 3})),
            (
                "tenant = \"{user.id}/{user.name}: {user.roles} {user.claims.level} {user.claims.groups}\"",
                json!({"tenant": "7/alice: user,admin 3 a,b"}),
            ),
            ("tenant = \"{{user.id}}\"", json!({"tenant": "{user.id}"})),
            ("tenant = \"{user.claims.none}\"", json!({})),
            ("tenant = \"x{user.claims.none}\"", json!({})),
            ("tenant = [\"{user.claims.none}\", \"{user.id}\"]", json!({"tenant": ["7"]})),
            (
                "tenant = { user = \"{user.id}\", gone = \"{user.claims.none}\", deep = { roles = \"{user.roles}\" } }",
                json!({"tenant": {"user": "7", "deep": {"roles": ["user", "admin"]}}}),
            ),
            (
                "[tokens.claims.\"https://x.example/claims\"]\nrole = \"{user.name}\"",
                json!({"tenant": "own", "https://x.example/claims": {"role": "alice"}}),
            ),
        ] {
            assert_eq!(applied(keys), claims, "{keys}");
        }
    }

    #[test]
    fn claims_of_the_gateway_and_unknown_placeholders_are_refused() {
        let load = |keys: &str| load_diagnostics(minimal() + "[tokens.claims]\n" + keys);
        for name in RESERVED_CLAIMS.into_iter().chain(FURTHER_RESERVED) {
            load(&format!("{name} = \"x\"")).only("the gateway itself sets the claim", "another name");
        }
        for value in ["{user}", "{user.password}", "{user.claims.}", "{id}"] {
            load(&format!("a = {{ b = [\"{value}\"] }}")).only("unknown placeholder", "{user.");
        }
        for value in ["{", "a}", "{user.id", "{{user.id}"] {
            load(&format!("a = \"{value}\"")).only("a brace stands alone", "{{");
        }
        load_diagnostics(minimal() + "[tokens]\nclaims = \"x\"").only("expected a table", "claims = {");
    }
}
