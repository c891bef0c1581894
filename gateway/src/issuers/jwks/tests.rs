//! Which keys of a set are used.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::super::test_support::{TestKey, jwks};
use super::*;

fn asymmetric() -> Vec<Algorithm> {
    Algorithm::ALL.into_iter().filter(|algorithm| !algorithm.is_symmetric()).collect()
}

fn with(jwk: &Value, name: &str, value: Value) -> Value {
    let mut jwk = jwk.clone();
    jwk[name] = value;
    jwk
}

#[test]
fn keys_that_are_weak_private_symmetric_or_for_something_else_are_left_out() {
    let good = TestKey::generate(Algorithm::ES256, "good").jwk();
    let rsa = TestKey::generate(Algorithm::RS256, "rsa").jwk();
    let ed = TestKey::generate(Algorithm::EdDSA, "ed").jwk();
    let zeros = |len: usize| URL_SAFE_NO_PAD.encode(vec![0; len]);
    let ones = |len: usize| URL_SAFE_NO_PAD.encode(vec![255; len]);
    for (jwk, why) in [
        (with(&good, "use", json!("enc")), "not for signatures"),
        (with(&good, "key_ops", json!(["sign"])), "not for verifying"),
        (with(&good, "alg", json!("ES384")), "none of the algorithms"),
        (with(&good, "alg", json!("ECDH-ES")), "none of the algorithms"),
        (with(&good, "d", json!("AAAA")), "private half"),
        (with(&good, "crv", json!("secp256k1")), ""),
        (with(&good, "crv", json!("P-384")), "not on its curve"),
        // Invalid curve points.
        (with(&good, "x", json!(zeros(32))), "not on its curve"),
        (with(&with(&good, "x", json!(zeros(32))), "y", json!(zeros(32))), "not on its curve"),
        (with(&good, "y", good["x"].clone()), "not on its curve"),
        (with(&good, "x", json!(ones(32))), "not on its curve"),
        (with(&good, "x", json!(zeros(31))), "not on its curve"),
        (with(&good, "x", json!("not base64!")), "base64url"),
        (with(&rsa, "n", json!(ones(128))), "2048"),
        (with(&rsa, "n", json!(ones(1025))), "8192 bits"),
        (with(&rsa, "e", json!("AQ")), "exponent"),
        (with(&rsa, "e", json!("Ag")), "exponent"),
        (with(&ed, "x", json!(zeros(31))), "no Ed25519 key"),
        (with(&ed, "crv", json!("X25519")), ""),
        (json!({"kty": "oct", "kid": "o", "k": "c2VjcmV0"}), "a secret"),
        (json!({"kty": "EC", "kid": "e"}), ""),
        (json!({"kid": "x"}), ""),
        (json!("text"), "no object"),
        (json!(null), "no object"),
    ] {
        let (set, left_out) = KeySet::parse(&jwks(&[good.clone(), jwk.clone()]), &asymmetric()).unwrap();
        assert_eq!((set.len(), left_out.len()), (1, 1), "{jwk}");
        assert!(left_out[0].contains(why), "{jwk}: {left_out:?}");
    }
    let both = jwks(&[with(&good, "x5c", json!(["AAAA"])), with(&rsa, "x5u", json!("https://evil.example"))]);
    assert_eq!(KeySet::parse(&both, &asymmetric()).unwrap().0.len(), 2);
}

#[test]
fn what_is_no_set_or_has_no_key_is_refused_as_a_whole() {
    let good = TestKey::generate(Algorithm::EdDSA, "good").jwk();
    for (json, why) in [
        ("<html>".to_owned(), "not a JSON object"),
        ("[]".to_owned(), "not a JSON object"),
        ("{\"keys\":[],\"keys\":[]}".to_owned(), "unique members"),
        (json!({"error": "x"}).to_string(), "no list `keys`"),
        (json!({"keys": {}}).to_string(), "no list `keys`"),
        (json!({"keys": []}).to_string(), "has no key"),
        (json!({"keys": [{"kty": "oct", "k": "x"}]}).to_string(), "a secret must not"),
        (json!({"keys": vec![good.clone(); 1001]}).to_string(), "1001 keys"),
    ] {
        let error = KeySet::parse(json.as_bytes(), &asymmetric()).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    let many: Vec<Value> = (0..1000).map(|n| with(&good, "kid", json!(format!("k{n}")))).collect();
    let (set, _) = KeySet::parse(&jwks(&many), &asymmetric()).unwrap();
    assert_eq!(set.len(), 1000);
    assert_eq!(set.candidates(Some("k999"), Algorithm::EdDSA).len(), 1);
    assert!(
        set.candidates(None, Algorithm::EdDSA).is_empty()
            && set.candidates(Some("k1000"), Algorithm::EdDSA).is_empty()
    );
}
