//! Classification of Redis errors: which are retried, redirected or final.

use redis::{ErrorKind, ServerErrorKind};

use crate::config::RedisAddress;

/// Why a command failed.
#[derive(Debug)]
pub(super) enum RedisError {
    /// The connection is unusable, or its server is not (or not yet) the right one. Whether the command was
    /// executed is unknown.
    Lost(String),
    /// The server does not have the script yet (NOSCRIPT).
    NoScript,
    /// The slot has moved (MOVED).
    Moved(RedisAddress),
    /// The slot is being migrated, and this key has moved already (ASK).
    Ask(RedisAddress),
    /// The slot is being migrated, and some of these keys have moved (TRYAGAIN).
    TryAgain,
    /// No node serves the slot.
    Unserved(String),
    /// The server rejects the command, and would reject it again.
    Refused(String),
}

impl RedisError {
    /// The error message.
    pub(super) fn text(&self) -> String {
        match self {
            RedisError::Lost(text) | RedisError::Unserved(text) | RedisError::Refused(text) => text.clone(),
            RedisError::NoScript => "the script is not known".to_owned(),
            RedisError::Moved(address) | RedisError::Ask(address) => format!("the slot is at {address}"),
            RedisError::TryAgain => "the slot is being moved".to_owned(),
        }
    }
}

impl From<redis::RedisError> for RedisError {
    fn from(error: redis::RedisError) -> RedisError {
        let text = error.to_string();
        let redirected = |to: fn(RedisAddress) -> RedisError| {
            let address = error.redirect_node().and_then(|(address, _)| parse_address(address));
            address.map_or_else(|| RedisError::Lost(text.clone()), to)
        };
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::NoScript) => RedisError::NoScript,
            ErrorKind::Server(ServerErrorKind::Moved) => redirected(RedisError::Moved),
            ErrorKind::Server(ServerErrorKind::Ask) => redirected(RedisError::Ask),
            ErrorKind::Server(ServerErrorKind::TryAgain) => RedisError::TryAgain,
            ErrorKind::Server(ServerErrorKind::ClusterDown) => RedisError::Unserved(text),
            ErrorKind::Server(
                ServerErrorKind::ReadOnly | ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown,
            ) => RedisError::Lost(text),
            // Other server errors concern the command, unless the server no longer accepts the gateway.
            ErrorKind::Server(_) | ErrorKind::Extension if error.code() != Some("NOAUTH") => {
                RedisError::Refused(text)
            }
            _ => RedisError::Lost(text),
        }
    }
}

/// `host:port` as cluster nodes write it: an IPv6 address has no brackets.
fn parse_address(text: &str) -> Option<RedisAddress> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok()?;
    (!host.is_empty()).then(|| RedisAddress { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses a server's error line.
    fn error(line: &str) -> RedisError {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes());
        match value.and_then(redis::Value::extract_error) {
            Err(error) => error.into(),
            Ok(value) => panic!("{value:?}"),
        }
    }

    #[test]
    fn a_server_that_cannot_answer_now_is_left_and_one_that_refuses_is_not() {
        for line in [
            "READONLY You can't write against a read only replica.",
            "LOADING Redis is loading the dataset in memory",
            "MASTERDOWN Supervised with MASTER is down and replica-serve-stale-data is set to 'no'.",
            "NOAUTH Authentication required.",
        ] {
            assert!(matches!(error(line), RedisError::Lost(_)), "{line}: {:?}", error(line));
        }
        for line in [
            "OOM command not allowed when used memory > 'maxmemory'.",
            "BUSY Redis is busy running a script.",
            "NOPERM this user has no permissions to run the 'get' command",
            "NOREPLICAS Not enough good replicas to write.",
            "MISCONF Redis is configured to save RDB snapshots",
            "ERR unknown command",
        ] {
            assert!(matches!(error(line), RedisError::Refused(_)), "{line}: {:?}", error(line));
        }
        assert!(matches!(error("NOSCRIPT No matching script."), RedisError::NoScript));
        assert!(matches!(error("CLUSTERDOWN The cluster is down"), RedisError::Unserved(_)));
        assert!(matches!(error("TRYAGAIN Multiple keys request during rehashing"), RedisError::TryAgain));
    }

    #[test]
    fn redirections_name_the_server_to_ask() {
        let there = RedisAddress { host: "10.0.0.2".into(), port: 7001 };
        assert!(matches!(error("MOVED 3999 10.0.0.2:7001"), RedisError::Moved(address) if address == there));
        assert!(matches!(error("ASK 3999 10.0.0.2:7001"), RedisError::Ask(address) if address == there));
        let ipv6 = RedisAddress { host: "::1".into(), port: 7001 };
        assert!(matches!(error("MOVED 3999 ::1:7001"), RedisError::Moved(address) if address == ipv6));
        assert!(
            matches!(error("MOVED 3999 :7001"), RedisError::Lost(_)),
            "an address without a host leads nowhere"
        );
    }
}
