//! The request body: a stream pulled from hyper with backpressure, under size limits and timeouts.

mod gathered;

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

use gathered::GatheredBody;

use crate::http1::{BodyError, BodyFraming};
use crate::net::{Deadline, Linger};
use crate::stream_state::StreamState;

/// The body of the request in hand. Dropped before its end, the rest is read and thrown away (RFC 9112 section 9.3), so that a
/// client that sends all before it reads gets its response, and the connection can carry another request.
///
/// Boxed, for a request is moved from layer to layer; a request without a body has nothing to box.
#[derive(Debug, Default)]
pub(crate) struct RequestBody(Option<Box<Content>>);

#[derive(Debug)]
struct Content {
    source: Source,
    /// The remaining size limit, in bytes.
    allowed: Option<u64>,
    /// What comes first as frames: pieces that a server did not process, in reverse order.
    replay: Vec<Bytes>,
}

/// Where the bytes come from.
#[derive(Debug)]
enum Source {
    Incoming(IncomingBody),
    /// It was received whole.
    Gathered(GatheredBody),
}

#[derive(Debug)]
struct IncomingBody {
    incoming: hyper::body::Incoming,
    framing: BodyFraming,
    /// A chunk that was received from hyper and not consumed.
    piece: Bytes,
    deadline: Deadline,
    /// Timeout of one read.
    timeout: Duration,
    stream: Rc<StreamState>,
    /// The client waits for `100 Continue`, which hyper sends with the first read.
    expects_continue: bool,
    /// Read to its end, or not to be read any more.
    ended: bool,
    /// How long the rest is read and discarded.
    discard: Option<Duration>,
}

impl RequestBody {
    /// The body as hyper provides it. `timeout` applies to each read.
    pub(crate) fn new(
        incoming: hyper::body::Incoming,
        framing: BodyFraming,
        timeout: Duration,
        stream: Rc<StreamState>,
    ) -> RequestBody {
        if framing == BodyFraming::Empty {
            return RequestBody::default();
        }
        RequestBody::of(Source::Incoming(IncomingBody {
            incoming,
            framing,
            piece: Bytes::new(),
            deadline: Deadline::default(),
            timeout,
            discard: None,
            stream,
            expects_continue: false,
            ended: false,
        }))
    }

    fn of(source: Source) -> RequestBody {
        RequestBody(Some(Box::new(Content { source, allowed: None, replay: Vec::new() })))
    }

    fn incoming(&mut self) -> Option<&mut IncomingBody> {
        match &mut self.0.as_mut()?.source {
            Source::Incoming(incoming) => Some(incoming),
            Source::Gathered(_) => None,
        }
    }

    /// Marks that the client waits for `100 Continue` before it sends.
    pub(crate) fn set_expects_continue(&mut self) {
        if let Some(incoming) = self.incoming() {
            incoming.expects_continue = true;
        }
    }

    /// Sets the timeout of each read.
    pub(crate) fn set_timeout(&mut self, timeout: Duration) {
        if let Some(incoming) = self.incoming() {
            incoming.timeout = timeout;
        }
    }

    /// Has what is left be read for so long when this is dropped: over HTTP/1.1 the next request stands behind it.
    pub(crate) fn discard_within(&mut self, time: Duration) {
        if let Some(incoming) = self.incoming() {
            incoming.discard = Some(time);
        }
    }

    /// Sets the size limit in bytes; a longer body is an error.
    pub(crate) fn limit(&mut self, most: u64) {
        if let Some(content) = &mut self.0 {
            content.allowed = Some(most);
        }
    }

    /// Puts pieces that were taken as frames in front of the rest.
    pub(crate) fn replay(&mut self, mut pieces: Vec<Bytes>) {
        if let Some(content) = &mut self.0 {
            pieces.reverse();
            content.replay.append(&mut pieces);
        }
    }

    /// The framing of the body; HTTP/2 bodies without a length count as chunked.
    pub(crate) fn framing(&self) -> BodyFraming {
        match self.0.as_ref().map(|content| &content.source) {
            Some(Source::Incoming(incoming)) => incoming.framing,
            Some(Source::Gathered(gathered)) if gathered.len() > 0 => BodyFraming::Length(gathered.len()),
            Some(Source::Gathered(_)) | None => BodyFraming::Empty,
        }
    }

    /// The same body with a length, received whole within its limit.
    ///
    /// # Errors
    ///
    /// As [`Self::poll_fill`], or its temporary file cannot be written.
    pub(crate) async fn gather(mut self) -> Result<RequestBody, BodyError> {
        let gathered = GatheredBody::gather(&mut self).await?;
        Ok(RequestBody::of(Source::Gathered(gathered)))
    }

    /// The next chunk; empty at the end. A chunk that is not [consumed](Self::consume) is returned again.
    ///
    /// # Errors
    ///
    /// The body is malformed, truncated, timed out or too large. It must not be read any further.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<&[u8], BodyError>> {
        let Some(content) = self.0.as_deref_mut() else { return Poll::Ready(Ok(&[])) };
        let incoming = match &mut content.source {
            Source::Incoming(incoming) => incoming,
            Source::Gathered(gathered) => {
                ready!(gathered.poll_piece(cx))?;
                return Poll::Ready(Ok(&gathered.piece));
            }
        };
        match ready!(incoming.poll_piece(cx)) {
            Err(error) => Poll::Ready(Err(error)),
            Ok(()) if content.allowed.is_some_and(|allowed| incoming.piece.len() as u64 > allowed) => {
                incoming.ended = true;
                Poll::Ready(Err(BodyError::TooLarge))
            }
            Ok(()) => Poll::Ready(Ok(&incoming.piece)),
        }
    }

    /// Consumes `n` bytes of the last chunk.
    pub(crate) fn consume(&mut self, n: usize) {
        let Some(content) = &mut self.0 else { return };
        match &mut content.source {
            Source::Incoming(incoming) => incoming.piece.advance(n),
            Source::Gathered(gathered) => gathered.piece.advance(n),
        }
        if let Some(allowed) = &mut content.allowed {
            *allowed = allowed.saturating_sub(n as u64);
        }
    }

    /// The whole body, if it has at most `limit` bytes and is complete `within` that time.
    ///
    /// # Errors
    ///
    /// As [`Self::poll_fill`].
    pub(crate) async fn read_all(mut self, limit: usize, within: Duration) -> Result<Vec<u8>, BodyError> {
        if matches!(self.framing(), BodyFraming::Length(n) if n > limit as u64) {
            return Err(BodyError::TooLarge);
        }
        self.limit(limit as u64);
        let mut all = Vec::new();
        let reading = poll_fn(|cx| {
            loop {
                let piece = ready!(self.poll_fill(cx))?;
                if piece.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                all.extend_from_slice(piece);
                let n = piece.len();
                self.consume(n);
            }
        });
        tokio::time::timeout(within, reading).await.unwrap_or(Err(BodyError::TimedOut))?;
        Ok(all)
    }
}

impl IncomingBody {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        self.expects_continue = false;
        while self.piece.is_empty() && !self.ended {
            match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.deadline.clear();
                    // Trailers are dropped: few peers expect them, and they would bypass header edits.
                    self.piece = frame.into_data().unwrap_or_default();
                }
                Poll::Ready(Some(Err(_))) => {
                    self.ended = true;
                    let malformed = self.stream.body_malformed.get();
                    return Poll::Ready(Err(if malformed {
                        BodyError::Malformed
                    } else {
                        BodyError::Truncated
                    }));
                }
                Poll::Ready(None) => self.ended = true,
                Poll::Pending => {
                    ready!(self.deadline.poll_within(cx, self.timeout));
                    self.ended = true;
                    return Poll::Ready(Err(BodyError::TimedOut));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads and throws away what is left, within bounds.
    async fn discard_body(mut self, linger: Linger) {
        if self.stream.close.get() {
            // The connection is closed after the response.
            return;
        }
        let mut left = linger.bytes;
        self.timeout = linger.idle;
        self.deadline.clear();
        let reading = poll_fn(|cx| {
            while let Ok(()) = ready!(self.poll_piece(cx)) {
                left = left.saturating_sub(self.piece.len() as u64);
                if self.piece.is_empty() || left == 0 {
                    break;
                }
                self.piece.clear();
            }
            Poll::Ready(())
        });
        // Where it takes longer, hyper ends the connection after the response.
        let _ = tokio::time::timeout(linger.time, reading).await;
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(content) = self.0.take() else { return };
        let Source::Incoming(incoming) = content.source else { return };
        let Some(time) = incoming.discard else { return };
        let linger = Linger::for_upload(time);
        let too_long = matches!(incoming.framing, BodyFraming::Length(n) if n > linger.bytes);
        // A client that waits for 100 Continue sends nothing; reading would ask it to.
        if !incoming.ended && !incoming.expects_continue && !too_long {
            tokio::task::spawn_local(incoming.discard_body(linger));
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(content) = &mut self.0 else { return Poll::Ready(None) };
        if let Some(piece) = content.replay.pop() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let n = match ready!(self.poll_fill(cx)) {
            Ok(piece) => piece.len(),
            Err(error) => return Poll::Ready(Some(Err(error))),
        };
        let piece = match self.0.as_ref().map(|content| &content.source) {
            None => return Poll::Ready(None),
            Some(Source::Incoming(incoming)) => incoming.piece.slice(..n),
            Some(Source::Gathered(gathered)) => gathered.piece.slice(..n),
        };
        self.consume(n);
        Poll::Ready((n > 0).then(|| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        let Some(content) = &self.0 else { return true };
        content.replay.is_empty()
            && match &content.source {
                Source::Incoming(body) => body.piece.is_empty() && body.incoming.is_end_stream(),
                Source::Gathered(gathered) => gathered.len() == 0,
            }
    }

    fn size_hint(&self) -> SizeHint {
        let Some(content) = &self.0 else { return SizeHint::with_exact(0) };
        match &content.source {
            Source::Incoming(body) => match body.framing {
                BodyFraming::Length(_) if content.replay.is_empty() => body.incoming.size_hint(),
                _ => SizeHint::default(),
            },
            Source::Gathered(gathered) => {
                let replayed: usize = content.replay.iter().map(Bytes::len).sum();
                SizeHint::with_exact(gathered.len() + replayed as u64)
            }
        }
    }
}
