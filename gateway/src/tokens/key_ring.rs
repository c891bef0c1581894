//! The key ring: one signing key, and all verification keys, with key rotation.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::jwk::JwkSet;

use super::issuer::SigningKey;
use super::key_store::{KeyState, KeyStore};
use super::public_key::VerificationKey;
use super::{Issuer, UnixSeconds, Verifier};
use crate::config::{Algorithm, Compat, Signing, Tokens};

/// Why there are no usable keys.
#[allow(missing_docs)]
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cannot read the key file {path}: {source}; check tokens.private_key_file and the file's mode")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(
        "{path} holds no key for {}: {reason}; it takes an unencrypted PKCS#8 PEM, as from `{}`",
        algorithm.name(),
        openssl_command(*algorithm)
    )]
    NoSuchKey { path: PathBuf, algorithm: Algorithm, reason: String },
    #[error(
        "tokens.private_key_file: {path} holds no key for tokens.algorithm = \"{}\": {reason}; name an unencrypted PKCS#8 PEM, as from `{}`, or \
         the algorithm that the key is for",
        algorithm.name(),
        openssl_command(*algorithm)
    )]
    Unfit { path: PathBuf, algorithm: Algorithm, reason: String },
    #[error("the key does not fit {}: {reason}", algorithm.name())]
    WrongKind { algorithm: Algorithm, reason: String },
    #[error("the RSA key has {0} bits; at least 2048 are needed, 3072 are better")]
    WeakRsa(usize),
    #[error("the RSA key's public exponent is not an odd number of at least 3")]
    BadExponent,
    #[error("the key is not a public-key pair")]
    NotAsymmetric,
    #[error("two keys have the same id {0}: remove one of them")]
    SameId(String),
    #[error("cannot keep keys in {dir}: {source}; check tokens.keys_dir and its owner")]
    Store { dir: PathBuf, source: io::Error },
    #[error(
        "{path} is not a key list of this program: {reason}; restore it, or move the folder away to start with new keys"
    )]
    BadManifest { path: PathBuf, reason: String },
    #[error("the system gives no random bytes")]
    NoRandomness,
}

fn openssl_command(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::EdDSA => "openssl genpkey -algorithm ed25519",
        Algorithm::ES256 => "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256",
        Algorithm::ES384 => "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384",
        _ => "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072",
    }
}

/// How long a new key is published before it signs, in seconds, so that instances that share the keys and
/// have not yet read it do not reject its tokens.
const PUBLICATION_MARGIN_SECS: u64 = 10;

/// The signing key, the verification keys and the published JWK set.
pub struct KeyRing {
    signing: Vec<SigningKey>,
    algorithm: Algorithm,
    verification: Vec<VerificationKey>,
    unusable: Vec<KeyError>,
    jwks: Bytes,
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyRing({}, {} keys)", self.algorithm.name(), self.verification.len())
    }
}

impl KeyRing {
    /// Loads the keys named by the settings; generates and stores the first one where the gateway manages its
    /// keys.
    ///
    /// # Errors
    ///
    /// A key cannot be read, written or used.
    pub fn load(tokens: &Tokens, now: UnixSeconds) -> Result<KeyRing, KeyError> {
        match &tokens.signing {
            Signing::Secret { algorithm, secret } => {
                let signing = EncodingKey::from_secret(secret);
                let verification = VerificationKey::of_secret(*algorithm, secret);
                KeyRing::build(*algorithm, vec![SigningKey::always(signing, None)], vec![verification])
            }
            Signing::PrivateKeyFile { algorithm, path } => {
                let signing = read_private_key(path, *algorithm)?;
                let unfit = |error: KeyError| KeyError::Unfit {
                    path: path.clone(),
                    algorithm: *algorithm,
                    reason: error.to_string(),
                };
                let verification = VerificationKey::of_private(*algorithm, &signing).map_err(unfit)?;
                let signing = SigningKey::always(signing, verification.kid.clone());
                KeyRing::build(*algorithm, vec![signing], vec![verification])
            }
            Signing::Kept { algorithm, dir } => {
                KeyRing::from_store(&KeyStore::open(dir)?, *algorithm, tokens, now)
            }
        }
    }

    fn from_store(
        store: &KeyStore,
        algorithm: Algorithm,
        tokens: &Tokens,
        now: UnixSeconds,
    ) -> Result<KeyRing, KeyError> {
        let keys = store.signing_and_others(algorithm, now)?;
        let overlap = (tokens.refresh_ttl.max(tokens.access_ttl) + tokens.leeway).as_secs();
        let mut signing = Vec::new();
        let mut verification = Vec::new();
        let mut unusable = Vec::new();
        for key in keys {
            let signs = key.state == KeyState::Signing && key.algorithm == algorithm;
            let pair = store
                .private_key(&key)
                .and_then(|private| Ok((VerificationKey::of_private(key.algorithm, &private)?, private)));
            let (mut public, private) = match pair {
                Ok(pair) => pair,
                Err(error) if signs => return Err(error),
                // A start that failed would refuse everybody's tokens, not just those of this key.
                Err(error) => {
                    unusable.push(error);
                    continue;
                }
            };
            public.until = match key.state {
                KeyState::Retired { at } => Some(at + PUBLICATION_MARGIN_SECS + overlap),
                _ => None,
            };
            let from = key.created_at + PUBLICATION_MARGIN_SECS;
            let candidate = || SigningKey { from, kid: public.kid.clone(), key: private };
            if signs {
                signing.push((UnixSeconds::MAX, candidate()));
                // The signing key comes first: it is the most likely to verify.
                verification.insert(0, public);
            } else if public.until.is_none_or(|until| now < until) {
                // Its successor may not have been published for long enough.
                if let KeyState::Retired { at } = key.state
                    && key.algorithm == algorithm
                    && now < at + PUBLICATION_MARGIN_SECS
                {
                    signing.push((at, candidate()));
                }
                verification.push(public);
            }
        }
        if signing.is_empty() {
            return Err(KeyError::NotAsymmetric);
        }
        signing.sort_by_key(|(retired_at, _)| *retired_at);
        let signing = signing.into_iter().map(|(_, key)| key).collect();
        Ok(KeyRing { unusable, ..KeyRing::build(algorithm, signing, verification)? })
    }

    fn build(
        algorithm: Algorithm,
        signing: Vec<SigningKey>,
        verification: Vec<VerificationKey>,
    ) -> Result<KeyRing, KeyError> {
        for (i, key) in verification.iter().enumerate() {
            if let Some(kid) = &key.kid
                && verification[..i].iter().any(|other| other.kid == key.kid)
            {
                return Err(KeyError::SameId(kid.clone()));
            }
        }
        let public = JwkSet { keys: verification.iter().filter_map(|key| key.jwk.clone()).collect() };
        let jwks = serde_json::to_vec(&public)
            .map_err(|e| KeyError::WrongKind { algorithm, reason: e.to_string() })?;
        Ok(KeyRing { signing, algorithm, verification, unusable: Vec::new(), jwks: jwks.into() })
    }

    /// The public keys as a JWK set (RFC 7517 section 5). Empty for a shared secret.
    pub fn jwks(&self) -> Bytes {
        self.jwks.clone()
    }

    /// Managed keys that were left out, because their files are missing or damaged: tokens signed with them are
    /// refused. The signing key is never among them.
    pub fn unusable(&self) -> &[KeyError] {
        &self.unusable
    }

    /// The ids of the verification keys.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.verification.iter().filter_map(|key| key.kid.as_deref())
    }

    /// The issuer and the verifier with these keys; `compat` where that profile is on.
    pub fn into_parts(self, tokens: &Tokens, compat: Option<&Compat>) -> (Issuer, Verifier) {
        let issuer = Issuer::new(self.signing, self.algorithm, tokens, compat);
        (issuer, Verifier::new(self.verification, tokens, compat.is_some()))
    }
}

/// Reads an unencrypted PKCS#8 PEM.
fn read_private_key(path: &Path, algorithm: Algorithm) -> Result<EncodingKey, KeyError> {
    let pem = std::fs::read(path).map_err(|source| KeyError::Unreadable { path: path.to_owned(), source })?;
    private_key(&pem, algorithm).map_err(|reason| KeyError::Unfit {
        path: path.to_owned(),
        algorithm,
        reason,
    })
}

/// Parses the private key in a PEM text; the error says why there is none for the algorithm.
pub(super) fn private_key(pem: &[u8], algorithm: Algorithm) -> Result<EncodingKey, String> {
    match algorithm {
        Algorithm::EdDSA => EncodingKey::from_ed_pem(pem),
        Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(pem),
        _ => EncodingKey::from_rsa_pem(pem),
    }
    .map_err(|e| e.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::{Compat, CompatIdentity, Profile, Rotation};
    use crate::tokens::{TokenError, TokenRequest, TokenType};
    use std::time::Duration;

    const NOW: UnixSeconds = 1_800_000_000;

    fn settings(signing: Signing) -> Tokens {
        Tokens {
            issuer: "https://gw.test".into(),
            audience: "tests".into(),
            access_ttl: Duration::from_secs(60),
            refresh_ttl: Duration::from_secs(600),
            idle_ttl: None,
            stream_grace: Duration::ZERO,
            leeway: Duration::ZERO,
            signing,
            rotation: Rotation::OnUse,
            reuse_grace: Duration::ZERO,
        }
    }

    fn parts(tokens: &Tokens, now: UnixSeconds) -> (Issuer, Verifier) {
        KeyRing::load(tokens, now).unwrap().into_parts(tokens, None)
    }

    fn access_token(issuer: &Issuer, now: UnixSeconds) -> String {
        let request = TokenRequest {
            token_type: TokenType::Access,
            jti: "j",
            sid: "s",
            subject: "1",
            username: "alice",
            roles: &["user".into()],
            further: &serde_json::Map::new(),
            fresh: false,
            csrf: None,
            key: None,
            issued_at: now,
            expires_at: now + 60,
            session_expires_at: u64::MAX >> 11,
        };
        issuer.issue(request).unwrap()
    }

    #[test]
    fn every_algorithm_signs_and_verifies_and_none_passes_for_another() {
        let dir = tempfile::tempdir().unwrap();
        let mut all = Vec::new();
        for algorithm in Algorithm::ALL {
            let signing = match algorithm.is_symmetric() {
                true => Signing::Secret { algorithm, secret: (0..64).collect() },
                false => Signing::Kept { algorithm, dir: dir.path().join(algorithm.name()) },
            };
            let (issuer, verifier) = parts(&settings(signing), NOW);
            let token = access_token(&issuer, NOW);
            let claims = verifier.verify(&token, TokenType::Access, NOW + 59).unwrap();
            assert_eq!(
                (claims.subject(), claims.username(), claims.roles()),
                ("1", "alice", &["user".to_owned()][..])
            );
            assert_eq!(verifier.verify(&token, TokenType::Access, NOW + 60), Err(TokenError::Expired));
            assert_eq!(verifier.verify(&token, TokenType::Access, NOW - 3), Err(TokenError::NotYetValid));
            let behind = verifier.verify(&token, TokenType::Access, NOW - 2);
            assert!(behind.is_ok(), "a clock that is two seconds behind is forgiven: {behind:?}");
            assert_eq!(verifier.verify(&token, TokenType::Refresh, NOW), Err(TokenError::WrongType));
            all.push((algorithm, token, verifier));
        }
        for (algorithm, _, verifier) in &all {
            for (other, token, _) in all.iter().filter(|(other, ..)| other != algorithm) {
                let verdict = verifier.verify(token, TokenType::Access, NOW);
                assert!(
                    matches!(verdict, Err(TokenError::Invalid(_))),
                    "{other:?} at {algorithm:?}: {verdict:?}"
                );
            }
        }
    }

    /// By their issuer, or by their signature where they name none, as in the profile of Flask-JWT-Extended.
    #[test]
    fn own_tokens_are_known_also_when_they_name_no_issuer() {
        let secret = |byte: u8| Signing::Secret { algorithm: Algorithm::HS256, secret: vec![byte; 64] };
        let compat = Compat {
            profile: Some(Profile::FlaskJwtExtended),
            identity: CompatIdentity::Id,
            fresh: false,
            csrf: false,
            error_key: "msg".into(),
            login_failed: "no".into(),
            account_locked: "locked".into(),
        };
        for (issuer, compat) in [("https://gw.test", None), ("", Some(&compat))] {
            let [(ours, verifier), (apps, _)] =
                [(1, issuer), (2, "https://app.test")].map(|(byte, issuer)| {
                    let issuer = if compat.is_some() { "" } else { issuer };
                    let tokens = Tokens { issuer: issuer.into(), ..settings(secret(byte)) };
                    KeyRing::load(&tokens, NOW).unwrap().into_parts(&tokens, compat)
                });
            let own = access_token(&ours, NOW);
            for now in [NOW, NOW + 3600] {
                assert!(verifier.names_this_issuer(&own, now), "{issuer:?}");
            }
            assert!(!verifier.names_this_issuer(&access_token(&apps, NOW), NOW), "{issuer:?}");
            assert!(!verifier.names_this_issuer("dXNlcjpwYXNz", NOW));
        }
    }

    #[test]
    fn a_retired_key_verifies_until_its_last_token_has_expired() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = settings(Signing::Kept { algorithm: Algorithm::EdDSA, dir: dir.path().to_owned() });
        let (issuer, _) = parts(&tokens, NOW);
        KeyStore::open(dir.path()).unwrap().rotate(Algorithm::EdDSA, NOW + 10).unwrap();
        let (_, verifier) = parts(&tokens, NOW + 20);
        let end = NOW + 10 + PUBLICATION_MARGIN_SECS + 600;
        let late = access_token(&issuer, end - 10);
        assert!(verifier.verify(&late, TokenType::Access, end - 1).is_ok());
        let retired = verifier.verify(&late, TokenType::Access, end);
        assert_eq!(retired, Err(TokenError::Invalid("the key has been retired")));
        let (_, verifier) = parts(&tokens, end);
        assert!(verifier.verify(&late, TokenType::Access, end + 1).is_err(), "and is not even loaded later");
    }

    #[test]
    fn an_instance_that_reloads_keys_late_verifies_what_others_sign() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = settings(Signing::Kept { algorithm: Algorithm::EdDSA, dir: dir.path().to_owned() });
        let mut late = parts(&tokens, NOW);
        let mut kids = std::collections::BTreeSet::new();
        for now in NOW + 1..NOW + 60 {
            KeyStore::open(dir.path()).unwrap().rotate(Algorithm::EdDSA, now).unwrap();
            let early = parts(&tokens, now);
            for (issuer, verifier) in [(&early.0, &late.1), (&late.0, &early.1), (&early.0, &early.1)] {
                let token = access_token(issuer, now);
                kids.insert(token.split('.').next().unwrap().to_owned());
                let verdict = verifier.verify(&token, TokenType::Access, now);
                assert!(verdict.is_ok(), "{verdict:?} {} s after the start", now - NOW);
            }
            if now % (PUBLICATION_MARGIN_SECS - 1) == 0 {
                late = parts(&tokens, now);
            }
        }
        assert!(kids.len() > 40, "{} keys signed", kids.len());
    }

    #[test]
    fn a_key_of_another_kind_is_refused_with_the_way_to_make_one() {
        let dir = tempfile::tempdir().unwrap();
        let store = KeyStore::open(dir.path()).unwrap();
        let key = store.generate(Algorithm::ES256, NOW).unwrap();
        let path = dir.path().join(format!("{}.pem", key.kid));
        for algorithm in [Algorithm::EdDSA, Algorithm::ES384, Algorithm::RS256] {
            let error =
                KeyRing::load(&settings(Signing::PrivateKeyFile { algorithm, path: path.clone() }), NOW);
            let said = error.unwrap_err().to_string();
            assert!(said.contains(algorithm.name()), "{said}");
        }
    }

    #[test]
    fn a_key_that_does_not_fit_is_named_with_setting_file_and_remedy() {
        let dir = tempfile::tempdir().unwrap();
        for (algorithm, made, reason, remedy) in [
            (
                Algorithm::RS256,
                "RSA -pkeyopt rsa_keygen_bits:1024",
                "less than 2048 bits",
                "rsa_keygen_bits:3072",
            ),
            (Algorithm::ES256, "EC -pkeyopt ec_paramgen_curve:P-384", "", "ec_paramgen_curve:P-256"),
            (Algorithm::EdDSA, "EC -pkeyopt ec_paramgen_curve:P-256", "", "-algorithm ed25519"),
            (Algorithm::PS384, "ed25519", "", "PKCS#8 PEM"),
        ] {
            let path = dir.path().join(algorithm.name());
            let mut openssl = std::process::Command::new("openssl");
            openssl.args(["genpkey", "-quiet", "-out"]).arg(&path).arg("-algorithm").args(made.split(' '));
            assert!(openssl.status().unwrap().success());
            let settings = settings(Signing::PrivateKeyFile { algorithm, path: path.clone() });
            let error = KeyRing::load(&settings, NOW).map(|_| ()).unwrap_err().to_string();
            for part in
                ["tokens.private_key_file: ", &path.display().to_string(), algorithm.name(), reason, remedy]
            {
                assert!(error.contains(part), "{part} is not in {error}");
            }
        }
    }
}
