//! The sources of users, in order: files, SQL tables and directories. A name belongs to the first source that
//! has it.
//!
//! An unavailable source is reported as [`SourceUnavailable`], never as an unknown name: later sources are
//! not queried, or another user could take the name during an outage. The ids of a source share a prefix, so
//! an id leads to its source.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::diagnostic::{UserFileDiagnostic, UserFileErrors, UserFileWarning};
use super::edit::UsersFile;
use super::file::FilePolicy;
use super::file_accounts::FileAccounts;
use super::hashing_pool::HashingPool;
use super::htpasswd;
use super::ldap::LdapSource;
use super::name::CanonicalName;
use super::password::Password;
use super::password_hash::{HashCost, PasswordHash, Scheme, count_schemes, most_common_scheme};
use super::remote::SourceUnavailable;
use super::sql::SqlSource;
use super::sql_listener::Changed;
use super::user_store::{Lookup, ReplaceError, User};
use super::watched_directory::{FileFormat, ReloadOutcome, WatchedDirectory};
use crate::config::{Argon2Cost, CompatIdentity, PasswordPolicy, UserSource, UserSourceKind, Users};

/// All sources.
#[derive(Debug)]
pub struct UserSources {
    settings: Users,
    sources: Vec<NamedSource>,
    /// Changes that were found in databases.
    database_changes: AtomicU64,
    /// Notified when a database announces a change.
    announced: Arc<Notify>,
}

#[derive(Debug)]
struct NamedSource {
    settings: UserSource,
    source: Source,
}

#[derive(Debug)]
enum Source {
    File(Arc<WatchedDirectory>),
    Sql { source: SqlSource, schemes: Schemes },
    Ldap(LdapSource),
}

/// A user with its source.
#[derive(Debug, Clone)]
pub struct FoundUser {
    /// The user, with the source's prefix before the id.
    pub user: Arc<User>,
    /// The name of the source.
    pub source: String,
    /// The index of the source.
    index: usize,
}

/// What the sources have for a name.
#[derive(Debug, Clone)]
pub enum NameLookup {
    /// Nothing.
    Absent,
    /// A source has somebody who cannot log in.
    Unusable {
        /// The name of the source.
        source: String,
        /// The reason.
        why: String,
    },
    /// A user.
    Found(FoundUser),
}

/// The schemes of a database's hashes: those of a sample, or of recent logins where nothing can be sampled.
#[derive(Debug, Default)]
struct Schemes(Mutex<SchemesSeen>);

#[derive(Debug, Default)]
struct SchemesSeen {
    sampled_at: Option<Instant>,
    sample: Vec<Scheme>,
    /// Of logins.
    recent: VecDeque<Scheme>,
}

impl Schemes {
    const MAX_RECENT: usize = 1000;
    /// How long a sample counts.
    const SAMPLE_TIME: Duration = Duration::from_secs(600);

    fn lock(&self) -> MutexGuard<'_, SchemesSeen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, scheme: Scheme) {
        let recent = &mut self.lock().recent;
        if recent.len() == Self::MAX_RECENT {
            recent.pop_front();
        }
        recent.push_back(scheme);
    }

    /// Whether the caller has to take another sample.
    fn is_due(&self) -> bool {
        let mut seen = self.lock();
        let is_due = seen.sampled_at.is_none_or(|at| at.elapsed() > Self::SAMPLE_TIME);
        if is_due {
            seen.sampled_at = Some(Instant::now());
        }
        is_due
    }

    /// Takes a sample, or none after a failure. Returns whether its schemes are others than before.
    fn set_sample(&self, sample: Option<Vec<Scheme>>) -> bool {
        let mut seen = self.lock();
        match sample {
            Some(sample) => {
                let kinds = |schemes: &[Scheme]| by_kind(&count_schemes(schemes.iter().copied()));
                let is_new = kinds(&sample) != kinds(&seen.sample);
                seen.sample = sample;
                is_new
            }
            None => {
                seen.sampled_at = None;
                false
            }
        }
    }

    fn counts(&self) -> BTreeMap<Scheme, usize> {
        let seen = self.lock();
        match seen.sample.is_empty() {
            false => count_schemes(seen.sample.iter().copied()),
            true => count_schemes(seen.recent.iter().copied()),
        }
    }
}

impl UserSources {
    /// Reads and validates the files, reporting all errors at once. Servers are not queried yet.
    ///
    /// # Errors
    ///
    /// The errors of a file, or of the certificates for a directory.
    pub fn load(settings: &Users) -> Result<(UserSources, Vec<UserFileWarning>), UserFileErrors> {
        let (mut sources, mut warnings, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        for source in &settings.sources {
            let cannot = |why: String| {
                let (path, key) = (source.name.clone().into(), String::new());
                let remedy = "correct its section in [users]".to_owned();
                UserFileErrors(vec![UserFileDiagnostic { path, line: None, key, message: why, remedy }])
            };
            let policy = FilePolicy {
                allow_broken_hashes: settings.allow_broken_hashes,
                name_characters: settings.name_characters,
            };
            let file = |path, format| WatchedDirectory::load(path, format, policy);
            let opened = match &source.kind {
                UserSourceKind::File(path) => {
                    file(path, FileFormat::Toml).map(|(file, of)| (Source::File(Arc::new(file)), of))
                }
                UserSourceKind::Htpasswd(path) => {
                    file(path, FileFormat::Htpasswd).map(|(file, of)| (Source::File(Arc::new(file)), of))
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
            true => Ok((
                UserSources {
                    settings: settings.clone(),
                    sources,
                    database_changes: AtomicU64::new(0),
                    announced: Arc::default(),
                },
                warnings,
            )),
            false => Err(UserFileErrors(errors)),
        }
    }

    /// Whether these are the sources of `settings`.
    pub(crate) fn is_of(&self, settings: &Users) -> bool {
        self.settings == *settings
    }

    /// The user of that name, from the first source that has it.
    ///
    /// # Errors
    ///
    /// A source before it is unavailable.
    pub async fn by_name(&self, name: &CanonicalName) -> Result<Option<FoundUser>, SourceUnavailable> {
        Ok(match self.find(name).await? {
            NameLookup::Found(found) => Some(found),
            NameLookup::Absent | NameLookup::Unusable { .. } => None,
        })
    }

    /// What the first source has for a name that has anything.
    ///
    /// # Errors
    ///
    /// A source before it is unavailable.
    pub async fn find(&self, name: &CanonicalName) -> Result<NameLookup, SourceUnavailable> {
        for (index, named) in self.sources.iter().enumerate() {
            let lookup = match &named.source {
                Source::File(file) => match file.current().by_name(name) {
                    Some(user) => return Ok(named.found(user, index)),
                    None => Lookup::Absent,
                },
                Source::Sql { source, schemes } => {
                    let lookup = source.by_name(name).await?;
                    if let Lookup::Found(user) = &lookup
                        && let Some(hash) = user.hash()
                    {
                        schemes.add(hash.scheme());
                    }
                    lookup
                }
                Source::Ldap(source) => source.by_name(name).await?,
            };
            match lookup {
                Lookup::Absent => {}
                Lookup::Unusable(why) => {
                    return Ok(NameLookup::Unusable { source: named.settings.name.clone(), why });
                }
                Lookup::Found(user) => return Ok(named.found(Arc::new(user), index)),
            }
        }
        Ok(NameLookup::Absent)
    }

    /// The user of that id, compared byte for byte, from the source with its prefix.
    ///
    /// # Errors
    ///
    /// That source is unavailable.
    pub async fn by_id(&self, id: &str) -> Result<Option<Arc<User>>, SourceUnavailable> {
        let Some(named) = self.named_source_of(id) else { return Ok(None) };
        let own = &id[named.settings.id_prefix.len()..];
        let user = match &named.source {
            Source::File(file) => file.current().by_id(own),
            Source::Sql { source, .. } => source.by_id(own).await?.map(Arc::new),
            Source::Ldap(source) => source.by_id(own).await?.map(Arc::new),
        };
        Ok(user.map(|user| named.present(user)).filter(|user| self.may_be_used(user)))
    }

    /// The user with that `sub`: the id, or the name where tokens carry names.
    ///
    /// # Errors
    ///
    /// A source is unavailable.
    pub async fn by_identity(
        &self,
        identity: CompatIdentity,
        sub: &str,
    ) -> Result<Option<Arc<User>>, SourceUnavailable> {
        if identity == CompatIdentity::Id {
            return self.by_id(sub).await;
        }
        let Some(name) = CanonicalName::parse(sub) else { return Ok(None) };
        let found = self.by_name(&name).await?;
        Ok(found.map(|found| found.user).filter(|user| self.may_be_used(user)))
    }

    /// Whether `password` is that of the user. Without a user the result is false, and takes as long. Runs
    /// one hash or one bind.
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

    /// Rehashes the password where it was stored at another cost than the configured one, if that is enabled.
    /// The stored hash is replaced only where it is still the verified one; after a failure, the next login
    /// tries again.
    pub(super) async fn rehash(&self, pool: &HashingPool, found: &FoundUser, password: Password) {
        let has_refused = match self.sources.get(found.index).map(|named| &named.source) {
            Some(Source::Sql { source, .. }) => source.has_refused(),
            _ => false,
        };
        let may_rehash = !has_refused && self.is_writable(found);
        let Some(cost) = self.settings.rehash_cost().map(hash_cost).filter(|_| may_rehash) else {
            return;
        };
        let Some(old) = found.user.hash().filter(|old| old.needs_rehash(cost)) else { return };
        let Ok(new) = pool.rehash(old, cost, password).await else { return };
        let name = found.user.username.as_str();
        match self.replace_hash(found, &new, false).await {
            Ok(true) => {
                tracing::info!(user = name, source = found.source, from = %old.scheme(), "rehashed a password");
            }
            Ok(false) => tracing::info!(user = name, "another hash was stored meanwhile, which stays"),
            Err(ReplaceError::NotWritable) => {}
            Err(ReplaceError::Failed(error)) => {
                tracing::warn!(user = name, error, "a password could not be rehashed")
            }
        }
    }

    /// What new passwords have to be like.
    pub(super) fn password_policy(&self) -> &PasswordPolicy {
        &self.settings.password_policy
    }

    /// Whether the source of a user can store another hash.
    pub fn is_writable(&self, found: &FoundUser) -> bool {
        self.sources.get(found.index).is_some_and(|named| match (&named.source, &named.settings.kind) {
            (Source::Sql { source, .. }, _) => source.is_writable(),
            (Source::File(_), UserSourceKind::Htpasswd(_)) => self.settings.rehash_htpasswd,
            (Source::File(_), _) => true,
            (Source::Ldap(_), _) => false,
        })
    }

    /// The cost of new hashes.
    pub(super) fn new_password_cost(&self) -> HashCost {
        hash_cost(self.settings.argon2)
    }

    /// Replaces the hash of a user if it is still the one that was found, effective at once; returns whether
    /// it was. One of a new password is the change that may have been required.
    pub(super) async fn replace_hash(
        &self,
        found: &FoundUser,
        new: &PasswordHash,
        is_new_password: bool,
    ) -> Result<bool, ReplaceError> {
        let failed = |error: &dyn std::fmt::Display| ReplaceError::Failed(error.to_string());
        let (Some(old), Some(named)) = (found.user.hash(), self.sources.get(found.index)) else {
            return Err(ReplaceError::NotWritable);
        };
        match (&named.source, &named.settings.kind) {
            _ if !self.is_writable(found) => Err(ReplaceError::NotWritable),
            (Source::Sql { source, .. }, _) => {
                let id = &found.user.id[named.settings.id_prefix.len()..];
                source.replace_hash(id, old, new, is_new_password).await
            }
            (Source::File(watched), UserSourceKind::File(path) | UserSourceKind::Htpasswd(path)) => {
                let (path, watched) = (path.clone(), Arc::clone(watched));
                let is_htpasswd = matches!(named.settings.kind, UserSourceKind::Htpasswd(_));
                let (name, old, new) = (found.user.username.clone(), old.clone(), new.clone());
                let edit = move || {
                    let replaced = match is_htpasswd {
                        true => htpasswd::replace_hash(&path, &name, &old, &new).map_err(|e| e.to_string()),
                        false => UsersFile::new(path)
                            .replace_hash(&name, &old, &new, is_new_password)
                            .map_err(|e| e.to_string()),
                    }?;
                    // Until the next poll the old hash would be used.
                    watched.reload();
                    Ok(replaced)
                };
                let outcome = tokio::task::spawn_blocking(edit).await.map_err(|error| failed(&error))?;
                outcome.map_err(ReplaceError::Failed)
            }
            _ => Err(ReplaceError::NotWritable),
        }
    }

    /// A decoy of the scheme that most hashes have.
    async fn decoy(&self) -> PasswordHash {
        let mut all = BTreeMap::new();
        for named in &self.sources {
            let counts = match &named.source {
                Source::File(file) => file.current().schemes().clone(),
                Source::Sql { source, schemes } => {
                    if schemes.is_due() && schemes.set_sample(named.sample(source).await.ok()) {
                        log_schemes(&named.settings.name, &schemes.counts());
                    }
                    schemes.counts()
                }
                Source::Ldap(_) => BTreeMap::new(),
            };
            counts.into_iter().for_each(|(scheme, count)| *all.entry(scheme).or_insert(0) += count);
        }
        PasswordHash::decoy(most_common_scheme(&all))
    }

    /// Whether the configuration allows the user's name, and a hash of its scheme where that is broken.
    pub(super) fn may_be_used(&self, user: &User) -> bool {
        if !self.settings.name_characters.allow(&user.username) {
            tracing::warn!(
                user = user.username,
                "refused: the name has a character that users.name_characters does not allow"
            );
            return false;
        }
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

    /// The number of users per hash scheme, of the sources that can be counted; for a database, of a sample.
    ///
    /// # Errors
    ///
    /// A source is unavailable.
    pub async fn scheme_counts(&self) -> Result<Vec<(String, &'static str, usize)>, SourceUnavailable> {
        let mut lines = Vec::new();
        for named in &self.sources {
            let counts = match &named.source {
                Source::File(file) => file.current().schemes().clone(),
                Source::Sql { source, .. } => count_schemes(named.sample(source).await?),
                Source::Ldap(_) => BTreeMap::new(),
            };
            let kinds = by_kind(&counts).into_iter();
            lines.extend(kinds.map(|(kind, count)| (named.settings.name.clone(), kind, count)));
        }
        Ok(lines)
    }

    /// Logs the hash schemes of the files.
    pub(crate) fn log_schemes(&self) {
        for named in &self.sources {
            if let Source::File(file) = &named.source {
                log_schemes(&named.settings.name, file.current().schemes());
            }
        }
    }

    /// How often [`Self::versions`] is to be polled; `None` where no database has a version.
    pub(crate) fn poll_interval(&self) -> Option<Duration> {
        self.sql().filter_map(|(_, source)| source.poll_interval()).min()
    }

    /// The versions of the databases that have one and respond, by the name of the source.
    pub(crate) async fn versions(&self) -> Vec<(String, String)> {
        let mut versions = Vec::new();
        for (settings, source) in self.sql() {
            // An outage was logged by the source, and is looked at again at the next poll.
            if let Ok(Some(version)) = source.version().await {
                versions.push((settings.name.clone(), version));
            }
        }
        versions
    }

    /// Begins to listen to the databases that announce changes; once.
    pub(crate) fn listen(&self) {
        self.sql().for_each(|(_, source)| source.listen(&self.announced));
    }

    /// Waits until a database announces a change.
    pub(crate) async fn announced(&self) {
        self.announced.notified().await;
    }

    /// The announced changes that were not taken yet, by the name of the source. Ids have the source's prefix.
    pub(crate) fn take_announced(&self) -> Vec<(String, Changed)> {
        let take = |(settings, source): (&UserSource, &SqlSource)| {
            let prefixed = |id: String| format!("{}{id}", settings.id_prefix);
            let changed = match source.listener()?.take()? {
                Changed::Any => Changed::Any,
                Changed::Users(ids) => Changed::Users(ids.into_iter().map(prefixed).collect()),
            };
            Some((settings.name.clone(), changed))
        };
        self.sql().filter_map(take).collect()
    }

    /// Has all users of a source count as changed, as what was announced could not be acted on.
    pub(crate) fn retry_announced(&self, name: &str) {
        let sources = self.sql().filter(|(settings, _)| settings.name == name);
        sources.filter_map(|(_, source)| source.listener()).for_each(|listener| listener.add(Changed::Any));
    }

    fn sql(&self) -> impl Iterator<Item = (&UserSource, &SqlSource)> {
        self.sources.iter().filter_map(|named| match &named.source {
            Source::Sql { source, .. } => Some((&named.settings, source)),
            _ => None,
        })
    }

    /// The name of the source of a user's id.
    pub(crate) fn source_of(&self, id: &str) -> Option<&str> {
        self.named_source_of(id).map(|named| named.settings.name.as_str())
    }

    fn named_source_of(&self, id: &str) -> Option<&NamedSource> {
        let fitting = self.sources.iter().filter(|named| id.starts_with(&named.settings.id_prefix));
        // No two have the same prefix.
        fitting.max_by_key(|named| named.settings.id_prefix.len())
    }

    /// The account states according to the files.
    pub(crate) fn file_accounts(&self) -> FileAccounts {
        let stores = self.sources.iter().map(|named| {
            let store = match &named.source {
                Source::File(file) => Some(file.current()),
                _ => None,
            };
            (named.settings.id_prefix.clone(), store)
        });
        FileAccounts(stores.collect())
    }

    fn files(&self) -> impl Iterator<Item = &WatchedDirectory> {
        self.sources.iter().filter_map(|named| match &named.source {
            Source::File(file) => Some(&**file),
            _ => None,
        })
    }

    /// Polls the files, and reloads those that have changed. Blocking.
    pub fn poll_changes(&self) -> Vec<ReloadOutcome> {
        self.files().map(WatchedDirectory::poll_changes).collect()
    }

    /// Reloads the files, changed or not. Blocking.
    pub fn reload(&self) -> Vec<ReloadOutcome> {
        self.files().map(WatchedDirectory::reload).collect()
    }

    /// The errors of the sources: a file that could not be reloaded, or an unavailable server.
    pub fn last_error(&self) -> Option<String> {
        let errors = self.sources.iter().filter_map(|named| match &named.source {
            Source::File(file) => file.last_error(),
            Source::Sql { source, .. } => source.last_error(),
            Source::Ldap(source) => source.last_error(),
        });
        let errors: Vec<String> = errors.collect();
        (!errors.is_empty()).then(|| errors.join("; "))
    }

    /// The number of users in the files.
    pub fn user_count(&self) -> usize {
        self.files().map(|file| file.current().len()).sum()
    }

    /// The number of successful reloads.
    pub fn reload_count(&self) -> u64 {
        self.files().map(WatchedDirectory::reload_count).sum()
    }

    /// A number that is another one after each change of users that is noticed: a file that was read again, or a database that has
    /// another version.
    pub(crate) fn changes(&self) -> u64 {
        self.reload_count().wrapping_add(self.database_changes.load(Ordering::Acquire))
    }

    /// A database has another version.
    pub(crate) fn record_database_change(&self) {
        self.database_changes.fetch_add(1, Ordering::Release);
    }

    /// The number of failed reloads.
    pub fn reload_failures(&self) -> u64 {
        self.files().map(WatchedDirectory::reload_failures).sum()
    }
}

fn hash_cost(cost: Argon2Cost) -> HashCost {
    HashCost { memory_kib: cost.memory_kib, passes: cost.passes, lanes: cost.lanes }
}

fn by_kind(counts: &BTreeMap<Scheme, usize>) -> BTreeMap<&'static str, usize> {
    let mut kinds = BTreeMap::new();
    counts.iter().for_each(|(scheme, count)| *kinds.entry(scheme.name()).or_insert(0) += count);
    kinds
}

fn log_schemes(source: &str, counts: &BTreeMap<Scheme, usize>) {
    let kinds: Vec<String> = by_kind(counts).iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    tracing::info!(source, kinds = kinds.join(", "), "kinds of password hashes in use");
}

impl NamedSource {
    fn found(&self, user: Arc<User>, index: usize) -> NameLookup {
        NameLookup::Found(FoundUser { user: self.present(user), source: self.settings.name.clone(), index })
    }

    /// The schemes of some hashes of a table.
    async fn sample(&self, source: &SqlSource) -> Result<Vec<Scheme>, SourceUnavailable> {
        let hashes = source.sample().await?;
        Ok(hashes.iter().filter_map(|hash| Some(PasswordHash::parse(hash).ok()?.scheme())).collect())
    }

    /// The user with the source's prefix and the roles that all its users have.
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

#[cfg(test)]
mod tests;
