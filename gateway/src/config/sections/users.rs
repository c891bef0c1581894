//! `[users]`: the sources of users. Contents of files and servers are validated when they are read.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::files::{existing_file, file_name, readable, readable_help, working_directory};
use super::ldap_users::LdapKeys;
use super::secret::{self, SecretSource};
use super::sql_users::SqlKeys;
use super::{DAY, is_web_address, up_to};
use crate::config::declaration::{
    Key, Shape, TableShape, boolean, choice, duration, flat, integer, section, table, text, texts,
};
use crate::config::diagnostic::Diagnostic;
use crate::config::entry::{Entry, InvalidValue, quoted};
use crate::config::settings::{NameCharacters, UserSource, UserSourceKind, Users};
use crate::config::table::Table;

section! {
    /// The sources of users.
    pub(super) struct UsersKeys {
        /// The keys of the one source.
        source: SourceKeys = flat(|keys, _| keys);
        /// Several sources in place of the one that [users] describes itself; names are looked up in this
        /// order.
        sources: Option<Vec<UserSource>> = Key::new(
            Shape::List(Box::new(Shape::Table(TableShape::of::<SourceKeys>()))),
            sources,
        )
        .example("[{ kind = \"file\", file = \"config/staff.toml\" }, { kind = \"htpasswd\", file = \"config/htpasswd\" }]");
        /// Whether hashes are upgraded at login (rehash) where the scheme or cost differs, and the source is
        /// writable: a file, or a table of a database.
        rehash: bool = boolean().default("false");
        /// Whether rehash also rewrites htpasswd files. Leave it off where another program reads the file:
        /// Apache and nginx do not know argon2id.
        rehash_htpasswd: bool = boolean().default("false");
        /// Cost of new hashes.
        argon2: Argon2Cost = table();
        /// Whether people may change their passwords themselves, at {prefix}/password. The source has to be
        /// writable: a file, a table of a database, or one with `update_query`; htpasswd with
        /// `rehash_htpasswd`.
        password_change: bool = boolean().default("false");
        /// How long a link of `auth-gateway users reset NAME` counts.
        reset_ttl: Duration = duration(up_to(30 * DAY)).default("1h");
        /// The page that such a link leads to, if it is not the gateway's own; `?token=…` is added.
        reset_url: Option<String> = text(reset_url)
            .fallback("{tokens.issuer}{prefix}/password/reset, with [browser]")
            .example("\"https://app.example.org/reset\"");
        /// What a new password has to be like, whoever sets it.
        password_policy: PasswordPolicy = table();
        /// Whether hashes of MD5 and SHA-1 are accepted, which can be guessed by the billion per second.
        allow_broken_hashes: bool = boolean().default("false");
        /// What user names may have beside letters, digits and . _ - @ +: " " (single, between others), "'", "\\".
        /// Capitals are small letters in every name. Identity fields carry names percent-encoded by default: a space is
        /// %20, the other two are as they are.
        name_characters: NameCharacters = texts(name_character).or_empty().example("[\" \", \"'\", \"\\\\\"]").into(|all, _| {
            let has = |character: char| all.contains(&character);
            NameCharacters { space: has(' '), apostrophe: has('\''), backslash: has('\\') }
        });
    }
}

section! {
    /// One source of users.
    pub(super) struct SourceKeys {
        /// "file" is this gateway's TOML, "htpasswd" is Apache's, "sql" a database, "ldap" a directory.
        kind: Kind = choice().default("file");
        /// Of kind "file" or "htpasswd"; must exist. Reloaded when it has changed. `auth-gateway users`
        /// writes the TOML.
        file: PathBuf = text(file_name).default("config/users.toml");
        /// For logs and `auth-gateway users show`.
        name: Option<String> = plain_text().fallback("its kind").example("\"staff\"");
        /// Prefix of ids in tokens, so that those of two sources differ.
        id_prefix: Option<String> = plain_text().fallback("nothing for the first source, NAME: for others").example("\"staff:\"");
        /// Roles of all its users.
        roles: Vec<String> = texts(role).or_empty();
        /// For kind = "sql" only.
        sql: SqlKeys = table();
        /// For kind = "ldap" only.
        ldap: LdapKeys = table();
    }
}

section! {
    /// The cost of argon2id; by default as OWASP recommends.
    #[derive(Copy)]
    pub struct Argon2Cost {
        /// Memory, in KiB.
        memory_kib: u32 = integer(8..=1_048_576).default("19456");
        /// Passes over the memory.
        passes: u32 = integer(1..=10).default("2");
        /// Parallelism.
        lanes: u32 = integer(1..=16).default("1");
    }
}

section! {
    /// What a new password has to be like. Common passwords and those made of the user's name are always
    /// refused. It counts when a password is set, never at a login.
    pub struct PasswordPolicy {
        /// Minimum length, in characters.
        min_length: u32 = integer(8..=256).default("8");
        /// Minimum strength as zxcvbn estimates it: 0 accepts any, 2 what withstands 10^6 guesses, 3 10^8,
        /// 4 10^10.
        min_strength: u32 = integer(0..=4).default("0");
        /// A file of SHA-1 hashes of breached passwords, sorted, one "HASH:COUNT" on each line, as Have I
        /// Been Pwned offers it for download. It is searched on the disk and never loaded.
        breached_file: Option<PathBuf> = text(existing_file).example("\"/var/lib/pwned-passwords.txt\"");
    }
}

impl PasswordPolicy {
    /// The policy of a configuration that says nothing of it.
    pub const DEFAULT: PasswordPolicy =
        PasswordPolicy { min_length: 8, min_strength: 0, breached_file: None };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    File,
    Htpasswd,
    Sql,
    Ldap,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::File => "file",
            Kind::Htpasswd => "htpasswd",
            Kind::Sql => "sql",
            Kind::Ldap => "ldap",
        }
    }
}

impl UsersKeys {
    pub(super) fn settings(self, table: &Table<'_>) -> Users {
        let list = table.entry("sources");
        let sources = if list.is_given() {
            for key in ["kind", "file", "name", "id_prefix", "roles", "sql", "ldap"] {
                let entry = table.entry(key);
                if entry.is_given() {
                    entry.refuse(
                        InvalidValue::new("has no effect beside `users.sources`")
                            .help("write it in one of [[users.sources]]"),
                    );
                }
            }
            self.sources.unwrap_or_default()
        } else {
            self.source.settings(table, true).into_iter().collect()
        };
        let rehash = self.rehash.then_some(self.argon2);
        let rehash_htpasswd = self.rehash_htpasswd;
        if rehash_htpasswd && rehash.is_none() {
            table
                .entry("rehash_htpasswd")
                .warn("no-effect", InvalidValue::new("has no effect: `users.rehash` is off"));
        }
        let allow_broken_hashes = self.allow_broken_hashes;
        Users {
            sources,
            argon2: self.argon2,
            rehash,
            rehash_htpasswd,
            password_change: self.password_change,
            reset_ttl: self.reset_ttl,
            reset_url: self.reset_url,
            password_policy: self.password_policy,
            allow_broken_hashes,
            name_characters: self.name_characters,
        }
    }
}

fn sources(list: &Entry<'_>) -> Option<Vec<UserSource>> {
    if !list.is_given() {
        return None;
    }
    let mut sources: Vec<UserSource> = Vec::new();
    for entry in list.list().unwrap_or_default() {
        let Some(table) = entry.table() else { continue };
        let Some(source) = table.read::<SourceKeys>().settings(&table, sources.is_empty()) else { continue };
        if sources.iter().any(|other| other.name == source.name) {
            let why = format!("a second source is named {:?}", source.name);
            entry.refuse(InvalidValue::new(why).help("give each a `name` of its own"));
        } else if sources.iter().any(|other| other.id_prefix == source.id_prefix) {
            let why = format!("a second source has the `id_prefix` {:?}", source.id_prefix);
            entry.refuse(
                InvalidValue::new(why).help("ids of two sources must not be the same: give each another one"),
            );
        }
        sources.push(source);
    }
    if list.list().is_some_and(|list| list.is_empty()) {
        list.refuse(
            InvalidValue::new("names no source").help("begin each with [[users.sources]] and a `kind`"),
        );
    }
    Some(sources)
}

impl SourceKeys {
    fn settings(self, table: &Table<'_>, is_first: bool) -> Option<UserSource> {
        let kind = self.kind;
        for (key, wanted) in [("sql", kind == Kind::Sql), ("ldap", kind == Kind::Ldap)] {
            let entry = table.entry(key);
            // A header without keys, as in the reference, has no effect.
            let says_something = entry.is_given() && !entry.table_or_empty().is_blank();
            if says_something && !wanted {
                entry.warn("no-effect", InvalidValue::new(format!("has no effect: `kind` is not {key:?}")));
            }
        }
        let entry = table.entry("file");
        match kind {
            Kind::File | Kind::Htpasswd => check_file(table, &self.file, kind),
            Kind::Sql | Kind::Ldap if entry.is_given() => {
                entry.warn("no-effect", InvalidValue::new("has no effect: no file has these users"));
            }
            Kind::Sql | Kind::Ldap => {}
        }
        let name = self.name.unwrap_or_else(|| kind.name().to_owned());
        let prefix = if is_first { String::new() } else { format!("{name}:") };
        let id_prefix = self.id_prefix.unwrap_or(prefix);
        let kind = match kind {
            Kind::File => UserSourceKind::File(self.file),
            Kind::Htpasswd => UserSourceKind::Htpasswd(self.file),
            Kind::Sql => UserSourceKind::Sql(self.sql.settings(&table.quiet_table("sql"))?),
            Kind::Ldap => UserSourceKind::Ldap(self.ldap.settings(&table.quiet_table("ldap"))?),
        };
        Some(UserSource { name, kind, id_prefix, roles: self.roles })
    }
}

fn check_file(table: &Table<'_>, file: &std::path::Path, kind: Kind) {
    let entry = table.entry("file");
    if kind == Kind::Htpasswd && !entry.is_given() {
        entry.refuse(InvalidValue::new("is missing").help("write such as file = \"config/htpasswd\""));
        return;
    }
    let Err(why) = readable(file) else { return };
    let diagnostic =
        Diagnostic::error(format!("`{}`: the users file {} {why}", entry.name(), file.display()))
            .at(entry.place())
            .help(match why.as_str() {
                "does not exist" => format!(
                    "name an existing file; an empty one is enough for `auth-gateway users add` to fill{}",
                    working_directory(file)
                ),
                why => readable_help("users file", file, why),
            });
    match entry.is_given() {
        true => table.report().push(diagnostic),
        false => table.report().push_missing(diagnostic),
    }
}

fn reset_url(text: &str) -> Result<String, InvalidValue> {
    match is_web_address(text) && url::Url::parse(text).is_ok() && !text.contains(['?', '#']) {
        true => Ok(text.to_owned()),
        false => Err(InvalidValue::new("is no address of a page")
            .help("write it without a query, such as \"https://app.example.org/reset\"")),
    }
}

fn name_character(text: &str) -> Result<char, InvalidValue> {
    match text {
        " " => Ok(' '),
        "'" => Ok('\''),
        "\\" => Ok('\\'),
        _ => Err(InvalidValue::new(format!("{} cannot be allowed in user names", quoted(text)))
            .help("one of \" \", \"'\" and \"\\\\\"; letters, digits and . _ - @ + always are")),
    }
}

fn role(text: &str) -> Result<String, InvalidValue> {
    match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err(InvalidValue::new("is no role").help("a role is made of visible ASCII characters")),
    }
}

/// Any text.
pub(super) fn plain_text() -> Key<Option<String>> {
    text(|text| Ok(text.to_owned()))
}

/// A table whose keys are chosen by the operator, with texts that `parse` accepts.
pub(super) fn text_map(parse: fn(&str) -> Result<String, InvalidValue>) -> Key<BTreeMap<String, String>> {
    Key::new(Shape::Map(Box::new(Shape::Text)), move |entry| {
        let entries = entry.table_or_empty().entries().into_iter();
        entries.filter_map(|(name, entry)| Some((name, entry.parse(parse)?))).collect()
    })
}

/// A secret that is a text; an invalid one is reported.
pub(super) fn secret_text(table: &Table<'_>, key: &str, source: SecretSource) -> Option<String> {
    let SecretSource::Secret(bytes) = source else { return None };
    match String::from_utf8(bytes) {
        Ok(text) => Some(text.trim_end().to_owned()),
        Err(_) => {
            secret::given(table, key).refuse(InvalidValue::new("is not UTF-8 text").help("save it as UTF-8"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{ROUTE, load_diagnostics, settings};

    #[test]
    fn a_source_says_what_it_lacks() {
        for (users, message, help) in [
            ("kind = \"sql\"\n[users.sql]\nurl = \"sqlite://a\"", "`users.sql.table`", "both queries"),
            ("kind = \"sql\"\n[users.sql]\ntable = \"user\"", "`users.sql.url`: is missing", "sqlite://"),
            (
                "kind = \"sql\"\n[users.sql]\ntable = \"a\\\"b\"\nurl = \"sqlite://a\"",
                "is no name of a table",
                "",
            ),
            (
                "kind = \"sql\"\n[users.sql]\ntable = \"a\"\nurl = \"oracle://a\"",
                "is no URL of a database",
                "mysql://",
            ),
            (
                "kind = \"sql\"\n[users.sql]\ntable = \"a\"\nquery_by_id = \"SELECT 1\"\nurl = \"sqlite://a\"",
                "either by `table` or by `query`",
                "",
            ),
            ("kind = \"ldap\"\n[users.ldap]\nurl = \"ldaps://a\"", "`users.ldap.base`: is missing", ""),
            (
                "kind = \"ldap\"\n[users.ldap]\nurl = \"http://a\"\nbase = \"dc=a\"",
                "is no URL of a directory",
                "ldaps://",
            ),
            (
                "kind = \"ldap\"\n[users.ldap]\nurl = \"ldaps://a\"\nbase = \"dc=a\"\nfilter = \"(uid=*)\"",
                "has no {username} in it",
                "",
            ),
            (
                "sources = [{ kind = \"htpasswd\", file = \"Cargo.toml\" }, { kind = \"htpasswd\", file = \"Cargo.toml\" }]",
                "a second source is named \"htpasswd\"",
                "`name`",
            ),
        ] {
            load_diagnostics(format!("[users]\n{users}\n{ROUTE}")).only(message, help);
        }
    }

    #[test]
    fn names_have_other_characters_where_the_operator_allows_them() {
        let allowed = |value: &str| {
            settings(format!("[users]\nfile = \"Cargo.toml\"\n{value}\n{ROUTE}")).users.name_characters
        };
        for (value, name, allow) in [
            ("", "alice smith", false),
            ("", "alice", true),
            ("name_characters = [\" \"]", "alice smith", true),
            ("name_characters = [\" \"]", "o'brien", false),
            ("name_characters = [\"'\", \"\\\\\"]", "corp\\o'brien", true),
            ("name_characters = [\"'\"]", "corp\\o'brien", false),
        ] {
            assert_eq!(allowed(value).allow(name), allow, "{value}: {name}");
        }
        load_diagnostics(format!("[users]\nfile = \"Cargo.toml\"\nname_characters = [\"/\"]\n{ROUTE}"))
            .only("`/` cannot be allowed in user names", "letters, digits");
    }

    #[test]
    fn sources_have_names_and_prefixes_of_their_own() {
        let users = "sources = [{ kind = \"file\", file = \"Cargo.toml\" }, { kind = \"htpasswd\", file = \"Cargo.toml\" }]";
        let users = settings(format!("[users]\n{users}\n{ROUTE}")).users;
        let named: Vec<_> = users.sources.iter().map(|s| (s.name.as_str(), s.id_prefix.as_str())).collect();
        assert_eq!(named, [("file", ""), ("htpasswd", "htpasswd:")]);
        assert_eq!((users.rehash, users.allow_broken_hashes), (None, false));
    }

    #[test]
    fn a_users_file_that_is_not_there_is_named() {
        load_diagnostics(format!("[users]\nfile = \"no/such/file\"\n{ROUTE}"))
            .only("`users.file`: the users file no/such/file does not exist", "users add");
        load_diagnostics(format!("[users]\nfile = \"src\"\n{ROUTE}")).only("src is a folder", "");
        load_diagnostics(ROUTE.to_owned()).only("the users file config/users.toml does not exist", "");
    }
}
