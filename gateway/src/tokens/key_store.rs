//! The store of gateway-managed keys: one PEM file per key, and a manifest with their states.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _,
};
use jsonwebtoken::EncodingKey;
use serde::{Deserialize, Serialize};

use super::UnixSeconds;
use super::key_record::KeyRole;
use super::key_ring::{Access, KeyError, private_key, read_key_file};
use super::key_schedule::{Rules, Step, next_step};
use super::public_key::VerificationKey;
use crate::config::Algorithm;
use crate::file_owner::{create_afresh, create_folder, open_lock_file};

/// The list of the keys and their states.
const MANIFEST: &str = "keys.json";
/// The file that is locked.
const LOCK: &str = "keys.lock";

/// How long a new key is published before it signs, in seconds, so that instances that share the keys and
/// have not yet read it do not reject its tokens.
pub(super) const PUBLICATION_MARGIN: Duration = Duration::from_secs(10);

/// How far apart the clocks of processes that share a folder may be, in seconds.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(60);

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
    /// From when it signs, where it does or did.
    pub signs_since: Option<UnixSeconds>,
    /// Its state.
    pub state: KeyState,
}

impl StoredKey {
    /// Whether it is the signing key for an algorithm.
    pub(crate) fn signs_with(&self, algorithm: Algorithm) -> bool {
        self.state == KeyState::Signing && self.algorithm == algorithm
    }

    /// What the key is for; its tokens are accepted for `lifetime` seconds.
    pub(super) fn role(&self, lifetime: Duration) -> KeyRole {
        let from = self.signs_since.unwrap_or(self.created_at);
        match self.state {
            KeyState::Next => KeyRole::Next,
            KeyState::Signing => KeyRole::Signing { from },
            KeyState::Retired { at } => {
                let stopped_at = at.saturating_add(PUBLICATION_MARGIN);
                KeyRole::Previous { from, stopped_at, until: stopped_at.saturating_add(lifetime) }
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signs_since: Option<UnixSeconds>,
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
    _lock: Option<File>,
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
        let lock = open_lock_file(&dir.join(LOCK), dir).map_err(failed)?;
        lock.lock().map_err(failed)?;
        Ok(KeyStore { dir: dir.to_owned(), _lock: Some(lock) })
    }

    /// Opens the folder to read what it has; nothing is created, not even the folder or its lock. Blocks while another process
    /// changes it.
    ///
    /// # Errors
    ///
    /// It cannot be locked.
    pub fn open_to_read(dir: &Path) -> Result<KeyStore, KeyError> {
        // Where there is no lock yet, or this user may not open it, files are replaced in one step all the same.
        let lock = File::open(dir.join(LOCK)).ok();
        if let Some(lock) = &lock {
            lock.lock_shared().map_err(|source| KeyError::Store { dir: dir.to_owned(), source })?;
        }
        Ok(KeyStore { dir: dir.to_owned(), _lock: lock })
    }

    /// Opens the folder to use what it has, or to [read](KeyStore::open_to_read) it.
    ///
    /// # Errors
    ///
    /// As of [`KeyStore::open`] and [`KeyStore::open_to_read`].
    pub(super) fn open_for(dir: &Path, access: Access) -> Result<KeyStore, KeyError> {
        match access {
            Access::Use => KeyStore::open(dir),
            Access::Examine => KeyStore::open_to_read(dir),
        }
    }

    /// Does what has to be done to the keys of a folder at `now`: publishes and rotates them by the schedule, and removes what
    /// is over. Each step is taken by one of the processes that share the folder.
    ///
    /// # Errors
    ///
    /// A file cannot be read or written.
    pub fn maintain(dir: &Path, rules: &Rules, now: UnixSeconds) -> Result<Vec<Step>, KeyError> {
        let has_private = |key: &StoredKey| has_private_half(&key_path(dir, key)).unwrap_or_default();
        let mut done = Vec::new();
        // The lock is taken only where there is something to do.
        if next_step(&list(dir)?, rules, now, has_private).is_none() {
            return Ok(done);
        }
        let store = KeyStore::open(dir)?;
        while let Some(step) = next_step(&store.list()?, rules, now, has_private) {
            match &step {
                Step::Publish => _ = store.generate(rules.algorithm, now)?,
                Step::Rotate => _ = store.rotate(rules.algorithm, now)?,
                Step::Drop(kid) => store.remove(kid)?,
                Step::RemovePrivateHalf(kid) => store.remove_private_half(kid)?,
            }
            done.push(step);
        }
        Ok(done)
    }

    /// Corrects what a process has written whose clock differs: a command, after the system's clock was set while the gateway runs.
    /// A key that `signs` until now has not been retired before, or what it signed would be refused at once; and one that is to sign
    /// begins soon. Returns whether there was something to correct.
    ///
    /// # Errors
    ///
    /// A file cannot be read or written.
    pub fn correct_times(
        dir: &Path,
        signs: impl Fn(&str) -> bool,
        now: UnixSeconds,
    ) -> Result<bool, KeyError> {
        let corrected = |key: &StoredKey| match key.state {
            KeyState::Retired { at } if at.saturating_add(PUBLICATION_MARGIN) < now && signs(&key.kid) => {
                Some(StoredKey { state: KeyState::Retired { at: now }, ..key.clone() })
            }
            KeyState::Signing if key.signs_since > Some(now.saturating_add(MAX_CLOCK_SKEW)) => {
                Some(StoredKey { signs_since: Some(now.saturating_add(PUBLICATION_MARGIN)), ..key.clone() })
            }
            _ => None,
        };
        // The lock is taken only where there is something to do.
        if !list(dir)?.iter().any(|key| corrected(key).is_some()) {
            return Ok(false);
        }
        let store = KeyStore::open(dir)?;
        let keys: Vec<_> = store.list()?.into_iter().map(|key| corrected(&key).unwrap_or(key)).collect();
        store.save(&keys)?;
        Ok(true)
    }

    /// Revokes a stolen key: it verifies nothing any more, and its files are removed. Where it signs, another key signs at once,
    /// the next one or a new one. Returns the key that signs with `algorithm`.
    ///
    /// # Errors
    ///
    /// There is no such key, or the files cannot be written.
    pub fn revoke(
        &self,
        kid: &str,
        algorithm: Algorithm,
        now: UnixSeconds,
    ) -> Result<Option<StoredKey>, KeyError> {
        let signs = |key: &StoredKey| key.signs_with(algorithm);
        let key = self.list()?.into_iter().find(|key| key.kid == kid);
        if signs(&key.ok_or_else(|| KeyError::Unknown(kid.to_owned()))?) {
            self.rotate(algorithm, now)?;
        }
        self.remove(kid)?;
        let mut keys = self.list()?;
        let Some(place) = keys.iter().position(signs) else { return Ok(None) };
        if keys[place].signs_since > Some(now) {
            // There is no other that could go on for a while.
            keys[place].signs_since = Some(now);
            self.save(&keys)?;
        }
        Ok(Some(keys.swap_remove(place)))
    }

    /// Removes a key. Its file goes last: what the list names has a file.
    fn remove(&self, kid: &str) -> Result<(), KeyError> {
        let keys = self.list()?;
        let (gone, kept): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| key.kid == kid);
        self.save(&kept)?;
        for key in gone {
            match fs::remove_file(self.key_path(&key)) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(KeyError::Store { dir: self.dir.clone(), source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Replaces a key's file by one with its public half, in one step.
    fn remove_private_half(&self, kid: &str) -> Result<(), KeyError> {
        for key in self.list()?.iter().filter(|key| key.kid == kid) {
            let path = self.key_path(key);
            let text = read_key_file(&path)?;
            let public = public_pem(&text, key.algorithm).ok_or_else(|| KeyError::NoSuchKey {
                path: path.clone(),
                algorithm: key.algorithm,
                reason: "its public half cannot be computed".to_owned(),
            })?;
            self.write(&path, public.as_bytes())?;
        }
        Ok(())
    }

    /// Whether the file of a key has its private half.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn has_private_half(&self, key: &StoredKey) -> io::Result<bool> {
        has_private_half(&self.key_path(key))
    }

    /// All keys, oldest first.
    ///
    /// # Errors
    ///
    /// The manifest cannot be read.
    pub fn list(&self) -> Result<Vec<StoredKey>, KeyError> {
        list(&self.dir)
    }

    /// All keys; a signing key for `algorithm` is generated first if there is none.
    pub fn signing_and_others(
        &self,
        algorithm: Algorithm,
        now: UnixSeconds,
    ) -> Result<Vec<StoredKey>, KeyError> {
        let keys = self.list()?;
        if keys.iter().any(|key| key.signs_with(algorithm)) {
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
        let key = StoredKey { kid, algorithm, created_at: now, signs_since: None, state: KeyState::Next };
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
        let (mut signs_since, published_at) = (now, keys[index].created_at);
        for key in keys.iter_mut().filter(|k| k.state == KeyState::Signing) {
            key.state = KeyState::Retired { at: now };
            if key.algorithm == algorithm {
                // It goes on until the other one has been published for long enough.
                signs_since = now.max(published_at.saturating_add(PUBLICATION_MARGIN));
            }
        }
        keys[index].state = KeyState::Signing;
        keys[index].signs_since = Some(signs_since);
        self.save(&keys)?;
        Ok(keys[index].clone())
    }

    /// Retires the keys that sign with an algorithm, which is no longer the configured one.
    pub(super) fn retire_all(&self, algorithm: Algorithm, now: UnixSeconds) -> Result<(), KeyError> {
        let mut keys = self.list()?;
        if keys
            .iter_mut()
            .filter(|key| key.signs_with(algorithm))
            .map(|key| key.state = KeyState::Retired { at: now })
            .count()
            > 0
        {
            self.save(&keys)?;
        }
        Ok(())
    }

    /// Reads the public half of a key; a retired one may have no other.
    pub(super) fn public_key(&self, key: &StoredKey) -> Result<VerificationKey, KeyError> {
        let path = self.key_path(key);
        let text = read_key_file(&path)?;
        VerificationKey::of_pem(&text, &[key.algorithm]).map_err(|reason| KeyError::NoSuchKey {
            path,
            algorithm: key.algorithm,
            reason,
        })
    }

    /// Reads a private key.
    pub fn private_key(&self, key: &StoredKey) -> Result<EncodingKey, KeyError> {
        let path = self.key_path(key);
        let pem = read_key_file(&path)?;
        private_key(&pem, key.algorithm).map_err(|reason| KeyError::NoSuchKey {
            path,
            algorithm: key.algorithm,
            reason,
        })
    }

    fn key_path(&self, key: &StoredKey) -> PathBuf {
        key_path(&self.dir, key)
    }

    fn save(&self, keys: &[StoredKey]) -> Result<(), KeyError> {
        let entry = |k: &StoredKey| Entry {
            kid: k.kid.clone(),
            algorithm: k.algorithm.name().to_owned(),
            created_at: k.created_at,
            signs_since: k.signs_since,
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

/// The file of a key in its folder.
fn key_path(dir: &Path, key: &StoredKey) -> PathBuf {
    dir.join(format!("{}.pem", key.kid))
}

fn has_private_half(path: &Path) -> io::Result<bool> {
    Ok(fs::read_to_string(path)?.contains("PRIVATE KEY"))
}

/// All keys that a folder lists, oldest first.
fn list(dir: &Path) -> Result<Vec<StoredKey>, KeyError> {
    let path = dir.join(MANIFEST);
    let bad = |reason: String| KeyError::BadManifest { path: path.clone(), reason };
    let manifest: Manifest = match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => Manifest::default(),
        Err(source) => return Err(KeyError::Store { dir: dir.to_owned(), source }),
    };
    let read = |e: Entry| {
        let algorithm = Algorithm::from_name(&e.algorithm)
            .filter(|a| !a.is_symmetric())
            .ok_or_else(|| bad(format!("no algorithm for kept keys: {}", e.algorithm)))?;
        if e.kid.is_empty() || !e.kid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            return Err(bad(format!("{:?} is no key id", e.kid)));
        }
        Ok(StoredKey {
            kid: e.kid,
            algorithm,
            created_at: e.created_at,
            signs_since: e.signs_since,
            state: e.state,
        })
    };
    manifest.keys.into_iter().map(read).collect()
}

/// The public half of a private key, as an SPKI PEM.
fn public_pem(private: &[u8], algorithm: Algorithm) -> Option<String> {
    let private = pem::parse(private).ok()?;
    let der: PublicKeyX509Der<'_> = match algorithm {
        Algorithm::EdDSA => {
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(private.contents()).ok()?.public_key().as_der().ok()?
        }
        Algorithm::ES256 | Algorithm::ES384 => {
            let curve = match algorithm {
                Algorithm::ES256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
                _ => &ECDSA_P384_SHA384_FIXED_SIGNING,
            };
            EcdsaKeyPair::from_pkcs8(curve, private.contents()).ok()?.public_key().as_der().ok()?
        }
        _ => RsaKeyPair::from_pkcs8(private.contents()).ok()?.public_key().as_der().ok()?,
    };
    Some(pem::encode(&pem::Pem::new("PUBLIC KEY", der.as_ref().to_vec())))
}

pub(super) fn generate_pem(algorithm: Algorithm) -> Result<String, KeyError> {
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
        let first =
            KeyStore::open(&dir).unwrap().signing_and_others(Algorithm::EdDSA, UnixSeconds::new(1)).unwrap();
        let again =
            KeyStore::open(&dir).unwrap().signing_and_others(Algorithm::EdDSA, UnixSeconds::new(2)).unwrap();
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
        let first = store.rotate(Algorithm::ES256, UnixSeconds::new(10)).unwrap();
        let published = store.generate(Algorithm::ES256, UnixSeconds::new(20)).unwrap();
        assert_eq!(store.rotate(Algorithm::ES256, UnixSeconds::new(30)).unwrap().kid, published.kid);
        let keys = store.list().unwrap();
        let state = |kid: &str| keys.iter().find(|k| k.kid == kid).unwrap().state;
        assert_eq!(state(&first.kid), KeyState::Retired { at: UnixSeconds::new(30) });
        assert_eq!(state(&published.kid), KeyState::Signing);
    }

    #[test]
    fn a_damaged_key_is_not_rotated_to() {
        let dir = tempfile::tempdir().unwrap();
        let store = KeyStore::open(dir.path()).unwrap();
        let first = store.rotate(Algorithm::EdDSA, UnixSeconds::new(10)).unwrap();
        let published = store.generate(Algorithm::EdDSA, UnixSeconds::new(20)).unwrap();
        fs::write(store.key_path(&published), "rubbish").unwrap();
        assert!(matches!(
            store.rotate(Algorithm::EdDSA, UnixSeconds::new(30)),
            Err(KeyError::NoSuchKey { .. })
        ));
        let signing = store.list().unwrap().into_iter().find(|key| key.state == KeyState::Signing);
        assert_eq!(signing.unwrap().kid, first.kid);
    }

    #[test]
    fn retired_keys_lose_their_private_halves_and_then_go_and_still_verify_in_between() {
        for algorithm in [Algorithm::EdDSA, Algorithm::ES256, Algorithm::ES384, Algorithm::RS256] {
            let dir = tempfile::tempdir().unwrap();
            let rules = Rules { algorithm, schedule: None, lifetime: Duration::from_secs(600) };
            let store = KeyStore::open(dir.path()).unwrap();
            let first = store.rotate(algorithm, UnixSeconds::new(1_000)).unwrap();
            let before = store.public_key(&first).unwrap();
            store.rotate(algorithm, UnixSeconds::new(2_000)).unwrap();
            // Others that hold the lock are waited for.
            drop(store);
            let maintain = |now| KeyStore::maintain(dir.path(), &rules, now).unwrap();
            assert_eq!(maintain(UnixSeconds::new(2_069)), []);
            assert_eq!(maintain(UnixSeconds::new(2_070)), [Step::RemovePrivateHalf(first.kid.clone())]);
            assert_eq!(maintain(UnixSeconds::new(2_070)), []);
            let store = KeyStore::open(dir.path()).unwrap();
            let text = fs::read_to_string(store.key_path(&first)).unwrap();
            assert!(text.contains("PUBLIC KEY") && !text.contains("PRIVATE"), "{text}");
            assert_eq!(store.public_key(&first).unwrap().jwk, before.jwk);
            assert!(store.private_key(&first).is_err());
            let mode = fs::metadata(store.key_path(&first)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            drop(store);
            assert_eq!(maintain(UnixSeconds::new(2_610)), [Step::Drop(first.kid.clone())]);
            let store = KeyStore::open(dir.path()).unwrap();
            assert_eq!((store.list().unwrap().len(), store.key_path(&first).exists()), (1, false));
        }
    }

    #[test]
    fn what_a_command_with_another_clock_has_written_is_corrected() {
        const NOW: u64 = 10_000;
        let algorithm = Algorithm::EdDSA;
        let rules = Rules { algorithm, schedule: None, lifetime: Duration::from_secs(600) };
        for (of_command, stopped_at, signs_from) in
            [(NOW - 3600, NOW, NOW - 3600), (NOW - 5, NOW - 5, NOW - 5), (NOW + 3600, NOW + 3600, NOW + 10)]
        {
            let dir = tempfile::tempdir().unwrap();
            let store = KeyStore::open(dir.path()).unwrap();
            let first = store.rotate(algorithm, UnixSeconds::new(10)).unwrap();
            let next = store.generate(algorithm, UnixSeconds::new(20)).unwrap();
            store.rotate(algorithm, UnixSeconds::new(of_command)).unwrap();
            drop(store);
            let correct = || {
                KeyStore::correct_times(dir.path(), |kid| kid == first.kid, UnixSeconds::new(NOW)).unwrap()
            };
            assert_eq!(correct(), of_command != NOW - 5, "{of_command}");
            assert!(!correct());
            assert_eq!(KeyStore::maintain(dir.path(), &rules, UnixSeconds::new(NOW)).unwrap(), []);
            let keys = list(dir.path()).unwrap();
            assert_eq!(keys[0].state, KeyState::Retired { at: UnixSeconds::new(stopped_at) });
            assert_eq!((&keys[1].kid, keys[1].signs_since), (&next.kid, Some(UnixSeconds::new(signs_from))));
        }
    }

    #[test]
    fn a_schedule_publishes_and_rotates_and_many_processes_do_it_once() {
        let dir = tempfile::tempdir().unwrap();
        let algorithm = Algorithm::EdDSA;
        let schedule = Some(super::super::Schedule {
            every: Duration::from_secs(1_000),
            publish_before: Duration::from_secs(100),
        });
        let rules = Rules { algorithm, schedule, lifetime: Duration::from_secs(600) };
        KeyStore::open(dir.path()).unwrap().rotate(algorithm, UnixSeconds::new(0)).unwrap();
        let mut taken = Vec::new();
        for now in (0..5_000).step_by(50) {
            let at_once: Vec<Vec<Step>> = std::thread::scope(|scope| {
                let processes = [(); 4].map(|()| {
                    scope.spawn(|| KeyStore::maintain(dir.path(), &rules, UnixSeconds::new(now)).unwrap())
                });
                processes.map(|process| process.join().unwrap()).into()
            });
            taken.extend(at_once.into_iter().flatten());
        }
        let count = |step: &Step| taken.iter().filter(|taken| *taken == step).count();
        // The fifth is published and not due.
        assert_eq!((count(&Step::Publish), count(&Step::Rotate)), (5, 4), "{taken:?}");
        let files =
            fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        let pems = files.filter(|name| name.ends_with(".pem")).count();
        assert_eq!(pems, KeyStore::open(dir.path()).unwrap().list().unwrap().len());
        assert!(pems <= 3, "{pems}");
    }

    #[test]
    fn a_revoked_key_is_gone_with_its_file_and_another_one_signs() {
        let dir = tempfile::tempdir().unwrap();
        let store = KeyStore::open(dir.path()).unwrap();
        let algorithm = Algorithm::EdDSA;
        let older = store.rotate(algorithm, UnixSeconds::new(10)).unwrap();
        let stolen = store.rotate(algorithm, UnixSeconds::new(20)).unwrap();
        let published = store.generate(algorithm, UnixSeconds::new(30)).unwrap();
        assert!(matches!(store.revoke("other", algorithm, UnixSeconds::new(40)), Err(KeyError::Unknown(_))));
        let signs = store.revoke(&stolen.kid, algorithm, UnixSeconds::new(40)).unwrap().unwrap();
        assert_eq!((signs.kid, signs.state), (published.kid.clone(), KeyState::Signing));
        assert_eq!(
            store.revoke(&older.kid, algorithm, UnixSeconds::new(50)).unwrap().unwrap().kid,
            published.kid
        );
        let last = store.revoke(&published.kid, algorithm, UnixSeconds::new(60)).unwrap().unwrap();
        assert_ne!(last.kid, published.kid, "a new one is made where none is published");
        assert_eq!(store.list().unwrap(), [last]);
        for gone in [older, stolen, published] {
            assert!(!store.key_path(&gone).exists());
        }
    }

    #[test]
    fn a_damaged_list_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = KeyStore::open(dir.path()).unwrap();
        fs::write(dir.path().join(MANIFEST), b"{\"keys\":[{\"kid\":\"../x\"").unwrap();
        assert!(matches!(
            store.signing_and_others(Algorithm::EdDSA, UnixSeconds::new(1)),
            Err(KeyError::BadManifest { .. })
        ));
        assert!(fs::read(dir.path().join(MANIFEST)).unwrap().starts_with(b"{\"keys\""));
    }
}
