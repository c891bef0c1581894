//! Fields on their way out: lines that are ready for the wire.

use std::cell::Cell;
use std::time::{Duration, UNIX_EPOCH};

/// A block of `Name: value` lines, each with its CRLF.
#[derive(Debug, Default, Clone)]
pub(crate) struct FieldBlock {
    bytes: Vec<u8>,
}

impl FieldBlock {
    pub(crate) fn new() -> FieldBlock {
        FieldBlock { bytes: Vec::with_capacity(256) }
    }

    /// Appends a line. A value with a line break in it would be a second line: it is a bug of the caller, and its
    /// control bytes are replaced by spaces (RFC 9110 section 5.5).
    pub(crate) fn push(&mut self, name: &[u8], value: &[u8]) {
        let breaks = memchr::memchr3(b'\r', b'\n', 0, value).is_some();
        debug_assert!(!breaks);
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(b": ");
        match breaks {
            false => self.bytes.extend_from_slice(value),
            true => self.bytes.extend(value.iter().map(|&b| if b"\r\n\0".contains(&b) { b' ' } else { b })),
        }
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// Appends lines that are ready for the wire, each with its CRLF.
    pub(crate) fn push_lines(&mut self, lines: &[u8]) {
        self.bytes.extend_from_slice(lines);
    }

    /// Keeps the fields whose name `keep` says yes to.
    pub(crate) fn retain(&mut self, keep: impl Fn(&[u8]) -> bool) {
        let mut kept = FieldBlock::new();
        self.iter().filter(|(name, _)| keep(name)).for_each(|(name, value)| kept.push(name, value));
        *self = kept;
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Names and values, for a protocol that has no lines.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.bytes.split(|&byte| byte == b'\n').filter_map(|line| {
            let line = line.strip_suffix(b"\r")?;
            let colon = memchr::memchr(b':', line)?;
            Some((&line[..colon], line[colon + 1..].trim_ascii()))
        })
    }
}

/// A time in seconds since 1970 as an HTTP-date (RFC 9110 section 5.6.7), formatted at most once a second and thread.
pub(crate) fn http_date(now: u64) -> [u8; 29] {
    thread_local! {
        static LAST: Cell<(u64, [u8; 29])> = const { Cell::new((0, [0; 29])) };
    }
    let (second, text) = LAST.get();
    if second == now {
        return text;
    }
    let mut text = [b' '; 29];
    let formatted = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now));
    text.copy_from_slice(&formatted.as_bytes()[..29]);
    LAST.set((now, text));
    text
}
