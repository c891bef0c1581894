//! `[users]`: where users are looked up. What files and servers say is checked by those who read them.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::redis::existing_file;
use super::secret::{self, Given};
use super::store::file_name;
use super::up_to;
use crate::config::diagnostic::Diagnostic;
use crate::config::entry::{Entry, Refusal};
use crate::config::settings::{
    Argon2Cost, LdapGroups, LdapUsers, SqlDialect, SqlLookup, SqlTable, SqlUsers, UserSource, UserSourceKind,
    Users,
};
use crate::config::table::Table;

#[derive(Clone, Copy)]
enum Kind {
    File,
    Htpasswd,
    Sql,
    Ldap,
}

const KINDS: [(&str, Kind); 4] =
    [("file", Kind::File), ("htpasswd", Kind::Htpasswd), ("sql", Kind::Sql), ("ldap", Kind::Ldap)];

pub(super) fn users(table: &mut Table<'_>) -> Users {
    let rehash = table.take("rehash").boolean().unwrap_or(false);
    let argon2 = table.section("argon2", |table| Argon2Cost {
        memory_kib: table.take("memory_kib").integer(8..=1_048_576).unwrap_or(Argon2Cost::DEFAULT.memory_kib),
        passes: table.take("passes").integer(1..=10).unwrap_or(Argon2Cost::DEFAULT.passes),
        lanes: table.take("lanes").integer(1..=16).unwrap_or(Argon2Cost::DEFAULT.lanes),
    });
    let allow_broken_hashes = table.take("allow_broken_hashes").boolean().unwrap_or(false);
    let list = table.take("sources");
    let sources = if list.is_given() {
        sources(&list)
    } else {
        let (kind_name, kind) = kind(table);
        source(table, kind_name, kind, true).into_iter().collect()
    };
    Users { sources, argon2, rehash: rehash.then_some(argon2), allow_broken_hashes }
}

fn kind(table: &mut Table<'_>) -> (&'static str, Kind) {
    let names: Vec<(&str, usize)> =
        KINDS.iter().enumerate().map(|(index, (name, _))| (*name, index)).collect();
    KINDS[table.take("kind").choice(&names).unwrap_or(0)]
}

fn sources(list: &Entry<'_>) -> Vec<UserSource> {
    let mut sources: Vec<UserSource> = Vec::new();
    for entry in list.list().unwrap_or_default() {
        let is_first = sources.is_empty();
        let read = entry.table(|table| {
            let (kind_name, kind) = kind(table);
            source(table, kind_name, kind, is_first)
        });
        let Some(source) = read.flatten() else { continue };
        if sources.iter().any(|other| other.name == source.name) {
            let why = format!("a second source is named {:?}", source.name);
            entry.refuse(Refusal::new(why).help("give each a `name` of its own"));
        } else if sources.iter().any(|other| other.id_prefix == source.id_prefix) {
            let why = format!("a second source has the `id_prefix` {:?}", source.id_prefix);
            entry.refuse(
                Refusal::new(why).help("ids of two sources must not be the same: give each another one"),
            );
        }
        sources.push(source);
    }
    if sources.is_empty() {
        list.refuse(Refusal::new("names no source").help("begin each with [[users.sources]] and a `kind`"));
    }
    sources
}

fn source(table: &mut Table<'_>, kind_name: &str, kind: Kind, is_first: bool) -> Option<UserSource> {
    let name = text(table, "name").unwrap_or_else(|| kind_name.to_owned());
    let prefix = if is_first { String::new() } else { format!("{name}:") };
    let id_prefix = table.take("id_prefix").string().map_or(prefix, str::to_owned);
    let role = |text: &str| match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err(Refusal::new("is no role").help("a role is made of visible ASCII characters")),
    };
    let roles = table.take("roles").list_of(role).unwrap_or_default();
    let sql = table.section("sql", |table| sql(table, matches!(kind, Kind::Sql)));
    let ldap = table.section("ldap", |table| ldap(table, matches!(kind, Kind::Ldap)));
    let kind = match kind {
        Kind::File => UserSourceKind::File(file(table, "config/users.toml")?),
        Kind::Htpasswd => UserSourceKind::Htpasswd(file(table, "config/htpasswd")?),
        Kind::Sql => UserSourceKind::Sql(sql?),
        Kind::Ldap => UserSourceKind::Ldap(ldap?),
    };
    Some(UserSource { name, kind, id_prefix, roles })
}

fn file(table: &mut Table<'_>, default: &str) -> Option<PathBuf> {
    let entry = table.take("file");
    let file = match entry.is_given() {
        true => entry.parse(file_name)?,
        false => PathBuf::from(default),
    };
    if let Err(why) = readable(&file) {
        let diagnostic = Diagnostic::error(format!("`users.file`: the users file {} {why}", file.display()))
            .at(entry.place())
            .help("name an existing file; an empty one is enough for `auth-gateway users add` to fill");
        match entry.is_given() {
            true => table.report().push(diagnostic),
            false => table.report().push_missing(diagnostic),
        }
    }
    Some(file)
}

/// `[users.sql]`, whose mistakes matter only where it is `wanted`.
fn sql(table: &mut Table<'_>, wanted: bool) -> Option<SqlUsers> {
    let url = secret_text(table, "url");
    let max_connections = table.take("max_connections").integer(1..=100).unwrap_or(4);
    let timeout =
        table.take("timeout").duration(up_to(Duration::from_secs(60))).unwrap_or(Duration::from_secs(2));
    let roles_query = text(table, "roles_query");
    let (name, query, by_id) = (table.take("table"), table.take("query"), table.take("query_by_id"));
    let column = |table: &mut Table<'_>, key: &str| table.take(key).parse(identifier);
    let columns = table.section("columns", |table| {
        (
            column(table, "id"),
            column(table, "username"),
            column(table, "password"),
            column(table, "roles"),
            column(table, "disabled"),
            column(table, "enabled"),
        )
    });
    let claims = strings(table, "claims", identifier);
    let exact_names = table.take("exact_names").boolean().unwrap_or(false);
    let table_name = name.parse(identifier);
    let is_reported = name.is_given() && table_name.is_none();
    let lookup = match (query.string(), by_id.string(), table_name) {
        (Some(by_name), Some(by_id), None) => {
            SqlLookup::Query { by_name: by_name.to_owned(), by_id: by_id.to_owned() }
        }
        (None, None, Some(table)) => SqlLookup::Table(SqlTable {
            table,
            id: columns.0.unwrap_or_else(|| "id".to_owned()),
            username: columns.1.unwrap_or_else(|| "username".to_owned()),
            password: columns.2.unwrap_or_else(|| "password_hash".to_owned()),
            roles: columns.3,
            disabled: columns.4,
            enabled: columns.5,
            claims,
            exact_names,
        }),
        _ => {
            if wanted && !is_reported {
                let why = "users are found either by `table` or by `query` and `query_by_id`";
                let entry = if query.is_given() { &query } else { &name };
                entry.refuse(Refusal::new(why).help(
                    "write table = \"user\", or both queries, which give columns id, username, password, roles, disabled",
                ));
            }
            return None;
        }
    };
    let Some((entry, url)) = url else {
        let entry = table.take("url");
        if wanted && !entry.is_given() && !table.take("url_file").is_given() {
            entry.refuse(Refusal::new("is missing").help("write such as \"sqlite://app.db\", or url_file"));
        }
        return None;
    };
    let scheme = url.split(':').next().unwrap_or_default();
    let dialect = match scheme {
        "sqlite" => SqlDialect::Sqlite,
        "postgres" | "postgresql" => SqlDialect::Postgres,
        "mysql" | "mariadb" => SqlDialect::MySql,
        _ => {
            entry.refuse(
                Refusal::new("is no URL of a database that is known")
                    .help("begin it with sqlite://, postgres:// or mysql://"),
            );
            return None;
        }
    };
    Some(SqlUsers { url, dialect, lookup, roles_query, max_connections, timeout })
}

/// `[users.ldap]`, whose mistakes matter only where it is `wanted`.
fn ldap(table: &mut Table<'_>, wanted: bool) -> Option<LdapUsers> {
    let url_entry = table.take("url");
    let url = url_entry.parse(|text| match text.starts_with("ldap://") || text.starts_with("ldaps://") {
        true => Ok(text.to_owned()),
        false => Err(Refusal::new("is no URL of a directory").help("begin it with ldaps:// or ldap://")),
    });
    let start_tls_entry = table.take("start_tls");
    let start_tls = start_tls_entry.boolean().unwrap_or(false);
    let bind_dn = table.take("bind_dn");
    let bind_password = secret_text(table, "bind_password");
    if wanted && bind_dn.is_given() != bind_password.is_some() {
        bind_dn
            .refuse(Refusal::new("and `bind_password` belong together").help("give both, or leave both out"));
    }
    let base_entry = table.take("base");
    let base = base_entry.string().map(str::to_owned);
    for (entry, example) in
        [(&url_entry, "ldaps://ldap.example.org"), (&base_entry, "ou=people,dc=example,dc=org")]
    {
        if wanted && !entry.is_given() {
            entry.refuse(Refusal::new("is missing").help(format!("write such as {example:?}")));
        }
    }
    let with_name = |text: &str| match text.contains("{username}") {
        true => Ok(text.to_owned()),
        false => Err(Refusal::new("has no {username} in it").help("write {username} where the name belongs")),
    };
    let groups = table.section("groups", |table| {
        let filter = text(table, "filter").unwrap_or_else(|| "(member={dn})".to_owned());
        let attribute = text(table, "attribute").unwrap_or_else(|| "cn".to_owned());
        text(table, "base").map(|base| LdapGroups { base, filter, attribute })
    });
    let roles = table.section("roles", |table| {
        let groups = table.take_all();
        let roles = groups
            .into_iter()
            .map(|(group, entry)| (group, entry.list_of(|role| Ok(role.to_owned())).unwrap_or_default()));
        let roles: BTreeMap<_, _> = roles.collect();
        (!roles.is_empty()).then_some(roles)
    });
    let settings = LdapUsers {
        start_tls,
        ca_file: table.take("ca_file").parse(existing_file),
        bind: bind_dn.string().map(str::to_owned).zip(bind_password.map(|(_, password)| password)),
        filter: table.take("filter").parse(with_name).unwrap_or_else(|| "(uid={username})".to_owned()),
        user_dn: table.take("user_dn").parse(with_name),
        id_attribute: text(table, "id_attribute").unwrap_or_else(|| "entryUUID".to_owned()),
        username_attribute: text(table, "username_attribute").unwrap_or_else(|| "uid".to_owned()),
        member_of: text(table, "member_of"),
        groups,
        roles,
        claims: strings(table, "claims", |text| Ok(text.to_owned())),
        timeout: table
            .take("timeout")
            .duration(up_to(Duration::from_secs(60)))
            .unwrap_or(Duration::from_secs(3)),
        base: base?,
        url: url?,
    };
    let on_this_machine = ["ldap://127.", "ldap://localhost", "ldap://[::1]"];
    if settings.url.starts_with("ldap:")
        && !settings.start_tls
        && !on_this_machine.iter().any(|start| settings.url.starts_with(start))
    {
        url_entry.warn(
            Refusal::new("sends passwords in the clear")
                .help("write ldaps://, or start_tls = true beside it"),
        );
    }
    if settings.start_tls && settings.url.starts_with("ldaps:") {
        start_tls_entry
            .refuse(Refusal::new("is for ldap://; ldaps:// is TLS from the start").help("remove it"));
    }
    Some(settings)
}

fn text(table: &mut Table<'_>, key: &str) -> Option<String> {
    table.take(key).string().map(str::to_owned)
}

fn strings(
    table: &mut Table<'_>,
    key: &str,
    parse: impl Fn(&str) -> Result<String, Refusal>,
) -> BTreeMap<String, String> {
    table.section(key, |table| {
        let entries = table.take_all();
        entries.into_iter().filter_map(|(name, entry)| Some((name, entry.parse(&parse)?))).collect()
    })
}

/// A secret that is a text; what is wrong with it has been reported.
fn secret_text<'a>(table: &mut Table<'a>, key: &str) -> Option<(Entry<'a>, String)> {
    match secret::take(table, key) {
        Given::Secret(secret) => match String::from_utf8(secret.bytes) {
            Ok(text) => Some((secret.entry, text.trim_end().to_owned())),
            Err(_) => {
                secret.entry.refuse(Refusal::new("is not UTF-8 text"));
                None
            }
        },
        Given::Nothing | Given::Unusable => None,
    }
}

/// The name of a table or a column, which is quoted as it stands.
fn identifier(text: &str) -> Result<String, Refusal> {
    let is_part = |part: &str| !part.is_empty() && !part.contains(['"', '`', '\0', '\\']);
    match text.split('.').all(is_part) {
        true => Ok(text.to_owned()),
        false => Err(Refusal::new("is no name of a table or a column").help("write it without quotes")),
    }
}

/// Why a file cannot be read, as the end of a sentence.
pub(super) fn readable(path: &Path) -> Result<(), String> {
    let cannot = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "does not exist".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    let metadata = std::fs::metadata(path).map_err(cannot)?;
    if metadata.is_dir() {
        return Err("is a folder".to_owned());
    }
    // A pipe can be opened only once, and that is for its reader to do.
    if metadata.is_file() {
        File::open(path).map_err(cannot)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{ROUTE, complaints, settings};

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
            complaints(format!("[users]\n{users}\n{ROUTE}")).only(message, help);
        }
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
        complaints(format!("[users]\nfile = \"no/such/file\"\n{ROUTE}"))
            .only("`users.file`: the users file no/such/file does not exist", "users add");
        complaints(format!("[users]\nfile = \"src\"\n{ROUTE}")).only("src is a folder", "");
        complaints(ROUTE.to_owned()).only("the users file config/users.toml does not exist", "");
    }
}
