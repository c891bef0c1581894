//! The strict gate below hyper's HTTP/1.1 server: a socket that gives hyper one request at a time, and only what was judged.
//!
//! A head is read here, once and strictly ([`crate::http1`]), and handed to the stack as it came. hyper gets a stand-in of it:
//! the same message for what hyper decides (version, framing, `Connection`, `Expect`), without the target and the fields that
//! it would repair, hide or answer by itself. A head that is refused becomes a stand-in, too, so that the refusal goes the way of
//! every response. Of a body hyper gets exactly the bytes that belong to it, never a byte of the next request: two parsers
//! that disagreed on where a request ends could not smuggle one.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};

use crate::http1::{
    BodyFraming, ChunkDecoder, HeadError, HeadLimits, HeaderKind, RequestHead, Step, Version, request_framing,
};
use crate::net::{ReadBuffer, Socket};
use crate::rejection::{Code, Rejection};
use crate::runtime::Worker;
use crate::stream_state::StreamState;

/// What is read at once while a head is expected, in bytes: most heads fit.
const HEAD_READ_SIZE: usize = 4 * 1024;
/// What is read at once of a body, in bytes.
const BODY_READ_SIZE: usize = 64 * 1024;
/// So much of the next requests is read ahead while one is answered, in bytes, so that a client that leaves is noticed.
const MAX_READ_AHEAD: usize = 16 * 1024;

/// What hyper waits for at the client's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// For nothing that the client does.
    Nothing,
    /// The next request, of which nothing has come.
    Idle,
    /// The rest of a head.
    Head,
    /// More of a body; whoever reads it keeps the deadline.
    Body,
    /// Room to write.
    Write,
}

/// A head that hyper has just been given the stand-in of.
#[derive(Debug)]
pub(super) struct StrictHead {
    pub(super) head: Box<RequestHead>,
    pub(super) framing: BodyFraming,
    /// Why it is not accepted.
    pub(super) refused: Option<Rejection>,
}

/// What the connection's task, the gate and the service share.
#[derive(Debug)]
pub(super) struct StrictConnection {
    pub(super) socket: Socket,
    pub(super) stream: Rc<StreamState>,
    worker: Rc<Worker>,
    reader: RefCell<Reader>,
    pub(super) wait: Cell<Wait>,
    /// Bytes have moved since the connection's task last looked.
    pub(super) progress: Cell<bool>,
    head: RefCell<Option<StrictHead>>,
    /// A request has come.
    served: Cell<bool>,
    /// The client has said that it sends nothing more.
    pub(super) read_closed: Cell<bool>,
    /// hyper is told so, too.
    pub(super) deliver_close: Cell<bool>,
    /// hyper has more to write of what it has begun.
    writing: Cell<bool>,
}

#[derive(Debug)]
struct Reader {
    state: State,
    input: ReadBuffer,
    /// The stand-in, as far as hyper has not taken it.
    stand_in: Vec<u8>,
    given: usize,
}

/// Where the connection is within its requests.
#[derive(Debug)]
enum State {
    /// Between requests, or within a head.
    Head,
    /// So many bytes of a body are left.
    Length(u64),
    Chunked(ChunkDecoder),
    /// Something was refused: nothing that follows can be trusted.
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
            served: Cell::new(false),
            read_closed: Cell::new(false),
            deliver_close: Cell::new(false),
            writing: Cell::new(false),
        })
    }

    fn begin(&self) {
        self.served.set(true);
        self.stream.begin();
    }

    /// Whether a request has come, good or not.
    pub(super) fn has_served(&self) -> bool {
        self.served.get()
    }

    /// Whether more of a request is to come, as far as can be known.
    pub(super) fn is_within_request(&self) -> bool {
        !matches!(self.reader.borrow().state, State::Head)
    }

    /// The head behind the request that hyper has just parsed.
    pub(super) fn take_head(&self) -> Option<StrictHead> {
        self.head.borrow_mut().take()
    }

    /// Has the head that is under way refused: hyper gets a stand-in for it when it reads next.
    pub(super) fn refuse_head(&self, rejection: Rejection) {
        self.reader.borrow_mut().refuse(self, self.worker.take_head(), rejection);
    }

    /// What the client sent behind a request that has left HTTP.
    pub(super) fn take_input(&self) -> ReadBuffer {
        std::mem::take(&mut self.reader.borrow_mut().input)
    }

    /// Gives the buffers of a connection at rest back to the allocator.
    pub(super) fn release_buffers(&self) {
        let mut reader = self.reader.borrow_mut();
        reader.input.trim(0);
        (reader.stand_in, reader.given) = (Vec::new(), 0);
    }
}

impl StrictConnection {
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

    /// What hyper writes as few clients would understand it: the version of a server is its own, not that of the request (RFC 9110
    /// section 2.5), and clients of WebSockets compare names byte by byte. The length stays the same.
    fn respelled(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let (http10, upgrade) = (bytes.starts_with(b"HTTP/1.0 "), bytes.starts_with(b"HTTP/1.1 101 "));
        if !http10 && !upgrade {
            return None;
        }
        let mut respelled = bytes.to_vec();
        respelled[7] = b'1';
        let websocket: Vec<usize> = memchr::memmem::find_iter(bytes, b"Sec-Websocket-").collect();
        websocket.into_iter().filter(|_| upgrade).for_each(|at| respelled[at + 7] = b'S');
        Some(respelled)
    }
}

impl Reader {
    /// Reads the next head and gives hyper its stand-in.
    fn poll_head(&mut self, cx: &mut Context<'_>, connection: &StrictConnection) -> Poll<io::Result<bool>> {
        loop {
            if !self.input.filled().is_empty() {
                let mut head = connection.worker.take_head();
                let state = connection.worker.state();
                let limits = HeadLimits::of(&state.config.settings.limits);
                match head.parse(self.input.filled(), &limits) {
                    Ok(Some(length)) => {
                        self.input.consume(length);
                        self.accept(connection, head);
                        return Poll::Ready(Ok(true));
                    }
                    Ok(None) => connection.worker.release_head(head),
                    Err(error) => {
                        self.refuse(connection, head, bad_head(&error));
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
                connection.head.replace(Some(StrictHead { head, framing, refused: None }));
            }
            // Admission says what is wrong with it; it has no end, so nothing behind it is read.
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
        connection.head.replace(Some(StrictHead { head, framing, refused }));
    }

    /// Reads ahead while a request is answered, for one purpose: to see the client leave.
    fn poll_closed(&mut self, cx: &mut Context<'_>, connection: &StrictConnection) -> Poll<io::Result<()>> {
        while !connection.read_closed.get() {
            if self.input.filled().len() >= MAX_READ_AHEAD {
                return Poll::Pending;
            }
            match ready!(connection.socket.poll_read(cx, &mut self.input, HEAD_READ_SIZE)) {
                Ok(0) => connection.read_closed.set(true),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        // A client that only says it has sent everything may still read its response: hyper, which would give the request up,
        // hears of it a moment later.
        if connection.deliver_close.get() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Gives hyper what is there of the body; false at the end of what the client sends.
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

/// The message that hyper gets for a head: what hyper decides, and nothing that it would judge.
pub(crate) fn write_stand_in(out: &mut Vec<u8>, head: &RequestHead, framing: BodyFraming) {
    let headers = head.headers();
    let http10 = head.version() == Version::Http10;
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
    // The service decides whether the body is wanted; hyper asks for it with the first read.
    if !http10 && framing != BodyFraming::Empty && headers.has(HeaderKind::Expect) {
        put(b"Expect: 100-continue\r\n");
    }
    put(b"\r\n");
}

/// The refusal for a head that is not accepted.
pub(super) fn bad_head(error: &HeadError) -> Rejection {
    let code = match error {
        HeadError::LineTooLong(_) => Code::UriTooLong,
        HeadError::AuthorityDisagrees => Code::AmbiguousTarget,
        HeadError::BlockTooLarge(_) | HeadError::TooManyFields(_) => Code::HeadersTooLarge,
        _ => Code::BadRequest,
    };
    Rejection::new(code, error.to_string()).close()
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
                State::Head if connection.stream.in_flight.get() => {
                    return reader.poll_closed(cx, connection);
                }
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
        let written = match self.0.respelled(bytes) {
            None => self.0.socket.poll_write(cx, bytes),
            Some(respelled) => self.0.socket.poll_write(cx, &respelled),
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

    /// The connection's task ends the connection, so that the client can read the last response first.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn hyper_gets_what_it_decides_and_nothing_that_it_would_judge() {
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
            // Nobody waits for a body that does not come.
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
