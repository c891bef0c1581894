//! The strict gate below hyper's HTTP/1.1 server: validates each request head before hyper sees it, and
//! passes on one request at a time (protection from request smuggling).
//!
//! A head is parsed here, once and strictly ([`crate::http1`]), and handed to the stack as received. hyper
//! gets a stand-in: the same message in what hyper decides (version, framing, `Connection`, `Expect`),
//! without the target and the fields, which it would normalise, drop or respond to by itself. A rejected head
//! gets a stand-in too, so that its rejection takes the path of every response. Of a body hyper gets exactly
//! its bytes, never a byte of the next request: two parsers that disagreed on where a request ends could not
//! be exploited.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};

use crate::http1::{BodyFraming, ChunkDecoder, HeaderKind, RequestHead, Step, Version, request_framing};
use crate::net::{ReadBuffer, Socket};
use crate::rejection::Rejection;
use crate::runtime::Worker;
use crate::stream_state::StreamState;

/// Size of a read while a head is expected, in bytes: most heads fit.
const HEAD_READ_SIZE: usize = 4 * 1024;
/// Size of a read of a body, in bytes.
const BODY_READ_SIZE: usize = 64 * 1024;
/// Maximum of pipelined requests that is read ahead while one is served, in bytes, so that a client that
/// disconnects is noticed.
const MAX_READ_AHEAD: usize = 16 * 1024;

/// What hyper waits for at the client's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Nothing.
    Nothing,
    /// The next request, of which no byte has arrived.
    Idle,
    /// The rest of a head.
    Head,
    /// More of a body; the body's reader enforces the timeout.
    Body,
    /// Room to write.
    Write,
}

/// A head for which hyper has just been given the stand-in.
#[derive(Debug)]
pub(super) struct StrictHead {
    pub(super) head: Box<RequestHead>,
    pub(super) framing: BodyFraming,
    /// Why it is rejected.
    pub(super) refused: Option<Box<Rejection>>,
}

/// State shared by the connection's task, the gate and the service.
#[derive(Debug)]
pub(super) struct StrictConnection {
    pub(super) socket: Socket,
    pub(super) stream: Rc<StreamState>,
    worker: Rc<Worker>,
    reader: RefCell<Reader>,
    pub(super) wait: Cell<Wait>,
    /// Bytes have moved since the connection's task last checked.
    pub(super) progress: Cell<bool>,
    head: RefCell<Option<StrictHead>>,
    /// The number of requests that have arrived.
    begun: Cell<u64>,
    /// The last one was HTTP/1.0.
    pub(super) http10: Cell<bool>,
    /// Its client sends none after it (RFC 9112 section 9.3).
    is_last: Cell<bool>,
    /// The head of the response was written, or its beginning.
    head_written: Cell<bool>,
    /// The client has closed its write side.
    pub(super) read_closed: Cell<bool>,
    /// hyper has more to write of what it has begun.
    writing: Cell<bool>,
}

#[derive(Debug)]
struct Reader {
    state: State,
    input: ReadBuffer,
    /// The part of the stand-in that hyper has not read yet.
    stand_in: Vec<u8>,
    given: usize,
}

/// Read state of the connection.
#[derive(Debug)]
enum State {
    /// Between requests, or within a head.
    Head,
    /// Remaining bytes of a body.
    Length(u64),
    Chunked(ChunkDecoder),
    /// A message was rejected: nothing that follows can be trusted.
    Refused,
}

impl StrictConnection {
    pub(super) fn new(socket: Socket, worker: Rc<Worker>) -> Rc<StrictConnection> {
        let reader =
            Reader { state: State::Head, input: ReadBuffer::default(), stand_in: Vec::new(), given: 0 };
        Rc::new(StrictConnection {
            socket,
            stream: StreamState::of_http1_connection(),
            worker,
            reader: RefCell::new(reader),
            wait: Cell::new(Wait::Nothing),
            progress: Cell::new(false),
            head: RefCell::new(None),
            begun: Cell::new(0),
            http10: Cell::new(false),
            is_last: Cell::new(false),
            head_written: Cell::new(false),
            read_closed: Cell::new(false),
            writing: Cell::new(false),
        })
    }

    fn begin(&self) {
        self.begun.set(self.begun.get() + 1);
        self.head_written.set(false);
        self.stream.begin();
    }

    /// Whether a request has arrived, valid or not.
    pub(super) fn has_served(&self) -> bool {
        self.begun.get() > 0
    }

    /// The number of requests that have arrived, valid or not.
    pub(super) fn requests_begun(&self) -> u64 {
        self.begun.get()
    }

    /// Whether more of a request is to come, as far as can be known.
    pub(super) fn is_within_request(&self) -> bool {
        !matches!(self.reader.borrow().state, State::Head)
    }

    /// The head of the request that hyper has just parsed.
    pub(super) fn take_head(&self) -> Option<StrictHead> {
        self.head.borrow_mut().take()
    }

    /// Rejects the current head: hyper gets a stand-in for it at its next read.
    pub(super) fn refuse_head(&self, rejection: Rejection) {
        self.reader.borrow_mut().refuse(self, self.worker.take_head(), rejection);
    }

    /// What the client sent behind an upgraded request.
    pub(super) fn take_input(&self) -> ReadBuffer {
        std::mem::take(&mut self.reader.borrow_mut().input)
    }

    /// Frees the buffers of an idle connection.
    pub(super) fn release_buffers(&self) {
        let mut reader = self.reader.borrow_mut();
        reader.input.trim(0);
        (reader.stand_in, reader.given) = (Vec::new(), 0);
    }
}

impl StrictConnection {
    /// Reads ahead while a request is served, only to notice that the client disconnects.
    ///
    /// # Errors
    ///
    /// The connection is broken.
    pub(super) fn read_ahead(&self, cx: &mut Context<'_>) -> io::Result<()> {
        let Reader { state: State::Head, input, .. } = &mut *self.reader.borrow_mut() else { return Ok(()) };
        while !self.read_closed.get() && input.filled().len() < MAX_READ_AHEAD {
            match self.socket.poll_read(cx, input, HEAD_READ_SIZE) {
                Poll::Ready(Ok(0)) => self.read_closed.set(true),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Whether the client has closed its write side after a whole request.
    pub(super) fn has_closed_behind_request(&self) -> bool {
        self.read_closed.get() && !self.is_within_request()
    }

    /// Whether the connection can be closed at once: the client has sent its last request and nothing behind it, so nothing will
    /// arrive that the kernel would answer with a reset, which discards the end of the response (RFC 9112 section 9.6). TLS ends
    /// with an exchange of its own.
    pub(super) fn ends_with_request(&self) -> bool {
        let Reader { state: State::Head, input, .. } = &*self.reader.borrow() else { return false };
        self.is_last.get()
            && input.filled().is_empty()
            && !matches!(self.socket, Socket::Tls(_))
            && self.socket.is_idle()
    }

    /// Writes the informational responses that wait, between what hyper writes: its server has no way to send them.
    pub(super) fn poll_informational(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut waiting = self.stream.informational.borrow_mut();
        while !waiting.is_empty() && !self.writing.get() {
            match self.socket.poll_write(cx, &waiting) {
                Poll::Ready(Ok(n)) if n > 0 => drop(waiting.drain(..n)),
                Poll::Ready(Ok(_)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.wait.set(Wait::Write);
                    return Poll::Pending;
                }
            }
            self.progress.set(true);
            if waiting.is_empty() {
                return self.socket.poll_flush(cx);
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Copies what hyper has written, with the response head at its front respelled, behind interim responses.
/// hyper writes header names in lower case and repeats the version of the request. Some clients compare names
/// byte by byte in the usual capitalisation, and the version of a response is the server's own (RFC 9110
/// section 2.5).
fn respell_head(written: &[u8], spelled: &mut Vec<u8>) {
    spelled.clear();
    spelled.extend_from_slice(written);
    let mut start = 0;
    while written[start..].starts_with(b"HTTP/1.1 100 ") {
        let Some(length) = memchr::memmem::find(&written[start..], b"\r\n\r\n") else { return };
        start += length + 4;
    }
    if !written[start..].starts_with(b"HTTP/1.") {
        return;
    }
    spelled[start + 7] = b'1';
    for end in memchr::memchr_iter(b'\n', &written[start..]) {
        let field = &mut spelled[start + end + 1..];
        if field.first().is_none_or(|&byte| byte == b'\r') {
            return;
        }
        let mut word = 0;
        while let Some(first) = field.get_mut(word) {
            first.make_ascii_uppercase();
            match field[word..].iter().position(|&byte| byte == b'-' || byte == b':') {
                Some(length) if field[word + length] == b'-' => word += length + 1,
                _ => break,
            }
        }
        if field.starts_with(b"Sec-Websocket-") {
            field[7] = b'S';
        }
    }
}

impl Reader {
    /// Parses the next head and writes its stand-in for hyper.
    fn poll_head(&mut self, cx: &mut Context<'_>, connection: &StrictConnection) -> Poll<io::Result<bool>> {
        loop {
            if !self.input.filled().is_empty() {
                let mut head = connection.worker.take_head();
                let state = connection.worker.state();
                let limits = state.config.settings.limits.head();
                match head.parse(self.input.filled(), &limits) {
                    Ok(Some(length)) => {
                        self.input.consume(length);
                        self.accept(connection, head);
                        return Poll::Ready(Ok(true));
                    }
                    Ok(None) => connection.worker.release_head(head),
                    Err(error) => {
                        self.refuse(connection, head, Rejection::BadHead(error));
                        return Poll::Ready(Ok(true));
                    }
                }
            }
            if connection.read_closed.get() {
                return Poll::Ready(Ok(false));
            }
            match connection.socket.poll_read(cx, &mut self.input, HEAD_READ_SIZE) {
                Poll::Ready(Ok(0)) => {
                    connection.read_closed.set(true);
                    return Poll::Ready(Ok(false));
                }
                Poll::Ready(Ok(_)) => connection.progress.set(true),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    let begun = !self.input.filled().is_empty();
                    connection.wait.set(if begun { Wait::Head } else { Wait::Idle });
                    return Poll::Pending;
                }
            }
        }
    }

    fn accept(&mut self, connection: &StrictConnection, head: Box<RequestHead>) {
        match request_framing(&head) {
            Ok(framing) => {
                self.stand_in.clear();
                write_stand_in(&mut self.stand_in, &head, framing);
                self.given = 0;
                self.state = match framing {
                    BodyFraming::Length(length) => State::Length(length),
                    BodyFraming::Chunked => State::Chunked(ChunkDecoder::new()),
                    BodyFraming::Empty | BodyFraming::UntilClose => State::Head,
                };
                connection.begin();
                let (http10, headers) = (head.version() == Version::Http10, head.headers());
                connection.http10.set(http10);
                connection.is_last.set(
                    headers.has_connection_option(b"close")
                        || http10 && !headers.has_connection_option(b"keep-alive"),
                );
                connection.head.replace(Some(StrictHead { head, framing, refused: None }));
            }
            // Admission reports the error; the head has no end, so nothing behind it is read.
            Err(_) => self.stop(connection, head, None),
        }
    }

    fn refuse(&mut self, connection: &StrictConnection, head: Box<RequestHead>, rejection: Rejection) {
        self.stop(connection, head, Some(rejection));
    }

    fn stop(&mut self, connection: &StrictConnection, head: Box<RequestHead>, refused: Option<Rejection>) {
        let method: &[u8] = if *head.method() == http::Method::HEAD { b"HEAD" } else { b"GET" };
        self.stand_in.clear();
        self.stand_in.extend_from_slice(method);
        self.stand_in.extend_from_slice(b" / HTTP/1.1\r\nConnection: close\r\n\r\n");
        self.given = 0;
        self.state = State::Refused;
        connection.begin();
        let framing = BodyFraming::Empty;
        connection.head.replace(Some(StrictHead { head, framing, refused: refused.map(Box::new) }));
    }

    /// Gives hyper the available bytes of the body; false at the end of the stream.
    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        connection: &StrictConnection,
        buf: &mut ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let filled = self.input.filled();
            let filled = &filled[..filled.len().min(buf.remaining())];
            let (given, malformed) = match &mut self.state {
                State::Length(left) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(filled.len());
                    *left -= here as u64;
                    if *left == 0 {
                        self.state = State::Head;
                    }
                    (here, false)
                }
                State::Chunked(decoder) => {
                    let mut at = 0;
                    let malformed = loop {
                        match decoder.step(&filled[at..]) {
                            Ok(Step::Data(n) | Step::Skip(n)) => at += n,
                            Ok(Step::NeedMore) => break false,
                            Ok(Step::End) => {
                                self.state = State::Head;
                                break false;
                            }
                            Err(_) => break true,
                        }
                    };
                    (at, malformed)
                }
                State::Head | State::Refused => return Poll::Pending,
            };
            if malformed {
                self.state = State::Refused;
                connection.stream.body_malformed.set(true);
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            if given > 0 {
                buf.put_slice(&self.input.filled()[..given]);
                self.input.consume(given);
                return Poll::Ready(Ok(()));
            }
            let size = buf.remaining().clamp(HEAD_READ_SIZE, BODY_READ_SIZE);
            match connection.socket.poll_read(cx, &mut self.input, size) {
                Poll::Ready(Ok(0)) => {
                    connection.read_closed.set(true);
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Ok(_)) => connection.progress.set(true),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    connection.wait.set(Wait::Body);
                    return Poll::Pending;
                }
            }
        }
    }
}

/// The stand-in of a head for hyper: what hyper decides, and nothing that it would validate.
pub(crate) fn write_stand_in(out: &mut Vec<u8>, head: &RequestHead, framing: BodyFraming) {
    let headers = head.headers();
    let http10 = head.version() == Version::Http10;
    // Most stand-ins have no more.
    out.reserve(64);
    let mut put = |bytes: &[u8]| out.extend_from_slice(bytes);
    put(if *head.method() == http::Method::HEAD { b"HEAD" } else { b"GET" });
    put(if http10 { b" / HTTP/1.0\r\n" } else { b" / HTTP/1.1\r\n" });
    match framing {
        BodyFraming::Length(length) => {
            [b"Content-Length: ", itoa::Buffer::new().format(length).as_bytes(), b"\r\n"]
                .into_iter()
                .for_each(&mut put);
        }
        BodyFraming::Chunked => put(b"Transfer-Encoding: chunked\r\n"),
        BodyFraming::Empty | BodyFraming::UntilClose => {}
    }
    if headers.has(HeaderKind::Connection) {
        if headers.has_connection_option(b"close") {
            put(b"Connection: close\r\n");
        } else if http10 && headers.has_connection_option(b"keep-alive") {
            put(b"Connection: keep-alive\r\n");
        } else if headers.has_connection_option(b"upgrade") && headers.has(HeaderKind::Upgrade) {
            put(b"Connection: upgrade\r\nUpgrade: websocket\r\n");
        }
    }
    // The service decides whether the body is wanted; hyper sends the 100 with the first read.
    if !http10 && framing != BodyFraming::Empty && headers.has(HeaderKind::Expect) {
        put(b"Expect: 100-continue\r\n");
    }
    put(b"\r\n");
}

/// The socket as hyper has it.
#[derive(Debug)]
pub(super) struct StrictIo(pub(super) Rc<StrictConnection>);

impl Read for StrictIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let connection = &*self.0;
        let reader = &mut *connection.reader.borrow_mut();
        if reader.given == reader.stand_in.len() {
            match reader.state {
                State::Refused => return Poll::Pending,
                State::Length(_) | State::Chunked(_) => return reader.poll_body(cx, connection, &mut buf),
                // The next request waits.
                State::Head if connection.stream.in_flight.get() => return Poll::Pending,
                State::Head => match ready!(reader.poll_head(cx, connection)) {
                    Ok(true) => {}
                    Ok(false) => return Poll::Ready(Ok(())),
                    Err(error) => return Poll::Ready(Err(error)),
                },
            }
        }
        let left = &reader.stand_in[reader.given..];
        let given = left.len().min(buf.remaining());
        buf.put_slice(&left[..given]);
        reader.given += given;
        Poll::Ready(Ok(()))
    }
}

impl Write for StrictIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.0.poll_informational(cx))?;
        let written = if self.0.stream.responded.get() && !self.0.head_written.get() {
            let mut spelled = self.0.worker.write_buffer.borrow_mut();
            respell_head(bytes, &mut spelled);
            let written = self.0.socket.poll_write(cx, &spelled);
            self.0.head_written.set(written.is_ready());
            written
        } else {
            self.0.socket.poll_write(cx, bytes)
        };
        self.0.writing.set(!matches!(written, Poll::Ready(Ok(n)) if n == bytes.len()));
        match written {
            Poll::Pending => self.0.wait.set(Wait::Write),
            Poll::Ready(_) => self.0.progress.set(true),
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.0.socket.poll_flush(cx);
        if flushed.is_pending() {
            self.0.wait.set(Wait::Write);
        }
        flushed
    }

    /// The connection's task closes the connection, with a lingering close.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::http1::HeadLimits;

    #[test]
    fn a_response_head_has_the_usual_spelling_and_version_and_a_body_keeps_its_bytes() {
        for (written, spelled) in [
            (
                "HTTP/1.0 200 OK\r\ncontent-type: text/x-y\r\nx-request-id: a-b\r\n\r\nHTTP/1.0 a-b: c\r\nd-e: f",
                "HTTP/1.1 200 OK\r\nContent-Type: text/x-y\r\nX-Request-Id: a-b\r\n\r\nHTTP/1.0 a-b: c\r\nd-e: f",
            ),
            (
                "HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: a\r\n\r\n",
                "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: a\r\n\r\n",
            ),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\ndate: x\r\n\r\n",
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nDate: x\r\n\r\n",
            ),
            ("a-b: c\r\nd: e\r\n", "a-b: c\r\nd: e\r\n"),
        ] {
            let mut bytes = b"of the last response".to_vec();
            respell_head(written.as_bytes(), &mut bytes);
            assert_eq!(String::from_utf8(bytes).unwrap(), spelled);
        }
    }

    #[test]
    fn hyper_gets_what_it_decides_and_nothing_that_it_would_validate() {
        for (head, stand_in) in [
            ("GET /a?<b> HTTP/1.1\r\nHost: a\r\nCookie: c\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"),
            ("HEAD /a#b HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD / HTTP/1.1\r\n\r\n"),
            (
                "PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 007\r\n\r\n",
                "GET / HTTP/1.1\r\nContent-Length: 7\r\n\r\n",
            ),
            (
                "POST /a HTTP/1.1\r\nTransfer-Encoding: Chunked\r\nExpect: 100-continue\r\n\r\n",
                "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
            ),
            (
                "GET / HTTP/1.1\r\nConnection: close, x\r\nX: y\r\n\r\n",
                "GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
            ),
            (
                "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
                "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            ),
            (
                "GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
                "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            ),
            // The body of this request is never awaited.
            ("GET / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"),
        ] {
            let mut parsed = RequestHead::default();
            parsed.parse(head.as_bytes(), &HeadLimits::default()).unwrap().unwrap();
            let mut out = Vec::new();
            write_stand_in(&mut out, &parsed, request_framing(&parsed).unwrap());
            assert_eq!(String::from_utf8(out).unwrap(), stand_in, "{head:?}");
        }
    }
}
