//! Decoder of the chunked transfer coding (RFC 9112 section 7.1), without copying.

/// The meaning of the bytes at the front of the buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// This many bytes of data.
    Data(usize),
    /// This many bytes of framing, to be skipped.
    Skip(usize),
    /// More input is needed.
    NeedMore,
    /// The body is complete.
    End,
}

/// Malformed chunked coding: an invalid or overflowing chunk size, a missing CRLF, or too much overhead.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadChunk;

/// Maximum of chunk extensions and trailers in one body, in bytes. They are dropped; more is an attack.
const MAX_OVERHEAD: usize = 16 * 1024;
/// Maximum length of a chunk-size line or trailer line, in bytes; a line is parsed as a whole.
const MAX_LINE: usize = 4 * 1024;

#[derive(Debug)]
enum State {
    Size,
    Data(u64),
    DataEnd,
    Trailer,
    End,
}

/// The decoder's state.
#[derive(Debug)]
pub(crate) struct ChunkDecoder {
    state: State,
    overhead: usize,
    /// Whether spaces may stand behind a size.
    spaces: bool,
}

impl ChunkDecoder {
    /// For requests: what two parsers could read differently is refused.
    pub(crate) fn new() -> ChunkDecoder {
        ChunkDecoder { state: State::Size, overhead: 0, spaces: false }
    }

    /// For responses: some apps pad a size with spaces (BWS, RFC 9112 section 7.1.1). They cannot mislead anybody, for the framing
    /// is written anew.
    pub(crate) fn of_response() -> ChunkDecoder {
        ChunkDecoder { spaces: true, ..ChunkDecoder::new() }
    }

    /// Decodes the bytes at the front; the caller consumes them and calls again.
    pub(crate) fn step(&mut self, input: &[u8]) -> Result<Step, BadChunk> {
        match self.state {
            State::Size => {
                let Some(line) = line(input)? else { return Ok(Step::NeedMore) };
                let size = chunk_size(line, self.spaces)?;
                self.count_overhead(line.len().saturating_sub(16))?;
                self.state = if size == 0 { State::Trailer } else { State::Data(size) };
                Ok(Step::Skip(line.len() + 2))
            }
            State::Data(left) => {
                let here = left.min(input.len() as u64);
                if here == 0 {
                    return Ok(Step::NeedMore);
                }
                self.state = if here == left { State::DataEnd } else { State::Data(left - here) };
                Ok(Step::Data(here as usize))
            }
            State::DataEnd => match input {
                [b'\r', b'\n', ..] => {
                    self.state = State::Size;
                    Ok(Step::Skip(2))
                }
                [] | [b'\r'] => Ok(Step::NeedMore),
                _ => Err(BadChunk),
            },
            State::Trailer => {
                let Some(line) = line(input)? else { return Ok(Step::NeedMore) };
                if line.is_empty() {
                    self.state = State::End;
                } else if !line.contains(&b':') || line.starts_with(b" ") || line.starts_with(b"\t") {
                    return Err(BadChunk);
                }
                self.count_overhead(line.len())?;
                Ok(Step::Skip(line.len() + 2))
            }
            State::End => Ok(Step::End),
        }
    }

    fn count_overhead(&mut self, bytes: usize) -> Result<(), BadChunk> {
        self.overhead += bytes;
        if self.overhead > MAX_OVERHEAD { Err(BadChunk) } else { Ok(()) }
    }
}

/// The first line without its CRLF, if it is complete. A bare LF or a bare CR is not a line end.
fn line(input: &[u8]) -> Result<Option<&[u8]>, BadChunk> {
    match memchr::memchr(b'\n', input) {
        Some(0) => Err(BadChunk),
        Some(end) if input[end - 1] != b'\r' || input[..end - 1].contains(&b'\r') => Err(BadChunk),
        Some(end) if end > MAX_LINE => Err(BadChunk),
        Some(end) => Ok(Some(&input[..end - 1])),
        None if input.len() > MAX_LINE => Err(BadChunk),
        None => Ok(None),
    }
}

/// `1*HEXDIG`, then nothing or an extension that starts with `;` and has no control bytes; between the two, `spaces` or tabs.
fn chunk_size(line: &[u8], spaces: bool) -> Result<u64, BadChunk> {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let (digits, rest) = line.split_at(digits);
    let padding = rest.iter().take_while(|&&b| spaces && (b == b' ' || b == b'\t')).count();
    let rest = &rest[padding..];
    let extension_ok = match rest {
        [] => true,
        [b';', extension @ ..] => {
            !extension.is_empty() && extension.iter().all(|&b| b == b'\t' || (b >= b' ' && b != 0x7f))
        }
        _ => false,
    };
    if digits.is_empty() || digits.len() > 15 || !extension_ok {
        return Err(BadChunk);
    }
    Ok(digits.iter().fold(0, |size, &d| size * 16 + u64::from((d as char).to_digit(16).unwrap_or(0))))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Decodes the whole of `input`, split into pieces of `piece` bytes.
    fn decode(input: &[u8], piece: usize) -> Result<Option<Vec<u8>>, BadChunk> {
        decode_with(ChunkDecoder::new(), input, piece)
    }

    fn decode_with(
        mut decoder: ChunkDecoder,
        input: &[u8],
        piece: usize,
    ) -> Result<Option<Vec<u8>>, BadChunk> {
        let (mut data, mut held) = (Vec::new(), Vec::new());
        for bytes in input.chunks(piece) {
            held.extend_from_slice(bytes);
            loop {
                match decoder.step(&held)? {
                    Step::Data(n) => data.extend(held.drain(..n)),
                    Step::Skip(n) => drop(held.drain(..n)),
                    Step::NeedMore => break,
                    Step::End => return Ok(Some(data)),
                }
            }
        }
        Ok(None)
    }

    #[test]
    fn bodies_decode_the_same_however_they_arrive() {
        let body = b"5\r\nhello\r\n6;name=value\r\n world\r\n0\r\nX-Trailer: 1\r\n\r\n";
        for piece in 1..body.len() {
            assert_eq!(decode(body, piece).unwrap().unwrap(), b"hello world", "piece {piece}");
        }
    }

    #[test]
    fn sizes_that_parsers_disagree_about_are_refused() {
        for bad in [
            "+5\r\nhello",
            "5g\r\nhello",
            "0x5\r\nhello",
            " 5\r\nhello",
            "5 \r\nhello",
            "\r\n",
            "5\nhello",
            "f0000000000000003\r\nabc",
            "-1\r\n",
            "5;\r\nhello",
            "5;\0\r\nhello",
            "5\r\nhelloX",
            "5\r\rhello\n",
            "0\r\nX\r\n\r\n",
        ] {
            assert_eq!(decode(bad.as_bytes(), 1024), Err(BadChunk), "{bad:?}");
        }
    }

    #[test]
    fn spaces_behind_a_size_are_taken_from_apps_and_refused_of_clients() {
        for size in ["5 ", "5\t", "5  \t ", "5 ;a=b", "00005 "] {
            let body = format!("{size}\r\nhello\r\n0 \r\n\r\n");
            for piece in [1, 3, 1024] {
                let decoded = decode_with(ChunkDecoder::of_response(), body.as_bytes(), piece);
                assert_eq!(decoded.unwrap().unwrap(), b"hello", "{size:?}");
                assert_eq!(decode(body.as_bytes(), piece), Err(BadChunk), "{size:?}");
            }
        }
        for bad in [" 5\r\nhello", "5 5\r\nhello", "5 x\r\nhello", " \r\nhello", "5\x0b\r\nhello"] {
            let decoded = decode_with(ChunkDecoder::of_response(), bad.as_bytes(), 1024);
            assert_eq!(decoded, Err(BadChunk), "{bad:?}");
        }
    }

    #[test]
    fn extensions_beyond_the_limit_are_refused() {
        let chunk = format!("1;{}\r\nx\r\n", "a".repeat(1024));
        assert_eq!(decode(chunk.repeat(17).as_bytes(), 4096), Err(BadChunk));
        assert_eq!(decode(&vec![b'a'; 5000], 4096), Err(BadChunk), "a size line without end");
    }
}
