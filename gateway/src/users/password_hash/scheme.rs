//! Password hash schemes with their cost, strength and bounds.
//!
//! Minimum costs follow the OWASP password storage recommendations and RFC 9106, with scrypt's at the
//! defaults of werkzeug and Django. Upper bounds keep a hostile or mistyped hash from exhausting the machine
//! at each login: at most 1 GiB, and some seconds.

use std::fmt;

use argon2::{Algorithm, Version};

use super::HashCost;

const MAX_MEMORY_KIB: u32 = 1024 * 1024;
const MAX_PASSES: u32 = 10;
const MAX_LANES: u32 = 16;
/// Each step doubles the time; 16 takes some four seconds.
const MAX_BCRYPT_COST: u32 = 16;
const MAX_PBKDF2_ROUNDS: u32 = 10_000_000;
const MAX_SHA_CRYPT_ROUNDS: u32 = 5_000_000;
/// Of scrypt and yescrypt: N·r·p, in blocks of 128 bytes.
const MAX_SCRYPT_BLOCKS: u64 = 8 * 1024 * 1024;
const MIN_SCRYPT_BLOCKS: u64 = (1 << 14) * 8;

/// A scheme and its cost. Two hashes of one scheme take the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// argon2id, argon2i or argon2d.
    Argon2 {
        /// The variant.
        algorithm: Algorithm,
        /// 16 or 19.
        version: Version,
        /// Memory, passes, lanes.
        cost: HashCost,
    },
    /// bcrypt, possibly of a prehashed password.
    Bcrypt {
        /// log2 of the rounds.
        cost: u32,
        /// The prehash.
        prehash: Prehash,
    },
    /// scrypt (RFC 7914).
    Scrypt {
        /// log2 of N.
        log_n: u8,
        /// Block size.
        r: u32,
        /// Parallelism.
        p: u32,
    },
    /// PBKDF2 with HMAC (RFC 8018).
    Pbkdf2 {
        /// The hash of the HMAC.
        digest: Pbkdf2Digest,
        /// Iterations.
        rounds: u32,
    },
    /// `$5$` of crypt(5).
    Sha256Crypt {
        /// Rounds.
        rounds: u32,
    },
    /// `$6$` of crypt(5).
    Sha512Crypt {
        /// Rounds.
        rounds: u32,
    },
    /// `$y$` of crypt(5).
    Yescrypt {
        /// log2 of N.
        log_n: u8,
        /// Block size.
        r: u32,
        /// Parallelism.
        p: u32,
    },
    /// `$1$` of crypt(5): 1000 rounds of MD5.
    Md5Crypt,
    /// `$apr1$` of htpasswd: the same with another prefix.
    Apr1,
    /// One round of a digest: `{SHA}` and `{SSHA}` of htpasswd and directories, and what werkzeug and Django made long ago.
    OneRound {
        /// The digest.
        digest: RoundDigest,
        /// Where the salt goes.
        salting: Salting,
    },
}

/// The digest of [`Scheme::OneRound`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RoundDigest {
    /// MD5.
    Md5,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// How [`Scheme::OneRound`] mixes salt and password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Salting {
    /// Not at all.
    None,
    /// The salt comes last, as in directories.
    Last,
    /// The salt is the key of an HMAC, as werkzeug had it before version 3; where that does not match, the salt comes
    /// first, as Django has it, whose hashes look the same.
    Keyed,
}

/// Prehash of a password for bcrypt, which uses no more than 72 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Prehash {
    /// None; passwords are truncated to 72 bytes.
    None,
    /// Django's `bcrypt_sha256`: SHA-256 in hexadecimal digits.
    Sha256Hex,
    /// passlib's `bcrypt_sha256` version 1: SHA-256 in base64.
    Sha256Base64,
    /// passlib's `bcrypt_sha256` version 2: HMAC-SHA-256, keyed with the salt, in base64.
    HmacSha256Base64,
}

/// The hash inside PBKDF2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pbkdf2Digest {
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Scheme {
    /// argon2id of version 19.
    pub(crate) const fn argon2id(cost: HashCost) -> Scheme {
        Scheme::Argon2 { algorithm: Algorithm::Argon2id, version: Version::V0x13, cost }
    }

    /// The scheme's name without its cost, for counts.
    pub fn name(&self) -> &'static str {
        match self {
            Scheme::Argon2 { algorithm, .. } => algorithm.as_str(),
            Scheme::Bcrypt { prehash: Prehash::None, .. } => "bcrypt",
            Scheme::Bcrypt { .. } => "bcrypt-sha256",
            Scheme::Scrypt { .. } => "scrypt",
            Scheme::Pbkdf2 { digest, .. } => match digest {
                Pbkdf2Digest::Sha1 => "pbkdf2-sha1",
                Pbkdf2Digest::Sha256 => "pbkdf2-sha256",
                Pbkdf2Digest::Sha384 => "pbkdf2-sha384",
                Pbkdf2Digest::Sha512 => "pbkdf2-sha512",
            },
            Scheme::Sha256Crypt { .. } => "sha256-crypt",
            Scheme::Sha512Crypt { .. } => "sha512-crypt",
            Scheme::Yescrypt { .. } => "yescrypt",
            Scheme::Md5Crypt => "md5-crypt",
            Scheme::Apr1 => "apr1",
            Scheme::OneRound { digest, salting } => match (digest, salting) {
                (RoundDigest::Md5, Salting::None) => "md5",
                (RoundDigest::Sha1, Salting::None) => "sha1",
                (RoundDigest::Sha256, Salting::None) => "sha256",
                (RoundDigest::Sha512, Salting::None) => "sha512",
                (RoundDigest::Md5, _) => "salted md5",
                (RoundDigest::Sha1, _) => "salted sha1",
                (RoundDigest::Sha256, _) => "salted sha256",
                (RoundDigest::Sha512, _) => "salted sha512",
            },
        }
    }

    /// Whether it can be guessed by the billion per second, so that it is accepted only where the
    /// configuration allows it.
    pub fn is_broken(&self) -> bool {
        matches!(self, Scheme::Md5Crypt | Scheme::Apr1 | Scheme::OneRound { .. })
    }

    /// Why a stolen hash would be too cheap to guess, if it would.
    pub(super) fn weakness(&self) -> Option<String> {
        let floor = match *self {
            Scheme::Argon2 { cost, .. } if cost.is_weak() => HashCost::DEFAULT.to_string(),
            Scheme::Bcrypt { cost, .. } if cost < 10 => "cost=10".to_owned(),
            Scheme::Scrypt { log_n, r, p } | Scheme::Yescrypt { log_n, r, p }
                if blocks(log_n, r, p) < MIN_SCRYPT_BLOCKS =>
            {
                "N=2^14,r=8,p=1".to_owned()
            }
            Scheme::Pbkdf2 { digest, rounds } => {
                let least = match digest {
                    Pbkdf2Digest::Sha1 => 1_300_000,
                    Pbkdf2Digest::Sha256 => 600_000,
                    Pbkdf2Digest::Sha384 | Pbkdf2Digest::Sha512 => 210_000,
                };
                if rounds >= least {
                    return None;
                }
                format!("rounds={least}")
            }
            Scheme::Sha256Crypt { rounds } | Scheme::Sha512Crypt { rounds } if rounds < 5_000 => {
                "rounds=5000".to_owned()
            }
            _ if self.is_broken() => return Some(format!("{} is guessed at by the billion", self.name())),
            _ => return None,
        };
        Some(format!("its cost {} is below the floor {floor}", self.cost()))
    }

    pub(super) fn is_excessive(&self) -> bool {
        match *self {
            Scheme::Argon2 { cost, .. } => {
                cost.memory_kib > MAX_MEMORY_KIB || cost.passes > MAX_PASSES || cost.lanes > MAX_LANES
            }
            Scheme::Bcrypt { cost, .. } => cost > MAX_BCRYPT_COST,
            Scheme::Scrypt { log_n, r, p } | Scheme::Yescrypt { log_n, r, p } => {
                blocks(log_n, r, p) > MAX_SCRYPT_BLOCKS
            }
            Scheme::Pbkdf2 { rounds, .. } => rounds > MAX_PBKDF2_ROUNDS,
            Scheme::Sha256Crypt { rounds } | Scheme::Sha512Crypt { rounds } => rounds > MAX_SHA_CRYPT_ROUNDS,
            Scheme::Md5Crypt | Scheme::Apr1 | Scheme::OneRound { .. } => false,
        }
    }

    /// The parameters, as the formats write them.
    fn cost(&self) -> String {
        match *self {
            Scheme::Argon2 { cost, .. } => cost.to_string(),
            Scheme::Bcrypt { cost, .. } => format!("cost={cost}"),
            Scheme::Scrypt { log_n, r, p } | Scheme::Yescrypt { log_n, r, p } => {
                format!("N=2^{log_n},r={r},p={p}")
            }
            Scheme::Pbkdf2 { rounds, .. }
            | Scheme::Sha256Crypt { rounds }
            | Scheme::Sha512Crypt { rounds } => format!("rounds={rounds}"),
            Scheme::Md5Crypt | Scheme::Apr1 | Scheme::OneRound { .. } => String::new(),
        }
    }
}

impl Pbkdf2Digest {
    /// The length of an output, in bytes. Longer ones cost all rounds once more for each such block.
    pub(super) fn output_len(self) -> usize {
        match self {
            Pbkdf2Digest::Sha1 => 20,
            Pbkdf2Digest::Sha256 => 32,
            Pbkdf2Digest::Sha384 => 48,
            Pbkdf2Digest::Sha512 => 64,
        }
    }
}

impl RoundDigest {
    /// The length of its output, in bytes.
    pub(super) fn output_len(self) -> usize {
        match self {
            RoundDigest::Md5 => 16,
            RoundDigest::Sha1 => 20,
            RoundDigest::Sha256 => 32,
            RoundDigest::Sha512 => 64,
        }
    }
}

/// N·r·p.
fn blocks(log_n: u8, r: u32, p: u32) -> u64 {
    let n = 1_u64.checked_shl(log_n.into()).unwrap_or(u64::MAX);
    n.saturating_mul(r.into()).saturating_mul(p.into())
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name(), self.cost())
    }
}
