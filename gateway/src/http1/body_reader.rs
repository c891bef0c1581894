//! Body reader: pulls an HTTP/1.1 body off a socket on demand, one chunk at a time, in place.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::SizeHint;

use crate::http1::{BadChunk, BodyFraming, ChunkDecoder, Step};
use crate::net::{ReadBuffer, Socket};
use crate::request_body::BodyError;

/// Size of a read, in bytes: large enough that a long transfer costs few system calls.
const READ_SIZE: usize = 64 * 1024;
/// Size of a read when little is expected, in bytes.
const MIN_READ_BYTES: usize = 4 * 1024;

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

/// Read state of one body. The bytes stay in the connection's [`ReadBuffer`].
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

    /// Whether all of the body is in `buffer` contiguously; consumes nothing.
    pub(crate) fn is_whole(&self, buffer: &ReadBuffer) -> bool {
        matches!(self.decoder, Decoder::Length(left) if buffer.filled().len() as u64 >= left)
    }

    /// The remaining length, as far as it is known.
    pub(crate) fn size_hint(&self) -> SizeHint {
        match self.decoder {
            Decoder::Ended => SizeHint::with_exact(0),
            Decoder::Length(left) => SizeHint::with_exact(left),
            Decoder::Chunked(_) | Decoder::UntilClose => SizeHint::default(),
        }
    }

    /// The next chunk that is in `buffer` already; empty when reading is needed or the body is complete.
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

    /// The next chunk, read from `socket` if needed; empty at the end.
    pub(crate) fn poll_fill<'b>(
        &mut self,
        cx: &mut Context<'_>,
        socket: &Socket,
        buffer: &'b mut ReadBuffer,
    ) -> Poll<Result<&'b [u8], BodyError>> {
        while self.buffered(buffer)?.is_empty() && !self.is_complete() {
            let size = match self.decoder {
                Decoder::Length(left) => (left as usize).clamp(MIN_READ_BYTES, READ_SIZE),
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

    /// Removes the last chunk from the buffer.
    pub(crate) fn take(&mut self, buffer: &mut ReadBuffer) -> Bytes {
        let n = std::mem::take(&mut self.available);
        self.count(n);
        buffer.take(n)
    }

    fn count(&mut self, n: usize) {
        if let Decoder::Length(left) = &mut self.decoder {
            *left -= n as u64;
            if *left == 0 {
                self.decoder = Decoder::Ended;
            }
        }
    }
}
