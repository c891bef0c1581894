//! On-the-fly compression of files without a precompressed variant. Each is
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

use crate::content_coding::{self, ContentCoding};

/// The codings of files, the preferred one first. tower-http does the compressing.
pub(super) const CODINGS: [ContentCoding; 2] = [ContentCoding::Brotli, ContentCoding::Gzip];

/// The extension of a precompressed file.
pub(super) fn extension(coding: ContentCoding) -> &'static str {
    match coding {
        ContentCoding::Brotli => ".br",
        ContentCoding::Gzip => ".gz",
        ContentCoding::Zstd => ".zst",
    }
}

/// The codings of files that the client accepts, the preferred one first.
pub(super) fn accepted(headers: &HeaderMap) -> Vec<ContentCoding> {
    content_coding::accepted(headers.get_all(ACCEPT_ENCODING).iter().map(HeaderValue::as_bytes), &CODINGS)
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
