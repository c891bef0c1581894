//! The gateway's name in `CDN-Loop` (RFC 8586) or `Via` (RFC 9110 section 7.6.3): written into what it forwards, and counted, so
//! that a request that comes back again and again is stopped. Servers such as nginx compress nothing for a request with `Via`;
//! `CDN-Loop` means the loop and nothing else.

use crate::http1::{HeaderField, HeaderKind, RequestHead, Version};
use crate::rejection::Rejection;

/// How often a request may have passed this gateway before: two gateways in a row may share a name, and a
/// loop still ends soon.
const MAX_LOOPS: usize = 4;

/// The gateway's name in `Via`.
#[derive(Debug)]
pub(crate) struct Via {
    name: String,
    /// The lines for requests that arrived by HTTP/1.0, 1.1 and 2, in wire format.
    lines: [Vec<u8>; 3],
}

impl Via {
    /// `name`, written as `Via` or else as `CDN-Loop`.
    pub(crate) fn new(name: &str, as_via: bool) -> Via {
        let line = |version| match as_via {
            true => format!("Via: {version} {name}\r\n").into_bytes(),
            false => format!("CDN-Loop: {name}\r\n").into_bytes(),
        };
        Via { name: name.to_owned(), lines: ["1.0", "1.1", "2.0"].map(line) }
    }

    /// The line for a request that arrived with this version.
    pub(crate) fn line(&self, version: Version) -> &[u8] {
        &self.lines[match version {
            Version::Http10 => 0,
            Version::Http11 => 1,
            Version::Http2 => 2,
        }]
    }

    /// Rejects a request that has passed this gateway too often.
    pub(crate) fn stop_loop(&self, head: &RequestHead) -> Result<(), Rejection> {
        if !head.headers().has(HeaderKind::Via) || self.passes(head) <= MAX_LOOPS {
            return Ok(());
        }
        Err(Rejection::LoopDetected)
    }

    fn passes(&self, head: &RequestHead) -> usize {
        let fields = head.headers().of_kind(HeaderKind::Via);
        let count = |field: HeaderField<'_>| {
            // In `Via` the version is first.
            let place = usize::from(field.name.eq_ignore_ascii_case(b"via"));
            let is_ours = |member: &&[u8]| {
                let mut words = member.split(|b| b" \t;".contains(b)).filter(|part| !part.is_empty());
                words.nth(place).is_some_and(|by| by.eq_ignore_ascii_case(self.name.as_bytes()))
            };
            field.members().filter(is_ours).count()
        };
        fields.map(count).sum()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::http1::HeadLimits;

    #[test]
    fn only_our_own_name_counts_and_only_above_the_limit() {
        let four = "1.1 gw, 2.0 GW (a comment), 1.0\tgw, HTTP/1.1 gw";
        for (fields, stopped) in [
            (String::new(), false),
            (format!("Via: {four}\r\n"), false),
            (format!("Via: {four}\r\nVia: 1.1 gw2, 1.1 other, 1.1 xgw\r\n"), false),
            (format!("Via: {four}, 1.1  gw\r\n"), true),
            (format!("Via: {four}\r\nvia: 1.1 gw\r\n"), true),
            ("CDN-Loop: gw, gw; x=1, GW,gw, gwx, other; by=gw\r\n".into(), false),
            ("CDN-Loop: gw, gw; x=1, GW,gw\r\ncdn-loop: gw\r\n".into(), true),
            (format!("Via: {four}\r\nCDN-Loop: gw\r\n"), true),
        ] {
            let mut head = RequestHead::default();
            let text = format!("GET / HTTP/1.1\r\n{fields}\r\n");
            head.parse(text.as_bytes(), &HeadLimits::default()).unwrap().unwrap();
            let refused = Via::new("gw", false).stop_loop(&head).err();
            assert_eq!(refused.is_some(), stopped, "{fields}");
            assert!(refused.is_none_or(|r| r == Rejection::LoopDetected));
        }
    }
}
