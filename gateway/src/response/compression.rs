//! Compression of responses while they pass: which are compressed, and the body that does it.

use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, ETAG, SET_COOKIE, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body::{Body as _, Frame};

use super::{Body, Response};
use crate::content_coding::{self, ContentCoding, is_compressible};
use crate::http1::{HeaderKind, Headers};
use crate::telemetry::AbortReason;

/// Of equally preferred codings the first: the one that costs least for what it saves.
const OFFERED: [ContentCoding; 3] = [ContentCoding::Zstd, ContentCoding::Brotli, ContentCoding::Gzip];

/// Smaller content is sent as it is, in bytes: it does not take fewer packets.
const MIN_LENGTH: u64 = 1024;

/// A piece of compressed content is sent when it has so many bytes, or when the upstream pauses.
const PIECE_BYTES: usize = 8 * 1024;

/// Checksums and signatures of the content, which would no longer fit.
const DIGESTS: [HeaderName; 5] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("signature-input"),
];

/// The coding for a client, if there is one.
///
/// None for a request with cookies that another site's page makes: such a page can have a browser send what it
/// likes and count the bytes of the response (BREACH).
pub(crate) fn coding_for(headers: &Headers) -> Option<ContentCoding> {
    let by_name = |name: &'static [u8]| {
        headers.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    };
    let is_cross_site = by_name(b"sec-fetch-site").any(|site| !matches!(site, b"same-origin" | b"none"));
    if is_cross_site && headers.has(HeaderKind::Cookie) {
        return None;
    }
    content_coding::accepted(by_name(b"accept-encoding"), &OFFERED).first().copied()
}

/// Compresses a response if it should be, with the coding for its client. A response without a body (to HEAD)
/// gets the fields that it would have with one.
pub(crate) fn compress(mut response: Response, coding: Option<ContentCoding>) -> Response {
    if !should_compress(&response) {
        return response;
    }
    let headers = response.headers_mut();
    if !has_member(headers, &VARY, &[ACCEPT_ENCODING.as_str(), "*"]) {
        headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    let Some((coding, encoder)) = coding.and_then(|coding| Some((coding, Encoder::new(coding).ok()?))) else {
        return response;
    };
    headers.insert(CONTENT_ENCODING, coding.value());
    headers.remove(CONTENT_LENGTH);
    // Ranges of the compressed bytes cannot be served.
    headers.remove(ACCEPT_RANGES);
    if let Some(weak) = headers.get(ETAG).and_then(weakened) {
        headers.insert(ETAG, weak);
    }
    *response.body_mut() = match std::mem::take(response.body_mut()) {
        Body::Empty => Body::Empty,
        Body::Bytes(bytes) => {
            let compressed = encoder.compress(&bytes);
            response.headers_mut().insert(CONTENT_LENGTH, compressed.len().into());
            Body::Bytes(compressed.into())
        }
        inner => Body::Compressed(Box::new(CompressedBody::new(inner, encoder))),
    };
    response
}

/// Whether a response is compressed for a client that accepts it.
fn should_compress(response: &Response) -> bool {
    let (status, headers) = (response.status(), response.headers());
    let has_body = !status.is_informational()
        && !matches!(
            status,
            StatusCode::NO_CONTENT
                | StatusCode::RESET_CONTENT
                | StatusCode::PARTIAL_CONTENT
                | StatusCode::NOT_MODIFIED
        );
    let declared = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let length = declared.or_else(|| match response.body() {
        // An answer to HEAD that declares none.
        Body::Empty => None,
        body => body.size_hint().exact(),
    });
    let is_long = length.is_none_or(|length| length >= MIN_LENGTH);
    has_body
        && is_long
        && headers.get(CONTENT_TYPE).is_some_and(|value| is_compressible(value.as_bytes()))
        && !headers.contains_key(CONTENT_ENCODING)
        && !headers.contains_key(CONTENT_RANGE)
        && !headers.contains_key(SET_COOKIE)
        && !DIGESTS.iter().any(|name| headers.contains_key(name))
        && !has_member(headers, &CACHE_CONTROL, &["no-transform"])
}

/// Whether one of these names is in a field that is a list.
fn has_member(headers: &HeaderMap, name: &HeaderName, members: &[&str]) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|found| members.iter().any(|member| found.trim().eq_ignore_ascii_case(member)))
}

/// The weak form of a strong entity tag: the compressed bytes are not those that the upstream means.
fn weakened(etag: &HeaderValue) -> Option<HeaderValue> {
    let etag = etag.as_bytes();
    (!etag.starts_with(b"W/")).then(|| HeaderValue::from_bytes(&[b"W/", etag].concat()).ok()).flatten()
}

/// A body that is compressed while it passes. What an upstream has sent is flushed when it pauses.
pub(crate) struct CompressedBody {
    inner: Body,
    /// `None` after its end.
    encoder: Option<Encoder>,
    is_flushed: bool,
    trailers: Option<Frame<Bytes>>,
}

impl std::fmt::Debug for CompressedBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompressedBody").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl CompressedBody {
    fn new(inner: Body, encoder: Encoder) -> CompressedBody {
        CompressedBody { inner, encoder: Some(encoder), is_flushed: true, trailers: None }
    }

    /// The next frame: compressed data, or the upstream's trailers.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AbortReason>>> {
        loop {
            let Some(encoder) = &mut self.encoder else {
                return Poll::Ready(self.trailers.take().map(Ok));
            };
            let piece = match Pin::new(&mut self.inner).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        self.is_flushed = false;
                        encoder.write(&data).map(|()| encoder.take(PIECE_BYTES))
                    }
                    Err(trailers) => {
                        self.trailers = Some(trailers);
                        self.finish()
                    }
                },
                Poll::Ready(Some(Err(error))) => {
                    self.encoder = None;
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(None) => self.finish(),
                Poll::Pending if self.is_flushed => return Poll::Pending,
                Poll::Pending => {
                    self.is_flushed = true;
                    match encoder.flush().map(|()| encoder.take(1)) {
                        Ok(piece) if piece.is_empty() => return Poll::Pending,
                        flushed => flushed,
                    }
                }
            };
            match piece {
                Ok(piece) if piece.is_empty() => {}
                Ok(piece) => return Poll::Ready(Some(Ok(Frame::data(piece.into())))),
                Err(error) => {
                    tracing::error!(%error, "a response cannot be compressed");
                    self.encoder = None;
                    return Poll::Ready(Some(Err(AbortReason::CompressionFailed)));
                }
            }
        }
    }

    fn finish(&mut self) -> std::io::Result<Vec<u8>> {
        self.encoder.take().map_or_else(|| Ok(Vec::new()), Encoder::finish)
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.encoder.is_none() && self.trailers.is_none()
    }
}

/// Compresses into memory. Levels and windows are moderate, for each response has an encoder of its own: some
/// 0.3 MiB for gzip, 1 to 2 MiB for the others.
enum Encoder {
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    const BROTLI_LEVEL: u32 = 4;
    const GZIP_LEVEL: u32 = 5;
    const ZSTD_LEVEL: i32 = 3;
    /// The window of Brotli and Zstandard, in bits.
    const WINDOW_BITS: u32 = 18;

    fn new(coding: ContentCoding) -> std::io::Result<Encoder> {
        Ok(match coding {
            ContentCoding::Brotli => Encoder::Brotli(Box::new(brotli::CompressorWriter::new(
                Vec::new(),
                PIECE_BYTES,
                Encoder::BROTLI_LEVEL,
                Encoder::WINDOW_BITS,
            ))),
            ContentCoding::Gzip => {
                Encoder::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(Encoder::GZIP_LEVEL)))
            }
            ContentCoding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), Encoder::ZSTD_LEVEL)?;
                encoder.window_log(Encoder::WINDOW_BITS)?;
                Encoder::Zstd(encoder)
            }
        })
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Encoder::Brotli(encoder) => encoder,
            Encoder::Gzip(encoder) => encoder,
            Encoder::Zstd(encoder) => encoder,
        }
    }

    fn write(&mut self, data: &[u8]) -> std::io::Result<()> {
        self.writer().write_all(data)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.writer().flush()
    }

    /// Takes what has been compressed, if that is at least so many bytes.
    fn take(&mut self, at_least: usize) -> Vec<u8> {
        let compressed = match self {
            Encoder::Brotli(encoder) => encoder.get_mut(),
            Encoder::Gzip(encoder) => encoder.get_mut(),
            Encoder::Zstd(encoder) => encoder.get_mut(),
        };
        if compressed.len() < at_least { Vec::new() } else { std::mem::take(compressed) }
    }

    /// Compresses content that is there as a whole.
    fn compress(mut self, content: &[u8]) -> Vec<u8> {
        // Writing to a vector does not fail.
        self.write(content).and_then(|()| self.finish()).unwrap_or_default()
    }

    /// Ends the content, and returns the rest of it.
    fn finish(self) -> std::io::Result<Vec<u8>> {
        match self {
            Encoder::Brotli(encoder) => Ok(encoder.into_inner()),
            Encoder::Gzip(encoder) => encoder.finish(),
            Encoder::Zstd(encoder) => encoder.finish(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
