//! `[limits]`: sizes, numbers and timeouts of what clients send.

use super::cores;
use super::prelude::*;
use crate::http1::HeadLimits;

section! {
    /// Limits of requests and connections: sizes, numbers and timeouts.
    pub struct Limits {
        /// Bytes of a request line; more is 414.
        request_line: usize = size(512..=64 << 10).default("8KiB");
        /// Bytes of a request line and all header fields; more is 431.
        header_block: usize = size(1024..=1 << 20).default("32KiB");
        /// Header fields of a request; more is 431.
        header_fields: usize = integer(10..=1000).default("100");
        /// Bytes of a request's body, on routes without their own limit; more is 413. 0: no limit.
        max_body: u64 = max_body().default("100MiB");
        /// Connections of the whole process; more are closed at accept.
        connections: usize = integer(1..=1_000_000).default("10000");
        /// Connections of one IPv4 address or IPv6 /64; more are closed at accept. Trusted proxies are not
        /// counted.
        connections_per_source: usize = integer(1..=1_000_000).default("1000");
        /// Timeout of the TLS handshake and of a PROXY protocol header.
        handshake_timeout: Duration = duration(up_to(HOUR)).default("10s");
        /// Concurrent requests of one HTTP/2 connection.
        streams: u32 = integer(1..=10_000).default("100");
        /// From accept to the first byte: proxies in front may open connections in advance.
        first_byte_timeout: Duration = duration(up_to(HOUR)).default("75s");
        /// From the first byte of a request's head to its last; then 408.
        header_timeout: Duration = duration(up_to(HOUR)).default("60s");
        /// Between two reads of a request's body; then 408.
        body_timeout: Duration = duration(up_to(HOUR)).default("60s");
        /// For a whole body at the gateway's own endpoints; then 408.
        login_body_timeout: Duration = duration(up_to(HOUR)).default("10s");
        /// For a client that does not read its response.
        write_timeout: Duration = duration(up_to(HOUR)).default("60s");
        /// Between two requests of a connection. Longer than a load balancer in front keeps idle connections (mostly 60 s), or its next
        /// request meets the end of one: 502.
        idle_timeout: Duration = duration(up_to(HOUR)).default("75s");
        /// How long the rest of a request's body is read and discarded behind an early response such as 401 or 413, so that a client that
        /// sends all before it reads gets the answer; 5 s without a byte or 1 GiB end it, too.
        lingering_time: Duration = duration(up_to(HOUR)).default("30s");
        /// Interval of PING on HTTP/2 connections. While the client answers, a gRPC stream may be silent.
        http2_keep_alive_interval: Duration = duration(seconds(1)..=HOUR).default("20s");
        /// For the answer to PING; then the connection is closed.
        http2_keep_alive_timeout: Duration = duration(up_to(HOUR)).default("20s");
        /// Idle timeout of a WebSocket.
        tunnel_timeout: Duration = duration(up_to(DAY)).default("5m");
        /// Logins that may wait for a hashing thread; more get 503.
        hash_queue: usize = integer(0..=10_000).default("64").restart();
        /// Threads that hash passwords. They have a low priority (niceness 10, Linux).
        hash_threads: usize = integer(1..=1024).or("one per core", cores).example("2").restart();
        /// Verified tokens that each worker caches.
        token_cache: usize = integer(1..=1 << 20).default("8192");
    }
}

impl Limits {
    /// How large a request's head may be.
    pub(crate) fn head(&self) -> HeadLimits {
        HeadLimits { line: self.request_line, block: self.header_block, fields: self.header_fields }
    }

    pub(super) fn check(&self, table: &Table<'_>) {
        let block = table.entry("header_block");
        if block.is_given() && self.header_block < self.request_line {
            block.error(
                "is smaller than `limits.request_line`, which is a part of it",
                format!("make it more than {} bytes", self.request_line),
            );
        }
    }
}

/// A size limit of bodies, where 0 is unlimited.
pub(super) fn max_body() -> Key<Option<u64>> {
    size(0..=1 << 50).map(|most| if most == 0 { u64::MAX } else { most })
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{load_diagnostics, minimal, settings};

    #[test]
    fn sizes_are_numbers_or_text_with_a_unit() {
        let limits = settings(minimal() + "[limits]\nrequest_line = 4096\nheader_block = \"16KiB\"").limits;
        assert_eq!((limits.request_line, limits.header_block, limits.header_fields), (4096, 16 << 10, 100));
    }

    #[test]
    fn limits_out_of_proportion_are_refused() {
        for (config, message) in [
            ("request_line = 1", "must be from 512 to 65536, found 1"),
            ("request_line = \"8K\"", "expected a size such as \"8KiB\" or \"8kB\", found string `8K`"),
            (
                "request_line = true",
                "expected a size such as \"8KiB\" or a number of bytes, found boolean true",
            ),
            ("header_block = \"4KiB\"", "`limits.header_block`: is smaller than `limits.request_line`"),
            ("connections = 0", "must be from 1 to 1000000"),
            ("idle_timeout = \"soon\"", "expected a duration such as \"60s\", found string `soon`"),
        ] {
            load_diagnostics(minimal() + "[limits]\n" + config).only(message, "");
        }
    }
}
