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
#[derive(Debug, Default)]
pub(crate) struct RequestBody {
    content: Content,
    /// The remaining size limit, in bytes.
    allowed: Option<u64>,
    /// What comes first as frames: pieces that a server did not process, in reverse order.
    replay: Vec<Bytes>,
}

/// Where the bytes come from.
#[derive(Debug, Default)]
enum Content {
    #[default]
    Empty,
    Incoming(Box<Source>),
    /// It was received whole.
    Gathered(Box<GatheredBody>),
}

#[derive(Debug)]
struct Source {
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
        let source = Source {
            incoming,
            framing,
            piece: Bytes::new(),
            deadline: Deadline::default(),
            timeout,
            discard: None,
            stream,
            expects_continue: false,
            ended: false,
        };
        RequestBody::of(Content::Incoming(Box::new(source)))
    }

    fn of(content: Content) -> RequestBody {
        RequestBody { content, allowed: None, replay: Vec::new() }
    }

    /// Marks that the client waits for `100 Continue` before it sends.
    pub(crate) fn set_expects_continue(&mut self) {
        if let Content::Incoming(source) = &mut self.content {
            source.expects_continue = true;
        }
    }

    /// Sets the timeout of each read.
    pub(crate) fn set_timeout(&mut self, timeout: Duration) {
        if let Content::Incoming(source) = &mut self.content {
            source.timeout = timeout;
        }
    }

    /// Has what is left be read for so long when this is dropped: over HTTP/1.1 the next request stands behind it.
    pub(crate) fn discard_within(&mut self, time: Duration) {
        if let Content::Incoming(source) = &mut self.content {
            source.discard = Some(time);
        }
    }

    /// Sets the size limit in bytes; a longer body is an error.
    pub(crate) fn limit(&mut self, most: u64) {
        self.allowed = Some(most);
    }

    /// Puts pieces that were taken as frames in front of the rest.
    pub(crate) fn replay(&mut self, mut pieces: Vec<Bytes>) {
        pieces.reverse();
        self.replay.append(&mut pieces);
    }

    /// The framing of the body; HTTP/2 bodies without a length count as chunked.
    pub(crate) fn framing(&self) -> BodyFraming {
        match &self.content {
            Content::Gathered(gathered) if gathered.len() > 0 => BodyFraming::Length(gathered.len()),
            Content::Incoming(source) => source.framing,
            Content::Empty | Content::Gathered(_) => BodyFraming::Empty,
        }
    }

    /// The same body with a length, received whole within its limit.
    ///
    /// # Errors
    ///
    /// As [`Self::poll_fill`], or its temporary file cannot be written.
    pub(crate) async fn gather(mut self) -> Result<RequestBody, BodyError> {
        let gathered = GatheredBody::gather(&mut self).await?;
        Ok(RequestBody::of(Content::Gathered(Box::new(gathered))))
    }

    /// The next chunk; empty at the end. A chunk that is not [consumed](Self::consume) is returned again.
    ///
    /// # Errors
    ///
    /// The body is malformed, truncated, timed out or too large. It must not be read any further.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<&[u8], BodyError>> {
        let source = match &mut self.content {
            Content::Empty => return Poll::Ready(Ok(&[])),
            Content::Incoming(source) => source,
            Content::Gathered(gathered) => {
                ready!(gathered.poll_piece(cx))?;
                return Poll::Ready(Ok(&gathered.piece));
            }
        };
        match ready!(source.poll_piece(cx)) {
            Err(error) => Poll::Ready(Err(error)),
            Ok(()) if self.allowed.is_some_and(|allowed| source.piece.len() as u64 > allowed) => {
                source.ended = true;
                Poll::Ready(Err(BodyError::TooLarge))
            }
            Ok(()) => Poll::Ready(Ok(&source.piece)),
        }
    }

    /// Consumes `n` bytes of the last chunk.
    pub(crate) fn consume(&mut self, n: usize) {
        match &mut self.content {
            Content::Empty => {}
            Content::Incoming(source) => source.piece.advance(n),
            Content::Gathered(gathered) => gathered.piece.advance(n),
        }
        if let Some(allowed) = &mut self.allowed {
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

impl Source {
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
    async fn discard_body(mut self: Box<Self>, linger: Linger) {
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
        let Content::Incoming(source) = std::mem::take(&mut self.content) else { return };
        let Some(time) = source.discard else { return };
        let linger = Linger::for_upload(time);
        let too_long = matches!(source.framing, BodyFraming::Length(n) if n > linger.bytes);
        // A client that waits for 100 Continue sends nothing; reading would ask it to.
        if !source.ended && !source.expects_continue && !too_long {
            tokio::task::spawn_local(source.discard_body(linger));
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
        if let Some(piece) = self.replay.pop() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let n = match ready!(self.poll_fill(cx)) {
            Ok(piece) => piece.len(),
            Err(error) => return Poll::Ready(Some(Err(error))),
        };
        let piece = match &self.content {
            Content::Empty => return Poll::Ready(None),
            Content::Incoming(source) => source.piece.slice(..n),
            Content::Gathered(gathered) => gathered.piece.slice(..n),
        };
        self.consume(n);
        Poll::Ready((n > 0).then(|| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.replay.is_empty()
            && match &self.content {
                Content::Empty => true,
                Content::Incoming(source) => source.piece.is_empty() && source.incoming.is_end_stream(),
                Content::Gathered(gathered) => gathered.len() == 0,
            }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Incoming(source) => match source.framing {
                BodyFraming::Length(_) if self.replay.is_empty() => source.incoming.size_hint(),
                _ => SizeHint::default(),
            },
            Content::Gathered(gathered) => {
                let replayed: usize = self.replay.iter().map(Bytes::len).sum();
                SizeHint::with_exact(gathered.len() + replayed as u64)
            }
        }
    }
}
