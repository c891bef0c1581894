//! A stored password: an argon2id PHC string whose cost is checked before it may be verified.
//!
//! Floor and defaults follow the OWASP password storage recommendations and RFC 9106. Upper bounds keep a hostile or
//! mistyped hash from taking the whole machine at each login.

use std::collections::TryReserveError;
use std::fmt;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::password::Password;

const SALT_BYTES: usize = 16;
const OUTPUT_BYTES: usize = 32;

/// Memory in KiB and passes; a cost that reaches both numbers of one row is strong enough, whatever its lanes.
const MIN_COSTS: [(u32, u32); 5] = [(47_104, 1), (19_456, 2), (12_288, 3), (9_216, 4), (7_168, 5)];

const MAX_MEMORY_KIB: u32 = 1024 * 1024;
const MAX_PASSES: u32 = 10;
const MAX_LANES: u32 = 16;

/// What one run of a hash costs. Two hashes of one cost take the same time.
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
    /// What new passwords get: m=19456 (19 MiB), t=2, p=1.
    pub const DEFAULT: HashCost = HashCost { memory_kib: 19_456, passes: 2, lanes: 1 };

    /// Whether a stolen hash of this cost is too cheap to guess at.
    pub fn is_weak(self) -> bool {
        !MIN_COSTS.iter().any(|&(memory, passes)| self.memory_kib >= memory && self.passes >= passes)
    }

    fn is_excessive(self) -> bool {
        self.memory_kib > MAX_MEMORY_KIB || self.passes > MAX_PASSES || self.lanes > MAX_LANES
    }
}

impl fmt::Display for HashCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m={},t={},p={}", self.memory_kib, self.passes, self.lanes)
    }
}

/// An argon2id hash that is well-formed and within the bounds.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    phc: String,
    cost: HashCost,
    salt: Vec<u8>,
    output: Vec<u8>,
}

impl PasswordHash {
    /// Reads a PHC string such as `$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH`.
    pub fn parse(phc: &str) -> Result<Self, PasswordHashError> {
        if phc.is_empty() {
            return Err(PasswordHashError::Empty);
        }
        let parsed = argon2::PasswordHash::new(phc).map_err(|_| PasswordHashError::Malformed)?;
        if parsed.algorithm != argon2::ARGON2ID_IDENT {
            return Err(PasswordHashError::NotArgon2id);
        }
        if parsed.version != Some(Version::V0x13.into()) {
            return Err(PasswordHashError::OldVersion);
        }
        let params = Params::try_from(&parsed).map_err(|_| PasswordHashError::Malformed)?;
        let (Some(salt), Some(output)) = (parsed.salt, parsed.hash) else {
            return Err(PasswordHashError::Malformed);
        };
        if !params.keyid().is_empty() || !params.data().is_empty() {
            return Err(PasswordHashError::Malformed);
        }
        let cost = HashCost { memory_kib: params.m_cost(), passes: params.t_cost(), lanes: params.p_cost() };
        if cost.is_excessive() {
            return Err(PasswordHashError::Excessive(cost));
        }
        Ok(Self { phc: phc.to_owned(), cost, salt: salt.to_vec(), output: output.as_bytes().to_vec() })
    }

    /// Hashes a new password at [`HashCost::DEFAULT`] with a random salt. Takes some 20 ms and 19 MiB.
    pub fn create(password: &Password) -> Result<Self, HashFailed> {
        Self::create_at(HashCost::DEFAULT, password)
    }

    pub(super) fn create_at(cost: HashCost, password: &Password) -> Result<Self, HashFailed> {
        let mut salt = [0; SALT_BYTES];
        rand::fill(&mut salt).map_err(|_| HashFailed::Random)?;
        let mut output = [0; OUTPUT_BYTES];
        run(cost, password, &salt, &mut output, &mut HashMemory::default())?;
        Ok(Self::assemble(cost, &salt, &output))
    }

    /// A hash that no password has, as expensive to verify as any other of that cost: what an unknown user is verified against.
    pub(super) fn decoy(cost: HashCost) -> Self {
        // No secret: nobody can find a password for a hash that was not made from one.
        Self::assemble(cost, &[0; SALT_BYTES], &[0; OUTPUT_BYTES])
    }

    fn assemble(cost: HashCost, salt: &[u8], output: &[u8]) -> Self {
        let phc = format!(
            "$argon2id$v=19${cost}${}${}",
            STANDARD_NO_PAD.encode(salt),
            STANDARD_NO_PAD.encode(output)
        );
        Self { phc, cost, salt: salt.to_vec(), output: output.to_vec() }
    }

    /// Whether `password` is the one. Compares in constant time.
    pub(super) fn verify(&self, password: &Password, memory: &mut HashMemory) -> Result<bool, HashFailed> {
        let mut output = vec![0; self.output.len()];
        run(self.cost, password, &self.salt, &mut output, memory)?;
        Ok(verify_slices_are_equal(&output, &self.output).is_ok())
    }

    /// Why a stolen hash would be guessed too soon, if it would: it should be made anew, yet it works.
    pub fn weakness(&self) -> Option<String> {
        if self.cost.is_weak() {
            Some(format!("its cost {} is below the floor {}", self.cost, HashCost::DEFAULT))
        } else if self.salt.len() < SALT_BYTES {
            Some(format!("its salt has fewer than {SALT_BYTES} bytes"))
        } else {
            None
        }
    }

    /// What verifying costs.
    pub fn cost(&self) -> HashCost {
        self.cost
    }

    /// The PHC string. Keep it out of logs and answers.
    pub fn as_phc(&self) -> &str {
        &self.phc
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PasswordHash(argon2id {}, …)", self.cost)
    }
}

fn run(
    cost: HashCost,
    password: &Password,
    salt: &[u8],
    output: &mut [u8],
    memory: &mut HashMemory,
) -> Result<(), HashFailed> {
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(output.len()))?;
    let blocks = memory.blocks(params.block_count())?;
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into_with_memory(
        password.as_bytes(),
        salt,
        output,
        blocks,
    )?;
    memory.shrink();
    Ok(())
}

/// The memory argon2 fills, kept from one hash to the next so that a process under load does not grow and shrink by
/// 19 MiB a login.
#[derive(Default)]
pub(super) struct HashMemory(Vec<Block>);

impl HashMemory {
    /// Blocks (of 1 KiB) that stay allocated between hashes; what a rare costlier hash needs beyond is given back.
    const KEPT_BLOCKS: usize = 64 * 1024;

    fn blocks(&mut self, count: usize) -> Result<&mut [Block], TryReserveError> {
        if self.0.len() < count {
            self.0.try_reserve_exact(count - self.0.len())?;
            self.0.resize(count, Block::default());
        }
        Ok(&mut self.0[..count])
    }

    fn shrink(&mut self) {
        if self.0.len() > Self::KEPT_BLOCKS {
            *self = Self::default();
        }
    }
}

/// Why a text is not a usable password hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordHashError {
    /// Nothing is there.
    #[error("the password hash is empty")]
    Empty,
    /// Not the PHC string format, a field is missing, or a parameter is impossible.
    #[error("not a well-formed argon2id PHC string")]
    Malformed,
    /// Another algorithm: argon2i, argon2d, bcrypt, scrypt, ...
    #[error("the hash is not argon2id")]
    NotArgon2id,
    /// Version 16, or none named, which means the same.
    #[error("the hash is not of argon2 version 19 (v=19)")]
    OldVersion,
    /// A cost that would exhaust the machine.
    #[error("the cost {0} is above the bounds m=1048576 (1 GiB), t=10, p=16")]
    Excessive(HashCost),
}

/// A hash could not be computed: this says nothing about the password.
#[derive(Debug, thiserror::Error)]
pub enum HashFailed {
    /// The system gave no random salt.
    #[error("the system gave no random bytes")]
    Random,
    /// Too little memory for the hash.
    #[error("no memory for the hash: {0}")]
    Memory(#[from] TryReserveError),
    /// argon2 refused its input.
    #[error("argon2: {0}")]
    Argon2(#[from] argon2::Error),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const SALT_AND_HASH: &str = "AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    const TEST_COST: HashCost = HashCost { memory_kib: 64, passes: 1, lanes: 1 };

    fn password(text: &str) -> Password {
        Password::new(text).unwrap()
    }

    fn cost(memory_kib: u32, passes: u32, lanes: u32) -> HashCost {
        HashCost { memory_kib, passes, lanes }
    }

    #[test]
    fn a_created_hash_verifies_its_password_and_no_other() {
        let hash = PasswordHash::create(&password("correct horse")).unwrap();
        assert!(hash.as_phc().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.as_phc());
        let reread = PasswordHash::parse(hash.as_phc()).unwrap();
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
        assert_ne!(a.as_phc(), b.as_phc());
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
        memory.blocks(HashMemory::KEPT_BLOCKS + 1).unwrap();
        memory.shrink();
        assert_eq!(memory.0.capacity(), 0);
    }

    #[test]
    fn nothing_verifies_against_a_decoy_of_the_same_cost() {
        let decoy = PasswordHash::decoy(TEST_COST);
        assert_eq!(PasswordHash::parse(decoy.as_phc()).unwrap(), decoy);
        assert!(!decoy.verify(&password(""), &mut HashMemory::default()).unwrap());
        assert_eq!(decoy.cost(), TEST_COST);
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
        use PasswordHashError::*;
        for (head, reason) in [
            ("$argon2i$v=19$m=19456,t=2,p=1", NotArgon2id),
            ("$argon2d$v=19$m=19456,t=2,p=1", NotArgon2id),
            ("$argon2id$v=16$m=19456,t=2,p=1", OldVersion),
            ("$argon2id$m=19456,t=2,p=1", OldVersion),
            ("$argon2id$v=19$m=1048577,t=2,p=1", Excessive(cost(1_048_577, 2, 1))),
            ("$argon2id$v=19$m=19456,t=11,p=1", Excessive(cost(19_456, 11, 1))),
            ("$argon2id$v=19$m=19456,t=2,p=17", Excessive(cost(19_456, 2, 17))),
            ("$argon2id$v=19$m=4294967295,t=4294967295,p=1", Excessive(cost(u32::MAX, u32::MAX, 1))),
            ("$argon2id$v=19$m=4,t=2,p=1", Malformed),
            ("$argon2id$v=19$m=19456,t=0,p=1", Malformed),
            ("$argon2id$v=19$m=19456,t=2,p=0", Malformed),
            ("$argon2id$v=19$m=99999999999,t=2,p=1", Malformed),
            ("$argon2id$v=19$m=19456,t=2,p=1,keyid=AAAA", Malformed),
            ("argon2id$v=19$m=19456,t=2,p=1", Malformed),
        ] {
            let phc = format!("{head}${SALT_AND_HASH}");
            assert_eq!(PasswordHash::parse(&phc).unwrap_err(), reason, "{head}");
        }
        for (phc, reason) in [
            ("", Empty),
            ("hunter2", Malformed),
            ("$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW", Malformed),
            ("$argon2id$v=19$m=19456,t=2,p=1", Malformed),
            ("$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA", Malformed),
        ] {
            assert_eq!(PasswordHash::parse(phc).unwrap_err(), reason, "{phc}");
        }
    }

    #[test]
    fn debug_output_keeps_salt_and_hash_to_itself() {
        let hash = PasswordHash::decoy(HashCost::DEFAULT);
        assert_eq!(format!("{hash:?}"), "PasswordHash(argon2id m=19456,t=2,p=1, …)");
    }
}
