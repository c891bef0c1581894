//! Body reader: pulls an HTTP/1.1 body off a socket on demand, one chunk at a time, in place.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::SizeHint;

use crate::http1::{BadChunk, BodyFraming, ChunkDecoder, Step};
use crate::net::{ReadBuffer, Socket};

/// Size of a read, in bytes: large enough that a long transfer costs few system calls.
const READ_SIZE: usize = 64 * 1024;
/// Size of a read when little is expected, in bytes.
const MIN_READ_BYTES: usize = 4 * 1024;

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
    #[error("the temporary file of a body that is received whole: {0}")]
    Storage(io::Error),
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
            BodyFraming::Chunked => Decoder::Chunked(ChunkDecoder::of_response()),
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// What is read of a body that is all in the buffer, whether it ended, and what is left behind it.
    fn read(framing: BodyFraming, input: &str) -> Result<(String, bool, String), BodyError> {
        let (mut reader, mut buffer) = (BodyReader::new(framing), ReadBuffer::default());
        buffer.room(input.len()).extend_from_slice(input.as_bytes());
        let mut body = Vec::new();
        while !reader.buffered(&mut buffer)?.is_empty() {
            body.extend_from_slice(&reader.take(&mut buffer));
        }
        let rest = String::from_utf8_lossy(buffer.filled()).into_owned();
        Ok((String::from_utf8(body).unwrap(), reader.is_complete(), rest))
    }

    #[test]
    fn a_body_ends_where_its_framing_says_and_what_follows_stays() {
        for (framing, input, body, complete, rest) in [
            (BodyFraming::Empty, "next", "", true, "next"),
            (BodyFraming::Length(4), "bodynext", "body", true, "next"),
            (BodyFraming::Length(9), "body", "body", false, ""),
            (BodyFraming::UntilClose, "body", "body", false, ""),
            (BodyFraming::Chunked, "3\r\nbod\r\n1\r\ny\r\n0\r\n\r\nnext", "body", true, "next"),
            (BodyFraming::Chunked, "4\r\nbody\r\n", "body", false, ""),
        ] {
            let expected = (body.to_owned(), complete, rest.to_owned());
            assert_eq!(read(framing, input).unwrap(), expected, "{framing:?} {input:?}");
        }
        assert!(matches!(read(BodyFraming::Chunked, "x\r\n"), Err(BodyError::Malformed)));
    }

    #[test]
    fn a_whole_body_of_known_length_is_seen_before_it_is_taken() {
        let mut buffer = ReadBuffer::default();
        buffer.room(4).extend_from_slice(b"body");
        for (framing, whole, exact) in [
            (BodyFraming::Length(4), true, Some(4)),
            (BodyFraming::Length(5), false, Some(5)),
            (BodyFraming::Chunked, false, None),
            (BodyFraming::Empty, false, Some(0)),
        ] {
            let reader = BodyReader::new(framing);
            assert_eq!(reader.is_whole(&buffer), whole, "{framing:?}");
            assert_eq!(reader.size_hint().exact(), exact, "{framing:?}");
        }
    }
}
