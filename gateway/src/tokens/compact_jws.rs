//! The compact form of a signed token (RFC 7515 section 7.1): `header.payload.signature`.

/// The segments of a token. None of them is decoded or verified.
pub(crate) struct CompactJws<'t> {
    pub(crate) header: &'t str,
    pub(crate) payload: &'t str,
    pub(crate) signature: &'t str,
    /// What the signature covers.
    pub(crate) message: &'t str,
}

impl CompactJws<'_> {
    /// Splits a text into its segments, which may be empty; `None` where there are not exactly three.
    pub(crate) fn split(text: &str) -> Option<CompactJws<'_>> {
        let mut dots = memchr::memchr_iter(b'.', text.as_bytes());
        let (first, second, None) = (dots.next()?, dots.next()?, dots.next()) else { return None };
        Some(CompactJws {
            header: &text[..first],
            payload: &text[first + 1..second],
            signature: &text[second + 1..],
            message: &text[..second],
        })
    }
}
