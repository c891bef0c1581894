//! Responses on their way out: an `http::Response` with a body from memory, a file or an upstream.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::http1::split_lines;
use crate::services::static_files::StaticBody;
use crate::telemetry::AbortReason;
use crate::upstream::UpstreamBody;

/// A response of the stack.
pub(crate) type Response = http::Response<Body>;

/// Where a response's body comes from.
#[derive(Debug, Default)]
pub(crate) enum Body {
    #[default]
    Empty,
    Bytes(Bytes),
    File(Box<StaticBody>),
    Upstream(Box<UpstreamBody>),
}

/// A response without a body.
pub(crate) fn empty(status: StatusCode) -> Response {
    let mut response = http::Response::new(Body::Empty);
    *response.status_mut() = status;
    response
}

/// A response whose body is JSON.
pub(crate) fn json(status: StatusCode, body: &impl serde::Serialize) -> Response {
    // The bodies are our own plain structs: writing them cannot fail.
    let bytes = serde_json::to_vec(body).unwrap_or_default();
    let mut response = http::Response::new(Body::Bytes(bytes.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Marks a response that carries or refuses a token: no cache may keep it (RFC 6749 section 5.1).
pub(crate) fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A field's value from text that the gateway made itself; control bytes, which would end the field, become spaces.
pub(crate) fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| {
        let clean: Vec<u8> =
            text.bytes().map(|b| if b == b'\t' || b >= b' ' && b != 0x7f { b } else { b' ' }).collect();
        HeaderValue::from_bytes(&clean).unwrap_or_else(|_| HeaderValue::from_static(""))
    })
}

/// Adds fields that stand ready as lines, each `Name: value` with its CRLF.
pub(crate) fn append_lines(response: &mut Response, lines: &[u8]) {
    for (name, value) in split_lines(lines) {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            response.headers_mut().append(name, value);
        }
    }
}

/// Why a body ended before its end: for the access log, and as the error that makes hyper cut the response.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct AbortedBody {
    pub(crate) reason: AbortReason,
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = AbortedBody;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AbortedBody>>> {
        match &mut *self {
            Body::Empty => Poll::Ready(None),
            Body::Bytes(bytes) => {
                let all = std::mem::take(bytes);
                Poll::Ready((!all.is_empty()).then(|| Ok(Frame::data(all))))
            }
            Body::File(file) => Pin::new(&mut **file).poll_frame(cx).map_err(|error| {
                tracing::warn!(%error, "a static file could not be read to its end");
                AbortedBody { reason: AbortReason::FileError }
            }),
            Body::Upstream(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Empty => true,
            Body::Bytes(bytes) => bytes.is_empty(),
            Body::File(file) => file.is_end_stream(),
            Body::Upstream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Empty => SizeHint::with_exact(0),
            Body::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Body::File(file) => file.size_hint(),
            Body::Upstream(body) => body.size_hint(),
        }
    }
}
