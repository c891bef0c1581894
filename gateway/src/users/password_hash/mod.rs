//! Stored password hashes: scheme and cost are parsed and bounded before a hash is verified.
//!
//! New passwords get argon2id. Hashes of other programs are verified as they are: see [`Scheme`].

mod format;
mod md5_crypt;
mod one_round;
mod scheme;

use std::collections::{BTreeMap, TryReserveError};
use std::fmt;
use std::num::NonZeroU32;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::{hmac, pbkdf2, rand};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha_crypt::PasswordVerifier as _;

use self::scheme::Salting;
pub use self::scheme::{Pbkdf2Digest, Prehash, Scheme};
use super::name::hex;
use super::password::Password;

const SALT_BYTES: usize = 16;
const OUTPUT_BYTES: usize = 32;
/// Length of a salt that begins with the fingerprint of the hash it replaced (see [`PasswordHash::rehash`]).
const REHASH_SALT_BYTES: usize = 32;
/// With less salt, a fingerprint would let passwords be guessed fast.
const MIN_FINGERPRINT_SALT_BYTES: usize = 6;

/// OWASP's minimum costs: memory in KiB and passes; a cost that reaches both numbers of one row is strong
/// enough.
const MIN_COSTS: [(u32, u32); 5] = [(47_104, 1), (19_456, 2), (12_288, 3), (9_216, 4), (7_168, 5)];

/// The cost of an argon2 hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HashCost {
    /// `m`, in KiB.
    pub memory_kib: u32,
    /// `t`
    pub passes: u32,
    /// `p`
    pub lanes: u32,
}

impl HashCost {
    /// The cost of new passwords: m=19456 (19 MiB), t=2, p=1.
    pub const DEFAULT: HashCost = HashCost { memory_kib: 19_456, passes: 2, lanes: 1 };

    /// Whether a stolen hash of this cost is too cheap to guess.
    pub fn is_weak(self) -> bool {
        !MIN_COSTS.iter().any(|&(memory, passes)| self.memory_kib >= memory && self.passes >= passes)
    }
}

impl fmt::Display for HashCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m={},t={},p={}", self.memory_kib, self.passes, self.lanes)
    }
}

/// A well-formed hash within the cost bounds.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    /// The stored text.
    text: String,
    scheme: Scheme,
    check: Check,
}

/// What a password is compared with.
#[derive(Clone, PartialEq, Eq)]
enum Check {
    /// The output of a key derivation.
    Derived { salt: Vec<u8>, output: Vec<u8> },
    /// A crypt(5) text, which its crate parses itself.
    Crypt(String),
}

impl PasswordHash {
    /// Parses a hash in any of the formats of the [`Scheme`]s, such as
    /// `$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH`.
    ///
    /// # Errors
    ///
    /// It is of no known scheme, malformed, or above the cost bounds.
    pub fn parse(text: &str) -> Result<Self, PasswordHashError> {
        if text.is_empty() {
            return Err(PasswordHashError::Empty);
        }
        let (scheme, check) = format::parse(text)?;
        if scheme.is_excessive() {
            return Err(PasswordHashError::Excessive(scheme));
        }
        Ok(Self { text: text.to_owned(), scheme, check })
    }

    /// Hashes a new password at [`HashCost::DEFAULT`] with a random salt. Takes some 20 ms and 19 MiB.
    pub fn create(password: &Password) -> Result<Self, HashFailed> {
        Self::create_at(HashCost::DEFAULT, password)
    }

    pub(super) fn create_at(cost: HashCost, password: &Password) -> Result<Self, HashFailed> {
        Self::create_with(cost, password, random_salt()?.to_vec(), &mut HashMemory::default())
    }

    fn create_with(
        cost: HashCost,
        password: &Password,
        salt: Vec<u8>,
        memory: &mut HashMemory,
    ) -> Result<Self, HashFailed> {
        let mut output = vec![0; OUTPUT_BYTES];
        argon2(Algorithm::Argon2id, Version::V0x13, cost, password.as_bytes(), &salt, &mut output, memory)?;
        let text = format!(
            "$argon2id$v=19${cost}${}${}",
            STANDARD_NO_PAD.encode(&salt),
            STANDARD_NO_PAD.encode(&output)
        );
        Ok(Self { text, scheme: Scheme::argon2id(cost), check: Check::Derived { salt, output } })
    }

    /// Rehashes a password that was just verified against this hash as argon2id at `cost`. The
    /// [`fingerprint`](PasswordHash::fingerprint) stays the same, so no session ends, except where the old
    /// hash has hardly any salt.
    ///
    /// # Errors
    ///
    /// There is no memory or no randomness.
    pub(super) fn rehash(
        &self,
        cost: HashCost,
        password: &Password,
        memory: &mut HashMemory,
    ) -> Result<Self, HashFailed> {
        let mut salt = random_salt()?.to_vec();
        if self.salt_bytes() >= MIN_FINGERPRINT_SALT_BYTES {
            salt.splice(0..0, self.fingerprint());
        }
        Self::create_with(cost, password, salt, memory)
    }

    /// Whether a rehash to argon2id at `cost` would change anything.
    pub(super) fn needs_rehash(&self, cost: HashCost) -> bool {
        self.scheme != Scheme::argon2id(cost)
    }

    /// A value that changes with the password and reveals nothing about it: 16 bytes of SHA-256 of the text,
    /// or what a rehash has kept of them in its longer salt.
    pub fn fingerprint(&self) -> [u8; 16] {
        let mut fingerprint = [0; 16];
        match (&self.scheme, &self.check) {
            (Scheme::Argon2 { .. }, Check::Derived { salt, .. }) if salt.len() == REHASH_SALT_BYTES => {
                fingerprint.copy_from_slice(&salt[..16]);
            }
            _ => fingerprint.copy_from_slice(&digest(&SHA256, self.text.as_bytes()).as_ref()[..16]),
        }
        fingerprint
    }

    /// A decoy that no password matches, as expensive to verify as any other hash of that scheme: unknown
    /// users are verified against it.
    pub(super) fn decoy(scheme: Scheme) -> Self {
        // Not derived from a password, so none can be found for it.
        Self::parse(&format::decoy(scheme)).unwrap_or_else(|_| {
            let check = Check::Derived { salt: vec![0; SALT_BYTES], output: vec![0; OUTPUT_BYTES] };
            Self { text: String::new(), scheme: Scheme::argon2id(HashCost::DEFAULT), check }
        })
    }

    /// Whether `password` matches. Compares in constant time.
    pub(super) fn verify(&self, password: &Password, memory: &mut HashMemory) -> Result<bool, HashFailed> {
        let password = password.as_bytes();
        match &self.check {
            Check::Derived { salt, output } => self.derive(password, salt, output, memory),
            Check::Crypt(text) => Ok(self.verify_crypt(password, text)),
        }
    }

    fn derive(
        &self,
        password: &[u8],
        salt: &[u8],
        output: &[u8],
        memory: &mut HashMemory,
    ) -> Result<bool, HashFailed> {
        let mut derived = vec![0; output.len()];
        match self.scheme {
            Scheme::Argon2 { algorithm, version, cost } => {
                argon2(algorithm, version, cost, password, salt, &mut derived, memory)?;
            }
            Scheme::Scrypt { log_n, r, p } => {
                let params = scrypt::Params::new(log_n, r, p).map_err(|_| HashFailed::Parameters)?;
                scrypt::scrypt(password, salt, &params, &mut derived).map_err(|_| HashFailed::Parameters)?;
            }
            Scheme::Pbkdf2 { digest, rounds } => {
                let algorithm = match digest {
                    Pbkdf2Digest::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
                    Pbkdf2Digest::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
                    Pbkdf2Digest::Sha384 => pbkdf2::PBKDF2_HMAC_SHA384,
                    Pbkdf2Digest::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
                };
                let rounds = NonZeroU32::new(rounds).ok_or(HashFailed::Parameters)?;
                pbkdf2::derive(algorithm, rounds, salt, password, &mut derived);
            }
            Scheme::Md5Crypt => derived = md5_crypt::md5_crypt(password, salt, b"$1$"),
            Scheme::Apr1 => derived = md5_crypt::md5_crypt(password, salt, b"$apr1$"),
            Scheme::OneRound { digest, salting } => {
                if salting == Salting::Keyed {
                    let keyed = one_round::keyed(digest, salt, password);
                    if verify_slices_are_equal(&keyed, output).is_ok() {
                        return Ok(true);
                    }
                }
                let salt_first = salting == Salting::Keyed;
                let text = if salt_first { [salt, password] } else { [password, salt] }.concat();
                derived = one_round::plain(digest, &text);
            }
            Scheme::Bcrypt { .. }
            | Scheme::Sha256Crypt { .. }
            | Scheme::Sha512Crypt { .. }
            | Scheme::Yescrypt { .. } => return Err(HashFailed::Parameters),
        }
        Ok(verify_slices_are_equal(&derived, output).is_ok())
    }

    fn verify_crypt(&self, password: &[u8], text: &str) -> bool {
        match self.scheme {
            Scheme::Bcrypt { prehash, .. } => {
                let prehashed = match prehash {
                    Prehash::None => password.to_vec(),
                    Prehash::Sha256Hex => hex(digest(&SHA256, password).as_ref()).into_bytes(),
                    Prehash::Sha256Base64 => STANDARD.encode(digest(&SHA256, password)).into_bytes(),
                    Prehash::HmacSha256Base64 => {
                        let salt = text.get(7..29).unwrap_or_default();
                        let key = hmac::Key::new(hmac::HMAC_SHA256, salt.as_bytes());
                        STANDARD.encode(hmac::sign(&key, password)).into_bytes()
                    }
                };
                bcrypt::verify(prehashed, text).unwrap_or(false)
            }
            Scheme::Yescrypt { .. } => yescrypt::Yescrypt::default().verify_password(password, text).is_ok(),
            _ => sha_crypt::ShaCrypt::default().verify_password(password, text).is_ok(),
        }
    }

    /// Why a stolen hash would be too cheap to guess, if it would; it still works.
    pub fn weakness(&self) -> Option<String> {
        self.scheme.weakness().or_else(|| {
            let short = matches!(self.scheme, Scheme::Argon2 { .. }) && self.salt_bytes() < SALT_BYTES;
            short.then(|| format!("its salt has fewer than {SALT_BYTES} bytes"))
        })
    }

    /// Length of the salt in bytes; for crypt(5) texts, whose schemes all have enough, the minimum.
    fn salt_bytes(&self) -> usize {
        match &self.check {
            Check::Derived { salt, .. } => salt.len(),
            Check::Crypt(_) => MIN_FINGERPRINT_SALT_BYTES,
        }
    }

    /// The scheme with its cost.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The stored text. Keep it out of logs and responses.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PasswordHash({}, …)", self.scheme)
    }
}

/// The number of hashes of each scheme.
pub(super) fn count_schemes(schemes: impl IntoIterator<Item = Scheme>) -> BTreeMap<Scheme, usize> {
    let mut counts = BTreeMap::new();
    for scheme in schemes {
        *counts.entry(scheme).or_insert(0) += 1;
    }
    counts
}

/// The scheme of most hashes, which decoys use; the more expensive of two equally common ones, and that of
/// new passwords where there are none.
pub(super) fn most_common_scheme(counts: &BTreeMap<Scheme, usize>) -> Scheme {
    let most_common = counts.iter().max_by_key(|&(scheme, count)| (*count, *scheme));
    most_common.map_or(Scheme::argon2id(HashCost::DEFAULT), |(scheme, _)| *scheme)
}

fn random_salt() -> Result<[u8; SALT_BYTES], HashFailed> {
    let mut salt = [0; SALT_BYTES];
    rand::fill(&mut salt).map_err(|_| HashFailed::Random)?;
    Ok(salt)
}

fn argon2(
    algorithm: Algorithm,
    version: Version,
    cost: HashCost,
    password: &[u8],
    salt: &[u8],
    output: &mut [u8],
    memory: &mut HashMemory,
) -> Result<(), HashFailed> {
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(output.len()))?;
    let blocks = memory.blocks(params.block_count())?;
    Argon2::new(algorithm, version, params).hash_password_into_with_memory(password, salt, output, blocks)?;
    memory.shrink();
    Ok(())
}

/// argon2's memory, kept between hashes so that a process under load does not grow and shrink by 19 MiB per
/// login.
#[derive(Default)]
pub(super) struct HashMemory(Vec<Block>);

impl HashMemory {
    /// Maximum number of blocks (of 1 KiB) that stay allocated between hashes.
    const MAX_CACHED_BLOCKS: usize = 64 * 1024;

    fn blocks(&mut self, count: usize) -> Result<&mut [Block], TryReserveError> {
        if self.0.len() < count {
            self.0.try_reserve_exact(count - self.0.len())?;
            self.0.resize(count, Block::default());
        }
        Ok(&mut self.0[..count])
    }

    fn shrink(&mut self) {
        if self.0.len() > Self::MAX_CACHED_BLOCKS {
            *self = Self::default();
        }
    }
}

/// Why a text is not a usable password hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordHashError {
    /// It is empty.
    #[error("the password hash is empty")]
    Empty,
    /// A field is missing, or a parameter is impossible.
    #[error("the password hash is not well-formed")]
    Malformed,
    /// Another algorithm, or no hash at all.
    #[error(
        "not a password hash of a known kind (argon2, bcrypt, scrypt, PBKDF2, SHA-crypt or yescrypt in the forms of werkzeug, \
         Django, passlib, htpasswd or crypt)"
    )]
    Unknown,
    /// A cost that would exhaust the machine.
    #[error(
        "the cost of {0} is above the bounds (argon2 m=1048576,t=10,p=16; bcrypt cost=16; scrypt and yescrypt N·r·p=2^23; \
         PBKDF2 10000000 and SHA-crypt 5000000 rounds)"
    )]
    Excessive(Scheme),
}

/// A hash could not be computed: this says nothing about the password.
#[derive(Debug, thiserror::Error)]
pub enum HashFailed {
    /// The system returned no random salt.
    #[error("the system gave no random bytes")]
    Random,
    /// Too little memory for the hash.
    #[error("no memory for the hash: {0}")]
    Memory(#[from] TryReserveError),
    /// argon2 rejected its input.
    #[error("argon2: {0}")]
    Argon2(#[from] argon2::Error),
    /// Parameters that the algorithm does not accept.
    #[error("parameters that the algorithm does not take")]
    Parameters,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::scheme::RoundDigest;
    use super::*;

    const SALT_AND_HASH: &str = "AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    const TEST_COST: HashCost = HashCost { memory_kib: 64, passes: 1, lanes: 1 };

    fn password(text: &str) -> Password {
        Password::new(text).unwrap()
    }

    fn one_round(digest: RoundDigest, salting: Salting) -> Scheme {
        Scheme::OneRound { digest, salting }
    }

    fn cost(memory_kib: u32, passes: u32, lanes: u32) -> HashCost {
        HashCost { memory_kib, passes, lanes }
    }

    #[test]
    fn a_created_hash_verifies_its_password_and_no_other() {
        let hash = PasswordHash::create(&password("correct horse")).unwrap();
        assert!(hash.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.as_str());
        let reread = PasswordHash::parse(hash.as_str()).unwrap();
        let memory = &mut HashMemory::default();
        assert!(reread.verify(&password("correct horse"), memory).unwrap());
        assert!(!reread.verify(&password("correct horse "), memory).unwrap());
        assert!(!reread.verify(&password("Correct horse"), memory).unwrap());
    }

    #[test]
    fn a_hash_made_elsewhere_verifies() {
        // From the reference implementation: echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1 -e
        let phc = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        let hash = PasswordHash::parse(phc).unwrap();
        assert!(hash.verify(&password("password"), &mut HashMemory::default()).unwrap());
        assert_eq!(hash.weakness().as_deref(), Some("its salt has fewer than 16 bytes"));
    }

    #[test]
    fn two_hashes_of_one_password_differ_by_their_salt() {
        let a = PasswordHash::create_at(TEST_COST, &password("x")).unwrap();
        let b = PasswordHash::create_at(TEST_COST, &password("x")).unwrap();
        assert_ne!(a.as_str(), b.as_str());
    }

    #[test]
    fn memory_that_was_used_before_changes_no_result() {
        let small = PasswordHash::create_at(TEST_COST, &password("x")).unwrap();
        let large = PasswordHash::create_at(cost(256, 1, 1), &password("x")).unwrap();
        let memory = &mut HashMemory::default();
        for hash in [&small, &large, &small] {
            assert!(hash.verify(&password("x"), memory).unwrap());
        }
    }

    #[test]
    fn memory_beyond_what_is_kept_is_given_back() {
        let mut memory = HashMemory::default();
        memory.blocks(HashMemory::MAX_CACHED_BLOCKS + 1).unwrap();
        memory.shrink();
        assert_eq!(memory.0.capacity(), 0);
    }

    #[test]
    fn nothing_verifies_against_a_decoy_of_the_same_cost() {
        let decoy = PasswordHash::decoy(Scheme::argon2id(TEST_COST));
        assert_eq!(PasswordHash::parse(decoy.as_str()).unwrap(), decoy);
        assert!(!decoy.verify(&password(""), &mut HashMemory::default()).unwrap());
        assert_eq!(decoy.scheme(), Scheme::argon2id(TEST_COST));
    }

    #[test]
    fn costs_below_the_floor_are_weak() {
        for strong in
            [(19_456, 2, 1), (47_104, 1, 1), (12_288, 3, 1), (9_216, 4, 1), (7_168, 5, 1), (65_536, 3, 4)]
        {
            assert!(!cost(strong.0, strong.1, strong.2).is_weak(), "{strong:?}");
        }
        for weak in
            [(19_455, 2, 1), (47_103, 1, 1), (12_287, 3, 1), (7_167, 10, 1), (4_096, 3, 1), (19_456, 1, 4)]
        {
            assert!(cost(weak.0, weak.1, weak.2).is_weak(), "{weak:?}");
        }
    }

    #[test]
    fn hashes_that_cannot_be_used_are_refused_with_the_reason() {
        let argon2id = |memory, passes, lanes| Scheme::argon2id(cost(memory, passes, lanes));
        for (head, reason) in [
            ("$argon2id$v=18$m=19456,t=2,p=1", PasswordHashError::Malformed),
            ("$argon2id$v=19$m=1048577,t=2,p=1", PasswordHashError::Excessive(argon2id(1_048_577, 2, 1))),
            ("$argon2id$v=19$m=19456,t=11,p=1", PasswordHashError::Excessive(argon2id(19_456, 11, 1))),
            ("$argon2id$v=19$m=19456,t=2,p=17", PasswordHashError::Excessive(argon2id(19_456, 2, 17))),
            ("$argon2id$v=19$m=4,t=2,p=1", PasswordHashError::Malformed),
            ("$argon2id$v=19$m=19456,t=0,p=1", PasswordHashError::Malformed),
            ("$argon2id$v=19$m=19456,t=2,p=0", PasswordHashError::Malformed),
            ("$argon2id$v=19$m=99999999999,t=2,p=1", PasswordHashError::Malformed),
            ("$argon2id$v=19$m=19456,t=2,p=1,keyid=AAAA", PasswordHashError::Malformed),
            ("argon2id$v=19$m=19456,t=2,p=1", PasswordHashError::Unknown),
        ] {
            let phc = format!("{head}${SALT_AND_HASH}");
            assert_eq!(PasswordHash::parse(&phc).unwrap_err(), reason, "{head}");
        }
        let dots = ".".repeat(86);
        let zeros = "00".repeat(32);
        for excessive in [
            format!("$2b$17${}", &dots[..53]),
            format!("scrypt:16777216:8:1$salt${zeros}"),
            format!("scrypt:32768:8:4096$salt${zeros}"),
            format!("pbkdf2:sha256:10000001$salt${zeros}"),
            format!("$5$rounds=5000001$salt${}", &dots[..43]),
            format!("$6$rounds=999999999$salt${dots}"),
            format!("$y$jGT$salt${}", &dots[..43]),
        ] {
            let error = PasswordHash::parse(&excessive).unwrap_err();
            assert!(matches!(error, PasswordHashError::Excessive(_)), "{excessive}: {error}");
        }
        assert_eq!(PasswordHash::parse("").unwrap_err(), PasswordHashError::Empty);
        for malformed in [
            "$argon2id$v=19$m=19456,t=2,p=1".to_owned(),
            "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA".to_owned(),
            format!("$2b$12${}", &dots[..52]),
            format!("$2b$03${}", &dots[..53]),
            "scrypt:32768:8:1$salt$".to_owned(),
            format!("scrypt:32769:8:1$salt${zeros}"),
            format!("scrypt:32768:8:1$salt${}zz", zeros),
            format!("pbkdf2:sha256:0$salt${zeros}"),
            format!("pbkdf2:sha256:1000$salt${zeros}0"),
            "pbkdf2_sha256$1000$salt".to_owned(),
            format!("$6$salt${}", &dots[..85]),
            format!("$6$rounds=999$salt${dots}"),
            "$apr1$salt$short".to_owned(),
            "{SHA}AAAA".to_owned(),
            "md5$salt$00".to_owned(),
            format!("sha256$salt${zeros}00"),
            format!("sha256$${zeros}"),
            // More than one block would cost all rounds again for each.
            format!("pbkdf2:sha256:10000000$salt${zeros}00"),
            format!("pbkdf2:sha1:10000000$salt${}", "00".repeat(256)),
        ] {
            assert_eq!(
                PasswordHash::parse(&malformed).unwrap_err(),
                PasswordHashError::Malformed,
                "{malformed}"
            );
        }
        for unknown in ["hunter2", "$2x$12$", "$3$$AAAA", "pbkdf2:md5:1$s$00", "plain$x", "!", "*"] {
            assert_eq!(PasswordHash::parse(unknown).unwrap_err(), PasswordHashError::Unknown, "{unknown}");
        }
    }

    #[test]
    fn prefixes_of_directories_have_no_case() {
        let bcrypt = "$2y$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK";
        for prefix in ["{CRYPT}", "{crypt}", "{Crypt}", "{BLF-CRYPT}"] {
            let hash = PasswordHash::parse(&format!("{prefix}{bcrypt}")).unwrap();
            assert_eq!(hash.scheme().name(), "bcrypt", "{prefix}");
        }
        for unknown in
            ["{CRYPT}", "{CRYPT}hunter2", "{CLEAR}hunter2", "{PLAIN}", "{}", "{", "{SASL}alice@EXAMPLE"]
        {
            assert_eq!(PasswordHash::parse(unknown).unwrap_err(), PasswordHashError::Unknown, "{unknown}");
        }
    }

    #[test]
    fn a_decoy_of_any_scheme_is_of_that_scheme_and_verifies_nothing() {
        for text in [
            "$argon2i$v=16$m=64,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "$2y$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK",
            "$y$j9T$AAAAAAAAAAAAAAAAAAAAA.$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.",
        ] {
            let scheme = PasswordHash::parse(text).unwrap().scheme();
            assert_eq!(PasswordHash::decoy(scheme).scheme(), scheme);
        }
        for scheme in [
            Scheme::argon2id(TEST_COST),
            Scheme::Bcrypt { cost: 4, prehash: Prehash::None },
            Scheme::Bcrypt { cost: 4, prehash: Prehash::Sha256Hex },
            Scheme::Bcrypt { cost: 4, prehash: Prehash::Sha256Base64 },
            Scheme::Bcrypt { cost: 4, prehash: Prehash::HmacSha256Base64 },
            Scheme::Scrypt { log_n: 5, r: 8, p: 1 },
            Scheme::Pbkdf2 { digest: Pbkdf2Digest::Sha1, rounds: 10 },
            Scheme::Pbkdf2 { digest: Pbkdf2Digest::Sha256, rounds: 10 },
            Scheme::Pbkdf2 { digest: Pbkdf2Digest::Sha384, rounds: 10 },
            Scheme::Pbkdf2 { digest: Pbkdf2Digest::Sha512, rounds: 10 },
            Scheme::Sha256Crypt { rounds: 1000 },
            Scheme::Sha512Crypt { rounds: 1000 },
            Scheme::Yescrypt { log_n: 10, r: 8, p: 1 },
            Scheme::Md5Crypt,
            Scheme::Apr1,
            one_round(RoundDigest::Sha1, Salting::None),
            one_round(RoundDigest::Sha1, Salting::Last),
            one_round(RoundDigest::Sha256, Salting::Last),
            one_round(RoundDigest::Sha512, Salting::Last),
            one_round(RoundDigest::Md5, Salting::Keyed),
            one_round(RoundDigest::Sha1, Salting::Keyed),
            one_round(RoundDigest::Sha256, Salting::Keyed),
            one_round(RoundDigest::Sha512, Salting::Keyed),
        ] {
            let decoy = PasswordHash::decoy(scheme);
            assert_eq!(decoy.scheme(), scheme, "{}", decoy.as_str());
            assert!(!decoy.verify(&password(""), &mut HashMemory::default()).unwrap(), "{scheme}");
        }
    }

    #[test]
    fn a_rehash_is_of_the_same_password_and_keeps_the_fingerprint_for_good() {
        let memory = &mut HashMemory::default();
        let old = PasswordHash::parse("$apr1$abcdefgh$rNKF.RI/7Ra4dGVPHyZ5G.").unwrap();
        let new = old.rehash(TEST_COST, &password("x"), memory).unwrap();
        assert!(new.verify(&password("x"), memory).unwrap());
        assert_eq!(new.fingerprint(), old.fingerprint());
        assert_eq!(PasswordHash::parse(new.as_str()).unwrap().fingerprint(), old.fingerprint());
        assert!(!new.needs_rehash(TEST_COST) && old.needs_rehash(TEST_COST));
        let again = new.rehash(cost(128, 1, 1), &password("x"), memory).unwrap();
        assert_eq!(again.fingerprint(), old.fingerprint());
        assert_ne!(again.as_str(), new.rehash(cost(128, 1, 1), &password("x"), memory).unwrap().as_str());
    }

    #[test]
    fn the_fingerprint_of_an_unsalted_hash_is_in_no_rehash() {
        let old = PasswordHash::parse("{SHA}AAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
        let new = old.rehash(TEST_COST, &password("x"), &mut HashMemory::default()).unwrap();
        assert_ne!(new.fingerprint(), old.fingerprint(), "it would be a fast way to guess the password");
    }

    #[test]
    fn debug_output_keeps_salt_and_hash_to_itself() {
        let hash = PasswordHash::decoy(Scheme::argon2id(HashCost::DEFAULT));
        assert_eq!(format!("{hash:?}"), "PasswordHash(argon2id m=19456,t=2,p=1, …)");
    }
}
