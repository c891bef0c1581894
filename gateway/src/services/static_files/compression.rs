//! Content codings: negotiation, and on-the-fly compression of files without a precompressed variant. Each is
//! compressed once, by tower-http's `Compression`, on the blocking pool, and cached in memory.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::ops::RangeInclusive;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::header::ACCEPT_ENCODING;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use tower::ServiceExt;
use tower_http::CompressionLevel;
use tower_http::compression::Compression;
use tower_http::services::fs::ServeFileSystemResponseBody;

/// A supported content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum ContentCoding {
    Brotli,
    Gzip,
}

impl ContentCoding {
    pub(super) const ALL: [ContentCoding; 2] = [ContentCoding::Brotli, ContentCoding::Gzip];

    /// The name in `Content-Encoding`.
    fn name(self) -> &'static str {
        match self {
            ContentCoding::Brotli => "br",
            ContentCoding::Gzip => "gzip",
        }
    }

    pub(super) fn value(self) -> HeaderValue {
        HeaderValue::from_static(self.name())
    }

    /// The extension of a precompressed file.
    pub(super) fn extension(self) -> &'static str {
        match self {
            ContentCoding::Brotli => ".br",
            ContentCoding::Gzip => ".gz",
        }
    }
}

/// The codings that the client accepts (RFC 9110 section 12.5.3), the preferred one first: of equally
/// preferred ones, Brotli. Excludes codings that the client prefers less than `identity`.
pub(super) fn accepted(headers: &HeaderMap) -> Vec<ContentCoding> {
    let fields = headers.get_all(ACCEPT_ENCODING).into_iter().filter_map(|value| value.to_str().ok());
    let members: Vec<(&str, u16)> = fields.flat_map(|value| value.split(',')).filter_map(weighted).collect();
    let weight =
        |name: &str| members.iter().find(|(member, _)| member.eq_ignore_ascii_case(name)).map(|m| m.1);
    let identity = weight("identity").unwrap_or(0);
    let mut codings: Vec<(u16, ContentCoding)> = ContentCoding::ALL
        .into_iter()
        .map(|coding| (weight(coding.name()).or_else(|| weight("*")).unwrap_or(0), coding))
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

/// A file's name, its entity tag, and the coding.
pub(super) type Key = (String, HeaderValue, ContentCoding);

/// Cache of the compressed files of a folder.
#[derive(Debug, Default)]
pub(super) struct CompressedFiles {
    cached: Mutex<CachedFiles>,
    /// Serialises compression: one file at a time, and none twice for concurrent requests.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct CachedFiles {
    files: HashMap<Key, Bytes>,
    /// Total size, in bytes.
    size: usize,
}

impl CompressedFiles {
    /// Sizes of files that are compressed, in bytes: smaller ones do not take fewer packets; larger ones take
    /// too long and should be precompressed.
    pub(super) const SIZES: RangeInclusive<u64> = 1024..=4 << 20;
    /// Maximum size of the cache, in bytes.
    const CAPACITY: usize = 32 << 20;

    pub(super) fn get(&self, key: &Key) -> Option<Bytes> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner).files.get(key).cloned()
    }

    /// Compresses a file, unless it has been cached meanwhile.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub(super) async fn insert(&self, key: Key, file: ServeFileSystemResponseBody) -> io::Result<Bytes> {
        let _turn = self.turn.lock().await;
        if let Some(bytes) = self.get(&key) {
            return Ok(bytes);
        }
        let plain = file.collect().await?.to_bytes();
        let coding = key.2;
        let bytes = tokio::task::spawn_blocking(move || compress(plain, coding))
            .await
            .map_err(io::Error::other)??;
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        // The files of a folder fit; an overflow comes from outdated states.
        if cached.size + bytes.len() > CompressedFiles::CAPACITY {
            *cached = CachedFiles::default();
        }
        cached.size += bytes.len();
        cached.files.insert(key, bytes.clone());
        Ok(bytes)
    }
}

/// For both codings. A React build of 221 kB becomes 63.7 kB by Brotli, at tower-http's default of 4 68.9 kB;
/// by gzip 68.7 kB.
const LEVEL: CompressionLevel = CompressionLevel::Precise(9);

/// Compresses a whole file. Blocking.
fn compress(plain: Bytes, coding: ContentCoding) -> io::Result<Bytes> {
    let answer = tower::service_fn(|_| {
        std::future::ready(Ok::<_, Infallible>(Response::new(Full::new(plain.clone()))))
    });
    let mut request = Request::new(());
    request.headers_mut().insert(ACCEPT_ENCODING, coding.value());
    tokio::runtime::Handle::current().block_on(async {
        let Ok(response) = Compression::new(answer).quality(LEVEL).oneshot(request).await;
        Ok(response.into_body().collect().await.map_err(io::Error::other)?.to_bytes())
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_coding_is_the_one_that_the_client_likes_best() {
        use ContentCoding::{Brotli, Gzip};
        for (value, expected) in [
            ("", &[][..]),
            ("identity", &[]),
            ("gzip, deflate, br, zstd", &[Brotli, Gzip]),
            ("gzip", &[Gzip]),
            ("GZIP;q=0.5", &[Gzip]),
            ("br;q=0.1, gzip;q=0.9", &[Gzip, Brotli]),
            ("br ; q=0.5 , gzip ; Q=0.5", &[Brotli, Gzip]),
            ("br;q=0, gzip", &[Gzip]),
            ("*", &[Brotli, Gzip]),
            ("*;q=0.1, gzip;q=0", &[Brotli]),
            ("br;q=0, *", &[Gzip]),
            ("identity;q=0.5, br;q=0.2, gzip", &[Gzip]),
            ("identity, br;q=0.9", &[]),
            ("br;q=2, gzip;q=x", &[]),
            ("br;v=1", &[]),
            ("deflate, zstd", &[]),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, value.parse().unwrap())]);
            assert_eq!(accepted(&headers), expected, "{value}");
        }
        assert_eq!(accepted(&HeaderMap::new()), []);
    }
}
