//! Content codings (RFC 9110 section 8.4): negotiation by `Accept-Encoding`, and which media types are worth
//! compressing.

use http::HeaderValue;

/// A supported content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ContentCoding {
    Brotli,
    Gzip,
    Zstd,
}

impl ContentCoding {
    /// The name in `Content-Encoding`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            ContentCoding::Brotli => "br",
            ContentCoding::Gzip => "gzip",
            ContentCoding::Zstd => "zstd",
        }
    }

    pub(crate) fn value(self) -> HeaderValue {
        HeaderValue::from_static(self.name())
    }
}

/// The codings of `offered` that the client accepts (RFC 9110 section 12.5.3), the preferred one first: of
/// equally preferred ones, the first offered. Excludes codings that the client prefers less than `identity`.
/// `values` are those of its `Accept-Encoding` fields.
pub(crate) fn accepted<'v>(
    values: impl IntoIterator<Item = &'v [u8]>,
    offered: &[ContentCoding],
) -> Vec<ContentCoding> {
    let values = values.into_iter().filter_map(|value| std::str::from_utf8(value).ok());
    let members: Vec<(&str, u16)> = values.flat_map(|value| value.split(',')).filter_map(weighted).collect();
    let weight =
        |name: &str| members.iter().find(|(member, _)| member.eq_ignore_ascii_case(name)).map(|m| m.1);
    let identity = weight("identity").unwrap_or(0);
    let mut codings: Vec<(u16, ContentCoding)> = offered
        .iter()
        .map(|coding| (weight(coding.name()).or_else(|| weight("*")).unwrap_or(0), *coding))
        .filter(|(weight, _)| *weight > 0 && *weight >= identity)
        .collect();
    codings.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    codings.into_iter().map(|(_, coding)| coding).collect()
}

/// A member of the list and its weight in thousandths; `None` if the weight is malformed.
fn weighted(member: &str) -> Option<(&str, u16)> {
    let Some((name, parameter)) = member.split_once(';') else { return Some((member.trim(), 1000)) };
    let (key, weight) = parameter.split_once('=')?;
    let weight: f32 = weight.trim().parse().ok()?;
    let is_weight = key.trim().eq_ignore_ascii_case("q") && (0.0..=1.0).contains(&weight);
    is_weight.then_some((name.trim(), (weight * 1000.0) as u16))
}

/// Compressible types beside `text/…`, `…+json` and `…+xml`.
const COMPRESSIBLE: [&str; 12] = [
    "application/javascript",
    "application/json",
    "application/ld+json",
    "application/x-javascript",
    "application/x-ndjson",
    "application/xml",
    "application/wasm",
    "application/vnd.ms-fontobject",
    "application/font-sfnt",
    "font/ttf",
    "font/otf",
    "image/bmp",
];

/// Whether content of that type gets smaller. Not event streams, whose clients wait for each event, and not
/// gRPC or Connect, which compress their messages themselves.
pub(crate) fn is_compressible(content_type: &[u8]) -> bool {
    let essence = content_type.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    let Ok(essence) = std::str::from_utf8(essence) else { return false };
    let essence = essence.to_ascii_lowercase();
    let is_text = essence.starts_with("text/") || essence.ends_with("+json") || essence.ends_with("+xml");
    let is_stream = essence == "text/event-stream"
        || essence.starts_with("application/grpc")
        || essence.starts_with("application/connect+");
    (is_text || COMPRESSIBLE.contains(&essence.as_str())) && !is_stream
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coding_is_the_one_that_the_client_likes_best() {
        use ContentCoding::{Brotli, Gzip, Zstd};
        for (value, expected) in [
            ("", &[][..]),
            ("identity", &[]),
            ("gzip, deflate, br, zstd", &[Zstd, Brotli, Gzip]),
            ("gzip", &[Gzip]),
            ("GZIP;q=0.5", &[Gzip]),
            ("br;q=0.1, gzip;q=0.9", &[Gzip, Brotli]),
            ("br ; q=0.5 , gzip ; Q=0.5", &[Brotli, Gzip]),
            ("br;q=0, gzip", &[Gzip]),
            ("*", &[Zstd, Brotli, Gzip]),
            ("*;q=0.1, gzip;q=0", &[Zstd, Brotli]),
            ("br;q=0, *", &[Zstd, Gzip]),
            ("identity;q=0.5, br;q=0.2, gzip", &[Gzip]),
            ("identity, br;q=0.9", &[]),
            ("br;q=2, gzip;q=x", &[]),
            ("br;v=1", &[]),
            ("deflate, compress", &[]),
            ("zstd;q=0.9, gzip", &[Gzip, Zstd]),
        ] {
            assert_eq!(accepted([value.as_bytes()], &[Zstd, Brotli, Gzip]), expected, "{value}");
        }
        assert_eq!(accepted([], &[Brotli, Gzip]), []);
        assert_eq!(accepted([&b"br;q=0.5"[..], b"gzip"], &[Brotli, Gzip]), [Gzip, Brotli], "two fields");
        assert_eq!(accepted([&b"zstd, gzip"[..]], &[Brotli, Gzip]), [Gzip], "what is not offered");
    }

    #[test]
    fn text_gets_smaller_and_streams_of_messages_stay_as_they_are() {
        for (content_type, compressible) in [
            ("text/html", true),
            ("Text/HTML; charset=utf-8", true),
            ("application/json;charset=utf-8", true),
            ("application/problem+json", true),
            ("image/svg+xml", true),
            ("application/wasm", true),
            ("font/ttf", true),
            ("text/event-stream; charset=utf-8", false),
            ("application/grpc", false),
            ("application/grpc-web+json", false),
            ("application/connect+json", false),
            ("image/png", false),
            ("video/mp4", false),
            ("font/woff2", false),
            ("application/zip", false),
            ("application/octet-stream", false),
            ("multipart/byteranges", false),
            ("", false),
            ("\u{fc}", false),
        ] {
            assert_eq!(is_compressible(content_type.as_bytes()), compressible, "{content_type}");
        }
    }
}
