//! Verification of a proof (RFC 9449 section 4.3): form, header, key, signature, and then its claims.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::{HttpUri, KeyThumbprint};
use crate::strict_json;
use crate::tokens::public_key::is_good_exponent;
use crate::tokens::{CompactJws, UnixSeconds};
use std::time::Duration;

/// Maximum length of a proof, in bytes.
const MAX_PROOF_LEN: usize = 8 * 1024;
/// Maximum length of `jti`, in bytes.
const MAX_JTI_LEN: usize = 256;
/// Lengths of an RSA modulus, in bytes: 2048 to 4096 bits. Larger ones would be a way to keep a worker busy.
const RSA_MODULUS_LEN: std::ops::RangeInclusive<usize> = 256..=512;

/// The algorithms that a proof may be signed with, as a challenge names them. `Ed25519` is the name of RFC 9864 for `EdDSA`.
pub(crate) const ALGORITHMS: &str = "ES256 ES384 EdDSA Ed25519 RS256 RS384 RS512 PS256 PS384 PS512";

/// What a proof has to be about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExpectedProof<'e> {
    pub(crate) method: &'e str,
    pub(crate) uri: &'e HttpUri,
    /// The token that is sent with it.
    pub(crate) token: Option<&'e [u8]>,
    /// Whether the proof has to name that token.
    pub(crate) token_hash_required: bool,
    pub(crate) now: UnixSeconds,
    /// How long ago `iat` may be, in seconds.
    pub(crate) max_age: Duration,
    /// How far ahead `iat` may be, in seconds.
    pub(crate) leeway: Duration,
}

/// A verified proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proof {
    pub(crate) key: KeyThumbprint,
    pub(crate) id: ProofId,
    pub(crate) nonce: Option<String>,
}

/// A proof among all proofs: a hash of its key and its `jti`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ProofId(pub(crate) [u8; 16]);

impl std::fmt::Display for ProofId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

/// Verifies a proof. Whether it was used before, and whether its nonce is good, is left to the caller.
///
/// # Errors
///
/// What is wrong with it, for the developer of the client: the proof is the client's own.
pub(crate) fn verify(proof: &str, expected: &ExpectedProof<'_>) -> Result<Proof, &'static str> {
    if proof.len() > MAX_PROOF_LEN {
        return Err("the proof is larger than 8 KiB");
    }
    let jws = CompactJws::split(proof).ok_or("the proof is not one compact JWS")?;
    let object = |segment: &str| {
        let bytes = decode(segment)?;
        strict_json::object(&bytes)
            .ok_or("header and payload of the proof must be JSON objects with unique members")
    };
    let header = object(jws.header)?;
    let key = read_header(&header)?;
    let thumbprint = key.thumbprint();
    let claims = object(jws.payload)?;
    // The signature is what costs: whatever is wrong besides it is found before.
    check_claims(&claims, expected)?;
    key.verify(jws.message.as_bytes(), &decode(jws.signature)?)?;

    let jti = text(&claims, "jti").ok_or("jti must be a string of 1 to 256 bytes")?;
    let id = digest(&SHA256, &[&thumbprint.0[..], jti.as_bytes()].concat());
    let mut short = [0; 16];
    short.copy_from_slice(&id.as_ref()[..16]);
    let nonce = match claims.get("nonce") {
        None => None,
        Some(Value::String(nonce)) => Some(nonce.clone()),
        Some(_) => return Err("nonce must be a string"),
    };
    Ok(Proof { key: thumbprint, id: ProofId(short), nonce })
}

fn check_claims(claims: &Map<String, Value>, expected: &ExpectedProof<'_>) -> Result<(), &'static str> {
    if text(claims, "jti").is_none_or(|jti| jti.len() > MAX_JTI_LEN) {
        return Err("jti must be a string of 1 to 256 bytes");
    }
    if text(claims, "htm") != Some(expected.method) {
        return Err("htm is not the method of the request");
    }
    let htu = text(claims, "htu").ok_or("htu must be a string")?;
    if HttpUri::parse(htu).as_ref() != Some(expected.uri) {
        return Err("htu is not the address of the request");
    }
    let date = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(value) => match value.as_f64() {
            // NumericDate may have a fraction (RFC 7519 section 2).
            Some(seconds) if (0.0..1e15).contains(&seconds) => Ok(Some(UnixSeconds::new(seconds as u64))),
            _ => Err("iat, nbf and exp must be numbers of seconds since 1970"),
        },
    };
    let (iat, now) = (date("iat")?.ok_or("iat is missing")?, expected.now);
    if iat.saturating_add(expected.max_age) < now {
        return Err("iat is too long ago");
    }
    if iat > now.saturating_add(expected.leeway) {
        return Err("iat is in the future: do the clocks agree?");
    }
    if date("exp")?.is_some_and(|exp| exp.saturating_add(expected.leeway) <= now) {
        return Err("the proof has expired");
    }
    if date("nbf")?.is_some_and(|nbf| nbf > now.saturating_add(expected.leeway)) {
        return Err("the proof is not valid yet");
    }
    let hash = |token: &[u8]| URL_SAFE_NO_PAD.encode(digest(&SHA256, token));
    match (claims.get("ath"), expected.token) {
        (None, _) if expected.token_hash_required => Err("ath is missing"),
        (None, _) | (Some(_), None) => Ok(()),
        (Some(ath), Some(token)) if ath.as_str() == Some(&hash(token)) => Ok(()),
        (Some(_), Some(_)) => Err("ath is not the hash of the token"),
    }
}

/// A member that is a string and not empty.
fn text<'m>(members: &'m Map<String, Value>, name: &str) -> Option<&'m str> {
    members.get(name)?.as_str().filter(|text| !text.is_empty())
}

fn decode(segment: &str) -> Result<Vec<u8>, &'static str> {
    URL_SAFE_NO_PAD.decode(segment).map_err(|_| "the proof is not in canonical base64url")
}

/// The public key of a proof, with the algorithm that it is used with.
enum PublicKey<'h> {
    /// Point (uncompressed) or key bytes, and the members of its JWK in the order of a thumbprint.
    Curve {
        algorithm: CurveAlgorithm,
        bytes: Vec<u8>,
        x: &'h str,
        y: Option<&'h str>,
    },
    Rsa {
        parameters: &'static RsaParameters,
        n: &'h str,
        e: &'h str,
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
}

#[derive(Clone, Copy)]
enum CurveAlgorithm {
    Es256,
    Es384,
    Ed25519,
}

fn read_header(header: &Map<String, Value>) -> Result<PublicKey<'_>, &'static str> {
    if header.get("typ").and_then(Value::as_str) != Some("dpop+jwt") {
        return Err("typ is not dpop+jwt");
    }
    if ["crit", "b64", "zip"].iter().any(|name| header.contains_key(*name)) {
        return Err("the header has a parameter that must be understood");
    }
    let alg = header.get("alg").and_then(Value::as_str).ok_or("alg is missing")?;
    if !ALGORITHMS.split(' ').any(|known| known == alg) {
        return Err("alg is not one of the asymmetric algorithms that are accepted");
    }
    let jwk = header.get("jwk").and_then(Value::as_object).ok_or("jwk is not a key")?;
    if ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().any(|name| jwk.contains_key(*name)) {
        return Err("jwk holds a private key");
    }
    let disagrees =
        |name: &str, value: &str| jwk.get(name).is_some_and(|given| given.as_str() != Some(value));
    if disagrees("use", "sig") || disagrees("alg", alg) {
        return Err("jwk is for another use or algorithm");
    }
    let verifies = |operations: &Value| {
        operations
            .as_array()
            .is_some_and(|operations| operations.iter().any(|operation| operation == "verify"))
    };
    if jwk.get("key_ops").is_some_and(|operations| !verifies(operations)) {
        return Err("jwk is for another use or algorithm");
    }
    public_key(alg, jwk).ok_or("jwk is no public key for alg")
}

fn public_key<'h>(alg: &str, jwk: &'h Map<String, Value>) -> Option<PublicKey<'h>> {
    let is = |name: &str, value: &str| jwk.get(name).and_then(Value::as_str) == Some(value);
    let member = |name: &str| {
        let encoded = text(jwk, name)?;
        Some((encoded, URL_SAFE_NO_PAD.decode(encoded).ok()?))
    };
    let point = |curve: &str, length: usize, algorithm| {
        let ((x, x_bytes), (y, y_bytes)) = (member("x")?, member("y")?);
        let fits = is("kty", "EC") && is("crv", curve) && x_bytes.len() == length && y_bytes.len() == length;
        let bytes = [&[4], &x_bytes[..], &y_bytes].concat();
        fits.then_some(PublicKey::Curve { algorithm, bytes, x, y: Some(y) })
    };
    let parameters = match alg {
        "ES256" => return point("P-256", 32, CurveAlgorithm::Es256),
        "ES384" => return point("P-384", 48, CurveAlgorithm::Es384),
        "EdDSA" | "Ed25519" => {
            let (x, bytes) = member("x")?;
            let fits = is("kty", "OKP") && is("crv", "Ed25519") && bytes.len() == 32;
            let algorithm = CurveAlgorithm::Ed25519;
            return fits.then_some(PublicKey::Curve { algorithm, bytes, x, y: None });
        }
        "RS256" => &RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &RSA_PSS_2048_8192_SHA256,
        "PS384" => &RSA_PSS_2048_8192_SHA384,
        "PS512" => &RSA_PSS_2048_8192_SHA512,
        _ => return None,
    };
    let ((n, modulus), (e, exponent)) = (member("n")?, member("e")?);
    // Leading zeros would give one key several thumbprints (RFC 7518 section 2, Base64urlUInt).
    let fits = is("kty", "RSA")
        && RSA_MODULUS_LEN.contains(&modulus.len())
        && modulus.first() != Some(&0)
        && (1..=4).contains(&exponent.len())
        && exponent.first() != Some(&0)
        && is_good_exponent(&exponent);
    fits.then_some(PublicKey::Rsa { parameters, n, e, modulus, exponent })
}

impl PublicKey<'_> {
    /// RFC 7638: the required members in the order of their names. They are base64url, so nothing needs an escape.
    fn thumbprint(&self) -> KeyThumbprint {
        let json = match self {
            PublicKey::Curve { algorithm, x, y, .. } => {
                let curve = match algorithm {
                    CurveAlgorithm::Es256 => "P-256",
                    CurveAlgorithm::Es384 => "P-384",
                    CurveAlgorithm::Ed25519 => "Ed25519",
                };
                match y {
                    Some(y) => format!(r#"{{"crv":"{curve}","kty":"EC","x":"{x}","y":"{y}"}}"#),
                    None => format!(r#"{{"crv":"{curve}","kty":"OKP","x":"{x}"}}"#),
                }
            }
            PublicKey::Rsa { n, e, .. } => format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#),
        };
        let mut thumbprint = [0; 32];
        thumbprint.copy_from_slice(digest(&SHA256, json.as_bytes()).as_ref());
        KeyThumbprint(thumbprint)
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), &'static str> {
        let verified = match self {
            PublicKey::Curve { algorithm: CurveAlgorithm::Es256, bytes, .. } => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes).verify(message, signature)
            }
            PublicKey::Curve { algorithm: CurveAlgorithm::Es384, bytes, .. } => {
                UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, bytes).verify(message, signature)
            }
            PublicKey::Curve { algorithm: CurveAlgorithm::Ed25519, bytes, .. } => {
                UnparsedPublicKey::new(&ED25519, bytes).verify(message, signature)
            }
            PublicKey::Rsa { parameters, modulus, exponent, .. } => {
                RsaPublicKeyComponents { n: modulus, e: exponent }.verify(parameters, message, signature)
            }
        };
        verified.map_err(|_| "the signature of the proof does not match its key")
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
