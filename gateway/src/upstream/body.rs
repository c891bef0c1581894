//! A response body on its way from an upstream to the client, whatever it came over.

use std::task::{Context, Poll};

use http::HeaderMap;
use tokio::time::Instant;

use crate::http1::{BodyError, ResponseHead};
use crate::upstream::http1_body::Http1Body;
use crate::upstream::http2_body::Http2Body;

/// The body of a response, still on its connection.
///
/// Boxed, for on its way to the client an answer is moved a dozen times.
#[derive(Debug)]
pub(crate) enum UpstreamBody<'c> {
    Http1(Box<Http1Body<'c>>),
    Http2(Box<Http2Body<'c>>),
}

impl UpstreamBody<'_> {
    /// The head that came before this body.
    pub(crate) fn head(&self) -> &ResponseHead {
        match self {
            UpstreamBody::Http1(body) => body.head(),
            UpstreamBody::Http2(body) => body.head(),
        }
    }

    /// The piece that arrived together with what was read before; empty if there is none yet.
    pub(crate) fn buffered(&mut self) -> Result<&[u8], BodyError> {
        match self {
            UpstreamBody::Http1(body) => body.buffered(),
            UpstreamBody::Http2(body) => Ok(body.buffered()),
        }
    }

    /// The next piece; empty at the end.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<&[u8], BodyError>> {
        match self {
            UpstreamBody::Http1(body) => body.poll_fill(cx),
            UpstreamBody::Http2(body) => body.poll_fill(cx),
        }
    }

    /// Takes `n` bytes of what was given last.
    pub(crate) fn consume(&mut self, n: usize) {
        match self {
            UpstreamBody::Http1(body) => body.consume(n),
            UpstreamBody::Http2(body) => body.consume(n),
        }
    }

    /// Whether all of it was consumed. Looks at what has been read already, so that a last chunk that came with its
    /// data counts.
    pub(crate) fn is_complete(&mut self) -> bool {
        match self {
            UpstreamBody::Http1(body) => body.is_complete(),
            UpstreamBody::Http2(body) => body.is_complete(),
        }
    }

    /// Lets the rest of the request body flow while the response is under way.
    pub(crate) fn poll_upload(&mut self, cx: &mut Context<'_>) {
        match self {
            UpstreamBody::Http1(body) => body.poll_upload(cx),
            UpstreamBody::Http2(body) => body.poll_upload(cx),
        }
    }

    /// The trailers behind a body that is complete, which only HTTP/2 passes on.
    pub(crate) fn take_trailers(&mut self) -> Option<HeaderMap> {
        match self {
            UpstreamBody::Http1(_) => None,
            UpstreamBody::Http2(body) => body.take_trailers(),
        }
    }

    /// Gives back what can be used again.
    pub(crate) fn finish(self, now: Instant) {
        if let UpstreamBody::Http1(body) = self {
            body.finish(now);
        }
    }
}
