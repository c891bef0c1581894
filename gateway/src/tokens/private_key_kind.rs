//! What a private key in PEM is for, so that a key for another algorithm is named in words.

use pem::Pem;
use x509_parser::der_parser::parse_der;

use crate::config::Algorithm;

/// The kind of a private key in PEM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PrivateKeyKind {
    Rsa,
    P256,
    P384,
    OtherCurve,
    Ed25519,
    Ed448,
    Encrypted,
    OpenSsh,
    /// `EC PRIVATE KEY` (RFC 5915), which PKCS#8 has taken the place of.
    Sec1,
}

impl PrivateKeyKind {
    /// `None` where that is not known.
    pub(super) fn of(pem: &Pem) -> Option<PrivateKeyKind> {
        match pem.tag() {
            "RSA PRIVATE KEY" => return Some(PrivateKeyKind::Rsa),
            "ENCRYPTED PRIVATE KEY" => return Some(PrivateKeyKind::Encrypted),
            "OPENSSH PRIVATE KEY" => return Some(PrivateKeyKind::OpenSsh),
            "EC PRIVATE KEY" => return Some(PrivateKeyKind::Sec1),
            _ => {}
        }
        // PKCS#8 (RFC 5958 section 2): version, algorithm and its parameters, and the key.
        let (_, key) = parse_der(pem.contents()).ok()?;
        let algorithm = key.as_sequence().ok()?.get(1)?.as_sequence().ok()?;
        let id = |place: usize| Some(algorithm.get(place)?.as_oid().ok()?.to_id_string());
        match id(0)?.as_str() {
            "1.2.840.113549.1.1.1" => Some(PrivateKeyKind::Rsa),
            "1.3.101.112" => Some(PrivateKeyKind::Ed25519),
            "1.3.101.113" => Some(PrivateKeyKind::Ed448),
            "1.2.840.10045.2.1" => match id(1)?.as_str() {
                "1.2.840.10045.3.1.7" => Some(PrivateKeyKind::P256),
                "1.3.132.0.34" => Some(PrivateKeyKind::P384),
                _ => Some(PrivateKeyKind::OtherCurve),
            },
            _ => None,
        }
    }

    /// Whether it is the kind of that algorithm.
    pub(super) fn fits(self, algorithm: Algorithm) -> bool {
        let needed = match algorithm {
            Algorithm::EdDSA => PrivateKeyKind::Ed25519,
            Algorithm::ES256 => PrivateKeyKind::P256,
            Algorithm::ES384 => PrivateKeyKind::P384,
            _ => PrivateKeyKind::Rsa,
        };
        self == needed
    }

    /// With its article.
    pub(super) fn name(self) -> &'static str {
        match self {
            PrivateKeyKind::Rsa => "an RSA key",
            PrivateKeyKind::P256 => "an EC key on the curve P-256",
            PrivateKeyKind::P384 => "an EC key on the curve P-384",
            PrivateKeyKind::OtherCurve => "an EC key on another curve than P-256 and P-384",
            PrivateKeyKind::Ed25519 => "an Ed25519 key",
            PrivateKeyKind::Ed448 => "an Ed448 key",
            PrivateKeyKind::Encrypted => "an encrypted key",
            PrivateKeyKind::OpenSsh => "a key in the format of OpenSSH",
            PrivateKeyKind::Sec1 => "a key in the format SEC1",
        }
    }
}
