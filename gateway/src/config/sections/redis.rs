//! `[store.redis]`: which Redis, and as whom.

use std::path::PathBuf;
use std::time::Duration;

use super::secret::{self, Given};
use super::store::file_name;
use super::upstreams::is_host;
use super::users::readable;
use super::{DAY, seconds};
use crate::config::diagnostic::Diagnostic;
use crate::config::entry::{Entry, Refusal, quoted};
use crate::config::settings::{
    Redis, RedisAddress, RedisLogin, RedisServers, RedisTimeouts, RedisTls, Revocation,
};
use crate::config::table::Table;

/// Redis's own port, and that of Sentinels.
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// One of `redis://` and `rediss://`, with what follows.
struct Url {
    address: RedisAddress,
    database: Option<i64>,
    tls: bool,
}

/// Reads the section; `wanted` where `store.kind` asks for it.
pub(super) fn redis(table: &mut Table<'_>, wanted: bool) -> Redis {
    if !wanted && !table.is_empty() {
        let message = "`store.redis`: has no effect: `store.kind` is not \"redis\"";
        table.report().push(Diagnostic::warning(message.to_owned()).at(table.place()));
    }
    let (servers, tls) = servers(table, wanted);
    let required_at_start = table.take("required_at_start").boolean().unwrap_or(false);
    Redis {
        servers,
        tls: certificates(table, tls),
        login: login(table, "username", "password"),
        key_prefix: table.take("key_prefix").parse(key_prefix).unwrap_or_else(|| "auth-gateway".to_owned()),
        revocation: revocation(table),
        required_at_start,
        timeouts: timeouts(table, required_at_start),
    }
}

/// The servers, and whether they are spoken to over TLS.
fn servers(table: &mut Table<'_>, wanted: bool) -> (RedisServers, bool) {
    let (url_entry, sentinels, cluster) = (table.take("url"), table.take("sentinels"), table.take("cluster"));
    let master_name = table.take("master_name");
    let sentinel_login = login(table, "sentinel_username", "sentinel_password");
    let given: Vec<&Entry<'_>> =
        [&url_entry, &sentinels, &cluster].into_iter().filter(|e| e.is_given()).collect();
    match given[..] {
        [_] => {}
        [] if !wanted => {}
        [] => table.report().push_missing(
            Diagnostic::error("`store.redis.url` is missing").at(table.place()).help(
                "write url = \"redis://127.0.0.1:6379\", or sentinels = [...], or cluster = [...] in [store.redis]",
            ),
        ),
        [first, second, ..] => first.report(
            Diagnostic::error(format!("both `{}` and `{}` are given", first.name(), second.name()))
                .at(second.key_place())
                .related(format!("`{}` is here", first.name()), first.key_place())
                .help("one server has a `url`, Sentinels are listed in `sentinels`, a cluster's nodes in `cluster`"),
        ),
    }
    if !sentinels.is_given() && master_name.is_given() {
        master_name.warn(Refusal::new("has no effect without `sentinels`"));
    }
    if sentinels.is_given() {
        let (sentinels, tls) = addresses(&sentinels, SENTINEL_PORT);
        let master_name = master_name.parse(name).unwrap_or_else(|| "mymaster".to_owned());
        (RedisServers::Sentinel { sentinels, master_name, login: sentinel_login }, tls)
    } else if cluster.is_given() {
        let (nodes, tls) = addresses(&cluster, PORT);
        (RedisServers::Cluster(nodes), tls)
    } else {
        let url = url_entry.parse(|text| url(text, PORT));
        let tls = url.as_ref().is_some_and(|url| url.tls);
        let database = url.as_ref().and_then(|url| url.database).unwrap_or(0);
        let server = url.map(|url| url.address);
        let server = server.unwrap_or_else(|| RedisAddress { host: "127.0.0.1".to_owned(), port: PORT });
        (RedisServers::Single { server, database }, tls)
    }
}

/// The servers of a list, which are all spoken to in the same way.
fn addresses(entry: &Entry<'_>, port: u16) -> (Vec<RedisAddress>, bool) {
    let urls: Vec<Url> = entry.list_of(|text| url(text, port)).unwrap_or_default();
    let tls = urls.first().is_some_and(|url| url.tls);
    if entry.list().is_some_and(|list| list.is_empty()) {
        entry.refuse(Refusal::new("needs at least one URL").help("write it like [\"redis://10.0.0.1\"]"));
    }
    if urls.iter().any(|url| url.tls != tls) {
        entry
            .refuse(Refusal::new("mixes redis:// and rediss://").help("use TLS for all of them or for none"));
    }
    if urls.iter().any(|url| url.database.is_some()) {
        entry.refuse(
            Refusal::new("names a database")
                .help("Sentinels have none and a cluster has only database 0: leave it out"),
        );
    }
    (urls.into_iter().map(|url| url.address).collect(), tls)
}

fn url(text: &str, default_port: u16) -> Result<Url, Refusal> {
    let example = "write it like \"redis://127.0.0.1:6379\", or \"rediss://…\" for TLS";
    // First of all, so that a password is never part of a message.
    if text.contains('@') {
        return Err(Refusal::new("a Redis URL may not contain a user name or a password here")
            .help("set `username` and `password_file` beside it"));
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(Refusal::new(format!("{} is not a URL", quoted(text))).help(example));
    };
    let tls = match scheme {
        "redis" => false,
        "rediss" => true,
        _ => return Err(Refusal::new(format!("unknown scheme {}", quoted(scheme))).help(example)),
    };
    let (authority, database) = match rest.split_once('/') {
        None | Some((_, "")) => (rest.trim_end_matches('/'), Some(None)),
        Some((authority, number)) => (authority, number.parse().ok().filter(|n| *n >= 0).map(Some)),
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok().filter(|port| *port != 0)),
        _ => (authority, Some(default_port)),
    };
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().ok().map(|address| address.to_string()),
        None => is_host(host).then(|| host.to_ascii_lowercase()),
    };
    match (host, port, database) {
        (Some(host), Some(port), Some(database)) => {
            Ok(Url { address: RedisAddress { host, port }, database, tls })
        }
        _ => {
            Err(Refusal::new(format!("{} is not {scheme}://host:port/database", quoted(text))).help(example))
        }
    }
}

fn login(table: &mut Table<'_>, username: &str, password: &str) -> RedisLogin {
    let user = table.take(username);
    let password_entry = secret::take(table, password);
    let login = RedisLogin {
        username: user.parse(name),
        password: match password_entry {
            Given::Secret(secret) => match String::from_utf8(secret.bytes) {
                Ok(password) => Some(password),
                Err(_) => {
                    secret.entry.refuse(Refusal::new("the password is not UTF-8 text"));
                    None
                }
            },
            Given::Unusable => return RedisLogin::default(),
            Given::Nothing => None,
        },
    };
    if login.username.is_some() && login.password.is_none() {
        user.refuse(
            Refusal::new("is given without a password").help(format!(
                "set `{password}_file`, or leave `{username}` out to use Redis without a login"
            )),
        );
    }
    login
}

fn certificates(table: &mut Table<'_>, tls: bool) -> Option<RedisTls> {
    let ca = table.take("ca_file");
    let certificate = table.take("client_certificate_file");
    let key = table.take("client_key_file");
    if !tls {
        for entry in [&ca, &certificate, &key].into_iter().filter(|entry| entry.is_given()) {
            entry.refuse(Refusal::new("has no effect without TLS").help("begin the URL with rediss://"));
        }
        return None;
    }
    for (entry, other) in [(&certificate, &key), (&key, &certificate)] {
        if entry.is_given() && !other.is_given() {
            entry.refuse(
                Refusal::new(format!("is given without `{}`", other.name()))
                    .help("a client certificate needs its private key beside it"),
            );
        }
    }
    let file = |entry: &Entry<'_>| entry.parse(existing_file);
    Some(RedisTls { ca_file: file(&ca), client: file(&certificate).zip(file(&key)) })
}

pub(super) fn existing_file(text: &str) -> Result<PathBuf, Refusal> {
    let path = file_name(text)?;
    readable(&path).map_err(|why| Refusal::new(format!("the file {} {why}", path.display())))?;
    Ok(path)
}

fn revocation(table: &mut Table<'_>) -> Revocation {
    let mode = table.take("revocation");
    let max_staleness = table.take("max_staleness");
    let strict = mode.choice(&[("bounded", false), ("strict", true)]).unwrap_or(false);
    if strict && max_staleness.is_given() {
        max_staleness.warn(Refusal::new("has no effect: `strict` allows for one second"));
    }
    let staleness = max_staleness.duration(seconds(2)..=DAY);
    if strict { Revocation::Strict } else { Revocation::Bounded { max_staleness: staleness } }
}

/// How long Redis may take. An operation needs the time of at least one command.
fn timeouts(table: &mut Table<'_>, required_at_start: bool) -> RedisTimeouts {
    let defaults = RedisTimeouts::default();
    let mut time = |key: &str, default: Duration| {
        table.take(key).duration(Duration::from_millis(10)..=seconds(300)).unwrap_or(default)
    };
    let command = time("command_timeout", defaults.command);
    let connect = time("connect_timeout", defaults.connect);
    let start = time("start_timeout", if required_at_start { seconds(4) } else { defaults.start });
    let operation_entry = table.take("operation_timeout");
    let operation = operation_entry.duration(Duration::from_millis(10)..=seconds(300));
    if operation.is_some_and(|operation| operation < command) {
        operation_entry.refuse(
            Refusal::new("is shorter than `store.redis.command_timeout`, which one command may take")
                .help("make it two to four times as long"),
        );
    }
    let operation = operation.unwrap_or(defaults.operation.max(4 * command));
    RedisTimeouts { connect, command, operation, start }
}

/// What keys may begin with: `{` would change the slot they are kept in.
fn key_prefix(text: &str) -> Result<String, Refusal> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:/".contains(c);
    if text.is_empty() || text.len() > 100 || !text.chars().all(is_allowed) {
        return Err(Refusal::new(format!("{} is not a prefix for keys", quoted(text)))
            .help("use 1 to 100 letters, digits and - _ . : /"));
    }
    Ok(text.to_owned())
}

fn name(text: &str) -> Result<String, Refusal> {
    if text.is_empty() || text.len() > 255 || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(
            Refusal::new(format!("{} is not a name", quoted(text))).help("use 1 to 255 bytes without spaces")
        );
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::test_support::{complaints, load_text, minimal, settings};
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
    fn urls_tell_host_port_database_and_tls() {
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
        let login = RedisLogin { username: None, password: Some("hunter2".into()) };
        let sentinels = vec![address("a", 26379), address("b", 1)];
        assert_eq!(redis.servers, RedisServers::Sentinel { sentinels, master_name: "m".into(), login });
        assert!(!format!("{redis:?}").contains("hunter2"));
        let redis = redis_of("cluster = [\"rediss://a\", \"rediss://b:7001\"]");
        assert_eq!(redis.servers, RedisServers::Cluster(vec![address("a", 6379), address("b", 7001)]));
        assert_eq!(redis.tls, Some(RedisTls::default()));
    }

    #[test]
    fn a_login_may_stand_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        std::fs::write(&file, "pass word\n").unwrap();
        let redis = redis_of(&format!("url = \"redis://a\"\nusername = \"gw\"\npassword_file = {file:?}"));
        assert_eq!(
            redis.login,
            RedisLogin { username: Some("gw".into()), password: Some("pass word".into()) }
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
            let complaints = complaints(with(config));
            complaints.only(message, help);
            assert!(!complaints.text().contains("hunter2"));
        }
    }

    #[test]
    fn what_has_no_effect_is_warned_about() {
        for (config, warning) in [
            (with("url = \"redis://a\"\nmaster_name = \"m\""), "has no effect without `sentinels`"),
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
