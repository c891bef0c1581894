//! A response body on a connection of HTTP/1.1.

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use crate::http1::{BodyError, BodyReader, ResponseHead};
use crate::upstream::pool::{Lease, UpstreamPool};
use crate::upstream::request_body_forwarder::Upload;

/// The body of a response, still on its connection. At its end the connection goes back to the pool; dropped before
/// that, the connection is closed.
#[derive(Debug)]
pub(crate) struct Http1Body<'c> {
    pub(crate) pool: Rc<UpstreamPool>,
    pub(crate) lease: Lease,
    pub(crate) reader: BodyReader,
    /// The request body, where the upstream answers before it has all of it.
    pub(crate) upload: Option<Box<Upload<'c>>>,
    /// Whether the connection may carry another request.
    pub(crate) reusable: bool,
    /// How long it may rest.
    pub(crate) patience: Duration,
    /// When all of it has to be here, if that was said.
    pub(crate) ends_at: Option<Instant>,
}

impl Http1Body<'_> {
    /// The head that came before this body.
    pub(crate) fn head(&self) -> &ResponseHead {
        &self.lease.connection.head
    }

    /// The piece that arrived together with what was read before; empty if there is none yet.
    pub(crate) fn buffered(&mut self) -> Result<&[u8], BodyError> {
        self.reader.buffered(&mut self.lease.connection.input)
    }

    /// The next piece; empty at the end.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<&[u8], BodyError>> {
        self.poll_upload(cx);
        let connection = &mut *self.lease.connection;
        match self.reader.poll_fill(cx, &connection.socket, &mut connection.input) {
            Poll::Ready(piece) => {
                connection.deadline.clear();
                Poll::Ready(piece)
            }
            Poll::Pending => {
                let mut patience = self.patience;
                if let Some(ends_at) = self.ends_at {
                    patience = patience.min(ends_at.saturating_duration_since(Instant::now()));
                }
                connection.deadline.poll_within(cx, patience).map(|()| Err(BodyError::TimedOut))
            }
        }
    }

    /// Takes `n` bytes of what was given last.
    pub(crate) fn consume(&mut self, n: usize) {
        self.reader.consume(&mut self.lease.connection.input, n);
    }

    /// Whether all of it was consumed. Looks at what has been read already, so that a last chunk that came with its
    /// data counts.
    pub(crate) fn is_complete(&mut self) -> bool {
        self.buffered().is_ok_and(<[u8]>::is_empty) && self.reader.is_complete()
    }

    /// Lets the rest of the request body flow while the response is under way.
    pub(crate) fn poll_upload(&mut self, cx: &mut Context<'_>) {
        if let Some(upload) = &mut self.upload
            && let Poll::Ready(result) = upload.poll(cx, &self.lease.connection.socket)
        {
            // The response stands whatever becomes of the rest; only the connection cannot be used again.
            self.reusable &= result.is_ok();
            self.upload = None;
        }
    }

    /// Hands the connection back if request and response are both complete and nothing else is on it.
    pub(crate) fn finish(mut self, now: Instant) {
        let complete = self.is_complete() && self.upload.is_none() && self.reusable;
        let Lease { connection, place, .. } = self.lease;
        if complete && connection.input.filled().is_empty() {
            self.pool.give_back(connection, &place.server, now);
        }
    }
}
