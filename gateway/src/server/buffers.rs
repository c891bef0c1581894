//! The memory that a connection needs while it talks, and only then.

use std::cell::RefCell;

use crate::http1::RequestHead;
use crate::net::ReadBuffer;

/// What a connection reads into and writes from.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    /// What was read and not yet used.
    pub(crate) input: ReadBuffer,
    /// The head in hand.
    pub(crate) head: RequestHead,
    /// The answer on its way out.
    pub(crate) out: Vec<u8>,
}

/// One worker's buffers. A connection takes some when bytes arrive and gives them back when it waits for the next request, so
/// that thousands of idle clients cost no buffers, and a few busy ones share those that the processor has at hand.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    #[expect(
        clippy::vec_box,
        reason = "taken and given back with each request: a pointer moves, not the buffers"
    )]
    spare: RefCell<Vec<Box<Buffers>>>,
}

/// So many are kept for later, and none that a long body has made larger than so many bytes.
const SPARE: usize = 64;
const USUAL: usize = 16 * 1024;

impl BufferPool {
    pub(crate) fn take(&self) -> Box<Buffers> {
        self.spare.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes buffers back in which nothing is left.
    pub(crate) fn give_back(&self, mut buffers: Box<Buffers>) {
        debug_assert!(buffers.input.filled().is_empty());
        buffers.input.trim(USUAL);
        let mut spare = self.spare.borrow_mut();
        if spare.len() < SPARE {
            spare.push(buffers);
        }
    }
}
