//! Whom claims stand for.

#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::super::test_support::{NOW, claims, issuer};
use super::*;

const JWT: Origin<'static> = Origin::Jwt("JWT");

fn accepted(keys: &str, claims: &Value) -> Result<VerifiedClaims, TokenError> {
    accept(&issuer(keys), claims.as_object().unwrap(), JWT, UnixSeconds::new(NOW))
        .map(|accepted| accepted.claims)
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
        value => claims[name] = value,
    }
    claims
}

#[test]
fn users_of_another_issuer_are_never_local_ones() {
    // No name of a local user contains a colon.
    for (keys, claims, subject, username) in [
        ("", claims(), "kc:f3a1", "kc:alice"),
        ("", with("preferred_username", json!(null)), "kc:f3a1", "kc:f3a1"),
        ("username_claim = \"email\"", claims(), "kc:f3a1", "kc:alice@example.org"),
        ("subject_claim = \"preferred_username\"", claims(), "kc:alice", "kc:alice"),
        ("", with("sub", json!("1")), "kc:1", "kc:alice"),
        ("", with("sub", json!(1)), "kc:1", "kc:alice"),
        ("", with("sub", json!("other:1")), "kc:other:1", "kc:alice"),
        (
            "",
            with("sub", json!("repo:octo/repo:ref:refs/heads/main")),
            "kc:repo:octo/repo:ref:refs/heads/main",
            "kc:alice",
        ),
        ("username_claim = \"a.b\"", with("a", json!({"b": "x"})), "kc:f3a1", "kc:x"),
    ] {
        let accepted = accepted(keys, &claims).unwrap();
        assert_eq!((accepted.subject(), accepted.username()), (subject, username), "{keys}");
        assert!(crate::users::CanonicalName::parse(accepted.username()).is_none());
        // The provider's session is not one here.
        assert!(accepted.sid().is_empty() && accepted.get("sid").is_none());
    }
    for claims in [
        with("sub", json!(null)),
        with("sub", json!("")),
        with("sub", json!({"id": 1})),
        with("sub", json!("x".repeat(256))),
        with("sub", json!("a\r\nX-Auth-Roles: admin")),
        with("preferred_username", json!("\u{0}")),
        with("preferred_username", json!(["alice"])),
    ] {
        assert!(matches!(accepted("", &claims), Err(TokenError::Invalid(_))), "{claims}");
    }
    assert!(accepted("username_claim = \"missing\"", &claims()).is_err());
}

#[test]
fn roles_are_found_at_any_depth_and_mapped() {
    let map = "role_map = { gateway-admin = \"admin\", user = \"user\", other = \"x\" }";
    for (keys, claims, roles) in [
        (String::new(), with("roles", json!(["admin"])), vec![]),
        ("roles_claim = \"realm_access.roles\"".to_owned(), claims(), vec!["user", "gateway-admin"]),
        (format!("roles_claim = \"realm_access.roles\"\n{map}"), claims(), vec!["user", "admin"]),
        (
            format!("roles_claim = \"realm_access.roles\"\n{map}"),
            with("realm_access", json!({"roles": ["nobody"]})),
            vec![],
        ),
        ("roles_claim = \"scope\"".to_owned(), claims(), vec!["openid", "email"]),
        ("roles_claim = \"role\"".to_owned(), with("role", json!("one role")), vec!["one role"]),
        (
            "roles_claim = \"https://app.example/roles\"".to_owned(),
            with("https://app.example/roles", json!(["a", "a", "", "b\n"])),
            vec!["a"],
        ),
        (
            "roles_claim = \"resource_access.my.app.roles\"".to_owned(),
            with("resource_access", json!({"my.app": {"roles": ["x"]}, "my": "other"})),
            vec!["x"],
        ),
        ("roles_claim = \"realm_access\"".to_owned(), claims(), vec![]),
        ("roles_claim = \"missing.roles\"".to_owned(), claims(), vec![]),
    ] {
        assert_eq!(accepted(&keys, &claims).unwrap().roles(), roles, "{keys}");
    }
}

#[test]
fn claims_are_seen_under_the_names_of_the_configuration_and_no_others() {
    let claims = with("tenant", json!("acme"));
    let accepted = accepted(
        "claims = { mail = \"email\", first_role = \"realm_access.roles\", none = \"missing\" }",
        &claims,
    )
    .unwrap();
    assert_eq!(accepted.get("mail"), Some(ClaimValue::Json(&json!("alice@example.org"))));
    assert_eq!(accepted.get("first_role"), Some(ClaimValue::Json(&claims["realm_access"]["roles"])));
    for hidden in ["email", "tenant", "none", "scope", "azp", "typ"] {
        assert_eq!(accepted.get(hidden), None, "{hidden}");
    }
    assert_eq!(accepted.get("aud"), Some(ClaimValue::Json(&json!(["account", "api"]))));
    assert_eq!(accepted.get("iss"), Some(ClaimValue::Text(super::super::test_support::ISSUER)));
    // A stream ends with the token, whatever the token says of sessions.
    let forged = with("session_exp", json!(NOW * 2));
    assert_eq!(
        super::accept(&issuer(""), forged.as_object().unwrap(), JWT, UnixSeconds::new(NOW))
            .unwrap()
            .claims
            .session_expires_at(),
        Some(UnixSeconds::new(NOW + 330))
    );
}

#[test]
fn a_token_is_for_this_gateway_and_from_this_issuer() {
    for (keys, claims, ok) in [
        ("", claims(), true),
        ("", with("aud", json!("api")), true),
        ("", with("aud", json!("API")), false),
        ("", with("aud", json!("account")), false),
        ("", with("aud", json!(["account"])), false),
        ("", with("aud", json!([])), false),
        ("", with("aud", json!(["api", 7])), false),
        ("", with("aud", json!({"api": true})), false),
        ("", with("aud", json!(null)), false),
        ("audiences = [\"x\", \"api\"]", claims(), true),
        ("audiences = []\nrequired_claims = { azp = \"web\" }", with("aud", json!(null)), true),
        ("", with("iss", json!("https://login.example/realms/a/")), false),
        ("", with("iss", json!("https://login.example/realms/A")), false),
        ("", with("iss", json!(["https://login.example/realms/a"])), false),
        ("", with("iss", json!(null)), false),
        ("required_claims = { azp = [\"cli\", \"web\"] }", claims(), true),
        ("required_claims = { azp = \"cli\" }", claims(), false),
        ("required_claims = { azp = \"web\" }", with("azp", json!(null)), false),
        ("required_claims = { \"realm_access.roles\" = \"user\" }", claims(), true),
        // Bound to a key (RFC 8705, RFC 9449).
        ("", with("cnf", json!({"jkt": "x"})), false),
        ("", with("cnf", json!({"x5t#S256": "x"})), false),
    ] {
        assert_eq!(accepted(keys, &claims).is_ok(), ok, "{keys} {claims}");
    }
}

#[test]
fn a_token_of_another_kind_is_refused() {
    let id_token = with("typ", json!("ID"));
    let unmarked = with("typ", json!(null));
    let plus = |claims: &Value, name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        claims
    };
    let logout = plus(&unmarked, "events", json!({"http://schemas.openid.net/event/backchannel-logout": {}}));
    for (claims, typ, as_access, as_id) in [
        (&claims(), "JWT", true, false),
        (&unmarked, "JWT", true, true),
        (&unmarked, "at+jwt", true, false),
        (&id_token, "JWT", false, true),
        (&id_token, "at+jwt", false, false),
        (&with("typ", json!("Refresh")), "JWT", false, false),
        (&with("typ", json!("Offline")), "JWT", false, false),
        (&with("typ", json!("Logout")), "JWT", false, false),
        (&logout, "JWT", false, false),
        (&plus(&unmarked, "nonce", json!("n")), "JWT", false, true),
        (&plus(&unmarked, "at_hash", json!("n")), "JWT", false, true),
        (&plus(&unmarked, "c_hash", json!("n")), "JWT", false, true),
        // Older versions of Keycloak put it into access tokens too, which say what they are.
        (&plus(&claims(), "nonce", json!("n")), "JWT", true, false),
        (&plus(&unmarked, "token_use", json!("id")), "JWT", false, true),
        (&plus(&unmarked, "token_use", json!("access")), "JWT", true, false),
    ] {
        for (keys, ok) in [("", as_access), ("token_use = \"id\"", as_id)] {
            let accepted =
                accept(&issuer(keys), claims.as_object().unwrap(), Origin::Jwt(typ), UnixSeconds::new(NOW));
            assert_eq!(accepted.is_ok(), ok, "{keys} {typ} {claims}");
        }
    }
}
