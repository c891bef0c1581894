//! `[users]`: the sources of users.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::sections::{Argon2Cost, PasswordPolicy};

/// `[users]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Users {
    /// In the order of lookup. Never empty.
    pub sources: Vec<UserSource>,
    /// `argon2`: the cost of hashes of new passwords.
    pub argon2: Argon2Cost,
    /// `rehash`: the cost to which hashes are upgraded at login, where the source is writable; off by
    /// default.
    pub rehash: Option<Argon2Cost>,
    /// `rehash_htpasswd`: whether that includes htpasswd files; off by default.
    pub rehash_htpasswd: bool,
    /// `password_change`: whether people may change their passwords themselves, off by default.
    pub password_change: bool,
    /// `reset_ttl`: how long a link for a new password counts, default 1 h.
    pub reset_ttl: Duration,
    /// `reset_url`: the page that it leads to, where that is not the gateway's own.
    pub reset_url: Option<String>,
    /// `[users.password_policy]`
    pub password_policy: PasswordPolicy,
    /// `allow_broken_hashes`: whether MD5 and SHA-1 are accepted, off by default.
    pub allow_broken_hashes: bool,
    /// `name_characters`: what names may have beside the usual characters; nothing by default.
    pub name_characters: NameCharacters,
}

/// `name_characters`: which of space, apostrophe and backslash user names may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NameCharacters {
    /// `" "`
    pub space: bool,
    /// `"'"`
    pub apostrophe: bool,
    /// `"\\"`
    pub backslash: bool,
}

impl NameCharacters {
    /// Whether a canonical name has none of these characters but those that are allowed.
    pub fn allow(self, name: &str) -> bool {
        name.bytes().all(|byte| match byte {
            b' ' => self.space,
            b'\'' => self.apostrophe,
            b'\\' => self.backslash,
            _ => true,
        })
    }
}

impl Users {
    /// The users of one TOML file, with all defaults.
    pub fn of_file(path: PathBuf) -> Users {
        let source = UserSource {
            name: "file".to_owned(),
            kind: UserSourceKind::File(path),
            id_prefix: String::new(),
            roles: Vec::new(),
        };
        Users {
            sources: vec![source],
            argon2: Argon2Cost::DEFAULT,
            rehash: None,
            rehash_htpasswd: false,
            password_change: false,
            reset_ttl: Duration::from_secs(3600),
            reset_url: None,
            password_policy: PasswordPolicy::DEFAULT,
            allow_broken_hashes: false,
            name_characters: NameCharacters::default(),
        }
    }

    /// The users files, of all formats.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.sources.iter().filter_map(|source| match &source.kind {
            UserSourceKind::File(path) | UserSourceKind::Htpasswd(path) => Some(path),
            _ => None,
        })
    }

    /// The first TOML file, which `auth-gateway users` edits.
    pub fn editable_file(&self) -> Option<&PathBuf> {
        self.sources.iter().find_map(|source| match &source.kind {
            UserSourceKind::File(path) => Some(path),
            _ => None,
        })
    }
}

impl Argon2Cost {
    /// As OWASP recommends.
    pub const DEFAULT: Argon2Cost = Argon2Cost { memory_kib: 19_456, passes: 2, lanes: 1 };
}

/// `[mfa]`
#[derive(Clone, PartialEq, Eq)]
pub struct Mfa {
    /// `enabled`: whether users may have a second factor, off by default.
    pub enabled: bool,
    /// `required_roles`: whose users need one on every route that needs a token.
    pub required_roles: Vec<String>,
    /// `issuer`: the name that apps show; default `tokens.issuer`.
    pub issuer: Option<String>,
    /// `secret` or `secret_file`: encrypts the secrets of factors in the store.
    pub secret: Option<Vec<u8>>,
}

impl fmt::Debug for Mfa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mfa").field("enabled", &self.enabled).finish_non_exhaustive()
    }
}

/// One of `[[users.sources]]`, or the source described by `[users]` itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserSource {
    /// `name`, for logs and `users show`; default its kind.
    pub name: String,
    /// Its kind.
    pub kind: UserSourceKind,
    /// `id_prefix` of its ids in tokens; default empty for the first, `NAME:` for others.
    pub id_prefix: String,
    /// `roles` of all its users.
    pub roles: Vec<String>,
}

/// `kind`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserSourceKind {
    /// `file`: `[[users]]` in TOML.
    File(PathBuf),
    /// `htpasswd`: lines of NAME:HASH.
    Htpasswd(PathBuf),
    /// `sql`
    Sql(SqlUsers),
    /// `ldap`
    Ldap(LdapUsers),
}

/// The SQL dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SqlDialect {
    /// `sqlite:`
    Sqlite,
    /// `postgres:`
    Postgres,
    /// `mysql:`, also for MariaDB.
    MySql,
}

/// `[users.sql]`
#[derive(Clone, PartialEq, Eq)]
pub struct SqlUsers {
    /// `url` or `url_file`.
    pub url: String,
    /// From the URL.
    pub dialect: SqlDialect,
    /// How users are looked up.
    pub lookup: SqlLookup,
    /// `roles_query`: with the id as its parameter, one role per row.
    pub roles_query: Option<String>,
    /// `changes_query`: one row that changes with the users.
    pub changes_query: Option<String>,
    /// `poll_interval`, default 2 s.
    pub poll_interval: Duration,
    /// `notify_channel`: where changes are announced.
    pub notify_channel: Option<String>,
    /// `max_connections`, default 4.
    pub max_connections: u32,
    /// `timeout` of a lookup, connecting included; default 2 s.
    pub timeout: Duration,
}

impl fmt::Debug for SqlUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may contain a password.
        f.debug_struct("SqlUsers")
            .field("dialect", &self.dialect)
            .field("lookup", &self.lookup)
            .finish_non_exhaustive()
    }
}

/// How users are looked up in a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SqlLookup {
    /// By `table` and `columns`.
    Table(SqlTable),
    /// By queries with one parameter, which return columns `id`, `username`, `password` and optionally
    /// `roles`, `disabled` or `enabled`.
    Query {
        /// `query`
        by_name: String,
        /// `query_by_id`
        by_id: String,
        /// `update_query`: stores another hash; without it the users are read-only.
        update: Option<String>,
    },
}

/// A table and its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlTable {
    /// `table`
    pub table: String,
    /// `columns.id`, default `id`.
    pub id: String,
    /// `columns.username`, default `username`.
    pub username: String,
    /// `columns.password`, default `password_hash`.
    pub password: String,
    /// `columns.roles`: one role or a list.
    pub roles: Option<String>,
    /// `columns.disabled`
    pub disabled: Option<String>,
    /// `columns.enabled`
    pub enabled: Option<String>,
    /// `columns.must_change_password`
    pub must_change_password: Option<String>,
    /// `columns.version`: a column that grows with each change of a row.
    pub version: Option<String>,
    /// `claims`: the column of each.
    pub claims: BTreeMap<String, String>,
    /// `exact_names`: names are stored in lower case, so that a plain index is used.
    pub exact_names: bool,
}

/// `[users.ldap]`
#[derive(Clone, PartialEq, Eq)]
pub struct LdapUsers {
    /// `url`: `ldap://` or `ldaps://`.
    pub url: String,
    /// `start_tls`
    pub start_tls: bool,
    /// `ca_file`: trusted certificates; the system's by default.
    pub ca_file: Option<PathBuf>,
    /// `bind_dn` and `bind_password` for searches; anonymous by default.
    pub bind: Option<(String, String)>,
    /// `base` of the search.
    pub base: String,
    /// `filter`, default `(uid={username})`.
    pub filter: String,
    /// `user_dn`: the DN of a user by name, in place of a search by the filter.
    pub user_dn: Option<String>,
    /// `id_attribute`, default `entryUUID`.
    pub id_attribute: String,
    /// `username_attribute`, default `uid`.
    pub username_attribute: String,
    /// `member_of`: an attribute with the groups' DNs, such as `memberOf`.
    pub member_of: Option<String>,
    /// `[users.ldap.groups]`
    pub groups: Option<LdapGroups>,
    /// `[users.ldap.roles]`: the roles of a group; by default every group is a role of its name.
    pub roles: Option<BTreeMap<String, Vec<String>>>,
    /// `[users.ldap.claims]`: the attribute of each.
    pub claims: BTreeMap<String, String>,
    /// `timeout`, default 3 s.
    pub timeout: Duration,
}

impl fmt::Debug for LdapUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LdapUsers").field("url", &self.url).field("base", &self.base).finish_non_exhaustive()
    }
}

/// A search for the groups of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LdapGroups {
    /// `base`
    pub base: String,
    /// `filter`, default `(member={dn})`; `{username}` may be used as well.
    pub filter: String,
    /// `attribute` that names the group, default `cn`.
    pub attribute: String,
}
