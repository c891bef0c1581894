//! Redis servers for tests, and settings for them.

pub(crate) use super::redis_servers::{RedisCluster, RedisServer, RedisWithSentinels};
use crate::config::{Redis, RedisAddress, RedisLogin, RedisServers, RedisTimeouts, Revocation};

pub(crate) fn address(server: &RedisServer) -> RedisAddress {
    RedisAddress { host: "127.0.0.1".into(), port: server.port }
}

pub(crate) fn single(server: &RedisServer) -> RedisServers {
    RedisServers::Single { server: address(server), database: 0 }
}

pub(crate) fn settings(servers: RedisServers) -> Redis {
    Redis {
        servers,
        tls: None,
        login: RedisLogin::default(),
        key_prefix: "auth-gateway".into(),
        revocation: Revocation::Bounded { max_staleness: None },
        required_at_start: false,
        timeouts: RedisTimeouts::default(),
    }
}
