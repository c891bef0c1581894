//! `[limits]`: how much is read from a client and how long is waited for it.

use super::{DAY, HOUR, MINUTE, cores, seconds, up_to};
use crate::config::entry::{Entry, InvalidValue};
use crate::config::settings::Limits;
use crate::config::table::Table;

pub(super) fn limits(table: &mut Table<'_>) -> Limits {
    let request_line = table.take("request_line").size(512..=64 << 10).unwrap_or(8 << 10);
    let block_entry = table.take("header_block");
    let header_block = block_entry.size(1024..=1 << 20).unwrap_or(32 << 10);
    if block_entry.is_given() && header_block < request_line {
        block_entry.refuse(
            InvalidValue::new("is smaller than `limits.request_line`, which is a part of it")
                .help(format!("make it more than {request_line} bytes")),
        );
    }
    Limits {
        request_line,
        header_block,
        header_fields: table.take("header_fields").integer(10..=1000).unwrap_or(100),
        max_body: max_body(&table.take("max_body")).unwrap_or(100 << 20),
        connections: table.take("connections").integer(1..=1_000_000).unwrap_or(10_000),
        connections_per_source: table.take("connections_per_source").integer(1..=1_000_000).unwrap_or(1000),
        handshake_timeout: table.take("handshake_timeout").duration(up_to(HOUR)).unwrap_or(seconds(10)),
        streams: table.take("streams").integer(1..=10_000).unwrap_or(100),
        first_byte_timeout: table.take("first_byte_timeout").duration(up_to(HOUR)).unwrap_or(seconds(10)),
        header_timeout: table.take("header_timeout").duration(up_to(HOUR)).unwrap_or(seconds(15)),
        body_timeout: table.take("body_timeout").duration(up_to(HOUR)).unwrap_or(seconds(30)),
        login_body_timeout: table.take("login_body_timeout").duration(up_to(HOUR)).unwrap_or(seconds(10)),
        write_timeout: table.take("write_timeout").duration(up_to(HOUR)).unwrap_or(seconds(30)),
        idle_timeout: table.take("idle_timeout").duration(up_to(HOUR)).unwrap_or(MINUTE),
        tunnel_timeout: table.take("tunnel_timeout").duration(up_to(DAY)).unwrap_or(5 * MINUTE),
        hash_queue: table.take("hash_queue").integer(0..=10_000).unwrap_or(64),
        hash_threads: table.take("hash_threads").integer(1..=1024).unwrap_or_else(cores),
        token_cache: table.take("token_cache").integer(1..=1 << 20).unwrap_or(8192),
    }
}

/// A most for bodies, where 0 is none.
pub(super) fn max_body(entry: &Entry<'_>) -> Option<u64> {
    entry.size(0..=1 << 50).map(|most| if most == 0 { u64::MAX } else { most })
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{complaints, minimal, settings};

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
            complaints(minimal() + "[limits]\n" + config).only(message, "");
        }
    }
}
