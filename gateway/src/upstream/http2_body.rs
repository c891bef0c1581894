//! Response body of an HTTP/2 exchange, with trailers.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::http2::StreamLease;
use super::pool::PoolPermit;
use crate::http1::{BodyError, BodyFraming, HeaderKind, ResponseHead};
use crate::net::Deadline;

/// The body of a response. Dropped before its end, it cancels the request (RST_STREAM).
#[derive(Debug)]
pub(crate) struct Http2Body {
    /// Counts the request against its server for as long as it lasts.
    pub(super) _permit: PoolPermit,
    /// Counts it against its connection.
    pub(super) _lease: StreamLease,
    pub(super) head: ResponseHead,
    pub(super) framing: BodyFraming,
    pub(super) incoming: Incoming,
    pub(super) deadline: Deadline,
    /// Idle timeout of the body, and deadline of the whole body.
    pub(super) timeout: Duration,
    pub(super) ends_at: Option<Instant>,
}

impl Http2Body {
    pub(super) fn head(&self) -> &ResponseHead {
        &self.head
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.deadline.clear();
                Poll::Ready(frame.map(|frame| match frame {
                    Ok(mut frame) => {
                        if let Some(trailers) = frame.trailers_mut() {
                            clean_trailers(trailers);
                        }
                        Ok(frame)
                    }
                    Err(_) => Err(BodyError::Truncated),
                }))
            }
            Poll::Pending => {
                let mut timeout = self.timeout;
                if let Some(ends_at) = self.ends_at {
                    timeout = timeout.min(ends_at.saturating_duration_since(Instant::now()));
                }
                ready!(self.deadline.poll_within(cx, timeout));
                Poll::Ready(Some(Err(BodyError::TimedOut)))
            }
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match self.framing {
            BodyFraming::Length(_) => self.incoming.size_hint(),
            _ => SizeHint::default(),
        }
    }
}

/// Removes trailers with a meaning to a proxy; only end-to-end fields are forwarded.
fn clean_trailers(trailers: &mut HeaderMap) {
    let dropped: Vec<HeaderName> = trailers
        .keys()
        .filter(|name| HeaderKind::of(name.as_str().as_bytes()) != HeaderKind::Other)
        .cloned()
        .collect();
    for name in dropped {
        trailers.remove(name);
    }
}
