//! RFC 8725's list, and what tokens of real issuers are like.

#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::super::test_support::{ISSUER, NOW, TestKey, claims, issuer, jwks};
use super::*;

fn verify(token: &str, issuer: &IssuerSettings, keys: &KeySet) -> Result<Accepted, JwtError> {
    Jws::parse(token).ok_or(JwtError::Token(TokenError::Invalid("no JWT")))?.verify(
        issuer,
        Some(keys),
        UnixSeconds::new(NOW),
    )
}

fn set(keys: &[Value], issuer: &IssuerSettings) -> KeySet {
    KeySet::parse(&jwks(keys), &issuer.algorithms).unwrap().0
}

/// A value with one member changed; `null` removes it.
fn with(value: &Value, name: &str, member: Value) -> Value {
    let mut value = value.clone();
    match member {
        Value::Null => drop(value.as_object_mut().unwrap().remove(name)),
        member => value[name] = member,
    }
    value
}

#[test]
fn a_token_of_each_algorithm_is_accepted_and_only_by_its_own_key() {
    let issuer = issuer("");
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    for algorithm in [RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA] {
        let (key, other) = (TestKey::generate(algorithm, "a"), TestKey::generate(algorithm, "a"));
        let token = key.token(&key.header(), &claims());
        let accepted = verify(&token, &issuer, &set(&[key.jwk()], &issuer)).unwrap();
        assert_eq!((accepted.claims.subject(), accepted.claims.username()), ("kc:f3a1", "kc:alice"));
        assert_eq!(accepted.valid_until, UnixSeconds::new(NOW + 330));
        let forged = verify(&token, &issuer, &set(&[other.jwk()], &issuer));
        assert_eq!(forged, Err(JwtError::Token(TokenError::Invalid("the signature does not match"))));
        // Of two keys with one id, the right one is found.
        assert!(verify(&token, &issuer, &set(&[other.jwk(), key.jwk()], &issuer)).is_ok());
    }
}

#[test]
fn what_the_header_says_cannot_choose_how_it_is_verified() {
    let issuer = issuer("");
    let key = TestKey::generate(Algorithm::ES256, "a");
    let keys = set(&[key.jwk()], &issuer);
    let header = key.header();
    for (name, value, ok) in [
        ("typ", json!("at+jwt"), true),
        ("typ", json!("application/AT+JWT"), true),
        ("typ", json!("JWT"), true),
        ("typ", json!(null), true),
        // Cross-JWT confusion: other kinds of JWTs that the issuer signs with the same key.
        ("typ", json!("logout+jwt"), false),
        ("typ", json!("secevent+jwt"), false),
        ("typ", json!("dpop+jwt"), false),
        ("typ", json!("rt+jwt"), false),
        ("typ", json!("oauth-authz-req+jwt"), false),
        ("typ", json!("text/at+jwt"), false),
        ("typ", json!(""), false),
        ("typ", json!(["at+jwt"]), false),
        ("kid", json!(7), false),
        ("kid", json!(""), false),
        ("alg", json!("none"), false),
        ("alg", json!("None"), false),
        ("alg", json!("nOnE"), false),
        ("alg", json!(""), false),
        ("alg", json!(null), false),
        ("alg", json!("es256"), false),
        ("alg", json!("ES384"), false),
        ("alg", json!("HS256"), false),
        ("alg", json!("RSA-OAEP"), false),
        ("alg", json!(["ES256"]), false),
        ("crit", json!(["exp"]), false),
        ("crit", json!([]), false),
        ("b64", json!(false), false),
        ("zip", json!("DEF"), false),
        ("cty", json!("JWT"), false),
        ("enc", json!("A256GCM"), false),
        // Keys that the token brings, and addresses of them.
        ("jku", json!("https://evil.example/jwks"), true),
        ("x5u", json!("https://evil.example/cert"), true),
        ("jwk", TestKey::generate(Algorithm::ES256, "a").jwk(), true),
        ("x5c", json!(["AAAA"]), true),
    ] {
        let token = key.token(&with(&header, name, value.clone()), &claims());
        assert_eq!(verify(&token, &issuer, &keys).is_ok(), ok, "{name}: {value}");
    }
    // A key in the header does not verify, whatever it is called.
    let evil = TestKey::generate(Algorithm::ES256, "a");
    let header = with(&with(&evil.header(), "jwk", evil.jwk()), "jku", json!("https://evil.example/jwks"));
    assert!(verify(&evil.token(&header, &claims()), &issuer, &keys).is_err());
}

#[test]
fn a_kid_is_a_name_and_nothing_else() {
    let issuer = issuer("");
    let key = TestKey::generate(Algorithm::EdDSA, "a");
    let keys = set(&[key.jwk()], &issuer);
    for kid in [
        "../../../../dev/null",
        "/etc/passwd",
        "a' UNION SELECT 'x",
        "b",
        "A",
        "a\u{0}",
        "http://evil.example/k",
        "a ",
    ] {
        let token = key.token(&with(&key.header(), "kid", json!(kid)), &claims());
        assert_eq!(verify(&token, &issuer, &keys), Err(JwtError::UnknownKey), "{kid:?}");
    }
    // Without one, the few keys that fit are tried.
    let bare = with(&key.header(), "kid", json!(null));
    assert!(verify(&key.token(&bare, &claims()), &issuer, &keys).is_ok());
    let many: Vec<Value> = (0..5)
        .map(|n| TestKey::generate(Algorithm::EdDSA, &format!("k{n}")).jwk())
        .chain([key.jwk()])
        .collect();
    assert!(verify(&key.token(&bare, &claims()), &issuer, &set(&many, &issuer)).is_err());
    assert!(verify(&key.token(&key.header(), &claims()), &issuer, &set(&many, &issuer)).is_ok());
}

#[test]
fn a_public_key_is_never_a_secret() {
    let issuer = issuer("");
    let key = TestKey::generate(Algorithm::RS256, "a");
    let (jwk, keys) = (key.jwk(), set(&[key.jwk()], &issuer));
    let texts = [jwk["n"].as_str().unwrap().to_owned(), jwk.to_string(), String::new(), "secret".to_owned()];
    for secret in texts {
        let forger = TestKey::of_secret(secret.as_bytes());
        let header = json!({"alg": "HS256", "kid": "a", "typ": "at+jwt"});
        assert!(matches!(verify(&forger.token(&header, &claims()), &issuer, &keys), Err(JwtError::Token(_))));
        // The signature of a MAC under the name of the key's own algorithm.
        assert!(verify(&forger.token(&key.header(), &claims()), &issuer, &keys).is_err());
    }
    // A token whose algorithm another key of the same id is for.
    let ec = TestKey::generate(Algorithm::ES256, "a");
    let mixed = ec.token(&with(&ec.header(), "alg", json!("RS256")), &claims());
    assert!(verify(&mixed, &issuer, &set(&[key.jwk(), ec.jwk()], &issuer)).is_err());
}

#[test]
fn only_algorithms_that_are_named_are_accepted() {
    let issuer = issuer("algorithms = [\"PS256\"]");
    let key = TestKey::generate(Algorithm::RS256, "a");
    let keys = set(&[with(&key.jwk(), "alg", json!(null))], &issuer);
    assert!(verify(&key.token(&key.header(), &claims()), &issuer, &keys).is_err());
    // A key says what it is for as well.
    assert!(KeySet::parse(&jwks(&[with(&key.jwk(), "alg", json!("RS256"))]), &issuer.algorithms).is_err());
}

#[test]
fn a_shared_secret_verifies_where_it_is_named() {
    let secret = "pX4v9TqL2mZr8KcW1nBy6HsD3fGj7QaE5uRt0iVo";
    let issuer = issuer(&format!("secret = {secret:?}"));
    let keys = KeySet::of_secret(secret.as_bytes(), &issuer.algorithms);
    let key = TestKey::of_secret(secret.as_bytes());
    for header in [json!({"alg": "HS256"}), json!({"alg": "HS256", "kid": "whatever", "typ": "JWT"})] {
        assert!(verify(&key.token(&header, &claims()), &issuer, &keys).is_ok(), "{header}");
    }
    assert!(verify(&key.token(&json!({"alg": "HS512"}), &claims()), &issuer, &keys).is_err());
    assert!(
        verify(&TestKey::of_secret(b"another").token(&json!({"alg": "HS256"}), &claims()), &issuer, &keys)
            .is_err()
    );
}

#[test]
fn only_three_canonical_segments_of_unambiguous_json_are_a_token() {
    let issuer = issuer("");
    let key = TestKey::generate(Algorithm::EdDSA, "a");
    let keys = set(&[key.jwk()], &issuer);
    let (header, payload) = (key.header().to_string(), claims().to_string());
    let token = key.sign(&header, &payload);
    assert!(verify(&token, &issuer, &keys).is_ok());
    let twice = |json: &str, more: &str| format!("{},{more}}}", &json[..json.len() - 1]);
    let mut altered = token.clone().into_bytes();
    // The last character of 64 bytes in base64 has four stray bits.
    *altered.last_mut().unwrap() = match altered.last() {
        Some(b'A') => b'B',
        Some(b'Q') => b'R',
        Some(b'g') => b'h',
        _ => b'x',
    };
    for bad in [
        key.sign(&header, &twice(&payload, "\"sub\":\"other\"")),
        key.sign(&header, &twice(&payload, "\"\\u0073ub\":\"other\"")),
        key.sign(&header, &twice(&payload, "\"x\":{\"a\":1,\"a\":2}")),
        key.sign(&twice(&header, "\"alg\":\"none\""), &payload),
        key.sign(&header, &format!("{payload} x")),
        key.sign(&header, "[]"),
        key.sign(&header, "\"text\""),
        // Nested: a token as the payload of another.
        key.sign(&header, &token),
        format!("{token}."),
        format!("{token}.x"),
        format!("{token}.x.y"),
        format!("{token}="),
        format!(".{token}"),
        token.rsplit_once('.').unwrap().0.to_owned(),
        format!("{}.", token.rsplit_once('.').unwrap().0),
        String::from_utf8(altered).unwrap(),
        key.sign(&header, &with(&claims(), "x", json!("x".repeat(20_000))).to_string()),
        String::new(),
        "..".to_owned(),
    ] {
        assert!(
            matches!(verify(&bad, &issuer, &keys), Err(JwtError::Token(TokenError::Invalid(_)))),
            "{bad}"
        );
    }
    // A token without a signature, as `none` has it.
    let unsigned = key.sign(&json!({"alg": "none", "typ": "JWT"}).to_string(), &payload);
    let unsigned = format!("{}.", unsigned.rsplit_once('.').unwrap().0);
    assert!(verify(&unsigned, &issuer, &keys).is_err());
}

#[test]
fn times_are_judged_with_leeway_and_only_behind_a_good_signature() {
    let issuer = issuer("leeway = \"5s\"\nmax_token_age = \"1h\"");
    let key = TestKey::generate(Algorithm::EdDSA, "a");
    let keys = set(&[key.jwk()], &issuer);
    let judged = |changes: &[(&str, Value)]| {
        let changed =
            changes.iter().fold(claims(), |claims, (name, value)| with(&claims, name, value.clone()));
        verify(&key.token(&key.header(), &changed), &issuer, &keys).map(|_| ())
    };
    let (expired, early) =
        (Err(JwtError::Token(TokenError::Expired)), Err(JwtError::Token(TokenError::NotYetValid)));
    let invalid = |reason| Err(JwtError::Token(TokenError::Invalid(reason)));
    for (changes, result) in [
        (vec![("exp", json!(NOW - 4))], Ok(())),
        (vec![("exp", json!(NOW - 5))], expired),
        (vec![("exp", json!((NOW + 1) as f64 + 0.5))], Ok(())),
        (vec![("nbf", json!(NOW + 5))], Ok(())),
        (vec![("nbf", json!(NOW + 6))], early),
        (vec![("nbf", json!(null))], Ok(())),
        (vec![("iat", json!(NOW + 6))], early),
        (vec![("iat", json!(NOW - 3604)), ("nbf", json!(null))], Ok(())),
        (vec![("iat", json!(NOW - 3605)), ("nbf", json!(null))], expired),
        (vec![("exp", json!(null))], invalid("exp or iat is missing")),
        (vec![("iat", json!(null))], invalid("exp or iat is missing")),
        (vec![("exp", json!("1900000000"))], invalid("exp, nbf or iat is no time")),
        (vec![("exp", json!(-1))], invalid("exp, nbf or iat is no time")),
        (vec![("exp", json!(1e300))], invalid("exp, nbf or iat is no time")),
        (vec![("nbf", json!([]))], invalid("exp, nbf or iat is no time")),
        (vec![("iat", json!(true))], invalid("exp, nbf or iat is no time")),
    ] {
        assert_eq!(judged(&changes), result, "{changes:?}");
    }
    // Whether a forged token has expired is not reported.
    let forger = TestKey::generate(Algorithm::EdDSA, "a");
    let forged = forger.token(&forger.header(), &with(&claims(), "exp", json!(1)));
    assert_eq!(
        verify(&forged, &issuer, &keys),
        invalid("the signature does not match").map(|()| unreachable!())
    );
    // An expired token by an unknown key has no key fetched for it.
    let unknown = TestKey::generate(Algorithm::EdDSA, "b");
    let token = unknown.token(&unknown.header(), &with(&claims(), "exp", json!(1)));
    assert!(matches!(verify(&token, &issuer, &keys), Err(JwtError::Token(TokenError::Invalid(_)))));
}

#[test]
fn without_keys_a_good_token_waits_for_them() {
    let issuer = issuer("");
    let key = TestKey::generate(Algorithm::EdDSA, "a");
    let token = key.token(&key.header(), &claims());
    assert_eq!(
        Jws::parse(&token).unwrap().verify(&issuer, None, UnixSeconds::new(NOW)),
        Err(JwtError::UnknownKey)
    );
    assert_eq!(Jws::parse(&token).unwrap().issuer(), Some(ISSUER));
    let bad = key.token(&key.header(), &with(&claims(), "aud", json!("other")));
    assert!(matches!(
        Jws::parse(&bad).unwrap().verify(&issuer, None, UnixSeconds::new(NOW)),
        Err(JwtError::Token(_))
    ));
}
