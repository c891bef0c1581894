//! Writing one answer: status line, fields, and the body as it comes.

use std::future::poll_fn;
use std::io::{self, Write as _};
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use crate::http1::{BodyError, BodyFraming, Version, http_date};
use crate::net::{Deadline, Socket};
use crate::response::{Response, ResponseBody};

/// Pieces up to this size are copied behind the head, so that a small answer is one write and one packet.
const SMALL: usize = 16 * 1024;

/// What the answer has to fit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer<'a> {
    pub(crate) version: Version,
    pub(crate) is_head: bool,
    pub(crate) keep_alive: bool,
    pub(crate) request_id: &'a [u8],
    /// Now, in seconds since 1970: what `Date` says where nobody else said it.
    pub(crate) now: u64,
}

/// How writing went.
#[derive(Debug)]
pub(crate) struct Written {
    /// Bytes of the body.
    pub(crate) bytes: u64,
    /// When the last of it was written.
    pub(crate) ended: Instant,
    /// Whether the connection may go on; an error if the answer was cut short.
    pub(crate) outcome: Result<bool, io::Error>,
}

/// How the body is delimited for this client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delimiter {
    None,
    Length,
    Chunked,
    Close,
}

impl Answer<'_> {
    pub(crate) async fn write(
        &self,
        socket: &Socket,
        deadline: &mut Deadline,
        patience: Duration,
        out: &mut Vec<u8>,
        mut response: Response<'_>,
    ) -> Written {
        let delimiter = self.delimiter(&response);
        let keep_alive = self.keep_alive && !response.close && delimiter != Delimiter::Close;
        out.clear();
        self.push_head(out, &response, delimiter, keep_alive);
        let mut sink =
            Sink { socket, deadline, patience, out, chunked: delimiter == Delimiter::Chunked, bytes: 0 };
        let sent = match delimiter {
            Delimiter::None => sink.flush(&mut response.body).await,
            _ => sink.transfer(&mut response.body).await,
        };
        let bytes = sink.bytes;
        // One large answer should not keep its buffer for the life of the connection.
        out.shrink_to(SMALL);
        let ended = Instant::now();
        response.body.finish(ended);
        Written { bytes, ended, outcome: sent.map(|()| keep_alive) }
    }

    fn delimiter(&self, response: &Response<'_>) -> Delimiter {
        match response.body.framing() {
            _ if self.is_head || bodiless(response.status) => Delimiter::None,
            BodyFraming::Empty => Delimiter::None,
            BodyFraming::Length(_) => Delimiter::Length,
            BodyFraming::Chunked | BodyFraming::UntilClose if self.version == Version::Http11 => {
                Delimiter::Chunked
            }
            BodyFraming::Chunked | BodyFraming::UntilClose => Delimiter::Close,
        }
    }

    fn push_head(&self, out: &mut Vec<u8>, response: &Response<'_>, delimiter: Delimiter, keep_alive: bool) {
        let mut put = |bytes: &[u8]| out.extend_from_slice(bytes);
        [
            b"HTTP/1.1 ",
            response.status.as_str().as_bytes(),
            b" ",
            reason(response.status).as_bytes(),
            b"\r\n",
        ]
        .into_iter()
        .for_each(&mut put);
        put(response.fields.as_bytes());
        if !response.has_date {
            [b"Date: ", &http_date(self.now)[..], b"\r\n"].into_iter().for_each(&mut put);
        }
        [b"X-Request-Id: ", self.request_id, b"\r\n"].into_iter().for_each(&mut put);
        if delimiter == Delimiter::Chunked {
            put(b"Transfer-Encoding: chunked\r\n");
        } else if let Some(length) = response.declared_length() {
            [b"Content-Length: ", itoa::Buffer::new().format(length).as_bytes(), b"\r\n"]
                .into_iter()
                .for_each(&mut put);
        }
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            // Its own Connection field says what the connection becomes.
        } else if !keep_alive {
            put(b"Connection: close\r\n");
        } else if self.version == Version::Http10 {
            put(b"Connection: keep-alive\r\n");
        }
        put(b"\r\n");
    }
}

/// Statuses whose answers end with their head (RFC 9112 section 6.3).
fn bodiless(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

fn reason(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("")
}

/// The client's socket and what waits to be written to it.
struct Sink<'s> {
    socket: &'s Socket,
    deadline: &'s mut Deadline,
    patience: Duration,
    out: &'s mut Vec<u8>,
    chunked: bool,
    bytes: u64,
}

impl Sink<'_> {
    /// Writes what has been gathered.
    async fn flush(&mut self, body: &mut ResponseBody<'_>) -> io::Result<()> {
        let meanwhile = |cx: &mut std::task::Context<'_>| body.poll_upload(cx);
        self.socket.write_all(self.deadline, self.patience, self.out, meanwhile).await?;
        self.out.clear();
        Ok(())
    }

    /// Moves the body from its source to the client, at the pace of the slower of the two.
    async fn transfer(&mut self, body: &mut ResponseBody<'_>) -> io::Result<()> {
        loop {
            // Most answers are small and have arrived with their head: then they leave with it, in one write.
            let n = self.gather(body.buffered().map_err(cut)?);
            body.consume(n);
            if body.is_complete() {
                break;
            }
            if !self.out.is_empty() {
                self.flush(body).await?;
            }
            if n == 0 {
                poll_fn(|cx| body.poll_fill(cx).map_ok(|_| ())).await.map_err(cut)?;
            }
        }
        if self.chunked {
            self.out.extend_from_slice(b"0\r\n\r\n");
        }
        self.flush(body).await
    }

    /// Appends a piece in the framing of this answer.
    fn gather(&mut self, piece: &[u8]) -> usize {
        if piece.is_empty() {
            return 0;
        }
        if self.chunked {
            // Writing to a Vec does not fail.
            let _ = write!(self.out, "{:x}\r\n", piece.len());
        }
        self.out.extend_from_slice(piece);
        if self.chunked {
            self.out.extend_from_slice(b"\r\n");
        }
        self.bytes += piece.len() as u64;
        piece.len()
    }
}

/// The source failed: the client must not take what it has for the whole.
fn cut(error: BodyError) -> io::Error {
    io::Error::other(error)
}
