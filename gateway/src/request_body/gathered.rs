//! A request body that is received whole before its upstream gets a byte of it: in memory, and beyond that in a temporary file
//! without a name, which is gone with the request.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::Body as _;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncSeekExt, AsyncWriteExt, ReadBuf};

use super::RequestBody;
use crate::http1::BodyError;

/// So much of a body stays in memory, in bytes.
const MEMORY: usize = 64 * 1024;
/// What is read from the file at once, in bytes.
const READ_SIZE: usize = 64 * 1024;

/// A gathered body, as far as it is not consumed.
#[derive(Debug, Default)]
pub(super) struct GatheredBody {
    /// The chunk that is returned next.
    pub(super) piece: Bytes,
    /// What follows it.
    file: Option<File>,
    /// Bytes of the file that were not read.
    in_file: u64,
}

impl GatheredBody {
    /// Receives `body` to its end.
    ///
    /// # Errors
    ///
    /// As [`RequestBody::poll_fill`], or the temporary file cannot be written.
    pub(super) async fn gather(body: &mut RequestBody) -> Result<GatheredBody, BodyError> {
        let (mut memory, mut file, mut in_file) = (Vec::new(), None, 0);
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            let Ok(piece) = frame?.into_data() else { continue };
            if file.is_none() && memory.len() + piece.len() <= MEMORY {
                memory.extend_from_slice(&piece);
                continue;
            }
            if file.is_none() {
                file = Some(temporary_file().await.map_err(BodyError::Storage)?);
            }
            if let Some(file) = &mut file {
                file.write_all(&piece).await.map_err(BodyError::Storage)?;
                in_file += piece.len() as u64;
            }
        }
        if let Some(file) = &mut file {
            file.rewind().await.map_err(BodyError::Storage)?;
        }
        Ok(GatheredBody { piece: memory.into(), file, in_file })
    }

    /// Bytes that are left.
    pub(super) fn len(&self) -> u64 {
        self.piece.len() as u64 + self.in_file
    }

    /// Fills `piece`, unless it has something or nothing is left.
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let Some(file) = self.file.as_mut().filter(|_| !self.piece.has_remaining() && self.in_file > 0)
        else {
            return Poll::Ready(Ok(()));
        };
        let mut bytes = vec![0; READ_SIZE];
        let mut buffer = ReadBuf::new(&mut bytes);
        ready!(Pin::new(file).poll_read(cx, &mut buffer)).map_err(BodyError::Storage)?;
        let read = buffer.filled().len();
        if read == 0 {
            return Poll::Ready(Err(BodyError::Storage(io::ErrorKind::UnexpectedEof.into())));
        }
        bytes.truncate(read);
        self.in_file = self.in_file.saturating_sub(read as u64);
        self.piece = bytes.into();
        Poll::Ready(Ok(()))
    }
}

async fn temporary_file() -> io::Result<File> {
    let made = tokio::task::spawn_blocking(tempfile::tempfile).await;
    made.map_err(io::Error::other)?.map(File::from_std)
}
