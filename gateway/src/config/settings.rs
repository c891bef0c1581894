//! The settings a running gateway obeys: plain, checked values with every default filled in.
//!
//! Nothing here reads files. [`super::load()`] turns TOML and environment into [`Settings`] or into a list of
//! errors, so a `Settings` that exists is one that may be served.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

mod fixed_targets;
mod header_edits;
mod routes;
mod upstreams;
mod users;

pub use fixed_targets::*;
pub use header_edits::*;
pub use routes::*;
pub use upstreams::*;
pub use users::*;

/// Everything the operator can say, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The public listener.
    pub server: Server,
    /// The listener for health and metrics.
    pub admin: Admin,
    /// What tokens say and how they are signed.
    pub tokens: Tokens,
    /// Where the gateway's own endpoints live.
    pub endpoints: Endpoints,
    /// Where sessions, locks and revocations are kept.
    pub store: Store,
    /// Who may log in.
    pub users: Users,
    /// When a user name is locked.
    pub lockout: Lockout,
    /// How many failures a network may send.
    pub throttle: Throttle,
    /// Which other origins may call the gateway from a browser.
    pub cors: Cors,
    /// Which claims the upstream sees, and under which names.
    pub identity_headers: Vec<IdentityHeader>,
    /// How much is read and how long is waited for.
    pub limits: Limits,
    /// What is written to standard error.
    pub log: Log,
    /// When the configuration is read again.
    pub reload: Reload,
    /// The servers behind the gateway, by name.
    pub upstreams: BTreeMap<String, Upstream>,
    /// Which requests go where. The order carries no meaning: [`matching_order`] tells which one is tried first.
    pub routes: Vec<Route>,
}

/// `[reload]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reload {
    /// `watch`: whether changed files are read again by themselves, and not only after SIGHUP. Default true.
    pub watch: bool,
}

/// `[server]`
#[derive(Debug, Clone)]
pub struct Server {
    /// `listen`, default `127.0.0.1:8080`.
    pub listen: SocketAddr,
    /// `name` in `Via`, default `auth-gateway`.
    pub name: String,
    /// `workers`: threads that serve requests, default one per core.
    pub workers: usize,
    /// `trusted_proxies`: peers whose `X-Forwarded-*`, `Forwarded` and `X-Request-Id` are believed. Default none.
    pub trusted_proxies: Vec<IpNet>,
    /// `drain_timeout`: how long in-flight requests may take after SIGTERM, default 30 s.
    pub drain_timeout: Duration,
    /// `[server.tls]`; without certificates the listener speaks plain HTTP.
    pub tls: Option<ServerTls>,
    /// `redirect_listen`: a plain listener that sends everybody to the same place under `https://`. Default none.
    pub redirect_listen: Option<SocketAddr>,
    /// `proxy_protocol_from`: peers whose connections begin with a PROXY protocol header. Default none.
    pub proxy_protocol_from: Vec<IpNet>,
    /// `h2c`: whether plain connections may speak HTTP/2 by prior knowledge (RFC 9113 section 3.3). Default false.
    pub h2c: bool,
}

/// `[server.tls]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// `certificates`, at least one. A client is shown the first that is meant for the name it asks for, or else the
    /// first of all.
    pub certificates: Vec<CertificateFiles>,
    /// `min_version`, default 1.2.
    pub min_version: TlsVersion,
    /// `hsts`: how long browsers shall come back over TLS only. Default none.
    pub hsts: Option<Duration>,
}

/// A certificate with its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// `certificate_file`: the server's certificate, then those that signed it.
    pub certificate_file: PathBuf,
    /// `private_key_file`, not encrypted.
    pub private_key_file: PathBuf,
}

/// A version of TLS that is still good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// `[admin]`
#[derive(Debug, Clone)]
pub struct Admin {
    /// `listen`, default `127.0.0.1:9090`.
    pub listen: SocketAddr,
}

/// The longest `tokens.access_ttl` there is: an access token that says it lives longer is none of ours.
pub const MAX_ACCESS_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// `[tokens]`
#[derive(Debug, Clone)]
pub struct Tokens {
    /// `issuer`, the `iss` claim. Default `http://` (or `https://`) and `server.listen`.
    pub issuer: String,
    /// `audience`, the `aud` claim. Default `auth-gateway`.
    pub audience: String,
    /// `access_ttl`, default 60 s.
    pub access_ttl: Duration,
    /// `refresh_ttl`, default 10 min: also the absolute lifetime of a session.
    pub refresh_ttl: Duration,
    /// `idle_ttl`: a session that is not refreshed for so long ends. Default none.
    pub idle_ttl: Option<Duration>,
    /// `stream_grace`: how long an answer or a WebSocket that a token has opened may outlive the token. Default
    /// `refresh_ttl`.
    pub stream_grace: Duration,
    /// `leeway` for clocks that disagree, default 0, at most 60 s.
    pub leeway: Duration,
    /// `algorithm` together with the key it needs.
    pub signing: Signing,
    /// `rotation`, default `on-use`.
    pub rotation: Rotation,
    /// `reuse_grace`, default 10 s.
    pub reuse_grace: Duration,
}

/// Which key signs.
#[derive(Clone)]
pub enum Signing {
    /// HS256, HS384, HS512 with `secret` or `secret_file`: at least 32, 48, 64 bytes.
    Secret {
        /// Which of the three.
        algorithm: Algorithm,
        /// The shared secret, as given (the trailing newline of a file is not part of it).
        secret: Vec<u8>,
    },
    /// An asymmetric algorithm with the operator's own key.
    PrivateKeyFile {
        /// Any but HS*.
        algorithm: Algorithm,
        /// PEM, PKCS#8.
        path: PathBuf,
    },
    /// An asymmetric algorithm with keys that the gateway makes and keeps.
    Kept {
        /// Any but HS*.
        algorithm: Algorithm,
        /// `keys_dir`, default `var/keys`, mode 0700; its files have mode 0600.
        dir: PathBuf,
    },
}

impl Signing {
    /// The algorithm that signs.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Signing::Secret { algorithm, .. }
            | Signing::PrivateKeyFile { algorithm, .. }
            | Signing::Kept { algorithm, .. } => *algorithm,
        }
    }
}

impl std::fmt::Debug for Signing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Signing::Secret { algorithm, .. } => write!(f, "Secret({algorithm:?}, …)"),
            Signing::PrivateKeyFile { algorithm, path } => {
                write!(f, "PrivateKeyFile({algorithm:?}, {path:?})")
            }
            Signing::Kept { algorithm, dir } => write!(f, "Kept({algorithm:?}, {dir:?})"),
        }
    }
}

/// A JWS algorithm (RFC 7518 section 3.1, RFC 8037) that the gateway offers. `none` is not one.
#[allow(missing_docs)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    HS256,
    HS384,
    HS512,
    ES256,
    ES384,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    EdDSA,
}

impl Algorithm {
    /// All of them, in the order of the documentation.
    pub const ALL: [Algorithm; 12] = [
        Algorithm::HS256,
        Algorithm::HS384,
        Algorithm::HS512,
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::RS256,
        Algorithm::RS384,
        Algorithm::RS512,
        Algorithm::PS256,
        Algorithm::PS384,
        Algorithm::PS512,
        Algorithm::EdDSA,
    ];

    /// The name as it stands in a JOSE header, byte for byte.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::HS256 => "HS256",
            Algorithm::HS384 => "HS384",
            Algorithm::HS512 => "HS512",
            Algorithm::ES256 => "ES256",
            Algorithm::ES384 => "ES384",
            Algorithm::RS256 => "RS256",
            Algorithm::RS384 => "RS384",
            Algorithm::RS512 => "RS512",
            Algorithm::PS256 => "PS256",
            Algorithm::PS384 => "PS384",
            Algorithm::PS512 => "PS512",
            Algorithm::EdDSA => "EdDSA",
        }
    }

    /// The algorithm of that name; names are case-sensitive (RFC 7515 section 4.1.1).
    pub fn from_name(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|a| a.name() == name)
    }

    /// Whether one secret both signs and verifies.
    pub fn is_symmetric(self) -> bool {
        matches!(self, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512)
    }

    /// The least secret, in bytes, for a symmetric algorithm: the size of its hash (RFC 7518 section 3.2).
    pub fn min_secret_len(self) -> usize {
        match self {
            Algorithm::HS384 => 48,
            Algorithm::HS512 => 64,
            _ => 32,
        }
    }
}

/// When a refresh token's predecessor dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// When its successor is first presented, plus the grace.
    OnUse,
    /// The grace after its own first use (RFC 9700 section 4.14.2).
    Strict,
    /// At its expiry; no successor is issued.
    Off,
}

/// `[endpoints]`
#[derive(Debug, Clone)]
pub struct Endpoints {
    /// `prefix`: empty, or like `/auth` (starts with `/`, ends without). Default empty. It does not move
    /// `/.well-known/jwks.json`, which would not be well known elsewhere (RFC 8615).
    pub prefix: String,
}

/// `[store]`
#[derive(Debug, Clone)]
pub enum Store {
    /// `kind = "memory"`: gone at the end of the process.
    Memory,
    /// `kind = "embedded"`: one redb file.
    Embedded {
        /// `path`, default `var/state.redb`.
        path: PathBuf,
    },
    /// `kind = "redis"`: shared by several gateways.
    Redis(Box<Redis>),
}

/// `[store.redis]`
#[derive(Debug, Clone)]
pub struct Redis {
    /// `url`, `sentinels` or `cluster`.
    pub servers: RedisServers,
    /// Given where the URLs begin with `rediss://`.
    pub tls: Option<RedisTls>,
    /// `username` and `password`.
    pub login: RedisLogin,
    /// `key_prefix` of every key and channel, default `auth-gateway`.
    pub key_prefix: String,
    /// `revocation`, default `bounded`: what becomes of access tokens while it cannot be heard which sessions were ended.
    pub revocation: Revocation,
    /// `required_at_start`, default false: whether a start without Redis fails.
    pub required_at_start: bool,
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

/// `[lockout]`
#[derive(Debug, Clone)]
pub struct Lockout {
    /// `max_failures` in the window before the name is locked, default 5.
    pub max_failures: u32,
    /// `window`, default 15 min.
    pub window: Duration,
    /// `duration` of a first lock, default 15 min.
    pub duration: Duration,
    /// `escalation`: each further lock lasts so many times as long as the one before. Default 1, all alike.
    pub escalation: u32,
    /// `max_duration` of a lock where they escalate, default 24 h, or `duration` where that is longer.
    pub max_duration: Duration,
}

/// `[throttle]`: for each IPv4 address and each IPv6 /64.
#[derive(Debug, Clone)]
pub struct Throttle {
    /// `max_failures` at once, and so many again over each window; default 100. 0 is no limit.
    pub max_failures: u32,
    /// `window`, default 15 min.
    pub window: Duration,
}

/// `[cors]`
#[derive(Debug, Clone)]
pub struct Cors {
    /// `allowed_origins`: exact origins such as `http://localhost:5173`. Default none.
    pub allowed_origins: Vec<String>,
}

/// One entry of `[identity_headers]`, which maps claims to header names. Defaults: `username` to `X-Auth-User`, `sub`
/// to `X-Auth-Subject`, `roles` to `X-Auth-Roles`, `sid` to `X-Auth-Session`. An empty name switches a default off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityHeader {
    /// The claim's name.
    pub claim: String,
    /// The header's name, in the spelling the upstream gets.
    pub header: String,
}

/// `[limits]`: RFC 9110 leaves these to the server.
#[derive(Debug, Clone)]
pub struct Limits {
    /// `request_line`, default 8 KiB: longer is 414.
    pub request_line: usize,
    /// `header_block` (request line and all fields), default 32 KiB: longer is 431.
    pub header_block: usize,
    /// `header_fields`, default 100: more is 431.
    pub header_fields: usize,
    /// `max_body`: bytes of a request's body on routes that say nothing else, default 100 MiB: more is 413. `u64::MAX` is no
    /// limit.
    pub max_body: u64,
    /// `connections` in the whole process, default 10,000: more are closed at accept.
    pub connections: usize,
    /// `connections_per_source`: of one IPv4 address or IPv6 /64, default 1,000: more are closed at accept. Trusted
    /// proxies are not counted.
    pub connections_per_source: usize,
    /// `handshake_timeout` for TLS and a PROXY protocol header, default 10 s.
    pub handshake_timeout: Duration,
    /// `streams`: requests that may be under way at once on one HTTP/2 connection, default 100.
    pub streams: u32,
    /// `first_byte_timeout` after accept, default 10 s.
    pub first_byte_timeout: Duration,
    /// `header_timeout` from a head's first byte to its last, default 15 s: then 408.
    pub header_timeout: Duration,
    /// `body_timeout` between two reads of a request body, default 30 s: then 408.
    pub body_timeout: Duration,
    /// `login_body_timeout` for a whole body at the gateway's own endpoints, default 10 s: then 408.
    pub login_body_timeout: Duration,
    /// `write_timeout` for a client that does not read, default 30 s.
    pub write_timeout: Duration,
    /// `idle_timeout` between two requests of a connection, default 60 s.
    pub idle_timeout: Duration,
    /// `tunnel_timeout`: how long a WebSocket may be silent in both directions, default 5 min.
    pub tunnel_timeout: Duration,
    /// `hash_queue`: logins that may wait for a hashing thread, default 64: more answer 503.
    pub hash_queue: usize,
    /// `hash_threads`, default one per core.
    pub hash_threads: usize,
    /// `token_cache`: verified tokens each worker remembers, default 8192.
    pub token_cache: usize,
}

/// `[log]`
#[derive(Debug, Clone)]
pub struct Log {
    /// `level`: a tracing filter such as `info` or `auth_gateway=debug`. Default `info`.
    pub level: String,
    /// `format`, default `auto`.
    pub format: LogFormat,
    /// `access`: one line per request, default true.
    pub access: bool,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Human,
    /// For programs: one JSON object a line.
    Json,
}
