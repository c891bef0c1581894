//! Bidirectional copy of an upgraded connection (WebSocket), until one side closes, the idle timeout passes
//! or the session ends.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::net::{Deadline, ReadBuffer, Socket};
use crate::runtime::Worker;
use crate::stream_state::{StreamState, Tunnel, WATCH_INTERVAL};
use crate::telemetry::AbortReason;

/// Bytes per read.
const READ_SIZE: usize = 16 * 1024;
/// A direction that is idle keeps a buffer of at most this many bytes.
const IDLE_BUFFER_BYTES: usize = 0;

/// Why a tunnel ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TunnelEnd {
    #[error("both sides have ended it")]
    Finished,
    #[error("a side was lost: {0}")]
    Lost(#[from] io::Error),
    #[error("nothing came for too long")]
    Idle,
    #[error("it was cut: {0}")]
    Aborted(AbortReason),
}

/// Copies bytes between client and upstream in both directions; `early` is what the client sent before the
/// upgrade was confirmed. Returns the number of bytes that went to the client.
pub(crate) async fn copy_bidirectional(
    client: &Socket,
    early: &mut ReadBuffer,
    tunnel: Tunnel,
    stream: &StreamState,
    worker: &Worker,
    timeout: Duration,
) -> (u64, TunnelEnd) {
    let mut up = Direction::new(std::mem::take(early));
    let mut down = Direction::new(tunnel.input);
    let (mut quiet, mut watching) = (Deadline::default(), Deadline::default());
    let end = poll_fn(|cx| {
        while watching.poll_within(cx, WATCH_INTERVAL).is_ready() {
            watching.clear();
            if let Some(reason) = worker.watch(stream, timeout) {
                return Poll::Ready(TunnelEnd::Aborted(reason));
            }
        }
        let before = up.moved + down.moved;
        let both = [up.poll(cx, client, &tunnel.upstream), down.poll(cx, &tunnel.upstream, client)];
        if up.moved + down.moved > before {
            quiet.clear();
        }
        match both {
            [Poll::Ready(Err(error)), _] | [_, Poll::Ready(Err(error))] => {
                Poll::Ready(TunnelEnd::Lost(error))
            }
            [Poll::Ready(Ok(())), Poll::Ready(Ok(()))] => Poll::Ready(TunnelEnd::Finished),
            _ => quiet.poll_within(cx, timeout).map(|()| TunnelEnd::Idle),
        }
    })
    .await;
    (down.moved, end)
}

/// One of the two directions.
struct Direction {
    buffer: ReadBuffer,
    /// Bytes that were forwarded.
    moved: u64,
    source: Source,
}

/// State of a direction's source.
#[derive(PartialEq, Eq)]
enum Source {
    Open,
    /// The source has closed; the close is still to be forwarded.
    Ended,
    CloseForwarded,
}

impl Direction {
    fn new(buffer: ReadBuffer) -> Direction {
        Direction { buffer, moved: 0, source: Source::Open }
    }

    /// Forwards what is available. Ready once everything and the close were forwarded.
    fn poll(&mut self, cx: &mut Context<'_>, from: &Socket, to: &Socket) -> Poll<io::Result<()>> {
        loop {
            while !self.buffer.filled().is_empty() {
                match ready!(to.poll_write(cx, self.buffer.filled()))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    n => {
                        self.buffer.consume(n);
                        self.moved += n as u64;
                    }
                }
            }
            ready!(to.poll_flush(cx))?;
            match self.source {
                Source::Open => match from.poll_read(cx, &mut self.buffer, READ_SIZE) {
                    Poll::Ready(Ok(0)) => self.source = Source::Ended,
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {
                        self.buffer.trim(IDLE_BUFFER_BYTES);
                        return Poll::Pending;
                    }
                },
                Source::Ended => {
                    ready!(to.poll_end(cx))?;
                    self.source = Source::CloseForwarded;
                }
                Source::CloseForwarded => return Poll::Ready(Ok(())),
            }
        }
    }
}
