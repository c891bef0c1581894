//! The key ring: one signing key, and all verification keys, with key rotation.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::jwk::JwkSet;

use super::issuer::SigningKey;
use super::key_record::{KeyRole, LoadedKey};
use super::key_store::{KeyStore, generate_pem};
use super::public_key::{VerificationKey, has_good_exponent};
use super::{AssertionIssuer, Issuer, UnixSeconds, Verifier, previous_keys, signer, verifies_for};
use crate::config::{Algorithm, Compat, PreviousKeys, Signing, Tokens};
use crate::tls::describe_pem;

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
    #[error(
        "{path} holds no key that could have signed before: {reason}; name a public or private key in PEM"
    )]
    NotPrevious { path: PathBuf, reason: String },
    #[error(
        "upstream_assertion.private_key_file: {path} holds no key for assertions: {reason}; name an unencrypted PKCS#8 PEM, as from `{}`",
        openssl_command(Algorithm::EdDSA)
    )]
    NotForAssertions { path: PathBuf, reason: String },
    #[error(
        "two keys have the same id {0}: a key is for one algorithm only, so make a new one where the algorithm changes"
    )]
    SameId(String),
    #[error("cannot keep keys in {dir}: {source}; check tokens.keys_dir and its owner")]
    Store { dir: PathBuf, source: io::Error },
    #[error(
        "{path} is not a key list of this program: {reason}; restore it, or move the folder away to start with new keys"
    )]
    BadManifest { path: PathBuf, reason: String },
    #[error("there is no key {0}; `auth-gateway keys list` shows all")]
    Unknown(String),
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

/// Whether keys are loaded to be used, or only looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A missing key is generated, and what has to be remembered of previous keys is written.
    Use,
    /// Nothing is written. In place of a missing signing key there is one that is forgotten with the ring.
    Examine,
}

/// The signing key, the verification keys and the published JWK set.
pub struct KeyRing {
    signing: Vec<SigningKey>,
    algorithm: Algorithm,
    verification: Vec<VerificationKey>,
    unusable: Vec<KeyError>,
    expired: Vec<String>,
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyRing({}, {} keys)", self.algorithm.name(), self.verification.len())
    }
}

impl KeyRing {
    /// Loads the keys named by the settings; generates and stores the first one where the gateway manages its
    /// keys. `last` are the keys that were loaded before: their records go on counting.
    ///
    /// # Errors
    ///
    /// A key cannot be read, written or used.
    pub fn load(
        tokens: &Tokens,
        now: UnixSeconds,
        last: &[LoadedKey],
        access: Access,
    ) -> Result<KeyRing, KeyError> {
        let mut ring = KeyRing {
            signing: Vec::new(),
            algorithm: tokens.signing.algorithm(),
            verification: Vec::new(),
            unusable: Vec::new(),
            expired: Vec::new(),
        };
        match &tokens.signing {
            Signing::Secret { algorithm, secret } => {
                let key = VerificationKey::of_secret(*algorithm, secret);
                ring.signing.push(signing_key(&key, EncodingKey::from_secret(secret)));
                ring.verification.push(key);
            }
            Signing::PrivateKeyFile { algorithm, path } => {
                let private = read_private_key(path, *algorithm)?;
                let unfit = |error: KeyError| KeyError::Unfit {
                    path: path.clone(),
                    algorithm: *algorithm,
                    reason: error.to_string(),
                };
                let key = VerificationKey::of_private(*algorithm, &private).map_err(unfit)?;
                ring.signing.push(signing_key(&key, private));
                ring.verification.push(key);
            }
            Signing::Kept { dir, .. } => ring.load_from(dir, verifies_for(tokens), now, access)?,
        }
        let previous = previous_keys::load(tokens, &ring.verification, last, now, access)?;
        ring.verification.extend(previous.keys);
        ring.expired = previous.expired;
        for key in &mut ring.verification {
            if let Some(known) = last.iter().find(|known| known.record == key.record) {
                let record = Arc::clone(&known.record);
                for signing in ring.signing.iter_mut().filter(|signing| signing.record == record) {
                    signing.record = Arc::clone(&record);
                }
                key.record = record;
            }
        }
        ring.check_ids()?;
        Ok(ring)
    }

    /// Loads the keys that sign assertions for upstreams, for `ttl`: the one in `own_key`, or managed ones in a folder of their
    /// own, so that they never verify a token.
    ///
    /// # Errors
    ///
    /// A key cannot be read, written or used.
    pub fn load_for_assertions(
        tokens: &Tokens,
        own_key: Option<&Path>,
        ttl: Duration,
        now: UnixSeconds,
        access: Access,
    ) -> Result<KeyRing, KeyError> {
        let (algorithm, dir) = (Algorithm::EdDSA, assertion_keys_dir(tokens));
        let unfit =
            |reason: String| KeyError::NotForAssertions { path: own_key.unwrap_or(&dir).to_owned(), reason };
        let text = match own_key {
            Some(path) => std::fs::read_to_string(path).map_err(|e| unfit(e.to_string()))?,
            None => {
                let previous = PreviousKeys { keys: Vec::new(), dir: dir.clone() };
                let signing = Signing::Kept { algorithm, dir };
                let keys = Tokens { signing, previous, access_ttl: ttl, refresh_ttl: ttl, ..tokens.clone() };
                return KeyRing::load(&keys, now, &[], access);
            }
        };
        let private = private_key(text.as_bytes(), algorithm).map_err(unfit)?;
        let key = VerificationKey::of_private(algorithm, &private)?;
        Ok(KeyRing {
            signing: vec![signing_key(&key, private)],
            algorithm,
            verification: vec![key],
            unusable: Vec::new(),
            expired: Vec::new(),
        })
    }

    fn load_from(
        &mut self,
        dir: &Path,
        lifetime: Duration,
        now: UnixSeconds,
        access: Access,
    ) -> Result<(), KeyError> {
        let mut signing = Vec::new();
        let store = KeyStore::open_for(dir, access)?;
        let keys = match access {
            Access::Use => store.signing_and_others(self.algorithm, now)?,
            Access::Examine => {
                let keys = store.list()?;
                if !keys.iter().any(|key| key.signs_with(self.algorithm)) {
                    // The gateway makes one when it starts.
                    let (public, private) = passing_key(self.algorithm)?;
                    signing.push((UnixSeconds::MAX, signing_key(&public, private)));
                    self.verification.push(public);
                }
                keys
            }
        };
        for key in &keys {
            let role = key.role(lifetime);
            let signs = key.signs_with(self.algorithm);
            let mut public = match store.public_key(key) {
                Ok(public) => public,
                Err(error) if signs => return Err(error),
                // A start that failed would refuse all tokens, not just those of this key.
                Err(error) => {
                    self.unusable.push(error);
                    continue;
                }
            };
            public.role = role;
            match role {
                KeyRole::Signing { .. } if signs => {
                    let private = store.private_key(key)?;
                    signing.push((UnixSeconds::MAX, signing_key(&public, private)));
                    // The signing key comes first: it is the most likely to verify.
                    self.verification.insert(0, public);
                }
                KeyRole::Previous { until, .. } if until <= now => {}
                KeyRole::Previous { stopped_at, .. } => {
                    // Its successor may not have been published for long enough.
                    if key.algorithm == self.algorithm && now < stopped_at {
                        match store.private_key(key) {
                            Ok(private) => {
                                signing.push((stopped_at, signing_key(&public, private)));
                            }
                            Err(error) => self.unusable.push(error),
                        }
                    }
                    self.verification.push(public);
                }
                KeyRole::Next | KeyRole::Signing { .. } => self.verification.push(public),
            }
        }
        if signing.is_empty() {
            return Err(KeyError::NotAsymmetric);
        }
        signing.sort_by_key(|(retired_at, _)| *retired_at);
        self.signing = signing.into_iter().map(|(_, key)| key).collect();
        Ok(())
    }

    fn check_ids(&self) -> Result<(), KeyError> {
        for (i, key) in self.verification.iter().enumerate() {
            if let Some(kid) = &key.kid
                && self.verification[..i].iter().any(|other| other.kid == key.kid)
            {
                return Err(KeyError::SameId(kid.clone()));
            }
        }
        Ok(())
    }

    /// The public keys of these rings as a JWK set (RFC 7517 section 5). Empty for a shared secret.
    ///
    /// # Errors
    ///
    /// They cannot be written as JSON.
    pub fn jwks<'r>(rings: impl IntoIterator<Item = &'r KeyRing>) -> Result<Bytes, KeyError> {
        let keys = rings.into_iter().flat_map(|ring| &ring.verification);
        let public = JwkSet { keys: keys.filter_map(|key| key.jwk.clone()).collect() };
        let written = serde_json::to_vec(&public);
        let unwritten =
            |e: serde_json::Error| KeyError::WrongKind { algorithm: Algorithm::EdDSA, reason: e.to_string() };
        Ok(written.map_err(unwritten)?.into())
    }

    /// The issuer of assertions with these keys.
    pub fn into_assertion_issuer(self, issuer: &str, ttl: Duration) -> AssertionIssuer {
        AssertionIssuer::new(self.signing, issuer, ttl)
    }

    /// Managed keys that were left out, because their files are missing or damaged: tokens signed with them are
    /// refused. The signing key is never among them.
    pub fn unusable(&self) -> &[KeyError] {
        &self.unusable
    }

    /// The ids of configured previous keys that verify no more, and may be removed from the configuration.
    pub fn expired(&self) -> &[String] {
        &self.expired
    }

    /// All verification keys, and what each is for.
    pub fn keys(&self) -> Vec<LoadedKey> {
        let loaded = |key: &VerificationKey| LoadedKey { record: Arc::clone(&key.record), role: key.role };
        self.verification.iter().map(loaded).collect()
    }

    /// The issuer and the verifier with these keys; `compat` where that profile is on.
    pub fn into_parts(self, tokens: &Tokens, compat: Option<&Compat>) -> (Issuer, Verifier) {
        let issuer = Issuer::new(self.signing, self.algorithm, tokens, compat);
        (issuer, Verifier::new(self.verification, tokens, compat.is_some()))
    }
}

/// The folder of the managed keys that sign assertions.
pub fn assertion_keys_dir(tokens: &Tokens) -> PathBuf {
    tokens.previous.dir.join("assertion")
}

/// The private half of a key, for signing.
fn signing_key(public: &VerificationKey, private: EncodingKey) -> SigningKey {
    let from = match public.role {
        KeyRole::Signing { from } | KeyRole::Previous { from, .. } => from,
        KeyRole::Next => UnixSeconds::MAX,
    };
    SigningKey {
        from,
        kid: public.kid.clone(),
        record: Arc::clone(&public.record),
        signer: signer::local(private, public.algorithm),
    }
}

/// A new key that is nowhere else.
fn passing_key(algorithm: Algorithm) -> Result<(VerificationKey, EncodingKey), KeyError> {
    let pem = generate_pem(algorithm)?;
    let private =
        private_key(pem.as_bytes(), algorithm).map_err(|reason| KeyError::WrongKind { algorithm, reason })?;
    Ok((VerificationKey::of_private(algorithm, &private)?, private))
}

/// The content of a file with a key.
pub(super) fn read_key_file(path: &Path) -> Result<Vec<u8>, KeyError> {
    std::fs::read(path).map_err(|source| KeyError::Unreadable { path: path.to_owned(), source })
}

/// Reads an unencrypted PKCS#8 PEM.
fn read_private_key(path: &Path, algorithm: Algorithm) -> Result<EncodingKey, KeyError> {
    let pem = read_key_file(path)?;
    private_key(&pem, algorithm).map_err(|reason| KeyError::Unfit {
        path: path.to_owned(),
        algorithm,
        reason,
    })
}

/// Parses the private key in a PEM text; the error says why there is none for the algorithm.
pub(super) fn private_key(pem: &[u8], algorithm: Algorithm) -> Result<EncodingKey, String> {
    // The library takes a public RSA key for a private one.
    if pem::parse(pem).is_ok_and(|pem| !pem.tag().contains("PRIVATE KEY")) {
        return Err(describe_pem(pem).to_owned());
    }
    match algorithm {
        Algorithm::EdDSA => EncodingKey::from_ed_pem(pem),
        Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(pem),
        _ => {
            // The cryptographic library refuses such a key too, without the reason.
            if !has_good_exponent(pem) {
                return Err(KeyError::BadExponent.to_string());
            }
            EncodingKey::from_rsa_pem(pem)
        }
    }
    .map_err(|_| describe_pem(pem).to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::key_store::PUBLICATION_MARGIN;
    use super::*;
    use crate::config::{Compat, CompatIdentity, KeyRotation, PreviousKey, Profile, Rotation, Secret};
    use crate::tokens::dpop::Nonces;
    use crate::tokens::{AssertionRequest, TokenError, TokenRequest, TokenType};
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    const NOW: u64 = 1_800_000_000;

    fn settings(signing: Signing) -> Tokens {
        Tokens {
            issuer: "https://gw.test".into(),
            audience: "tests".into(),
            further_audiences: Vec::new(),
            claims: Default::default(),
            access_ttl: Duration::from_secs(60),
            refresh_ttl: Duration::from_secs(600),
            idle_ttl: None,
            stream_grace: Duration::ZERO,
            dpop: crate::config::Dpop::Off,
            dpop_max_age: Duration::from_secs(60),
            dpop_leeway: Duration::from_secs(5),
            dpop_nonce: false,
            dpop_nonce_ttl: Duration::from_secs(300),
            leeway: Duration::ZERO,
            signing,
            previous: PreviousKeys { keys: Vec::new(), dir: "unused".into() },
            previous_grace: Duration::ZERO,
            key_rotation: KeyRotation { every: None, publish_before: Duration::ZERO },
            rotation: Rotation::OnUse,
            reuse_grace: Duration::ZERO,
        }
    }

    fn parts(tokens: &Tokens, now: u64) -> (Issuer, Verifier) {
        KeyRing::load(tokens, UnixSeconds::new(now), &[], Access::Use).unwrap().into_parts(tokens, None)
    }

    fn access_token(issuer: &Issuer, now: u64) -> String {
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
            cookie_session: false,
            authentication: None,
            issued_at: UnixSeconds::new(now),
            expires_at: UnixSeconds::new(now + 60),
            session_expires_at: UnixSeconds::new(u64::MAX >> 11),
        };
        issuer.issue(request).unwrap()
    }

    #[test]
    fn every_algorithm_signs_and_verifies_and_none_passes_for_another() {
        let dir = tempfile::tempdir().unwrap();
        let mut all = Vec::new();
        for algorithm in Algorithm::ALL {
            let signing = match algorithm.is_symmetric() {
                true => Signing::Secret { algorithm, secret: (0..64).collect::<Vec<u8>>().into() },
                false => Signing::Kept { algorithm, dir: dir.path().join(algorithm.name()) },
            };
            let (issuer, verifier) = parts(&settings(signing), NOW);
            let token = access_token(&issuer, NOW);
            let claims = verifier.verify(&token, TokenType::Access, UnixSeconds::new(NOW + 59)).unwrap();
            assert_eq!(
                (claims.subject(), claims.username(), claims.roles()),
                ("1", "alice", &["user".to_owned()][..])
            );
            assert_eq!(
                verifier.verify(&token, TokenType::Access, UnixSeconds::new(NOW + 60)),
                Err(TokenError::Expired)
            );
            assert_eq!(
                verifier.verify(&token, TokenType::Access, UnixSeconds::new(NOW - 3)),
                Err(TokenError::NotYetValid)
            );
            let behind = verifier.verify(&token, TokenType::Access, UnixSeconds::new(NOW - 2));
            assert!(behind.is_ok(), "a clock that is two seconds behind is forgiven: {behind:?}");
            assert_eq!(
                verifier.verify(&token, TokenType::Refresh, UnixSeconds::new(NOW)),
                Err(TokenError::WrongType)
            );
            all.push((algorithm, token, verifier));
        }
        for (algorithm, _, verifier) in &all {
            for (other, token, _) in all.iter().filter(|(other, ..)| other != algorithm) {
                let verdict = verifier.verify(token, TokenType::Access, UnixSeconds::new(NOW));
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
        let secret =
            |byte: u8| Signing::Secret { algorithm: Algorithm::HS256, secret: vec![byte; 64].into() };
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
                    KeyRing::load(&tokens, UnixSeconds::new(NOW), &[], Access::Use)
                        .unwrap()
                        .into_parts(&tokens, compat)
                });
            let own = access_token(&ours, NOW);
            for now in [NOW, NOW + 3600] {
                assert!(verifier.names_this_issuer(&own, UnixSeconds::new(now)), "{issuer:?}");
            }
            assert!(
                !verifier.names_this_issuer(&access_token(&apps, NOW), UnixSeconds::new(NOW)),
                "{issuer:?}"
            );
            assert!(!verifier.names_this_issuer("dXNlcjpwYXNz", UnixSeconds::new(NOW)));
        }
    }

    #[test]
    fn a_retired_key_verifies_until_its_last_token_has_expired() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = settings(Signing::Kept { algorithm: Algorithm::EdDSA, dir: dir.path().to_owned() });
        let (issuer, _) = parts(&tokens, NOW);
        KeyStore::open(dir.path()).unwrap().rotate(Algorithm::EdDSA, UnixSeconds::new(NOW + 10)).unwrap();
        let (_, verifier) = parts(&tokens, NOW + 20);
        let end = NOW + 10 + PUBLICATION_MARGIN.as_secs() + 600;
        let late = access_token(&issuer, end - 10);
        assert!(verifier.verify(&late, TokenType::Access, UnixSeconds::new(end - 1)).is_ok());
        let retired = verifier.verify(&late, TokenType::Access, UnixSeconds::new(end));
        assert_eq!(retired, Err(TokenError::Invalid("the key has been retired")));
        let (_, verifier) = parts(&tokens, end);
        assert!(
            verifier.verify(&late, TokenType::Access, UnixSeconds::new(end + 1)).is_err(),
            "and is not even loaded later"
        );
    }

    #[test]
    fn an_instance_that_reloads_keys_late_verifies_what_others_sign() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = settings(Signing::Kept { algorithm: Algorithm::EdDSA, dir: dir.path().to_owned() });
        let mut late = parts(&tokens, NOW);
        let mut kids = std::collections::BTreeSet::new();
        for now in NOW + 1..NOW + 60 {
            KeyStore::open(dir.path()).unwrap().rotate(Algorithm::EdDSA, UnixSeconds::new(now)).unwrap();
            let early = parts(&tokens, now);
            for (issuer, verifier) in [(&early.0, &late.1), (&late.0, &early.1), (&early.0, &early.1)] {
                let token = access_token(issuer, now);
                kids.insert(token.split('.').next().unwrap().to_owned());
                let verdict = verifier.verify(&token, TokenType::Access, UnixSeconds::new(now));
                assert!(verdict.is_ok(), "{verdict:?} {} s after the start", now - NOW);
            }
            if now % (PUBLICATION_MARGIN.as_secs() - 1) == 0 {
                late = parts(&tokens, now);
            }
        }
        assert!(kids.len() > 40, "{} keys signed", kids.len());
    }

    #[test]
    fn an_assertion_is_signed_by_a_key_of_its_own_and_is_no_token() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Signing::Kept { algorithm: Algorithm::EdDSA, dir: dir.path().to_owned() };
        let tokens = with_previous(kept, Vec::new(), dir.path());
        let (ttl, load) = (Duration::from_secs(30), KeyRing::load_for_assertions);
        // Looking makes no key.
        load(&tokens, None, ttl, UnixSeconds::new(NOW), Access::Examine).unwrap();
        assert!(!assertion_keys_dir(&tokens).exists());
        let ring = load(&tokens, None, ttl, UnixSeconds::new(NOW), Access::Use).unwrap();
        let own = KeyRing::load(&tokens, UnixSeconds::new(NOW), &[], Access::Use).unwrap();
        let jwks: serde_json::Value = serde_json::from_slice(&KeyRing::jwks([&own, &ring]).unwrap()).unwrap();
        let [of_tokens, of_assertions] = [0, 1].map(|place| jwks["keys"][place]["kid"].clone());
        assert!(of_tokens != of_assertions && jwks["keys"][1]["use"] == "sig");
        let (issuer, verifier) = own.into_parts(&tokens, None);
        let claims =
            verifier.verify(&access_token(&issuer, NOW), TokenType::Access, UnixSeconds::new(NOW)).unwrap();
        // Even where the app is called as the audience of tokens is.
        let request = AssertionRequest {
            audience: "tests",
            claims: Some(&claims),
            method: "GET",
            path: "/app",
            now: UnixSeconds::new(NOW),
        };
        let assertion = ring.into_assertion_issuer("https://gw.test", ttl).issue(request).unwrap();
        let parts: Vec<_> = assertion.split('.').collect();
        let json =
            |part: &str| serde_json::from_slice::<serde_json::Value>(&URL_SAFE_NO_PAD.decode(part).unwrap());
        assert_eq!(
            json(parts[0]).unwrap(),
            serde_json::json!({"alg": "EdDSA", "typ": "assertion+jwt", "kid": of_assertions})
        );
        assert_eq!(
            json(parts[1]).unwrap(),
            serde_json::json!({
                "iss": "https://gw.test", "aud": "tests", "iat": NOW, "exp": NOW + 30, "htm": "GET", "path": "/app",
                "sub": "1", "username": "alice", "roles": ["user"], "sid": "s",
            })
        );
        for token_type in [TokenType::Access, TokenType::Refresh] {
            assert_eq!(
                verifier.verify(&assertion, token_type, UnixSeconds::new(NOW)),
                Err(TokenError::Invalid("kid names no key of ours"))
            );
        }
        let rsa = dir.path().join("other.pem");
        std::fs::write(&rsa, generate_pem(Algorithm::ES256).unwrap()).unwrap();
        let error =
            load(&tokens, Some(&rsa), ttl, UnixSeconds::new(NOW), Access::Use).unwrap_err().to_string();
        assert!(
            error.contains("upstream_assertion.private_key_file") && error.contains("ed25519"),
            "{error}"
        );
        let good = dir.path().join("good.pem");
        std::fs::write(&good, generate_pem(Algorithm::EdDSA).unwrap()).unwrap();
        assert!(load(&tokens, Some(&good), ttl, UnixSeconds::new(NOW), Access::Use).is_ok());
    }

    /// The names, contents and times of all files below a folder.
    fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>, std::time::SystemTime)> {
        let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries
            .flat_map(|path| match path.is_dir() {
                true => files(&path),
                false => {
                    let modified = path.metadata().unwrap().modified().unwrap();
                    vec![(path.clone(), std::fs::read(path).unwrap(), modified)]
                }
            })
            .collect();
        files.sort();
        files
    }

    #[test]
    fn examining_keys_writes_nothing_and_finds_what_a_start_would() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let kept = |algorithm| Signing::Kept { algorithm, dir: path.clone() };
        let before = |algorithm| PreviousKey::Kept { algorithm, dir: path.clone() };
        let (ed, es) = (Algorithm::EdDSA, Algorithm::ES256);
        let plain = settings(kept(ed));
        let other_algorithm = with_previous(kept(es), vec![before(ed)], &path);
        let from_secret = with_previous(kept(es), vec![secret(1).1], &path);
        let to_secret = with_previous(secret(1).0, vec![before(ed)], &path);
        let nonces = Tokens {
            dpop: crate::config::Dpop::Required,
            dpop_nonce: true,
            ..with_previous(kept(ed), Vec::new(), &path)
        };
        let examine_all = |what: &str| {
            let before = files(dir.path());
            for tokens in [&plain, &other_algorithm, &from_secret, &to_secret, &nonces] {
                let ring = KeyRing::load(tokens, UnixSeconds::new(NOW), &[], Access::Examine).unwrap();
                let (issuer, verifier) = ring.into_parts(tokens, None);
                let token = access_token(&issuer, NOW);
                assert!(verifier.verify(&token, TokenType::Access, UnixSeconds::new(NOW)).is_ok(), "{what}");
                Nonces::load(tokens, Access::Examine).unwrap();
                KeyRing::load_for_assertions(
                    tokens,
                    None,
                    Duration::from_secs(30),
                    UnixSeconds::new(NOW),
                    Access::Examine,
                )
                .unwrap();
            }
            assert_eq!(files(dir.path()), before, "{what}");
        };
        examine_all("no folder");
        assert!(!path.exists());
        std::fs::create_dir(&path).unwrap();
        examine_all("an empty folder");
        KeyStore::open(&path).unwrap();
        examine_all("a folder without a list");
        let (issuer, _) = parts(&plain, NOW);
        examine_all("a list without a key for the other algorithm");
        // Keys that exist are those that are found.
        let ring = KeyRing::load(&plain, UnixSeconds::new(NOW), &[], Access::Examine).unwrap();
        assert!(
            ring.into_parts(&plain, None)
                .1
                .verify(&access_token(&issuer, NOW), TokenType::Access, UnixSeconds::new(NOW))
                .is_ok()
        );
        let store = KeyStore::open(&path).unwrap();
        let only = store.list().unwrap().remove(0);
        store.generate(ed, UnixSeconds::new(NOW)).unwrap();
        drop(store);
        std::fs::remove_file(path.join(format!("{}.pem", only.kid))).unwrap();
        let found = files(dir.path());
        let missing = KeyRing::load(&plain, UnixSeconds::new(NOW), &[], Access::Examine).unwrap_err();
        assert!(matches!(missing, KeyError::Unreadable { .. }), "{missing}");
        assert_eq!(files(dir.path()), found);
    }

    fn with_previous(signing: Signing, keys: Vec<PreviousKey>, dir: &Path) -> Tokens {
        Tokens { previous: PreviousKeys { keys, dir: dir.to_owned() }, ..settings(signing) }
    }

    fn secret(byte: u8) -> (Signing, PreviousKey) {
        let secret = Secret::from((byte..byte + 64).collect::<Vec<u8>>());
        let algorithm = Algorithm::HS256;
        (Signing::Secret { algorithm, secret: secret.clone() }, PreviousKey::Secret { algorithm, secret })
    }

    #[test]
    fn what_previous_secrets_signed_verifies_until_the_last_token_has_expired_and_restarts_do_not_prolong_that()
     {
        let dir = tempfile::tempdir().unwrap();
        let ((old, previous), (older, before), (new, _)) = (secret(1), secret(2), secret(3));
        let tokens =
            [&old, &older].map(|signing| access_token(&parts(&settings(signing.clone()), NOW).0, NOW + 500));
        let migrated = with_previous(new, vec![previous, before], dir.path());
        for now in [NOW, NOW + 300, NOW + 599] {
            let (issuer, verifier) = parts(&migrated, now);
            assert!(
                verifier
                    .verify(&access_token(&issuer, now), TokenType::Access, UnixSeconds::new(now))
                    .is_ok()
            );
            for token in &tokens {
                assert!(verifier.verify_signed(token, UnixSeconds::new(now)).is_ok(), "{now}");
                let late = verifier.verify_signed(token, UnixSeconds::new(NOW + 600));
                assert!(matches!(late, Err(TokenError::Invalid(_))), "{late:?}");
            }
        }
        let ring = KeyRing::load(&migrated, UnixSeconds::new(NOW + 600), &[], Access::Use).unwrap();
        assert_eq!((ring.expired().len(), ring.keys().len()), (2, 1));
        // As with more time for the instances to follow.
        let slow = Tokens { previous_grace: Duration::from_secs(60), ..migrated };
        assert_eq!(
            KeyRing::load(&slow, UnixSeconds::new(NOW + 659), &[], Access::Use).unwrap().keys().len(),
            3
        );
    }

    #[test]
    fn a_secret_that_signs_again_has_its_full_time_when_it_stops_again() {
        let dir = tempfile::tempdir().unwrap();
        let ((a, a_before), (b, b_before)) = (secret(1), secret(2));
        let on_b = with_previous(b, vec![a_before.clone()], dir.path());
        // Named as a previous key on all instances before it signs.
        let on_a = with_previous(a, vec![a_before, b_before], dir.path());
        let until = |tokens: &Tokens, now, last: &[LoadedKey]| {
            let ring = KeyRing::load(tokens, UnixSeconds::new(now), last, Access::Use).unwrap();
            (
                ring.keys().iter().filter_map(LoadedKey::until).map(UnixSeconds::get).collect::<Vec<_>>(),
                ring.keys(),
            )
        };
        assert_eq!(until(&on_b, NOW, &[]).0, [NOW + 600]);
        assert_eq!(until(&on_a, NOW + 100, &[]).0, [NOW + 700]);
        let (_, last) = until(&on_a, NOW + 200, &[]);
        assert_eq!(until(&on_b, NOW + 300, &last).0, [NOW + 900]);
        assert_eq!(until(&on_b, NOW + 400, &[]).0, [NOW + 900]);
        // Looking does not begin the time of a key.
        let other = tempfile::tempdir().unwrap();
        let unseen = with_previous(secret(3).0, vec![secret(4).1], other.path());
        KeyRing::load(&unseen, UnixSeconds::new(NOW), &[], Access::Examine).unwrap();
        assert_eq!(until(&unseen, NOW + 50, &[]).0, [NOW + 650]);
    }

    #[test]
    fn a_change_of_algorithm_keeps_the_tokens_and_lets_no_key_pass_for_another_algorithm() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Signing::Kept { algorithm: Algorithm::EdDSA, dir: dir.path().to_owned() };
        let (hs, hs_before) = secret(1);
        let eddsa_before = PreviousKey::Kept { algorithm: Algorithm::EdDSA, dir: dir.path().to_owned() };
        let by_secret = access_token(&parts(&settings(hs.clone()), NOW).0, NOW);
        let to_eddsa = with_previous(kept.clone(), vec![hs_before], dir.path());
        let (issuer, verifier) = parts(&to_eddsa, NOW);
        let by_key = access_token(&issuer, NOW);
        for token in [&by_secret, &by_key] {
            assert!(verifier.verify(token, TokenType::Access, UnixSeconds::new(NOW)).is_ok());
        }
        let ring = KeyRing::load(&to_eddsa, UnixSeconds::new(NOW), &[], Access::Use).unwrap();
        let jwks = KeyRing::jwks([&ring]).unwrap();
        let jwks: serde_json::Value = serde_json::from_slice(&jwks).unwrap();
        assert_eq!(jwks["keys"].as_array().unwrap().len(), 1, "a secret is never published: {jwks}");
        // The secret does not verify another algorithm of its own kind, nor the public key a MAC.
        let x = jwks["keys"][0]["x"].as_str().unwrap();
        for (algorithm, forged_with) in
            [(Algorithm::HS512, (1..65).collect::<Vec<u8>>()), (Algorithm::HS256, x.into())]
        {
            let forged = Signing::Secret { algorithm, secret: forged_with.into() };
            let token = access_token(&parts(&settings(forged), NOW).0, NOW);
            assert!(matches!(
                verifier.verify(&token, TokenType::Access, UnixSeconds::new(NOW)),
                Err(TokenError::Invalid(_))
            ));
        }

        // And back: the managed keys verify, and sign no more.
        let back = with_previous(hs, vec![eddsa_before], dir.path());
        let (issuer, verifier) = parts(&back, NOW + 10);
        for token in [&by_secret, &by_key, &access_token(&issuer, NOW + 10)] {
            assert!(verifier.verify(token, TokenType::Access, UnixSeconds::new(NOW + 12)).is_ok());
        }
        let end = NOW + 10 + PUBLICATION_MARGIN.as_secs() + 600;
        let keys = |now| KeyRing::load(&back, now, &[], Access::Use).unwrap().keys().len();
        assert_eq!((keys(UnixSeconds::new(end - 1)), keys(UnixSeconds::new(end))), (2, 1));
    }

    #[test]
    fn previous_keys_are_read_from_private_and_public_files_of_every_kind() {
        let dir = tempfile::tempdir().unwrap();
        let openssl = |arguments: &[&str]| {
            let output = std::process::Command::new("openssl").args(arguments).output().unwrap();
            assert!(output.status.success(), "{output:?}");
        };
        for (algorithm, made) in [
            (Algorithm::EdDSA, &["ed25519"][..]),
            (Algorithm::ES256, &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
            (Algorithm::ES384, &["EC", "-pkeyopt", "ec_paramgen_curve:P-384"]),
            (Algorithm::PS256, &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
        ] {
            let [private, public] =
                ["key", "pub"].map(|end| dir.path().join(format!("{}.{end}", algorithm.name())));
            let [private_text, public_text] = [&private, &public].map(|path| path.to_str().unwrap());
            openssl(&[&["genpkey", "-quiet", "-out", private_text, "-algorithm"], made].concat());
            openssl(&["pkey", "-in", private_text, "-pubout", "-out", public_text]);
            let signing = Signing::PrivateKeyFile { algorithm, path: private.clone() };
            let token = access_token(&parts(&settings(signing.clone()), NOW).0, NOW);
            let all = vec![Algorithm::EdDSA, Algorithm::ES256, Algorithm::ES384, Algorithm::PS256];
            for path in [private, public] {
                let previous = PreviousKey::File { algorithms: all.clone(), path: path.clone() };
                let (_, verifier) =
                    parts(&with_previous(secret(1).0, vec![previous.clone()], dir.path()), NOW);
                assert!(
                    verifier.verify(&token, TokenType::Access, UnixSeconds::new(NOW)).is_ok(),
                    "{path:?}"
                );
                // It signs as well: named beforehand.
                let both = with_previous(signing.clone(), vec![previous], dir.path());
                assert_eq!(
                    KeyRing::load(&both, UnixSeconds::new(NOW), &[], Access::Use).unwrap().keys().len(),
                    1
                );
                let other = match algorithm {
                    Algorithm::EdDSA => Algorithm::ES256,
                    _ => Algorithm::EdDSA,
                };
                let unfit = PreviousKey::File { algorithms: vec![other], path };
                let error = KeyRing::load(
                    &with_previous(secret(1).0, vec![unfit], dir.path()),
                    UnixSeconds::new(NOW),
                    &[],
                    Access::Use,
                );
                assert!(matches!(error, Err(KeyError::NotPrevious { .. })), "{error:?}");
            }
        }
    }

    #[test]
    fn each_key_counts_what_it_verifies_through_reloads() {
        let dir = tempfile::tempdir().unwrap();
        let ((old, previous), (new, _)) = (secret(1), secret(2));
        let token = access_token(&parts(&settings(old), NOW).0, NOW);
        let tokens = with_previous(new, vec![previous], dir.path());
        let first = KeyRing::load(&tokens, UnixSeconds::new(NOW), &[], Access::Use).unwrap();
        let keys = first.keys();
        let second = KeyRing::load(&tokens, UnixSeconds::new(NOW + 1), &keys, Access::Use).unwrap();
        for ring in [first, second] {
            let (issuer, verifier) = ring.into_parts(&tokens, None);
            assert_eq!(issuer.signs_with(UnixSeconds::new(NOW)), Some(&*keys[0].record));
            let claims = verifier.verify(&token, TokenType::Access, UnixSeconds::new(NOW + 2)).unwrap();
            assert_eq!(claims.key().map(|key| key.id()), Some(keys[1].record.id()));
        }
        assert_eq!(keys.iter().map(|key| key.record.verified()).collect::<Vec<_>>(), [0, 2]);
    }

    #[test]
    fn a_key_of_another_kind_is_refused_with_the_way_to_make_one() {
        let dir = tempfile::tempdir().unwrap();
        let store = KeyStore::open(dir.path()).unwrap();
        let key = store.generate(Algorithm::ES256, UnixSeconds::new(NOW)).unwrap();
        let path = dir.path().join(format!("{}.pem", key.kid));
        for algorithm in [Algorithm::EdDSA, Algorithm::ES384, Algorithm::RS256] {
            let error = KeyRing::load(
                &settings(Signing::PrivateKeyFile { algorithm, path: path.clone() }),
                UnixSeconds::new(NOW),
                &[],
                Access::Use,
            );
            let said = error.unwrap_err().to_string();
            assert!(said.contains(algorithm.name()), "{said}");
        }
    }

    /// DER (X.690): a tag, a length, the content.
    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len().to_be_bytes();
        let length = &length[length.iter().position(|byte| *byte > 0).unwrap_or(length.len() - 1)..];
        match content.len() {
            0..128 => [&[tag, content.len() as u8], content].concat(),
            _ => [&[tag, 0x80 | length.len() as u8], length, content].concat(),
        }
    }

    /// The elements of a DER sequence, each with its tag.
    fn elements(sequence: &[u8]) -> Vec<Vec<u8>> {
        fn next(bytes: &[u8]) -> (&[u8], &[u8], &[u8]) {
            let long = usize::from(bytes[1] & 0x7f) * usize::from(bytes[1] >> 7);
            let length = match long {
                0 => usize::from(bytes[1]),
                _ => bytes[2..2 + long].iter().fold(0, |length, byte| length << 8 | usize::from(*byte)),
            };
            let start = 2 + long;
            (&bytes[..start + length], &bytes[start..start + length], &bytes[start + length..])
        }
        let (_, mut rest, _) = next(sequence);
        let mut found = Vec::new();
        while !rest.is_empty() {
            let (element, _, after) = next(rest);
            found.push(element.to_vec());
            rest = after;
        }
        found
    }

    /// An RSA key of 2048 bits as PKCS#8 with another public exponent, and a private one that fits if it is 1.
    fn rsa_with_exponent(dir: &Path, exponent: u8) -> Vec<u8> {
        let (pem, pkcs1) = (dir.join("plain.pem"), dir.join("plain.der"));
        let openssl = |arguments: &[&str], out: &Path| {
            let mut openssl = std::process::Command::new("openssl");
            let status = openssl.args(arguments).arg("-out").arg(out).status().unwrap();
            assert!(status.success(), "{arguments:?}");
        };
        openssl(&["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], &pem);
        openssl(&["pkey", "-in", pem.to_str().unwrap(), "-traditional", "-outform", "DER"], &pkcs1);
        // RSAPrivateKey (RFC 8017 appendix A.1.2): version, n, e, d, p, q, d mod (p-1), d mod (q-1), coefficient.
        let mut numbers = elements(&std::fs::read(pkcs1).unwrap());
        numbers[2] = der(2, &[exponent]);
        if exponent == 1 {
            [3, 6, 7].into_iter().for_each(|place| numbers[place] = der(2, &[1]));
        }
        let algorithm = der(0x30, b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00");
        let key = der(0x04, &der(0x30, &numbers.concat()));
        pem::encode(&pem::Pem::new(
            "PRIVATE KEY",
            der(0x30, &[b"\x02\x01\x00".to_vec(), algorithm, key].concat()),
        ))
        .into_bytes()
    }

    #[test]
    fn an_rsa_key_whose_exponent_is_1_is_named_with_setting_file_and_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signing.pem");
        for (exponent, algorithm) in [(1, Algorithm::RS256), (1, Algorithm::PS512), (2, Algorithm::RS256)] {
            std::fs::write(&path, rsa_with_exponent(dir.path(), exponent)).unwrap();
            let settings = settings(Signing::PrivateKeyFile { algorithm, path: path.clone() });
            let error = KeyRing::load(&settings, UnixSeconds::new(NOW), &[], Access::Use)
                .map(|_| ())
                .unwrap_err()
                .to_string();
            for part in [
                "tokens.private_key_file: ",
                &path.display().to_string(),
                algorithm.name(),
                "public exponent",
                "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072",
            ] {
                assert!(error.contains(part), "{exponent}: {part} is not in {error}");
            }
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
            (
                Algorithm::ES256,
                "EC -pkeyopt ec_paramgen_curve:P-384",
                "it is an EC key on another curve",
                "ec_paramgen_curve:P-256",
            ),
            (
                Algorithm::ES384,
                "EC -pkeyopt ec_paramgen_curve:secp256k1",
                "it is an EC key on another curve",
                "ec_paramgen_curve:P-384",
            ),
            (
                Algorithm::EdDSA,
                "EC -pkeyopt ec_paramgen_curve:P-256",
                "it is a P-256 key, for ES256",
                "-algorithm ed25519",
            ),
            (
                Algorithm::RS256,
                "EC -pkeyopt ec_paramgen_curve:P-384",
                "it is a P-384 key, for ES384",
                "rsa_keygen_bits:3072",
            ),
            (Algorithm::EdDSA, "RSA -pkeyopt rsa_keygen_bits:2048", "it is an RSA key", "-algorithm ed25519"),
            (
                Algorithm::RS512,
                "ed25519 -aes-128-cbc -pass pass:secret",
                "the key is encrypted",
                "unencrypted PKCS#8 PEM",
            ),
            (Algorithm::PS384, "ed25519", "it is an Ed25519 key", "PKCS#8 PEM"),
        ] {
            let path = dir.path().join(algorithm.name());
            let mut openssl = std::process::Command::new("openssl");
            openssl.args(["genpkey", "-quiet", "-out"]).arg(&path).arg("-algorithm").args(made.split(' '));
            assert!(openssl.status().unwrap().success());
            let settings = settings(Signing::PrivateKeyFile { algorithm, path: path.clone() });
            let error = KeyRing::load(&settings, UnixSeconds::new(NOW), &[], Access::Use)
                .map(|_| ())
                .unwrap_err()
                .to_string();
            for part in
                ["tokens.private_key_file: ", &path.display().to_string(), algorithm.name(), reason, remedy]
            {
                assert!(error.contains(part), "{part} is not in {error}");
            }
        }
    }
}
