//! The fields of a received head: one copy of its bytes, and the ranges of the fields in it.

use std::ops::Range;

use crate::http1::{HeaderField, HeaderKind};

/// Headers in the order of the message. Memory is reused for the next head, so that parsing allocates nothing
/// once warm.
#[derive(Debug, Default)]
pub(crate) struct Headers {
    head: Vec<u8>,
    lines: Vec<Line>,
    /// Bit n is set if there is a field of the n-th kind: most lookups are for absent fields.
    kinds: u32,
    connection: UsualOptions,
}

/// What the `Connection` fields say, where that is what nearly all say.
#[derive(Debug, Clone, Copy, Default)]
struct UsualOptions {
    close: bool,
    keep_alive: bool,
    /// Something else, too: then the fields have to be read.
    other: bool,
}

impl UsualOptions {
    fn note(&mut self, value: &[u8]) {
        if value.eq_ignore_ascii_case(b"keep-alive") {
            self.keep_alive = true;
        } else if value.eq_ignore_ascii_case(b"close") {
            self.close = true;
        } else {
            self.other = true;
        }
    }
}

/// The range of a field. Heads are small, so 32 bits are enough.
#[derive(Debug, Clone, Copy)]
struct Line {
    kind: HeaderKind,
    name: (u32, u32),
    value: (u32, u32),
}

impl Headers {
    /// Copies the fields found in `head`.
    pub(crate) fn take(&mut self, head: &[u8], found: &[httparse::Header<'_>]) {
        self.clear();
        self.head.extend_from_slice(head);
        for field in found {
            let name = field.name.as_bytes();
            let kind = HeaderKind::of(name);
            self.kinds |= bit(kind);
            // httparse may return an empty value anywhere; its position does not matter.
            let value = if field.value.is_empty() { 0..0 } else { place(head, field.value) };
            let short = |r: Range<usize>| (r.start as u32, r.end as u32);
            if kind == HeaderKind::Connection {
                self.connection.note(field.value);
            }
            self.lines.push(Line { kind, name: short(place(head, name)), value: short(value) });
        }
    }

    /// Removes all fields and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.head.clear();
        self.lines.clear();
        (self.kinds, self.connection) = (0, UsualOptions::default());
    }

    /// Appends bytes that belong to no field, such as a request target, and returns their range.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.head.len();
        self.head.extend_from_slice(bytes);
        start..self.head.len()
    }

    /// Adds a field that was decoded from HTTP/2.
    pub(crate) fn push(&mut self, name: &[u8], value: &[u8]) {
        let kind = HeaderKind::of(name);
        self.kinds |= bit(kind);
        if kind == HeaderKind::Connection {
            self.connection.note(value);
        }
        let short = |r: Range<usize>| (r.start as u32, r.end as u32);
        let (name, value) = (short(self.append(name)), short(self.append(value)));
        self.lines.push(Line { kind, name, value });
    }

    /// The number of fields.
    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    /// The bytes that the fields, and what else was appended, refer to.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = HeaderField<'_>> {
        self.lines.iter().map(|line| self.field(line))
    }

    /// Whether there is a field of that kind.
    pub(crate) fn has(&self, kind: HeaderKind) -> bool {
        self.kinds & bit(kind) != 0
    }

    /// All fields of one kind.
    pub(crate) fn of_kind(&self, kind: HeaderKind) -> impl Iterator<Item = HeaderField<'_>> {
        let lines = if self.has(kind) { &self.lines[..] } else { &[] };
        lines.iter().filter(move |line| line.kind == kind).map(|line| self.field(line))
    }

    /// The field of that kind if there is exactly one.
    pub(crate) fn only(&self, kind: HeaderKind) -> Option<HeaderField<'_>> {
        let mut fields = self.of_kind(kind);
        fields.next().filter(|_| fields.next().is_none())
    }

    /// Whether `Connection` lists this option.
    pub(crate) fn has_connection_option(&self, option: &[u8]) -> bool {
        match (self.connection, option) {
            (UsualOptions { close: true, .. }, b"close") => true,
            (UsualOptions { keep_alive: true, .. }, b"keep-alive") => true,
            (UsualOptions { other: false, .. }, _) => false,
            _ => {
                let mut options = self.of_kind(HeaderKind::Connection).flat_map(|field| field.members());
                options.any(|listed| listed.eq_ignore_ascii_case(option))
            }
        }
    }

    /// Whether the request asks for another protocol on its connection. `h2c` is no other: it is never taken up, and programs
    /// offer it with every request.
    pub(crate) fn asks_for_upgrade(&self) -> bool {
        let mut protocols = self.of_kind(HeaderKind::Upgrade).flat_map(|field| field.members());
        protocols.any(|protocol| !protocol.eq_ignore_ascii_case(b"h2c"))
    }

    /// The fields listed in `Connection` (RFC 9110 section 7.6.1).
    pub(crate) fn connection_options(&self) -> ConnectionOptions<'_> {
        if !self.connection.other {
            return ConnectionOptions(Vec::new());
        }
        let options = self.of_kind(HeaderKind::Connection).flat_map(|field| field.members());
        let is_field = |option: &&[u8]| {
            !option.eq_ignore_ascii_case(b"close") && !option.eq_ignore_ascii_case(b"keep-alive")
        };
        ConnectionOptions(options.filter(is_field).collect())
    }

    fn field(&self, line: &Line) -> HeaderField<'_> {
        HeaderField {
            kind: line.kind,
            name: &self.head[line.name.0 as usize..line.name.1 as usize],
            value: &self.head[line.value.0 as usize..line.value.1 as usize],
        }
    }
}

/// Connection options: names of hop-by-hop fields listed in `Connection`. Mostly there are none.
#[derive(Debug)]
pub(crate) struct ConnectionOptions<'h>(Vec<&'h [u8]>);

impl ConnectionOptions<'_> {
    pub(crate) fn contains(&self, name: &[u8]) -> bool {
        self.0.iter().any(|connection_options| connection_options.eq_ignore_ascii_case(name))
    }
}

fn bit(kind: HeaderKind) -> u32 {
    1 << kind as u32
}

/// The range of `part` within `head`.
pub(crate) fn place(head: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr() as usize - head.as_ptr() as usize;
    start..start + part.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::test_support::head;

    #[test]
    fn fields_are_found_by_kind_whatever_their_case() {
        let head = head("GET / HTTP/1.1\r\nhost: a\r\nVIA: 1.1 x\r\nVia: 1.1 y\r\nX: 1\r\n");
        let headers = head.headers();
        assert_eq!(headers.len(), 4);
        for (kind, count, only) in [
            (HeaderKind::Host, 1, Some(&b"a"[..])),
            (HeaderKind::Via, 2, None),
            (HeaderKind::Other, 1, Some(b"1")),
            (HeaderKind::Expect, 0, None),
        ] {
            assert_eq!(headers.has(kind), count > 0, "{kind:?}");
            assert_eq!(headers.of_kind(kind).count(), count, "{kind:?}");
            assert_eq!(headers.only(kind).map(|field| field.value), only, "{kind:?}");
        }
    }

    #[test]
    fn fields_that_connection_names_belong_to_it_but_not_its_own_options() {
        let head =
            head("GET / HTTP/1.1\r\nConnection: close, X-Hop\r\nConnection: keep-alive ,\tUPGRADE\r\n");
        let headers = head.headers();
        let options = headers.connection_options();
        for (name, belongs, listed) in [
            ("x-hop", true, true),
            ("upgrade", true, true),
            ("close", false, true),
            ("Keep-Alive", false, true),
            ("x-ho", false, false),
        ] {
            assert_eq!(options.contains(name.as_bytes()), belongs, "{name}");
            assert_eq!(headers.has_connection_option(name.as_bytes()), listed, "{name}");
        }
    }

    #[test]
    fn a_single_connection_option_is_found_whole() {
        for (value, close, is_field) in [
            ("close", true, false),
            ("Close", true, false),
            ("closed", false, true),
            ("keep-alive", false, false),
        ] {
            let head = head(&format!("GET / HTTP/1.1\r\nConnection: {value} \r\n"));
            assert_eq!(head.headers().has_connection_option(b"close"), close, "{value}");
            assert_eq!(head.headers().connection_options().contains(value.as_bytes()), is_field, "{value}");
        }
    }

    #[test]
    fn a_cleared_list_is_empty_and_takes_fields_again() {
        let mut headers = Headers::default();
        headers.push(b"host", b"a");
        headers.clear();
        assert!(headers.len() == 0 && !headers.has(HeaderKind::Host));
        headers.push(b"expect", b"");
        assert_eq!(headers.only(HeaderKind::Expect).map(|field| field.value), Some(&b""[..]));
    }
}
