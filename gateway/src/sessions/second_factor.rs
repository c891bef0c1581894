//! Second factors of users: what is enrolled, which codes count, and their records in the store.
//!
//! They are kept in the session store and not where users are: so they work for users of every source, and the
//! last used code is known to every instance. A code counts once, by compare-and-swap.

use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::record::Change;
use super::secret::{hash_text, random_bytes};
use super::store::{Key, Space, StoreError};
use super::totp::{self, base32, matching_step};
use super::{Sessions, UnixMillis};

/// How long an enrolment may be confirmed.
const ENROLMENT_TIME: Duration = Duration::from_secs(15 * 60);
/// How many recovery codes there are.
const RECOVERY_CODES: usize = 10;
/// The random bytes of a recovery code: 80 bits, so that its hash needs no salt.
const RECOVERY_LEN: usize = 10;

/// Encrypts the secrets of factors for the store.
pub struct Sealer(Option<RandomizedNonceKey>);

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(…)")
    }
}

/// A secret cannot be read: it was encrypted with another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the secret of a second factor was encrypted with another `mfa.secret`")]
pub struct Unsealable;

impl Sealer {
    /// With a secret of at least 32 bytes, or without encryption.
    pub fn new(secret: Option<&[u8]>) -> Sealer {
        let key = |secret: &[u8]| {
            let key = digest(&SHA256, &[b"auth-gateway mfa 1", secret].concat());
            RandomizedNonceKey::new(&AES_256_GCM, key.as_ref()).ok()
        };
        Sealer(secret.and_then(key))
    }

    /// The secret as it is stored for a user.
    fn seal(&self, subject: &str, secret: &[u8]) -> Result<String, Unsealable> {
        let Some(key) = &self.0 else { return Ok(format!("plain.{}", URL_SAFE_NO_PAD.encode(secret))) };
        let mut sealed = secret.to_vec();
        let nonce = key.seal_in_place_append_tag(Aad::from(subject.as_bytes()), &mut sealed);
        let nonce = nonce.map_err(|_| Unsealable)?;
        Ok(format!("aes.{}", URL_SAFE_NO_PAD.encode([&nonce.as_ref()[..], &sealed].concat())))
    }

    fn open(&self, subject: &str, stored: &str) -> Result<Vec<u8>, Unsealable> {
        let (kind, text) = stored.split_once('.').ok_or(Unsealable)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| Unsealable)?;
        match (kind, &self.0) {
            ("plain", _) => Ok(bytes),
            ("aes", Some(key)) => {
                let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN).ok_or(Unsealable)?;
                let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Unsealable)?;
                let mut sealed = sealed.to_vec();
                let opened = key.open_in_place(nonce, Aad::from(subject.as_bytes()), &mut sealed);
                opened.map(|secret| secret.to_vec()).map_err(|_| Unsealable)
            }
            _ => Err(Unsealable),
        }
    }
}

/// A factor of a user. Further kinds, such as passkeys, are further variants.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Factor {
    /// An app that shows codes.
    Totp {
        /// Sealed.
        secret: String,
        /// The time step of the last code that was used.
        last_step: u64,
    },
}

/// An enrolment that was begun.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Enrolment {
    factor: Factor,
    expires_at: UnixMillis,
}

/// The factors of a user, as they are stored.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Factors {
    factors: Vec<Factor>,
    enrolment: Option<Enrolment>,
    /// The hashes of the recovery codes that were not used.
    recovery: Vec<String>,
}

/// What a user has enrolled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct EnrolledFactors {
    /// Whether an app shows codes for the user.
    pub totp: bool,
    /// The number of recovery codes that were not used.
    pub recovery_codes: usize,
}

/// Why nothing came of a request about factors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FactorError {
    /// The code is wrong, or was used before.
    #[error("the code is wrong or was used before")]
    WrongCode,
    /// Nothing is enrolled, or no enrolment was begun.
    #[error("there is no such factor")]
    None,
    /// There is a factor already.
    #[error("there is a factor already")]
    Enrolled,
    /// The key is another one.
    #[error(transparent)]
    Unsealable(#[from] Unsealable),
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a person is given for an enrolment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSecret {
    /// In base32, as apps take it.
    pub secret: String,
    /// When the enrolment ends if it is not confirmed.
    pub expires_at: UnixMillis,
}

impl Factors {
    fn enrolled(&self) -> EnrolledFactors {
        EnrolledFactors { totp: !self.factors.is_empty(), recovery_codes: self.recovery.len() }
    }

    /// Uses a code of an app, or a recovery code. Returns whether it counts.
    fn redeem(
        &mut self,
        sealer: &Sealer,
        subject: &str,
        code: &str,
        now: UnixMillis,
    ) -> Result<(), FactorError> {
        if self.factors.is_empty() {
            return Err(FactorError::None);
        }
        let code = normalized(code);
        if code.len() != 6 {
            let hash = hash_text(&code);
            let place = self.recovery.iter().position(|kept| *kept == hash).ok_or(FactorError::WrongCode)?;
            self.recovery.remove(place);
            return Ok(());
        }
        for factor in &mut self.factors {
            match factor {
                Factor::Totp { secret, last_step } => {
                    let secret = sealer.open(subject, secret)?;
                    if let Some(step) = matching_step(&secret, &code, *last_step, now) {
                        *last_step = step;
                        return Ok(());
                    }
                }
            }
        }
        Err(FactorError::WrongCode)
    }

    /// Completes an enrolment by a first code.
    fn confirm(
        &mut self,
        sealer: &Sealer,
        subject: &str,
        code: &str,
        now: UnixMillis,
    ) -> Result<(), FactorError> {
        let begun = self.enrolment.clone().filter(|begun| now < begun.expires_at).ok_or(FactorError::None)?;
        if !self.factors.is_empty() {
            return Err(FactorError::Enrolled);
        }
        let mut new = Factors { factors: vec![begun.factor], ..Factors::default() };
        if normalized(code).len() != 6 {
            return Err(FactorError::WrongCode);
        }
        new.redeem(sealer, subject, code, now)?;
        *self = new;
        Ok(())
    }
}

/// A code as people type it, without blanks and hyphens, in capitals.
fn normalized(code: &str) -> String {
    code.chars().filter(|c| !c.is_whitespace() && *c != '-').map(|c| c.to_ascii_uppercase()).collect()
}

/// Recovery codes as people get them: four groups of four letters and digits.
fn new_recovery_codes() -> Vec<String> {
    let grouped = |code: String| {
        let groups: Vec<&str> = (0..code.len()).step_by(4).map(|at| &code[at..at + 4]).collect();
        groups.join("-")
    };
    (0..RECOVERY_CODES).map(|_| grouped(base32(&random_bytes::<RECOVERY_LEN>()))).collect()
}

fn key(subject: &str) -> Key {
    Key { space: Space::Factors, id: subject.to_owned() }
}

impl Sessions {
    /// What a user has enrolled.
    ///
    /// # Errors
    ///
    /// The store fails.
    pub async fn factors(&self, subject: &str) -> Result<EnrolledFactors, StoreError> {
        self.update(&key(subject), |found: Option<Factors>| (None, found.unwrap_or_default().enrolled()))
            .await
    }

    /// Changes the factors of a user, if `change` succeeds.
    async fn change_factors<T>(
        &self,
        subject: &str,
        change: impl Fn(&mut Factors) -> Result<T, FactorError>,
    ) -> Result<T, FactorError> {
        let key = key(subject);
        let changed = self.update(&key, |found: Option<Factors>| {
            let mut factors = found.unwrap_or_default();
            match change(&mut factors) {
                Ok(result) => {
                    let expires_at = UnixMillis::MAX;
                    let change = Change { record: factors, expires_at, group: None, revoked_until: None };
                    (Some(change), Ok(result))
                }
                Err(error) => (None, Err(error)),
            }
        });
        changed.await?
    }

    /// Begins the enrolment of an app, in place of one that was begun before.
    ///
    /// # Errors
    ///
    /// There is one already, or the store fails.
    pub async fn begin_totp(
        &self,
        subject: &str,
        sealer: &Sealer,
        now: UnixMillis,
    ) -> Result<NewSecret, FactorError> {
        let secret = random_bytes::<{ totp::SECRET_LEN }>();
        let factor = Factor::Totp { secret: sealer.seal(subject, &secret)?, last_step: 0 };
        let expires_at = now.saturating_add(ENROLMENT_TIME);
        self.change_factors(subject, |factors| {
            if !factors.factors.is_empty() {
                return Err(FactorError::Enrolled);
            }
            factors.enrolment = Some(Enrolment { factor: factor.clone(), expires_at });
            Ok(())
        })
        .await?;
        Ok(NewSecret { secret: base32(&secret), expires_at })
    }

    /// The secret of an enrolment that was begun, in base32.
    ///
    /// # Errors
    ///
    /// There is none, or the store fails.
    pub async fn begun_totp(
        &self,
        subject: &str,
        sealer: &Sealer,
        now: UnixMillis,
    ) -> Result<NewSecret, FactorError> {
        let found = self.update(&key(subject), |found: Option<Factors>| (None, found)).await?;
        let begun = found.and_then(|factors| factors.enrolment).filter(|begun| now < begun.expires_at);
        let Enrolment { factor: Factor::Totp { secret, .. }, expires_at } = begun.ok_or(FactorError::None)?;
        Ok(NewSecret { secret: base32(&sealer.open(subject, &secret)?), expires_at })
    }

    /// Completes an enrolment by a first code, and returns the recovery codes.
    ///
    /// # Errors
    ///
    /// The code is wrong, no enrolment was begun, or the store fails.
    pub async fn confirm_totp(
        &self,
        subject: &str,
        sealer: &Sealer,
        code: &str,
        now: UnixMillis,
    ) -> Result<Vec<String>, FactorError> {
        let codes = new_recovery_codes();
        self.change_factors(subject, |factors| {
            factors.confirm(sealer, subject, code, now)?;
            factors.recovery = codes.iter().map(|code| hash_text(&normalized(code))).collect();
            Ok(())
        })
        .await?;
        Ok(codes)
    }

    /// Uses a code of an app, or a recovery code; of several calls with one code, at most one succeeds. The
    /// caller limits the attempts.
    ///
    /// # Errors
    ///
    /// The code does not count, or the store fails.
    pub async fn redeem_code(
        &self,
        subject: &str,
        sealer: &Sealer,
        code: &str,
        now: UnixMillis,
    ) -> Result<(), FactorError> {
        self.change_factors(subject, |factors| factors.redeem(sealer, subject, code, now)).await
    }

    /// Replaces the recovery codes.
    ///
    /// # Errors
    ///
    /// Nothing is enrolled, or the store fails.
    pub async fn renew_recovery_codes(&self, subject: &str) -> Result<Vec<String>, FactorError> {
        let codes = new_recovery_codes();
        self.change_factors(subject, |factors| {
            if factors.factors.is_empty() {
                return Err(FactorError::None);
            }
            factors.recovery = codes.iter().map(|code| hash_text(&normalized(code))).collect();
            Ok(())
        })
        .await?;
        Ok(codes)
    }

    /// Removes all factors of a user. Returns whether there were any.
    ///
    /// # Errors
    ///
    /// The store fails.
    pub async fn remove_factors(&self, subject: &str) -> Result<bool, FactorError> {
        self.change_factors(subject, |factors| Ok(std::mem::take(factors).enrolled().totp)).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const NOW: UnixMillis = UnixMillis::new(1_234_567_890_000);
    /// RFC 6238 appendix B.
    const CODE: &str = "005924";

    fn enrolled(sealer: &Sealer) -> Factors {
        let secret = sealer.seal("1", b"12345678901234567890").unwrap();
        let recovery = vec![hash_text("ABCDEFGHIJKLMNOP")];
        Factors { factors: vec![Factor::Totp { secret, last_step: 0 }], enrolment: None, recovery }
    }

    #[test]
    fn each_code_counts_once_as_people_type_it() {
        let sealer = Sealer::new(None);
        let mut factors = enrolled(&sealer);
        for (code, expected) in [
            ("000000", Err(FactorError::WrongCode)),
            ("005 924", Ok(())),
            (CODE, Err(FactorError::WrongCode)),
            ("ABCD-EFGH-IJKL-MNOQ", Err(FactorError::WrongCode)),
            ("abcd-efgh ijkl-mnop", Ok(())),
            ("ABCD-EFGH-IJKL-MNOP", Err(FactorError::WrongCode)),
            ("", Err(FactorError::WrongCode)),
        ] {
            assert_eq!(factors.redeem(&sealer, "1", code, NOW), expected, "{code}");
        }
        assert_eq!(factors.enrolled(), EnrolledFactors { totp: true, recovery_codes: 0 });
        assert_eq!(Factors::default().redeem(&sealer, "1", CODE, NOW), Err(FactorError::None));
    }

    #[test]
    fn an_enrolment_is_completed_in_time_by_a_code_that_is_then_used() {
        let sealer = Sealer::new(None);
        let factor = enrolled(&sealer).factors.remove(0);
        let begun = |expires_at| Factors {
            enrolment: Some(Enrolment { factor: factor.clone(), expires_at }),
            ..Factors::default()
        };
        assert_eq!(begun(NOW).confirm(&sealer, "1", CODE, NOW), Err(FactorError::None));
        let mut factors = begun(NOW.saturating_add(Duration::from_millis(1)));
        assert_eq!(factors.confirm(&sealer, "1", "000000", NOW), Err(FactorError::WrongCode));
        assert_eq!(factors.confirm(&sealer, "1", CODE, NOW), Ok(()));
        assert_eq!(factors.redeem(&sealer, "1", CODE, NOW), Err(FactorError::WrongCode));
        assert!(factors.enrolment.is_none());
    }

    #[test]
    fn sealed_secrets_open_with_their_key_and_for_their_user_only() {
        let key = Sealer::new(Some(&[7; 32]));
        let sealed = key.seal("1", b"secret").unwrap();
        assert!(!sealed.contains(&URL_SAFE_NO_PAD.encode("secret")));
        assert_ne!(sealed, key.seal("1", b"secret").unwrap());
        assert_eq!(key.open("1", &sealed).unwrap(), b"secret");
        assert!(key.open("2", &sealed).is_err());
        assert!(Sealer::new(Some(&[8; 32])).open("1", &sealed).is_err());
        assert!(Sealer::new(None).open("1", &sealed).is_err());
        // What was stored before there was a key goes on.
        let plain = Sealer::new(None).seal("1", b"secret").unwrap();
        assert_eq!(key.open("1", &plain).unwrap(), b"secret");
    }

    #[test]
    fn recovery_codes_are_many_random_and_easy_to_type() {
        let codes = new_recovery_codes();
        assert_eq!(codes.len(), RECOVERY_CODES);
        assert!(codes.iter().all(|code| code.len() == 19 && normalized(code).len() == 16), "{codes:?}");
        let mut once = codes.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), codes.len());
    }
}
