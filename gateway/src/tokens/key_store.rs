//! The store of gateway-managed keys: one PEM file per key, and a manifest with their states.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
};
use jsonwebtoken::EncodingKey;
use serde::{Deserialize, Serialize};

use super::UnixSeconds;
use super::key_record::KeyRole;
use super::key_ring::{KeyError, private_key};
use super::public_key::VerificationKey;
use crate::config::Algorithm;
use crate::file_owner::{create_afresh, create_folder, open_lock_file};

/// The list of the keys and their states.
const MANIFEST: &str = "keys.json";

/// How long a new key is published before it signs, in seconds, so that instances that share the keys and
/// have not yet read it do not reject its tokens.
pub(super) const PUBLICATION_MARGIN_SECS: u64 = 10;

/// The state of a managed key in its rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// Published, so that others know it before it signs.
    Next,
    /// Signs.
    Signing,
    /// Verifies the tokens it signed, until the last of them has expired.
    Retired {
        /// When it was retired.
        at: UnixSeconds,
    },
}

/// A key of the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// Its RFC 7638 thumbprint, which is also its file's name.
    pub kid: String,
    /// The only algorithm it may be used with.
    pub algorithm: Algorithm,
    /// Created at.
    pub created_at: UnixSeconds,
    /// Its state.
    pub state: KeyState,
}

impl StoredKey {
    /// What the key is for, among all that are stored, oldest first; its tokens are accepted for `lifetime` seconds.
    pub(super) fn role(&self, all: &[StoredKey], lifetime: u64) -> KeyRole {
        let earlier = all.iter().take_while(|key| key.kid != self.kid);
        let predecessor_retired_at = earlier
            .filter(|key| key.algorithm == self.algorithm)
            .filter_map(|key| match key.state {
                KeyState::Retired { at } => Some(at),
                _ => None,
            })
            .max();
        // The first one signs at once, for there is no other.
        let from = predecessor_retired_at
            .map_or(self.created_at, |at| at.max(self.created_at + PUBLICATION_MARGIN_SECS));
        match self.state {
            KeyState::Next => KeyRole::Next,
            KeyState::Signing => KeyRole::Signing { from },
            KeyState::Retired { at } => {
                let stopped_at = at + PUBLICATION_MARGIN_SECS;
                KeyRole::Previous { from, stopped_at, until: stopped_at + lifetime }
            }
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    kid: String,
    algorithm: String,
    created_at: UnixSeconds,
    state: KeyState,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Manifest {
    keys: Vec<Entry>,
}

/// A key folder, locked against other processes while this value lives.
#[derive(Debug)]
pub struct KeyStore {
    dir: PathBuf,
    // Held for its lock only.
    _lock: File,
}

impl KeyStore {
    /// The file that lists a folder's keys; it changes with each of them.
    pub fn list_path(dir: &Path) -> PathBuf {
        dir.join(MANIFEST)
    }

    /// Opens the folder, and creates it (mode 0700) if missing. Blocks while another process has it open.
    ///
    /// # Errors
    ///
    /// It cannot be created or locked.
    pub fn open(dir: &Path) -> Result<KeyStore, KeyError> {
        let failed = |source| KeyError::Store { dir: dir.to_owned(), source };
        create_folder(dir).map_err(failed)?;
        let lock = open_lock_file(&dir.join("keys.lock"), dir).map_err(failed)?;
        lock.lock().map_err(failed)?;
        Ok(KeyStore { dir: dir.to_owned(), _lock: lock })
    }

    /// All keys, oldest first.
    ///
    /// # Errors
    ///
    /// The manifest cannot be read.
    pub fn list(&self) -> Result<Vec<StoredKey>, KeyError> {
        let path = self.dir.join(MANIFEST);
        let bad = |reason: String| KeyError::BadManifest { path: path.clone(), reason };
        let manifest: Manifest = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Manifest::default(),
            Err(source) => return Err(KeyError::Store { dir: self.dir.clone(), source }),
        };
        let read = |e: Entry| {
            let algorithm = Algorithm::from_name(&e.algorithm)
                .filter(|a| !a.is_symmetric())
                .ok_or_else(|| bad(format!("no algorithm for kept keys: {}", e.algorithm)))?;
            if e.kid.is_empty() || !e.kid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            {
                return Err(bad(format!("{:?} is no key id", e.kid)));
            }
            Ok(StoredKey { kid: e.kid, algorithm, created_at: e.created_at, state: e.state })
        };
        manifest.keys.into_iter().map(read).collect()
    }

    /// All keys; a signing key for `algorithm` is generated first if there is none.
    pub fn signing_and_others(
        &self,
        algorithm: Algorithm,
        now: UnixSeconds,
    ) -> Result<Vec<StoredKey>, KeyError> {
        let keys = self.list()?;
        if keys.iter().any(|k| k.state == KeyState::Signing && k.algorithm == algorithm) {
            return Ok(keys);
        }
        self.rotate(algorithm, now)?;
        self.list()
    }

    /// Generates and publishes a key, so that it can sign later.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn generate(&self, algorithm: Algorithm, now: UnixSeconds) -> Result<StoredKey, KeyError> {
        let pem = generate_pem(algorithm)?;
        let private = private_key(pem.as_bytes(), algorithm)
            .map_err(|reason| KeyError::WrongKind { algorithm, reason })?;
        let kid = VerificationKey::of_private(algorithm, &private)?.kid.ok_or(KeyError::NotAsymmetric)?;
        let key = StoredKey { kid, algorithm, created_at: now, state: KeyState::Next };
        self.write(&self.key_path(&key), pem.as_bytes())?;
        let mut keys = self.list()?;
        keys.push(key.clone());
        self.save(&keys)?;
        Ok(key)
    }

    /// Rotation: the newest published key (or a new one, where none is published) becomes the signing key,
    /// and the previous one is retired.
    ///
    /// # Errors
    ///
    /// The files cannot be written.
    pub fn rotate(&self, algorithm: Algorithm, now: UnixSeconds) -> Result<StoredKey, KeyError> {
        let next = |keys: &[StoredKey]| {
            keys.iter().rposition(|k| k.state == KeyState::Next && k.algorithm == algorithm)
        };
        let mut keys = self.list()?;
        let index = match next(&keys) {
            Some(index) => index,
            None => {
                self.generate(algorithm, now)?;
                keys = self.list()?;
                next(&keys).ok_or(KeyError::NotAsymmetric)?
            }
        };
        // A damaged one must not sign: the next start would fail.
        self.private_key(&keys[index])?;
        for key in keys.iter_mut().filter(|k| k.state == KeyState::Signing) {
            key.state = KeyState::Retired { at: now };
        }
        keys[index].state = KeyState::Signing;
        self.save(&keys)?;
        Ok(keys[index].clone())
    }

    /// Retires the keys that sign with an algorithm, which is no longer the configured one.
    pub(super) fn retire_all(&self, algorithm: Algorithm, now: UnixSeconds) -> Result<(), KeyError> {
        let mut keys = self.list()?;
        let signing = |key: &&mut StoredKey| key.state == KeyState::Signing && key.algorithm == algorithm;
        if keys.iter_mut().filter(signing).map(|key| key.state = KeyState::Retired { at: now }).count() > 0 {
            self.save(&keys)?;
        }
        Ok(())
    }

    /// Reads the public half of a key; a retired one may have no other.
    pub(super) fn public_key(&self, key: &StoredKey) -> Result<VerificationKey, KeyError> {
        let path = self.key_path(key);
        let text = fs::read(&path).map_err(|source| KeyError::Unreadable { path: path.clone(), source })?;
        VerificationKey::of_pem(&text, &[key.algorithm]).map_err(|reason| KeyError::NoSuchKey {
            path,
            algorithm: key.algorithm,
            reason,
        })
    }

    /// Reads a private key.
    pub fn private_key(&self, key: &StoredKey) -> Result<EncodingKey, KeyError> {
        let path = self.key_path(key);
        let pem = fs::read(&path).map_err(|source| KeyError::Unreadable { path: path.clone(), source })?;
        private_key(&pem, key.algorithm).map_err(|reason| KeyError::NoSuchKey {
            path,
            algorithm: key.algorithm,
            reason,
        })
    }

    fn key_path(&self, key: &StoredKey) -> PathBuf {
        self.dir.join(format!("{}.pem", key.kid))
    }

    fn save(&self, keys: &[StoredKey]) -> Result<(), KeyError> {
        let entry = |k: &StoredKey| Entry {
            kid: k.kid.clone(),
            algorithm: k.algorithm.name().to_owned(),
            created_at: k.created_at,
            state: k.state,
        };
        let manifest = Manifest { keys: keys.iter().map(entry).collect() };
        let text = serde_json::to_vec_pretty(&manifest)
            .map_err(|e| KeyError::Store { dir: self.dir.clone(), source: e.into() })?;
        self.write(&self.dir.join(MANIFEST), &text)
    }

    /// Writes a file of mode 0600, owned as the folder is, atomically.
    pub(super) fn write(&self, path: &Path, content: &[u8]) -> Result<(), KeyError> {
        let temporary = path.with_extension("new");
        let write = || {
            let mut file = create_afresh(&temporary, &self.dir)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&temporary, path)?;
            File::open(&self.dir)?.sync_all()
        };
        write().map_err(|source| KeyError::Store { dir: self.dir.clone(), source })
    }
}

fn generate_pem(algorithm: Algorithm) -> Result<String, KeyError> {
    let random = SystemRandom::new();
    let refused = |_| KeyError::NoRandomness;
    // PKCS#8 version 1: version 2 includes the public key, and jsonwebtoken cannot export that as a JWK.
    let der = match algorithm {
        Algorithm::EdDSA => Ed25519KeyPair::generate_pkcs8v1(&random).map_err(refused)?.as_ref().to_vec(),
        Algorithm::ES256 => EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            .map_err(refused)?
            .as_ref()
            .to_vec(),
        Algorithm::ES384 => EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &random)
            .map_err(refused)?
            .as_ref()
            .to_vec(),
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => return Err(KeyError::NotAsymmetric),
        _ => {
            let pair = RsaKeyPair::generate(KeySize::Rsa3072).map_err(refused)?;
            let der: Pkcs8V1Der<'_> = pair.as_der().map_err(refused)?;
            der.as_ref().to_vec()
        }
    };
    Ok(pem::encode(&pem::Pem::new("PRIVATE KEY", der)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_made_once_and_kept_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("keys");
        let first = KeyStore::open(&dir).unwrap().signing_and_others(Algorithm::EdDSA, 1).unwrap();
        let again = KeyStore::open(&dir).unwrap().signing_and_others(Algorithm::EdDSA, 2).unwrap();
        assert_eq!(first, again);
        for file in fs::read_dir(&dir).unwrap() {
            assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn rotation_lets_the_published_key_sign_and_retires_the_one_that_did() {
        let dir = tempfile::tempdir().unwrap();
        let store = KeyStore::open(dir.path()).unwrap();
        let first = store.rotate(Algorithm::ES256, 10).unwrap();
        let published = store.generate(Algorithm::ES256, 20).unwrap();
        assert_eq!(store.rotate(Algorithm::ES256, 30).unwrap().kid, published.kid);
        let keys = store.list().unwrap();
        let state = |kid: &str| keys.iter().find(|k| k.kid == kid).unwrap().state;
        assert_eq!(state(&first.kid), KeyState::Retired { at: 30 });
        assert_eq!(state(&published.kid), KeyState::Signing);
    }

    #[test]
    fn a_damaged_key_is_not_rotated_to() {
        let dir = tempfile::tempdir().unwrap();
        let store = KeyStore::open(dir.path()).unwrap();
        let first = store.rotate(Algorithm::EdDSA, 10).unwrap();
        let published = store.generate(Algorithm::EdDSA, 20).unwrap();
        fs::write(store.key_path(&published), "rubbish").unwrap();
        assert!(matches!(store.rotate(Algorithm::EdDSA, 30), Err(KeyError::NoSuchKey { .. })));
        let signing = store.list().unwrap().into_iter().find(|key| key.state == KeyState::Signing);
        assert_eq!(signing.unwrap().kid, first.kid);
    }

    #[test]
    fn a_damaged_list_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = KeyStore::open(dir.path()).unwrap();
        fs::write(dir.path().join(MANIFEST), b"{\"keys\":[{\"kid\":\"../x\"").unwrap();
        assert!(matches!(store.signing_and_others(Algorithm::EdDSA, 1), Err(KeyError::BadManifest { .. })));
        assert!(fs::read(dir.path().join(MANIFEST)).unwrap().starts_with(b"{\"keys\""));
    }
}
