//! A verification key: bound to one algorithm, identified by its thumbprint.

use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{DecodingKey, EncodingKey};
use x509_parser::der_parser::parse_der;

use super::key_record::{KeyRecord, KeyRole};
use super::key_ring::{KeyError, private_key};
use crate::clock::UnixSeconds;
use crate::config::Algorithm;

/// jsonwebtoken's name for an algorithm.
pub(crate) fn backend(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    match algorithm {
        Algorithm::HS256 => jsonwebtoken::Algorithm::HS256,
        Algorithm::HS384 => jsonwebtoken::Algorithm::HS384,
        Algorithm::HS512 => jsonwebtoken::Algorithm::HS512,
        Algorithm::ES256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::ES384 => jsonwebtoken::Algorithm::ES384,
        Algorithm::RS256 => jsonwebtoken::Algorithm::RS256,
        Algorithm::RS384 => jsonwebtoken::Algorithm::RS384,
        Algorithm::RS512 => jsonwebtoken::Algorithm::RS512,
        Algorithm::PS256 => jsonwebtoken::Algorithm::PS256,
        Algorithm::PS384 => jsonwebtoken::Algorithm::PS384,
        Algorithm::PS512 => jsonwebtoken::Algorithm::PS512,
        Algorithm::EdDSA => jsonwebtoken::Algorithm::EdDSA,
    }
}

/// A key that verifies signatures.
pub(super) struct VerificationKey {
    pub(super) algorithm: Algorithm,
    /// RFC 7638 thumbprint; none for a shared secret.
    pub(super) kid: Option<String>,
    pub(super) check: Check,
    /// The public JWK; none for a shared secret, whose JWK would be the secret.
    pub(super) jwk: Option<Jwk>,
    pub(super) record: Arc<KeyRecord>,
    pub(super) role: KeyRole,
}

/// What a signature is verified with.
pub(super) enum Check {
    /// Prepared once, which saves half of the hashing of a short message.
    Secret(Box<hmac::Key>),
    Public(DecodingKey),
}

impl VerificationKey {
    pub(super) fn of_secret(algorithm: Algorithm, secret: &[u8]) -> VerificationKey {
        VerificationKey {
            algorithm,
            kid: None,
            check: Check::Secret(Box::new(hmac::Key::new(mac(algorithm), secret))),
            jwk: None,
            record: KeyRecord::of_secret(algorithm, secret),
            role: KeyRole::Signing { from: UnixSeconds::default() },
        }
    }

    /// The key in a PEM text, public (SPKI) or private (PKCS#8), for one of `algorithms`.
    ///
    /// # Errors
    ///
    /// Why it is none for any of them.
    pub(super) fn of_pem(text: &[u8], algorithms: &[Algorithm]) -> Result<VerificationKey, String> {
        let tag = pem::parse(text).map_err(|_| "it is no PEM".to_owned())?.tag().to_owned();
        let is_private = match &*tag {
            "PRIVATE KEY" | "RSA PRIVATE KEY" => true,
            "PUBLIC KEY" | "RSA PUBLIC KEY" => false,
            _ => return Err(format!("it is a {tag}")),
        };
        let mut reason = String::new();
        for &algorithm in algorithms {
            let key = match is_private {
                true => private_key(text, algorithm)
                    .and_then(|key| VerificationKey::of_private(algorithm, &key).map_err(|e| e.to_string())),
                false => VerificationKey::of_public(algorithm, text),
            };
            match key {
                Ok(key) => return Ok(key),
                Err(why) => reason = why,
            }
        }
        Err(reason)
    }

    fn of_public(algorithm: Algorithm, text: &[u8]) -> Result<VerificationKey, String> {
        let key = match algorithm {
            Algorithm::EdDSA => DecodingKey::from_ed_pem(text),
            Algorithm::ES256 | Algorithm::ES384 => DecodingKey::from_ec_pem(text),
            _ => DecodingKey::from_rsa_pem(text),
        };
        let jwk = key.and_then(|key| Jwk::from_decoding_key(&key, Some(backend(algorithm))));
        let jwk = jwk.map_err(|e| reason_of(&e))?;
        let curve = match &jwk.algorithm {
            AlgorithmParameters::EllipticCurve(ec) => Some(&ec.curve),
            _ => None,
        };
        let fits = match algorithm {
            Algorithm::ES256 => curve == Some(&EllipticCurve::P256),
            Algorithm::ES384 => curve == Some(&EllipticCurve::P384),
            _ => true,
        };
        if !fits {
            return Err("it is on another curve".to_owned());
        }
        VerificationKey::of_jwk(algorithm, jwk).map_err(|e| e.to_string())
    }

    /// The public half of a private key that fits the algorithm and is strong enough.
    pub(super) fn of_private(
        algorithm: Algorithm,
        private: &EncodingKey,
    ) -> Result<VerificationKey, KeyError> {
        let jwk = Jwk::from_encoding_key(private, backend(algorithm))
            .map_err(|e| KeyError::WrongKind { algorithm, reason: reason_of(&e) })?;
        VerificationKey::of_jwk(algorithm, jwk)
    }

    fn of_jwk(algorithm: Algorithm, mut jwk: Jwk) -> Result<VerificationKey, KeyError> {
        let unusable =
            |e: jsonwebtoken::errors::Error| KeyError::WrongKind { algorithm, reason: reason_of(&e) };
        check_strength(&jwk.algorithm)?;
        let kid = jwk.thumbprint(ThumbprintHash::SHA256).map_err(unusable)?;
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        jwk.common.key_id = Some(kid.clone());
        let check = Check::Public(DecodingKey::from_jwk(&jwk).map_err(unusable)?);
        Ok(VerificationKey {
            algorithm,
            record: KeyRecord::new(kid.clone(), algorithm),
            kid: Some(kid),
            check,
            jwk: Some(jwk),
            role: KeyRole::Signing { from: UnixSeconds::default() },
        })
    }
}

/// The MAC of a symmetric algorithm.
fn mac(algorithm: Algorithm) -> hmac::Algorithm {
    match algorithm {
        Algorithm::HS512 => hmac::HMAC_SHA512,
        Algorithm::HS384 => hmac::HMAC_SHA384,
        _ => hmac::HMAC_SHA256,
    }
}

/// The reason in words; the cryptographic library says `TooSmall` of an RSA key, and `InvalidEcdsaKey` of an EC key.
fn reason_of(error: &jsonwebtoken::errors::Error) -> String {
    match error.to_string() {
        reason if reason.contains("TooSmall") => "the RSA key has less than 2048 bits".to_owned(),
        reason if reason.contains("InvalidEcdsaKey") => "it is an EC key on another curve".to_owned(),
        reason => reason,
    }
}

/// The object identifier of RSA keys (RFC 8017 appendix C).
const RSA_ENCRYPTION: &str = "1.2.840.113549.1.1.1";

/// Whether the public exponent of the RSA key in a PEM text is an odd number of at least 3; also where there is no
/// such key, which is for others to report.
pub(super) fn has_good_exponent(pem: &[u8]) -> bool {
    let exponent = || {
        let pem = pem::parse(pem).ok()?;
        let (_, mut key) = parse_der(pem.contents()).ok()?;
        if pem.tag() == "PRIVATE KEY" {
            // PKCS#8 (RFC 5958 section 2): version, algorithm, and the key as an octet string.
            let algorithm = key.as_sequence().ok()?.get(1)?.as_sequence().ok()?.first()?.as_oid().ok()?;
            if algorithm.to_id_string() != RSA_ENCRYPTION {
                return None;
            }
            let (_, inner) = parse_der(key.as_sequence().ok()?.get(2)?.as_slice().ok()?).ok()?;
            key = inner;
        }
        // PKCS#1 (RFC 8017 appendix A.1.2): version, modulus, public exponent.
        Some(is_good_exponent(key.as_sequence().ok()?.get(2)?.as_slice().ok()?))
    };
    exponent().unwrap_or(true)
}

/// Whether the public exponent of an RSA key, in big endian, is an odd number of at least 3.
pub(super) fn is_good_exponent(e: &[u8]) -> bool {
    e.last().is_some_and(|byte| byte & 1 == 1) && e.iter().skip_while(|byte| **byte == 0).ne(&[1])
}

/// RSA: at least 2048 bits and an odd exponent of at least 3. The curves are bound to their algorithms
/// already.
pub(crate) fn check_strength(parameters: &AlgorithmParameters) -> Result<(), KeyError> {
    match parameters {
        AlgorithmParameters::RSA(rsa) => {
            let number = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
            let (n, e) = (number(&rsa.n), number(&rsa.e));
            let bits = n.len() * 8 - n.first().map_or(0, |b| b.leading_zeros() as usize);
            if bits < 2048 {
                Err(KeyError::WeakRsa(bits))
            } else if is_good_exponent(&e) {
                Ok(())
            } else {
                Err(KeyError::BadExponent)
            }
        }
        AlgorithmParameters::EllipticCurve(ec) if ec.curve != EllipticCurve::Ed25519 => Ok(()),
        AlgorithmParameters::OctetKeyPair(_) => Ok(()),
        _ => Err(KeyError::NotAsymmetric),
    }
}
