//! The sources of users, in order: files, SQL tables and directories. A name belongs to the first source that has it.
//!
//! A source that does not answer is told as [`SourceUnavailable`], never as an unknown name: later sources are not asked, or
//! another's name could be taken while its source is away. Ids of one source have one prefix, so that an id leads to its source.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::diagnostic::{UserFileDiagnostic, UserFileErrors, UserFileWarning};
use super::edit::UsersFile;
use super::hashing_pool::HashingPool;
use super::ldap::LdapSource;
use super::name::CanonicalName;
use super::password::Password;
use super::password_hash::{HashCost, PasswordHash, Scheme, most_common_scheme};
use super::remote::SourceUnavailable;
use super::sql::SqlSource;
use super::user_store::User;
use super::watched_directory::{FileFormat, ReloadOutcome, WatchedDirectory};
use crate::config::{UserSource, UserSourceKind, Users};

/// All sources.
#[derive(Debug)]
pub struct UserSources {
    settings: Users,
    sources: Vec<NamedSource>,
}

#[derive(Debug)]
struct NamedSource {
    settings: UserSource,
    source: Source,
}

#[derive(Debug)]
enum Source {
    File(WatchedDirectory),
    Sql { source: SqlSource, schemes: Schemes },
    Ldap(LdapSource),
}

/// A user, and which source has it.
#[derive(Debug, Clone)]
pub struct FoundUser {
    /// The user, with the source's prefix before the id.
    pub user: Arc<User>,
    /// The name of the source.
    pub source: String,
    /// Which of them.
    index: usize,
}

/// The schemes of a database's hashes, as far as they were seen.
#[derive(Debug, Default)]
struct Schemes(Mutex<Vec<Scheme>>);

impl Schemes {
    /// More would be remembered for nothing.
    const MAX: usize = 1000;

    fn add(&self, scheme: Scheme) {
        let mut schemes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if schemes.len() < Self::MAX {
            schemes.push(scheme);
        }
    }

    fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn all(&self) -> Vec<Scheme> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl UserSources {
    /// Reads and checks the files, reporting everything that is wrong with them at once. Servers are not asked yet.
    ///
    /// # Errors
    ///
    /// What is wrong with a file, or with the certificates for a directory.
    pub fn load(settings: &Users) -> Result<(UserSources, Vec<UserFileWarning>), UserFileErrors> {
        let (mut sources, mut warnings, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        for source in &settings.sources {
            let cannot = |why: String| {
                let (path, key) = (source.name.clone().into(), String::new());
                let remedy = "correct its section in [users]".to_owned();
                UserFileErrors(vec![UserFileDiagnostic { path, line: None, key, message: why, remedy }])
            };
            let file = |path, format| WatchedDirectory::load(path, format, settings.allow_broken_hashes);
            let opened = match &source.kind {
                UserSourceKind::File(path) => {
                    file(path, FileFormat::Toml).map(|(file, of)| (Source::File(file), of))
                }
                UserSourceKind::Htpasswd(path) => {
                    file(path, FileFormat::Htpasswd).map(|(file, of)| (Source::File(file), of))
                }
                UserSourceKind::Sql(sql) => SqlSource::new(&source.name, sql.clone())
                    .map(|source| (Source::Sql { source, schemes: Schemes::default() }, Vec::new()))
                    .map_err(cannot),
                UserSourceKind::Ldap(ldap) => LdapSource::new(&source.name, ldap.clone())
                    .map(|source| (Source::Ldap(source), Vec::new()))
                    .map_err(cannot),
            };
            match opened {
                Ok((opened, of_source)) => {
                    warnings.extend(of_source);
                    sources.push(NamedSource { settings: source.clone(), source: opened });
                }
                Err(of_source) => errors.extend(of_source.0),
            }
        }
        match errors.is_empty() {
            true => Ok((UserSources { settings: settings.clone(), sources }, warnings)),
            false => Err(UserFileErrors(errors)),
        }
    }

    /// Whether these are the sources that `settings` ask for.
    pub(crate) fn is_of(&self, settings: &Users) -> bool {
        self.settings == *settings
    }

    /// The user of that name, from the first source that has it.
    ///
    /// # Errors
    ///
    /// Where a source does not answer that comes before any which has the name.
    pub async fn by_name(&self, name: &CanonicalName) -> Result<Option<FoundUser>, SourceUnavailable> {
        for (index, named) in self.sources.iter().enumerate() {
            let user = match &named.source {
                Source::File(file) => file.current().by_name(name),
                Source::Sql { source, schemes } => source
                    .by_name(name)
                    .await?
                    .inspect(|user| {
                        if let Some(hash) = user.hash() {
                            schemes.add(hash.scheme());
                        }
                    })
                    .map(Arc::new),
                Source::Ldap(source) => source.by_name(name).await?.map(Arc::new),
            };
            if let Some(user) = user {
                let user = named.present(user);
                return Ok(Some(FoundUser { user, source: named.settings.name.clone(), index }));
            }
        }
        Ok(None)
    }

    /// The user of that id, compared byte for byte, from the source whose prefix it has.
    ///
    /// # Errors
    ///
    /// Where that source does not answer.
    pub async fn by_id(&self, id: &str) -> Result<Option<Arc<User>>, SourceUnavailable> {
        let fitting = self.sources.iter().filter(|named| id.starts_with(&named.settings.id_prefix));
        // No two have the same prefix.
        let Some(named) = fitting.max_by_key(|named| named.settings.id_prefix.len()) else { return Ok(None) };
        let own = &id[named.settings.id_prefix.len()..];
        let user = match &named.source {
            Source::File(file) => file.current().by_id(own),
            Source::Sql { source, .. } => source.by_id(own).await?.map(Arc::new),
            Source::Ldap(source) => source.by_id(own).await?.map(Arc::new),
        };
        Ok(user.map(|user| named.present(user)).filter(|user| self.may_be_used(user)))
    }

    /// Whether `password` is that of the user; of nobody, where there is none, which takes as long. One hash runs or one bind.
    pub(super) async fn verify(
        &self,
        pool: &HashingPool,
        found: Option<&FoundUser>,
        password: Password,
    ) -> Result<bool, super::CheckError> {
        use super::user_store::Credential;
        let directory = |index: usize| match &self.sources.get(index)?.source {
            Source::Ldap(ldap) => Some(ldap),
            _ => None,
        };
        match found.map(|found| (&found.user.credential, found.index)) {
            Some((Credential::Hash(hash), _)) => Ok(pool.verify(hash, password).await?),
            Some((Credential::Bind { dn, .. }, index)) => match directory(index) {
                Some(ldap) => Ok(ldap.verify(Some(dn), password).await?),
                None => Ok(false),
            },
            None => match self.sources.iter().find_map(|named| match &named.source {
                Source::Ldap(ldap) if self.sources.len() == 1 => Some(ldap),
                _ => None,
            }) {
                Some(ldap) => Ok(ldap.verify(None, password).await?),
                None => Ok(pool.verify(&self.decoy().await, password).await?),
            },
        }
    }

    /// Hashes the password anew where it was stored at another cost than the configured one, if that is wanted. What is stored is
    /// replaced only where it is still what was verified; whatever goes wrong, the next login tries again.
    pub(super) async fn rehash(&self, pool: &HashingPool, found: &FoundUser, password: Password) {
        let Some(rehash) = self.settings.rehash else { return };
        let cost = HashCost { memory_kib: rehash.memory_kib, passes: rehash.passes, lanes: rehash.lanes };
        let (Some(old), Some(named)) = (found.user.hash(), self.sources.get(found.index)) else { return };
        if !old.needs_rehash(cost) {
            return;
        }
        let Ok(new) = pool.rehash(old, cost, password).await else { return };
        let name = found.user.username.as_str();
        let replaced = match (&named.source, &named.settings.kind) {
            (Source::Sql { source, .. }, _) => {
                let id = &found.user.id[named.settings.id_prefix.len()..];
                source.replace_hash(id, old, &new).await.map_err(|error| error.to_string())
            }
            (Source::File(_), UserSourceKind::File(path)) => {
                let (file, old, name) = (UsersFile::new(path), old.clone(), name.to_owned());
                let edit = tokio::task::spawn_blocking(move || file.replace_hash(&name, &old, &new));
                match edit.await {
                    Ok(outcome) => outcome.map_err(|error| error.to_string()),
                    Err(error) => Err(error.to_string()),
                }
            }
            _ => return,
        };
        match replaced {
            Ok(true) => {
                tracing::info!(user = name, source = found.source, from = %old.scheme(), "rehashed a password")
            }
            Ok(false) => {
                tracing::info!(user = name, "a password was changed while it was rehashed; the change stands")
            }
            Err(error) => tracing::warn!(user = name, %error, "a password could not be rehashed"),
        }
    }

    /// A hash that no password has, of the scheme that most hashes have.
    async fn decoy(&self) -> PasswordHash {
        let mut schemes = Vec::new();
        for named in &self.sources {
            match &named.source {
                Source::File(file) => schemes.extend(file.current().schemes()),
                Source::Sql { source, schemes: seen } => {
                    if seen.is_empty() {
                        let hashes = source.sample().await.unwrap_or_default();
                        hashes
                            .iter()
                            .filter_map(|hash| PasswordHash::parse(hash).ok())
                            .for_each(|hash| seen.add(hash.scheme()));
                        log_schemes(&named.settings.name, &seen.all());
                    }
                    schemes.extend(seen.all());
                }
                Source::Ldap(_) => {}
            }
        }
        PasswordHash::decoy(most_common_scheme(schemes))
    }

    /// Whether the hash may be used: one that is guessed at by the billion only where the configuration allows it.
    pub(super) fn may_be_used(&self, user: &User) -> bool {
        let is_broken = user.hash().is_some_and(|hash| hash.scheme().is_broken());
        if is_broken && !self.settings.allow_broken_hashes {
            let scheme = user.hash().map(|hash| hash.scheme().name());
            tracing::warn!(
                user = user.username,
                scheme,
                "refused: the hash is too weak, and users.allow_broken_hashes is off"
            );
        }
        !is_broken || self.settings.allow_broken_hashes
    }

    /// How many users have a hash of each kind, of those sources that can be counted; for a database, of a sample.
    ///
    /// # Errors
    ///
    /// Where a source does not answer.
    pub async fn scheme_counts(&self) -> Result<Vec<(String, &'static str, usize)>, SourceUnavailable> {
        let mut counts = BTreeMap::new();
        for named in &self.sources {
            let schemes: Vec<Scheme> = match &named.source {
                Source::File(file) => file.current().schemes(),
                Source::Sql { source, .. } => {
                    let hashes = source.sample().await?;
                    hashes.iter().filter_map(|hash| Some(PasswordHash::parse(hash).ok()?.scheme())).collect()
                }
                Source::Ldap(_) => Vec::new(),
            };
            for scheme in schemes {
                *counts.entry((named.settings.name.clone(), scheme.name())).or_insert(0) += 1;
            }
        }
        Ok(counts.into_iter().map(|((source, scheme), count)| (source, scheme, count)).collect())
    }

    /// Tells which kinds of hash the files have.
    pub(crate) fn log_schemes(&self) {
        for named in &self.sources {
            if let Source::File(file) = &named.source {
                log_schemes(&named.settings.name, &file.current().schemes());
            }
        }
    }

    fn files(&self) -> impl Iterator<Item = &WatchedDirectory> {
        self.sources.iter().filter_map(|named| match &named.source {
            Source::File(file) => Some(file),
            _ => None,
        })
    }

    /// Polls the files, and reads those that have changed. Blocks.
    pub fn poll_changes(&self) -> Vec<ReloadOutcome> {
        self.files().map(WatchedDirectory::poll_changes).collect()
    }

    /// Reads the files whether they seem to have changed or not. Blocks.
    pub fn reload(&self) -> Vec<ReloadOutcome> {
        self.files().map(WatchedDirectory::reload).collect()
    }

    /// What is wrong with the sources, if something is: a file whose earlier users are in force, or a server that did not answer.
    pub fn last_error(&self) -> Option<String> {
        let errors = self.sources.iter().filter_map(|named| match &named.source {
            Source::File(file) => file.last_error(),
            Source::Sql { source, .. } => source.last_error(),
            Source::Ldap(source) => source.last_error(),
        });
        let errors: Vec<String> = errors.collect();
        (!errors.is_empty()).then(|| errors.join("; "))
    }

    /// How many users the files have.
    pub fn len(&self) -> usize {
        self.files().map(|file| file.current().len()).sum()
    }

    /// How often changed files came into force.
    pub fn reload_count(&self) -> u64 {
        self.files().map(WatchedDirectory::reload_count).sum()
    }

    /// How often a changed file could not be used.
    pub fn reload_failures(&self) -> u64 {
        self.files().map(WatchedDirectory::reload_failures).sum()
    }
}

fn log_schemes(source: &str, schemes: &[Scheme]) {
    let mut counts = BTreeMap::new();
    schemes.iter().for_each(|scheme| *counts.entry(scheme.name()).or_insert(0) += 1);
    let kinds: Vec<String> = counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    tracing::info!(source, kinds = kinds.join(", "), "kinds of password hashes in use");
}

impl NamedSource {
    /// The user as the gateway knows it: with the source's prefix and the roles that all its users have.
    fn present(&self, user: Arc<User>) -> Arc<User> {
        if self.settings.id_prefix.is_empty() && self.settings.roles.is_empty() {
            return user;
        }
        let mut user = Arc::unwrap_or_clone(user);
        user.id.insert_str(0, &self.settings.id_prefix);
        user.roles.extend(self.settings.roles.iter().cloned());
        Arc::new(user)
    }
}
