//! `[store.redis]`: servers, authentication and timeouts.

use std::path::PathBuf;
use std::time::Duration;

use super::Secret;

/// `[store.redis]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redis {
    /// `url`, `sentinels` or `cluster`.
    pub servers: RedisServers,
    /// Set where the URLs begin with `rediss://`.
    pub tls: Option<RedisTls>,
    /// `username` and `password`.
    pub login: RedisLogin,
    /// `key_prefix` of every key and channel, default `auth-gateway`.
    pub key_prefix: String,
    /// `revocation`, default `bounded`: how access tokens are treated while revocations cannot be received.
    pub revocation: Revocation,
    /// `required_at_start`, default false: whether a start without Redis fails.
    pub required_at_start: bool,
    /// `connect_timeout` and so on.
    pub timeouts: RedisTimeouts,
}

/// Timeouts of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedisTimeouts {
    /// Of connecting: DNS, TCP, TLS and authentication.
    pub connect: Duration,
    /// Of one command, and of one page of revocations.
    pub command: Duration,
    /// Of an operation for a request, including a retry and the wait for a new connection.
    pub operation: Duration,
    /// Of a start during which Redis does not respond.
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

/// The Redis servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisServers {
    /// `url`: one server.
    Single {
        /// Its address.
        server: RedisAddress,
        /// The database number at the URL's end, default 0.
        database: i64,
    },
    /// `sentinels`, which report the master.
    Sentinel {
        /// Queried in turn.
        sentinels: Vec<RedisAddress>,
        /// `master_name`, default `mymaster`.
        master_name: String,
        /// `sentinel_username` and `sentinel_password`.
        login: RedisLogin,
    },
    /// `cluster`: some of a cluster's nodes, which report the others.
    Cluster(Vec<RedisAddress>),
}

/// The address of a Redis server or Sentinel.
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

/// The gateway's credentials at Redis. Without a password it does not authenticate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedisLogin {
    /// An ACL user; `default` if it is not set.
    pub username: Option<String>,
    /// The user's password.
    pub password: Option<Secret<String>>,
}

/// TLS to Redis. The server's certificate is always verified, including its name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedisTls {
    /// `ca_file`: PEM certificates that are trusted instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// `client_certificate_file` and `client_key_file`, both PEM (mTLS).
    pub client: Option<(PathBuf, PathBuf)>,
}

/// How access tokens are treated while revocations cannot be received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revocation {
    /// `bounded`: they are accepted by the last known revocations. A token of a revoked session is accepted
    /// for the rest of its own lifetime at most.
    Bounded {
        /// `max_staleness`: after this time without an update, requests with tokens get 503. Default: never.
        max_staleness: Option<Duration>,
    },
    /// `strict`: requests with tokens get 503 after one second without an update.
    Strict,
}
