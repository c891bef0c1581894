//! `[store.redis]`: servers, authentication and timeouts.

use super::prelude::*;
use super::upstreams::{authority, check_tls_files};

pub(super) use crate::config::settings::Redis;

section! {
    /// For kind = "redis" only: url, sentinels or cluster; rediss:// in place of redis:// is TLS.
    pub(super) struct RedisKeys {
        /// One server; the default port is 6379; /3 at the end is database 3.
        url: Option<Url> = text(url).example("\"redis://127.0.0.1:6379\"");
        /// Sentinels; the default port is 26379.
        sentinels: Option<Vec<Url>> = texts(url).example("[\"redis://10.0.0.1\", \"redis://10.0.0.2\", \"redis://10.0.0.3\"]");
        /// The name of the master at the Sentinels.
        master_name: String = text(name)
            .default("mymaster")
            .only_where(|redis| redis.entry("sentinels").is_given(), "there are no `sentinels`");
        /// Some nodes of a cluster, which report the others.
        cluster: Option<Vec<Url>> = texts(url).example("[\"redis://10.0.0.1\", \"redis://10.0.0.2\"]");
        /// The gateway's ACL user at Redis; by default the user "default".
        username: Option<String> = text(name).example("\"auth-gateway\"");
        /// A file with that user's password.
        password: SecretSource<Secret<String>> = secret("\"secrets/redis\"", "\"…\"").parse(secret_text);
        /// The gateway's user at Sentinels, which have users of their own.
        sentinel_username: Option<String> = text(name).example("\"auth-gateway\"");
        /// A file with that user's password.
        sentinel_password: SecretSource<Secret<String>> = secret("\"secrets/sentinel\"", "\"…\"").parse(secret_text);
        /// PEM certificates to trust instead of the system's.
        ca_file: Option<PathBuf> = text(existing_file).example("\"secrets/redis-ca.pem\"");
        /// A client certificate, PEM, where Redis requires one (mTLS).
        client_certificate_file: Option<PathBuf> = text(existing_file).example("\"secrets/redis-client.pem\"");
        /// Its key.
        client_key_file: Option<PathBuf> = text(existing_file).secret_file().example("\"secrets/redis-client.key\"");
        /// Prefix of keys and channels. Gateways that share sessions have the same; others need another.
        key_prefix: String = text(key_prefix).default("auth-gateway");
        /// Access tokens while revocations cannot be received from Redis: "bounded" accepts them by the last
        /// known revocations, "strict" responds 503.
        revocation: Mode = choice().default("bounded");
        /// With "bounded": after this time without an update, requests with tokens get 503.
        max_staleness: Option<Duration> = duration(seconds(2)..=DAY)
            .fallback("never")
            .example("\"10m\"")
            .only_where(|redis| redis.word("revocation") != "strict", "`strict` allows for one second");
        /// Whether a gateway that cannot reach Redis when it starts exits, instead of waiting for it.
        required_at_start: bool = boolean().default("false");
        /// Timeout of one command.
        command_timeout: Duration = duration(millis(10)..=seconds(300)).default("250ms");
        /// Timeout of connecting: DNS, TCP, TLS and authentication.
        connect_timeout: Duration = duration(millis(10)..=seconds(300)).default("1s");
        /// Timeout of an operation for a request, including a retry and the wait for a new connection.
        operation_timeout: Option<Duration> = duration(millis(10)..=seconds(300))
            .fallback("1s, or four times command_timeout where that is longer")
            .example("\"1s\"");
        /// Timeout of a start during which Redis does not respond.
        start_timeout: Option<Duration> =
            duration(millis(10)..=seconds(300)).fallback("1s, or 4s with required_at_start").example("\"1s\"");
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    Bounded,
    Strict,
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Default ports of Redis and of Sentinels.
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// `redis://` or `rediss://` with its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    host: String,
    port: Option<u16>,
    database: Option<i64>,
    tls: bool,
}

impl Url {
    fn address(self, default_port: u16) -> RedisAddress {
        RedisAddress { host: self.host, port: self.port.unwrap_or(default_port) }
    }
}

impl RedisKeys {
    pub(super) fn settings(self, table: &Table<'_>) -> Redis {
        one_of_three(table);
        let timeouts = self.timeouts(table);
        let login = login_of(table, self.username, self.password, ["username", "password"]);
        let sentinel_keys = ["sentinel_username", "sentinel_password"];
        let sentinel_login = login_of(table, self.sentinel_username, self.sentinel_password, sentinel_keys);
        let (servers, tls) = if let Some(urls) = self.sentinels {
            let (sentinels, tls) = addresses(table, "sentinels", urls, SENTINEL_PORT);
            let master_name = self.master_name;
            (RedisServers::Sentinel { sentinels, master_name, login: sentinel_login }, tls)
        } else if let Some(urls) = self.cluster {
            let (nodes, tls) = addresses(table, "cluster", urls, PORT);
            (RedisServers::Cluster(nodes), tls)
        } else {
            let url =
                self.url.unwrap_or(Url { host: "127.0.0.1".into(), port: None, database: None, tls: false });
            let (tls, database) = (url.tls, url.database.unwrap_or(0));
            (RedisServers::Single { server: url.address(PORT), database }, tls)
        };
        let files = ["ca_file", "client_certificate_file", "client_key_file"];
        check_tls_files(table, (!tls).then_some("begin the URL with rediss://"), files);
        let client = self.client_certificate_file.zip(self.client_key_file);
        let revocation = match self.revocation {
            Mode::Strict => Revocation::Strict,
            Mode::Bounded => Revocation::Bounded { max_staleness: self.max_staleness },
        };
        Redis {
            servers,
            tls: tls.then_some(RedisTls { ca_file: self.ca_file, client }),
            login,
            key_prefix: self.key_prefix,
            revocation,
            required_at_start: self.required_at_start,
            timeouts,
        }
    }

    /// An operation needs the time of at least one command.
    fn timeouts(&self, table: &Table<'_>) -> RedisTimeouts {
        let (connect, command) = (self.connect_timeout, self.command_timeout);
        if self.operation_timeout.is_some_and(|operation| operation < command) {
            let why = "is shorter than `store.redis.command_timeout`, which one command may take";
            let entry = table.entry("operation_timeout");
            entry.error(why, "make it two to four times as long");
        }
        let defaults = RedisTimeouts::default();
        let operation = self.operation_timeout.unwrap_or(defaults.operation.max(4 * command));
        let start = if self.required_at_start { seconds(4) } else { defaults.start };
        RedisTimeouts { connect, command, operation, start: self.start_timeout.unwrap_or(start) }
    }
}

/// Reports that none or several of the three ways to name servers are used.
fn one_of_three(table: &Table<'_>) {
    let keys = ["url", "sentinels", "cluster"];
    if !keys.iter().any(|key| table.entry(key).is_given()) {
        let how = "write url = \"redis://127.0.0.1:6379\", or sentinels = [...], or cluster = [...] in [store.redis]";
        table.entry("url").require(how);
    }
    let help = "one server has a `url`, Sentinels are listed in `sentinels`, a cluster's nodes in `cluster`";
    table.at_most_one(&keys, help);
}

/// The servers of a list, which must have the same scheme.
fn addresses(table: &Table<'_>, key: &str, urls: Vec<Url>, port: u16) -> (Vec<RedisAddress>, bool) {
    let entry = table.entry(key);
    let tls = urls.first().is_some_and(|url| url.tls);
    let refuse = |why: &str, help: &str| entry.error(why, help);
    if entry.list().is_some_and(|list| list.is_empty()) {
        refuse("needs at least one URL", "write it like [\"redis://10.0.0.1\"]");
    }
    if urls.iter().any(|url| url.tls != tls) {
        refuse("mixes redis:// and rediss://", "use TLS for all of them or for none");
    }
    if urls.iter().any(|url| url.database.is_some()) {
        refuse("names a database", "Sentinels have none and a cluster has only database 0: leave it out");
    }
    (urls.into_iter().map(|url| url.address(port)).collect(), tls)
}

fn url(text: &str) -> Result<Url, InvalidValue> {
    let example = "write it like \"redis://127.0.0.1:6379\", or \"rediss://…\" for TLS";
    // First, so that a password is never part of a message.
    if text.contains('@') {
        return refused(
            "a Redis URL may not contain a user name or a password here",
            "set `username` and `password_file` beside it",
        );
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return refused(format!("{} is not a URL", quoted(text)), example);
    };
    let tls = match scheme {
        "redis" => false,
        "rediss" => true,
        _ => return refused(format!("unknown scheme {}", quoted(scheme)), example),
    };
    let (address, database) = match rest.split_once('/') {
        None | Some((_, "")) => (rest.trim_end_matches('/'), Some(None)),
        Some((address, number)) => (address, number.parse().ok().filter(|n| *n >= 0).map(Some)),
    };
    let (host, port) = authority(address);
    match (host, port, database) {
        (Some(host), Some(port), Some(database)) => Ok(Url { host, port, database, tls }),
        _ => refused(format!("{} is not {scheme}://host:port/database", quoted(text)), example),
    }
}

fn login_of(
    table: &Table<'_>,
    username: Option<String>,
    password: SecretSource<Secret<String>>,
    keys: [&str; 2],
) -> RedisLogin {
    if username.is_some() && password == SecretSource::Nothing {
        let [username, password] = keys;
        table.entry(username).error(
            "is given without a password",
            format!("set `{password}_file`, or leave `{username}` out to use Redis without a login"),
        );
    }
    match password {
        SecretSource::Secret(password) => RedisLogin { username, password: Some(password) },
        _ => RedisLogin::default(),
    }
}

/// The prefix of keys: `{` would change their hash slot.
fn key_prefix(text: &str) -> Result<String, InvalidValue> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:/".contains(c);
    accept(
        text,
        !(text.is_empty() || text.len() > 100 || !text.chars().all(is_allowed)),
        "is not a prefix for keys",
        "use 1 to 100 letters, digits and - _ . : /",
    )
}

fn name(text: &str) -> Result<String, InvalidValue> {
    accept(
        text,
        !(text.is_empty() || text.len() > 255 || text.chars().any(|c| c.is_whitespace() || c.is_control())),
        "is not a name",
        "use 1 to 255 bytes without spaces",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::test_support::{load_diagnostics, load_text, minimal, settings};
    use super::*;
    use crate::config::settings::Store;

    fn with(config: &str) -> String {
        minimal() + "[store]\nkind = \"redis\"\n[store.redis]\n" + config
    }

    fn redis_of(config: &str) -> Redis {
        match settings(with(config)).store {
            Store::Redis(redis) => *redis,
            other => panic!("{other:?}"),
        }
    }

    fn address(host: &str, port: u16) -> RedisAddress {
        RedisAddress { host: host.into(), port }
    }

    #[test]
    fn one_server_needs_a_url_and_nothing_else() {
        let redis = redis_of("url = \"redis://127.0.0.1\"");
        let server = address("127.0.0.1", 6379);
        assert_eq!(redis.servers, RedisServers::Single { server, database: 0 });
        assert_eq!((redis.tls, redis.login), (None, RedisLogin::default()));
        assert_eq!(redis.key_prefix, "auth-gateway");
        assert_eq!(redis.revocation, Revocation::Bounded { max_staleness: None });
        assert!(!redis.required_at_start);
    }

    #[test]
    fn urls_contain_host_port_database_and_tls() {
        for (text, host, port, database, tls) in [
            ("redis://Cache.internal", "cache.internal", 6379, 0, false),
            ("redis://10.0.0.1:7000/", "10.0.0.1", 7000, 0, false),
            ("rediss://[::1]:7000/3", "::1", 7000, 3, true),
            ("rediss://[::1]", "::1", 6379, 0, true),
        ] {
            let redis = redis_of(&format!("url = \"{text}\""));
            assert_eq!(
                redis.servers,
                RedisServers::Single { server: address(host, port), database },
                "{text}"
            );
            assert_eq!(redis.tls.is_some(), tls, "{text}");
        }
    }

    #[test]
    fn sentinels_and_clusters_are_lists() {
        let redis = redis_of(
            "sentinels = [\"redis://a\", \"redis://b:1\"]\nmaster_name = \"m\"\nsentinel_password = \"hunter2\"",
        );
        let login = RedisLogin { username: None, password: Some("hunter2".to_owned().into()) };
        let sentinels = vec![address("a", 26379), address("b", 1)];
        assert_eq!(redis.servers, RedisServers::Sentinel { sentinels, master_name: "m".into(), login });
        assert!(!format!("{redis:?}").contains("hunter2"));
        let redis = redis_of("cluster = [\"rediss://a\", \"rediss://b:7001\"]");
        assert_eq!(redis.servers, RedisServers::Cluster(vec![address("a", 6379), address("b", 7001)]));
        assert_eq!(redis.tls, Some(RedisTls::default()));
    }

    #[test]
    fn a_login_may_be_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        std::fs::write(&file, "pass word\n").unwrap();
        let redis = redis_of(&format!("url = \"redis://a\"\nusername = \"gw\"\npassword_file = {file:?}"));
        assert_eq!(
            redis.login,
            RedisLogin { username: Some("gw".into()), password: Some("pass word".to_owned().into()) }
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_a_remedy() {
        for (config, message, help) in [
            ("", "`store.redis.url` is missing", "redis://127.0.0.1:6379"),
            ("url = \"127.0.0.1\"", "is not a URL", "redis://127.0.0.1:6379"),
            ("url = \"http://a\"", "unknown scheme `http`", "rediss"),
            ("url = \"redis://u:hunter2@a\"", "a user name or a password", "password_file"),
            ("url = \"redis://a:0\"", "is not redis://host:port/database", ""),
            ("url = \"redis://a/x\"", "is not redis://host:port/database", ""),
            (
                "url = \"redis://a\"\ncluster = [\"redis://b\"]",
                "both `store.redis.url` and `store.redis.cluster`",
                "",
            ),
            ("cluster = []", "needs at least one URL", ""),
            ("cluster = [\"redis://a\", \"rediss://b\"]", "mixes redis:// and rediss://", ""),
            ("sentinels = [\"redis://a/1\"]", "names a database", "leave it out"),
            ("url = \"redis://a\"\nca_file = \"Cargo.toml\"", "has no effect without TLS", "rediss://"),
            ("url = \"rediss://a\"\nca_file = \"no/such\"", "the file no/such does not exist", ""),
            ("url = \"rediss://a\"\nclient_key_file = \"Cargo.toml\"", "is given without", "private key"),
            ("url = \"redis://a\"\nusername = \"gw\"", "is given without a password", "password_file"),
            ("url = \"redis://a\"\nkey_prefix = \"a{b}\"", "is not a prefix for keys", "letters"),
            ("url = \"redis://a\"\nrevocation = \"Strict\"", "unknown value `Strict`", "`strict`"),
            ("url = \"redis://a\"\nmax_staleness = \"1s\"", "must be at least 2s", ""),
            ("url = \"redis://a\"\nuri = \"x\"", "unknown key `uri` in [store.redis]", "`url`"),
        ] {
            let complaints = load_diagnostics(with(config));
            complaints.only(message, help);
            assert!(!complaints.text().contains("hunter2"));
        }
    }

    #[test]
    fn what_has_no_effect_is_warned_about() {
        for (config, warning) in [
            (with("url = \"redis://a\"\nmaster_name = \"m\""), "there are no `sentinels`"),
            (
                with("url = \"redis://a\"\nrevocation = \"strict\"\nmax_staleness = \"1m\""),
                "allows for one second",
            ),
            (minimal() + "[store.redis]\nurl = \"redis://a\"", "`store.redis`: has no effect"),
        ] {
            assert!(load_text(config).unwrap().warnings.to_string().contains(warning), "{warning}");
        }
    }
}
