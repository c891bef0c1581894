//! A read buffer: bytes that were read from a socket and not yet consumed.

use bytes::Bytes;

/// Body chunks of at least this many bytes are handed on without a copy.
const COPY_THRESHOLD_BYTES: usize = 16 * 1024;

/// A growable read buffer; it allocates with the first read.
#[derive(Debug, Default)]
pub(crate) struct ReadBuffer {
    bytes: Vec<u8>,
    used: usize,
}

impl ReadBuffer {
    /// The bytes that were read and not consumed.
    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[self.used..]
    }

    /// Discards the first `n` bytes.
    pub(crate) fn consume(&mut self, n: usize) {
        self.used += n;
        debug_assert!(self.used <= self.bytes.len());
        if self.used == self.bytes.len() {
            self.bytes.clear();
            self.used = 0;
        }
    }

    /// Removes and returns the first `n` bytes. A large buffer that is returned whole gives its allocation
    /// away instead of being copied.
    pub(crate) fn take(&mut self, n: usize) -> Bytes {
        if self.used == 0 && n == self.bytes.len() && n >= COPY_THRESHOLD_BYTES {
            return std::mem::take(&mut self.bytes).into();
        }
        let piece = Bytes::copy_from_slice(&self.filled()[..n]);
        self.consume(n);
        piece
    }

    /// Frees an empty buffer whose capacity exceeds `usual` bytes.
    pub(crate) fn trim(&mut self, usual: usize) {
        if self.bytes.is_empty() && self.bytes.capacity() > usual {
            self.bytes = Vec::new();
        }
    }

    /// Reserves room for a read of about `size` bytes and returns the vector to append to.
    pub(crate) fn room(&mut self, size: usize) -> &mut Vec<u8> {
        if self.bytes.capacity() - self.bytes.len() < size {
            self.bytes.drain(..self.used);
            self.used = 0;
            self.bytes.reserve(size);
        }
        &mut self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(bytes: &[u8]) -> ReadBuffer {
        let mut buffer = ReadBuffer::default();
        buffer.room(bytes.len()).extend_from_slice(bytes);
        buffer
    }

    #[test]
    fn what_is_consumed_or_taken_is_gone_and_the_rest_stays() {
        let mut buffer = filled(b"abcdef");
        buffer.consume(1);
        assert_eq!(buffer.take(2), "bc");
        assert_eq!(buffer.filled(), b"def");
        buffer.room(1 << 16).extend_from_slice(b"gh");
        assert_eq!(buffer.filled(), b"defgh", "room is made without losing what is there");
        buffer.consume(5);
        assert!(buffer.filled().is_empty());
    }

    #[test]
    fn a_large_whole_buffer_is_given_away_without_a_copy() {
        for (len, moved) in [(COPY_THRESHOLD_BYTES, true), (COPY_THRESHOLD_BYTES - 1, false)] {
            let mut buffer = filled(&vec![7; len]);
            let at = buffer.filled().as_ptr();
            assert_eq!(buffer.take(len).as_ptr() == at, moved, "{len}");
            assert!(buffer.filled().is_empty());
        }
    }

    #[test]
    fn only_an_empty_buffer_that_has_grown_is_freed() {
        for (bytes, usual, freed) in [(0, 16, true), (0, 1 << 20, false), (1, 16, false)] {
            let mut buffer = filled(&vec![0; 4096]);
            buffer.consume(4096 - bytes);
            buffer.trim(usual);
            assert_eq!(buffer.bytes.capacity() == 0, freed, "{bytes} left, {usual}");
        }
    }
}
