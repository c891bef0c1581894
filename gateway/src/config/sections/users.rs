//! `[users]`: the sources of users. Contents of files and servers are validated when they are read.

use super::files::{readable, readable_help, working_directory};
use super::is_web_address;
use super::ldap_users::LdapUsers;
use super::prelude::*;
use super::sql_users::SqlUsers;

section! {
    /// The sources of users.
    pub struct Users {
        /// In the order of lookup. Never empty.
        sources: Vec<UserSource> = flat(all_sources);
        /// Whether hashes are upgraded at login (rehash) where the scheme or cost differs, and the source is
        /// writable: a file, or a table of a database.
        rehash: bool = boolean().default("false");
        /// Whether rehash also rewrites htpasswd files. Leave it off where another program reads the file:
        /// Apache and nginx do not know argon2id.
        rehash_htpasswd: bool = boolean()
            .default("false")
            .only_where(|users| users.entry("rehash").is_on(), "`users.rehash` is off");
        /// Cost of new hashes.
        argon2: Argon2Cost = table();
        /// Whether people may change their passwords themselves, at {prefix}/password. The source has to be
        /// writable: a file, a table of a database, or one with `update_query`; htpasswd with
        /// `rehash_htpasswd`.
        password_change: bool = boolean().default("false");
        /// How long a link of `auth-gateway users reset NAME` counts.
        reset_ttl: Duration = duration(up_to(30 * DAY)).default("1h")
            .only_where(|users| users.entry("password_change").is_on(), "`password_change` is off");
        /// The page that such a link leads to, if it is not the gateway's own; `?token=…` is added.
        reset_url: Option<String> = text(reset_url)
            .fallback("{tokens.issuer}{prefix}/password/reset, with [browser]")
            .example("\"https://app.example.org/reset\"")
            .only_where(|users| users.entry("password_change").is_on(), "`password_change` is off");
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
    /// The sources.
    struct SourcesKeys {
        /// The keys of the one source.
        source: SourceKeys = flat(|keys, _| keys);
        /// Several sources in place of the one that [users] describes itself; names are looked up in this
        /// order.
        sources: Option<Vec<UserSource>> = Key::new(
            Shape::List(Box::new(Shape::Table(TableShape::of::<SourceKeys>()))),
            sources,
        )
        .example("[{ kind = \"file\", file = \"config/staff.toml\" }, { kind = \"htpasswd\", file = \"config/htpasswd\" }]");
    }
}

section! {
    /// One source of users.
    pub(super) struct SourceKeys {
        /// "file" is this gateway's TOML, "htpasswd" is Apache's, "sql" a database, "ldap" a directory.
        kind: Kind = choice().default("file");
        /// Of kind "file" or "htpasswd"; must exist. Reloaded when it has changed. `auth-gateway users`
        /// writes the TOML.
        file: PathBuf = text(file_name)
            .default("config/users.toml")
            .only_where(|source| !["sql", "ldap"].contains(&source.word("kind")), "no file has these users");
        /// For logs and `auth-gateway users show`.
        name: Option<String> = plain_text().fallback("its kind").example("\"staff\"");
        /// Prefix of ids in tokens, so that those of two sources differ.
        id_prefix: Option<String> = plain_text().fallback("nothing for the first source, NAME: for others").example("\"staff:\"");
        /// Roles of all its users.
        roles: Vec<String> = texts(role).or_empty();
        /// For kind = "sql" only.
        sql: SqlUsers = table().only_where(|source| source.word("kind") == "sql", "`kind` is not \"sql\"");
        /// For kind = "ldap" only.
        ldap: LdapUsers = table().only_where(|source| source.word("kind") == "ldap", "`kind` is not \"ldap\"");
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

fn all_sources(keys: SourcesKeys, table: &Table<'_>) -> Vec<UserSource> {
    if !table.entry("sources").is_given() {
        return vec![keys.source.settings(table, true)];
    }
    for key in SourceKeys::keys() {
        let entry = table.entry(&key.name);
        if entry.is_given() {
            entry.error("has no effect beside `users.sources`", "write it in one of [[users.sources]]");
        }
    }
    keys.sources.unwrap_or_default()
}

fn sources(list: &Entry<'_>) -> Option<Vec<UserSource>> {
    if !list.is_given() {
        return None;
    }
    let mut sources: Vec<UserSource> = Vec::new();
    for entry in list.list().unwrap_or_default() {
        let Some(table) = entry.table() else { continue };
        let source = table.read::<SourceKeys>().settings(&table, sources.is_empty());
        if sources.iter().any(|other| other.name == source.name) {
            let why = format!("a second source is named {:?}", source.name);
            entry.error(why, "give each a `name` of its own");
        } else if sources.iter().any(|other| other.id_prefix == source.id_prefix) {
            let why = format!("a second source has the `id_prefix` {:?}", source.id_prefix);
            entry.error(why, "ids of two sources must not be the same: give each another one");
        }
        sources.push(source);
    }
    if list.list().is_some_and(|list| list.is_empty()) {
        list.error("names no source", "begin each with [[users.sources]] and a `kind`");
    }
    Some(sources)
}

impl SourceKeys {
    fn settings(self, table: &Table<'_>, is_first: bool) -> UserSource {
        let name = self.name.unwrap_or_else(|| match table.word("kind") {
            "" => "file".to_owned(),
            kind => kind.to_owned(),
        });
        let prefix = if is_first { String::new() } else { format!("{name}:") };
        if matches!(self.kind, Kind::File | Kind::Htpasswd) {
            check_file(table, &self.file, self.kind);
        }
        let kind = match self.kind {
            Kind::File => UserSourceKind::File(self.file),
            Kind::Htpasswd => UserSourceKind::Htpasswd(self.file),
            Kind::Sql => {
                self.sql.check(&table.quiet_table("sql"));
                UserSourceKind::Sql(self.sql)
            }
            Kind::Ldap => {
                self.ldap.check(&table.quiet_table("ldap"));
                UserSourceKind::Ldap(self.ldap)
            }
        };
        UserSource { name, kind, id_prefix: self.id_prefix.unwrap_or(prefix), roles: self.roles }
    }
}

fn check_file(table: &Table<'_>, file: &std::path::Path, kind: Kind) {
    let entry = table.entry("file");
    if kind == Kind::Htpasswd && !entry.is_given() {
        return entry.require("write such as file = \"config/htpasswd\"");
    }
    let Err(why) = readable(file) else { return };
    let help = match why.as_str() {
        "does not exist" => format!(
            "name an existing file; an empty one is enough for `auth-gateway users add` to fill{}",
            working_directory(file)
        ),
        why => readable_help("users file", file, why),
    };
    let message = format!("the users file {} {why}", file.display());
    match entry.is_given() {
        true => entry.error(message, help),
        false => {
            let missing = Diagnostic::error(format!("`{}`: {message}", entry.name()));
            entry.report_missing(missing.at(entry.place()).help(help));
        }
    }
}

fn reset_url(text: &str) -> Result<String, InvalidValue> {
    match is_web_address(text) && url::Url::parse(text).is_ok() && !text.contains(['?', '#']) {
        true => Ok(text.to_owned()),
        false => refused(
            "is no address of a page",
            "write it without a query, such as \"https://app.example.org/reset\"",
        ),
    }
}

fn name_character(text: &str) -> Result<char, InvalidValue> {
    match text {
        " " => Ok(' '),
        "'" => Ok('\''),
        "\\" => Ok('\\'),
        _ => refused(
            format!("{} cannot be allowed in user names", quoted(text)),
            "one of \" \", \"'\" and \"\\\\\"; letters, digits and . _ - @ + always are",
        ),
    }
}

fn role(text: &str) -> Result<String, InvalidValue> {
    match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => refused("is no role", "a role is made of visible ASCII characters"),
    }
}

/// Any text.
pub(super) fn plain_text() -> Key<Option<String>> {
    text(|text| Ok(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{ROUTE, load_diagnostics, settings};

    #[test]
    fn a_source_says_what_it_lacks() {
        for (users, message, help) in [
            ("kind = \"sql\"\n[users.sql]\nurl = \"sqlite://a\"", "`users.sql.table`", "both queries"),
            ("kind = \"sql\"\n[users.sql]\ntable = \"user\"", "`users.sql.url` is missing", "sqlite://"),
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
            ("kind = \"ldap\"\n[users.ldap]\nurl = \"ldaps://a\"", "`users.ldap.base` is missing", ""),
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
        assert!(!users.rehash && !users.allow_broken_hashes);
    }

    #[test]
    fn a_users_file_that_is_not_there_is_named() {
        load_diagnostics(format!("[users]\nfile = \"no/such/file\"\n{ROUTE}"))
            .only("`users.file`: the users file no/such/file does not exist", "users add");
        load_diagnostics(format!("[users]\nfile = \"src\"\n{ROUTE}")).only("src is a folder", "");
        load_diagnostics(ROUTE.to_owned()).only("the users file config/users.toml does not exist", "");
    }
}
