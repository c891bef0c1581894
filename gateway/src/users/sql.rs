//! Users of an SQL table: SQLite, PostgreSQL, MySQL or MariaDB. The database is queried at each login and
//! each refresh, so changes take effect at the next one, or earlier where a version of its rows is polled; only
//! the schemes of its hashes are cached.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use sqlx::any::{AnyPoolOptions, AnyRow};
use sqlx::error::DatabaseError;
use sqlx::mysql::MySqlDatabaseError;
use sqlx::sqlite::SqliteError;
use sqlx::{AnyPool, AssertSqlSafe, Column, Row};
use tokio::sync::{Notify, OnceCell};

use super::name::CanonicalName;
use super::password_hash::PasswordHash;
use super::remote::{Remote, SourceUnavailable};
use super::sql_listener::SqlListener;
use super::user_entry::is_visible_ascii;
use super::user_store::{Lookup, ReplaceError, User};
use crate::config::{RESERVED_CLAIMS, SqlColumns, SqlDialect, SqlLookup, SqlTable, SqlUsers};

/// Number of hashes that are sampled to find the most common scheme.
const SAMPLE: u32 = 500;
/// How long a database that refused to store a hash is not asked to rehash.
const REFUSAL_MEMORY: Duration = Duration::from_secs(300);

/// A table of users.
#[derive(Debug)]
pub(super) struct SqlSource {
    remote: Remote,
    table: Arc<Table>,
    /// Where changes are announced.
    listener: Option<Arc<SqlListener>>,
    /// When the database last refused to store a hash.
    refused_at: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Table {
    name: String,
    settings: SqlUsers,
    pool: OnceCell<AnyPool>,
    /// The type of PostgreSQL's id column, to which a text must be cast for its index to be used.
    id_type: OnceCell<String>,
}

impl SqlSource {
    /// Prepares a table without connecting.
    pub(super) fn new(name: &str, settings: SqlUsers) -> Result<SqlSource, String> {
        sqlx::any::install_default_drivers();
        let remote = Remote::new(name, settings.timeout).map_err(|error| error.to_string())?;
        let listen = |channel| Arc::new(SqlListener::new(name, &settings.url.url, channel, settings.timeout));
        let listener = settings.notify_channel.as_deref().map(listen);
        let table =
            Table { name: name.to_owned(), settings, pool: OnceCell::new(), id_type: OnceCell::new() };
        Ok(SqlSource { remote, table: Arc::new(table), listener, refused_at: Mutex::default() })
    }

    /// Begins to listen for announced changes where they are configured; once. `wake` is notified of each.
    pub(super) fn listen(&self, wake: &Arc<Notify>) {
        if let Some(listener) = self.listener.as_ref().filter(|listener| listener.starts()) {
            self.remote.spawn(Arc::clone(listener).run(Arc::clone(wake)));
        }
    }

    pub(super) fn listener(&self) -> Option<&SqlListener> {
        self.listener.as_deref()
    }

    pub(super) fn last_error(&self) -> Option<String> {
        self.remote.last_error()
    }

    /// The user of that name, if there is exactly one.
    pub(super) async fn by_name(&self, name: &CanonicalName) -> Result<Lookup, SourceUnavailable> {
        let (table, name) = (Arc::clone(&self.table), name.clone());
        self.remote.submit(async move { table.by_name(&name).await }).await
    }

    /// The user of that id.
    pub(super) async fn by_id(&self, id: &str) -> Result<Option<User>, SourceUnavailable> {
        let (table, id) = (Arc::clone(&self.table), id.to_owned());
        self.remote.submit(async move { table.by_id(&id).await }).await
    }

    /// How often [`Self::version`] is to be polled, where a version is configured.
    pub(super) fn poll_interval(&self) -> Option<Duration> {
        self.table.version_query().map(|_| self.table.settings.poll_interval)
    }

    /// A value that changes whenever a user does, where a column or a query for it is configured and changes are
    /// not announced.
    pub(super) async fn version(&self) -> Result<Option<String>, SourceUnavailable> {
        if self.listener().is_some_and(SqlListener::is_listening) {
            return Ok(None);
        }
        let Some(sql) = self.table.version_query() else { return Ok(None) };
        let table = Arc::clone(&self.table);
        self.remote.submit(async move { table.version(sql).await.map(Some) }).await
    }

    /// Stored hashes of some users; none where a query is configured in place of a table.
    pub(super) async fn sample(&self) -> Result<Vec<String>, SourceUnavailable> {
        let table = Arc::clone(&self.table);
        self.remote.submit(async move { table.sample().await }).await
    }

    /// Whether another hash can be stored: in a table, or by a configured statement.
    pub(super) fn is_writable(&self) -> bool {
        matches!(self.table.settings.lookup, SqlLookup::Table(_) | SqlLookup::Query { update: Some(_), .. })
    }

    /// Whether it has refused that of late, so that another hash would be computed in vain.
    pub(super) fn has_refused(&self) -> bool {
        let refused_at = *self.refused_at.lock().unwrap_or_else(PoisonError::into_inner);
        refused_at.is_some_and(|at| at.elapsed() < REFUSAL_MEMORY)
    }

    /// Replaces the hash of a user if it still is `old`; returns whether it was.
    pub(super) async fn replace_hash(
        &self,
        id: &str,
        old: &PasswordHash,
        new: &PasswordHash,
        is_new_password: bool,
    ) -> Result<bool, ReplaceError> {
        let (table, id) = (Arc::clone(&self.table), id.to_owned());
        let (old, new) = (old.as_str().to_owned(), new.as_str().to_owned());
        let stored = self
            .remote
            .submit(async move {
                match table.replace_hash(&id, &old, &new, is_new_password).await {
                    // It responds: that is no outage.
                    Err(sqlx::Error::Database(error)) if is_write_refusal(&*error) => {
                        Ok(Err(error.to_string()))
                    }
                    result => result.map(Ok),
                }
            })
            .await;
        match stored.map_err(|error| ReplaceError::Failed(error.to_string()))? {
            Ok(stored) => Ok(stored),
            Err(error) => {
                let column = self.table.password_column();
                tracing::error!(
                    source = self.table.name,
                    error,
                    "the database refuses to store another hash: give its account the right to UPDATE {column}, which must be wide enough, such as VARCHAR(255)"
                );
                *self.refused_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                Err(ReplaceError::NotWritable)
            }
        }
    }
}

impl Table {
    async fn pool(&self) -> Result<&AnyPool, sqlx::Error> {
        self.pool
            .get_or_try_init(|| async {
                let dialect = self.settings.url.dialect;
                let lifetime = match dialect {
                    // After a rename over the file, an open connection would read the old one.
                    SqlDialect::Sqlite => Duration::from_secs(5),
                    SqlDialect::Postgres | SqlDialect::MySql => Duration::from_secs(30 * 60),
                };
                AnyPoolOptions::new()
                    .max_lifetime(lifetime)
                    .max_connections(self.settings.max_connections)
                    .acquire_timeout(self.settings.timeout)
                    .idle_timeout(Duration::from_secs(300))
                    .after_connect(move |connection, _| {
                        Box::pin(async move {
                            if dialect == SqlDialect::MySql {
                                // Else a hash that is too long for its column would be cut off.
                                let strict =
                                    "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')";
                                sqlx::query(strict).execute(connection).await?;
                            }
                            Ok(())
                        })
                    })
                    .connect_lazy(&self.settings.url.url)
            })
            .await
    }

    async fn by_name(&self, name: &CanonicalName) -> Result<Lookup, sqlx::Error> {
        let sql = match &self.settings.lookup {
            SqlLookup::Query { by_name, .. } => by_name.clone(),
            SqlLookup::Table(table) => {
                let dialect = self.settings.url.dialect;
                let column = dialect.quote(&table.columns.username);
                let column = if table.exact_names { column } else { format!("LOWER({column})") };
                self.select(&format!("{column} = {}", dialect.placeholder(1)))
            }
        };
        Ok(match self.find(sql, name.as_str()).await? {
            // A collation may match more than the same canonical name.
            Lookup::Found(user) if user.username != name.as_str() => Lookup::Absent,
            found => found,
        })
    }

    async fn by_id(&self, id: &str) -> Result<Option<User>, sqlx::Error> {
        let sql = match &self.settings.lookup {
            SqlLookup::Query { by_id, .. } => by_id.clone(),
            SqlLookup::Table(_) => self.select(&self.id_is(1).await?),
        };
        Ok(match self.find(sql, id).await? {
            Lookup::Found(user) => Some(user).filter(|user| user.id == id),
            Lookup::Absent | Lookup::Unusable(_) => None,
        })
    }

    /// The condition that the id is the parameter of that number.
    async fn id_is(&self, number: usize) -> Result<String, sqlx::Error> {
        let SqlLookup::Table(table) = &self.settings.lookup else { return Ok(String::new()) };
        let dialect = self.settings.url.dialect;
        let (column, parameter) = (dialect.quote(&table.columns.id), dialect.placeholder(number));
        if dialect != SqlDialect::Postgres {
            return Ok(format!("{column} = {parameter}"));
        }
        let id_type = self
            .id_type
            .get_or_try_init(|| async {
                let sql = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = $1::regclass AND attname = $2";
                let row = sqlx::query(sql).bind(dialect.quote(&table.table)).bind(table.columns.id.clone());
                row.fetch_one(self.pool().await?).await?.try_get::<String, _>(0)
            })
            .await?;
        Ok(format!("{column} = CAST({parameter} AS {id_type})"))
    }

    /// A query for users that match `condition`. All columns are cast to text, for drivers have few types in
    /// common.
    fn select(&self, condition: &str) -> String {
        let SqlLookup::Table(table) = &self.settings.lookup else { return String::new() };
        let dialect = self.settings.url.dialect;
        let text = dialect.text_type();
        let mut columns = vec![
            ("id".to_owned(), &table.columns.id),
            ("username".to_owned(), &table.columns.username),
            ("password".to_owned(), &table.columns.password),
        ];
        columns.extend(table.columns.roles.iter().map(|column| ("roles".to_owned(), column)));
        columns.extend(table.columns.disabled.iter().map(|column| ("disabled".to_owned(), column)));
        columns.extend(table.columns.enabled.iter().map(|column| ("enabled".to_owned(), column)));
        let must_change = table.columns.must_change_password.iter();
        columns.extend(must_change.map(|column| (MUST_CHANGE.to_owned(), column)));
        columns.extend(table.claims.iter().map(|(claim, column)| (claim.clone(), column)));
        let cast = |(name, column): (String, &String)| {
            format!("CAST({} AS {text}) AS {}", dialect.quote(column), dialect.quote(&name))
        };
        let columns: Vec<String> = columns.into_iter().map(cast).collect();
        format!(
            "SELECT {} FROM {} WHERE {condition} LIMIT 2",
            columns.join(", "),
            dialect.quote(&table.table)
        )
    }

    async fn find(&self, sql: String, parameter: &str) -> Result<Lookup, sqlx::Error> {
        let pool = self.pool().await?;
        let mut rows = match sqlx::query(AssertSqlSafe(sql)).bind(parameter.to_owned()).fetch_all(pool).await
        {
            Ok(rows) => rows,
            // PostgreSQL: a text that is no value of the id's type matches no user.
            Err(sqlx::Error::Database(error))
                if matches!(error.code().as_deref(), Some("22P02" | "22003")) =>
            {
                return Ok(Lookup::Absent);
            }
            Err(error) => return Err(error),
        };
        let Some(row) = rows.pop() else { return Ok(Lookup::Absent) };
        if !rows.is_empty() {
            tracing::warn!(source = self.name, name = parameter, "several rows fit, so that none may log in");
            return Ok(Lookup::Unusable("several rows fit".to_owned()));
        }
        let mut user = match read(&row) {
            Ok(user) => user,
            Err(Unusable { why, is_meant }) => {
                if !is_meant {
                    tracing::warn!(source = self.name, name = parameter, "a row cannot be used: {why}");
                }
                return Ok(Lookup::Unusable(why));
            }
        };
        if let Some(sql) = &self.settings.roles_query {
            let rows = sqlx::query(AssertSqlSafe(sql.clone())).bind(user.id.clone()).fetch_all(pool).await?;
            user.roles
                .extend(rows.iter().filter_map(|row| text(row, 0)).filter(|role| is_visible_ascii(role)));
        }
        Ok(Lookup::Found(user))
    }

    /// The column of the hash, for people.
    fn password_column(&self) -> String {
        match &self.settings.lookup {
            SqlLookup::Table(table) => format!("{} of the table {}", table.columns.password, table.table),
            SqlLookup::Query { .. } => "what `update_query` changes".to_owned(),
        }
    }

    fn version_query(&self) -> Option<String> {
        let dialect = self.settings.url.dialect;
        match (&self.settings.changes_query, &self.settings.lookup) {
            (Some(query), _) => Some(query.clone()),
            // A deletion changes the number of rows only.
            (
                None,
                SqlLookup::Table(SqlTable {
                    table, columns: SqlColumns { version: Some(column), .. }, ..
                }),
            ) => Some(format!(
                "SELECT COUNT(*), CAST(MAX({}) AS {}) FROM {}",
                dialect.quote(column),
                dialect.text_type(),
                dialect.quote(table)
            )),
            _ => None,
        }
    }

    async fn version(&self, sql: String) -> Result<String, sqlx::Error> {
        let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(self.pool().await?).await?;
        let values: Vec<String> = (0..row.len()).map(|index| text(&row, index).unwrap_or_default()).collect();
        Ok(values.join("\0"))
    }

    async fn sample(&self) -> Result<Vec<String>, sqlx::Error> {
        let SqlLookup::Table(table) = &self.settings.lookup else { return Ok(Vec::new()) };
        let dialect = self.settings.url.dialect;
        let (id, password, from) = (
            dialect.quote(&table.columns.id),
            dialect.quote(&table.columns.password),
            dialect.quote(&table.table),
        );
        let text_type = dialect.text_type();
        // The oldest and the newest: an application that moved to another scheme has both. By the index of the id.
        let end = |name, order| {
            format!(
                "SELECT i, h FROM (SELECT CAST({id} AS {text_type}) AS i, CAST({password} AS {text_type}) AS h FROM {from} \
                 ORDER BY {id} {order} LIMIT {}) AS {name}",
                SAMPLE / 2
            )
        };
        let sql = format!("{} UNION {}", end("oldest", "ASC"), end("newest", "DESC"));
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(self.pool().await?).await?;
        Ok(rows.iter().filter_map(|row| text(row, 1)).collect())
    }

    async fn replace_hash(
        &self,
        id: &str,
        old: &str,
        new: &str,
        is_new_password: bool,
    ) -> Result<bool, sqlx::Error> {
        let sql = match &self.settings.lookup {
            SqlLookup::Query { update, .. } => match update {
                Some(sql) => sql.clone(),
                None => return Ok(false),
            },
            SqlLookup::Table(table) => {
                let dialect = self.settings.url.dialect;
                let column = dialect.quote(&table.columns.password);
                let done = match table.columns.must_change_password.as_ref().filter(|_| is_new_password) {
                    Some(column) => format!(", {} = FALSE", dialect.quote(column)),
                    None => String::new(),
                };
                // One statement, so that a concurrent change of the password is not lost.
                format!(
                    "UPDATE {} SET {column} = {}{done} WHERE {} AND {column} = {}",
                    dialect.quote(&table.table),
                    dialect.placeholder(1),
                    self.id_is(2).await?,
                    dialect.placeholder(3),
                )
            }
        };
        let update =
            sqlx::query(AssertSqlSafe(sql)).bind(new.to_owned()).bind(id.to_owned()).bind(old.to_owned());
        Ok(update.execute(self.pool().await?).await?.rows_affected() == 1)
    }
}

/// Whether a database refuses a statement for good: no right to it, or a value that does not fit.
fn is_write_refusal(error: &dyn DatabaseError) -> bool {
    /// `--read-only`, of an account and of the whole server.
    const MYSQL_READ_ONLY: [u16; 2] = [1290, 1836];
    const SQLITE_READ_ONLY: i32 = 8;
    const SQLITE_CONSTRAINT: i32 = 19;
    let code = error.code().unwrap_or_default();
    if error.try_downcast_ref::<SqliteError>().is_some() {
        // The lowest byte of an extended code is the code.
        return code
            .parse::<i32>()
            .is_ok_and(|code| [SQLITE_READ_ONLY, SQLITE_CONSTRAINT].contains(&(code & 0xff)));
    }
    let is_read_only = error
        .try_downcast_ref::<MySqlDatabaseError>()
        .is_some_and(|error| MYSQL_READ_ONLY.contains(&error.number()));
    // SQLSTATE: data, integrity, syntax or access rule, a read-only transaction.
    is_read_only || ["22", "23", "42"].iter().any(|class| code.starts_with(class)) || code == "25006"
}

impl SqlDialect {
    /// Quotes a name of a table or a column; a dot separates a schema from its table.
    fn quote(self, name: &str) -> String {
        let quote = if self == SqlDialect::MySql { '`' } else { '"' };
        name.split('.').map(|part| format!("{quote}{part}{quote}")).collect::<Vec<_>>().join(".")
    }

    fn placeholder(self, number: usize) -> String {
        match self {
            SqlDialect::MySql => "?".to_owned(),
            SqlDialect::Sqlite | SqlDialect::Postgres => format!("${number}"),
        }
    }

    fn text_type(self) -> &'static str {
        match self {
            SqlDialect::MySql => "CHAR",
            SqlDialect::Sqlite | SqlDialect::Postgres => "TEXT",
        }
    }
}

/// The column of a required change.
const MUST_CHANGE: &str = "must_change_password";

/// Why a row is no user who can log in.
#[derive(Debug, PartialEq, Eq)]
struct Unusable {
    why: String,
    /// Whether the application says so by the way it stores the row.
    is_meant: bool,
}

impl From<String> for Unusable {
    fn from(why: String) -> Unusable {
        Unusable { why, is_meant: false }
    }
}

/// Whether an application has a user without a password: nothing, or what Django and crypt(5) write then.
fn is_without_password(stored: Option<&str>) -> bool {
    stored.is_none_or(|stored| stored.is_empty() || stored.starts_with(['!', '*']))
}

/// The user of a row with columns `id`, `username`, `password`, and optionally `roles`, `disabled`, `enabled`
/// or [`MUST_CHANGE`]; any other is a claim.
fn read(row: &AnyRow) -> Result<User, Unusable> {
    let column = |name: &str| row.columns().iter().position(|column| column.name() == name);
    let value = |name: &str| column(name).and_then(|index| text(row, index));
    let required = |name: &str| value(name).ok_or_else(|| format!("`{name}` is missing or NULL"));
    let username = required("username")?;
    let name = CanonicalName::parse(&username).ok_or_else(|| format!("{username:?} is no user name"))?;
    let id = required("id")?;
    if !is_visible_ascii(&id) {
        return Err(format!("{id:?} is no id").into());
    }
    let stored = value("password");
    if column("password").is_some() && is_without_password(stored.as_deref()) {
        return Err(Unusable { why: "the user has no password".to_owned(), is_meant: true });
    }
    let password = PasswordHash::parse(&required("password")?).map_err(|error| error.to_string())?;
    let mut claims = Map::new();
    for (index, column) in row.columns().iter().enumerate() {
        let name = column.name();
        if !["id", "password", "disabled", "enabled", MUST_CHANGE].contains(&name)
            && !RESERVED_CLAIMS.contains(&name)
            && let Some(text) = text(row, index)
        {
            claims.insert(name.to_owned(), Value::from(text));
        }
    }
    let disabled = value("disabled").is_some_and(|text| is_true(&text))
        || (column("enabled").is_some() && !value("enabled").is_some_and(|text| is_true(&text)));
    Ok(User {
        id,
        username: name.as_str().to_owned(),
        credential: password.into(),
        roles: roles(&value("roles").unwrap_or_default()),
        claims,
        disabled,
        session_epoch: 0,
        must_change_password: value(MUST_CHANGE).is_some_and(|text| is_true(&text)),
    })
}

/// A value as text, whatever the driver made of it.
fn text(row: &AnyRow, index: usize) -> Option<String> {
    let bytes = || String::from_utf8(row.try_get::<Option<Vec<u8>>, _>(index).ok()??).ok();
    match row.try_get::<Option<String>, _>(index) {
        Ok(text) => text,
        Err(_) => {
            let integer =
                row.try_get::<Option<i64>, _>(index).ok().flatten().map(|number| number.to_string());
            let boolean = || row.try_get::<Option<bool>, _>(index).ok().flatten().map(|b| b.to_string());
            let float =
                || row.try_get::<Option<f64>, _>(index).ok().flatten().map(|number| number.to_string());
            integer.or_else(boolean).or_else(float).or_else(bytes)
        }
    }
}

/// Representations of true in databases.
fn is_true(text: &str) -> bool {
    !matches!(text.to_ascii_lowercase().as_str(), "" | "0" | "f" | "false" | "n" | "no")
}

/// A list as applications store it in one column: `a,b`, `a b`, `["a", "b"]` of JSON or `{a,b}` of
/// PostgreSQL.
fn roles(text: &str) -> Vec<String> {
    if let Ok(roles) = serde_json::from_str::<Vec<String>>(text) {
        return roles.into_iter().filter(|role| is_visible_ascii(role)).collect();
    }
    let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
    let words = inner.split(|c: char| c == ',' || c == ';' || c.is_whitespace());
    let words = words.map(|word| word.trim_matches('"')).filter(|word| is_visible_ascii(word));
    words.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_from_the_lists_that_applications_keep() {
        for text in [
            "user,admin",
            "user admin",
            " user, admin ",
            r#"["user","admin"]"#,
            "{user,admin}",
            r#"{"user","admin"}"#,
        ] {
            assert_eq!(roles(text), ["user", "admin"], "{text}");
        }
        assert_eq!(roles(""), [""; 0]);
        assert_eq!(roles("{}"), [""; 0]);
        assert_eq!(roles("admin"), ["admin"]);
    }

    #[test]
    fn applications_have_users_without_a_password() {
        for (stored, expected) in [
            (None, true),
            (Some(""), true),
            (Some("!Ab3"), true),
            (Some("*"), true),
            (Some("$2b$12$"), false),
            (Some("hunter2"), false),
        ] {
            assert_eq!(is_without_password(stored), expected, "{stored:?}");
        }
    }

    #[test]
    fn truth_is_what_databases_write_for_it() {
        for (text, truth) in [
            ("1", true),
            ("t", true),
            ("true", true),
            ("0", false),
            ("false", false),
            ("f", false),
            ("", false),
        ] {
            assert_eq!(is_true(text), truth, "{text}");
        }
    }
}
