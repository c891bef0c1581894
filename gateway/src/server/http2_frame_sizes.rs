//! Sizes of HTTP/2 frames, checked below h2: it answers frames of a wrong size with PROTOCOL_ERROR, where RFC 9113 names
//! FRAME_SIZE_ERROR (section 4.2), and a window that is too large where it names FLOW_CONTROL_ERROR (section 6.5.2). Such a frame
//! becomes another one that h2 answers with that error. Either way the connection ends.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The connection preface of a client (RFC 9113 section 3.4), in bytes.
const PREFACE_LEN: usize = 24;
const HEADER_LEN: usize = 9;

const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_WINDOW: u32 = (1 << 31) - 1;

/// A socket whose frames from the client are checked.
pub(super) struct FrameSizes<S> {
    socket: S,
    frames: Frames,
}

impl<S> FrameSizes<S> {
    pub(super) fn new(socket: S) -> FrameSizes<S> {
        FrameSizes { socket, frames: Frames::default() }
    }
}

/// Where in the client's frames a read begins.
#[derive(Debug)]
struct Frames {
    /// Bytes up to the next frame header.
    skip: usize,
    header: [u8; HEADER_LEN],
    /// How much of the header has been read.
    read: usize,
    /// The connection ends at a frame that has been read.
    ended: bool,
}

impl Default for Frames {
    fn default() -> Frames {
        Frames { skip: PREFACE_LEN, header: [0; HEADER_LEN], read: 0, ended: false }
    }
}

impl Frames {
    /// Follows the frames in `bytes`, and changes one that ends the connection. A header that comes in two reads stays as it is.
    fn check(&mut self, bytes: &mut [u8]) {
        let mut at = 0;
        while at < bytes.len() && !self.ended {
            let skipped = self.skip.min(bytes.len() - at);
            (self.skip, at) = (self.skip - skipped, at + skipped);
            let here = (HEADER_LEN - self.read).min(bytes.len() - at);
            self.header[self.read..self.read + here].copy_from_slice(&bytes[at..at + here]);
            self.read += here;
            if self.read < HEADER_LEN {
                return;
            }
            self.read = 0;
            let [l0, l1, l2, kind, flags, ..] = self.header;
            self.skip = u32::from_be_bytes([0, l0, l1, l2]) as usize;
            if here == HEADER_LEN {
                let frame = &mut bytes[at..];
                self.ended = if is_wrong_size(kind, flags, self.skip) {
                    // Longer than any frame may be.
                    frame[..3].fill(0xff);
                    true
                } else {
                    kind == SETTINGS && replace_window(frame, self.skip)
                };
            }
            at += here;
        }
    }
}

/// Whether no frame of that type has this many bytes (RFC 9113 section 6).
fn is_wrong_size(kind: u8, flags: u8, length: usize) -> bool {
    match kind {
        PRIORITY => length != 5,
        RST_STREAM | WINDOW_UPDATE => length != 4,
        SETTINGS => !length.is_multiple_of(6) || flags & ACK != 0 && length > 0,
        PING => length != 8,
        GOAWAY => length < 8,
        _ => false,
    }
}

/// Whether SETTINGS have a window that is too large; then they become WINDOW_UPDATE with one.
fn replace_window(frame: &mut [u8], length: usize) -> bool {
    let Some(payload) = frame.get(HEADER_LEN..HEADER_LEN + length) else { return false };
    let is_too_large = |setting: &[u8]| {
        let (name, value) = setting.split_at(2);
        let value = value.iter().fold(0, |value, byte| value << 8 | u32::from(*byte));
        name == INITIAL_WINDOW_SIZE.to_be_bytes() && value > MAX_WINDOW
    };
    if !payload.chunks_exact(6).any(is_too_large) {
        return false;
    }
    frame[..HEADER_LEN].copy_from_slice(&[0, 0, 4, WINDOW_UPDATE, 0, 0, 0, 0, 0]);
    frame[HEADER_LEN..HEADER_LEN + 4].copy_from_slice(&MAX_WINDOW.to_be_bytes());
    true
}

impl<S: AsyncRead + Unpin> AsyncRead for FrameSizes<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buffer))?;
        self.frames.check(&mut buffer.filled_mut()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FrameSizes<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = payload.len() as u32;
        [&length.to_be_bytes()[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// What h2 reads, in pieces of that size.
    fn checked(frames: &[u8], size: usize) -> Vec<u8> {
        let mut sent = [&[b'p'; PREFACE_LEN][..], frames].concat();
        let mut state = Frames::default();
        sent.chunks_mut(size).for_each(|piece| state.check(piece));
        sent.split_off(PREFACE_LEN)
    }

    #[test]
    fn right_frames_pass_unchanged_however_they_are_cut() {
        let settings = [&[0, 4, 0x7f, 0xff, 0xff, 0xff][..], &[0, 5, 0, 0, 0x40, 0]].concat();
        let frames = [
            frame(SETTINGS, 0, &settings),
            frame(SETTINGS, ACK, &[]),
            frame(0, 0, &frame(PING, 0, &[1; 3])),
            frame(1, 4, b"block"),
            frame(PING, 0, &[0; 8]),
            frame(WINDOW_UPDATE, 0, &[0; 4]),
            frame(RST_STREAM, 0, &[0; 4]),
            frame(PRIORITY, 0, &[0; 5]),
            frame(GOAWAY, 0, &[0; 8]),
            frame(GOAWAY, 0, &[0; 30]),
            frame(0xfa, 0, &[0; 3]),
        ]
        .concat();
        for size in 1..frames.len() + PREFACE_LEN + 1 {
            assert_eq!(checked(&frames, size), frames, "{size}");
        }
    }

    #[test]
    fn the_first_frame_of_a_wrong_size_becomes_one_that_is_too_long() {
        for wrong in [
            frame(SETTINGS, 0, &[0; 5]),
            frame(SETTINGS, ACK, &[0; 6]),
            frame(PING, 0, &[0; 7]),
            frame(PING, 0, &[0; 9]),
            frame(RST_STREAM, 0, &[0; 3]),
            frame(PRIORITY, 0, &[0; 4]),
            frame(WINDOW_UPDATE, 0, &[0; 5]),
            frame(GOAWAY, 0, &[0; 7]),
        ] {
            let before = [frame(SETTINGS, 0, &[]), frame(0, 0, &[7; 100])].concat();
            let sent = [&before[..], &wrong, &wrong].concat();
            let seen = checked(&sent, 4096);
            assert_eq!(seen[..before.len()], before);
            assert_eq!(seen[before.len()..before.len() + 3], [0xff; 3], "{wrong:?}");
            assert_eq!(seen[before.len() + 3..], sent[before.len() + 3..], "{wrong:?}");
        }
    }

    #[test]
    fn a_window_that_is_too_large_becomes_an_update_that_is() {
        let settings = [&[0, 3, 0, 0, 0, 9][..], &[0, 4, 0x80, 0, 0, 0]].concat();
        let seen = checked(&frame(SETTINGS, 0, &settings), 4096);
        assert_eq!(seen[..13], [0, 0, 4, WINDOW_UPDATE, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff]);
    }
}
