//! Request ids (`X-Request-Id`), which correlate a request across all logs.

use aws_lc_rs::rand;

/// Maximum length of an id accepted from a trusted proxy, in bytes.
const MAX_LEN: usize = 128;

/// A request id: visible ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RequestId {
    /// Generated here: 32 hexadecimal digits.
    Generated([u8; 32]),
    /// From a trusted proxy.
    FromProxy(Box<str>),
}

impl RequestId {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            RequestId::Generated(digits) => digits,
            RequestId::FromProxy(text) => text.as_bytes(),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        // Visible ASCII is UTF-8.
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// Accepts an id that is safe in a header field and in a log line.
    pub(crate) fn accept(value: &[u8]) -> Option<RequestId> {
        let fits = !value.is_empty()
            && value.len() <= MAX_LEN
            && value.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:+/=@".contains(b));
        fits.then(|| std::str::from_utf8(value).ok().map(|text| RequestId::FromProxy(text.into()))).flatten()
    }
}

/// Generates ids for one worker: a random prefix that differs between workers and starts, and a counter.
#[derive(Debug)]
pub(crate) struct RequestIds {
    start: [u8; 16],
    count: u64,
}

impl RequestIds {
    pub(crate) fn new() -> RequestIds {
        let mut random = [[0; 8]; 2];
        for part in &mut random {
            // Ids only need to differ; without random bytes the clock would do, but there always are some.
            let _ = rand::fill(part);
        }
        RequestIds { start: hexadecimal(u64::from_be_bytes(random[0])), count: u64::from_be_bytes(random[1]) }
    }

    pub(crate) fn next_id(&mut self) -> RequestId {
        self.count = self.count.wrapping_add(1);
        let mut digits = [0; 32];
        digits[..16].copy_from_slice(&self.start);
        digits[16..].copy_from_slice(&hexadecimal(self.count));
        RequestId::Generated(digits)
    }
}

fn hexadecimal(number: u64) -> [u8; 16] {
    std::array::from_fn(|i| b"0123456789abcdef"[(number >> (60 - 4 * i) & 0xf) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_within_and_between_workers() {
        let (mut one, mut two) = (RequestIds::new(), RequestIds::new());
        let ids: std::collections::HashSet<String> =
            (0..1000).flat_map(|_| [one.next_id(), two.next_id()]).map(|id| id.as_str().to_owned()).collect();
        assert_eq!(ids.len(), 2000);
        assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())));
    }

    #[test]
    fn only_harmless_ids_are_taken_over() {
        assert_eq!(
            RequestId::accept(b"abc-1_2.3").map(|id| id.as_str().to_owned()).as_deref(),
            Some("abc-1_2.3")
        );
        for bad in [&b""[..], b"a b", b"a\"b", b"a\x1b", &[b'a'; 129]] {
            assert_eq!(RequestId::accept(bad), None);
        }
    }
}
