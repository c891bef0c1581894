//! Response bodies from upstreams, over HTTP/1.1 or HTTP/2.

use std::sync::LazyLock;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use super::http1_body::Http1Body;
use super::http2_body::Http2Body;
use crate::http1::{BodyError, ResponseHead};
use crate::telemetry::AbortReason;

/// The body of a response, still on its connection.
#[derive(Debug)]
pub(crate) enum UpstreamBody {
    Http1(Box<Http1Body>),
    Http2(Box<Http2Body>),
}

impl UpstreamBody {
    /// The response's head; valid only before the first chunk was taken.
    pub(crate) fn head(&self) -> &ResponseHead {
        match self {
            UpstreamBody::Http1(body) => body.head(),
            UpstreamBody::Http2(body) => body.head(),
        }
    }

    /// The whole body, if it has arrived together with the head; its connection is released then.
    pub(crate) fn take_complete(&mut self, now: Instant) -> Option<Bytes> {
        match self {
            UpstreamBody::Http1(body) => body.take_complete(now),
            UpstreamBody::Http2(_) => None,
        }
    }

    /// Releases the connection of a response without a body.
    pub(crate) fn finish(&mut self, now: Instant) {
        if let UpstreamBody::Http1(body) = self {
            body.finish(now);
        }
    }

    /// The next frame: data, or trailers, which are forwarded only from HTTP/2.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AbortReason>>> {
        match self {
            UpstreamBody::Http1(body) => {
                body.poll_piece(cx).map(|piece| piece.map(|piece| piece.map(Frame::data).map_err(aborted)))
            }
            UpstreamBody::Http2(body) => {
                body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(aborted)))
            }
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        match self {
            UpstreamBody::Http1(body) => body.is_end_stream(),
            UpstreamBody::Http2(body) => body.is_end_stream(),
        }
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match self {
            UpstreamBody::Http1(body) => body.size_hint(),
            UpstreamBody::Http2(body) => body.size_hint(),
        }
    }
}

fn aborted(error: BodyError) -> AbortReason {
    tracing::debug!(%error, "an upstream's response was cut short");
    match error {
        BodyError::TimedOut => AbortReason::UpstreamTimeout,
        BodyError::Malformed => AbortReason::UpstreamMalformed,
        _ => AbortReason::UpstreamClosed,
    }
}

/// The head after its connection was released.
pub(super) fn no_head() -> &'static ResponseHead {
    static EMPTY: LazyLock<ResponseHead> = LazyLock::new(ResponseHead::default);
    &EMPTY
}
