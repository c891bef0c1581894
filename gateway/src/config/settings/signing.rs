//! Signing key and algorithm.

use std::path::PathBuf;

use super::Secret;

/// The signing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signing {
    /// HS256, HS384, HS512 with `secret` or `secret_file`: at least 32, 48, 64 bytes.
    Secret {
        /// One of the three.
        algorithm: Algorithm,
        /// The shared secret, as given (the trailing newline of a file is not part of it).
        secret: Secret<Vec<u8>>,
    },
    /// An asymmetric algorithm with the operator's own key.
    PrivateKeyFile {
        /// Any but HS*.
        algorithm: Algorithm,
        /// PEM, PKCS#8.
        path: PathBuf,
    },
    /// An asymmetric algorithm with gateway-managed keys.
    Kept {
        /// Any but HS*.
        algorithm: Algorithm,
        /// `keys_dir`, default `var/keys`, mode 0700; its files have mode 0600.
        dir: PathBuf,
    },
}

impl Signing {
    /// The signing algorithm.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Signing::Secret { algorithm, .. }
            | Signing::PrivateKeyFile { algorithm, .. }
            | Signing::Kept { algorithm, .. } => *algorithm,
        }
    }
}

/// The keys that signed before, and only verify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviousKeys {
    /// In the order of the configuration.
    pub keys: Vec<PreviousKey>,
    /// Where it is remembered when each of them stopped signing: `keys_dir`.
    pub dir: PathBuf,
}

/// A key that signed before, and only verifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PreviousKey {
    /// A shared secret.
    Secret {
        /// HS256, HS384 or HS512.
        algorithm: Algorithm,
        /// As given.
        secret: Secret<Vec<u8>>,
    },
    /// A PEM file with a public or a private key.
    File {
        /// The algorithms that it may be for; the kind of the key decides among them.
        algorithms: Vec<Algorithm>,
        /// The file.
        path: PathBuf,
    },
    /// The keys for this algorithm that the gateway manages.
    Kept {
        /// Any but HS*.
        algorithm: Algorithm,
        /// `keys_dir`.
        dir: PathBuf,
    },
}

macro_rules! algorithms {
    ($($name:ident),+) => {
        /// A supported JWS algorithm (RFC 7518 section 3.1, RFC 8037). `none` is not one.
        #[allow(missing_docs)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Algorithm {
            $($name),+
        }

        impl Algorithm {
            /// All algorithms, in the order of the documentation.
            pub const ALL: [Algorithm; Algorithm::NAMES.len()] = [$(Algorithm::$name),+];

            /// Their names in a JOSE header.
            pub(crate) const NAMES: &[&str] = &[$(stringify!($name)),+];
        }
    };
}
algorithms!(HS256, HS384, HS512, ES256, ES384, RS256, RS384, RS512, PS256, PS384, PS512, EdDSA);

impl Algorithm {
    /// The name in a JOSE header.
    pub const fn name(self) -> &'static str {
        Algorithm::NAMES[self as usize]
    }

    /// The algorithm with that name; names are case-sensitive (RFC 7515 section 4.1.1).
    pub fn from_name(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|a| a.name() == name)
    }

    /// Whether one secret both signs and verifies.
    pub fn is_symmetric(self) -> bool {
        matches!(self, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512)
    }

    /// The minimum length of a secret for a symmetric algorithm, in bytes: the size of its hash (RFC 7518
    /// section 3.2).
    pub fn min_secret_len(self) -> usize {
        match self {
            Algorithm::HS384 => 48,
            Algorithm::HS512 => 64,
            _ => 32,
        }
    }
}
