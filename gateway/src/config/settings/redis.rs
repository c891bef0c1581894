//! `[store.redis]`: which Redis, and as whom.

use std::path::PathBuf;
use std::time::Duration;

/// `[store.redis]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redis {
    /// `url`, `sentinels` or `cluster`.
    pub servers: RedisServers,
    /// ConfigValues where the URLs begin with `rediss://`.
    pub tls: Option<RedisTls>,
    /// `username` and `password`.
    pub login: RedisLogin,
    /// `key_prefix` of every key and channel, default `auth-gateway`.
    pub key_prefix: String,
    /// `revocation`, default `bounded`: what becomes of access tokens while it cannot be heard which sessions were ended.
    pub revocation: Revocation,
    /// `required_at_start`, default false: whether a start without Redis fails.
    pub required_at_start: bool,
    /// `connect_timeout` and so on.
    pub timeouts: RedisTimeouts,
}

/// How long Redis may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedisTimeouts {
    /// For name, TCP, TLS and login.
    pub connect: Duration,
    /// For the answer to one command, and for one page of revocations.
    pub command: Duration,
    /// For what a request asks of it, with a second try and the wait for a new connection.
    pub operation: Duration,
    /// How long a start waits while Redis says nothing.
    pub start: Duration,
}

impl Default for RedisTimeouts {
    fn default() -> RedisTimeouts {
        let millis = Duration::from_millis;
        RedisTimeouts {
            connect: millis(1000),
            command: millis(250),
            operation: millis(1000),
            start: millis(1000),
        }
    }
}

/// Which Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisServers {
    /// `url`: one server.
    Single {
        /// Where it is.
        server: RedisAddress,
        /// The number at the URL's end, default 0.
        database: i64,
    },
    /// `sentinels`, who know where the master is.
    Sentinel {
        /// Asked in turn.
        sentinels: Vec<RedisAddress>,
        /// `master_name`, default `mymaster`.
        master_name: String,
        /// `sentinel_username` and `sentinel_password`.
        login: RedisLogin,
    },
    /// `cluster`: some of a cluster's nodes, who know the others.
    Cluster(Vec<RedisAddress>),
}

/// Where a Redis server or Sentinel listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RedisAddress {
    /// A DNS name or an IP address (without brackets).
    pub host: String,
    /// Default 6379, for Sentinels 26379.
    pub port: u16,
}

impl std::fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Who the gateway is to Redis. Without a password it does not log in.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RedisLogin {
    /// An ACL user; without one it is `default`.
    pub username: Option<String>,
    /// The user's password.
    pub password: Option<String>,
}

impl std::fmt::Debug for RedisLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let password = self.password.as_ref().map(|_| "…");
        f.debug_struct("RedisLogin").field("username", &self.username).field("password", &password).finish()
    }
}

/// TLS to Redis. The server's certificate is always verified, with its name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedisTls {
    /// `ca_file`: PEM certificates that are trusted instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// `client_certificate_file` and `client_key_file`, both PEM: who the gateway is.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// What becomes of access tokens while a gateway cannot hear which sessions were ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revocation {
    /// `bounded`: they pass by what was heard last. A token of an ended session passes for the rest of its own life at most.
    Bounded {
        /// `max_staleness`: after so long without hearing anything, requests with tokens get 503. Default: never.
        max_staleness: Option<Duration>,
    },
    /// `strict`: requests with tokens get 503 as soon as a second has passed unheard.
    Strict,
}
