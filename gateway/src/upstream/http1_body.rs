//! Response body of an HTTP/1.1 exchange.

use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::SizeHint;
use tokio::time::Instant;

use super::pool::{Lease, UpstreamPool};
use super::request_body_forwarder::Forwarding;
use crate::http1::{BodyError, BodyReader, ResponseHead};

/// The body of a response, still on its connection. At its end the connection returns to the pool; on an
/// earlier drop, the connection is closed.
#[derive(Debug)]
pub(crate) struct Http1Body {
    pub(super) pool: Rc<UpstreamPool>,
    /// `None` once it was released.
    pub(super) lease: Option<Lease>,
    pub(super) reader: BodyReader,
    /// The request body, where the upstream responds before it has received all of it.
    pub(super) forwarding: Option<Forwarding>,
    /// Whether the connection can be reused (keep-alive).
    pub(super) reusable: bool,
    /// Idle timeout of the body.
    pub(super) timeout: Duration,
    /// Deadline of the whole body, if there is one.
    pub(super) ends_at: Option<Instant>,
}

impl Http1Body {
    /// The response's head.
    pub(super) fn head(&self) -> &ResponseHead {
        match &self.lease {
            Some(lease) => &lease.connection.head,
            None => super::body::no_head(),
        }
    }

    /// The whole body, if it has arrived together with the head, by `now`.
    pub(super) fn take_complete(&mut self, now: Instant) -> Option<Bytes> {
        let lease = self.lease.as_mut()?;
        if !self.reader.is_whole(&lease.connection.input) {
            return None;
        }
        self.reader.buffered(&mut lease.connection.input).ok()?;
        let bytes = self.reader.take(&mut lease.connection.input);
        self.finish(now);
        Some(bytes)
    }

    /// The next chunk; `None` at the end.
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let Some(lease) = &mut self.lease else { return Poll::Ready(None) };
        let connection = &mut *lease.connection;
        match self.reader.poll_fill(cx, &connection.socket, &mut connection.input) {
            Poll::Ready(Ok(piece)) => {
                connection.deadline.clear();
                if piece.is_empty() {
                    self.finish(Instant::now());
                    return Poll::Ready(None);
                }
                let piece = self.reader.take(&mut connection.input);
                if self.is_complete() {
                    self.finish(Instant::now());
                }
                Poll::Ready(Some(Ok(piece)))
            }
            Poll::Ready(Err(error)) => {
                self.lease = None;
                Poll::Ready(Some(Err(error)))
            }
            Poll::Pending => {
                let mut timeout = self.timeout;
                if let Some(ends_at) = self.ends_at {
                    timeout = timeout.min(ends_at.saturating_duration_since(Instant::now()));
                }
                ready!(connection.deadline.poll_within(cx, timeout));
                self.lease = None;
                Poll::Ready(Some(Err(BodyError::TimedOut)))
            }
        }
    }

    /// Whether all of it was consumed. Considers what has been read already, so that a last chunk that
    /// arrived with its data counts.
    fn is_complete(&mut self) -> bool {
        let Some(lease) = &mut self.lease else { return true };
        self.reader.buffered(&mut lease.connection.input).is_ok_and(<[u8]>::is_empty)
            && self.reader.is_complete()
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.lease.is_none()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match self.lease {
            Some(_) => self.reader.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }

    /// Returns the connection to the pool if request and response are both complete and nothing else was
    /// received: unsolicited bytes would become the next client's response.
    pub(super) fn finish(&mut self, now: Instant) {
        let complete =
            self.is_complete() && self.reusable && self.forwarding.as_ref().is_none_or(Forwarding::is_done);
        let Some(Lease { connection, place, .. }) = self.lease.take() else { return };
        let is_bodiless = connection.is_bodiless;
        if !connection.input.filled().is_empty() {
            place.server.sends_stray_bytes.set(place.server.sends_stray_bytes.get() || is_bodiless);
        } else if complete && !(is_bodiless && place.server.sends_stray_bytes.get()) {
            self.pool.release(connection, &place.server, now);
        }
    }
}
