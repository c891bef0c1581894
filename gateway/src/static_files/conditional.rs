//! Conditional requests and range requests (RFC 9110 sections 13 and 14), for resources with an entity tag
//! and a modification date.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The result of a request's preconditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Precondition {
    Holds,
    /// 304
    NotModified,
    /// 412
    Failed,
}

/// Evaluates the preconditions of GET and HEAD in the order of RFC 9110 section 13.2.2, except `If-Range`.
pub(super) fn evaluate(headers: &HeaderMap, etag: &HeaderValue, modified: SystemTime) -> Precondition {
    let modified = whole_seconds(modified);
    if headers.contains_key(IF_MATCH) {
        if !lists(headers, IF_MATCH, |member| is_same_strong(member, etag)) {
            return Precondition::Failed;
        }
    } else if date(headers, IF_UNMODIFIED_SINCE).is_some_and(|since| modified > since) {
        return Precondition::Failed;
    }
    if headers.contains_key(IF_NONE_MATCH) {
        if lists(headers, IF_NONE_MATCH, |member| opaque(member) == opaque(etag.as_bytes())) {
            return Precondition::NotModified;
        }
    } else if date(headers, IF_MODIFIED_SINCE).is_some_and(|since| modified <= since) {
        return Precondition::NotModified;
    }
    Precondition::Holds
}

/// Whether a range may be sent: `If-Range` is absent or matches.
pub(super) fn if_range_holds(headers: &HeaderMap, etag: &HeaderValue, modified: SystemTime) -> bool {
    let Some(validator) = headers.get(IF_RANGE) else { return true };
    is_same_strong(validator.as_bytes(), etag) || date(headers, IF_RANGE) == Some(whole_seconds(modified))
}

/// The single range of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ByteRange {
    /// `bytes=first-` or `bytes=first-last`
    From(u64, Option<u64>),
    /// `bytes=-length`
    Last(u64),
}

impl ByteRange {
    /// `None` where the field is absent or malformed, and for several ranges: the whole file is sent then.
    pub(super) fn of(headers: &HeaderMap) -> Option<ByteRange> {
        let mut fields = headers.get_all(RANGE).into_iter();
        let (Some(field), None) = (fields.next(), fields.next()) else { return None };
        let (unit, set) = field.to_str().ok()?.split_once('=')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return None;
        }
        let mut ranges = set.split(',').map(str::trim).filter(|range| !range.is_empty());
        let (Some(range), None) = (ranges.next(), ranges.next()) else { return None };
        let (first, last) = range.split_once('-')?;
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => Some(ByteRange::From(first, Some(last))),
            (Some(first), None) if last.is_empty() => Some(ByteRange::From(first, None)),
            (None, Some(length)) if first.is_empty() => Some(ByteRange::Last(length)),
            _ => None,
        }
    }

    /// The first and the last byte of the range in `len` bytes; `None` for an unsatisfiable one (416).
    pub(super) fn within(self, len: u64) -> Option<(u64, u64)> {
        let end = len.checked_sub(1)?;
        match self {
            ByteRange::From(first, last) => (first <= end).then(|| (first, last.unwrap_or(end).min(end))),
            ByteRange::Last(length) => (length > 0).then(|| (len.saturating_sub(length), end)),
        }
    }
}

/// Digits only; a number too large for any file saturates.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Whether a list is `*` or has a matching member. Our tags contain no commas, so no part of another tag
/// matches.
fn lists(headers: &HeaderMap, name: HeaderName, fits: impl Fn(&[u8]) -> bool) -> bool {
    let fields = headers.get_all(name).into_iter();
    let mut members = fields.flat_map(|value| value.as_bytes().split(|&b| b == b',')).map(|m| m.trim_ascii());
    members.any(|member| member == b"*" || fits(member))
}

/// The strong comparison of entity tags (RFC 9110 section 8.8.3.2).
fn is_same_strong(member: &[u8], etag: &HeaderValue) -> bool {
    member == etag.as_bytes() && !member.starts_with(b"W/")
}

fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The date in a field, if it is a valid one.
fn date(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

/// Dates in header fields have no fractions of a second.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields.iter().map(|(n, v)| (HeaderName::from_static(n), v.parse().unwrap())).collect()
    }

    /// With a fraction of a second, as file systems have it.
    fn then() -> SystemTime {
        httpdate::parse_http_date(THEN).unwrap() + Duration::from_millis(500)
    }

    #[test]
    fn preconditions_are_evaluated_in_their_order() {
        use Precondition::{Failed, Holds, NotModified};
        let (none_match, modified_since) = ("if-none-match", "if-modified-since");
        let (if_match, unmodified_since) = ("if-match", "if-unmodified-since");
        for (fields, expected) in [
            (&[][..], Holds),
            (&[(none_match, "\"a\"")], NotModified),
            (&[(none_match, "W/\"a\"")], NotModified),
            (&[(none_match, "\"x\", W/\"y\" ,\"a\"")], NotModified),
            (&[(none_match, "\"x\""), (none_match, "\"a\"")], NotModified),
            (&[(none_match, "*")], NotModified),
            (&[(none_match, "\"x\"")], Holds),
            (&[(none_match, "a")], Holds),
            (&[(none_match, "\"x\""), (modified_since, LATER)], Holds),
            (&[(none_match, "\"a\""), (modified_since, EARLIER)], NotModified),
            (&[(modified_since, EARLIER)], Holds),
            (&[(modified_since, THEN)], NotModified),
            (&[(modified_since, LATER)], NotModified),
            (&[(modified_since, "yesterday")], Holds),
            (&[(if_match, "\"a\"")], Holds),
            (&[(if_match, "*")], Holds),
            (&[(if_match, "W/\"a\"")], Failed),
            (&[(if_match, "\"x\"")], Failed),
            (&[(if_match, "\"a\""), (unmodified_since, EARLIER)], Holds),
            (&[(if_match, "\"a\""), (none_match, "\"a\"")], NotModified),
            (&[(unmodified_since, EARLIER)], Failed),
            (&[(unmodified_since, THEN)], Holds),
            (&[(unmodified_since, "yesterday")], Holds),
        ] {
            let etag = HeaderValue::from_static("\"a\"");
            assert_eq!(evaluate(&headers(fields), &etag, then()), expected, "{fields:?}");
        }
        let weak = HeaderValue::from_static("W/\"a\"");
        for (fields, expected) in [
            ((none_match, "\"a\""), NotModified),
            ((none_match, "W/\"a\""), NotModified),
            ((if_match, "W/\"a\""), Failed),
        ] {
            assert_eq!(evaluate(&headers(&[fields]), &weak, then()), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_part_is_sent_only_of_the_bytes_that_the_client_has() {
        let strong = HeaderValue::from_static("\"a\"");
        for (validator, holds) in [
            ("\"a\"", true),
            ("W/\"a\"", false),
            ("\"b\"", false),
            (THEN, true),
            (EARLIER, false),
            (LATER, false),
            ("", false),
        ] {
            assert_eq!(
                if_range_holds(&headers(&[("if-range", validator)]), &strong, then()),
                holds,
                "{validator}"
            );
        }
        assert!(if_range_holds(&headers(&[]), &strong, then()));
        let weak = HeaderValue::from_static("W/\"a\"");
        assert!(!if_range_holds(&headers(&[("if-range", "W/\"a\"")]), &weak, then()));
    }

    #[test]
    fn one_range_is_understood_and_all_else_is_the_whole() {
        let of = |value: &str| ByteRange::of(&headers(&[("range", value)])).map(|range| range.within(10));
        for (value, expected) in [
            ("bytes=0-0", Some(Some((0, 0)))),
            ("bytes=2-5", Some(Some((2, 5)))),
            ("Bytes = 2-5 ", Some(Some((2, 5)))),
            ("bytes=007-8", Some(Some((7, 8)))),
            ("bytes=,2-5,", Some(Some((2, 5)))),
            ("bytes=9-", Some(Some((9, 9)))),
            ("bytes=5-99999999999999999999999", Some(Some((5, 9)))),
            ("bytes=-3", Some(Some((7, 9)))),
            ("bytes=-30", Some(Some((0, 9)))),
            ("bytes=10-", Some(None)),
            ("bytes=99999999999999999999999-", Some(None)),
            ("bytes=-0", Some(None)),
            ("bytes=5-2", None),
            ("bytes=0-1,3-4", None),
            ("bytes=-", None),
            ("bytes=", None),
            ("bytes=a-b", None),
            ("bytes=+1-2", None),
            ("bytes=1--2", None),
            ("bytes=1 -2", None),
            ("lines=1-2", None),
            ("bytes", None),
        ] {
            assert_eq!(of(value), expected, "{value}");
        }
        assert_eq!(ByteRange::of(&headers(&[("range", "bytes=0-0"), ("range", "bytes=1-1")])), None);
        for range in [ByteRange::From(0, None), ByteRange::Last(5)] {
            assert_eq!(range.within(0), None);
        }
    }
}
