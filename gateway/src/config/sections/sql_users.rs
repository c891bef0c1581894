//! `[users.sql]`: a database as a source of users.

use super::prelude::*;
use super::users::plain_text;

section! {
    /// A database: sqlite://, postgres:// or mysql://, which also serves MariaDB.
    pub struct SqlUsers {
        /// A file with the database's URL, which may contain a password.
        url: DatabaseUrl = or_default(
            secret("\"secrets/users-db\"", "\"sqlite://app.db\"")
                .parse(database_url)
                .required("write such as \"sqlite://app.db\", or url_file"),
        );
        /// How users are looked up.
        lookup: SqlLookup = flat(lookup);
        /// A query with the id as its parameter, which returns one role per row.
        roles_query: Option<String> = plain_text().example("\"SELECT role FROM user_roles WHERE user_id = ?\"");
        /// In place of columns.version: a query without a parameter, which returns one row that changes
        /// whenever a user does.
        changes_query: Option<String> = plain_text().example("\"SELECT count(*), max(updated_at) FROM people\"");
        /// How often that is looked at, where either is configured. A user who was disabled or deleted, or got
        /// a new password, is then logged out on every instance; otherwise at the next refresh.
        poll_interval: Duration = duration(Duration::from_millis(100)..=Duration::from_secs(3600)).default("2s");
        /// PostgreSQL: a channel on which changes are announced (NOTIFY), with the user's id or nothing as the
        /// payload. Sessions then end at once, without polling; while the connection for that is lost, as if this were not set.
        notify_channel: Option<String> = text(channel).example("\"users_changed\"");
        /// Maximum number of connections, one more with `notify_channel`.
        max_connections: u32 = integer(1..=100).default("4");
        /// Timeout of a lookup, connecting included. A login gives up after 6s, whatever stands here.
        timeout: Duration = duration(up_to(Duration::from_secs(60))).default("2s");
    }
}

section! {
    /// How users are looked up.
    struct LookupKeys {
        /// The table of users, unless queries are configured.
        table: Option<String> = text(identifier).example("\"user\"");
        /// The columns of that table.
        columns: SqlColumns = table();
        /// Further claims: the column of each.
        claims: BTreeMap<String, String> =
            or_default(map(Shape::Text, "{ email = \"email\" }", |_, entry| entry.parse(identifier)));
        /// Whether names are stored in lower case, so that a plain index is used.
        exact_names: bool = boolean().default("false");
        /// In place of `table`: a query with the name as its parameter, which returns columns id, username,
        /// password and optionally roles, disabled, enabled or must_change_password.
        query: Option<String> = plain_text().example("\"SELECT id, username, password FROM people WHERE username = ?\"");
        /// The same query with the id as its parameter.
        query_by_id: Option<String> = plain_text().example("\"SELECT id, username, password FROM people WHERE id = ?\"");
        /// Beside `query`: a statement that stores another hash, with the new hash, the id and the old hash as
        /// its parameters. It must change nothing where the old hash is not stored any more.
        update_query: Option<String> = plain_text().example("\"UPDATE people SET password = ? WHERE id = ? AND password = ?\"");
    }
}

section! {
    /// The columns of the table.
    pub struct SqlColumns {
        /// The user's permanent id.
        id: String = text(identifier).default("id");
        /// The name that is typed at login.
        username: String = text(identifier).default("username");
        /// The hash of the password.
        password: String = text(identifier).default("password_hash");
        /// One role, or a list.
        roles: Option<String> = text(identifier).example("\"role\"");
        /// Whether the user may not log in.
        disabled: Option<String> = text(identifier).example("\"disabled\"");
        /// Whether the user may log in.
        enabled: Option<String> = text(identifier).example("\"is_active\"");
        /// Whether the next login asks for another password. A changed password sets it to FALSE.
        must_change_password: Option<String> = text(identifier).example("\"must_change_password\"");
        /// A number or a time that grows with each change of a row, with an index: the gateway then notices
        /// changes between refreshes.
        version: Option<String> = text(identifier).example("\"updated_at\"");
    }
}

impl SqlUsers {
    pub(super) fn check(&self, table: &Table<'_>) {
        let is_other = !self.url.url.is_empty() && self.url.dialect != SqlDialect::Postgres;
        if self.notify_channel.is_some() && is_other {
            table.entry("notify_channel").error(
                "belongs to PostgreSQL, and `url` is that of another database",
                "leave it out and name a column in `columns.version`, or write a `changes_query`",
            );
        }
    }
}

fn lookup(keys: LookupKeys, table: &Table<'_>) -> SqlLookup {
    let LookupKeys { table: name, columns, claims, exact_names, query, query_by_id, update_query } = keys;
    let (table_entry, query_entry) = (table.entry("table"), table.entry("query"));
    if update_query.is_some() && !query_entry.is_given() {
        table
            .entry("update_query")
            .error("belongs to `query`", "a `table` is written to without it: leave it out");
    }
    match (query, query_by_id, name) {
        (Some(by_name), Some(by_id), None) => SqlLookup::Query { by_name, by_id, update: update_query },
        (None, None, Some(table)) => SqlLookup::Table(SqlTable { table, columns, claims, exact_names }),
        (_, _, name) => {
            let is_reported = table_entry.is_given() && name.is_none();
            if table.is_used() && !is_reported {
                let entry = if query_entry.is_given() { &query_entry } else { &table_entry };
                entry.error(
                    "users are found either by `table` or by `query` and `query_by_id`",
                    "write table = \"user\", or both queries, which give columns id, username, password, roles, disabled",
                );
            }
            SqlLookup::Query { by_name: String::new(), by_id: String::new(), update: None }
        }
    }
}

/// The dialect is that of its scheme.
fn database_url(bytes: Vec<u8>) -> Result<DatabaseUrl, InvalidValue> {
    let url = secret_text(bytes)?;
    let dialect = match url.split(':').next().unwrap_or_default() {
        "sqlite" => SqlDialect::Sqlite,
        "postgres" | "postgresql" => SqlDialect::Postgres,
        "mysql" | "mariadb" => SqlDialect::MySql,
        _ => {
            return refused(
                "is no URL of a database that is known",
                "begin it with sqlite://, postgres:// or mysql://",
            );
        }
    };
    Ok(DatabaseUrl { url, dialect })
}

/// The name of a table or a column, which is quoted literally.
fn identifier(text: &str) -> Result<String, InvalidValue> {
    let is_part = |part: &str| !part.is_empty() && !part.contains(['"', '`', '\0', '\\']);
    match text.split('.').all(is_part) {
        true => Ok(text.to_owned()),
        false => refused("is no name of a table or a column", "write it without quotes"),
    }
}

/// The name of a channel, which PostgreSQL takes as it is if it is no longer than an identifier.
fn channel(text: &str) -> Result<String, InvalidValue> {
    match (1..64).contains(&text.len()) && !text.contains(['"', '\0']) {
        true => Ok(text.to_owned()),
        false => refused("is no name of a channel", "write 1 to 63 bytes without quotes"),
    }
}
