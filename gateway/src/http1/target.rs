//! The request target: validated once and never normalised, so that what was authorized is byte for byte what
//! is forwarded.

use std::borrow::Cow;

use http::Method;
use percent_encoding::percent_decode;

/// A target that two parsers could read differently, or that is no target.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
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
    authority: Option<&'h [u8]>,
}

impl<'h> CanonicalTarget<'h> {
    /// Validates the target of a request with `method`. An absolute form is split; the caller compares its
    /// authority with `Host`. `*` and authority form have no path and belong to methods that are not proxied.
    ///
    /// # Errors
    ///
    /// Why the target is rejected.
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

    /// The path with its percent-encoding decoded once, for matching. An encoded slash stays encoded: it
    /// separates no segments.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn decoded_path(&self) -> &str {
        &self.decoded
    }

    /// Whether the path contains `%2F`, which only routes with `encoded_slashes` forward.
    pub(crate) fn has_encoded_slash(&self) -> bool {
        self.encoded_slash
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

/// How an admitted [`CanonicalTarget`] is split, for a request that outlives the borrow.
#[derive(Debug)]
pub(crate) struct TargetSpan {
    path_end: usize,
    decoded: Option<Box<str>>,
    encoded_slash: bool,
}

impl TargetSpan {
    /// The target again; `raw` is the origin form that the span was taken of.
    pub(crate) fn of<'h>(&'h self, raw: &'h str) -> CanonicalTarget<'h> {
        let decoded = Cow::Borrowed(self.decoded_path(raw));
        let (path_end, encoded_slash) = (self.path_end, self.encoded_slash);
        CanonicalTarget { raw, path_end, decoded, encoded_slash, authority: None }
    }

    /// The [decoded path](CanonicalTarget::decoded_path) alone.
    pub(crate) fn decoded_path<'h>(&'h self, raw: &'h str) -> &'h str {
        self.decoded.as_deref().unwrap_or_else(|| &raw[..self.path_end])
    }
}

impl CanonicalTarget<'_> {
    /// How it is split.
    pub(crate) fn span(self) -> TargetSpan {
        TargetSpan {
            path_end: self.path_end,
            decoded: match self.decoded {
                Cow::Owned(decoded) => Some(decoded.into()),
                Cow::Borrowed(_) => None,
            },
            encoded_slash: self.encoded_slash,
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
}

impl<'h> CheckedPath<'h> {
    /// A path that needs no decoding.
    fn plain(path: &'h str) -> CheckedPath<'h> {
        CheckedPath { decoded: Cow::Borrowed(path), encoded_slash: false }
    }
}

fn check_path(path: &str) -> Result<CheckedPath<'_>, TargetError> {
    if path.bytes().any(|b| b"\\\"<>`".contains(&b)) {
        return Err(TargetError::Ambiguous("a backslash or a byte that no URI may have"));
    }
    if path == "*" {
        return Ok(CheckedPath::plain(path));
    }
    let encoded_slash = check_escapes(path)?;
    for segment in path[1..].split('/') {
        check_segment(segment)?;
    }
    if has_empty_segment(path.as_bytes()) {
        return Err(TargetError::Ambiguous("an empty segment"));
    }
    let decoded = if path.contains('%') { Cow::Owned(decode(path)?) } else { Cow::Borrowed(path) };
    Ok(CheckedPath { decoded, encoded_slash })
}

/// Every `%` starts an escape of two hex digits, and none of them encodes a delimiter.
fn check_escapes(path: &str) -> Result<bool, TargetError> {
    let mut encoded_slash = false;
    for (at, _) in path.match_indices('%') {
        let byte = path
            .get(at + 1..at + 3)
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .ok_or(TargetError::Malformed)?;
        match byte {
            b'/' => encoded_slash = true,
            b'.' => return Err(TargetError::Ambiguous("an encoded dot")),
            b'\\' => return Err(TargetError::Ambiguous("an encoded backslash")),
            0..=0x1f | 0x7f => return Err(TargetError::Ambiguous("an encoded control byte")),
            _ => {}
        }
    }
    Ok(encoded_slash)
}

/// No dot segments, also not with path parameters behind them, which Tomcat removes before it resolves dots,
/// nor where an upstream would see them after decoding `%2F`.
fn check_segment(segment: &str) -> Result<(), TargetError> {
    let mut rest = segment;
    loop {
        let end = rest.as_bytes().windows(3).position(|w| w.eq_ignore_ascii_case(b"%2f"));
        let part = end.map_or(rest, |end| &rest[..end]);
        // Also where an upstream would see the parameters only after decoding `%3B`.
        let encoded = part.as_bytes().windows(3).position(|w| w.eq_ignore_ascii_case(b"%3b"));
        let name = &part[..part.find(';').into_iter().chain(encoded).min().unwrap_or(part.len())];
        if name == "." || name == ".." || (name.is_empty() && !part.is_empty()) {
            return Err(TargetError::Ambiguous("a dot segment"));
        }
        let Some(end) = end else { return Ok(()) };
        if part.is_empty() {
            return Err(TargetError::Ambiguous("an empty segment"));
        }
        rest = &rest[end + 3..];
    }
}

/// The path with everything but slashes decoded; what does not decode to UTF-8 is rejected, such as an
/// overlong encoding.
fn decode(path: &str) -> Result<String, TargetError> {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find("%2F").into_iter().chain(rest.find("%2f")).min() {
        decode_into(&mut decoded, &rest[..at])?;
        decoded.push_str("%2F");
        rest = &rest[at + 3..];
    }
    decode_into(&mut decoded, rest)?;
    Ok(decoded)
}

fn decode_into(decoded: &mut String, part: &str) -> Result<(), TargetError> {
    let text = percent_decode(part.as_bytes())
        .decode_utf8()
        .map_err(|_| TargetError::Ambiguous("escapes that are not UTF-8"))?;
    decoded.push_str(&text);
    Ok(())
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
            "/a%2Fb%2f/c",
        ] {
            assert_eq!(parse(target).unwrap().as_str(), target);
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
            "/a/.;x/b",
            "/a/.%3b/b",
            "/a/..%3Bx",
            "/a/%3bx",
            "/a//b",
            "//a",
            "/a/;/b",
            "/a%2e",
            "/a/..%2Fb",
            "/a/b%2f..",
            "/a/b%2F.;x%2Fc",
            "/a/%2Fb",
            "/a%2F%2fb",
            "/a/%2E%2e/b",
            "/a\\b",
            "/a%5cb",
            "/a%00",
            "/a%0d%0ab",
            "/a#b",
            "/a?b#c",
            "/a%c0%ae",
            "/a%ff",
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
