//! `[users]`: the sources of users.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::config::declaration::defaults;
use crate::config::sections::{Argon2Cost, LdapUsers, Secret, SqlColumns, SqlUsers, Users};

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
        Users { sources: vec![source], ..defaults() }
    }

    /// The cost to which hashes are upgraded at login, where the source is writable.
    pub fn rehash_cost(&self) -> Option<Argon2Cost> {
        self.rehash.then_some(self.argon2)
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SqlDialect {
    /// `sqlite:`
    #[default]
    Sqlite,
    /// `postgres:`
    Postgres,
    /// `mysql:`, also for MariaDB.
    MySql,
}

/// The URL of a database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DatabaseUrl {
    /// It may contain a password.
    pub url: Secret<String>,
    /// From the URL.
    pub dialect: SqlDialect,
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
    /// `[users.sql.columns]`
    pub columns: SqlColumns,
    /// `claims`: the column of each.
    pub claims: BTreeMap<String, String>,
    /// `exact_names`: names are stored in lower case, so that a plain index is used.
    pub exact_names: bool,
}
