//! Response body of a static file, from memory or streamed from the file, of known length.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tower_http::services::fs::ServeFileSystemResponseBody;

/// A body of known length. A file that grows meanwhile is truncated at that length; one that shrinks is an
/// error.
pub(crate) struct StaticBody {
    source: Source,
    left: u64,
}

enum Source {
    Memory(Bytes),
    File(Box<ServeFileSystemResponseBody>),
}

impl StaticBody {
    pub(super) fn empty() -> StaticBody {
        StaticBody::memory(Bytes::new())
    }

    pub(super) fn memory(bytes: Bytes) -> StaticBody {
        StaticBody { left: bytes.len() as u64, source: Source::Memory(bytes) }
    }

    pub(super) fn file(file: ServeFileSystemResponseBody, len: u64) -> StaticBody {
        StaticBody { source: Source::File(Box::new(file)), left: len }
    }
}

impl std::fmt::Debug for StaticBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StaticBody").field("left", &self.left).finish_non_exhaustive()
    }
}

impl Body for StaticBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let mut data = match &mut self.source {
            Source::Memory(bytes) => std::mem::take(bytes),
            Source::File(file) => match ready!(Pin::new(file).poll_frame(cx)) {
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => Bytes::new(),
            },
        };
        if data.is_empty() {
            self.left = 0;
            let error =
                io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was sent");
            return Poll::Ready(Some(Err(error)));
        }
        data.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= data.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
