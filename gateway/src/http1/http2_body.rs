//! A request body on a stream of HTTP/2, taken at the pace of whoever wants it (RFC 9113 section 5.2).

use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::RecvStream;

use crate::http1::BodyError;

/// What is left of the body. What is consumed is granted to the client again, so a slow upstream slows the client down.
/// Trailers are not passed on.
#[derive(Debug)]
pub(crate) struct Http2Body {
    stream: RecvStream,
    piece: Bytes,
}

impl Http2Body {
    pub(crate) fn new(stream: RecvStream) -> Http2Body {
        Http2Body { stream, piece: Bytes::new() }
    }

    /// The next piece; empty at the end. That the length is the declared one is seen to by `h2`.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<&[u8], BodyError>> {
        while self.piece.is_empty() {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(_)) => return Poll::Ready(Err(BodyError::Truncated)),
                None => break,
            }
        }
        Poll::Ready(Ok(&self.piece))
    }

    pub(crate) fn consume(&mut self, n: usize) {
        self.piece.advance(n);
        if let Err(error) = self.stream.flow_control().release_capacity(n) {
            tracing::debug!(%error, "cannot grant a client of HTTP/2 more");
        }
    }
}
