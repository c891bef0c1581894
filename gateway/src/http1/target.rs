//! The request target: validated once and never normalised, so that what was authorized is byte for byte what
//! is forwarded.

use std::borrow::Cow;

use http::Method;
use percent_encoding::{percent_decode, percent_decode_str};

/// An invalid target, or one that parsers could interpret differently.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("the request target is malformed")]
    Malformed,
    #[error("the request target has {0}")]
    Ambiguous(&'static str),
}

/// An origin-form target (RFC 9112 section 3.2.1) that all parsers interpret the same.
///
/// Only [`CanonicalTarget::parse`] makes one, so routing and forwarding cannot see an unchecked target.
#[derive(Debug)]
pub(crate) struct CanonicalTarget<'h> {
    raw: &'h str,
    path_end: usize,
    decoded: Cow<'h, str>,
    encoded_slash: bool,
    oddity: Option<&'static str>,
    authority: Option<&'h [u8]>,
}

impl<'h> CanonicalTarget<'h> {
    /// Judges the target of a request with `method`. Absolute form is taken apart; the caller compares its
    /// authority with `Host`. `*` and authority form have no path and belong to methods that are not proxied. What only a route may
    /// take, an [encoded slash](Self::has_encoded_slash) or another [oddity](Self::oddity), is noted.
    pub(crate) fn parse(method: &Method, target: &'h [u8]) -> Result<CanonicalTarget<'h>, TargetError> {
        let (authority, origin) = match target.first() {
            Some(b'/') => (None, target),
            Some(b'*') if target.len() == 1 && *method == Method::OPTIONS => (None, target),
            _ => absolute_form(target)?,
        };
        let raw = std::str::from_utf8(origin).map_err(|_| TargetError::Ambiguous("bytes outside ASCII"))?;
        let path_end = memchr::memchr(b'?', origin).unwrap_or(origin.len());
        let (path, query) = origin.split_at(path_end);
        let in_path = byte_classes(path);
        if (in_path | byte_classes(query)) & DISALLOWED != 0 {
            return Err(disallowed_byte(origin));
        }
        let checked = match in_path & ESCAPE_OR_DOT {
            0 if !has_empty_segment(path) => CheckedPath::plain(&raw[..path_end]),
            _ => check_path(&raw[..path_end])?,
        };
        Ok(CanonicalTarget {
            raw,
            path_end,
            decoded: checked.decoded,
            encoded_slash: checked.encoded_slash,
            oddity: checked.oddity,
            authority,
        })
    }

    /// Path and query, as received.
    pub(crate) fn as_str(&self) -> &'h str {
        self.raw
    }

    /// The path as received.
    pub(crate) fn path(&self) -> &'h str {
        &self.raw[..self.path_end]
    }

    /// The path with its percent-escapes decoded once, for matching. An encoded slash stays encoded: it separates
    /// no segments.
    pub(crate) fn decoded_path(&self) -> &str {
        &self.decoded
    }

    /// Whether the path contains `%2F`, which only routes with `encoded_slashes` forward.
    pub(crate) fn has_encoded_slash(&self) -> bool {
        self.encoded_slash
    }

    /// What upstreams read in different ways, though none of them reads a dot segment: only routes that say so pass it on.
    pub(crate) fn oddity(&self) -> Option<TargetError> {
        self.oddity.map(TargetError::Ambiguous)
    }

    /// The same target if it has no oddity.
    pub(crate) fn without_oddities(self) -> Result<CanonicalTarget<'h>, TargetError> {
        self.oddity().map_or(Ok(self), Err)
    }

    /// The authority of an absolute-form target.
    pub(crate) fn authority(&self) -> Option<&'h [u8]> {
        self.authority
    }

    /// The target below `prefix`, which the path starts with: the result of `strip_prefix`. Percent-encoding
    /// may have spelled the prefix differently, so segments are counted, not bytes.
    pub(crate) fn below(&self, prefix: &str) -> &'h str {
        let segments = prefix.split('/').skip(1).filter(|s| !s.is_empty()).count();
        let start = self.path().match_indices('/').nth(segments).map_or(self.path_end, |(at, _)| at);
        &self.raw[start..]
    }
}

/// The parts of an admitted [`CanonicalTarget`], for a request that outlives the borrow.
#[derive(Debug)]
pub(crate) struct TargetSpan {
    path_end: usize,
    decoded: Option<Box<str>>,
    encoded_slash: bool,
    oddity: Option<&'static str>,
}

impl TargetSpan {
    /// The target again; `raw` is the origin form that the span was taken from.
    pub(crate) fn of<'h>(&'h self, raw: &'h str) -> CanonicalTarget<'h> {
        let decoded = Cow::Borrowed(self.decoded_path(raw));
        let TargetSpan { path_end, encoded_slash, oddity, .. } = *self;
        CanonicalTarget { raw, path_end, decoded, encoded_slash, oddity, authority: None }
    }

    /// The [decoded path](CanonicalTarget::decoded_path) alone.
    pub(crate) fn decoded_path<'h>(&'h self, raw: &'h str) -> &'h str {
        self.decoded.as_deref().unwrap_or_else(|| &raw[..self.path_end])
    }
}

impl CanonicalTarget<'_> {
    /// The ranges of its parts.
    pub(crate) fn span(self) -> TargetSpan {
        TargetSpan {
            path_end: self.path_end,
            decoded: match self.decoded {
                Cow::Owned(decoded) => Some(decoded.into()),
                Cow::Borrowed(_) => None,
            },
            encoded_slash: self.encoded_slash,
            oddity: self.oddity,
        }
    }
}

/// `http://authority/path`, split into authority and origin form.
fn absolute_form(target: &[u8]) -> Result<(Option<&[u8]>, &[u8]), TargetError> {
    let scheme_end = target.windows(3).position(|w| w == b"://").ok_or(TargetError::Malformed)?;
    let scheme = &target[..scheme_end];
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err(TargetError::Malformed);
    }
    let rest = &target[scheme_end + 3..];
    let path = rest.iter().position(|b| b"/?#".contains(b)).unwrap_or(rest.len());
    match &rest[path..] {
        [] => Ok((Some(rest), b"/")),
        origin @ [b'/', ..] => Ok((Some(&rest[..path]), origin)),
        _ => Err(TargetError::Malformed),
    }
}

/// A byte that no target may contain: of RFC 3986 only visible ASCII without `#` is allowed.
const DISALLOWED: u8 = 1;
/// A byte that requires a closer check of the path. Most paths have none.
const ESCAPE_OR_DOT: u8 = 2;

const BYTE_CLASS: [u8; 256] = {
    let mut byte_classes = [DISALLOWED; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        byte_classes[byte as usize] = match byte {
            b'#' => DISALLOWED,
            b'%' | b'.' | b';' | b'*' | b'\\' | b'"' | b'<' | b'>' | b'`' => ESCAPE_OR_DOT,
            _ => 0,
        };
        byte += 1;
    }
    byte_classes
};

fn byte_classes(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |seen, &byte| seen | BYTE_CLASS[byte as usize])
}

fn disallowed_byte(target: &[u8]) -> TargetError {
    match target.iter().find(|&&byte| BYTE_CLASS[byte as usize] & DISALLOWED != 0) {
        Some(b'#') => TargetError::Ambiguous("a fragment"),
        Some(byte) if !byte.is_ascii() => TargetError::Ambiguous("bytes outside ASCII"),
        _ => TargetError::Malformed,
    }
}

fn has_empty_segment(path: &[u8]) -> bool {
    path.windows(2).any(|pair| pair == b"//")
}

struct CheckedPath<'h> {
    decoded: Cow<'h, str>,
    encoded_slash: bool,
    oddity: Option<&'static str>,
}

impl<'h> CheckedPath<'h> {
    /// A path that needs no decoding.
    fn plain(path: &'h str) -> CheckedPath<'h> {
        CheckedPath { decoded: Cow::Borrowed(path), encoded_slash: false, oddity: None }
    }
}

fn check_path(path: &str) -> Result<CheckedPath<'_>, TargetError> {
    if path.bytes().any(|b| b"\\\"<>`".contains(&b)) {
        return Err(TargetError::Ambiguous("a backslash or a byte that no URI may have"));
    }
    if path == "*" {
        return Ok(CheckedPath::plain(path));
    }
    let (encoded_slash, mut oddity) = check_escapes(path)?;
    for segment in path[1..].split('/') {
        if hides_dot_segment(segment) {
            return Err(TargetError::Ambiguous("a dot segment"));
        }
        let begins_with_semicolon =
            |part: &[u8]| part.first() == Some(&b';') || has_escape_at_front(part, b"%3b");
        if begins_with_semicolon(segment.as_bytes()) {
            oddity = Some("a segment that begins with a semicolon");
        }
    }
    if has_empty_segment(path.as_bytes()) {
        oddity = Some("an empty segment");
    }
    let (decoded, is_utf8) = decode(path);
    if !is_utf8 {
        oddity = Some("escapes that are not UTF-8");
    }
    Ok(CheckedPath { decoded, encoded_slash, oddity })
}

fn has_escape_at_front(part: &[u8], escape: &[u8; 3]) -> bool {
    part.get(..3).is_some_and(|front| front.eq_ignore_ascii_case(escape))
}

/// Every `%` starts an escape of two hex digits, and none of them hides a control byte or an overlong spelling. Returns whether there
/// is an encoded slash, and whether another escape is one of a byte that need not or should not be escaped.
fn check_escapes(path: &str) -> Result<(bool, Option<&'static str>), TargetError> {
    let escape = |at: usize| {
        let digits = path.get(at..at + 3)?.strip_prefix('%')?;
        u8::from_str_radix(digits, 16).ok().filter(|_| digits.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    let (mut encoded_slash, mut oddity) = (false, None);
    for (at, _) in path.match_indices('%') {
        match escape(at).ok_or(TargetError::Malformed)? {
            b'/' => encoded_slash = true,
            b'.' => oddity = Some("an encoded dot"),
            b'\\' => oddity = Some("an encoded backslash"),
            0..=0x1f | 0x7f => return Err(TargetError::Ambiguous("an encoded control byte")),
            // Some decoders take these for slashes, dots and the like (RFC 3629 section 3).
            0xc0 | 0xc1 => return Err(TargetError::Ambiguous("an overlong escape")),
            0xe0 if matches!(escape(at + 3), Some(0x80..=0x9f)) => {
                return Err(TargetError::Ambiguous("an overlong escape"));
            }
            0xf0 if matches!(escape(at + 3), Some(0x80..=0x8f)) => {
                return Err(TargetError::Ambiguous("an overlong escape"));
            }
            _ => {}
        }
    }
    Ok((encoded_slash, oddity))
}

/// An upstream may decode so often, and then see slashes. What is encoded more often is refused.
pub(crate) const MAX_DECODINGS: usize = 8;

/// Whether some upstream could see `.` or `..` in what is one segment here: also with path parameters behind them, which Tomcat
/// takes off before it resolves dots, and between slashes that it sees only after it has decoded them, once or again.
fn hides_dot_segment(segment: &str) -> bool {
    if !segment.bytes().any(|byte| byte == b'.' || byte == b'%') {
        return false;
    }
    let is_dots = |part: &[u8]| {
        let name = part.split(|&byte| byte == b';').next().unwrap_or_default();
        // Some file systems and frameworks take off blanks.
        matches!(String::from_utf8_lossy(name).trim(), "." | "..")
    };
    let mut decoded: Cow<'_, [u8]> = percent_decode_str(segment).into();
    for _ in 0..MAX_DECODINGS {
        if decoded.split(|byte| b"/\\".contains(byte)).any(is_dots) {
            return true;
        }
        let again: Vec<u8> = percent_decode(&decoded).collect();
        if again == *decoded {
            return false;
        }
        decoded = again.into();
    }
    true
}

/// The path with everything but slashes decoded, and whether it is UTF-8.
fn decode(path: &str) -> (Cow<'_, str>, bool) {
    if !path.contains('%') {
        return (Cow::Borrowed(path), true);
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find("%2F").into_iter().chain(rest.find("%2f")).min() {
        decoded.extend(percent_decode_str(&rest[..at]));
        decoded.extend_from_slice(b"%2F");
        rest = &rest[at + 3..];
    }
    decoded.extend(percent_decode_str(rest));
    match String::from_utf8(decoded) {
        Ok(decoded) => (decoded.into(), true),
        Err(error) => (String::from_utf8_lossy(error.as_bytes()).into_owned().into(), false),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(target: &str) -> Result<CanonicalTarget<'_>, TargetError> {
        CanonicalTarget::parse(&Method::GET, target.as_bytes())
    }

    #[test]
    fn clear_targets_pass_unchanged() {
        for target in [
            "/",
            "/a/b",
            "/a/",
            "/a.b/..c/c..",
            "/a%20b?x=%2e%2e/&y=\\",
            "/a;x=1/b",
            "/a|b",
            "/%e2%82%ac",
            "/a%252e",
            "/a/..%20b",
            "/a/%20/b",
            "/a%2Fb%2f/c",
            "/a/%2Fb",
            "/a%2F%2fb",
            "/sites/https%3A%2F%2Fx%2F",
        ] {
            let parsed = parse(target).unwrap();
            assert_eq!((parsed.as_str(), parsed.oddity()), (target, None));
        }
    }

    #[test]
    fn oddities_are_noted_and_dot_segments_are_none_of_them() {
        for (target, oddity) in [
            ("/a//b", "an empty segment"),
            ("//a", "an empty segment"),
            ("/a//", "an empty segment"),
            ("/a/;/b", "a segment that begins with a semicolon"),
            ("/a/%3bx", "a segment that begins with a semicolon"),
            ("/a%2etxt", "an encoded dot"),
            ("/.%2e.", "an encoded dot"),
            ("/a%5cb", "an encoded backslash"),
            ("/caf%E9", "escapes that are not UTF-8"),
            ("/a%ff", "escapes that are not UTF-8"),
        ] {
            let parsed = parse(target).unwrap();
            assert_eq!(parsed.oddity(), Some(TargetError::Ambiguous(oddity)), "{target}");
            assert!(parsed.as_str() == target && parsed.without_oddities().is_err());
        }
    }

    #[test]
    fn escapes_are_decoded_once_for_matching_and_never_for_forwarding() {
        let target = parse("/%61pi/%252ex%2Fy%2fz").unwrap();
        assert_eq!(target.as_str(), "/%61pi/%252ex%2Fy%2fz");
        assert_eq!(target.decoded_path(), "/api/%2ex%2Fy%2Fz");
        assert!(target.has_encoded_slash());
    }

    #[test]
    fn ambiguous_targets_are_refused() {
        for bad in [
            "/a/../b",
            "/a/..",
            "/./a",
            "/a/.",
            "/a/..;/b",
            "/a/..%20/b",
            "/a/%20..",
            "/a/.%20;x/b",
            "/a/..%20%20%3bx",
            "/a/..%C2%A0/b",
            "/a%2F..%20%2Fb",
            "/a%252F..%2520%252Fb",
            "/a%5c%20..%5cb",
            "/a/.;x/b",
            "/a/.%3b/b",
            "/a/..%3Bx",
            "/a/..%2Fb",
            "/a/%2F..%2Fb",
            "/a%2F%2e%2E%2fb",
            "/a%2f..;x%2Fb",
            "/a%2F..%3bx%2Fb",
            "/a%252F..%252Fb",
            "/a%252F%252e%252e%252Fb",
            "/a%2F%252e%252e%2Fb",
            "/a%25252F..%25252Fb",
            "/a%5c..%5Cb",
            "/a%5c..",
            "/a//../b",
            "/a/%2e/b",
            "/a/.%2e;x",
            "/a/b%2f..",
            "/a/b%2F.;x%2Fc",
            "/a/%2E%2e/b",
            "/a\\b",
            "/a%00",
            "/a%0d%0ab",
            "/a#b",
            "/a?b#c",
            "/a%c0%ae",
            "/a%C1%9c",
            "/a%e0%80%af",
            "/a%F0%80%80%af",
            "/\u{e9}",
            "/a%2",
            "/a%zz",
            "/a%",
            "foo",
            "@x",
            "",
            "*",
            "http:/a",
            "file:///etc/passwd",
            "http://a?b",
            "/a\tb",
            "/a\u{7f}",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_absolute_target_gives_its_authority_and_its_origin_form() {
        let target = parse("http://gw.test:80/a?b").unwrap();
        assert_eq!((target.authority(), target.as_str()), (Some(&b"gw.test:80"[..]), "/a?b"));
        assert_eq!(parse("HTTP://gw.test").unwrap().as_str(), "/");
    }

    #[test]
    fn a_prefix_is_taken_off_by_segments() {
        for (target, prefix, below) in [
            ("/api/v1/x?y", "/api/v1", "/x?y"),
            ("/%61pi/x", "/api", "/x"),
            ("/api", "/api", ""),
            ("/api?x", "/api", "?x"),
            ("/api/", "/api", "/"),
            ("/x", "/", "/x"),
        ] {
            assert_eq!(parse(target).unwrap().below(prefix), below, "{target}");
        }
    }
}
