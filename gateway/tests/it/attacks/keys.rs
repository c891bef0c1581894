//! Signing keys of the tests: the gateway's own, and an attacker's.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512,
    RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A key for one algorithm.
pub(crate) struct Key {
    pub(super) algorithm: &'static str,
    private: Vec<u8>,
}

impl Key {
    pub(crate) fn generate(algorithm: &'static str) -> Key {
        let random = SystemRandom::new();
        let private = match algorithm {
            "HS256" => (0..64).map(|_| SystemRandom::new()).map(|r| random_byte(&r)).collect(),
            "EdDSA" => Ed25519KeyPair::generate_pkcs8v1(&random).unwrap().as_ref().to_vec(),
            "ES256" => EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
                .unwrap()
                .as_ref()
                .to_vec(),
            "RS256" | "PS256" => {
                let pair = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
                AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap().as_ref().to_vec()
            }
            other => panic!("no such algorithm: {other}"),
        };
        Key { algorithm, private }
    }

    pub(super) fn is_symmetric(&self) -> bool {
        self.algorithm == "HS256"
    }

    /// The private key for `tokens.private_key_file`, or the secret, in hexadecimal, for `tokens.secret`.
    pub(crate) fn text(&self) -> String {
        match self.is_symmetric() {
            true => self.private.iter().map(|b| format!("{b:02x}")).collect(),
            false => pem("PRIVATE KEY", &self.private),
        }
    }

    /// Signs with this key by `algorithm`, if the key is of its family.
    pub(super) fn sign(&self, algorithm: &str, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        let rsa = |encoding: &'static dyn RsaEncoding| {
            let pair = RsaKeyPair::from_pkcs8(&self.private).unwrap();
            let mut signature = vec![0; pair.public_modulus_len()];
            pair.sign(encoding, &random, message, &mut signature).unwrap();
            signature
        };
        let family = match self.algorithm {
            "RS256" | "PS256" => "RSA",
            other => other,
        };
        Some(match (family, algorithm) {
            ("HS256", "HS256") => hmac_sign(hmac::HMAC_SHA256, self.text().as_bytes(), message),
            ("HS256", "HS384") => hmac_sign(hmac::HMAC_SHA384, self.text().as_bytes(), message),
            ("HS256", "HS512") => hmac_sign(hmac::HMAC_SHA512, self.text().as_bytes(), message),
            ("EdDSA", "EdDSA") => {
                Ed25519KeyPair::from_pkcs8(&self.private).unwrap().sign(message).as_ref().to_vec()
            }
            ("ES256", "ES256") => self.ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, message),
            ("RSA", "RS256") => rsa(&RSA_PKCS1_SHA256),
            ("RSA", "RS384") => rsa(&RSA_PKCS1_SHA384),
            ("RSA", "RS512") => rsa(&RSA_PKCS1_SHA512),
            ("RSA", "PS256") => rsa(&RSA_PSS_SHA256),
            ("RSA", "PS384") => rsa(&RSA_PSS_SHA384),
            ("RSA", "PS512") => rsa(&RSA_PSS_SHA512),
            _ => return None,
        })
    }

    /// An ECDSA signature in ASN.1, which a JWS may not have.
    pub(super) fn sign_der(&self, message: &[u8]) -> Vec<u8> {
        self.ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING, message)
    }

    fn ecdsa(
        &self,
        encoding: &'static aws_lc_rs::signature::EcdsaSigningAlgorithm,
        message: &[u8],
    ) -> Vec<u8> {
        let pair = EcdsaKeyPair::from_pkcs8(encoding, &self.private).unwrap();
        pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    }

    /// What an attacker who knows the public key may take for an HMAC secret.
    pub(super) fn public_form(&self, form: &str) -> Option<Vec<u8>> {
        let (der, raw) = self.public()?;
        Some(match form {
            "public_pem" => pem("PUBLIC KEY", &der).into_bytes(),
            "public_pem_nonl" => pem("PUBLIC KEY", &der).trim_end().as_bytes().to_vec(),
            "public_pem_crlf" => pem("PUBLIC KEY", &der).replace('\n', "\r\n").into_bytes(),
            "public_der" | "public_spki" => der,
            "public_raw" => raw,
            _ => return None,
        })
    }

    fn public(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        Some(match self.algorithm {
            "HS256" => return None,
            "EdDSA" => {
                let pair = Ed25519KeyPair::from_pkcs8(&self.private).unwrap();
                let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
                (der.as_ref().to_vec(), pair.public_key().as_ref().to_vec())
            }
            "ES256" => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.private).unwrap();
                let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
                (der.as_ref().to_vec(), pair.public_key().as_ref().to_vec())
            }
            _ => {
                let pair = RsaKeyPair::from_pkcs8(&self.private).unwrap();
                let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
                let modulus = pair.public_key().modulus().big_endian_without_leading_zero().to_vec();
                (der.as_ref().to_vec(), modulus)
            }
        })
    }
}

pub(super) fn hmac_sha256(secret: &[u8], message: &[u8]) -> Vec<u8> {
    hmac_sign(hmac::HMAC_SHA256, secret, message)
}

fn hmac_sign(algorithm: hmac::Algorithm, secret: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(algorithm, secret), message).as_ref().to_vec()
}

fn random_byte(random: &SystemRandom) -> u8 {
    let mut byte = [0];
    aws_lc_rs::rand::SecureRandom::fill(random, &mut byte).unwrap();
    byte[0]
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
