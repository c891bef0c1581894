//! The bytes read from a socket and not yet used.

use bytes::Bytes;

/// Pieces of a body from this size on are handed on without a copy.
const COPY_THRESHOLD_BYTES: usize = 16 * 1024;

/// A read buffer; it allocates with the first read.
#[derive(Debug, Default)]
pub(crate) struct ReadBuffer {
    bytes: Vec<u8>,
    used: usize,
}

impl ReadBuffer {
    /// What has been read and not consumed.
    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[self.used..]
    }

    /// Forgets the first `n` bytes.
    pub(crate) fn consume(&mut self, n: usize) {
        self.used += n;
        debug_assert!(self.used <= self.bytes.len());
        if self.used == self.bytes.len() {
            self.bytes.clear();
            self.used = 0;
        }
    }

    /// Takes the first `n` bytes out. Many bytes that are all there is leave with their memory instead of being copied.
    pub(crate) fn take(&mut self, n: usize) -> Bytes {
        if self.used == 0 && n == self.bytes.len() && n >= COPY_THRESHOLD_BYTES {
            return std::mem::take(&mut self.bytes).into();
        }
        let piece = Bytes::copy_from_slice(&self.filled()[..n]);
        self.consume(n);
        piece
    }

    /// Gives memory back that is more than `usual` bytes, if nothing is in it.
    pub(crate) fn trim(&mut self, usual: usize) {
        if self.bytes.is_empty() && self.bytes.capacity() > usual {
            self.bytes = Vec::new();
        }
    }

    /// Makes room for a read of about `size` bytes and gives the vector to append to.
    pub(crate) fn room(&mut self, size: usize) -> &mut Vec<u8> {
        if self.bytes.capacity() - self.bytes.len() < size {
            self.bytes.drain(..self.used);
            self.used = 0;
            self.bytes.reserve(size);
        }
        &mut self.bytes
    }
}
