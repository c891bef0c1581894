//! Test support: keys of an issuer, and tokens that it signs.

#![allow(clippy::unwrap_used)]

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::jwk::Jwk;
use serde_json::{Value, json};

use crate::config::test_support::{minimal, settings};
use crate::config::{Algorithm, IssuerSettings};
use crate::tokens::backend;

pub(super) const ISSUER: &str = "https://login.example/realms/a";
pub(super) const NOW: u64 = 1_800_000_000;

/// The settings of one issuer `kc` with these further keys.
pub(super) fn issuer(keys: &str) -> IssuerSettings {
    let audiences = if keys.contains("audiences") { "" } else { "audiences = [\"api\"]" };
    let text = format!("[[issuers]]\nname = \"kc\"\nissuer = \"{ISSUER}\"\n{audiences}\n{keys}\n");
    settings(minimal() + &text).issuers.remove(0)
}

/// The claims of a good access token.
pub(super) fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": ["account", "api"], "sub": "f3a1", "iat": NOW - 10, "nbf": NOW - 10, "exp": NOW + 300, "jti": "j",
        "typ": "Bearer", "azp": "web", "preferred_username": "alice", "email": "alice@example.org", "sid": "session of the provider",
        "realm_access": {"roles": ["user", "gateway-admin", 7]}, "scope": "openid email",
    })
}

/// A key pair, or a secret.
pub(super) struct TestKey {
    algorithm: Algorithm,
    key: EncodingKey,
    kid: String,
}

impl TestKey {
    pub(super) fn generate(algorithm: Algorithm, kid: &str) -> TestKey {
        let random = SystemRandom::new();
        let pem = |der: &[u8]| pem::encode(&pem::Pem::new("PRIVATE KEY", der)).into_bytes();
        let ec = |signing| pem(EcdsaKeyPair::generate_pkcs8(signing, &random).unwrap().as_ref());
        let key = match algorithm {
            Algorithm::EdDSA => {
                EncodingKey::from_ed_pem(&pem(Ed25519KeyPair::generate_pkcs8v1(&random).unwrap().as_ref()))
            }
            Algorithm::ES256 => EncodingKey::from_ec_pem(&ec(&ECDSA_P256_SHA256_FIXED_SIGNING)),
            Algorithm::ES384 => EncodingKey::from_ec_pem(&ec(&ECDSA_P384_SHA384_FIXED_SIGNING)),
            _ => {
                let pair = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
                EncodingKey::from_rsa_pem(&pem(AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap().as_ref()))
            }
        };
        TestKey { algorithm, key: key.unwrap(), kid: kid.to_owned() }
    }

    pub(super) fn of_secret(secret: &[u8]) -> TestKey {
        TestKey { algorithm: Algorithm::HS256, key: EncodingKey::from_secret(secret), kid: String::new() }
    }

    /// The public half.
    pub(super) fn jwk(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, backend(self.algorithm)).unwrap();
        jwk.common.key_id = Some(self.kid.clone());
        serde_json::to_value(jwk).unwrap()
    }

    /// The header of a good access token.
    pub(super) fn header(&self) -> Value {
        json!({"alg": self.algorithm.name(), "kid": self.kid, "typ": "at+jwt"})
    }

    pub(super) fn token(&self, header: &Value, claims: &Value) -> String {
        self.sign(&header.to_string(), &claims.to_string())
    }

    /// A token whose header and payload are these texts.
    pub(super) fn sign(&self, header: &str, payload: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, backend(self.algorithm));
        format!("{message}.{}", signature.unwrap())
    }
}

/// A JWK set.
pub(super) fn jwks(keys: &[Value]) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into_bytes()
}
