//! The bytes read from a socket and not yet used.

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
