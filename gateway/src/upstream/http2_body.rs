//! A response body on a stream of HTTP/2, with the trailers that may follow it.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use h2::RecvStream;
use http::HeaderMap;
use tokio::time::Instant;

use crate::http1::{BodyError, FieldKind, ResponseHead};
use crate::net::Deadline;
use crate::upstream::http2::Http2Upload;
use crate::upstream::pool::Place;

/// The body of a response. Dropped before its end, it takes the request back (RST_STREAM).
#[derive(Debug)]
pub(crate) struct Http2Body<'c> {
    /// It counts as a request of its server as long as it lasts.
    _place: Place,
    head: ResponseHead,
    stream: RecvStream,
    piece: Bytes,
    trailers: Option<HeaderMap>,
    ended: bool,
    /// The request body, where the server answers before it has all of it.
    upload: Option<Http2Upload<'c>>,
    deadline: Deadline,
    /// How long it may rest, and when all of it has to be here.
    patience: Duration,
    ends_at: Option<Instant>,
}

impl<'c> Http2Body<'c> {
    pub(crate) fn new(
        place: Place,
        head: ResponseHead,
        stream: RecvStream,
        upload: Option<Http2Upload<'c>>,
        patience: Duration,
        ends_at: Option<Instant>,
    ) -> Http2Body<'c> {
        Http2Body {
            _place: place,
            head,
            stream,
            piece: Bytes::new(),
            trailers: None,
            ended: false,
            upload,
            deadline: Deadline::default(),
            patience,
            ends_at,
        }
    }

    pub(crate) fn head(&self) -> &ResponseHead {
        &self.head
    }

    /// What has been taken off the stream and not been consumed.
    pub(crate) fn buffered(&self) -> &[u8] {
        &self.piece
    }

    /// The next piece; empty at the end.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<&[u8], BodyError>> {
        self.poll_upload(cx);
        match self.poll_piece(cx) {
            Poll::Ready(arrived) => {
                self.deadline.clear();
                Poll::Ready(arrived.map(|()| &self.piece[..]))
            }
            Poll::Pending => {
                let mut patience = self.patience;
                if let Some(ends_at) = self.ends_at {
                    patience = patience.min(ends_at.saturating_duration_since(Instant::now()));
                }
                self.deadline.poll_within(cx, patience).map(|()| Err(BodyError::TimedOut))
            }
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        while self.piece.is_empty() && !self.ended {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(_)) => return Poll::Ready(Err(BodyError::Truncated)),
                None => {
                    let trailers = ready!(self.stream.poll_trailers(cx));
                    self.trailers = trailers.map_err(|_| BodyError::Truncated)?;
                    self.ended = true;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    pub(crate) fn consume(&mut self, n: usize) {
        self.piece.advance(n);
        if let Err(error) = self.stream.flow_control().release_capacity(n) {
            tracing::debug!(%error, "cannot grant an upstream more");
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.piece.is_empty() && (self.ended || self.stream.is_end_stream())
    }

    pub(crate) fn poll_upload(&mut self, cx: &mut Context<'_>) {
        if let Some(upload) = &mut self.upload
            && upload.poll(cx).is_ready()
        {
            // The response stands whatever becomes of the rest.
            self.upload = None;
        }
    }

    /// The trailers that came behind the body, once it is complete: end-to-end fields without a meaning of their own to
    /// a proxy.
    pub(crate) fn take_trailers(&mut self) -> Option<HeaderMap> {
        let mut trailers = self.trailers.take()?;
        let foreign: Vec<_> = trailers
            .keys()
            .filter(|name| {
                FieldKind::of(name.as_str().as_bytes()) != FieldKind::Other
                    || *name == http::header::SET_COOKIE
            })
            .cloned()
            .collect();
        for name in foreign {
            trailers.remove(name);
        }
        Some(trailers)
    }
}
