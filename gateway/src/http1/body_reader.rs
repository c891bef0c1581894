//! Bodies as they are pulled off a socket: one piece at a time, in place, only when someone wants it.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::http1::chunked::{BadChunk, ChunkDecoder, Step};
use crate::http1::{BodyFraming, Http2Body};
use crate::net::{Deadline, ReadBuffer, Socket};

/// What is read at once: large enough that a long transfer costs few system calls.
const READ_SIZE: usize = 64 * 1024;
/// What is read at once when little is expected.
const SMALL_READ: usize = 4 * 1024;

/// Why a body cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the chunked coding is malformed")]
    Malformed,
    #[error("the connection ended before the body did")]
    Truncated,
    #[error("no more of the body arrived in time")]
    TimedOut,
    #[error("the body is larger than allowed")]
    TooLarge,
    #[error("the session that it belongs to is over")]
    SessionEnded,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<BadChunk> for BodyError {
    fn from(_: BadChunk) -> BodyError {
        BodyError::Malformed
    }
}

#[derive(Debug)]
enum Decoder {
    Ended,
    Length(u64),
    Chunked(ChunkDecoder),
    UntilClose,
}

/// Where the reading of one body stands. The bytes themselves stay in the connection's [`ReadBuffer`].
#[derive(Debug)]
pub(crate) struct BodyReader {
    decoder: Decoder,
    available: usize,
}

impl BodyReader {
    pub(crate) fn new(framing: BodyFraming) -> BodyReader {
        let decoder = match framing {
            BodyFraming::Empty => Decoder::Ended,
            BodyFraming::Length(n) => Decoder::Length(n),
            BodyFraming::Chunked => Decoder::Chunked(ChunkDecoder::new()),
            BodyFraming::UntilClose => Decoder::UntilClose,
        };
        BodyReader { decoder, available: 0 }
    }

    /// Whether all of it was read and consumed.
    pub(crate) fn is_complete(&self) -> bool {
        matches!(self.decoder, Decoder::Ended)
    }

    /// The next piece of the body that is in `buffer` already; empty when reading is needed or the body is over.
    pub(crate) fn buffered<'b>(&mut self, buffer: &'b mut ReadBuffer) -> Result<&'b [u8], BodyError> {
        while self.available == 0 {
            let filled = buffer.filled();
            match &mut self.decoder {
                Decoder::Ended => break,
                Decoder::Length(left) => {
                    self.available = filled.len().min(usize::try_from(*left).unwrap_or(usize::MAX))
                }
                Decoder::UntilClose => self.available = filled.len(),
                Decoder::Chunked(decoder) => match decoder.step(filled)? {
                    Step::Data(n) => self.available = n,
                    Step::Skip(n) => {
                        buffer.consume(n);
                        continue;
                    }
                    Step::NeedMore => break,
                    Step::End => self.decoder = Decoder::Ended,
                },
            }
            if self.available == 0 {
                break;
            }
        }
        Ok(&buffer.filled()[..self.available])
    }

    /// The next piece of the body, read from `socket` if need be; empty at its end.
    pub(crate) fn poll_fill<'b>(
        &mut self,
        cx: &mut Context<'_>,
        socket: &Socket,
        buffer: &'b mut ReadBuffer,
    ) -> Poll<Result<&'b [u8], BodyError>> {
        while self.buffered(buffer)?.is_empty() && !self.is_complete() {
            let size = match self.decoder {
                Decoder::Length(left) => (left as usize).clamp(SMALL_READ, READ_SIZE),
                _ => READ_SIZE,
            };
            if ready!(socket.poll_read(cx, buffer, size))? == 0 {
                match self.decoder {
                    Decoder::UntilClose => self.decoder = Decoder::Ended,
                    _ => return Poll::Ready(Err(BodyError::Truncated)),
                }
            }
        }
        Poll::Ready(Ok(&buffer.filled()[..self.available]))
    }

    /// Takes `n` bytes of what was given last.
    pub(crate) fn consume(&mut self, buffer: &mut ReadBuffer, n: usize) {
        debug_assert!(n <= self.available);
        self.available -= n;
        buffer.consume(n);
        if let Decoder::Length(left) = &mut self.decoder {
            *left -= n as u64;
            if *left == 0 {
                self.decoder = Decoder::Ended;
            }
        }
    }
}

/// The body of the request in hand.
#[derive(Debug)]
pub(crate) struct RequestBody<'c> {
    framing: BodyFraming,
    source: Source<'c>,
    /// How long one read may take.
    patience: Duration,
    /// How many bytes may yet come.
    allowed: u64,
}

/// Where a request's body comes from.
#[derive(Debug)]
enum Source<'c> {
    Connection(ConnectionBody<'c>),
    Stream(Box<(Http2Body, Deadline)>),
}

/// What a body needs of its HTTP/1.1 connection.
#[derive(Debug)]
pub(crate) struct ConnectionBody<'c> {
    pub(crate) socket: &'c Socket,
    pub(crate) input: &'c mut ReadBuffer,
    pub(crate) reader: &'c mut BodyReader,
    pub(crate) deadline: &'c mut Deadline,
    /// Whether the client waits for `100 Continue` before it sends (RFC 9110 section 10.1.1). It is sent when the
    /// body is first wanted, so a request that is refused never gets one.
    pub(crate) awaits_continue: &'c mut bool,
}

impl ConnectionBody<'_> {
    fn poll_fill(&mut self, cx: &mut Context<'_>, patience: Duration) -> Poll<Result<&[u8], BodyError>> {
        if *self.awaits_continue {
            *self.awaits_continue = false;
            self.deadline.clear();
            // 25 bytes into an idle socket: they fit, or the connection is beyond help.
            ready!(self.socket.poll_write(cx, b"HTTP/1.1 100 Continue\r\n\r\n"))?;
        }
        match self.reader.poll_fill(cx, self.socket, self.input) {
            Poll::Ready(result) => {
                self.deadline.clear();
                Poll::Ready(result)
            }
            Poll::Pending => self.deadline.poll_within(cx, patience).map(|()| Err(BodyError::TimedOut)),
        }
    }
}

impl<'c> RequestBody<'c> {
    /// The body of a request of HTTP/1.1.
    pub(crate) fn of_connection(
        framing: BodyFraming,
        connection: ConnectionBody<'c>,
        patience: Duration,
    ) -> RequestBody<'c> {
        RequestBody { framing, source: Source::Connection(connection), patience, allowed: u64::MAX }
    }

    /// The body of a request of HTTP/2.
    pub(crate) fn of_stream(framing: BodyFraming, body: Http2Body, patience: Duration) -> RequestBody<'c> {
        RequestBody {
            framing,
            source: Source::Stream(Box::new((body, Deadline::default()))),
            patience,
            allowed: u64::MAX,
        }
    }

    /// The same body, an error if it has more than `most` bytes.
    pub(crate) fn limited(self, most: u64) -> RequestBody<'c> {
        RequestBody { allowed: most, ..self }
    }

    /// How it is framed; what is told of that in HTTP/2 is told in the terms of HTTP/1.1.
    pub(crate) fn framing(&self) -> BodyFraming {
        self.framing
    }

    /// The next piece; empty at the end.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<&[u8], BodyError>> {
        let allowed = self.allowed;
        let piece = self.poll_piece(cx);
        match piece {
            Poll::Ready(Ok(piece)) if piece.len() as u64 > allowed => Poll::Ready(Err(BodyError::TooLarge)),
            piece => piece,
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<&[u8], BodyError>> {
        match &mut self.source {
            Source::Connection(body) => body.poll_fill(cx, self.patience),
            Source::Stream(stream) => {
                let (body, deadline) = &mut **stream;
                match body.poll_fill(cx) {
                    Poll::Ready(piece) => {
                        deadline.clear();
                        Poll::Ready(piece)
                    }
                    Poll::Pending => {
                        deadline.poll_within(cx, self.patience).map(|()| Err(BodyError::TimedOut))
                    }
                }
            }
        }
    }

    pub(crate) fn consume(&mut self, n: usize) {
        self.allowed = self.allowed.saturating_sub(n as u64);
        match &mut self.source {
            Source::Connection(body) => body.reader.consume(body.input, n),
            Source::Stream(stream) => stream.0.consume(n),
        }
    }

    /// The whole body, if it has at most `limit` bytes and is complete `within` that time.
    pub(crate) async fn read_all(mut self, limit: usize, within: Duration) -> Result<Vec<u8>, BodyError> {
        if matches!(self.framing, BodyFraming::Length(n) if n > limit as u64) {
            return Err(BodyError::TooLarge);
        }
        let mut all = Vec::new();
        let reading = poll_fn(|cx| {
            loop {
                let piece = ready!(self.poll_fill(cx))?;
                if piece.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                if all.len() + piece.len() > limit {
                    return Poll::Ready(Err(BodyError::TooLarge));
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
