//! JWK sets of other issuers (RFC 7517): which of their keys may verify what.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use serde_json::Value;

use super::shown;
use crate::config::Algorithm;
use crate::strict_json;
use crate::tokens::check_strength;

/// Maximum number of keys in a set.
pub(super) const MAX_KEYS: usize = 1000;
/// Maximum number of keys that are tried for one token.
const MAX_CANDIDATES: usize = 4;
/// Maximum size of an RSA modulus, in bytes: verification with larger ones takes long.
const MAX_MODULUS_LEN: usize = 1024;

/// The keys of an issuer.
#[derive(Debug)]
pub(super) struct KeySet(Vec<Key>);

/// A key, with its id and what it may verify.
pub(super) struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    pub(super) key: DecodingKey,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({:?})", self.algorithms)
    }
}

impl KeySet {
    /// The one key of an issuer that shares a secret.
    pub(super) fn of_secret(secret: &[u8], algorithms: &[Algorithm]) -> KeySet {
        let key = DecodingKey::from_secret(secret);
        KeySet(vec![Key { id: None, algorithms: algorithms.to_vec(), key }])
    }

    /// Reads a JWK set. Also returns why keys are left out, one line for each.
    ///
    /// # Errors
    ///
    /// It is no JWK set, is too large, or has no key for one of the `algorithms`.
    pub(super) fn parse(json: &[u8], algorithms: &[Algorithm]) -> Result<(KeySet, Vec<String>), String> {
        let members = strict_json::object(json).ok_or("is not a JSON object with unique members")?;
        let Some(Value::Array(keys)) = members.get("keys") else {
            return Err("is no JWK set: it has no list `keys`".to_owned());
        };
        if keys.len() > MAX_KEYS {
            return Err(format!("has {} keys, more than the {MAX_KEYS} that are allowed", keys.len()));
        }
        let (mut usable, mut left_out) = (Vec::new(), Vec::new());
        for (index, json) in keys.iter().enumerate() {
            match read(json, algorithms) {
                Ok(key) => usable.push(key),
                Err(why) => {
                    let kid = json.get("kid").and_then(Value::as_str).unwrap_or("without an id");
                    left_out.push(format!("key {index} ({}): {why}", shown(kid, 64)));
                }
            }
        }
        match usable.is_empty() {
            true => Err(format!(
                "has no key that could verify a token{}",
                left_out.first().map(|why| format!(": {why}")).unwrap_or_default()
            )),
            false => Ok((KeySet(usable), left_out)),
        }
    }

    /// The number of keys.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The keys that may have signed a token with this header. One without `kid` may be from any key, as long as there are few.
    pub(super) fn candidates(&self, kid: Option<&str>, algorithm: Algorithm) -> Vec<&Key> {
        let is_named = |key: &Key| match (kid, &key.id) {
            (None, _) => true,
            (Some(kid), Some(id)) => kid == id,
            // A secret has no id, whatever its tokens name.
            (Some(_), None) => algorithm.is_symmetric(),
        };
        let fits = |key: &&Key| key.algorithms.contains(&algorithm) && is_named(key);
        let found: Vec<&Key> = self.0.iter().filter(fits).collect();
        if found.len() > MAX_CANDIDATES { Vec::new() } else { found }
    }
}

/// A key for one of the `algorithms`, or why it is none. Certificates and addresses of them (`x5c`, `x5u`) are not looked at.
fn read(json: &Value, algorithms: &[Algorithm]) -> Result<Key, String> {
    let members = json.as_object().ok_or("it is no object")?;
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    if text("kty") == Some("oct") {
        return Err("a secret must not be in a published set".into());
    }
    if members.contains_key("d") {
        return Err("it has its private half with it: whoever reads the set can sign".into());
    }
    let jwk: Jwk =
        serde_json::from_value(json.clone()).map_err(|error| format!("it cannot be used: {error}"))?;
    if jwk.common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
        return Err("it is not for signatures (use)".into());
    }
    if jwk.common.key_operations.as_ref().is_some_and(|all| !all.contains(&KeyOperations::Verify)) {
        return Err("it is not for verifying (key_ops)".into());
    }
    let decode = |text: &str| {
        URL_SAFE_NO_PAD.decode(text).map_err(|_| "it is not base64url without padding".to_owned())
    };
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    let possible: &[Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) => {
            check_strength(&jwk.algorithm).map_err(|error| error.to_string())?;
            if decode(&rsa.n)?.len() > MAX_MODULUS_LEN {
                return Err("its modulus is larger than 8192 bits".into());
            }
            &[RS256, RS384, RS512, PS256, PS384, PS512]
        }
        AlgorithmParameters::EllipticCurve(ec) => {
            let point = [&[4][..], &decode(&ec.x)?[..], &decode(&ec.y)?[..]].concat();
            let (parsed, algorithm): (_, &[Algorithm]) = match ec.curve {
                EllipticCurve::P256 => (ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point), &[ES256]),
                EllipticCurve::P384 => (ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point), &[ES384]),
                _ => return Err("its curve is neither P-256 nor P-384".into()),
            };
            parsed.map_err(|_| "its point is not on its curve".to_owned())?;
            algorithm
        }
        AlgorithmParameters::OctetKeyPair(okp) if okp.curve == EllipticCurve::Ed25519 => {
            ParsedPublicKey::new(&ED25519, decode(&okp.x)?).map_err(|_| "it is no Ed25519 key".to_owned())?;
            &[EdDSA]
        }
        _ => return Err("its type is not supported".into()),
    };
    let fits = |algorithm: &&Algorithm| {
        algorithms.contains(algorithm) && text("alg").is_none_or(|alg| alg == algorithm.name())
    };
    let algorithms: Vec<Algorithm> = possible.iter().filter(fits).copied().collect();
    if algorithms.is_empty() {
        return Err("it is for none of the algorithms that are accepted".into());
    }
    let key = DecodingKey::from_jwk(&jwk).map_err(|error| error.to_string())?;
    Ok(Key { id: text("kid").map(str::to_owned), algorithms, key })
}

#[cfg(test)]
mod tests;
